//! Messages compressed on their way out (RFC 7692 §7.2.1), each by itself: what one was compressed
//! to is good for every socket that agreed on as large a window.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use super::{Format, codec};

/// How far back a client's decompressor looks at the most. Two, because each is a frame of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 4 KiB.
    Small,
    /// 32 KiB.
    Full,
}

/// What one socket speaks: a format, and from which size its messages are compressed, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect(
    /// The format in 2 bits, above them the window in 2, and above those the size; all 0 is JSON,
    /// never compressed. In one number, so that a delivery to who speaks that asks one question,
    /// and a socket that does is no larger for it.
    u32,
);

/// Where the size begins. The largest that there is room for is one byte less than 256 MiB.
const FROM: u32 = 4;

/// How hard is tried. Harder is up to half as much time again, for a thirtieth of the bytes.
const LEVEL: Compression = Compression::new(4);
/// What the end of a flushed block is, and a message goes without (RFC 7692 §7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

impl Window {
    pub const ALL: [Self; 2] = [Self::Small, Self::Full];

    /// The base-2 logarithm of its size.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Small => 12,
            Self::Full => 15,
        }
    }
}

impl Dialect {
    /// Compresses nothing.
    pub const fn plain(format: Format) -> Self {
        Self(format as u32)
    }

    /// Compresses what is as large as `from`, in bytes, or larger.
    pub fn deflating(format: Format, window: Window, from: usize) -> Self {
        let from = u32::try_from(from).unwrap_or(u32::MAX).min(u32::MAX >> FROM);
        Self(format as u32 | (window as u32 + 1) << 2 | from << FROM)
    }

    pub const fn format(self) -> Format {
        Format::ALL[(self.0 & 3) as usize]
    }

    /// Whether messages may be compressed, in either direction.
    pub const fn deflates(self) -> bool {
        self.0 > 3
    }

    #[inline]
    pub(super) const fn is_plain_json(self) -> bool {
        self.0 == 0
    }

    /// The window that a message of such a frame is compressed for.
    pub(super) fn window_for(self, frame: &[u8]) -> Option<Window> {
        let window = match self.0 >> 2 & 3 {
            0 => return None,
            1 => Window::Small,
            _ => Window::Full,
        };
        let from = (self.0 >> FROM) as usize;
        let is_large = frame.len().saturating_sub(head_of(frame)) >= from;
        is_large.then_some(window)
    }

    /// The frame of a message that is for this socket alone, as it is sent.
    pub fn pack(self, frame: Bytes) -> Bytes {
        match self.window_for(&frame) {
            Some(window) => deflate(&frame, window),
            None => frame,
        }
    }
}

/// The length of the head of a frame that is not masked (RFC 6455 §5.2).
fn head_of(frame: &[u8]) -> usize {
    match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    }
}

thread_local! {
    /// One for each window, made when it is first needed. A compressor takes a third of a
    /// megabyte, so that a worker's sockets share it: nothing of a message stays in it.
    static COMPRESSORS: RefCell<[Option<Compress>; 2]> = const { RefCell::new([None, None]) };
}

/// The frame of the same message, compressed; just as it was where that would be no smaller.
pub(super) fn deflate(frame: &Bytes, window: Window) -> Bytes {
    let Some((_, payload)) = frame.split_at_checked(head_of(frame)) else { return frame.clone() };
    let compressed = COMPRESSORS.with_borrow_mut(|compressors| {
        let compressor = compressors[window as usize]
            .get_or_insert_with(|| Compress::new_with_window_bits(LEVEL, false, window.bits()));
        compress(compressor, payload)
    });
    match compressed {
        Some(compressed) => {
            let opcode = OpCode::from(frame[0] & 0x0f);
            let header = FrameHeader { rsv1: true, opcode, ..FrameHeader::default() };
            codec::frame(&header, &compressed)
        }
        None => frame.clone(),
    }
}

fn compress(compressor: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    compressor.reset();
    // Room for what would be smaller, for what is cut off, and for one byte more: whether all was
    // flushed can be seen only where room is left.
    let mut out = Vec::with_capacity(payload.len() + TAIL.len());
    let status = compressor.compress_vec(payload, &mut out, FlushCompress::Sync);
    let is_whole = matches!(status, Ok(Status::Ok))
        && compressor.total_in() == payload.len() as u64
        && out.len() < payload.len() + TAIL.len()
        && out.ends_with(&TAIL);
    out.truncate(out.len().saturating_sub(TAIL.len()));
    is_whole.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &[u8]) -> Bytes {
        let header = FrameHeader { opcode: OpCode::from(1), ..FrameHeader::default() };
        codec::frame(&header, payload)
    }

    #[test]
    fn a_dialect_is_a_format_and_maybe_a_window() {
        for format in Format::ALL {
            let plain = Dialect::plain(format);
            assert_eq!((plain.format(), plain.deflates()), (format, false));
            assert_eq!(plain.is_plain_json(), format == Format::Json);
            assert_eq!(plain.window_for(&text(&[b' '; 5000])), None);
            for window in Window::ALL {
                let dialect = Dialect::deflating(format, window, 1000);
                assert_eq!((dialect.format(), dialect.deflates()), (format, true));
                assert!(!dialect.is_plain_json());
                assert_eq!(dialect.window_for(&text(&[b' '; 1000])), Some(window));
                assert_eq!(dialect.window_for(&text(&[b' '; 999])), None);
            }
        }
        assert_eq!(Dialect::default(), Dialect::plain(Format::Json));
        let never = Dialect::deflating(Format::Json, Window::Full, usize::MAX);
        assert_eq!(never.window_for(&text(&[b' '; 100_000])), None);
        assert_eq!(std::mem::size_of::<Dialect>(), 4);
    }

    #[test]
    fn a_message_that_gets_no_smaller_goes_as_it_is() {
        let mut noise = 1_u32;
        let mut random = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        for length in [0, 1, 2, 100, 126, 5000, 70_000] {
            let frame = text(&(0..length).map(|_| random()).collect::<Vec<_>>());
            for window in Window::ALL {
                assert_eq!(deflate(&frame, window), frame, "{length}");
            }
        }
        let dialect = Dialect::deflating(Format::Json, Window::Full, 0);
        for length in [20, 126, 5000, 70_000] {
            let frame = text(&vec![b'x'; length]);
            let packed = dialect.pack(frame.clone());
            assert_eq!(packed[0], 0xc1, "RSV1, FIN and text");
            assert!(packed.len() < frame.len());
        }
        assert_eq!(Dialect::plain(Format::Json).pack(text(&[b'x'; 5000])), text(&[b'x'; 5000]));
    }
}
