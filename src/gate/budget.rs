//! What each action costs: the budgets that are configured, and what is left of them.

use std::fmt::Write;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::rate::{Key, Limiter, Wait};
use crate::units::Rate;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How often each action may be done; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// HTTP requests, REST over the socket included.
    pub http: Option<Rate>,
    /// Of those, the ones that are no reads.
    pub writes: Option<Rate>,
    /// Of those, the ones that open a WebSocket.
    pub connects: Option<Rate>,
    pub messages: Option<Rate>,
    pub binds: Option<Rate>,
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    Write,
    Connect,
    Message,
    Bind,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub address: IpAddr,
    /// Known where budgets of credentials are, and only if there is one.
    credential: Option<u64>,
}

impl Caller {
    pub fn of_address(address: IpAddr) -> Self {
        Self { address, credential: None }
    }
}

/// Every budget that is configured.
#[derive(Debug)]
pub struct Budgets {
    all: Vec<Budget>,
    by_credential: bool,
    credential_header: HeaderName,
    hasher: RandomState,
}

#[derive(Debug)]
struct Budget {
    name: &'static str,
    pays: &'static [Action],
    whose: Whose,
    limiter: Arc<Limiter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Address,
    Credential,
}

impl Budgets {
    pub fn new(address: &Rates, credential: &Rates, credential_header: HeaderName) -> Self {
        Self::after(&[], RandomState::new(), [address, credential], credential_header)
    }

    /// Budgets with these rates, of which those that are the same keep what was spent.
    pub fn succeed(
        &self,
        address: &Rates,
        credential: &Rates,
        credential_header: HeaderName,
    ) -> Self {
        // The credentials that are known keep their hashes.
        Self::after(&self.all, self.hasher.clone(), [address, credential], credential_header)
    }

    fn after(
        before: &[Budget],
        hasher: RandomState,
        [address, credential]: [&Rates; 2],
        credential_header: HeaderName,
    ) -> Self {
        let mut all = Vec::new();
        let names = ["http", "writes", "connects", "messages", "binds"];
        add(&mut all, before, Whose::Address, address, names);
        let names = [
            "credential-http",
            "credential-writes",
            "credential-connects",
            "credential-messages",
            "credential-binds",
        ];
        add(&mut all, before, Whose::Credential, credential, names);
        let by_credential = all.iter().any(|budget| budget.whose == Whose::Credential);
        Self { all, by_credential, credential_header, hasher }
    }

    /// Who uses these fields of a request: the credential is what the configured header carries,
    /// or, without it, the cookies.
    pub fn caller<'f>(
        &self,
        address: IpAddr,
        fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    ) -> Caller {
        if !self.by_credential {
            return Caller::of_address(address);
        }
        let (mut token, mut cookies) = (None, None);
        for (name, value) in fields {
            let text = value.as_bytes().trim_ascii();
            if *name == self.credential_header {
                // The same token in another spelling of its scheme is the same credential.
                let word = text.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
                self.add(&mut token, word);
            } else if *name == header::COOKIE {
                self.add(&mut cookies, text);
            }
        }
        let credential = token.or(cookies).map(|hasher| hasher.finish());
        Caller { address, credential }
    }

    fn add(&self, hash: &mut Option<DefaultHasher>, part: &[u8]) {
        let hasher = hash.get_or_insert_with(|| self.hasher.build_hasher());
        hasher.write(part);
        hasher.write_u8(0xff);
    }

    /// Spends what the action costs, and notes in `account` what is left.
    pub fn spend(&self, action: Action, caller: Caller, account: &mut Account) -> Result<(), Wait> {
        for budget in self.all.iter().filter(|budget| budget.pays.contains(&action)) {
            let key = match (budget.whose, caller.credential) {
                (Whose::Address, _) => Key::of_address(caller.address),
                (Whose::Credential, Some(hash)) => Key::of_credential(hash, caller.address),
                (Whose::Credential, None) => continue,
            };
            account.spend(budget.name, &budget.limiter, key)?;
        }
        Ok(())
    }

    pub fn sweep(&self) {
        self.all.iter().for_each(|budget| budget.limiter.sweep());
    }
}

fn add(
    all: &mut Vec<Budget>,
    before: &[Budget],
    whose: Whose,
    rates: &Rates,
    names: [&'static str; 5],
) {
    use Action::{Bind, Connect, Message, Read, Write};
    let pays: [&[Action]; 5] = [&[Read, Write, Connect], &[Write], &[Connect], &[Message], &[Bind]];
    let rates = [rates.http, rates.writes, rates.connects, rates.messages, rates.binds];
    for ((name, pays), rate) in names.into_iter().zip(pays).zip(rates) {
        if let Some(rate) = rate {
            let same = before.iter().find(|budget| budget.name == name);
            let limiter = Limiter::succeed(same.map(|budget| &budget.limiter), rate);
            all.push(Budget { name, pays, whose, limiter });
        }
    }
}

/// What one request has spent, of which budgets, and what is left of each.
#[derive(Debug, Default)]
pub struct Account(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    name: &'static str,
    quota: u32,
    window: u64,
    units: u32,
    /// Seconds until the budget is whole, or, when it is spent, until there is a unit.
    reset: u64,
}

impl Account {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn spend(&mut self, name: &'static str, limiter: &Limiter, key: Key) -> Result<(), Wait> {
        let spent = limiter.spend(key);
        let (quota, window) = limiter.whole();
        let (units, reset) = match spent {
            Ok(left) => (left.units, Wait { retry: left.whole_after }.seconds()),
            Err(wait) => (0, wait.seconds()),
        };
        self.0.push(Entry { name, quota, window, units, reset });
        spent.map(|_| ())
    }

    /// Tells the client (draft-ietf-httpapi-ratelimit-headers-10). An upstream that tells of its
    /// own limits is not overruled: both fields are lists.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        let (mut policy, mut limit) = (String::new(), String::new());
        for Entry { name, quota, window, units, reset } in &self.0 {
            let comma = if policy.is_empty() { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(policy, "{comma}\"{name}\";q={quota};w={window}");
            let _ = write!(limit, "{comma}\"{name}\";r={units};t={reset}");
        }
        for (name, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().unwrap())
    }

    fn budgets(address: Rates, credential: Rates) -> Budgets {
        Budgets::new(&address, &credential, header::AUTHORIZATION)
    }

    fn caller(budgets: &Budgets, fields: &[(HeaderName, &str)]) -> Caller {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let address = "192.0.2.1".parse().unwrap();
        budgets.caller(address, fields.iter().map(|(name, value)| (name, value)))
    }

    #[test]
    fn each_action_pays_from_the_budgets_that_it_belongs_to() {
        use Action::{Bind, Connect, Message, Read, Write};
        let once = rate("1/d");
        let none = Rates::default();
        let cases = [
            (Rates { http: once, ..none }, &[Read, Write, Connect][..]),
            (Rates { writes: once, ..none }, &[Write]),
            (Rates { connects: once, ..none }, &[Connect]),
            (Rates { messages: once, ..none }, &[Message]),
            (Rates { binds: once, ..none }, &[Bind]),
        ];
        for (rates, pay) in cases {
            for action in [Read, Write, Connect, Message, Bind] {
                for (address, credential) in [(rates, none), (none, rates)] {
                    let budgets = budgets(address, credential);
                    let caller = caller(&budgets, &[(header::AUTHORIZATION, "Bearer a")]);
                    let spend = || budgets.spend(action, caller, &mut Account::default()).is_ok();
                    assert_eq!([spend(), spend()], [true, !pay.contains(&action)], "{rates:?}");
                }
            }
        }
    }

    #[test]
    fn a_credential_is_its_token_however_it_is_spelled() {
        let by_credential =
            budgets(Rates::default(), Rates { http: rate("1/s"), ..Rates::default() });
        let of = |fields: &[(HeaderName, &str)]| caller(&by_credential, fields).credential;
        let (auth, cookie) = (header::AUTHORIZATION, header::COOKIE);
        let token = of(&[(auth.clone(), "Bearer one")]);
        assert!(token.is_some());
        assert_eq!(of(&[(auth.clone(), "bearer  one ")]), token);
        assert_eq!(of(&[(auth.clone(), "Bearer one"), (cookie.clone(), "a=1")]), token);
        assert_ne!(of(&[(auth.clone(), "Bearer two")]), token);
        assert_ne!(of(&[(cookie.clone(), "a=1; b=2")]), of(&[(cookie.clone(), "a=2; b=2")]));
        assert_eq!(of(&[(header::ACCEPT, "x")]), None);
        // Nothing is hashed where no budget asks for it.
        let by_address = budgets(Rates { http: rate("1/s"), ..Rates::default() }, Rates::default());
        assert_eq!(caller(&by_address, &[(auth, "Bearer one")]).credential, None);
    }

    #[test]
    fn the_account_is_told_in_structured_fields() {
        let rates =
            Rates { http: rate("100/s burst 200"), writes: rate("1/m"), ..Rates::default() };
        let budgets = budgets(rates, Rates::default());
        let caller = caller(&budgets, &[]);
        let mut account = Account::default();
        budgets.spend(Action::Write, caller, &mut account).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("ratelimit", "\"upstream\";r=5".parse().unwrap());
        account.tell(&mut headers);
        let all =
            |name| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("ratelimit-policy"), ["\"http\";q=200;w=2, \"writes\";q=1;w=60"]);
        assert_eq!(
            all("ratelimit"),
            ["\"upstream\";r=5", "\"http\";r=199;t=1, \"writes\";r=0;t=60"]
        );
        let mut account = Account::default();
        let wait = budgets.spend(Action::Write, caller, &mut account).unwrap_err();
        let mut headers = HeaderMap::new();
        account.tell(&mut headers);
        assert!(
            headers["ratelimit"].to_str().unwrap().ends_with(&format!("r=0;t={}", wait.seconds())),
            "the time of Retry-After"
        );
    }
}
