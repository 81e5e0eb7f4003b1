//! May this page open a socket.
//!
//! Browsers send cookies with a cross-site WebSocket handshake and do not ask first, so the
//! `Origin` they send is the only thing that tells a page of ours from any other. What is no
//! browser sends none, and is let through: it has no cookies but its own.

use http::HeaderMap;
use http::header::ORIGIN;
use http::uri::Authority;

/// An entry of the list that is no origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOrigin {
    pub entry: String,
}

impl std::fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is no origin; expected scheme://host or scheme://host:port with nothing after \
             it (an international name in its xn-- form), \"null\", or \"*\" for any",
            self.entry
        )
    }
}

impl std::error::Error for BadOrigin {}

/// The origins that may open a socket besides the request's own.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    any: bool,
    null: bool,
    listed: Vec<Origin>,
}

impl Origins {
    pub fn new(allowed: &[String]) -> Result<Self, BadOrigin> {
        let mut origins = Origins::default();
        for entry in allowed {
            match entry.as_str() {
                "*" => origins.any = true,
                "null" => origins.null = true,
                text => origins
                    .listed
                    .push(Origin::parse(text).ok_or_else(|| BadOrigin { entry: entry.clone() })?),
            }
        }
        Ok(origins)
    }

    /// `host` is the request's `Host` (or `:authority`) as it came.
    pub fn allows(&self, headers: &HeaderMap, host: &str) -> bool {
        let mut lines = headers.get_all(ORIGIN).iter();
        let Some(line) = lines.next() else { return true };
        if self.any {
            return true;
        }
        // Two lines leave open whose word counts.
        if lines.next().is_some() {
            return false;
        }
        let Ok(text) = line.to_str() else { return false };
        if text == "null" {
            return self.null;
        }
        Origin::parse(text)
            .is_some_and(|origin| origin.is_of(host) || self.listed.contains(&origin))
    }
}

/// `scheme://host[:port]` in lower case, without the port that the scheme implies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        if !letters.next()?.is_ascii_alphabetic()
            || !letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = host_and_port(rest)?;
        let port = port.filter(|port| Some(*port) != implied_port(&scheme));
        Some(Origin { scheme, host, port })
    }

    /// Whether the page came from the host that is asked now. The scheme is not compared, since
    /// behind a TLS terminator nobody here knows it; a `Host` without a port therefore stands for
    /// the port that the page's own scheme implies.
    fn is_of(&self, host: &str) -> bool {
        let Some(implied) = implied_port(&self.scheme) else { return false };
        let Some((host, port)) = host_and_port(host) else { return false };
        self.host == host && self.port.unwrap_or(implied) == port.unwrap_or(implied)
    }
}

fn implied_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The parts of `host[:port]`; nothing else may be there, and an empty or impossible port is an
/// error, not the default.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => None,
        rest => Some(rest.strip_prefix(':').filter(|port| is_number(port))?.parse().ok()?),
    };
    is_host(host).then(|| (host.to_ascii_lowercase(), port))
}

/// A name or an address, not the sub-delimiters that an authority may also hold: a wildcard would
/// otherwise look like a host and match nothing.
fn is_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(name)
        }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn allows(listed: &[&str], lines: &[&str], host: &str) -> bool {
        let listed: Vec<String> = listed.iter().map(|entry| (*entry).to_owned()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ORIGIN, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Origins::new(&listed).unwrap().allows(&headers, host)
    }

    #[test]
    fn same_origin_is_the_same_host_and_port() {
        let cases = [
            ("http://example.com", "example.com", true),
            ("https://example.com", "example.com", true),
            ("https://EXAMPLE.com", "Example.COM", true),
            ("http://example.com:8080", "example.com:8080", true),
            ("ws://example.com:8080", "example.com:8080", true),
            ("http://example.com:80", "example.com", true),
            ("http://example.com", "example.com:80", true),
            ("https://example.com", "example.com:443", true),
            ("http://[2001:db8::1]:8080", "[2001:DB8::1]:8080", true),
            ("https://example.com", "example.com:80", false),
            ("http://example.com", "example.com:443", false),
            ("http://example.com:8080", "example.com", false),
            ("http://example.com", "example.com:8080", false),
            ("http://example.com:8080", "example.com:8081", false),
            ("http://evil.example", "example.com", false),
            ("http://example.com.evil.example", "example.com", false),
            ("http://sub.example.com", "example.com", false),
            ("http://evilexample.com", "example.com", false),
            ("chrome-extension://example.com", "example.com", false),
            // what is no origin is nobody's
            ("null", "null", false),
            ("", "example.com", false),
            ("example.com", "example.com", false),
            ("http://", "", false),
            ("http://example.com/", "example.com", false),
            ("http://example.com/path", "example.com", false),
            ("http://example.com?", "example.com", false),
            ("http://example.com#", "example.com", false),
            ("http://user@example.com", "example.com", false),
            ("http://user@example.com", "user@example.com", false),
            ("http://example.com:", "example.com", false),
            ("http://example.com:65536", "example.com", false),
            ("http://example.com:+80", "example.com", false),
            ("http://example.com http://example.com", "example.com", false),
            ("http://example.com, http://evil.example", "example.com", false),
            ("http://ex\u{e4}mple.com", "ex\u{e4}mple.com", false),
            ("1http://example.com", "example.com", false),
        ];
        for (origin, host, expected) in cases {
            assert_eq!(allows(&[], &[origin], host), expected, "{origin} at {host}");
        }
    }

    #[test]
    fn a_listed_origin_is_matched_exactly() {
        let listed = ["https://app.example", "http://localhost:3000", "HTTPS://Upper.Example:443"];
        let cases = [
            ("https://app.example", true),
            ("https://APP.example", true),
            ("https://app.example:443", true),
            ("http://app.example", false),
            ("https://app.example:8443", false),
            ("https://app.example.evil.example", false),
            ("https://x.app.example", false),
            ("http://localhost:3000", true),
            ("http://localhost", false),
            ("https://upper.example", true),
            ("null", false),
        ];
        for (origin, expected) in cases {
            assert_eq!(allows(&listed, &[origin], "api.example"), expected, "{origin}");
        }
    }

    #[test]
    fn no_origin_is_fine_and_two_are_not() {
        assert!(allows(&[], &[], "example.com"));
        assert!(!allows(&[], &["http://example.com", "http://example.com"], "example.com"));
        let listed = ["http://a.example", "http://b.example"];
        assert!(!allows(&listed, &["http://a.example", "http://b.example"], "example.com"));
    }

    #[test]
    fn null_and_any_must_be_said() {
        assert!(!allows(&["http://a.example"], &["null"], "example.com"));
        assert!(allows(&["null"], &["null"], "example.com"));
        assert!(!allows(&["null"], &["http://a.example"], "example.com"));
        for origin in ["null", "http://a.example", "anything"] {
            assert!(allows(&["*"], &[origin], "example.com"), "{origin}");
        }
    }

    #[test]
    fn a_bad_entry_is_an_error() {
        let bad = [
            "",
            "app.example",
            "https://app.example/",
            "https://*.app.example",
            "https://app.example:",
            "https://user@app.example",
            "https://b\u{fc}cher.example",
            " https://app.example",
            "NULL",
        ];
        for entry in bad {
            let refused = Origins::new(&[entry.to_owned()]).unwrap_err();
            assert_eq!(refused.entry, entry);
            assert!(refused.to_string().contains("is no origin"));
        }
    }

    proptest! {
        #[test]
        fn only_a_page_of_the_host_itself_passes(origin in "[ -~]{0,40}", host in "[a-z]{1,8}\\.test") {
            let passes = allows(&[], &[&origin], &host);
            if passes {
                let lower = origin.to_ascii_lowercase();
                let rest = lower.split_once("://").unwrap().1;
                let with_port = format!("{host}:");
                prop_assert!(rest == host || rest.starts_with(&with_port));
            }
        }
    }
}
