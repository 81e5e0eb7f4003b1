//! Messages of clients that are compressed (RFC 7692 §7.2.2).

use flate2::{Decompress, FlushDecompress, Status};

use crate::protocol::Close;
use crate::protocol::deflate::TAIL;

/// Decompresses one message after the other, for all sockets of a worker: nothing of a message is
/// needed for the next. Until the first of them it holds nothing.
#[derive(Debug, Default)]
pub struct Inflater(Option<Inflating>);

#[derive(Debug)]
struct Inflating {
    stream: Decompress,
    buffer: Box<[u8]>,
}

/// Decompressed at once.
const BUFFER: usize = 16 << 10;
/// A block without content that says that it is the last (RFC 1951 §3.2.4): where it is read as
/// such, what came before it was whole.
const LAST: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// How long a message of at most `limit` bytes may be while it is compressed: what has no pattern
/// gets longer by what deflate writes about it.
pub(super) fn compressed_limit(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(64)
}

impl Inflater {
    /// The message, of at most `limit` bytes. Takes no more memory than those and a buffer,
    /// whatever it would become.
    pub fn inflate(&mut self, message: &[u8], limit: usize) -> Result<Vec<u8>, Close> {
        let inflating = self.0.get_or_insert_with(|| Inflating {
            stream: Decompress::new(false),
            buffer: vec![0; BUFFER].into(),
        });
        inflating.stream.reset(false);
        let mut out = Vec::new();
        // After a last block (§7.2.3.4) nothing more has to come.
        let is_whole = inflating.feed(message, &mut out, limit)? || {
            inflating.feed(&TAIL, &mut out, limit)?;
            inflating.feed(&LAST, &mut out, limit)?
        };
        if is_whole { Ok(out) } else { Err(Close::Corrupt) }
    }
}

impl Inflating {
    /// Appends what the bytes become; true if they end with a last block.
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<bool, Close> {
        loop {
            let (read, made) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(bytes, &mut self.buffer, FlushDecompress::None)
                .map_err(|_| Close::Corrupt)?;
            let read = (self.stream.total_in() - read) as usize;
            let made = (self.stream.total_out() - made) as usize;
            bytes = &bytes[read..];
            append(out, &self.buffer[..made], limit)?;
            match status {
                Status::StreamEnd => {
                    // What follows has a beginning of its own (RFC 1951 §3.2.3).
                    self.stream.reset(false);
                    if bytes.is_empty() {
                        return Ok(true);
                    }
                }
                Status::Ok | Status::BufError => {
                    if bytes.is_empty() && made < self.buffer.len() {
                        return Ok(false);
                    }
                    if read == 0 && made == 0 {
                        return Err(Close::Corrupt);
                    }
                }
            }
        }
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Result<(), Close> {
    let length = out.len() + bytes.len();
    if length > limit {
        return Err(Close::TooBig);
    }
    if length > out.capacity() {
        // Most messages are one buffer or less; others get all that they may have.
        let capacity = if out.is_empty() { length } else { limit };
        out.reserve_exact(capacity - out.len());
    }
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::deflate::{Dialect, Window};
    use crate::protocol::{Format, Outgoing, codec};

    fn inflate(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Close> {
        Inflater::default().inflate(bytes, limit)
    }

    fn compressed(bytes: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 100);
        Compress::new(Compression::best(), false).compress_vec(bytes, &mut out, flush).unwrap();
        out
    }

    #[test]
    fn the_examples_of_the_rfc_are_hello() {
        for (name, bytes) in [
            ("7.2.3.1", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]),
            ("7.2.3.3", &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]),
            ("7.2.3.4", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
            (
                "7.2.3.5",
                &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            ),
            ("a last block and nothing more", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        ] {
            assert_eq!(inflate(bytes, 5), Ok(b"Hello".to_vec()), "{name}");
            assert_eq!(inflate(bytes, 4), Err(Close::TooBig), "{name}");
        }
        assert_eq!(inflate(&[0], 0), Ok(vec![]), "7.2.3.6");
        // Several streams, each ended.
        let twice = compressed(b"Hello", FlushCompress::Finish).repeat(2);
        assert_eq!(inflate(&twice, 10), Ok(b"HelloHello".to_vec()));
    }

    #[test]
    fn what_is_no_deflate_or_is_cut_off_is_refused() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for bytes in [
            &b""[..],
            &[0x06],
            &[0xff],
            b"{\"event\":\"ping\"}",
            &hello[..1],
            &hello[..4],
            &hello[..6],
            &[&hello[..], b"\xff\xff\xff"].concat(),
            // What it repeats lies before its beginning.
            &[0x02, 0x08, 0x20, 0x80, 0x00],
        ] {
            assert_eq!(inflate(bytes, 100), Err(Close::Corrupt), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_a_message() {
        const LIMIT: usize = 64 << 10;
        let bomb = compressed(&vec![0; 2 << 20], FlushCompress::Sync);
        assert!(bomb.len() < LIMIT);
        let mut inflater = Inflater::default();
        inflater.inflate(&bomb, LIMIT).unwrap_err();
        let inflating = inflater.0.as_ref().unwrap();
        let made = inflating.stream.total_out();
        assert!(made <= (LIMIT + BUFFER) as u64, "{made}");
        // And the next message is none the worse for it.
        let most = compressed(&[b'a'; LIMIT], FlushCompress::Sync);
        let whole = inflater.inflate(&most[..most.len() - 4], LIMIT).unwrap();
        assert_eq!((whole.len(), whole.capacity()), (LIMIT, LIMIT));
        let small = inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], LIMIT).unwrap();
        assert_eq!((small.as_slice(), small.capacity()), (&b"Hello"[..], 5));
    }

    proptest! {
        #[test]
        fn any_bytes_become_no_more_than_they_may(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0_usize..2000
        ) {
            if let Ok(message) = inflate(&bytes, limit) {
                prop_assert!(message.len() <= limit && message.capacity() <= limit);
            }
        }

        #[test]
        fn any_message_comes_out_as_it_went_in(
            words in proptest::collection::vec("[a-c]{0,9}|\\PC{0,9}", 0..80),
            format in 0_usize..4, full in any::<bool>()
        ) {
            let data = serde_json::value::to_raw_value(&words).unwrap();
            let message = Outgoing { event: Some("e"), data: Some(&data), ..Outgoing::default() };
            let plain = codec::encode(&message, Format::ALL[format]);
            let window = Window::ALL[usize::from(full)];
            let packed = Dialect::deflating(Format::ALL[format], window, 0).pack(plain.clone());
            let payload = |frame: &[u8]| {
                frame[match frame[1] { 126 => 4, 127 => 10, _ => 2 }..].to_vec()
            };
            if packed[0] & 0x40 == 0 {
                prop_assert_eq!(packed, plain);
            } else {
                prop_assert!(packed.len() < plain.len() && packed[0] == plain[0] | 0x40);
                prop_assert_eq!(inflate(&payload(&packed), plain.len()), Ok(payload(&plain)));
            }
        }
    }
}
