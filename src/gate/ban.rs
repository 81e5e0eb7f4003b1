//! Who is kept out for some time, because it was refused again and again.
//!
//! A ban is of an IPv4 address or an IPv6 /64. It begins when offences come faster than the rule
//! lets them, lasts as long as the rule says, and ends early when it is lifted. What a banned
//! client tries meanwhile does not prolong it.
//!
//! At most [`BANS`] are kept: beyond, each new one ends the oldest.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::address::AddressSet;
use super::rate::{Key, Limiter};
use crate::connections::customer;
use crate::units::Rate;

/// Bans at one time: some 20 MB.
pub const BANS: usize = 100_000;

/// When an address is banned.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Offences that are borne; one more is a ban. None bans nobody.
    pub after: Option<Rate>,
    pub lasts: Duration,
    /// Networks that are never banned; nor are trusted proxies.
    pub exempt: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        Self { after: None, lasts: Duration::from_secs(10 * 60), exempt: Vec::new() }
    }
}

/// What counts against an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// A request or message over a rate.
    OverRate,
    /// A credential that was refused.
    BadCredential,
    /// A request that is refused for its form, or a socket that is closed for its messages.
    Malformed,
    /// None: an operator says so.
    Operator,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Offence::OverRate => "over its rate",
            Offence::BadCredential => "bad credentials",
            Offence::Malformed => "malformed requests",
            Offence::Operator => "an operator's word",
        })
    }
}

/// A ban in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    pub network: IpNet,
    /// The last offence before it.
    pub cause: Offence,
    pub left: Duration,
}

#[derive(Debug)]
pub(super) struct Bans {
    rule: Option<Rule>,
    /// Each ban.
    lasts: Duration,
    /// What a gate hands on to the one that takes its place.
    held: Arc<RwLock<Held>>,
    /// So that nobody is looked up, and no lock touched, while nobody is banned.
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Rule {
    offences: Arc<Limiter>,
    exempt: AddressSet,
}

#[derive(Debug, Default)]
struct Held {
    by_customer: HashMap<IpAddr, Entry>,
    /// The oldest first, with the number that tells a ban from a later one of the same customer.
    order: VecDeque<(IpAddr, u64)>,
    numbers: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    until: Instant,
    cause: Offence,
    number: u64,
}

impl Bans {
    pub(super) fn new(options: &Options, trusted: &[IpNet]) -> Self {
        Self {
            rule: Rule::new(options, trusted, None),
            lasts: options.lasts,
            held: Arc::default(),
            count: Arc::default(),
        }
    }

    /// The same bans under another rule. Each lasts as long as it was to last when it began.
    pub(super) fn succeed(&self, options: &Options, trusted: &[IpNet]) -> Self {
        let before = self.rule.as_ref().map(|rule| &rule.offences);
        Self {
            rule: Rule::new(options, trusted, before),
            lasts: options.lasts,
            held: Arc::clone(&self.held),
            count: Arc::clone(&self.count),
        }
    }

    pub(super) fn can_ban(&self) -> bool {
        self.rule.is_some()
    }

    /// Counts an offence; true when it is the one that brings a ban.
    pub(super) fn offend(&self, client: IpAddr, offence: Offence, now: Instant) -> bool {
        let Some(rule) = &self.rule else { return false };
        if rule.exempt.contains(client) || rule.offences.spend(Key::of_address(client)).is_ok() {
            return false;
        }
        if !self.begin(client, offence, now) {
            return false;
        }
        // Once the ban is over it begins with a clean sheet.
        rule.offences.forget(Key::of_address(client));
        true
    }

    /// Bans an address whatever it has done, and whatever is exempt.
    pub(super) fn impose(&self, client: IpAddr, now: Instant) -> bool {
        self.begin(client, Offence::Operator, now)
    }

    /// False when it is banned already.
    fn begin(&self, client: IpAddr, cause: Offence, now: Instant) -> bool {
        let customer = customer(client);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.by_customer.get(&customer).is_some_and(|ban| ban.until > now) {
            return false;
        }
        held.forget_past(now);
        held.insert(customer, cause, now + self.lasts);
        self.count.store(held.by_customer.len(), Ordering::Release);
        true
    }

    /// How long the client is still banned.
    pub(super) fn left(&self, client: IpAddr, now: impl FnOnce() -> Instant) -> Option<Duration> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let until = held.by_customer.get(&customer(client))?.until;
        drop(held);
        let left = until.saturating_duration_since(now());
        (!left.is_zero()).then_some(left)
    }

    /// Every ban in force, the one that ends first at the beginning.
    pub(super) fn list(&self, now: Instant) -> Vec<Ban> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut bans: Vec<_> = held
            .by_customer
            .iter()
            .map(|(customer, entry)| Ban {
                network: network(*customer),
                cause: entry.cause,
                left: entry.until.saturating_duration_since(now),
            })
            .filter(|ban| !ban.left.is_zero())
            .collect();
        drop(held);
        bans.sort_by_key(|ban| (ban.left, ban.network));
        bans
    }

    /// Ends every ban of an address in `wanted`, or of a network that `wanted` is in; whether there
    /// was one.
    pub(super) fn lift(&self, wanted: IpNet, now: Instant) -> bool {
        let wanted = super::address::canonical_network(wanted);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.forget_past(now);
        let before = held.by_customer.len();
        held.by_customer.retain(|customer, _| {
            let banned = network(*customer);
            !(wanted.contains(&banned) || banned.contains(&wanted))
        });
        self.count.store(held.by_customer.len(), Ordering::Release);
        held.by_customer.len() < before
    }

    pub(super) fn sweep(&self, now: Instant) {
        if let Some(rule) = &self.rule {
            rule.offences.sweep();
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.forget_past(now);
        self.count.store(held.by_customer.len(), Ordering::Release);
    }
}

impl Rule {
    fn new(options: &Options, trusted: &[IpNet], before: Option<&Arc<Limiter>>) -> Option<Self> {
        let after = options.after?;
        let exempt = AddressSet::new(&[&options.exempt[..], trusted].concat());
        Some(Self { offences: Limiter::succeed(before, after), exempt })
    }
}

impl Held {
    fn insert(&mut self, customer: IpAddr, cause: Offence, until: Instant) {
        self.numbers += 1;
        let number = self.numbers;
        self.by_customer.insert(customer, Entry { until, cause, number });
        self.order.push_back((customer, number));
        // Bans that were lifted stay in the order, so it is the order that is bounded.
        while self.order.len() > BANS {
            self.drop_oldest();
        }
    }

    /// Bans of one rule last equally long, so those that are over come first. Behind one that a
    /// former rule let last longer they wait until it is over.
    fn forget_past(&mut self, now: Instant) {
        while let Some((customer, number)) = self.order.front() {
            match self.by_customer.get(customer) {
                Some(ban) if ban.number == *number && ban.until > now => break,
                _ => self.drop_oldest(),
            }
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((customer, number)) = self.order.pop_front()
            && self.by_customer.get(&customer).is_some_and(|ban| ban.number == number)
        {
            self.by_customer.remove(&customer);
        }
    }
}

fn network(customer: IpAddr) -> IpNet {
    const CUSTOMER_V6: u8 = 64;
    let whole = IpNet::from(customer);
    match customer {
        IpAddr::V4(_) => whole,
        IpAddr::V6(_) => IpNet::new(customer, CUSTOMER_V6).unwrap_or(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MINUTE: Duration = Duration::from_secs(60);

    fn bans(after: &str) -> Bans {
        let options = Options {
            after: Some(after.parse().unwrap()),
            lasts: 10 * MINUTE,
            exempt: vec!["198.51.100.0/24".parse().unwrap()],
        };
        Bans::new(&options, &["10.0.0.0/8".parse().unwrap()])
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn offend(bans: &Bans, client: &str, now: Instant) -> bool {
        bans.offend(address(client), Offence::OverRate, now)
    }

    #[test]
    fn so_many_offences_are_borne_and_the_next_is_a_ban_that_ends() {
        let (bans, now) = (bans("3/d"), Instant::now());
        let left = |client: &str, now| bans.left(address(client), || now);
        for _ in 0..3 {
            assert!(!offend(&bans, "192.0.2.1", now));
        }
        assert_eq!(left("192.0.2.1", now), None);
        assert!(offend(&bans, "192.0.2.1", now));
        assert_eq!(left("::ffff:192.0.2.1", now), Some(10 * MINUTE));
        assert_eq!(left("192.0.2.2", now), None);
        // More of the same does not prolong it.
        for _ in 0..10 {
            assert!(!offend(&bans, "192.0.2.1", now + MINUTE));
        }
        assert_eq!(left("192.0.2.1", now + MINUTE), Some(9 * MINUTE));
        assert_eq!(left("192.0.2.1", now + 10 * MINUTE), None);
        assert!(bans.list(now + 10 * MINUTE).is_empty());
        bans.sweep(now + 10 * MINUTE);
        assert_eq!(bans.held.read().unwrap().order.len(), 0);
    }

    #[test]
    fn a_whole_ipv6_64_is_banned_and_nobody_beside_it() {
        let (bans, now) = (bans("1/d"), Instant::now());
        assert!(!offend(&bans, "2001:db8::1", now));
        assert!(offend(&bans, "2001:db8::2", now));
        assert!(bans.left(address("2001:db8::3"), || now).is_some());
        assert!(bans.left(address("2001:db8:0:1::3"), || now).is_none());
        let network = "2001:db8::/64".parse().unwrap();
        let ban = Ban { network, cause: Offence::OverRate, left: 10 * MINUTE };
        assert_eq!(bans.list(now), [ban]);
    }

    #[test]
    fn exempt_networks_and_trusted_proxies_are_never_banned() {
        let (bans, now) = (bans("1/d"), Instant::now());
        for _ in 0..10 {
            assert!(!offend(&bans, "198.51.100.7", now) && !offend(&bans, "10.1.2.3", now));
        }
        assert!(bans.list(now).is_empty());
    }

    #[test]
    fn a_ban_that_is_lifted_leaves_a_clean_sheet() {
        let (bans, now) = (bans("1/d"), Instant::now());
        let ban = |client: &str| {
            while !offend(&bans, client, now) {}
        };
        let lift = |text: &str| bans.lift(text.parse().unwrap(), now);
        for client in ["192.0.2.1", "192.0.2.2", "203.0.113.1", "2001:db8::1"] {
            ban(client);
        }
        assert!(!lift("192.0.2.3/32"));
        assert!(lift("192.0.2.0/24"));
        assert!(lift("2001:db8::7/128"), "an address in a banned /64");
        assert!(!lift("2001:db8::7/128"));
        assert_eq!(bans.list(now).len(), 1);
        assert!(!offend(&bans, "192.0.2.1", now), "the first offence again");
        assert!(offend(&bans, "192.0.2.1", now));
        // The entry of the ban that was lifted does not end the one that came after it.
        bans.sweep(now + MINUTE);
        assert!(bans.left(address("192.0.2.1"), || now + MINUTE).is_some());
        assert!(lift("::ffff:192.0.2.1/128") && lift("203.0.113.1/32"));
        assert!(bans.list(now).is_empty());
    }

    #[test]
    fn beyond_the_bound_each_new_ban_ends_the_oldest() {
        let (bans, now) = (bans("1/d"), Instant::now());
        let client = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        let mut held = bans.held.write().unwrap();
        for n in 0..BANS + 10 {
            held.insert(client(n), Offence::OverRate, now + MINUTE);
        }
        assert_eq!((held.by_customer.len(), held.order.len()), (BANS, BANS));
        assert!(!held.by_customer.contains_key(&client(9)));
        assert!(held.by_customer.contains_key(&client(10)));
    }

    #[test]
    fn without_a_rule_nobody_is_banned() {
        let bans = Bans::new(&Options::default(), &[]);
        assert!((0..1000).all(|_| !offend(&bans, "192.0.2.1", Instant::now())));
    }
}
