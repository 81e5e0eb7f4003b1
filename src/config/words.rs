//! The words that configuration writes as strings: addresses, origins, headers, paths.
//! Parsed here once; whoever holds one need not doubt it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, Method};
use ipnet::IpNet;

use crate::as_text;
use crate::gate::origin::Origins;
use crate::namespace::Name;
use crate::units::{Malformed, Notation};

as_text!(
    Listen,
    UpstreamUrl,
    KeySetUrl,
    Network,
    Origin,
    Host,
    Header,
    Token,
    Path,
    Target,
    Logout,
    Namespace
);

/// Where Pogo listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.parse().map(Self).map_err(|_| Malformed::Shape)
    }
}

impl Notation for Listen {
    const EXPECTED: &'static str =
        r#"an IP address and a port such as "127.0.0.1:8080" or "[::]:8080""#;
}

/// The API that Pogo stands in front of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub https: bool,
    /// `127.0.0.1:3000`
    pub origin: Authority,
}

impl FromStr for UpstreamUrl {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (scheme, rest) = text.split_once("://").ok_or(Malformed::Shape)?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(Malformed::Shape);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            // Not quoted: what stands before the @ may be a password.
            return Err(Malformed::refused("a user name or password does not belong in this URL"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(Malformed::refused(format!(
                "{text:?} has a path; paths reach the upstream as the client wrote them, \
                 so only a scheme, a host and a port belong here"
            )));
        }
        Ok(Self { https, origin: authority(rest)? })
    }
}

impl Notation for UpstreamUrl {
    const EXPECTED: &'static str = r#"a URL such as "http://127.0.0.1:3000""#;
}

/// An authority whose port, if any, is a port.
fn authority(text: &str) -> Result<Authority, Malformed> {
    let authority: Authority = text.parse().map_err(|_| Malformed::Shape)?;
    let after_host = text.get(authority.host().len()..).unwrap_or_default();
    let good_port = after_host.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
    if authority.host().is_empty() || !good_port { Err(Malformed::Shape) } else { Ok(authority) }
}

/// Where the keys of an identity provider are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetUrl(pub String);

impl FromStr for KeySetUrl {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        service(text).map(Self)
    }
}

/// The URL of a service that Pogo itself asks.
pub(super) fn service(text: &str) -> Result<String, Malformed> {
    let url: http::Uri = text.parse().map_err(|_| Malformed::Shape)?;
    let host = url.authority().map(Authority::as_str).unwrap_or_default();
    if host.contains('@') {
        return Err(Malformed::refused("a user name or password does not belong in this URL"));
    }
    authority(host)?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(text.to_owned()),
        _ => Err(Malformed::Shape),
    }
}

impl Notation for KeySetUrl {
    const EXPECTED: &'static str = r#"a URL such as "https://id.example/.well-known/jwks.json""#;
}

/// A range of addresses; a single address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let net: IpNet = text.parse().map_err(|_| Malformed::Shape)?;
        if net.trunc() != net {
            return Err(Malformed::refused(format!(
                "{net} names an address inside a range; expected \"{}\" for the range or \"{}\" \
                 for the address",
                net.trunc(),
                net.addr()
            )));
        }
        Ok(Self(net))
    }
}

impl Notation for Network {
    const EXPECTED: &'static str = r#"an address or a range such as "10.0.0.0/8" or "2001:db8::1""#;
}

/// A web origin, in any form that the gate knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub String);

impl Origin {
    /// Every page, whatever its origin.
    pub const ANY: &str = "*";
}

impl FromStr for Origin {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match Origins::new(&[text.to_owned()]) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Malformed::Shape),
        }
    }
}

impl Notation for Origin {
    const EXPECTED: &'static str =
        r#"an origin such as "https://app.example": a scheme, a host, maybe a port, no path"#;
}

/// A name that a server is spoken to under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl FromStr for Host {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        match !text.is_empty() && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(Malformed::Shape),
        }
    }
}

impl Notation for Host {
    const EXPECTED: &'static str = r#"a host name without a port such as "pogo.internal""#;
}

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(pub HeaderName);

impl FromStr for Header {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.parse().map(Self).map_err(|_| Malformed::Shape)
    }
}

impl Notation for Header {
    const EXPECTED: &'static str = r#"a header name such as "authorization""#;
}

/// A word that may stand in a header without quoting (RFC 9110 §5.6.2), or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl FromStr for Token {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if text.chars().all(allowed) { Ok(Self(text.to_owned())) } else { Err(Malformed::Shape) }
    }
}

impl Notation for Token {
    const EXPECTED: &'static str = r#"a single word such as "pogo", or "" for none"#;
}

/// A path of this server, taken literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub String);

impl FromStr for Path {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parsed: PathAndQuery = text.parse().map_err(|_| Malformed::Shape)?;
        let literal = text.starts_with('/') && !text.contains(['?', '#', '{', '}', '*']);
        if literal { Ok(Self(parsed.path().to_owned())) } else { Err(Malformed::Shape) }
    }
}

impl Notation for Path {
    const EXPECTED: &'static str = r#"a path such as "/live", without a query or a pattern"#;
}

/// A path of the upstream, with or without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(pub PathAndQuery);

impl FromStr for Target {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if !text.starts_with('/') || text.contains('#') {
            return Err(Malformed::Shape);
        }
        text.parse().map(Self).map_err(|_| Malformed::Shape)
    }
}

impl Notation for Target {
    const EXPECTED: &'static str = r#"a path on the upstream such as "/me""#;
}

/// A request that ends its credential's sessions: `"POST /logout"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logout {
    pub method: Method,
    pub path: String,
}

impl FromStr for Logout {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (method, path) = text.split_once(' ').ok_or(Malformed::Shape)?;
        let method = match method {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(Malformed::Shape),
        };
        let Path(path) = path.parse()?;
        Ok(Self { method, path })
    }
}

/// The name of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(pub Name);

impl FromStr for Namespace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Name::new(text).map(Self).map_err(|_| Malformed::Shape)
    }
}

impl Notation for Namespace {
    const EXPECTED: &'static str = r#"a path such as "/analytics", of letters, digits and "-._~""#;
}

impl fmt::Display for Logout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Notation for Logout {
    const EXPECTED: &'static str = r#"a method and a path such as "POST /logout""#;
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.origin)
    }
}

macro_rules! display_as_inner {
    ($($kind:ty),+) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

display_as_inner!(Listen, KeySetUrl, Network, Origin, Host, Header, Token, Path, Target, Namespace);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Notation + fmt::Debug>(text: &str) {
        let read = text.parse::<T>();
        assert!(read.is_err(), "{text:?} was read as {read:?}");
    }

    fn reads_as<T: Notation>(text: &str, printed: &str) {
        let read = text.parse::<T>().map(|value| value.to_string());
        assert_eq!(read.as_deref(), Ok(printed), "{text:?}");
    }

    #[test]
    fn an_upstream_is_an_origin() {
        reads_as::<UpstreamUrl>("https://api.example", "https://api.example");
        reads_as::<UpstreamUrl>("HTTPS://localhost:3443/", "https://localhost:3443");
        reads_as::<UpstreamUrl>("http://localhost:3000", "http://localhost:3000");
        reads_as::<UpstreamUrl>("http://api.internal/", "http://api.internal");
        reads_as::<UpstreamUrl>("http://[::1]:3000", "http://[::1]:3000");
        for text in [
            "localhost:3000",
            "ftp://localhost",
            "http://",
            "http:///x",
            "http://a b",
            "http://localhost:port",
            "http://localhost:",
            "http://localhost:99999",
            "http://localhost:0",
            "http://localhost/api",
            "http://localhost?x",
        ] {
            refused::<UpstreamUrl>(text);
        }
        let refusal = "http://me:hunter2@localhost".parse::<UpstreamUrl>().unwrap_err();
        assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
    }

    #[test]
    fn an_origin_is_what_the_gate_takes_for_one() {
        for text in ["https://app.example", "http://localhost:5173", "capacitor://localhost", "*"] {
            reads_as::<Origin>(text, text);
        }
        for text in ["", "**", "app.example", "https://a/", "https://*.a", "https://", "://a"] {
            refused::<Origin>(text);
        }
    }

    #[test]
    fn a_network_is_a_range_or_an_address() {
        reads_as::<Network>("10.0.0.0/8", "10.0.0.0/8");
        reads_as::<Network>("10.1.2.3", "10.1.2.3/32");
        reads_as::<Network>("::1", "::1/128");
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0", "localhost", ""] {
            refused::<Network>(text);
        }
    }

    #[test]
    fn paths_begin_with_a_slash() {
        reads_as::<Path>("/", "/");
        reads_as::<Path>("/live", "/live");
        reads_as::<Target>("/me?full=1", "/me?full=1");
        for text in ["", "live", "/live?x", "/{id}", "/a b", "*"] {
            refused::<Path>(text);
        }
        for text in ["", "me", "http://other/me", "/me#x"] {
            refused::<Target>(text);
        }
    }

    #[test]
    fn a_logout_is_a_method_and_a_path() {
        reads_as::<Logout>("POST /logout", "POST /logout");
        reads_as::<Logout>("DELETE /session", "DELETE /session");
        for text in [
            "/logout",
            "post /logout",
            "POST logout",
            "POST /users/{id}/logout",
            "POST  /a",
            "POST /a b",
        ] {
            refused::<Logout>(text);
        }
    }
}
