//! `[[namespace]]`: its sections, what they may say, and what becomes of them.

use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::check::Check;
use super::fault::{Fault, Kind};
use super::options::{channel, rule};
use super::sections::{Config, Route};
use super::words::{Namespace as Name, UpstreamUrl};
use crate::handlers::{self, Act, BadHandler, Handlers};
use crate::session::namespaces;
use crate::units::Rate;
use crate::upstream::{self, Tls};

/// `name` must be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    pub name: Name,
    #[serde(default)]
    pub upstream: Option<UpstreamUrl>,
    #[serde(default)]
    pub gate: Gate,
    #[serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(default, rename = "channel", skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    #[serde(default, rename = "handler", skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<Handler>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    pub rate: Rates,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    pub messages: Option<Rate>,
}

/// The first two must be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    pub event: String,
    /// A path of the API, or the URL of another service.
    pub forward: String,
    #[serde(default)]
    pub credentials: bool,
}

impl Handler {
    fn rule(&self) -> handlers::Rule {
        let act = match self.forward.contains("://") {
            true => Act::Post { url: self.forward.clone(), credentials: self.credentials },
            false => Act::Forward(self.forward.clone()),
        };
        handlers::Rule { event: self.event.clone(), act }
    }
}

pub(super) fn options(config: &Config, default: &upstream::Options) -> Vec<namespaces::Options> {
    let options = config.namespaces.iter().map(|namespace| namespaces::Options {
        name: namespace.name.0.clone(),
        upstream: namespace.upstream.as_ref().map(|url| upstream::Options {
            origin: url.origin.clone(),
            // What [upstream_tls] says is of the one upstream alone.
            tls: url.https.then(Tls::default),
            ..default.clone()
        }),
        routes: namespace.routes.iter().cloned().map(rule).collect(),
        channels: Some(namespace.channels.iter().cloned().map(channel).collect())
            .filter(|rules: &Vec<_>| !rules.is_empty()),
        handlers: namespace.handlers.iter().map(Handler::rule).collect(),
        messages: namespace.gate.rate.messages,
    });
    options.collect()
}

impl Check<'_> {
    pub(super) fn namespaces(&self, config: &Config) -> Result<(), Fault> {
        for (at, namespace) in config.namespaces.iter().enumerate() {
            let key = |name: &str| format!("namespace.{at}.{name}");
            let name = &namespace.name;
            if config.namespaces.iter().take(at).any(|earlier| earlier.name == *name) {
                return self.refuse(&key("name"), format!("\"{name}\" is there already"));
            }
            if name.0.is_default() {
                let (gate, channel) = (Gate::default(), namespace.channels.is_empty());
                let route = namespace.routes.is_empty();
                for (part, is_absent, instead) in [
                    ("upstream", namespace.upstream.is_none(), "the upstream of the whole"),
                    ("gate", namespace.gate == gate, "[gate.rate]"),
                    ("channel", channel, "[[channel]]"),
                    ("route", route, "[[route]]"),
                ] {
                    if !is_absent {
                        return self.refuse(&key(part), format!("\"/\" goes by {instead}"));
                    }
                }
            }
            if let Some(upstream) = &namespace.upstream {
                self.not_itself(&key("upstream"), upstream, config)?;
            }
            self.routes(&key("route"), &namespace.routes, config)?;
            self.channel_rules(&key("channel"), &namespace.channels, &config.auth)?;
            self.handlers(&key("handler"), &namespace.handlers)?;
        }
        Ok(())
    }

    fn handlers(&self, key: &str, handlers: &[Handler]) -> Result<(), Fault> {
        let rules: Vec<_> = handlers.iter().map(Handler::rule).collect();
        if let Err((at, bad)) = Handlers::new(&rules) {
            let refuse = |name: &str, found: &str, expected: &str| {
                let (found, expected) = (format!("{found:?}"), expected.to_owned());
                Err(self
                    .document
                    .fault(&format!("{key}.{at}.{name}"), Kind::Value { found, expected }))
            };
            return match bad {
                BadHandler::Event => {
                    refuse("event", &rules[at].event, "a word that is no event of Pogo's own")
                }
                BadHandler::Twice => {
                    let reason = format!("{:?} has a handler already", rules[at].event);
                    self.refuse(&format!("{key}.{at}.event"), reason)
                }
                BadHandler::Forward => refuse(
                    "forward",
                    &handlers[at].forward,
                    "a path of the API such as \"/hooks/track\", or an http or https URL without a password",
                ),
            };
        }
        let mut elsewhere = handlers.iter().zip(&rules).enumerate();
        let needless = elsewhere.find(|(_, (handler, rule))| {
            handler.credentials && matches!(rule.act, Act::Forward(_))
        });
        match needless {
            Some((at, _)) => self.refuse(
                &format!("{key}.{at}.credentials"),
                "the API is given the session's credentials in any case",
            ),
            None => Ok(()),
        }
    }
}
