//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections of the whole node. A clone counts with the same counters.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit: AtomicUsize,
    limit_per_address: AtomicUsize,
    /// Locked once when a connection opens and once when it closes.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// An address without a connection has no entry, so that the map is bounded by `limit`.
    by_address: HashMap<IpAddr, usize>,
}

impl Counts {
    fn limit_for(&self, exempt: bool) -> usize {
        if exempt { 0 } else { self.limit_per_address.load(Ordering::Relaxed) }
    }
}

impl Open {
    /// 0 is no limit.
    fn add(&mut self, address: IpAddr, limit: usize) -> Result<(), Exceeded> {
        let count = self.by_address.entry(address).or_default();
        if limit > 0 && *count >= limit {
            return Err(Exceeded::Address);
        }
        *count += 1;
        Ok(())
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// Which limit a new connection would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    Total,
    Address,
}

impl Connections {
    /// 0 is no limit.
    pub fn new(limit: usize, limit_per_address: usize) -> Self {
        let (limit, limit_per_address) = (limit.into(), limit_per_address.into());
        Self(Arc::new(Counts { limit, limit_per_address, open: Mutex::default() }))
    }

    /// From now on these are the limits. Connections that are open are not closed for them.
    pub fn limit(&self, limit: usize, limit_per_address: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.limit_per_address.store(limit_per_address, Ordering::Relaxed);
    }

    /// Takes a place for a connection from `address`. A connection of an address that is
    /// `exempt` counts in all, and alone is never too many.
    pub fn open(&self, address: IpAddr, exempt: bool) -> Result<Slot, Exceeded> {
        let address = customer(address);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.0.limit.load(Ordering::Relaxed);
        if limit > 0 && open.total >= limit {
            return Err(Exceeded::Total);
        }
        open.add(address, self.0.limit_for(exempt))?;
        open.total += 1;
        Ok(Slot { counts: Arc::clone(&self.0), address })
    }

    /// How many connections there are.
    pub fn total(&self) -> usize {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Slot {
    /// Counts the connection as one from `address`, for whom its other end forwards.
    pub fn move_to(&mut self, address: IpAddr, exempt: bool) -> Result<(), Exceeded> {
        let address = customer(address);
        let mut open = self.counts.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.add(address, self.counts.limit_for(exempt))?;
        open.remove(self.address);
        self.address = address;
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        open.remove(self.address);
    }
}

/// What limits count as one client: an IPv4 address, or an IPv6 /64, the smallest network that a
/// customer is given, any address of which may be used.
pub fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_closed_connection_makes_room_and_leaves_nothing_behind() {
        let connections = Connections::new(2, 1);
        let first = connections.open(address("192.0.2.1"), false).unwrap();
        assert_eq!(connections.open(address("192.0.2.1"), false).unwrap_err(), Exceeded::Address);
        let second = connections.open(address("192.0.2.2"), false).unwrap();
        assert_eq!(connections.open(address("192.0.2.3"), false).unwrap_err(), Exceeded::Total);
        drop((first, second));
        assert_eq!(connections.total(), 0);
        assert!(connections.0.open.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_lower_limit_closes_nothing_and_lets_nobody_in() {
        let connections = Connections::new(0, 0);
        let open = |text| connections.open(address(text), false);
        let held = [open("192.0.2.1").unwrap(), open("192.0.2.1").unwrap()];
        connections.limit(2, 0);
        assert_eq!(open("192.0.2.2").unwrap_err(), Exceeded::Total);
        connections.limit(0, 2);
        assert_eq!(open("192.0.2.1").unwrap_err(), Exceeded::Address);
        let [first, _second] = held;
        drop(first);
        assert!(open("192.0.2.1").is_ok());
    }

    #[test]
    fn a_connection_that_is_forwarded_counts_for_whom_it_is_forwarded() {
        let connections = Connections::new(0, 1);
        let proxy = || connections.open(address("10.0.0.1"), true).unwrap();
        let (mut first, mut second, mut third) = (proxy(), proxy(), proxy());
        assert_eq!(first.move_to(address("192.0.2.1"), false), Ok(()));
        assert_eq!(second.move_to(address("192.0.2.1"), false), Err(Exceeded::Address));
        assert_eq!(third.move_to(address("192.0.2.2"), false), Ok(()));
        drop(first);
        assert_eq!(second.move_to(address("192.0.2.1"), false), Ok(()));
        drop((second, third));
        assert!(connections.0.open.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let connections = Connections::new(0, 1);
        let _first = connections.open(address("2001:db8::1"), false).unwrap();
        assert!(connections.open(address("2001:db8::2"), false).is_err());
        assert!(connections.open(address("2001:db8:0:1::1"), false).is_ok());
        assert!(connections.open(address("2001:db8::3"), true).is_ok());
    }

    #[test]
    fn a_customer_is_an_ipv4_address_or_an_ipv6_64() {
        for (one, whole) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(customer(one.parse().unwrap()), whole.parse::<IpAddr>().unwrap());
        }
    }
}
