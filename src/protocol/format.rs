//! The encodings that a socket may speak, and their names.

use std::sync::OnceLock;

use bytes::Bytes;

use super::deflate::{self, Dialect, Window};
use super::keys::Key;

/// How the messages of one socket are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    #[default]
    Json,
    JsonCompact,
    MsgPack,
    MsgPackCompact,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Json, Self::JsonCompact, Self::MsgPack, Self::MsgPackCompact];

    /// The subprotocol (RFC 6455 §1.9) that a client chooses it with.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "pogo.v1.json",
            Self::JsonCompact => "pogo.v1.json.compact",
            Self::MsgPack => "pogo.v1.msgpack",
            Self::MsgPackCompact => "pogo.v1.msgpack.compact",
        }
    }

    /// Goes in binary frames.
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::MsgPack | Self::MsgPackCompact)
    }

    pub const fn is_compact(self) -> bool {
        matches!(self, Self::JsonCompact | Self::MsgPackCompact)
    }

    /// How a key is written.
    pub(super) const fn key(self, key: Key) -> &'static str {
        if self.is_compact() { key.short() } else { key.name() }
    }

    /// Which key that is; only the format's own spelling is one.
    pub(super) fn read_key(self, text: &str) -> Option<Key> {
        if self.is_compact() { Key::of_short(text) } else { Key::of_name(text) }
    }
}

/// The frames of one message, each made by whoever needs it first and shared by everybody who
/// speaks that dialect. As long as all speak JSON and nothing else, there is nothing but its frame.
#[derive(Debug, Default)]
pub struct Encoded {
    json: OnceLock<Bytes>,
    others: OnceLock<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    /// All but JSON.
    formats: [OnceLock<Bytes>; 3],
    /// Of each window, compressed.
    deflated: [OnceLock<Box<[OnceLock<Bytes>; 4]>>; Window::ALL.len()],
}

impl Encoded {
    #[inline]
    pub fn get(&self, dialect: Dialect, encode: impl FnOnce() -> Bytes) -> Bytes {
        if dialect.is_plain_json() {
            return self.json.get_or_init(encode).clone();
        }
        self.other(dialect, encode)
    }

    /// Out of the way of sockets that speak JSON, which is what each delivery of most fan-outs is.
    #[inline(never)]
    fn other(&self, dialect: Dialect, encode: impl FnOnce() -> Bytes) -> Bytes {
        let format = dialect.format();
        let plain = match (format as usize).checked_sub(1) {
            None => &self.json,
            Some(at) => &self.others.get_or_init(Box::default).formats[at],
        };
        let plain = plain.get_or_init(encode);
        let Some(window) = dialect.window_for(plain) else { return plain.clone() };
        let others = self.others.get_or_init(Box::default);
        let deflated = others.deflated[window as usize].get_or_init(Box::default);
        deflated[format as usize].get_or_init(|| deflate::deflate(plain, window)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_encoded_once_and_only_if_somebody_needs_it() {
        let (encoded, mut made) = (Encoded::default(), Vec::new());
        for format in [Format::Json, Format::MsgPack, Format::Json, Format::MsgPack] {
            let frame = encoded.get(Dialect::plain(format), || {
                made.push(format);
                format.subprotocol().into()
            });
            assert_eq!(frame, format.subprotocol());
            if made.len() == 1 {
                assert!(encoded.others.get().is_none(), "JSON alone takes no more memory");
            }
        }
        assert_eq!(made, [Format::Json, Format::MsgPack]);
    }

    #[test]
    fn who_agreed_on_a_window_shares_one_compressed_frame() {
        let plain = Bytes::from([&[0x81, 126, 0, 200][..], &[b'x'; 200]].concat());
        for format in Format::ALL {
            let encoded = Encoded::default();
            let get = |dialect| encoded.get(dialect, || plain.clone());
            assert_eq!(get(Dialect::plain(format)), plain);
            for window in Window::ALL {
                let dialect = |from| Dialect::deflating(format, window, from);
                assert_eq!(get(dialect(201)).as_ptr(), plain.as_ptr(), "too small");
                let deflated = get(dialect(200));
                assert_eq!((deflated[0], deflated.len() < 20), (0xc1, true));
                assert_eq!(get(dialect(1)).as_ptr(), deflated.as_ptr(), "made once");
            }
            assert_eq!(get(Dialect::plain(format)).as_ptr(), plain.as_ptr());
        }
        assert_eq!(std::mem::size_of::<Encoded>(), 7 * std::mem::size_of::<usize>());
    }
}
