//! A client's socket, in one of the formats, compressed or not, opened at the path of a namespace.

use pogo::protocol::Format;
use serde_json::Value;

use crate::harness::{Deflating, Pogo, Socket};

/// What a client speaks, whether it wants to be told what changed and not what is, and in which of the
/// namespaces it is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) format: Format,
    pub(super) delta: bool,
    pub(super) deflate: bool,
    pub(super) home: usize,
}

pub(super) enum Talk {
    Plain(Box<Socket>),
    Compressed(Deflating),
}

impl Talk {
    pub(super) fn open(pogo: &Pogo, path: &str, manner: Manner, token: &str) -> Self {
        let credential = format!("Bearer {token}");
        if !manner.deflate {
            let subprotocol = ("sec-websocket-protocol", manner.format.subprotocol());
            let fields = [subprotocol, ("authorization", &credential)];
            let socket = Socket::try_open(pogo.address(), path, &fields);
            return Self::Plain(Box::new(socket.expect("the handshake succeeds")));
        }
        let credential = format!("Authorization: {credential}\r\n");
        let offers = ["permessage-deflate"];
        let socket = Deflating::open_at(pogo, path, manner.format, &offers, &credential);
        assert!(socket.answer.is_some(), "compression was not agreed on");
        Self::Compressed(socket)
    }

    pub(super) fn send(&mut self, message: &Value) {
        match self {
            Self::Plain(socket) => socket.send(message),
            Self::Compressed(socket) => socket.send_compressed(&socket.encode(message)),
        }
    }

    /// The next message, what of it can be read as text, and whether it came compressed.
    pub(super) fn receive(&mut self) -> (Value, String, bool) {
        match self {
            Self::Plain(socket) => {
                let message = socket.receive();
                let text = socket.texts.pop().expect("a message was read");
                socket.texts.clear();
                (message, text, false)
            }
            Self::Compressed(socket) => {
                let came = socket.receive();
                (came.message, came.text, came.compressed)
            }
        }
    }
}
