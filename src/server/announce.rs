//! What the program that runs the server makes known: events for channels, and that something has
//! changed elsewhere.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use serde_json::value::RawValue;

use super::Reloader;
use crate::change;
use crate::channel::Said;
use crate::handlers::is_reserved;
use crate::namespace::{self, Name};
use crate::worker::apart::Apart;
use crate::worker::settings::Settings;

/// URIs in one announcement.
const MOST_CHANGES: usize = 1000;
/// Longest event and channel, as on the socket.
const LONGEST_NAME: usize = 256;

/// Why something cannot be made known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unannounced {
    /// The server has not started, or it ends.
    NotRunning,
    NoNamespace(String),
    BadChannel,
    /// It is Pogo's own, empty, or too long.
    BadEvent,
    /// A path, with or without a query, is expected.
    BadUri(String),
    /// More than a thousand URIs at once.
    TooMany,
    /// It is not JSON.
    BadData(String),
}

impl fmt::Display for Unannounced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the server does not run"),
            Self::NoNamespace(name) => write!(f, "there is no namespace {name:?}"),
            Self::BadChannel => f.write_str("a channel has from 1 to 256 bytes"),
            Self::BadEvent => {
                f.write_str("an event has from 1 to 256 bytes and is not one of Pogo's own")
            }
            Self::BadUri(uri) => write!(f, "{uri:?} is not a path, with or without a query"),
            Self::TooMany => write!(f, "at most {MOST_CHANGES} URIs are announced at once"),
            Self::BadData(error) => write!(f, "the data is not JSON: {error}"),
        }
    }
}

impl std::error::Error for Unannounced {}

impl Reloader {
    /// Sends an event to everybody on a channel. The rules of channels bind clients alone.
    pub(crate) fn publish(
        &self,
        namespace: &str,
        channel: &str,
        event: &str,
        data: Option<Box<RawValue>>,
    ) -> Result<(), Unannounced> {
        if self.is_draining() {
            return Err(Unannounced::NotRunning);
        }
        let is_short = |name: &str| (1..=LONGEST_NAME).contains(&name.len());
        if !is_short(channel) || !namespace::is_sayable(channel) {
            return Err(Unannounced::BadChannel);
        }
        if !is_short(event) || is_reserved(event) || matches!(event, "ping" | "auth") {
            return Err(Unannounced::BadEvent);
        }
        let settings = self.0.settings.borrow().clone();
        let name = known(&settings, namespace)?;
        let channel = Arc::from(name.channel(channel));
        let said = Said { name: event.to_owned(), data, packed: None };
        let apart = settings.spaces.apart_of(&name);
        let mail = apart.map_or(&self.0.shared.mail, Apart::mail);
        let rules = settings.spaces.channels_of(&name).unwrap_or(&settings.channels);
        self.0.shared.hubs.publish(mail, rules, &channel, said);
        Ok(())
    }

    /// Each URI of the namespace's API counts as written: as by a PUT that went through this server
    /// and succeeded.
    pub(crate) fn changed<'u>(
        &self,
        namespace: &str,
        uris: impl IntoIterator<Item = &'u str>,
    ) -> Result<(), Unannounced> {
        if self.is_draining() {
            return Err(Unannounced::NotRunning);
        }
        let uris: Vec<_> = uris.into_iter().take(MOST_CHANGES + 1).collect();
        if uris.len() > MOST_CHANGES {
            return Err(Unannounced::TooMany);
        }
        if let Some(bad) = uris.iter().find(|uri| !uri.starts_with('/') || uri.contains('#')) {
            return Err(Unannounced::BadUri((*bad).to_owned()));
        }
        let (shared, settings) = (&self.0.shared, self.0.settings.borrow().clone());
        let apart = settings.spaces.apart_of(&known(&settings, namespace)?);
        let (hubs, mail) = apart.map_or((&shared.hubs, &shared.mail), |it| (it.hubs(), it.mail()));
        let routes = apart.map_or(&settings.routes, |apart| &apart.routes);
        let nothing = HeaderMap::new();
        for uri in uris {
            let status = Some(StatusCode::OK);
            let change = change::touched(&Method::PUT, uri, status, &nothing, routes);
            if let Some(change) = change {
                hubs.changed(mail, change);
            }
        }
        Ok(())
    }
}

fn known(settings: &Settings, name: &str) -> Result<Name, Unannounced> {
    let mut all = settings.options.namespaces.iter().map(|namespace| &namespace.name);
    let is_known = name == namespace::DEFAULT || all.any(|known| known.as_str() == name);
    let parsed = Name::new(name).ok().filter(|_| is_known);
    parsed.ok_or_else(|| Unannounced::NoNamespace(name.to_owned()))
}
