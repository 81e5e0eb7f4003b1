//! The gate: who comes in, how often, from which page, and as whom.
//!
//! Everything here decides from what is in memory. One [`Gate`] is shared by all workers; it takes
//! no lock that is held while anything waits.

pub mod address;
pub mod auth;
pub mod origin;
pub mod rate;

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::units::Rate;

pub use address::Refusal;
pub use origin::BadOrigin;
pub use rate::Wait;

/// What the gate is told; the default lets every address in at any rate, believes no proxy and
/// lets only pages of the same origin open a socket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Networks that may come in; empty is all.
    pub allow: Vec<IpNet>,
    /// Networks that may not, even when allowed.
    pub deny: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// HTTP requests of one address; none is no limit.
    pub http: Option<Rate>,
    /// Socket messages of one address; none is no limit.
    pub messages: Option<Rate>,
    /// Origins that may open a socket besides the same one.
    pub allowed_origins: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    addresses: address::AddressRules,
    trusted_proxies: address::AddressSet,
    http: Option<rate::Limiter>,
    messages: Option<rate::Limiter>,
    origins: origin::Origins,
}

impl Gate {
    pub fn new(options: &Options) -> Result<Self, BadOrigin> {
        Ok(Gate {
            addresses: address::AddressRules::new(&options.allow, &options.deny),
            trusted_proxies: address::AddressSet::new(&options.trusted_proxies),
            http: options.http.map(rate::Limiter::new),
            messages: options.messages.map(rate::Limiter::new),
            origins: origin::Origins::new(&options.allowed_origins)?,
        })
    }

    /// The address that the other methods are to be asked about.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        address::client_address(&self.trusted_proxies, peer, headers)
    }

    /// Whether `peer` is a trusted proxy, whose forwarded headers are extended, not replaced.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(peer)
    }

    pub fn admit(&self, client: IpAddr) -> Result<(), Refusal> {
        self.addresses.admit(client)
    }

    /// Spends one HTTP request of the client's budget.
    pub fn spend_http(&self, client: IpAddr) -> Result<(), Wait> {
        self.http.as_ref().map_or(Ok(()), |limiter| limiter.spend(client))
    }

    /// Spends one socket message of the client's budget.
    pub fn message_budget(&self, client: IpAddr) -> Result<(), Wait> {
        self.messages.as_ref().map_or(Ok(()), |limiter| limiter.spend(client))
    }

    /// Whether the page that sent these headers may open a socket on `host`.
    pub fn origin_allowed(&self, headers: &HeaderMap, host: &str) -> bool {
        self.origins.allows(headers, host)
    }

    /// Forgets clients whose budgets are full again. To be called every minute or so.
    pub fn sweep(&self) {
        for limiter in [&self.http, &self.messages].into_iter().flatten() {
            limiter.sweep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn by_default_all_come_in_and_only_the_same_origin_opens_a_socket() {
        let gate = Gate::new(&Options::default()).unwrap();
        let client = address("192.0.2.1");
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        assert_eq!(gate.client_address(client, &headers), client);
        assert_eq!(gate.admit(client), Ok(()));
        for _ in 0..1000 {
            assert_eq!(gate.spend_http(client), Ok(()));
            assert_eq!(gate.message_budget(client), Ok(()));
        }
        headers.insert("origin", "http://example.com".parse().unwrap());
        assert!(gate.origin_allowed(&headers, "example.com"));
        assert!(!gate.origin_allowed(&headers, "other.example"));
    }

    #[test]
    fn every_option_reaches_its_rule() {
        let once_a_day = Rate {
            count: 1.try_into().unwrap(),
            per: Duration::from_secs(86_400),
            burst: 1.try_into().unwrap(),
        };
        let gate = Gate::new(&Options {
            allow: vec!["192.0.2.0/24".parse().unwrap()],
            deny: vec!["192.0.2.9/32".parse().unwrap()],
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            http: Some(once_a_day),
            messages: Some(once_a_day),
            allowed_origins: vec!["https://app.example".to_owned()],
        })
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let client = gate.client_address(address("10.0.0.1"), &headers);
        assert_eq!(client, address("192.0.2.1"));
        assert!(gate.trusts(address("::ffff:10.0.0.1")) && !gate.trusts(client));
        assert_eq!(gate.admit(client), Ok(()));
        assert_eq!(gate.admit(address("192.0.2.9")), Err(Refusal::Denied));
        assert_eq!(gate.admit(address("192.0.3.1")), Err(Refusal::NotAllowed));
        // the two budgets are two
        assert_eq!(gate.spend_http(client), Ok(()));
        assert_eq!(gate.message_budget(client), Ok(()));
        assert!(gate.spend_http(client).unwrap_err().seconds() > 86_000);
        assert!(gate.message_budget(client).unwrap_err().seconds() > 86_000);
        gate.sweep();
        assert!(gate.spend_http(client).is_err());
        headers.insert("origin", "https://app.example".parse().unwrap());
        assert!(gate.origin_allowed(&headers, "api.example"));
    }

    #[test]
    fn a_bad_origin_does_not_start() {
        let options = Options { allowed_origins: vec!["app.example".into()], ..Options::default() };
        assert_eq!(Gate::new(&options).unwrap_err().entry, "app.example");
    }
}
