//! One mistake in the configuration, as the sentence that its author reads:
//! where it stands, which key, what was found, what was expected.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// What an operator has to correct before Pogo starts. Its `Display` is the whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    /// The file, option or environment variable.
    source: String,
    line: Option<usize>,
    /// Byte offset in the document, until the document turns it into a line.
    offset: Option<usize>,
    /// The way from the top of the document, outermost first.
    key: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    MissingKey {
        key: &'static str,
    },
    Value {
        found: String,
        expected: String,
    },
    /// A complete sentence about the key.
    Refused(String),
    /// A sentence about the file or option itself.
    Source(String),
}

impl Fault {
    pub(super) fn new(kind: Kind) -> Self {
        let (source, key) = (String::new(), Vec::new());
        Self(Box::new(Details { source, line: None, offset: None, key, kind }))
    }

    pub(super) fn value(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Kind::Value { found: found.into(), expected: expected.into() })
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::new(Kind::Refused(reason.into()))
    }

    /// A fault of a whole file, option or environment variable.
    pub(super) fn of_source(source: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self::new(Kind::Source(sentence.into())).in_source(source, None)
    }

    pub(super) fn in_source(mut self, source: impl Into<String>, line: Option<usize>) -> Self {
        self.0.source = source.into();
        self.0.line = line;
        self
    }

    /// Names the key one level further out; the way is told from the inside.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.0.key.insert(0, key.to_owned());
        self
    }

    /// The place, unless a place further in is known already.
    pub(super) fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    pub(super) fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> &Kind {
        &self.0.kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)?;
        if let Some(line) = self.0.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        let key = self.0.key.join(".");
        match &self.0.kind {
            Kind::UnknownKey { key: unknown, known } => {
                write!(f, "unknown key \"{unknown}\"")?;
                if !key.is_empty() {
                    write!(f, " in [{key}]")?;
                }
                match nearest(unknown, known) {
                    Some(near) => write!(f, "; did you mean \"{near}\"?"),
                    None => write!(f, "; the keys here are {}", known.join(", ")),
                }
            }
            Kind::MissingKey { key: missing } => {
                write!(f, "missing key \"{missing}\" in [{key}]")
            }
            Kind::Value { found, expected } if key.is_empty() => {
                write!(f, "found {found}, expected {expected}")
            }
            Kind::Value { found, expected } => {
                write!(f, "{key}: found {found}, expected {expected}")
            }
            Kind::Refused(reason) if key.is_empty() => f.write_str(reason),
            Kind::Refused(reason) => write!(f, "{key}: {reason}"),
            Kind::Source(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Fault {}

/// So that serde reports what it expected as data; no message is ever taken apart again.
impl de::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::refused(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::value(shown(found), expected.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::value(shown(Unexpected::Str(found)), one_of(expected))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::MissingKey { key })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey { key: key.to_owned(), known })
    }
}

/// A value as the document's author wrote it, cut to a length that a terminal line bears.
pub(super) fn shown(found: Unexpected<'_>) -> String {
    const LONGEST: usize = 80;
    match found {
        Unexpected::Str(text) if text.chars().count() > LONGEST => {
            format!("{:?}…", text.chars().take(LONGEST).collect::<String>())
        }
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(yes) => yes.to_string(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a section".into(),
        other => other.to_string(),
    }
}

/// `"a" or "b"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(" or ")
}

/// The known key that was most likely meant: spelling, hyphens and capitals apart.
fn nearest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let written = written.to_lowercase().replace('-', "_");
    let tolerated = (written.chars().count() / 3).max(1);
    known
        .iter()
        .map(|key| (distance(&written, key), *key))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Edits between two words: insert, delete, replace, or swap two neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<_>, Vec<_>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let differs = usize::from(left[i - 1] != right[j - 1]);
                let edited = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let replaced = rows[i - 1][j - 1] + differs;
                let swappable =
                    i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
                let swapped = if swappable { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                edited.min(replaced).min(swapped)
            };
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["listen", "upstream", "workers", "via", "header_read"];

    #[test]
    fn the_nearest_key_is_offered_and_a_far_one_is_not() {
        for (written, near) in [
            ("upsteam", Some("upstream")),
            ("Upstream", Some("upstream")),
            ("header-read", Some("header_read")),
            ("wrokers", Some("workers")),
            ("vai", Some("via")),
            ("listeners", Some("listen")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, KEYS), near, "{written}");
        }
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("wrokers", "workers"), 1);
        assert_eq!(distance("", "via"), 3);
        assert_eq!(distance("via", "via"), 0);
    }
}
