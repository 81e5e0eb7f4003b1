//! Has this address spent its budget.
//!
//! A budget belongs to an IPv4 address or to an IPv6 /64, the smallest network a client is given:
//! per IPv6 address, one client would have 2⁶⁴ budgets.
//!
//! Memory is bounded. A limiter keeps at most [`KEYS`] budgets of their own; [`Limiter::sweep`]
//! drops those that are full again, which a new one would equal. At the cap, addresses that have a
//! budget keep it, and any other shares one of [`SHARED_BUDGETS`], chosen by its wider network
//! (IPv4 /16, IPv6 /32) and a secret hash. So a flood from many addresses neither passes
//! unlimited nor locks out those already here, and of newcomers only the ones it collides with.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};

use crate::units::Rate;

/// Budgets a limiter keeps apart: some 10 MB when all are in use.
pub const KEYS: usize = 100_000;
/// Budgets that addresses share once there are [`KEYS`] others.
pub const SHARED_BUDGETS: u64 = 1024;
/// Longest time to earn one unit back; keeps the arithmetic of the limiter within 64 bits.
const SLOWEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The budget is spent; it has one unit again after `retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub retry: Duration,
}

impl Wait {
    /// For `Retry-After`, which counts whole seconds: rounded up, and never 0, which would say
    /// "at once".
    pub fn seconds(self) -> u64 {
        let whole = self.retry.as_secs();
        let up = if self.retry.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole };
        up.max(1)
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "too many requests; try again in {} s", self.seconds())
    }
}

impl std::error::Error for Wait {}

/// One budget for each client.
#[derive(Debug)]
pub struct Limiter<C: Clock = DefaultClock> {
    budgets: RateLimiter<IpAddr, Budgets, C, NoOpMiddleware<C::Instant>>,
}

impl Limiter {
    pub fn new(rate: Rate) -> Self {
        Limiter::with(rate, KEYS, DefaultClock::default())
    }
}

impl<C: Clock> Limiter<C> {
    fn with(rate: Rate, keys: usize, clock: C) -> Self {
        Limiter { budgets: RateLimiter::new(quota(rate), Budgets::new(keys), clock) }
    }

    /// Spends one unit of the client's budget, or says how long until there is one.
    pub fn spend(&self, client: IpAddr) -> Result<(), Wait> {
        self.budgets
            .check_key(&key(client))
            .map_err(|refused| Wait { retry: refused.wait_time_from(self.budgets.clock().now()) })
    }

    /// Forgets budgets that are full again. To be called now and then: what was not swept counts
    /// against the cap.
    pub fn sweep(&self) {
        self.budgets.retain_recent();
        self.budgets.shrink_to_fit();
    }

    /// How many budgets are kept, shared ones included.
    pub fn len(&self) -> usize {
        self.budgets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty()
    }
}

/// Whose budget: the IPv4 address, or the IPv6 /64.
fn key(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// The network that shares a budget at the cap.
fn wider_network(key: IpAddr) -> IpAddr {
    match key {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() >> 16 << 16)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 96 << 96)),
    }
}

/// The nearest quota whose arithmetic stays within 64 bits of nanoseconds.
fn quota(rate: Rate) -> Quota {
    let each = (rate.per / rate.count.get()).clamp(Duration::from_nanos(1), SLOWEST);
    let most = u128::from(u64::MAX / 4) / each.as_nanos();
    let most = u32::try_from(most).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    // A quota of one unit each second, only to have no failure to handle: `each` is not zero.
    let paced = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    paced.allow_burst(rate.burst.min(most))
}

/// The limiter's memory: own budgets up to the cap, then shared ones.
#[derive(Debug)]
struct Budgets {
    own: DashMapStateStore<IpAddr>,
    shared: DashMapStateStore<u64>,
    keys: usize,
    hasher: RandomState,
}

impl Budgets {
    fn new(keys: usize) -> Self {
        Budgets {
            own: DashMapStateStore::default(),
            shared: DashMapStateStore::default(),
            keys,
            hasher: RandomState::new(),
        }
    }
}

impl StateStore for Budgets {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, key: &IpAddr, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Threads that insert in the same moment may overshoot the cap by one each.
        if self.own.contains_key(key) || self.own.len() < self.keys {
            self.own.measure_and_replace(key, f)
        } else {
            let bucket = self.hasher.hash_one(wider_network(*key)) % SHARED_BUDGETS;
            self.shared.measure_and_replace(&bucket, f)
        }
    }
}

impl ShrinkableKeyedStateStore<IpAddr> for Budgets {
    fn retain_recent(&self, drop_below: Nanos) {
        self.own.retain_recent(drop_below);
        self.shared.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.own.shrink_to_fit();
        self.shared.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.own.len() + self.shared.len()
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    fn rate(count: u32, per: Duration, burst: u32) -> Rate {
        Rate { count: count.try_into().unwrap(), per, burst: burst.try_into().unwrap() }
    }

    fn limiter(rate: Rate, keys: usize) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::with(rate, keys, clock.clone()), clock)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_a_steady_refill() {
        let (limiter, clock) = limiter(rate(2, SECOND, 3), KEYS);
        let client = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(limiter.spend(client), Ok(()));
        }
        assert_eq!(limiter.spend(client), Err(Wait { retry: SECOND / 2 }));
        // being refused costs nothing
        assert_eq!(limiter.spend(client), Err(Wait { retry: SECOND / 2 }));
        clock.advance(SECOND / 2);
        assert_eq!(limiter.spend(client), Ok(()));
        assert_eq!(limiter.spend(client), Err(Wait { retry: SECOND / 2 }));
    }

    #[test]
    fn a_budget_belongs_to_an_ipv4_address_or_an_ipv6_64() {
        let pairs = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ];
        for (one, other, shared) in pairs {
            let (limiter, _) = limiter(rate(1, SECOND, 1), KEYS);
            assert_eq!(limiter.spend(address(one)), Ok(()));
            assert_eq!(limiter.spend(address(other)).is_err(), shared, "{one} {other}");
        }
    }

    #[test]
    fn a_million_addresses_of_one_64_are_one_key() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), KEYS);
        let network = address("2001:db8::");
        let IpAddr::V6(network) = network else { unreachable!() };
        let passed = (0..1_000_000u128)
            .filter(|host| {
                let client = Ipv6Addr::from_bits(network.to_bits() | (host << 40));
                limiter.spend(IpAddr::V6(client)).is_ok()
            })
            .count();
        assert_eq!(passed, 1, "of those in the first /64 only one passes");
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn a_sweep_forgets_only_budgets_that_are_full_again() {
        let (limiter, clock) = limiter(rate(1, SECOND, 2), KEYS);
        let (idle, busy) = (address("192.0.2.1"), address("192.0.2.2"));
        limiter.spend(idle).unwrap();
        clock.advance(2 * SECOND);
        limiter.spend(busy).unwrap();
        limiter.spend(busy).unwrap();
        clock.advance(SECOND / 2);
        limiter.sweep();
        assert_eq!(limiter.len(), 1);
        assert_eq!(limiter.spend(busy), Err(Wait { retry: SECOND / 2 }), "still spent");
        clock.advance(4 * SECOND);
        limiter.sweep();
        assert!(limiter.is_empty());
    }

    #[test]
    fn at_the_cap_newcomers_share_and_the_others_keep_theirs() {
        let (limiter, clock) = limiter(rate(1, SECOND, 2), 3);
        let known = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(address);
        for client in known {
            limiter.spend(client).unwrap();
        }
        // A flood of one network shares one budget: it does not pass, and it does not grow.
        let flood = |last: u8| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last));
        let passed = (0..=255).filter(|last| limiter.spend(flood(*last)).is_ok()).count();
        assert_eq!(passed, 2);
        assert_eq!(limiter.len(), 4);
        // Who was here is not touched by it.
        for client in known {
            assert_eq!(limiter.spend(client), Ok(()), "{client}");
        }
        // Nor has it a second budget by now.
        for client in known {
            assert!(limiter.spend(client).is_err(), "{client}");
        }
        // Most newcomers from elsewhere are not touched either.
        let others = (0..100u8)
            .filter(|net| limiter.spend(IpAddr::V4(Ipv4Addr::new(203, *net, 0, 1))).is_ok());
        assert!(others.count() > 50);
        // Memory stays bounded whatever comes.
        for network in 0..20_000u32 {
            let _either = limiter.spend(IpAddr::V4(Ipv4Addr::from_bits(network << 16)));
        }
        assert!(limiter.len() <= 3 + 1024);
        // Once the idle ones are swept, newcomers have their own again.
        clock.advance(10 * SECOND);
        limiter.sweep();
        assert!(limiter.is_empty());
        for last in 0..3 {
            assert_eq!(limiter.spend(flood(last)), Ok(()));
            assert_eq!(limiter.spend(flood(last)), Ok(()));
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_at_least_a_second() {
        let cases = [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_999, 60), (60_000, 60)];
        for (milliseconds, seconds) in cases {
            let wait = Wait { retry: Duration::from_millis(milliseconds) };
            assert_eq!(wait.seconds(), seconds, "{milliseconds} ms");
        }
        assert_eq!(Wait { retry: Duration::MAX }.seconds(), u64::MAX);
    }

    proptest! {
        #[test]
        fn no_rate_panics_and_at_least_one_request_passes(
            count in 1u32.., per in 0u64.., nanos in 0u32..1_000_000_000, burst in 1u32..,
        ) {
            let (limiter, clock) = limiter(rate(count, Duration::new(per, nanos), burst), KEYS);
            let client = address("192.0.2.1");
            prop_assert_eq!(limiter.spend(client), Ok(()));
            if let Err(wait) = limiter.spend(client) {
                clock.advance(wait.retry);
                prop_assert_eq!(limiter.spend(client), Ok(()), "after the wait it passes");
            }
            limiter.sweep();
        }
    }
}
