//! What holds for a channel: who may do what, and what is kept of it.

use std::time::Duration;

use crate::namespace;

/// Who may do something on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Anyone,
    /// Sessions whose credential was checked and found good.
    Authenticated,
    Nobody,
    /// Whom the upstream answers 2xx when it is asked at `Rule::ask`.
    Ask,
}

/// One `[[channel]]`: of those whose pattern fits, the most specific decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A name, or the beginning of names and `*`.
    pub pattern: String,
    pub subscribe: Who,
    pub publish: Who,
    /// The path of the upstream that [`Who::Ask`] asks.
    pub ask: Option<String>,
    /// How long an answer to that counts.
    pub ask_for: Duration,
    /// Subscribers can be told who is there.
    pub presence: bool,
    /// And with it the `sub` of a member's JWT.
    pub presence_subject: bool,
    /// Events that are kept, for those who come later.
    pub history: Option<History>,
    /// A sender that is subscribed hears itself.
    pub echo: bool,
    pub overflow: Overflow,
}

/// How much is kept of a channel's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    pub count: usize,
    pub ttl: Duration,
    /// Of names and data.
    pub bytes: usize,
}

impl History {
    /// The most events that a rule may keep of one channel.
    pub const MOST: usize = 10_000;
}

impl Default for History {
    fn default() -> Self {
        Self { count: 100, ttl: Duration::from_secs(60 * 60), bytes: 256 << 10 }
    }
}

/// What becomes of a subscriber that does not take its events fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is told how many it has lost.
    Lost,
    /// It is closed, and may come back.
    Close,
}

impl Default for Rule {
    fn default() -> Self {
        Self::open()
    }
}

impl Rule {
    /// Anyone may do anything on any channel, and nothing is kept.
    pub fn open() -> Self {
        Self {
            pattern: "*".into(),
            subscribe: Who::Anyone,
            publish: Who::Anyone,
            ask: None,
            ask_for: Duration::from_secs(10),
            presence: false,
            presence_subject: false,
            history: None,
            echo: false,
            overflow: Overflow::Lost,
        }
    }

    /// Of those that fit, the most specific: a name beats a beginning, and a longer beginning a
    /// shorter one.
    pub fn of<'r>(rules: &'r [Self], channel: &str) -> Option<&'r Self> {
        let fitting = rules.iter().filter(|rule| rule.fits(channel));
        fitting.max_by_key(|rule| (!rule.pattern.ends_with('*'), rule.pattern.len()))
    }

    fn fits(&self, channel: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(beginning) => channel.starts_with(beginning),
            None => channel == self.pattern,
        }
    }

    /// Everybody hears the channel's events in one order.
    pub fn keeps_order(&self) -> bool {
        self.presence || self.history.is_some()
    }

    /// Where nobody is named whom to ask, nobody may.
    fn who(&self, right: Right) -> Who {
        let who = match right {
            Right::Subscribe => self.subscribe,
            Right::Publish => self.publish,
        };
        if who == Who::Ask && self.ask.is_none() { Who::Nobody } else { who }
    }

    /// Whether the same upstream decides in the same way who may do that.
    pub fn asks_like(&self, other: &Self, right: Right) -> bool {
        self.who(right) == Who::Ask && other.who(right) == Who::Ask && self.ask == other.ask
    }

    /// Where the upstream is asked, in origin form.
    pub fn question(&self, channel: &str, right: Right) -> String {
        let path = self.ask.as_deref().unwrap_or("/");
        let (namespace, channel) = namespace::of_channel(channel);
        let mut target = format!("{path}?channel=");
        encode(channel, &mut target);
        target.push_str("&right=");
        target.push_str(right.name());
        if let Some(namespace) = namespace {
            target.push_str("&namespace=");
            encode(namespace, &mut target);
        }
        target
    }
}

fn encode(value: &str, target: &mut String) {
    for byte in value.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => target.push(char::from(byte)),
            false => target.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// What is wanted of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    Subscribe,
    Publish,
}

impl Right {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }
}

/// What the rules say; what they say no to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Yes,
    /// If the upstream says so.
    Ask,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Unauthenticated,
    Forbidden,
}

/// Without a rule that fits, nobody may.
pub fn permit(rule: Option<&Rule>, right: Right, authenticated: bool) -> Result<Permit, Denied> {
    match rule.map_or(Who::Nobody, |rule| rule.who(right)) {
        Who::Anyone => Ok(Permit::Yes),
        Who::Authenticated if authenticated => Ok(Permit::Yes),
        Who::Authenticated => Err(Denied::Unauthenticated),
        Who::Nobody => Err(Denied::Forbidden),
        Who::Ask => Ok(Permit::Ask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_that_fits_decides_and_none_means_no() {
        let rule = |pattern: &str, subscribe, publish| Rule {
            pattern: pattern.into(),
            subscribe,
            publish,
            ..Rule::open()
        };
        let rules = [
            rule("/news/*", Who::Anyone, Who::Authenticated),
            rule("/news/secret", Who::Authenticated, Who::Nobody),
            Rule { ask: Some("/may".into()), ..rule("/asked/*", Who::Ask, Who::Anyone) },
            rule("/unasked", Who::Ask, Who::Anyone),
        ];
        let may =
            |channel, right, authenticated| permit(Rule::of(&rules, channel), right, authenticated);
        assert_eq!(may("/news/a", Right::Subscribe, false), Ok(Permit::Yes));
        assert_eq!(may("/news/a", Right::Publish, false), Err(Denied::Unauthenticated));
        assert_eq!(may("/news/a", Right::Publish, true), Ok(Permit::Yes));
        assert_eq!(may("/news/secret", Right::Subscribe, false), Err(Denied::Unauthenticated));
        assert_eq!(may("/news/secret", Right::Publish, true), Err(Denied::Forbidden));
        assert_eq!(may("/other", Right::Subscribe, true), Err(Denied::Forbidden));
        assert_eq!(may("/asked/1", Right::Subscribe, false), Ok(Permit::Ask));
        assert_eq!(may("/unasked", Right::Subscribe, true), Err(Denied::Forbidden));
        assert_eq!(may("/asked/1", Right::Publish, false), Ok(Permit::Yes));
    }

    #[test]
    fn a_channel_is_one_value_of_the_query_whatever_its_name() {
        let rule = Rule { ask: Some("/may".into()), ..Rule::open() };
        assert_eq!(
            rule.question("/a b&right=publish#é", Right::Subscribe),
            "/may?channel=%2Fa%20b%26right%3Dpublish%23%C3%A9&right=subscribe"
        );
        assert_eq!(rule.question("a-_.~9", Right::Publish), "/may?channel=a-_.~9&right=publish");
        let in_a_namespace = namespace::Name::new("/lists").unwrap().channel("a");
        assert_eq!(
            rule.question(&in_a_namespace, Right::Publish),
            "/may?channel=a&right=publish&namespace=%2Flists"
        );
    }
}
