//! Why somebody waits for a view.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::Hub;
use super::items::Shows;
use super::mail::Seat;
use super::mirror::Mirror;
use crate::headers::ClientAddress;
use crate::protocol::Reason;

/// Why somebody waits for a view's next answer.
#[derive(Debug)]
pub enum Purpose {
    /// A `bind` of the client, to be answered.
    Bind(Box<Ask>),
    /// A request over the socket bound its URI.
    Autobind,
    /// The credential changed; refused means the binding ends with this reason.
    Rejudge(Reason),
}

/// What a `bind` asks for, as in the message.
#[derive(Debug)]
pub struct Ask {
    pub id: Option<Box<RawValue>>,
    /// `Some(None)` asks for versions and holds none.
    pub version: Option<Option<String>>,
    pub delta: Option<bool>,
    pub ttl: Option<Duration>,
    pub shows: Shows,
}

impl Purpose {
    /// Whether the answer carries the state, or says that the client holds it.
    pub(super) fn shows_the_state(&self) -> bool {
        matches!(self, Self::Bind(ask) if ask.id.is_some() && ask.version.is_some())
    }

    pub(super) fn wants_items(&self) -> bool {
        matches!(self, Self::Bind(ask) if ask.shows != Shows::State)
    }
}

impl Hub {
    /// Asks the view's home for an answer that is fetched after this.
    pub(super) fn take_seat(
        &self,
        mirror: &Mirror,
        ticket: u64,
        client: ClientAddress,
        items: bool,
    ) -> bool {
        let (key, worker) = (Arc::clone(&mirror.key), self.worker);
        let take = Seat::Take { key, worker, ticket, client, items };
        self.mail[mirror.key.home(self.mail.len())].take_seat(take)
    }
}
