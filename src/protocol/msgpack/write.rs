//! MsgPack from values and from JSON text, each in the shortest form that has its type.

/// What is longer than this has no length in MsgPack; no body that Pogo takes comes near.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(in crate::protocol) fn unsigned(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        out.push(number as u8);
    } else if let Ok(number) = u8::try_from(number) {
        out.extend([0xcc, number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(0xcd);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        out.push(0xce);
        out.extend(number.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend(number.to_be_bytes());
    }
}

pub(in crate::protocol) fn signed(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = u64::try_from(number) {
        unsigned(out, number);
    } else if number >= -32 {
        out.push(number as u8);
    } else if let Ok(number) = i8::try_from(number) {
        out.push(0xd0);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xd1);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xd2);
        out.extend(number.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend(number.to_be_bytes());
    }
}

/// Always in 64 bits, so that readers that have two types of floats have one for all of ours.
pub(in crate::protocol) fn float(out: &mut Vec<u8>, number: f64) {
    out.push(0xcb);
    out.extend(number.to_be_bytes());
}

pub(in crate::protocol) fn text(out: &mut Vec<u8>, text: &str) {
    let count = length(text.len());
    if count < 32 {
        out.push(0xa0 | count as u8);
    } else if let Ok(count) = u8::try_from(count) {
        out.extend([0xd9, count]);
    } else if let Ok(count) = u16::try_from(count) {
        out.push(0xda);
        out.extend(count.to_be_bytes());
    } else {
        out.push(0xdb);
        out.extend(count.to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

/// The head of a map of so few pairs that it takes one byte.
pub(in crate::protocol) fn short_map(out: &mut Vec<u8>, pairs: u8) {
    debug_assert!(pairs <= SHORT);
    out.push(0x80 | pairs);
}

/// Most members of an array or map whose head is one byte.
const SHORT: u8 = 15;

/// An array or object whose end has not come.
struct Open {
    /// Where its head is, of one byte for now.
    at: usize,
    is_map: bool,
    /// Keys and values.
    members: usize,
}

/// An array or map whose head takes more than the one byte that was left for it.
struct Wide {
    at: usize,
    is_map: bool,
    count: u32,
}

impl Wide {
    /// What its head has more than one byte.
    fn extra(&self) -> usize {
        if self.count <= u32::from(u16::MAX) { 2 } else { 4 }
    }
}

/// Appends the value of a JSON text, which must be valid (as a `RawValue` is).
///
/// Numbers without fraction and exponent are integers as far as 64 bits go; all others, and `-0`,
/// are floats. Half a surrogate pair becomes U+FFFD, because a str is UTF-8.
pub(in crate::protocol) fn json(out: &mut Vec<u8>, json: &str) {
    let bytes = json.as_bytes();
    let mut open: Vec<Open> = Vec::new();
    let mut wide: Vec<Wide> = Vec::new();
    let mut scratch = String::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => continue,
            b'}' | b']' => {
                if let Some(closed) = open.pop() {
                    close(out, &mut wide, &closed);
                }
                continue;
            }
            _ => {}
        }
        if let Some(container) = open.last_mut() {
            container.members += 1;
        }
        match byte {
            b'{' | b'[' => {
                open.push(Open { at: out.len(), is_map: byte == b'{', members: 0 });
                out.push(0);
            }
            b'"' => at = string(out, json, at, &mut scratch),
            b'n' => {
                out.push(0xc0);
                at = begin + "null".len();
            }
            b'f' => {
                out.push(0xc2);
                at = begin + "false".len();
            }
            b't' => {
                out.push(0xc3);
                at = begin + "true".len();
            }
            _ => {
                let is_of_number =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                at += bytes[at..].iter().take_while(|byte| is_of_number(byte)).count();
                number(out, json.get(begin..at).unwrap_or_default());
            }
        }
    }
    widen(out, wide);
}

/// Appends the string that begins at `from`, and gives the place behind its end.
fn string(out: &mut Vec<u8>, json: &str, from: usize, scratch: &mut String) -> usize {
    let bytes = json.as_bytes();
    let (mut end, mut escaped) = (from, false);
    while let Some(ahead) = memchr::memchr2(b'"', b'\\', bytes.get(end..).unwrap_or_default()) {
        end += ahead;
        if bytes[end] == b'"' {
            break;
        }
        escaped = true;
        end += 2;
    }
    let inner = json.get(from..end).unwrap_or_default();
    if escaped {
        scratch.clear();
        unescape(inner, scratch);
        text(out, scratch);
    } else {
        text(out, inner);
    }
    end + 1
}

fn unescape(mut rest: &str, plain: &mut String) {
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        let escape = chars.next().unwrap_or_default();
        rest = chars.as_str();
        plain.push(match escape {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = unit(&mut rest);
                let mut low_at = rest.strip_prefix("\\u").unwrap_or_default();
                let low = if low_at.is_empty() { 0 } else { unit(&mut low_at) };
                let pair = char::decode_utf16([high, low]).next().and_then(Result::ok);
                if (0xd800..0xdc00).contains(&high) && pair.is_some() {
                    rest = low_at;
                }
                pair.unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other,
        });
    }
    plain.push_str(rest);
}

/// Takes the four digits of an escape.
fn unit(rest: &mut &str) -> u16 {
    let (digits, after) = rest.split_at_checked(4).unwrap_or((rest, ""));
    *rest = after;
    u16::from_str_radix(digits, 16).unwrap_or_default()
}

fn number(out: &mut Vec<u8>, digits: &str) {
    if let Ok(number) = digits.parse::<u64>() {
        unsigned(out, number);
    } else if let Ok(number) = digits.parse::<i64>()
        && number != 0
    {
        signed(out, number);
    } else {
        // Digits always have a value, if an infinite one.
        float(out, digits.parse().unwrap_or(f64::NAN));
    }
}

fn close(out: &mut [u8], wide: &mut Vec<Wide>, closed: &Open) {
    let is_map = closed.is_map;
    let count = length(if is_map { closed.members / 2 } else { closed.members });
    if count > u32::from(SHORT) {
        return wide.push(Wide { at: closed.at, is_map, count });
    }
    if let Some(head) = out.get_mut(closed.at) {
        *head = if is_map { 0x80 } else { 0x90 } | count as u8;
    }
}

/// Makes room for the heads that need it: every byte behind the first of them moves once.
fn widen(out: &mut Vec<u8>, mut wide: Vec<Wide>) {
    wide.sort_unstable_by_key(|container| container.at);
    let mut read = out.len();
    out.resize(read + wide.iter().map(Wide::extra).sum::<usize>(), 0);
    let mut write = out.len();
    for container in wide.iter().rev() {
        let behind = container.at + 1;
        write -= read - behind;
        out.copy_within(behind..read, write);
        read = container.at;
        let head = container.count.to_be_bytes();
        let is_short = container.extra() == 2;
        let head = if is_short { &head[2..] } else { &head[..] };
        write -= head.len();
        out[write..write + head.len()].copy_from_slice(head);
        write -= 1;
        out[write] = match (container.is_map, is_short) {
            (false, true) => 0xdc,
            (false, false) => 0xdd,
            (true, true) => 0xde,
            (true, false) => 0xdf,
        };
    }
}
