//! A message in MsgPack as JSON text.
//!
//! Nothing is allocated because of a length that is only declared: what is said to be longer than
//! the bytes that are there is refused where it is said.

use std::ops::Range;

use crate::protocol::codec::append_json;

/// Arrays and maps in each other; a client's own reader may be less patient.
const MAX_DEPTH: usize = 128;

/// A message that could be followed to its end.
#[derive(Debug)]
pub(in crate::protocol) struct Json {
    pub text: String,
    /// Where the value of the data key stands, if it contains binary.
    pub packed: Option<Range<usize>>,
    /// What there is in it that has no form in JSON.
    pub refused: Option<&'static str>,
}

/// Where bytes stop being MsgPack.
type Fault = &'static str;

const ENDS: Fault = "it ends too early";

/// Translates one message. `data_key` is the key of the message below which there may be binary:
/// it becomes text in base64.
pub(in crate::protocol) fn to_json(bytes: &[u8], data_key: &str) -> Result<Json, Fault> {
    let mut reader = Reader {
        bytes,
        at: 0,
        data_key,
        out: Vec::with_capacity(bytes.len() * 2),
        open: Vec::new(),
        keys: Vec::new(),
        data_from: None,
        has_binary: false,
        packed: None,
        refused: None,
    };
    reader.value()?;
    while let Some(container) = reader.open.last_mut() {
        if container.left == 0 {
            reader.close();
            continue;
        }
        container.left -= 1;
        let is_key = container.is_map && container.left % 2 == 1;
        if !container.is_first && (is_key || !container.is_map) {
            reader.out.push(b',');
        }
        container.is_first = false;
        if is_key { reader.key()? } else { reader.value()? }
    }
    if reader.at < bytes.len() {
        return Err("something follows its end");
    }
    let text = String::from_utf8(reader.out).map_err(|_| "a str is not UTF-8")?;
    Ok(Json { text, packed: reader.packed, refused: reader.refused })
}

/// An array or map whose end has not come.
struct Container {
    is_map: bool,
    is_first: bool,
    /// Values, and keys, that are to come.
    left: usize,
    /// Where its keys begin among those of all.
    keys: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    data_key: &'a str,
    out: Vec<u8>,
    open: Vec<Container>,
    /// The keys so far of all open maps.
    keys: Vec<&'a [u8]>,
    /// Where the value of the data key begins, while it is read.
    data_from: Option<usize>,
    has_binary: bool,
    packed: Option<Range<usize>>,
    refused: Option<&'static str>,
}

enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(usize),
    Binary(usize),
    Array(usize),
    Map(usize),
    Extension(usize),
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(ENDS)?;
        self.at += count;
        Ok(taken)
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, bytes: usize) -> Result<u64, Fault> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Fault> {
        usize::try_from(self.number(bytes)?).map_err(|_| ENDS)
    }

    fn head(&mut self) -> Result<Head, Fault> {
        let [first] = *self.take(1)? else { return Err(ENDS) };
        // The low bits of some: how many bytes their length or number has, as a power of two.
        let width = |first_of_kind: u8| 1_usize << (first - first_of_kind);
        Ok(match first {
            0x00..=0x7f => Head::Unsigned(first.into()),
            0x80..=0x8f => Head::Map((first & 0x0f).into()),
            0x90..=0x9f => Head::Array((first & 0x0f).into()),
            0xa0..=0xbf => Head::Text((first & 0x1f).into()),
            0xc0 => Head::Nil,
            0xc1 => return Err("0xc1 begins nothing"),
            0xc2 | 0xc3 => Head::Bool(first == 0xc3),
            0xc4..=0xc6 => Head::Binary(self.length(width(0xc4))?),
            0xc7..=0xc9 => Head::Extension(self.length(width(0xc7))?),
            0xca => Head::Float(f32::from_bits(self.number(4)? as u32).into()),
            0xcb => Head::Float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => Head::Unsigned(self.number(width(0xcc))?),
            0xd0 => Head::Signed((self.number(1)? as i8).into()),
            0xd1 => Head::Signed((self.number(2)? as i16).into()),
            0xd2 => Head::Signed((self.number(4)? as i32).into()),
            0xd3 => Head::Signed(self.number(8)? as i64),
            0xd4..=0xd8 => Head::Extension(width(0xd4)),
            0xd9..=0xdb => Head::Text(self.length(width(0xd9))?),
            0xdc | 0xdd => Head::Array(self.length(2 * width(0xdc))?),
            0xde | 0xdf => Head::Map(self.length(2 * width(0xde))?),
            0xe0..=0xff => Head::Signed((first as i8).into()),
        })
    }

    fn value(&mut self) -> Result<(), Fault> {
        match self.head()? {
            Head::Nil => self.out.extend_from_slice(b"null"),
            Head::Bool(value) => self.write(&value),
            Head::Unsigned(value) => self.write(&value),
            Head::Signed(value) => self.write(&value),
            Head::Float(value) if value.is_finite() => self.write(&value),
            Head::Float(_) => self.refuse("NaN and the infinities have no form in JSON"),
            Head::Text(length) => {
                let text = self.take(length)?;
                self.text(text)?;
            }
            Head::Binary(length) => {
                let bytes = self.take(length)?;
                self.binary(bytes);
            }
            Head::Array(count) => self.open(false, count)?,
            Head::Map(pairs) => self.open(true, pairs.saturating_mul(2))?,
            Head::Extension(length) => {
                self.take(length.saturating_add(1))?;
                self.refuse("extension types have no form in JSON");
            }
        }
        Ok(())
    }

    fn key(&mut self) -> Result<(), Fault> {
        let is_of_message = self.open.len() == 1;
        if is_of_message {
            self.end_data();
        }
        let Head::Text(length) = self.head()? else { return Err("a key is not a str") };
        let key = self.take(length)?;
        self.text(key)?;
        self.out.push(b':');
        self.keys.push(key);
        if is_of_message && key == self.data_key.as_bytes() {
            self.data_from = Some(self.at);
        }
        Ok(())
    }

    /// `members` are values, and keys.
    fn open(&mut self, is_map: bool, members: usize) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err("it is nested too deep");
        }
        // Each member has a byte or more.
        if members > self.bytes.len() - self.at {
            return Err(ENDS);
        }
        self.out.push(if is_map { b'{' } else { b'[' });
        let keys = self.keys.len();
        self.open.push(Container { is_map, is_first: true, left: members, keys });
        Ok(())
    }

    fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        self.out.push(if closed.is_map { b'}' } else { b']' });
        let keys = &mut self.keys[closed.keys..];
        keys.sort_unstable();
        let is_twice = keys.windows(2).any(|two| two[0] == two[1]);
        self.keys.truncate(closed.keys);
        if is_twice {
            self.refused = self.refused.or(Some("a map has a key twice"));
        }
        if self.open.is_empty() {
            self.end_data();
        }
    }

    fn end_data(&mut self) {
        if let Some(from) = self.data_from.take()
            && self.has_binary
        {
            self.packed = Some(from..self.at);
        }
    }

    fn binary(&mut self, bytes: &[u8]) {
        if self.data_from.is_none() {
            return self.refuse("binary may stand in \"data\" alone");
        }
        self.has_binary = true;
        self.out.push(b'"');
        self.out.extend_from_slice(data_encoding::BASE64.encode(bytes).as_bytes());
        self.out.push(b'"');
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a str is not UTF-8")?;
        self.write(&text);
        Ok(())
    }

    fn write(&mut self, value: &impl serde::Serialize) {
        append_json(&mut self.out, value);
    }

    /// Remembers what is wrong and goes on, so that the message's `id` can still be found.
    fn refuse(&mut self, what: &'static str) {
        self.refused = self.refused.or(Some(what));
        self.out.extend_from_slice(b"null");
    }
}
