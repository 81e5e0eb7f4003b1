//! A TOML document that remembers where everything stands.
//!
//! The sections are read through this deserializer instead of the `toml` crate's, because its errors
//! are [`Fault`]s: the place and the way to the key come with them, and serde's list of known
//! keys is the only one there is.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Kind, one_of, shown};

/// A parsed file, or nothing when there is none.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// What messages call it; none without a file.
    name: Option<String>,
    /// What relative file names in it start from.
    directory: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Fault::of_source(called(path), format!("cannot be read: {error}")))?;
        Self::parse(path, text)
    }

    /// None when no such file is there; one that cannot be read is a fault all the same.
    pub(super) fn open_existing(path: &Path) -> Result<Option<Self>, Fault> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) | Err(_) => Self::open(path).map(Some),
        }
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, Fault> {
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let document = Self { name: Some(called(path)), directory, text };
        document.root()?;
        Ok(document)
    }

    /// What stands for a file when options and environment say everything.
    pub(super) fn absent() -> Self {
        Self { name: None, directory: PathBuf::new(), text: String::new() }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        T::deserialize(Node { value: &self.root()? }).map_err(|fault| {
            let line = fault.offset().map(|offset| line_of(&self.text, offset));
            fault.in_source(self.called(), line)
        })
    }

    /// The values borrow from the text, so they are parsed when they are asked for: once to read
    /// them, and once more for a fault's place.
    fn root(&self) -> Result<Spanned<DeValue<'_>>, Fault> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let line = error.span().map(|span| line_of(&self.text, span.start));
            let message = error.message().replace('\n', ", ");
            Fault::new(Kind::Source(message)).in_source(self.called(), line)
        })?;
        Ok(Spanned::new(table.span(), DeValue::Table(table.into_inner())))
    }

    /// A file named in this one.
    pub(super) fn beside(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    pub(super) fn no_upstream(&self) -> Fault {
        let example = "the API to stand in front of, such as \"http://127.0.0.1:3000\"";
        match &self.name {
            Some(name) => Fault::of_source(
                name,
                format!("missing key \"upstream\": {example} (or --upstream, or POGO_UPSTREAM)"),
            ),
            None => Fault::of_source(
                "pogo",
                format!(
                    "no upstream and no pogo.toml here; give --upstream URL, {example}, \
                     or --config FILE"
                ),
            ),
        }
    }

    fn called(&self) -> &str {
        self.name.as_deref().unwrap_or("configuration")
    }

    /// A fault of the value at `path` (`"route.1.push"`: numbers are places in a list), or of the
    /// innermost part of it that the file has.
    pub(super) fn fault(&self, path: &str, kind: Kind) -> Fault {
        let line = self.find(path).map(|span| line_of(&self.text, span.start));
        let keys = path.split('.').filter(|part| part.parse::<usize>().is_err());
        keys.rev()
            .fold(Fault::new(kind), |fault, key| fault.under(key))
            .in_source(self.called(), line)
    }

    /// The line that `path` stands on, if the file has it.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        self.find(path).map(|span| line_of(&self.text, span.start))
    }

    fn find(&self, path: &str) -> Option<Range<usize>> {
        let mut found = None;
        let root = self.root().ok()?;
        let mut value = &root;
        for part in path.split('.') {
            let (span, inner) = match value.get_ref() {
                DeValue::Table(table) => {
                    let Some((key, inner)) = table.get_key_value(part) else { break };
                    (key.span(), inner)
                }
                DeValue::Array(list) => {
                    let item = part.parse().ok().and_then(|at: usize| list.get(at));
                    let Some(item) = item else { break };
                    (item.span(), item)
                }
                _ => break,
            };
            found = Some(span);
            value = inner;
        }
        found
    }
}

fn called(path: &Path) -> String {
    path.strip_prefix("./").unwrap_or(path).display().to_string()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// One value of the document.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Spanned<DeValue<'a>>,
}

impl Node<'_> {
    fn placed<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        outcome.map_err(|fault| fault.at(self.value.span().start))
    }

    fn refuse<T>(self, expected: &str) -> Result<T, Fault> {
        self.placed(Err(Fault::value(shown(self.unexpected()), expected)))
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match self.value.get_ref() {
            DeValue::String(text) => Unexpected::Str(text),
            DeValue::Integer(number) => Unexpected::Other(number.as_str()),
            DeValue::Float(number) => Unexpected::Other(number.as_str()),
            DeValue::Boolean(yes) => Unexpected::Bool(*yes),
            DeValue::Datetime(_) => Unexpected::Other("a date"),
            DeValue::Array(_) => Unexpected::Seq,
            DeValue::Table(_) => Unexpected::Map,
        }
    }

    fn number(&self) -> Option<u64> {
        match self.value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let outcome = match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(yes) => visitor.visit_bool(*yes),
            DeValue::Array(list) => visitor.visit_seq(Items { rest: list.iter() }),
            DeValue::Table(table) => visitor.visit_map(Entries::of(table)),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => match self.number() {
                Some(number) => visitor.visit_u64(number),
                None => Err(Fault::invalid_type(self.unexpected(), &visitor)),
            },
        };
        self.placed(outcome)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Table(_) => self.deserialize_any(visitor),
            _ => self.refuse("a section"),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Array(_) => self.deserialize_any(visitor),
            _ => self.refuse("a list"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => {
                self.placed(visitor.visit_enum(StrDeserializer::<Fault>::new(text)))
            }
            _ => self.refuse(&one_of(variants)),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.number() {
            Some(number) => self.placed(visitor.visit_u64(number)),
            None => self.refuse("a whole number"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Boolean(yes) => visitor.visit_bool(*yes),
            _ => self.refuse("true or false"),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map identifier ignored_any
    }
}

/// A table's entries in the order of the document, so that the first mistake is the one reported.
struct Entries<'a> {
    rest: std::vec::IntoIter<(&'a Spanned<toml::de::DeString<'a>>, Node<'a>)>,
    current: Option<(&'a str, Node<'a>)>,
}

impl<'a> Entries<'a> {
    fn of(table: &'a DeTable<'a>) -> Self {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| (key, Node { value })).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Self { rest: entries.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.current = Some((key.get_ref(), value));
        let name = StrDeserializer::<Fault>::new(key.get_ref());
        seed.deserialize(name).map(Some).map_err(|fault| fault.at(key.span().start))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) =
            self.current.take().ok_or_else(|| Fault::custom("a value was read before its key"))?;
        seed.deserialize(value).map_err(|fault| fault.under(key))
    }
}

struct Items<'a> {
    rest: std::slice::Iter<'a, Spanned<DeValue<'a>>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.rest.next().map(|value| seed.deserialize(Node { value })).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let text = "a = 1\n\n[b]\nc = [\n  1,\n  2,\n]\n[[d]]\ne = 1\n[[d]]\ne = 2\n";
        Document::parse(Path::new("test.toml"), text.into()).unwrap()
    }

    #[test]
    fn every_key_and_item_has_its_line() {
        for (path, line) in [
            ("a", Some(1)),
            ("b", Some(3)),
            ("b.c", Some(4)),
            ("b.c.1", Some(6)),
            ("d.1.e", Some(11)),
            ("d.1", Some(10)),
            ("b.missing", Some(3)),
            ("missing", None),
        ] {
            assert_eq!(document().line(path), line, "{path}");
        }
    }

    #[test]
    fn a_syntax_error_says_its_line() {
        let fault = Document::parse(Path::new("test.toml"), "a = 1\nb = \n".into()).unwrap_err();
        assert!(fault.to_string().starts_with("test.toml:2: "), "{fault}");
        let fault = Document::parse(Path::new("test.toml"), "a = 1\na = 2\n".into()).unwrap_err();
        assert!(fault.to_string().starts_with("test.toml:2: duplicate key"), "{fault}");
    }
}
