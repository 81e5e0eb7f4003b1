//! May this address come in.
//!
//! An address is compared in canonical form: `::ffff:192.0.2.1` is `192.0.2.1` everywhere, in the
//! lists as well as in what is looked up, so that a dual-stack listener cannot be used to walk
//! around an IPv4 rule.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// Networks as sorted, disjoint ranges: a look-up is one binary search however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match canonical_network(*network) {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        AddressSet { v4: disjoint(v4), v6: disjoint(v6) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Why an address may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is on a deny list.
    Denied,
    /// It is banned, for so long.
    Banned { left: Duration },
    /// There is an allow list and it is not on it.
    NotAllowed,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::Denied => "this address is denied",
            Refusal::Banned { .. } => "this address is banned for some time",
            Refusal::NotAllowed => "this address is not allowed",
        })
    }
}

impl std::error::Error for Refusal {}

/// Which addresses come in. A denied address stays out even when it is allowed as well; an empty
/// allow list allows all.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allow: AddressSet,
    deny: AddressSet,
}

impl AddressRules {
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        AddressRules { allow: AddressSet::new(allow), deny: AddressSet::new(deny) }
    }

    /// Whether nobody is refused.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    pub fn admit(&self, client: IpAddr) -> Result<(), Refusal> {
        if self.deny.contains(client) {
            return Err(Refusal::Denied);
        }
        if self.allow.is_empty() || self.allow.contains(client) {
            Ok(())
        } else {
            Err(Refusal::NotAllowed)
        }
    }
}

/// What a list in a file holds: an address or a range on each line; `#` begins a comment.
///
/// As strict as the configuration: the first line that is neither refuses the whole.
pub fn parse_list(text: &str) -> Result<AddressSet, BadLine> {
    let mut networks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let network = strict_network(entry).map_err(|why| {
            let shown = entry.chars().take(80).collect();
            BadLine { line: at + 1, entry: shown, why }
        })?;
        networks.push(network);
    }
    Ok(AddressSet::new(&networks))
}

/// A line of a list that is no address and no range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub line: usize,
    /// Its beginning.
    pub entry: String,
    pub why: BadNetwork,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {:?} is {}", self.line, self.entry, self.why)
    }
}

impl std::error::Error for BadLine {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadNetwork {
    Shape,
    /// Whether the range or the address is meant nobody can tell.
    HostBits,
}

impl std::fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadNetwork::Shape => "neither an address nor a range such as 10.0.0.0/8",
            BadNetwork::HostBits => "an address inside a range, not a range",
        })
    }
}

/// An address, as the range of one that it is, or a range whose host bits are zero.
fn strict_network(text: &str) -> Result<IpNet, BadNetwork> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| BadNetwork::Shape)?;
    if network.trunc() == network { Ok(network) } else { Err(BadNetwork::HostBits) }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
pub(super) fn canonical_network(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_BITS)) {
        (Some(address), Some(prefix)) => v4_network(address, prefix).unwrap_or(network),
        (None, _) | (_, None) => network,
    }
}

fn v4_network(address: Ipv4Addr, prefix: u8) -> Option<IpNet> {
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

fn disjoint<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged.shrink_to_fit();
    merged
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], wanted: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= wanted);
    after.checked_sub(1).is_some_and(|index| wanted <= ranges[index].1)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use proptest::prelude::*;

    pub(in crate::gate) fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|entry| entry.parse().unwrap()).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn deny_wins_and_an_empty_allow_list_allows_all() {
        use Refusal::{Denied, NotAllowed};
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, Result<(), Refusal>);
        let cases: &[Case<'_>] = &[
            (&[], &[], "192.0.2.1", Ok(())),
            (&[], &[], "2001:db8::1", Ok(())),
            (&[], &["192.0.2.0/24"], "192.0.2.1", Err(Denied)),
            (&[], &["192.0.2.0/24"], "192.0.3.1", Ok(())),
            (&["10.0.0.0/8"], &[], "10.255.255.255", Ok(())),
            (&["10.0.0.0/8"], &[], "11.0.0.0", Err(NotAllowed)),
            (&["10.0.0.0/8"], &[], "2001:db8::1", Err(NotAllowed)),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", Err(Denied)),
            (&["10.1.0.0/16"], &["10.0.0.0/8"], "10.1.2.3", Err(Denied)),
            // host bits in an entry do not matter
            (&["10.1.2.3/8"], &[], "10.200.0.1", Ok(())),
            (&["192.0.2.7/32"], &[], "192.0.2.8", Err(NotAllowed)),
            (&["0.0.0.0/0"], &[], "255.255.255.255", Ok(())),
            (&["::/0"], &[], "ffff::", Ok(())),
            // an IPv4 address in IPv6 clothes is an IPv4 address, in lists and look-ups
            (&[], &["192.0.2.0/24"], "::ffff:192.0.2.1", Err(Denied)),
            (&[], &["::ffff:192.0.2.0/120"], "192.0.2.1", Err(Denied)),
            (&[], &["::ffff:192.0.2.0/120"], "192.0.3.1", Ok(())),
            (&["::/0"], &[], "::ffff:192.0.2.1", Err(NotAllowed)),
            (&["2001:db8::/32"], &["2001:db8:1::/48"], "2001:db8:1::1", Err(Denied)),
            (&["2001:db8::/32"], &["2001:db8:1::/48"], "2001:db8:2::1", Ok(())),
        ];
        for (allow, deny, client, expected) in cases {
            let rules = AddressRules::new(&networks(allow), &networks(deny));
            assert_eq!(rules.admit(address(client)), *expected, "{allow:?} {deny:?} {client}");
        }
    }

    #[test]
    fn a_list_is_read_strictly_and_a_bad_line_is_named() {
        let list = "# bad hosts\n192.0.2.1\n\n 198.51.100.0/24 # a range\r\n2001:db8::/32\n::ffff:203.0.113.7";
        let set = parse_list(list).unwrap();
        for denied in ["192.0.2.1", "198.51.100.9", "2001:db8::5", "203.0.113.7"] {
            assert!(set.contains(address(denied)), "{denied}");
        }
        assert!(!set.contains(address("192.0.2.2")) && !set.contains(address("203.0.113.8")));
        assert!(parse_list("").unwrap().is_empty());
        let bad = [
            ("192.0.2.1\n192.0.2\n", 2, "192.0.2", BadNetwork::Shape),
            ("#\n\n10.1.2.3/8", 3, "10.1.2.3/8", BadNetwork::HostBits),
            ("10.0.0.0/33", 1, "10.0.0.0/33", BadNetwork::Shape),
            ("192.0.2.1 192.0.2.2", 1, "192.0.2.1 192.0.2.2", BadNetwork::Shape),
            ("example.com", 1, "example.com", BadNetwork::Shape),
        ];
        for (text, line, entry, why) in bad {
            let entry = entry.to_owned();
            assert_eq!(parse_list(text), Err(BadLine { line, entry, why }), "{text:?}");
        }
        assert_eq!(parse_list(&"x".repeat(1000)).unwrap_err().entry.len(), 80);
    }

    /// A number that counts how often one is compared.
    #[derive(Debug, Clone, Copy)]
    struct Counted(u32);

    thread_local!(static COMPARISONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Eq for Counted {}

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    #[test]
    fn one_of_a_hundred_thousand_networks_is_found_with_nineteen_comparisons() {
        // None next to another, so that none are merged.
        let ranges = (0..100_000).map(|n| (Counted(n * 4), Counted(n * 4 + 1))).collect();
        let ranges = disjoint(ranges);
        assert_eq!(ranges.len(), 100_000);
        for wanted in (0..400_000).step_by(7) {
            COMPARISONS.set(0);
            assert_eq!(within(&ranges, Counted(wanted)), wanted % 4 < 2, "{wanted}");
            assert!(COMPARISONS.get() <= 19, "{} for {wanted}", COMPARISONS.get());
        }
    }

    /// A generous bound, for a build that is not optimised on a machine that is not idle: the best
    /// of many rounds counts. A look-up that reads the list would take a hundred times as long.
    #[test]
    fn one_of_a_hundred_thousand_networks_is_found_in_no_time() {
        use std::hint::black_box;

        use tokio::time::Instant;

        let networks: Vec<IpNet> = (0..100_000_u32)
            .map(|n| match n % 2 {
                0 => IpNet::new(Ipv4Addr::from_bits(n << 12).into(), 24).unwrap(),
                _ => IpNet::new(Ipv6Addr::from_bits(u128::from(n) << 80).into(), 64).unwrap(),
            })
            .collect();
        let rules = AddressRules::new(&[], &networks);
        let wanted: Vec<IpAddr> =
            networks.iter().step_by(97).flat_map(|net| [net.addr(), net.broadcast()]).collect();
        let round = || {
            let begin = Instant::now();
            for address in &wanted {
                assert!(black_box(&rules).admit(*black_box(address)).is_err());
            }
            begin.elapsed() / u32::try_from(wanted.len()).unwrap()
        };
        let best = (0..50).map(|_| round()).min().unwrap();
        eprintln!("{best:?} a look-up");
        assert!(best < Duration::from_micros(2), "{best:?}");
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        // few leading bits vary, so that networks overlap, nest and touch
        prop_oneof![
            (0u32..64, 0u8..=32).prop_map(|(bits, prefix)| {
                IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(bits << 26 | bits)), prefix).unwrap()
            }),
            (0u128..64, 0u8..=128).prop_map(|(bits, prefix)| {
                let address = Ipv6Addr::from_bits(bits << 122 | bits);
                IpNet::new(IpAddr::V6(address), prefix).unwrap()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_networks_contains(
            networks in proptest::collection::vec(any_network(), 0..40),
            wanted in proptest::collection::vec(any_network(), 1..20),
        ) {
            let set = AddressSet::new(&networks);
            for address in wanted.iter().flat_map(|net| [net.addr(), net.network(), net.broadcast()]) {
                let address = address.to_canonical();
                let expected = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(set.contains(address), expected, "{} in {:?}", address, networks);
            }
        }
    }
}
