//! Why somebody waits for a view.

use std::time::Duration;

use serde_json::value::RawValue;

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
}

impl Purpose {
    /// Whether the answer carries the state, or says that the client holds it.
    pub(super) fn shows_the_state(&self) -> bool {
        matches!(self, Self::Bind(ask) if ask.id.is_some() && ask.version.is_some())
    }
}
