//! From bytes to WebSocket messages (RFC 6455 §5): frames joined, unmasked and checked. Holds no
//! buffer while no part of a message is outstanding, because most sockets are idle most of the time.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::inflate::{Inflater, compressed_limit};
use crate::protocol::Close;
use crate::protocol::deflate::Dialect;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The peer's close frame, with the code to answer it with.
    Close(u16),
}

/// One socket's incoming side.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Up to here `bytes` are done with.
    done: usize,
    /// The beginning of a fragmented message.
    message: Option<Vec<u8>>,
    /// Messages come in binary frames, and not in text.
    is_binary: bool,
    /// They may be compressed (RFC 7692).
    inflates: bool,
    /// The message that has begun is.
    is_compressed: bool,
    text: Text,
    /// Where the next frame begins is not known any more, so nothing is kept.
    lost: bool,
}

/// How much of a text that has begun is known to be UTF-8. What is not is told at once (RFC 6455
/// §8.1), and not when the rest of the message has come. One that came in one piece is judged as a
/// whole, and so is what was compressed.
#[derive(Debug, Default)]
struct Text {
    /// Whole characters, in bytes. Small, because every socket has it.
    checked: u32,
}

impl Text {
    /// Checks the part of a message that is new: `masked` comes after what was joined. Each byte is
    /// read once, or a few times at the end of a part, so that many small parts cost no more.
    fn check(&mut self, joined: &[u8], masked: &[u8], mut mask: [u8; 4]) -> Result<(), Close> {
        let Ok(checked) = usize::try_from(self.checked) else { return Ok(()) };
        let mut fresh = joined.get(checked..).unwrap_or_default().to_vec();
        let known = checked.saturating_sub(joined.len());
        mask.rotate_left(known % 4);
        fresh.extend(unmasked(masked.get(known..).unwrap_or_default(), mask));
        let good = match std::str::from_utf8(&fresh) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(Close::Invalid),
        };
        // Messages are shorter; if one is not, it is checked from where it was.
        self.checked = u32::try_from(checked + good).unwrap_or(self.checked);
        Ok(())
    }
}

fn unmasked(masked: &[u8], mask: [u8; 4]) -> impl Iterator<Item = u8> {
    masked.iter().zip(mask.into_iter().cycle()).map(|(byte, key)| byte ^ key)
}

/// What has come whole, but may be compressed.
enum Whole {
    Message(Vec<u8>),
    Control(Control, Vec<u8>),
}

/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;

impl Frames {
    pub fn of(dialect: Dialect) -> Self {
        let (is_binary, inflates) = (dialect.format().is_binary(), dialect.deflates());
        Self { is_binary, inflates, ..Self::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.lost {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next whole message of at most `limit` bytes; `None` until more bytes come.
    pub fn next(
        &mut self,
        limit: usize,
        inflater: &mut Inflater,
    ) -> Result<Option<Received>, Close> {
        loop {
            let frame = self.next_frame(limit).inspect_err(|_| self.lost = true);
            if self.lost {
                *self = Self { lost: true, ..Self::default() };
            }
            let Some((header, payload)) = frame? else {
                self.compact();
                return Ok(None);
            };
            let whole = self.take(&header, payload)?;
            if let Some(received) = whole.map(|whole| self.receive(whole, limit, inflater)) {
                return received.map(Some);
            }
        }
    }

    /// Whether nothing is left that was received.
    pub fn is_idle(&self) -> bool {
        self.bytes.is_empty()
    }

    fn next_frame(&mut self, limit: usize) -> Result<Option<(FrameHeader, Vec<u8>)>, Close> {
        let rest = &self.bytes[self.done..];
        let mut cursor = Cursor::new(rest);
        let Some((header, length)) =
            FrameHeader::parse(&mut cursor).map_err(|_| Close::Protocol)?
        else {
            return Ok(None);
        };
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let begins = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        // The first frame of a message says that it is compressed (RFC 7692 §6).
        if header.rsv1 && !(self.inflates && begins) || header.rsv2 || header.rsv3 {
            return Err(Close::Protocol);
        }
        if is_control && (length > MAX_CONTROL || !header.is_final) {
            return Err(Close::Protocol);
        }
        let joined = self.message.as_ref().filter(|_| !is_control).map_or(0, Vec::len) as u64;
        let is_compressed = header.rsv1 || self.is_compressed && !begins;
        let limit = if is_compressed { compressed_limit(limit) } else { limit };
        if length.saturating_add(joined) > limit as u64 && !is_control {
            return Err(Close::TooBig);
        }
        // A client masks every frame (RFC 6455 §5.1).
        let mask = header.mask.ok_or(Close::Protocol)?;
        let start = usize::try_from(cursor.position()).map_err(|_| Close::TooBig)?;
        let end = start + usize::try_from(length).map_err(|_| Close::TooBig)?;
        let Some(payload) = rest.get(start..end) else {
            let goes_on = match header.opcode {
                OpCode::Data(Data::Text) => self.message.is_none(),
                OpCode::Data(Data::Continue) => self.message.is_some(),
                _ => false,
            };
            if goes_on && !self.is_binary && !is_compressed {
                let joined = self.message.as_deref().unwrap_or_default();
                self.text.check(joined, rest.get(start..).unwrap_or_default(), mask)?;
            }
            return Ok(None);
        };
        let payload = unmasked(payload, mask).collect();
        self.done += end;
        Ok(Some((header, payload)))
    }

    /// What a frame brings, or is the last part of.
    fn take(&mut self, header: &FrameHeader, payload: Vec<u8>) -> Result<Option<Whole>, Close> {
        match header.opcode {
            OpCode::Control(control) => Ok(Some(Whole::Control(control, payload))),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) if self.message.is_none() => {
                if self.is_binary != (kind == Data::Binary) {
                    return Err(Close::Unsupported);
                }
                self.is_compressed = header.rsv1;
                if header.is_final {
                    return Ok(Some(Whole::Message(payload)));
                }
                self.hold(payload)
            }
            OpCode::Data(Data::Continue) => {
                let mut message = self.message.take().ok_or(Close::Protocol)?;
                message.extend_from_slice(&payload);
                if header.is_final {
                    return Ok(Some(Whole::Message(message)));
                }
                self.hold(message)
            }
            OpCode::Data(_) => Err(Close::Protocol),
        }
    }

    /// Keeps the beginning of a message.
    fn hold(&mut self, message: Vec<u8>) -> Result<Option<Whole>, Close> {
        if !self.is_binary && !self.is_compressed {
            self.text.check(&message, &[], [0; 4])?;
        }
        self.message = Some(message);
        Ok(None)
    }

    fn receive(
        &mut self,
        whole: Whole,
        limit: usize,
        inflater: &mut Inflater,
    ) -> Result<Received, Close> {
        let message = match whole {
            Whole::Control(Control::Ping, payload) => return Ok(Received::Ping(payload)),
            Whole::Control(Control::Pong, _) => return Ok(Received::Pong),
            Whole::Control(Control::Close, payload) => {
                return close_code(&payload).map(Received::Close);
            }
            Whole::Control(Control::Reserved(_), _) => return Err(Close::Protocol),
            Whole::Message(message) => message,
        };
        self.text = Text::default();
        let message = match std::mem::take(&mut self.is_compressed) {
            true => inflater.inflate(&message, limit)?,
            false => message,
        };
        if self.is_binary {
            return Ok(Received::Binary(message));
        }
        String::from_utf8(message).map(Received::Text).map_err(|_| Close::Invalid)
    }

    /// Forgets what was read, and gives the memory back when nothing is left.
    fn compact(&mut self) {
        if self.done == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.done);
        }
        self.done = 0;
    }
}

fn close_code(payload: &[u8]) -> Result<u16, Close> {
    match payload {
        [] => Ok(Close::Normal.code()),
        [_] => Err(Close::Protocol),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !CloseCode::from(code).is_allowed() {
                return Err(Close::Protocol);
            }
            std::str::from_utf8(reason).map_err(|_| Close::Invalid)?;
            Ok(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { mask: Some([1, 2, 3, 4]), ..FrameHeader::default() };
        let mut out = Vec::new();
        header.format(payload.len() as u64, &mut out).unwrap();
        out[0] = first;
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, k)| b ^ k));
        out
    }

    fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Received>, Close> {
        let mut frames = Frames::default();
        let mut received = Vec::new();
        for piece in bytes.chunks(piece) {
            frames.push(piece);
            while let Some(message) = frames.next(64, &mut Inflater::default())? {
                received.push(message);
            }
        }
        assert!(frames.bytes.capacity() == 0 || !frames.bytes.is_empty());
        Ok(received)
    }

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let bytes = [
            frame(0x81, b"one"),
            frame(0x01, b"t"),
            frame(0x89, b"p"),
            frame(0x80, b"wo"),
            frame(0x88, &[0x03, 0xe8, b'b']),
        ]
        .concat();
        for piece in [1, 2, 3, 5, 100] {
            assert_eq!(
                read_in_pieces(&bytes, piece).unwrap(),
                [
                    Received::Text("one".into()),
                    Received::Ping(b"p".into()),
                    Received::Text("two".into()),
                    Received::Close(1000)
                ]
            );
        }
    }

    #[test]
    fn what_breaks_the_protocol_closes_with_the_standard_code() {
        let unmasked = {
            let mut out = Vec::new();
            FrameHeader::default().format(0, &mut out).unwrap();
            out
        };
        for (bytes, close) in [
            (unmasked, Close::Protocol),
            (frame(0x82, b"x"), Close::Unsupported),
            (frame(0x81, &[0xff]), Close::Invalid),
            (frame(0x81, &[b'x'; 65]), Close::TooBig),
            ([frame(0x01, &[b'x'; 40]), frame(0x80, &[b'x'; 40])].concat(), Close::TooBig),
            (frame(0x80, b"x"), Close::Protocol),
            ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), Close::Protocol),
            (frame(0xc1, b"x"), Close::Protocol),
            (frame(0x83, b"x"), Close::Protocol),
            (frame(0x89, &[0; 126]), Close::Protocol),
            (frame(0x09, b""), Close::Protocol),
            (frame(0x88, &[3]), Close::Protocol),
            (frame(0x88, &[0x03, 0xed]), Close::Protocol),
            (frame(0x88, &[0x03, 0xe8, 0xff]), Close::Invalid),
        ] {
            assert_eq!(read_in_pieces(&bytes, 1), Err(close), "{bytes:02x?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_before_the_rest_has_come() {
        let good = "κόσμε".as_bytes();
        // Half of a character may yet become one; these cannot.
        for bad in [&b"\xf4\x90"[..], b"\xed\xa0", b"\xff", b"\xce\xce", b"\xc0"] {
            let text = [good, bad, good].concat();
            let end = good.len() + bad.len();
            let whole = frame(0x81, &text);
            let head = whole.len() - text.len();
            for piece in [1, 2, 3, 7, 100] {
                let parts = [&frame(0x01, &text[..3]), &frame(0, &text[3..end])[..]].concat();
                assert_eq!(read_in_pieces(&parts, piece), Err(Close::Invalid), "{bad:02x?}");
                let part = &whole[..head + end];
                assert_eq!(read_in_pieces(part, piece), Err(Close::Invalid), "{bad:02x?}");
                let part = &whole[..head + good.len() + 1];
                let pending = matches!(bad[0], 0xff | 0xc0);
                assert_eq!(read_in_pieces(part, piece).is_err(), pending, "{bad:02x?}");
                let parts = [&frame(0x01, &text[..3]), &frame(0, &text[3..])[..6 + end - 3]];
                assert_eq!(read_in_pieces(&parts.concat(), piece), Err(Close::Invalid));
            }
        }
    }

    #[test]
    fn what_was_checked_of_one_text_is_not_taken_for_checked_of_the_next() {
        let long = frame(0x81, "ö".repeat(30).as_bytes());
        let short = frame(0x01, b"\xff");
        for piece in [1, 5, 50] {
            let bytes = [&long[..], &short[..]].concat();
            assert_eq!(read_in_pieces(&bytes, piece), Err(Close::Invalid));
        }
    }

    proptest! {
        #[test]
        fn a_text_is_the_same_however_it_is_cut(
            text in ".{1,20}", cuts in proptest::collection::vec(1usize..20, 0..4), piece in 1usize..9
        ) {
            let mut rest = text.as_bytes();
            let mut bytes = Vec::new();
            for cut in cuts {
                let (part, more) = rest.split_at(cut.min(rest.len()));
                bytes.extend(frame(if bytes.is_empty() { 0x01 } else { 0 }, part));
                rest = more;
            }
            bytes.extend(frame(if bytes.is_empty() { 0x81 } else { 0x80 }, rest));
            let read = read_in_pieces(&bytes, piece);
            let expected = match text.len() {
                ..=64 => Ok(vec![Received::Text(text)]),
                _ => Err(Close::TooBig),
            };
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn of_what_cannot_be_followed_nothing_is_kept() {
        let mut frames = Frames::default();
        frames.push(&frame(0x01, b"a beginning"));
        assert_eq!(frames.next(64, &mut Inflater::default()), Ok(None));
        frames.push(&frame(0x80, &[b'x'; 65])[..20]);
        assert_eq!(frames.next(64, &mut Inflater::default()), Err(Close::TooBig));
        frames.push(&[b'x'; 1000]);
        assert_eq!(frames.next(64, &mut Inflater::default()), Ok(None));
        assert!(frames.is_idle() && frames.bytes.capacity() == 0 && frames.message.is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_a_close(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..50
        ) {
            let _outcome = read_in_pieces(&bytes, piece);
        }
    }
}
