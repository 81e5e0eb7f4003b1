//! Title-Case of the names of fields: a capital at the start and behind each hyphen, and nowhere
//! else.
//!
//! Every name of every head that passes is looked at once on its way in and once on its way out. A
//! name at a time that was a tenth of what a small request costs; so 64 bytes of a head are looked
//! at together, whatever lines they are of, with a bit for each.

use std::ops::ControlFlow;

use wide::u8x64;

/// How many bytes are looked at together.
const WIDTH: usize = 64;

/// So many bytes at most, and zeros where there are fewer.
fn together(bytes: &[u8]) -> u8x64 {
    if let Some(whole) = bytes.first_chunk::<WIDTH>() {
        return u8x64::from(*whole);
    }
    let mut whole = [0; WIDTH];
    whole[..bytes.len()].copy_from_slice(bytes);
    u8x64::from(whole)
}

/// A bit for each byte, the first the lowest: whether it is this one.
fn equal(bytes: u8x64, byte: u8) -> u64 {
    bytes.simd_eq(u8x64::splat(byte)).to_bitmask()
}

/// The same: whether it is between these two or one of them.
fn between(bytes: u8x64, first: u8, last: u8) -> u64 {
    let above = bytes - u8x64::splat(first);
    above.min(u8x64::splat(last - first)).simd_eq(above).to_bitmask()
}

/// Where the names in some bytes of a head are: what is before the first colon of a line, and all of
/// a line without one.
struct Block {
    newlines: u64,
    /// The first byte of each line.
    starts: u64,
    names: u64,
    /// What a capital may stand at, in a name or not.
    begins: u64,
}

/// What one block leaves to the next.
#[derive(Debug, Clone, Copy)]
struct Before {
    newline: bool,
    hyphen: bool,
    name: bool,
}

impl Before {
    /// Nothing has come of the first line.
    const START: Self = Self { newline: true, hyphen: false, name: false };

    fn look(&mut self, bytes: u8x64) -> Block {
        let newlines = equal(bytes, b'\n');
        let hyphens = equal(bytes, b'-');
        let others = !(newlines | equal(bytes, b':'));
        let starts = newlines << 1 | u64::from(self.newline);
        // A name is carried through all that ends none, as an addition carries.
        let (sum, name) = others.overflowing_add(starts | u64::from(self.name));
        let begins = starts | hyphens << 1 | u64::from(self.hyphen);
        let last = |bits: u64| bits >> (WIDTH - 1) != 0;
        *self = Self { newline: last(newlines), hyphen: last(hyphens), name };
        Block { newlines, starts, names: sum ^ others, begins }
    }
}

/// Takes the lowest of these bits away.
fn pop(bits: &mut u64) -> Option<usize> {
    let lowest = *bits;
    *bits &= lowest.wrapping_sub(1);
    (lowest != 0).then(|| lowest.trailing_zeros() as usize)
}

/// Hands out each whole line, without its end, and whether its name is in Title-Case, until told to
/// stop. If it never is, says where the rest begins.
pub fn lines(
    bytes: &[u8],
    mut each: impl FnMut(&[u8], bool) -> ControlFlow<()>,
) -> ControlFlow<(), usize> {
    let mut before = Before::START;
    let (mut start, mut right) = (0, true);
    for (at, chunk) in (0..).step_by(WIDTH).zip(bytes.chunks(WIDTH)) {
        let chunk = together(chunk);
        let block = before.look(chunk);
        let mut wrong = block.names & !block.begins & between(chunk, b'A', b'Z');
        wrong |= block.names & block.begins & between(chunk, b'a', b'z');
        let mut newlines = block.newlines;
        while let Some(end) = pop(&mut newlines) {
            let of_line = wrong & ((1 << end) - 1);
            wrong ^= of_line;
            let line = &bytes[start..at + end];
            start = at + end + 1;
            each(line, right && of_line == 0)?;
            right = true;
        }
        right &= wrong == 0;
    }
    ControlFlow::Continue(start)
}

/// Makes capitals of the small letters that names in Title-Case have none of, in the fields that
/// these bytes begin with. Returns where the empty line behind them begins, if it is there.
pub fn capitalize(bytes: &mut [u8]) -> Option<usize> {
    let mut before = Before::START;
    for (at, chunk) in (0..).step_by(WIDTH).zip(bytes.chunks_mut(WIDTH)) {
        let block = before.look(together(chunk));
        let mut begins = block.names & block.begins;
        while let Some(number) = pop(&mut begins) {
            // What is not there any more is 0 in the block, and no name.
            let Some(byte) = chunk.get_mut(number) else { break };
            if matches!(byte, b'\r' | b'\n') && block.starts >> number & 1 != 0 {
                return Some(at + number);
            }
            byte.make_ascii_uppercase();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn plainly(line: &[u8]) -> (Vec<u8>, bool) {
        let mut line = line.to_vec();
        let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (mut before, mut right) = (b'-', true);
        for byte in &mut line[..end] {
            let begins = before == b'-';
            right &= if begins { !byte.is_ascii_lowercase() } else { !byte.is_ascii_uppercase() };
            before = *byte;
            if begins {
                byte.make_ascii_uppercase();
            }
        }
        (line, right)
    }

    fn assert_as_plainly(bytes: &[u8]) {
        let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        let rest = expected.pop().unwrap().len();
        let mut seen = Vec::new();
        let end = lines(bytes, |line, right| {
            seen.push((line.to_vec(), right));
            ControlFlow::Continue(())
        });
        assert_eq!(end, ControlFlow::Continue(bytes.len() - rest));
        let plain: Vec<_> = expected.iter().map(|line| (line.to_vec(), plainly(line).1)).collect();
        assert_eq!(seen, plain);

        let is_empty = |at: &usize| {
            matches!(bytes[*at], b'\r' | b'\n') && (*at == 0 || bytes[*at - 1] == b'\n')
        };
        let end = (0..bytes.len()).find(is_empty);
        let fields = bytes[..end.unwrap_or(bytes.len())].split(|byte| *byte == b'\n');
        let fields = fields.map(|line| plainly(line).0).collect::<Vec<_>>().join(&b'\n');
        let mut capitalized = bytes.to_vec();
        assert_eq!(capitalize(&mut capitalized), end);
        assert_eq!(capitalized, [&fields, &bytes[fields.len()..]].concat());
    }

    proptest! {
        #[test]
        fn many_bytes_at_a_time_are_as_good_as_one(
            lines in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..60),
                    "[a-zA-Z-]{0,90}(: ?[a-zA-Z:-]{0,12})?\r?".prop_map(String::into_bytes),
                    "([A-Z][a-z]{0,9}-?){1,5}: [a-z]{0,9}\r".prop_map(String::into_bytes),
                    "\r?".prop_map(String::into_bytes),
                ],
                0..12,
            ),
        ) {
            assert_as_plainly(&lines.join(&b'\n'));
        }
    }

    #[test]
    fn every_byte_is_told_apart_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for before in ["", "-", "a", "A-", "\n", ":", ":\n", ": a\nab-"] {
                for room in [0, 1, 40, 61, 62, 63, 64, 65] {
                    let first = vec![b'A'; room];
                    assert_as_plainly(&[&first, before.as_bytes(), &[byte], b"b: x\ny"].concat());
                }
            }
        }
    }

    #[test]
    fn who_has_seen_enough_sees_no_more() {
        let mut seen = 0;
        let end = lines(b"A: 1\r\n\r\nb: 2\n", |line, _| {
            seen += 1;
            if line == b"\r" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((seen, end), (2, ControlFlow::Break(())));
    }
}
