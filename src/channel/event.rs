//! A channel event on its way to its subscribers.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::protocol::deflate::Dialect;
use crate::protocol::{Encoded, Outgoing, codec};

/// What somebody says on a channel.
#[derive(Debug)]
pub struct Said {
    pub name: String,
    pub data: Option<Box<RawValue>>,
    /// `data` in MsgPack, where it contains binary.
    pub packed: Option<Box<[u8]>>,
}

impl Said {
    /// What a history counts for it: what its client wrote.
    pub(super) fn bytes(&self) -> usize {
        let data = self.data.as_ref().map_or(0, |data| data.get().len());
        self.name.len() + data + self.packed.as_ref().map_or(0, |packed| packed.len())
    }
}

/// The same for all workers; encoded when, and as often as, its subscribers differ in their formats.
#[derive(Debug, Clone)]
pub struct Published {
    pub channel: Arc<str>,
    /// The session that does not hear it: its sender, or whom it tells of.
    pub but: Option<u64>,
    /// Its place among all that this node says in one order; 0 is in none, and after everything.
    pub place: u64,
    /// Only for those who asked to be told who is there.
    pub of_presence: bool,
    event: Arc<Event>,
}

#[derive(Debug)]
struct Event {
    said: Said,
    offset: Option<Box<str>>,
    count: Option<u64>,
    frames: Encoded,
}

impl Published {
    /// An event of a channel that keeps neither order nor history.
    pub fn new(channel: Arc<str>, said: Said, but: Option<u64>) -> Self {
        let event = Event { said, offset: None, count: None, frames: Encoded::default() };
        Self { channel, but, place: 0, of_presence: false, event: Arc::new(event) }
    }

    pub(super) fn in_order(
        channel: Arc<str>,
        said: Said,
        but: Option<u64>,
        place: u64,
        offset: Option<Box<str>>,
    ) -> Self {
        let event = Event { said, offset, count: None, frames: Encoded::default() };
        Self { channel, but, place, of_presence: false, event: Arc::new(event) }
    }

    pub(super) fn of_presence(
        channel: Arc<str>,
        said: Said,
        but: u64,
        place: u64,
        count: u64,
    ) -> Self {
        let count = Some(count);
        let event = Event { said, offset: None, count, frames: Encoded::default() };
        Self { channel, but: Some(but), place, of_presence: true, event: Arc::new(event) }
    }

    pub fn frame(&self, dialect: Dialect) -> Bytes {
        let event = &self.event;
        event.frames.get(dialect, || {
            let message = Outgoing {
                event: Some(&event.said.name),
                channel: Some(&self.channel),
                data: event.said.data.as_deref(),
                packed: event.said.packed.as_deref(),
                offset: event.offset.as_deref(),
                count: event.count,
                ..Outgoing::default()
            };
            codec::encode(&message, dialect.format())
        })
    }

    #[cfg(test)]
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.event.said.name == name
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        self.event.said.data.as_ref().map_or("", |data| data.get())
    }
}
