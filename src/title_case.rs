//! Title-Case of the names of fields: a capital at the start and behind each hyphen, and nowhere
//! else.
//!
//! Every name of every head that passes is looked at once on its way in and once on its way out. A
//! byte at a time that was a tenth of what a small request costs; so sixteen are looked at together,
//! as one number.

const LANES: usize = 16;
const LOW: u128 = all(0x7f);
const HIGH: u128 = all(0x80);

const fn all(byte: u8) -> u128 {
    u128::from_le_bytes([byte; LANES])
}

/// The high bit of each byte that is `byte`.
const fn equal(bytes: u128, byte: u8) -> u128 {
    let other = bytes ^ all(byte);
    !(((other & LOW) + LOW) | other) & HIGH
}

/// The high bit of each byte that lies between these two, which are ASCII.
const fn between(bytes: u128, first: u8, last: u8) -> u128 {
    let low = bytes & LOW;
    (low + all(0x80 - first)) & !(low + all(0x7f - last)) & !bytes & HIGH
}

/// Some bytes of a line that are not its first.
struct Lanes {
    bytes: u128,
    /// The high bit of each that stands before the first colon and behind a hyphen.
    begins: u128,
    /// The same for those that do not stand behind a hyphen.
    goes_on: u128,
    /// How many there are before the colon, if there is one.
    end: Option<usize>,
}

impl Lanes {
    fn at(line: &[u8], at: usize) -> Self {
        let bytes = bytes_at(line, at);
        let colons = equal(bytes, b':');
        let name = colons.wrapping_sub(1) & !colons & HIGH;
        let hyphens = equal(bytes_at(line, at - 1), b'-');
        let end = (colons != 0).then(|| colons.trailing_zeros() as usize / 8);
        Self { bytes, begins: name & hyphens, goes_on: name & !hyphens, end }
    }
}

/// The bytes from there, and colons where the line is over.
fn bytes_at(line: &[u8], at: usize) -> u128 {
    if let Some(bytes) = line.get(at..).and_then(<[u8]>::first_chunk) {
        return u128::from_le_bytes(*bytes);
    }
    let mut bytes = [b':'; LANES];
    bytes.iter_mut().zip(line.iter().skip(at)).for_each(|(to, from)| *to = *from);
    u128::from_le_bytes(bytes)
}

/// Where the name in `name: value` ends, and whether it is in Title-Case.
pub fn name_of(line: &[u8]) -> Option<(usize, bool)> {
    let first = line.first()?;
    if *first == b':' {
        return Some((0, true));
    }
    let (mut at, mut wrong) = (1, first.is_ascii_lowercase());
    while at < line.len() {
        let Lanes { bytes, begins, goes_on, end } = Lanes::at(line, at);
        wrong |= between(bytes, b'a', b'z') & begins != 0;
        wrong |= between(bytes, b'A', b'Z') & goes_on != 0;
        if let Some(end) = end {
            return (at + end < line.len()).then_some((at + end, !wrong));
        }
        at += LANES;
    }
    None
}

/// Makes capitals of the small letters that a name in Title-Case has none of; where it ends.
pub fn capitalize(line: &mut [u8]) -> usize {
    match line.first_mut() {
        None | Some(b':') => return 0,
        Some(first) => first.make_ascii_uppercase(),
    }
    let mut at = 1;
    while at < line.len() {
        let Lanes { bytes, begins, end, .. } = Lanes::at(line, at);
        let small = between(bytes, b'a', b'z') & begins;
        if small != 0 {
            let capitalized = (bytes ^ (small >> 2)).to_le_bytes();
            match line.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                Some(chunk) => *chunk = capitalized,
                None => line[at..].iter_mut().zip(capitalized).for_each(|(to, from)| *to = from),
            }
        }
        if let Some(end) = end {
            return (at + end).min(line.len());
        }
        at += LANES;
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn plainly(line: &[u8]) -> (Vec<u8>, usize, bool) {
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
        (line, end, right)
    }

    proptest! {
        #[test]
        fn many_bytes_at_a_time_are_as_good_as_one(
            line in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "[a-zA-Z-]{0,40}(: ?[a-zA-Z:-]{0,12})?".prop_map(String::into_bytes),
                "([A-Z][a-z]{0,9}-?){1,5}: [a-z]{0,9}".prop_map(String::into_bytes),
            ],
        ) {
            let (expected, end, right) = plainly(&line);
            let colon = line.contains(&b':');
            prop_assert_eq!(name_of(&line), colon.then_some((end, right)));
            let mut capitalized = line.clone();
            prop_assert_eq!(capitalize(&mut capitalized), end);
            prop_assert_eq!(capitalized, expected);
        }
    }

    #[test]
    fn every_byte_is_told_apart() {
        for byte in 0..=u8::MAX {
            for before in
                ["", "-", "a", "abcdefghijklmno-", "abcdefghijklmnop", "abcdefghijklmnop-"]
            {
                let line = [before.as_bytes(), &[byte], b": x"].concat();
                let (expected, end, right) = plainly(&line);
                assert_eq!(name_of(&line), Some((end, right)), "{line:?}");
                let mut capitalized = line.clone();
                assert_eq!(capitalize(&mut capitalized), end, "{line:?}");
                assert_eq!(capitalized, expected, "{line:?}");
            }
        }
    }
}
