//! What may be said of sockets.

use std::time::Duration;

use crate::protocol::Format;

/// What a socket may do, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where Pogo's own sockets are opened; upgrades elsewhere go to the upstream.
    pub path: String,
    /// What clients may choose by a subprotocol; with none, messages are JSON.
    pub formats: Vec<Format>,
    /// Messages are compressed for clients that offer it, and theirs may be.
    pub compression: bool,
    /// Smallest message that is compressed, in bytes.
    pub compress_from: usize,
    /// Largest message of a client, in bytes; of one that is compressed, what it becomes.
    pub message_bytes: usize,
    pub bindings: usize,
    pub channels: usize,
    /// Requests of one socket that wait for an answer at once.
    pub requests_in_flight: usize,
    /// Silence after which a client is asked whether it is there.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub pong_timeout: Duration,
    pub max_lifetime: Option<Duration>,
    /// Bytes that wait for one socket before its messages are no longer read.
    pub outbox_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/".into(),
            formats: Format::ALL.to_vec(),
            compression: false,
            compress_from: 1 << 10,
            message_bytes: 64 << 10,
            bindings: 1000,
            channels: 100,
            requests_in_flight: 16,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(60),
            max_lifetime: None,
            outbox_bytes: 256 << 10,
        }
    }
}
