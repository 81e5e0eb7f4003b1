//! The gate: who comes in, how often, from which page, and as whom.
//!
//! Everything here decides from what is in memory. One [`Gate`] is shared by all workers; it takes
//! no lock that is held while anything waits.

pub mod address;
pub mod auth;
pub mod ban;
pub mod budget;
pub mod forwarded;
pub mod origin;
pub mod rate;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use tokio::time::Instant;

use crate::rejection::Rejection;
use crate::units::Rate;

pub use address::Refusal;
pub use ban::{Ban, Offence};
pub use budget::{Account, Action, Caller, Rates};
pub use origin::BadOrigin;
pub use rate::Wait;

/// What the gate is told; the default lets every address in at any rate, believes no proxy and
/// lets only pages of the same origin open a socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Networks that may come in; empty is all.
    pub allow: Vec<IpNet>,
    /// Networks that may not, even when allowed.
    pub deny: Vec<IpNet>,
    /// A file with more of those, read again when it changes.
    pub deny_file: Option<PathBuf>,
    /// Whose word about their client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// In which field they give it.
    pub client_header: forwarded::Field,
    /// Their connections begin with the header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Of one address.
    pub rates: Rates,
    /// Of one credential.
    pub credential_rates: Rates,
    /// Credentials of one address that are refused; none is no limit.
    pub auth_failures: Option<Rate>,
    pub ban: ban::Options,
    /// Where a request carries its credential; cookies count where it is not there.
    pub credential_header: HeaderName,
    /// Origins that may open a socket besides the same one.
    pub allowed_origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            deny_file: None,
            trusted_proxies: Vec::new(),
            client_header: forwarded::Field::default(),
            proxy_protocol: false,
            rates: Rates::default(),
            credential_rates: Rates::default(),
            auth_failures: None,
            ban: ban::Options::default(),
            credential_header: header::AUTHORIZATION,
            allowed_origins: Vec::new(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    addresses: address::AddressRules,
    /// From the file.
    denied: ArcSwap<address::AddressSet>,
    /// One of these two has something: else no address need be looked up.
    listed: AtomicBool,
    bans: ban::Bans,
    /// Counts what may have shut out somebody who was in.
    shutouts: Arc<AtomicU64>,
    /// How many gates there were before this one.
    number: u64,
    trusted_proxies: address::AddressSet,
    client_header: forwarded::Field,
    budgets: budget::Budgets,
    credential_header: HeaderName,
    auth_failures: Option<Arc<rate::Limiter>>,
    origins: origin::Origins,
}

impl Gate {
    /// `deny_file` is not read here: see [`Gate::deny_also`].
    pub fn new(options: &Options) -> Result<Self, BadOrigin> {
        let (rates, credential_rates) = (&options.rates, &options.credential_rates);
        let header = options.credential_header.clone();
        Self::with(
            options,
            ban::Bans::new(&options.ban, &options.trusted_proxies),
            budget::Budgets::new(rates, credential_rates, header),
            options.auth_failures.map(|rate| rate::Limiter::succeed(None, rate)),
        )
    }

    /// The gate that takes this one's place: it keeps every ban, and what was spent of each rate
    /// that is the same. What the one in whose place it is counts still counts here.
    pub fn succeed(&self, options: &Options) -> Result<Self, BadOrigin> {
        let (rates, credential_rates) = (&options.rates, &options.credential_rates);
        let header = options.credential_header.clone();
        let failures = self.auth_failures.as_ref();
        let gate = Self::with(
            options,
            self.bans.succeed(&options.ban, &options.trusted_proxies),
            self.budgets.succeed(rates, credential_rates, header),
            options.auth_failures.map(|rate| rate::Limiter::succeed(failures, rate)),
        )?;
        Ok(Self { shutouts: Arc::clone(&self.shutouts), number: self.number + 1, ..gate })
    }

    fn with(
        options: &Options,
        bans: ban::Bans,
        budgets: budget::Budgets,
        auth_failures: Option<Arc<rate::Limiter>>,
    ) -> Result<Self, BadOrigin> {
        let addresses = address::AddressRules::new(&options.allow, &options.deny);
        Ok(Gate {
            listed: AtomicBool::new(!addresses.is_open()),
            addresses,
            denied: ArcSwap::default(),
            bans,
            shutouts: Arc::default(),
            number: 0,
            trusted_proxies: address::AddressSet::new(&options.trusted_proxies),
            client_header: options.client_header,
            budgets,
            credential_header: options.credential_header.clone(),
            auth_failures,
            origins: origin::Origins::new(&options.allowed_origins)?,
        })
    }

    /// Tells this gate from those in whose place it is: what was decided by another must be
    /// decided again.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The address that the other methods are to be asked about.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        forwarded::client_address(self.client_header, &self.trusted_proxies, peer, headers)
    }

    /// The field in which trusted proxies name their client.
    pub fn client_header(&self) -> forwarded::Field {
        self.client_header
    }

    /// Whether `peer` is a trusted proxy, whose forwarded headers are extended, not replaced.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(peer)
    }

    pub fn admit(&self, client: IpAddr) -> Result<(), Refusal> {
        if self.listed.load(Ordering::Relaxed) {
            if self.denied.load().contains(client) {
                return Err(Refusal::Denied);
            }
            self.addresses.admit(client)?;
        }
        match self.bans.left(client, Instant::now) {
            Some(left) => Err(Refusal::Banned { left }),
            None => Ok(()),
        }
    }

    /// Denies these networks, besides the configured ones and instead of those of the last call.
    pub fn deny_also(&self, networks: address::AddressSet) {
        self.listed.store(!(self.addresses.is_open() && networks.is_empty()), Ordering::Relaxed);
        self.denied.store(networks.into());
        self.shutouts.fetch_add(1, Ordering::Release);
    }

    /// Another number than before when somebody who was in may have been shut out meanwhile, whose
    /// connections are then to be ended.
    pub fn shutouts(&self) -> u64 {
        self.shutouts.load(Ordering::Acquire)
    }

    /// Counts against the client what it has done; too much of it is a ban.
    pub fn offend(&self, client: IpAddr, offence: Offence) {
        if self.bans.offend(client, offence, Instant::now()) {
            self.shutouts.fetch_add(1, Ordering::Release);
            tracing::warn!(%client, cause = %offence, "banned");
        }
    }

    /// Bans whoever has this address, on an operator's word; false if it is banned already.
    pub fn ban(&self, address: IpAddr) -> bool {
        let banned = self.bans.impose(address, Instant::now());
        if banned {
            self.shutouts.fetch_add(1, Ordering::Release);
            tracing::warn!(client = %address, cause = %Offence::Operator, "banned");
        }
        banned
    }

    /// Every ban in force, the one that ends first at the beginning.
    pub fn bans(&self) -> Vec<Ban> {
        self.bans.list(Instant::now())
    }

    /// Ends the bans of the addresses in `network`; whether there was one.
    pub fn lift(&self, network: IpNet) -> bool {
        let lifted = self.bans.lift(network, Instant::now());
        if lifted {
            tracing::info!(%network, "ban lifted");
        }
        lifted
    }

    /// Who acts, for [`Gate::spend`], as the fields of the request say.
    pub fn caller<'f>(
        &self,
        address: IpAddr,
        fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    ) -> Caller {
        self.budgets.caller(address, fields)
    }

    /// Spends what an action costs, and notes in `account` what is left.
    pub fn spend(&self, action: Action, caller: Caller, account: &mut Account) -> Result<(), Wait> {
        self.budgets.spend(action, caller, account)
    }

    /// Whether it matters here how a request ends.
    pub fn watches(&self) -> bool {
        self.auth_failures.is_some() || self.bans.can_ban()
    }

    /// Whether a request with these headers could be refused for its credential.
    pub fn carries_credential(&self, headers: &HeaderMap) -> bool {
        let names = [&self.credential_header, &header::AUTHORIZATION, &header::COOKIE];
        names.into_iter().any(|name| headers.contains_key(name))
    }

    /// Whether the client may still try a credential.
    pub fn may_authenticate(&self, client: IpAddr) -> Result<(), Wait> {
        let failures = self.auth_failures.as_ref();
        failures.map_or(Ok(()), |limiter| limiter.peek(rate::Key::of_address(client)))
    }

    /// A credential of the client was refused.
    pub fn bad_credential(&self, client: IpAddr) {
        if let Some(limiter) = &self.auth_failures {
            // When there is none left to spend, tries that were under way have failed too.
            let _ = limiter.spend(rate::Key::of_address(client));
        }
        self.offend(client, Offence::BadCredential);
    }

    /// Whether the page that sent these headers may open a socket on `host`.
    pub fn origin_allowed(&self, headers: &HeaderMap, host: &str) -> bool {
        self.origins.allows(headers, host)
    }

    /// Forgets clients whose budgets are full again, and bans that are over. To be called every
    /// minute or so.
    pub fn sweep(&self) {
        self.budgets.sweep();
        self.bans.sweep(Instant::now());
        if let Some(limiter) = &self.auth_failures {
            limiter.sweep();
        }
    }
}

/// What a client is told that may not be here.
impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Banned { left } => Self::Banned { left },
            Refusal::Denied | Refusal::NotAllowed => Self::Forbidden("this address is refused"),
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
        let mut account = Account::default();
        for action in [Action::Read, Action::Write, Action::Message, Action::Bind].repeat(100) {
            assert_eq!(gate.spend(action, Caller::of_address(client), &mut account), Ok(()));
            gate.bad_credential(client);
        }
        assert!(account.is_empty());
        assert_eq!(gate.may_authenticate(client), Ok(()));
        assert_eq!(gate.admit(client), Ok(()));
        assert_eq!(gate.shutouts(), 0);
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
            rates: Rates { http: Some(once_a_day), ..Rates::default() },
            credential_rates: Rates { binds: Some(once_a_day), ..Rates::default() },
            auth_failures: Some(once_a_day),
            allowed_origins: vec!["https://app.example".to_owned()],
            ..Options::default()
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
        // the budgets are different ones
        headers.insert("authorization", "Bearer a".parse().unwrap());
        let caller = gate.caller(client, headers.iter());
        for action in [Action::Read, Action::Bind] {
            let spend = || gate.spend(action, caller, &mut Account::default());
            assert_eq!(spend(), Ok(()));
            assert!(spend().unwrap_err().seconds() > 86_000);
        }
        assert_eq!(gate.may_authenticate(client), Ok(()));
        gate.bad_credential(client);
        assert!(gate.may_authenticate(client).unwrap_err().seconds() > 86_000);
        gate.sweep();
        assert!(gate.may_authenticate(client).is_err());
        headers.insert("origin", "https://app.example".parse().unwrap());
        assert!(gate.origin_allowed(&headers, "api.example"));
    }

    #[test]
    fn a_gate_that_takes_anothers_place_keeps_bans_and_what_was_spent_of_the_same_rates() {
        let rate = |text: &str| Some(text.parse().unwrap());
        let mut options = Options {
            rates: Rates { http: rate("2/d"), writes: rate("1/d"), ..Rates::default() },
            credential_rates: Rates { binds: rate("1/d"), ..Rates::default() },
            auth_failures: rate("1/d"),
            ban: ban::Options { after: rate("1/d"), ..ban::Options::default() },
            ..Options::default()
        };
        let first = Gate::new(&options).unwrap();
        let (client, banned) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer a".parse().unwrap());
        let spend = |gate: &Gate, action| {
            let caller = gate.caller(client, headers.iter());
            gate.spend(action, caller, &mut Account::default()).is_ok()
        };
        assert!(spend(&first, Action::Write) && spend(&first, Action::Bind));
        first.bad_credential(client);
        first.ban(banned);
        options.deny = vec!["192.0.2.3/32".parse().unwrap()];
        options.rates.writes = rate("5/d");
        let second = first.succeed(&options).unwrap();
        assert_ne!(first.number(), second.number());
        assert_eq!(first.admit(address("192.0.2.3")), Ok(()));
        assert_eq!(second.admit(address("192.0.2.3")), Err(Refusal::Denied));
        assert!(matches!(second.admit(banned), Err(Refusal::Banned { .. })));
        // One more of all requests, and then none, whatever of the new rate of writes is left.
        assert!(spend(&second, Action::Write) && !spend(&second, Action::Write));
        assert!(!spend(&second, Action::Bind), "the credential is known by the same hash");
        assert!(second.may_authenticate(client).is_err());
        // What is under way at the first one still counts.
        let before = second.shutouts();
        first.offend(client, Offence::OverRate);
        assert!(matches!(second.admit(client), Err(Refusal::Banned { .. })));
        assert_ne!(second.shutouts(), before);
        assert!(second.lift(client.into()) && first.admit(client).is_ok());
    }

    #[test]
    fn a_bad_origin_does_not_start() {
        let options = Options { allowed_origins: vec!["app.example".into()], ..Options::default() };
        assert_eq!(Gate::new(&options).unwrap_err().entry, "app.example");
    }
    #[test]
    fn the_list_of_a_file_is_replaced_whole_and_the_configured_one_stays() {
        let deny = vec!["192.0.2.0/24".parse().unwrap()];
        let gate = Gate::new(&Options { deny, ..Options::default() }).unwrap();
        let set = |text| address::parse_list(text).unwrap();
        gate.deny_also(set("198.51.100.1"));
        let before = gate.shutouts();
        assert_eq!(gate.admit(address("198.51.100.1")), Err(Refusal::Denied));
        gate.deny_also(set("203.0.113.0/24"));
        assert_ne!(gate.shutouts(), before);
        assert_eq!(gate.admit(address("198.51.100.1")), Ok(()));
        for denied in ["203.0.113.9", "192.0.2.1"] {
            assert_eq!(gate.admit(address(denied)), Err(Refusal::Denied));
        }
        gate.deny_also(set(""));
        assert_eq!(gate.admit(address("203.0.113.9")), Ok(()));
        assert_eq!(gate.admit(address("192.0.2.1")), Err(Refusal::Denied));
    }

    #[test]
    fn who_offends_too_often_is_banned_until_the_ban_is_lifted() {
        let after = Some("2/d".parse().unwrap());
        let ban = ban::Options { after, ..ban::Options::default() };
        let gate = Gate::new(&Options { ban, ..Options::default() }).unwrap();
        let client = address("192.0.2.1");
        for _ in 0..2 {
            gate.offend(client, Offence::OverRate);
            assert_eq!((gate.admit(client), gate.shutouts()), (Ok(()), 0));
        }
        gate.bad_credential(client);
        let Err(Refusal::Banned { left }) = gate.admit(client) else { panic!("not banned") };
        assert!(left > Duration::from_secs(590));
        assert_eq!(gate.shutouts(), 1);
        let [ban] = gate.bans()[..] else { panic!("{:?}", gate.bans()) };
        assert_eq!(ban.network, IpNet::from(client));
        assert_eq!(ban.cause, Offence::BadCredential);
        assert!(gate.lift(client.into()));
        assert_eq!(gate.admit(client), Ok(()));
        assert!(!gate.lift(client.into()) && gate.bans().is_empty());
    }
}
