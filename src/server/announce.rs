//! What the program that runs the server makes known: events for channels, and that something has
//! changed elsewhere.

use std::fmt;

use serde_json::value::RawValue;

use super::Reloader;
use crate::channel::Said;
use crate::handlers::is_reserved;
use crate::hub::outlook::Place;
use crate::namespace;

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
        let said = Said { name: event.to_owned(), data, packed: None };
        self.place(namespace)?.publish(channel, said);
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
        let place = self.place(namespace)?;
        for uri in uris {
            place.written(uri);
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Result<Place, Unannounced> {
        let settings = self.0.settings.borrow().clone();
        let mut places = settings.places(&self.0.shared).into_iter();
        let found = places.find(|place| place.name.as_str() == name);
        found.ok_or_else(|| Unannounced::NoNamespace(name.to_owned()))
    }
}
