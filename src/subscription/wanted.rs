//! Which request asks for more than one answer, and how. Pure.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::long_poll::Patience;
use super::stream::Speech;
use super::{Options, braid, long_poll, prep, sse};
use crate::metrics::Way;

/// What a request asks for besides the resource's present state.
#[derive(Debug)]
pub(super) enum Wanted {
    Stream(Ask),
    /// The next state, if the present one is known.
    Next(Patience),
}

/// A stream of states.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) speech: Rc<dyn Speech>,
    pub(super) way: Way,
    pub(super) held: Held,
    /// How often the client wants to hear that the stream is still there, if it says so.
    pub(super) heartbeat: Option<Duration>,
}

/// What the client says that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Version(String),
    /// It does not want to be told, whatever it is.
    Anything,
}

impl Held {
    /// As `Last-Event-ID` has it: the version, in UTF-8.
    pub(super) fn of_last_event_id(headers: &HeaderMap) -> Self {
        let id = headers.get("last-event-id").map(|id| std::str::from_utf8(id.as_bytes()));
        match id {
            Some(Ok(id)) => Self::Version(id.to_owned()),
            Some(Err(_)) | None => Self::Nothing,
        }
    }

    pub(super) fn is(&self, version: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Version(held) => held == version,
            Self::Anything => true,
        }
    }
}

impl Wanted {
    /// Of several, what says the most of what it wants counts.
    pub(super) fn of(method: &Method, headers: &HeaderMap, options: &Options) -> Option<Self> {
        match *method {
            Method::GET => braid::wanted(headers)
                .or_else(|| prep::wanted(headers, options))
                .or_else(|| sse::wanted(headers))
                .map(Self::Stream)
                .or_else(|| long_poll::wanted(headers, options).map(Self::Next)),
            // What a GET would be answered with; of the others nothing is said for HEAD.
            Method::HEAD => sse::wanted(headers).map(Self::Stream),
            _ => None,
        }
    }
}
