//! Has this one spent its budget.
//!
//! A budget belongs to an IPv4 address or to an IPv6 /64, the smallest network a client is given
//! (per IPv6 address, one client would have 2⁶⁴ budgets), or to a credential.
//!
//! Memory is bounded. A limiter keeps at most [`KEYS`] budgets of their own; [`Limiter::sweep`]
//! drops those that are full again, which a new one would equal. At the cap, who has a budget keeps
//! it, and any other shares one of [`SHARED_BUDGETS`], chosen by the wider network of its address
//! (IPv4 /16, IPv6 /32) and a secret hash. So a flood from many addresses, or of many invented
//! credentials, neither passes unlimited nor locks out those already here, and of newcomers only
//! the ones it collides with.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};

use crate::units::Rate;

/// Budgets a limiter keeps apart: some 5 MB when all are in use.
pub const KEYS: usize = 100_000;
/// Budgets that are shared once there are [`KEYS`] others.
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
        whole_seconds(self.retry).max(1)
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "too many requests; try again in {} s", self.seconds())
    }
}

impl std::error::Error for Wait {}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// What a budget has left after a unit was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub units: u32,
    /// Until it is whole again.
    pub whole_after: Duration,
}

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    own: Own,
    /// The network that shares a budget at the cap.
    network: u64,
    /// Asks whether there is a unit, and leaves it there.
    peek: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Own {
    V4(u32),
    /// The /64.
    V6(u64),
    /// A keyed hash.
    Credential(u64),
}

impl Key {
    pub fn of_address(address: IpAddr) -> Self {
        let (own, network) = match address.to_canonical() {
            IpAddr::V4(v4) => (Own::V4(v4.to_bits()), u64::from(v4.to_bits() >> 16)),
            IpAddr::V6(v6) => {
                // The upper half and, as a /32, the upper quarter, which no IPv4 /16 equals.
                let upper = (v6.to_bits() >> 64) as u64;
                (Own::V6(upper), upper >> 32 | 1 << 32)
            }
        };
        Self { own, network, peek: false }
    }

    /// A credential, by its hash, and the address that it is used from.
    pub fn of_credential(hash: u64, address: IpAddr) -> Self {
        Self { own: Own::Credential(hash), ..Self::of_address(address) }
    }
}

/// One budget for each client.
#[derive(Debug)]
pub struct Limiter<C: Clock = DefaultClock> {
    budgets: RateLimiter<Key, Store, C, StateInformationMiddleware>,
    store: Arc<Budgets>,
    /// To earn one unit back.
    each: Duration,
    burst: NonZeroU32,
    rate: Rate,
}

impl Limiter {
    pub fn new(rate: Rate) -> Self {
        Limiter::with(rate, KEYS, DefaultClock::default())
    }

    /// One for `rate`: the one that was there, with what was spent of it, if it is the same rate.
    pub fn succeed(before: Option<&Arc<Self>>, rate: Rate) -> Arc<Self> {
        match before.filter(|limiter| limiter.rate == rate) {
            Some(limiter) => Arc::clone(limiter),
            None => Arc::new(Self::new(rate)),
        }
    }
}

impl<C: Clock> Limiter<C> {
    fn with(rate: Rate, keys: usize, clock: C) -> Self {
        let quota = quota(rate);
        let store = Arc::new(Budgets::new(keys));
        let memory = Store(Arc::clone(&store));
        let silent: RateLimiter<_, _, _, NoOpMiddleware<C::Instant>> =
            RateLimiter::new(quota, memory, clock);
        Limiter {
            budgets: silent.with_middleware(),
            store,
            each: quota.replenish_interval(),
            burst: quota.burst_size(),
            rate,
        }
    }

    /// Spends one unit of the client's budget, or says how long until there is one.
    pub fn spend(&self, key: Key) -> Result<Left, Wait> {
        let left = self.budgets.check_key(&key).map_err(|refused| Wait {
            retry: refused.wait_time_from(self.budgets.clock().now()),
        })?;
        let units = left.remaining_burst_capacity();
        let spent = self.burst.get().saturating_sub(units);
        Ok(Left { units, whole_after: self.each.saturating_mul(spent) })
    }

    /// Whether there is a unit to spend; spends nothing.
    pub fn peek(&self, key: Key) -> Result<(), Wait> {
        self.spend(Key { peek: true, ..key }).map(|_| ())
    }

    /// Gives the client a whole budget again.
    pub fn forget(&self, key: Key) {
        self.store.forget(key);
    }

    /// The units of a whole budget, and the seconds in which an empty one becomes whole.
    pub fn whole(&self) -> (u32, u64) {
        let window = self.each.saturating_mul(self.burst.get());
        (self.burst.get(), whole_seconds(window).max(1))
    }

    /// Forgets budgets that are full again. To be called now and then: what was not swept counts
    /// against the cap.
    pub fn sweep(&self) {
        self.budgets.retain_recent();
        self.budgets.shrink_to_fit();
        self.store.recount();
    }

    /// How many budgets are kept, shared ones included.
    pub fn len(&self) -> usize {
        self.budgets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty()
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
    own: DashMapStateStore<Own>,
    shared: DashMapStateStore<u64>,
    keys: usize,
    /// About as many as `own` has; to count those locks every part of the map.
    kept: AtomicUsize,
    hasher: RandomState,
}

impl Budgets {
    fn new(keys: usize) -> Self {
        Budgets {
            own: DashMapStateStore::default(),
            shared: DashMapStateStore::default(),
            keys,
            kept: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.kept.load(Ordering::Relaxed) >= self.keys
    }

    fn bucket(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.network) % SHARED_BUDGETS
    }

    fn forget(&self, key: Key) {
        if self.own.remove(&key.own).is_some() {
            self.kept.fetch_sub(1, Ordering::Relaxed);
        } else if self.is_full() {
            self.shared.remove(&self.bucket(&key));
        }
    }

    fn recount(&self) {
        self.kept.store(self.own.len(), Ordering::Relaxed);
    }
}

/// The limiter's hold of its memory, which the limiter's owner holds too.
#[derive(Debug)]
struct Store(Arc<Budgets>);

impl StateStore for Store {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let budgets = &*self.0;
        if budgets.own.contains_key(&key.own) {
            measure(&budgets.own, &key.own, key.peek, f)
        } else if budgets.is_full() {
            measure(&budgets.shared, &budgets.bucket(key), key.peek, f)
        } else {
            if !key.peek {
                // Threads that insert in the same moment may overshoot the cap by one each.
                budgets.kept.fetch_add(1, Ordering::Relaxed);
            }
            measure(&budgets.own, &key.own, key.peek, f)
        }
    }
}

fn measure<K, T, F, E>(store: &DashMapStateStore<K>, key: &K, peek: bool, f: F) -> Result<T, E>
where
    K: std::hash::Hash + Eq + Clone,
    F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
{
    if !peek {
        return store.measure_and_replace(key, f);
    }
    let judge = |state| f(state).map(|(judged, _)| judged);
    if !store.contains_key(key) {
        return judge(None);
    }
    // What is an error to the store leaves it as it was.
    match store.measure_and_replace(key, |state| Err::<(T, Nanos), _>(judge(state))) {
        Ok(judged) => Ok(judged),
        Err(judged) => judged,
    }
}

impl ShrinkableKeyedStateStore<Key> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.own.retain_recent(drop_below);
        self.0.shared.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.0.own.shrink_to_fit();
        self.0.shared.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.own.len() + self.0.shared.len()
    }

    fn is_empty(&self) -> bool {
        self.0.own.is_empty() && self.0.shared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    fn rate(count: u32, per: Duration, burst: u32) -> Rate {
        Rate { count: count.try_into().unwrap(), per, burst: burst.try_into().unwrap() }
    }

    fn limiter(rate: Rate, keys: usize) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::with(rate, keys, clock.clone()), clock)
    }

    fn address(text: &str) -> Key {
        Key::of_address(text.parse().unwrap())
    }

    /// What the tests ask of a limiter.
    fn spend<C: Clock>(limiter: &Limiter<C>, key: Key) -> Result<(), Wait> {
        limiter.spend(key).map(|_| ())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_a_steady_refill() {
        let (limiter, clock) = limiter(rate(2, SECOND, 3), KEYS);
        let client = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(spend(&limiter, client), Ok(()));
        }
        assert_eq!(spend(&limiter, client), Err(Wait { retry: SECOND / 2 }));
        // being refused costs nothing
        assert_eq!(spend(&limiter, client), Err(Wait { retry: SECOND / 2 }));
        clock.advance(SECOND / 2);
        assert_eq!(spend(&limiter, client), Ok(()));
        assert_eq!(spend(&limiter, client), Err(Wait { retry: SECOND / 2 }));
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
            assert_eq!(spend(&limiter, address(one)), Ok(()));
            assert_eq!(spend(&limiter, address(other)).is_err(), shared, "{one} {other}");
        }
    }

    #[test]
    fn a_million_addresses_of_one_64_are_one_key() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), KEYS);
        let network: Ipv6Addr = "2001:db8::".parse().unwrap();
        let passed = (0..1_000_000u128)
            .filter(|host| {
                let client = Ipv6Addr::from_bits(network.to_bits() | (host << 40));
                spend(&limiter, Key::of_address(client.into())).is_ok()
            })
            .count();
        assert_eq!(passed, 1, "of those in the first /64 only one passes");
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn a_sweep_forgets_only_budgets_that_are_full_again() {
        let (limiter, clock) = limiter(rate(1, SECOND, 2), KEYS);
        let (idle, busy) = (address("192.0.2.1"), address("192.0.2.2"));
        spend(&limiter, idle).unwrap();
        clock.advance(2 * SECOND);
        spend(&limiter, busy).unwrap();
        spend(&limiter, busy).unwrap();
        clock.advance(SECOND / 2);
        limiter.sweep();
        assert_eq!(limiter.len(), 1);
        assert_eq!(spend(&limiter, busy), Err(Wait { retry: SECOND / 2 }), "still spent");
        clock.advance(4 * SECOND);
        limiter.sweep();
        assert!(limiter.is_empty());
    }

    #[test]
    fn at_the_cap_newcomers_share_and_the_others_keep_theirs() {
        let (limiter, clock) = limiter(rate(1, SECOND, 2), 3);
        let known = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(address);
        for client in known {
            spend(&limiter, client).unwrap();
        }
        // A flood of one network shares one budget: it does not pass, and it does not grow.
        let v4 = |a, b, c, d| Key::of_address(Ipv4Addr::new(a, b, c, d).into());
        let flood = |last: u8| v4(198, 51, 100, last);
        let passed = (0..=255).filter(|last| spend(&limiter, flood(*last)).is_ok()).count();
        assert_eq!(passed, 2);
        assert_eq!(limiter.len(), 4);
        // Who was here is not touched by it.
        for client in known {
            assert_eq!(spend(&limiter, client), Ok(()), "{client:?}");
        }
        // Nor has it a second budget by now.
        for client in known {
            assert!(spend(&limiter, client).is_err(), "{client:?}");
        }
        // Most newcomers from elsewhere are not touched either.
        let others = (0..100u8).filter(|net| spend(&limiter, v4(203, *net, 0, 1)).is_ok());
        assert!(others.count() > 50);
        // Memory stays bounded whatever comes.
        for network in 0..20_000u32 {
            let _either =
                spend(&limiter, Key::of_address(Ipv4Addr::from_bits(network << 16).into()));
        }
        assert!(limiter.len() <= 3 + 1024);
        // Once the idle ones are swept, newcomers have their own again.
        clock.advance(10 * SECOND);
        limiter.sweep();
        assert!(limiter.is_empty());
        for last in 0..3 {
            assert_eq!(spend(&limiter, flood(last)), Ok(()));
            assert_eq!(spend(&limiter, flood(last)), Ok(()));
        }
    }

    #[test]
    fn a_million_addresses_take_the_memory_of_the_cap_and_share_what_is_over() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), KEYS);
        let client = |n: u32| Key::of_address(Ipv4Addr::from_bits(n << 12).into());
        let passed = (0..1 << 20).filter(|n| spend(&limiter, client(*n)).is_ok()).count();
        let bound = KEYS + usize::try_from(SHARED_BUDGETS).unwrap();
        assert!(limiter.len() <= bound, "{} budgets", limiter.len());
        // The first have their own, and all the others one for each shared budget.
        assert!((KEYS..=bound).contains(&passed), "{passed} passed");
        // Who came first still has a budget, and it is spent.
        assert!(spend(&limiter, client(0)).is_err());
    }

    #[test]
    fn invented_credentials_share_the_budget_of_the_network_that_invents_them() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), 3);
        let from = |hash, text: &str| Key::of_credential(hash, text.parse().unwrap());
        let flood = (0..1000).filter(|n| spend(&limiter, from(*n, "198.51.100.1")).is_ok());
        assert_eq!(flood.count(), 3 + 1);
        // One of 1024: the odds that all of these fall on it are nil.
        let others = (0..100u8).filter(|net| {
            spend(&limiter, from(5000 + u64::from(*net), &format!("203.{net}.0.1"))).is_ok()
        });
        assert!(others.count() > 50);
    }

    #[test]
    fn a_credential_and_an_address_have_budgets_of_their_own() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), KEYS);
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(spend(&limiter, Key::of_address(here)), Ok(()));
        assert_eq!(spend(&limiter, Key::of_credential(7, here)), Ok(()));
        assert!(spend(&limiter, Key::of_credential(7, there)).is_err());
        assert_eq!(spend(&limiter, Key::of_credential(8, there)), Ok(()));
    }

    #[test]
    fn a_peek_costs_nothing_and_leaves_nothing() {
        let (limiter, clock) = limiter(rate(1, SECOND, 2), 2);
        let client = address("192.0.2.1");
        for _ in 0..5 {
            assert_eq!(limiter.peek(client), Ok(()));
        }
        assert!(limiter.is_empty());
        assert_eq!(spend(&limiter, client), Ok(()));
        assert_eq!(limiter.peek(client), Ok(()));
        assert_eq!(spend(&limiter, client), Ok(()));
        assert_eq!(limiter.peek(client), Err(Wait { retry: SECOND }));
        clock.advance(SECOND);
        assert_eq!(limiter.peek(client), Ok(()));
        assert_eq!(spend(&limiter, client), Ok(()));
        assert!(spend(&limiter, client).is_err());
    }

    #[test]
    fn who_is_forgotten_begins_anew_and_gives_its_place_back() {
        let (limiter, _) = limiter(rate(1, SECOND, 1), 1);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        spend(&limiter, one).unwrap();
        spend(&limiter, other).unwrap();
        assert_eq!(limiter.len(), 2, "one shares");
        limiter.forget(other);
        assert_eq!(spend(&limiter, other), Ok(()));
        limiter.forget(one);
        assert_eq!(spend(&limiter, one), Ok(()));
        assert!(spend(&limiter, one).is_err());
    }

    #[test]
    fn what_is_left_is_told() {
        let (limiter, clock) = limiter(rate(2, SECOND, 4), KEYS);
        let client = address("192.0.2.1");
        let left = |units, halves| Ok(Left { units, whole_after: halves * (SECOND / 2) });
        assert_eq!(limiter.whole(), (4, 2));
        assert_eq!(limiter.spend(client), left(3, 1));
        assert_eq!(limiter.spend(client), left(2, 2));
        clock.advance(10 * SECOND);
        assert_eq!(limiter.spend(client), left(3, 1));
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
            prop_assert_eq!(spend(&limiter, client), Ok(()));
            if let Err(wait) = spend(&limiter, client) {
                clock.advance(wait.retry);
                prop_assert_eq!(spend(&limiter, client), Ok(()), "after the wait it passes");
            }
            limiter.sweep();
        }
    }
}
