//! A channel event on its way to its subscribers.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::protocol::deflate::Dialect;
use crate::protocol::{Encoded, Outgoing, codec};

/// The same for all workers; encoded when, and as often as, its subscribers differ in their formats.
#[derive(Debug, Clone)]
pub struct Published {
    pub channel: Arc<str>,
    event: Arc<Event>,
}

#[derive(Debug)]
struct Event {
    name: String,
    data: Option<Box<RawValue>>,
    packed: Option<Box<[u8]>>,
    frames: Encoded,
}

impl Published {
    /// `packed` is `data` in MsgPack, where it contains binary.
    pub fn new(
        channel: Arc<str>,
        name: String,
        data: Option<Box<RawValue>>,
        packed: Option<Box<[u8]>>,
    ) -> Self {
        let event = Event { name, data, packed, frames: Encoded::default() };
        Self { channel, event: Arc::new(event) }
    }

    pub fn frame(&self, dialect: Dialect) -> Bytes {
        let event = &self.event;
        event.frames.get(dialect, || {
            let message = Outgoing {
                event: Some(&event.name),
                channel: Some(&self.channel),
                data: event.data.as_deref(),
                packed: event.packed.as_deref(),
                ..Outgoing::default()
            };
            codec::encode(&message, dialect.format())
        })
    }
}
