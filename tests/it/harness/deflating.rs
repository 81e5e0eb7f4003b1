//! A client of permessage-deflate (RFC 7692), written from the document: it takes nothing of a
//! message over to the next, and knows no more of it than the window that was agreed on.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use pogo::protocol::Format;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use super::{Message, Pogo, Wire, format, frame};

pub struct Deflating {
    wire: Wire,
    format: Format,
    /// What the handshake was answered with.
    pub answer: Option<String>,
}

/// A message, and how it came.
#[derive(Debug)]
pub struct Came {
    pub message: Value,
    /// What of it can be read as text.
    pub text: String,
    pub compressed: bool,
    /// Its payload's bytes on the wire.
    pub bytes: usize,
}

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const RSV1: u8 = 0x40;

impl Deflating {
    /// With these lines of offers.
    pub fn open(pogo: &Pogo, format: Format, offers: &[&str]) -> Self {
        Self::open_at(pogo, "/", format, offers, "")
    }

    /// At this path, and with these other lines of the head.
    pub fn open_at(pogo: &Pogo, path: &str, format: Format, offers: &[&str], fields: &str) -> Self {
        let offers: String =
            offers.iter().map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n")).collect();
        let mut wire = pogo.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {}\r\n{offers}{fields}\r\n",
            format.subprotocol(),
        ));
        let answer: Message = wire.head();
        assert_eq!(answer.status(), 101, "{answer:?}");
        Self { wire, format, answer: answer.one("sec-websocket-extensions") }
    }

    /// The first byte of a frame that is a whole message.
    pub fn whole(&self) -> u8 {
        if self.format.is_binary() { 0x82 } else { 0x81 }
    }

    pub fn encode(&self, message: &Value) -> Vec<u8> {
        format::encode(message, self.format).into_data().to_vec()
    }

    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.wire.send(frame(first, payload));
    }

    /// Bytes in one compressed message.
    pub fn send_compressed(&mut self, bytes: &[u8]) {
        self.send_frame(self.whole() | RSV1, &deflated(bytes, Compression::default()));
    }

    /// Sends a request, compressed; its answer must be the next message, and `ok`.
    pub fn must(&mut self, mut message: Value) -> Came {
        message["id"] = json!(1);
        self.send_compressed(&self.encode(&message));
        let came = self.receive();
        assert_eq!((&came.message["id"], &came.message["status"]), (&json!(1), &json!("ok")));
        came
    }

    /// The next frame: its first byte and its payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.wire.exactly(2);
        let length = match head[1] {
            126 => {
                self.wire.exactly(2).iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
            }
            127 => {
                self.wire.exactly(8).iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
            }
            length => u64::from(length),
        };
        (head[0], self.wire.exactly(usize::try_from(length).unwrap()))
    }

    pub fn receive(&mut self) -> Came {
        let (first, payload) = self.frame();
        let compressed = first & RSV1 != 0;
        assert_eq!(first & !RSV1, self.whole(), "{payload:02x?}");
        let bytes = payload.len();
        let payload = if compressed { self.inflated(&payload) } else { payload };
        let message = match self.format.is_binary() {
            true => tungstenite::Message::binary(payload),
            false => tungstenite::Message::text(String::from_utf8(payload).unwrap()),
        };
        let (message, text) = format::decode(&message, self.format);
        Came { message, text, compressed, bytes }
    }

    /// The code of the close frame, which comes next.
    pub fn closed(&mut self) -> u16 {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "{payload:02x?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    fn inflated(&self, payload: &[u8]) -> Vec<u8> {
        let answer = self.answer.as_deref().expect("compression was agreed on");
        let bits = answer.split("server_max_window_bits=").nth(1);
        let mut stream = Decompress::new_with_window_bits(
            false,
            bits.map_or(15, |bits| bits.parse().expect("a number of bits")),
        );
        let input = [payload, &TAIL].concat();
        let mut out = Vec::new();
        loop {
            // In small pieces: of what was written it sees the last of them, and the window.
            let mut piece = [0; 64];
            let (read, made) = (stream.total_in(), stream.total_out());
            let rest = &input[usize::try_from(read).unwrap()..];
            stream.decompress(rest, &mut piece, FlushDecompress::None).expect("deflate");
            let made = usize::try_from(stream.total_out() - made).unwrap();
            out.extend(&piece[..made]);
            if made < piece.len() && stream.total_in() == input.len() as u64 {
                return out;
            }
            assert!(made > 0 || stream.total_in() > read, "a message ends with a block");
        }
    }
}

/// A compressed message's payload.
pub fn deflated(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 100 + 100);
    Compress::new(level, false).compress_vec(bytes, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&TAIL) && out.len() < out.capacity());
    out.truncate(out.len() - TAIL.len());
    out
}
