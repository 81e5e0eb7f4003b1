//! `[[channel]]`: who may use a channel, and what is kept of it.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::check::{Check, checks_tokens};
use super::fault::{Fault, Kind};
use super::sections::Auth;
use super::words::Path;
use crate::channel;
use crate::units::{Interval, Size};

/// The first three must be written: a rule that leaves out who may publish is a mistake to be told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// A channel's name, or the beginning of names with a `*` at its end.
    pub pattern: String,
    pub subscribe: Who,
    pub publish: Who,
    #[serde(default)]
    pub ask: Option<Path>,
    #[serde(default = "ask_for")]
    pub ask_for: Interval,
    #[serde(default)]
    pub presence: bool,
    #[serde(default)]
    pub presence_subject: bool,
    #[serde(default)]
    pub echo: bool,
    #[serde(default)]
    pub overflow: Overflow,
    #[serde(default, deserialize_with = "number_or_section")]
    pub history: Option<History>,
}

impl Channel {
    /// What holds as long as no rule is written.
    pub fn open() -> Self {
        Self {
            pattern: "*".into(),
            subscribe: Who::Anyone,
            publish: Who::Anyone,
            ask: None,
            ask_for: ask_for(),
            presence: false,
            presence_subject: false,
            echo: false,
            overflow: Overflow::Lost,
            history: None,
        }
    }
}

fn ask_for() -> Interval {
    Interval::seconds(10)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Anyone,
    Authenticated,
    Nobody,
    Ask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    #[default]
    Lost,
    Close,
}

/// `history = 100` is `history = { count = 100 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    pub count: usize,
    pub ttl: Interval,
    pub bytes: Size,
}

impl Default for History {
    fn default() -> Self {
        Self { count: 100, ttl: Interval::seconds(60 * 60), bytes: Size(256 << 10) }
    }
}

fn number_or_section<'de, D: Deserializer<'de>>(input: D) -> Result<Option<History>, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = History;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of events, or { count, ttl, bytes }")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<History, E> {
            let count = usize::try_from(number).unwrap_or(usize::MAX);
            Ok(History { count, ..History::default() })
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<History, A::Error> {
            History::deserialize(MapAccessDeserializer::new(map))
        }
    }

    input.deserialize_any(Either).map(Some)
}

impl Check<'_> {
    /// Those at `section`: `channel`, or that of a namespace.
    pub(super) fn channel_rules(
        &self,
        section: &str,
        channels: &[Channel],
        auth: &Auth,
    ) -> Result<(), Fault> {
        for (at, channel) in channels.iter().enumerate() {
            let key = format!("{section}.{at}.pattern");
            let pattern = &channel.pattern;
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || name.contains('*') {
                let found = format!("{pattern:?}");
                let expected = r#"a channel's name, or the beginning of names and a final "*""#;
                let kind = Kind::Value { found, expected: expected.into() };
                return Err(self.document.fault(&key, kind));
            }
            if channels.iter().take(at).any(|earlier| earlier.pattern == *pattern) {
                return self.refuse(&key, format!("{pattern:?} has a rule already"));
            }
            self.channel(&format!("{section}.{at}"), channel, auth)?;
            for (key, who) in [("subscribe", channel.subscribe), ("publish", channel.publish)] {
                if who == Who::Authenticated && !checks_tokens(auth) {
                    return self.refuse(
                        &format!("{section}.{at}.{key}"),
                        "nothing checks tokens, so any would do; set auth.verify or [auth.jwt]",
                    );
                }
            }
        }
        Ok(())
    }

    fn channel(&self, section: &str, rule: &Channel, auth: &Auth) -> Result<(), Fault> {
        let key = |key: &str| format!("{section}.{key}");
        let asks = [rule.subscribe, rule.publish].contains(&Who::Ask);
        if asks && rule.ask.is_none() {
            return self.refuse(&key("ask"), "\"ask\" needs the path where the upstream is asked");
        }
        if !asks && rule.ask.is_some() {
            let reason = "nobody is asked for: neither subscribe nor publish is \"ask\"";
            return self.refuse(&key("ask"), reason);
        }
        if rule.presence_subject && !rule.presence {
            return self.refuse(&key("presence_subject"), "nobody is shown without presence");
        }
        if rule.presence_subject && auth.jwt.is_none() {
            let reason = "only a JWT that is checked has a subject; set [auth.jwt]";
            return self.refuse(&key("presence_subject"), reason);
        }
        let Some(history) = &rule.history else { return Ok(()) };
        self.positive(&key("history.count"), history.count)?;
        if history.count > channel::History::MOST {
            let reason =
                format!("at most {} events of one channel are kept", channel::History::MOST);
            return self.refuse(&key("history.count"), reason);
        }
        self.lasting(&key("history.ttl"), history.ttl)?;
        self.positive(&key("history.bytes"), history.bytes.0)
    }
}
