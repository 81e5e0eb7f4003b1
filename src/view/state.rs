//! What a view shows, what a fetch brought, and what the members are told.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::value::RawValue;

use crate::audience::Vary;
use crate::protocol::{Encoded, Problem};

/// What a view shows.
#[derive(Debug)]
pub struct State {
    pub version: Arc<str>,
    pub content: Content,
    pub etag: Option<HeaderValue>,
    pub last_modified: Option<HeaderValue>,
    /// What the answer depends on besides the audience's own fields.
    pub vary: Vary,
    /// The `update` (or `delete`) frame, without and with `version`: encoded once for each format, by whoever
    /// needs it first, and shared by every member on every worker.
    pub frames: [Encoded; 2],
    /// The same as plain HTTP has it.
    pub texts: Texts,
}

/// How a state is told over plain HTTP, where it is told whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    Event,
    Update,
}

/// A state in each of those ways, made by whoever needs it first and shared by all.
#[derive(Debug, Default)]
pub struct Texts(OnceLock<Box<[OnceLock<Bytes>; 2]>>);

impl Texts {
    pub fn get(&self, text: Text, make: impl FnOnce() -> Bytes) -> Bytes {
        self.0.get_or_init(Box::default)[text as usize].get_or_init(make).clone()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON text.
    Data(Data),
    /// 404 or 410.
    Absent,
    /// Something changed; the client fetches for itself.
    Unseen,
}

/// JSON text, known to be valid. Equal when its bytes are.
#[derive(Debug)]
pub struct Data(pub Box<RawValue>);

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Data {}

impl State {
    pub fn new(version: Arc<str>, content: Content) -> Self {
        Self {
            version,
            content,
            etag: None,
            last_modified: None,
            vary: Vary::default(),
            frames: Default::default(),
            texts: Texts::default(),
        }
    }

    pub fn same_content(&self, other: &Self) -> bool {
        self.content == other.content && self.content != Content::Unseen
    }
}

/// What a fetch brought.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most are states, and a view has one under way")]
pub enum Answer {
    State(State),
    NotModified,
    /// 401 or 403.
    Refused(Problem),
    /// 405 or 501 to a GET.
    NotBindable(Problem),
    /// Anything that says nothing about the resource: 5xx, time-out, other 4xx.
    Failed(Problem),
}

/// What those who are bound are to be told.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Members hold this; the waiting are answered with it.
    Live { state: Arc<State>, stale: bool },
    /// The waiting are refused; members keep what they hold.
    Failed(Arc<Problem>),
    /// The view is over for everybody.
    Ended(End),
}

#[derive(Debug, Clone)]
pub enum End {
    Refused(Arc<Problem>),
    NotBindable(Arc<Problem>),
}
