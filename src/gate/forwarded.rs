//! Whose address is it, behind proxies that say so in `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Every proxy appends the address it was called from, so a list is believed from its right end and
//! only as far as trusted proxies wrote it: the first address that is no trusted proxy is the
//! client. An entry that names no address ends the walk at the last hop that did.
//!
//! One of the two fields is believed, as configured, and never the other: a proxy that appends to
//! one passes on whatever the client wrote into the other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::address::AddressSet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The field that the trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// The client's own address: the peer's, or what trusted proxies say.
pub fn client_address(
    field: Field,
    trusted: &AddressSet,
    peer: IpAddr,
    headers: &HeaderMap,
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(client) {
        return client;
    }
    // Several lines are one list in the order of the lines (RFC 9110 §5.3).
    let lines = match field {
        Field::XForwardedFor => headers.get_all(X_FORWARDED_FOR),
        Field::Forwarded => headers.get_all(header::FORWARDED),
    };
    for entry in lines.iter().rev().flat_map(|line| entries(field, line)) {
        let entry = entry.trim_ascii();
        if entry.is_empty() {
            continue; // RFC 9110 §5.6.1.2
        }
        let hop = match field {
            Field::XForwardedFor => address(entry),
            Field::Forwarded => forwarded_for(entry),
        };
        let Some(hop) = hop else { return client };
        client = hop;
        if !trusted.contains(client) {
            return client;
        }
    }
    client
}

/// The entries of a line, the last one first.
fn entries(field: Field, line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line.as_bytes());
    std::iter::from_fn(move || {
        let bytes = rest?;
        let comma = match field {
            Field::XForwardedFor => bytes.iter().rposition(|byte| *byte == b','),
            Field::Forwarded => last_outside_quotes(bytes, b','),
        };
        rest = comma.map(|at| &bytes[..at]);
        Some(comma.map_or(bytes, |at| &bytes[at + 1..]))
    })
}

/// Where `wanted` stands last outside a quoted string, read from the right: there the trusted
/// proxies wrote, and close what they open. A quote that a client left open on the left hides
/// nothing of it.
fn last_outside_quotes(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            if !quoted || escapes % 2 == 0 {
                quoted = !quoted;
            }
        } else if !quoted && *byte == wanted {
            return Some(at);
        }
    }
    None
}

/// The address in the one `for` of `for="[2001:db8::1]:4711";proto=https` (RFC 7239 §4, §6).
fn forwarded_for(entry: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(entry);
    while let Some(pairs) = rest {
        let semicolon = last_outside_quotes(pairs, b';');
        rest = semicolon.map(|at| &pairs[..at]);
        let pair = semicolon.map_or(pairs, |at| &pairs[at + 1..]).trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        if pair[..equals].eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            found = Some(&pair[equals + 1..]);
        }
    }
    let value = found?;
    // No address has a character that would have to be escaped.
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    address(inner.unwrap_or(value))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::address::tests::networks;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
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
            let client = client_address(Field::XForwardedFor, &trusted, address(peer), &headers);
            assert_eq!(client, address(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_end_the_walk() {
        let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"203.0.113.9, \xff\xfe, 10.0.0.2").unwrap();
        headers.append("x-forwarded-for", line);
        let client = client_address(Field::XForwardedFor, &trusted, address("10.0.0.1"), &headers);
        assert_eq!(client, address("10.0.0.2"));
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let trusted = AddressSet::new(&networks(&["10.0.0.0/8", "fd00::/8"]));
        let cases: &[(&[&str], &str)] = &[
            (&["for=203.0.113.9"], "203.0.113.9"),
            (&["For=\"203.0.113.9:4711\""], "203.0.113.9"),
            (&["FOR=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"], "2001:db8::1"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["proto=http; for=203.0.113.9 ;by=10.0.0.1"], "203.0.113.9"),
            (&["for=203.0.113.9, for=10.0.0.2"], "203.0.113.9"),
            (&["for=1.2.3.4, for=203.0.113.9, for=10.0.0.2"], "203.0.113.9"),
            (
                &["for=1.2.3.4", "for=203.0.113.9;host=\"a,b;for=9.9.9.9\\\"\"", "for=10.0.0.2"],
                "203.0.113.9",
            ),
            (&["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
            (&["for=203.0.113.9,, "], "203.0.113.9"),
            (&["for=203.0.113.9;"], "203.0.113.9"),
            (&["for=\"::ffff:203.0.113.9\""], "203.0.113.9"),
            // what names no address ends the walk
            (&[], "10.0.0.1"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=203.0.113.9, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=203.0.113.9, proto=http"], "10.0.0.1"),
            (&["for=203.0.113.9;for=203.0.113.8"], "10.0.0.1"),
            (&["for"], "10.0.0.1"),
            (&["for=\"203.0.113.9"], "10.0.0.1"),
            (&["203.0.113.9"], "10.0.0.1"),
            // what a client left open does not reach what the proxy appended
            (&["for=\"1.2.3.4, for=203.0.113.9"], "203.0.113.9"),
            (&["for=1.2.3.4\\, for=203.0.113.9;host=\"x\""], "203.0.113.9"),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", "198.51.100.1".parse().unwrap());
            for line in *lines {
                headers.append("forwarded", line.parse().unwrap());
            }
            let client = client_address(Field::Forwarded, &trusted, address("10.0.0.1"), &headers);
            assert_eq!(client, address(expected), "{lines:?}");
        }
    }

    #[test]
    fn the_field_that_is_not_configured_is_not_believed() {
        let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
        let mut headers = HeaderMap::new();
        headers.append("forwarded", "for=198.51.100.1".parse().unwrap());
        let peer = address("10.0.0.1");
        assert_eq!(client_address(Field::XForwardedFor, &trusted, peer, &headers), peer);
        headers.append("x-forwarded-for", "203.0.113.9".parse().unwrap());
        let client = client_address(Field::XForwardedFor, &trusted, peer, &headers);
        assert_eq!(client, address("203.0.113.9"));
    }

    proptest! {
        #[test]
        fn an_untrusted_peer_is_always_the_client(line in "[ -~]{0,60}") {
            let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", HeaderValue::from_str(&line).unwrap());
            headers.append("forwarded", HeaderValue::from_str(&line).unwrap());
            let peer = address("192.0.2.1");
            for field in [Field::XForwardedFor, Field::Forwarded] {
                prop_assert_eq!(client_address(field, &trusted, peer, &headers), peer);
            }
        }

        #[test]
        fn whatever_a_client_writes_is_left_of_what_its_proxy_appends(line in "[ -~]{0,60}") {
            let trusted = AddressSet::new(&networks(&["10.0.0.0/8"]));
            let mut headers = HeaderMap::new();
            let appended = |end: &str| HeaderValue::from_str(&format!("{line}, {end}")).unwrap();
            headers.append("x-forwarded-for", appended("203.0.113.9"));
            headers.append("forwarded", appended("for=203.0.113.9;host=\"a\""));
            for field in [Field::XForwardedFor, Field::Forwarded] {
                let client = client_address(field, &trusted, address("10.0.0.1"), &headers);
                prop_assert_eq!(client, address("203.0.113.9"));
            }
        }
    }
}
