//! The encodings that a socket may speak, and their names.

use std::sync::OnceLock;

use bytes::Bytes;

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
/// speaks that format. As long as all speak JSON, there is nothing but its frame.
#[derive(Debug, Default)]
pub struct Encoded {
    json: OnceLock<Bytes>,
    others: OnceLock<Box<[OnceLock<Bytes>; 3]>>,
}

impl Encoded {
    #[inline]
    pub fn get(&self, format: Format, encode: impl FnOnce() -> Bytes) -> Bytes {
        let frame = if format == Format::Json { &self.json } else { self.other(format) };
        frame.get_or_init(encode).clone()
    }

    /// Out of the way of sockets that speak JSON, which is what each delivery of most fan-outs is.
    #[inline(never)]
    fn other(&self, format: Format) -> &OnceLock<Bytes> {
        let [compact, msgpack, msgpack_compact] = &**self.others.get_or_init(Box::default);
        match format {
            Format::Json => &self.json,
            Format::JsonCompact => compact,
            Format::MsgPack => msgpack,
            Format::MsgPackCompact => msgpack_compact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_encoded_once_and_only_if_somebody_needs_it() {
        let (encoded, mut made) = (Encoded::default(), Vec::new());
        for format in [Format::Json, Format::MsgPack, Format::Json, Format::MsgPack] {
            let frame = encoded.get(format, || {
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
}
