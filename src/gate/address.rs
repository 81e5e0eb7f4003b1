//! May this address come in, and whose address is it.
//!
//! An address is compared in canonical form: `::ffff:192.0.2.1` is `192.0.2.1` everywhere, in the
//! lists as well as in what is looked up, so that a dual-stack listener cannot be used to walk
//! around an IPv4 rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
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
    /// It is on the deny list.
    Denied,
    /// There is an allow list and it is not on it.
    NotAllowed,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::Denied => "this address is denied",
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

/// The client's own address: the peer's, or what trusted proxies say in `X-Forwarded-For`.
///
/// Every proxy appends the address it was called from, so the list is believed from its right end
/// and only as far as trusted proxies wrote it: the first address that is no trusted proxy is the
/// client. An entry that is no address ends the walk at the last hop that was one.
pub fn client_address(trusted: &AddressSet, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(client) {
        return client;
    }
    // Several lines are one list in the order of the lines (RFC 9110 §5.3).
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            let entry = entry.trim_ascii();
            if entry.is_empty() {
                continue; // RFC 9110 §5.6.1.2
            }
            let Some(hop) = forwarded_address(entry) else { return client };
            client = hop;
            if !trusted.contains(client) {
                return client;
            }
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn forwarded_address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let address = if let Ok(address) = entry.parse::<IpAddr>() {
        address
    } else if let Some(inner) = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?)
    } else {
        match entry.parse::<SocketAddr>().ok()? {
            SocketAddr::V4(socket) => IpAddr::V4(*socket.ip()),
            SocketAddr::V6(socket) if socket.scope_id() == 0 => IpAddr::V6(*socket.ip()),
            SocketAddr::V6(_) => return None,
        }
    };
    Some(address.to_canonical())
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical_network(network: IpNet) -> IpNet {
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
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
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
    fn only_trusted_proxies_are_believed() {
        let trusted = AddressSet::new(&networks(&["10.0.0.0/8", "fd00::/8"]));
        let cases: &[(&str, &[&str], &str)] = &[
            // an untrusted peer cannot choose its address
            ("192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            ("::ffff:192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // what the client itself wrote is left of what the proxy saw
            ("10.0.0.1", &["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.2.3.4,203.0.113.9 , 10.0.0.2"], "203.0.113.9"),
            // several lines are one list
            ("10.0.0.1", &["1.2.3.4", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "1.2.3.4"], "1.2.3.4"),
            // all trusted: the farthest is the client
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // what is no address stops the walk at the last good hop
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.2x"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:http"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:65536"], "10.0.0.1"),
            ("10.0.0.1", &["[203.0.113.9]"], "10.0.0.1"),
            ("10.0.0.1", &["fe80::1%1"], "10.0.0.1"),
            ("10.0.0.1", &["[fe80::1%1]:80"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9,, "], "203.0.113.9"),
            // ports and brackets
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1, [fd00::1]:80"], "2001:db8::1"),
            ("10.0.0.1", &["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
        ];
        for (peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let client = client_address(&trusted, address(peer), &headers);
            assert_eq!(client, address(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_end_the_walk() {
        let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"203.0.113.9, \xff\xfe, 10.0.0.2").unwrap();
        headers.append("x-forwarded-for", line);
        let client = client_address(&trusted, address("10.0.0.1"), &headers);
        assert_eq!(client, address("10.0.0.2"));
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

        #[test]
        fn an_untrusted_peer_is_always_the_client(line in "[ -~]{0,60}") {
            let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", HeaderValue::from_str(&line).unwrap());
            let peer = address("192.0.2.1");
            prop_assert_eq!(client_address(&trusted, peer, &headers), peer);
        }
    }
}
