//! What makes one state of the next: a JSON Patch (RFC 6902), found in their texts.
//!
//! Values are never read as numbers or strings: two are the same if their texts are, and what a patch
//! brings is a piece of the newer text. So nothing is lost that a client can tell apart, of numbers of
//! any length, of `1` and `1.0`, of `-0`. Only the names of members are decoded, because a pointer
//! (RFC 6901) spells them another way.
//!
//! The work is bounded: every level of nesting is split anew, but only below what differs, and from
//! one `Fuel`. Where it runs out, or where a patch would say more than the value itself, the value
//! is replaced.

mod alike;
mod split;

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use self::alike::{Run, runs};
use self::split::{Member, elements, members};

/// The longest state of which there are patches, in bytes.
pub const LONGEST: usize = 512 << 10;
/// Most operations of a patch: a client applies each for itself.
const MOST_OPERATIONS: usize = 500;
/// Levels that are looked into.
const DEEPEST: usize = 64;
/// How often every byte of both states may be looked at.
const PASSES: usize = 6;

/// The operations that make `new` of `old`, both valid JSON; `None` if there are none that take less
/// room than `new` does.
pub fn diff(old: &str, new: &str) -> Option<Box<RawValue>> {
    if old.len().max(new.len()) > LONGEST {
        return None;
    }
    let mut diff = Diff {
        out: "[".to_owned(),
        operations: 0,
        path: String::new(),
        fuel: Fuel(PASSES * (old.len() + new.len())),
    };
    diff.compare(old, new, 0);
    diff.out.push(']');
    // Anything that is as long is of no use, and a root that is replaced is longer.
    let is_short = diff.out.len() < new.len() && diff.operations <= MOST_OPERATIONS;
    is_short.then(|| RawValue::from_string(diff.out).ok()).flatten()
}

/// Steps that may still be made.
struct Fuel(usize);

impl Fuel {
    /// Takes what so many steps cost. False when there is not as much.
    fn burn(&mut self, steps: usize) -> bool {
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

struct Diff {
    /// The patch's text, its end missing.
    out: String,
    operations: usize,
    /// Where the values that are compared lie: a JSON Pointer, escaped for a JSON string.
    path: String,
    fuel: Fuel,
}

/// What an operation takes besides its path and its value.
const FRAME: usize = r#"{"op":"replace","path":"","value":},"#.len();

impl Diff {
    /// Notes what makes `new` of `old`, which both lie at the path.
    fn compare(&mut self, old: &str, new: &str, depth: usize) {
        if old == new {
            return;
        }
        let before = (self.out.len(), self.operations);
        let most = before.0 + FRAME + self.path.len() + new.len();
        let splits = depth < DEEPEST && self.fuel.burn(old.len() + new.len());
        let is_within = splits
            && match (old.as_bytes().first(), new.as_bytes().first()) {
                (Some(b'{'), Some(b'{')) => self.objects(old, new, depth, most),
                (Some(b'['), Some(b'[')) => self.arrays(old, new, depth, most),
                _ => false,
            };
        if !is_within || self.is_beyond(most) {
            self.out.truncate(before.0);
            self.operations = before.1;
            self.note("replace", Some(new));
        }
    }

    /// Whether more has been noted than what is replaced as a whole would take.
    fn is_beyond(&self, most: usize) -> bool {
        self.out.len() > most || self.operations > MOST_OPERATIONS
    }

    /// False if the objects cannot be told apart by their members, or not in so much text.
    fn objects(&mut self, old: &str, new: &str, depth: usize, most: usize) -> bool {
        let (Some(old), Some(new)) = (members(old), members(new)) else { return false };
        let mut known: HashMap<Cow<'_, str>, Known<'_>> = HashMap::with_capacity(old.len());
        for Member { name, value } in &old {
            let Some(name) = decoded(name) else { return false };
            if known.insert(name, Known { before: Some(value), is_new: false }).is_some() {
                return false;
            }
        }
        for Member { name, value } in new {
            let Some(name) = decoded(name) else { return false };
            let length = self.path.len();
            push_name(&mut self.path, &name);
            let entry = known.entry(name).or_insert(Known { before: None, is_new: false });
            if std::mem::replace(&mut entry.is_new, true) {
                // Twice in one object: which of them counts is the reader's affair.
                self.path.truncate(length);
                return false;
            }
            match entry.before {
                Some(before) => self.compare(before, value, depth + 1),
                None => self.note("add", Some(value)),
            }
            self.path.truncate(length);
            if self.is_beyond(most) {
                return false;
            }
        }
        for Member { name, .. } in &old {
            let gone = decoded(name).filter(|name| known.get(name).is_some_and(|it| !it.is_new));
            let Some(name) = gone else { continue };
            let length = self.path.len();
            push_name(&mut self.path, &name);
            self.note("remove", None);
            self.path.truncate(length);
            if self.is_beyond(most) {
                return false;
            }
        }
        true
    }

    /// False if the arrays cannot be told apart by their elements in so much text.
    fn arrays(&mut self, old: &str, new: &str, depth: usize, most: usize) -> bool {
        let (Some(old), Some(new)) = (elements(old), elements(new)) else { return false };
        let end = Run { old: old.len(), new: new.len(), length: 0 };
        let (mut from, mut at) = (0, 0);
        for run in runs(&old, &new, &mut self.fuel).into_iter().chain([end]) {
            let (gone, come) = (&old[from..run.old], &new[at..run.new]);
            // What is at the same place in both may be the same thing, changed.
            let both = gone.len().min(come.len());
            if gone.len().max(come.len()) - both > MOST_OPERATIONS {
                return false;
            }
            for (old, new) in gone.iter().zip(come) {
                self.at(at, |diff| diff.compare(old, new, depth + 1));
                at += 1;
                if self.is_beyond(most) {
                    return false;
                }
            }
            for _ in &gone[both..] {
                self.at(at, |diff| diff.note("remove", None));
            }
            for value in &come[both..] {
                self.at(at, |diff| diff.note("add", Some(value)));
                at += 1;
            }
            if self.is_beyond(most) {
                return false;
            }
            from = run.old + run.length;
            at = run.new + run.length;
        }
        true
    }

    fn at(&mut self, index: usize, then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push('/');
        self.path.push_str(&index.to_string());
        then(self);
        self.path.truncate(length);
    }

    fn note(&mut self, op: &str, value: Option<&str>) {
        let comma = if self.operations == 0 { "" } else { "," };
        self.operations += 1;
        for piece in [comma, "{\"op\":\"", op, "\",\"path\":\"", &self.path, "\""] {
            self.out.push_str(piece);
        }
        if let Some(value) = value {
            self.out.push_str(",\"value\":");
            self.out.push_str(value);
        }
        self.out.push('}');
    }
}

/// A member of the older object, or of the newer.
struct Known<'t> {
    before: Option<&'t str>,
    is_new: bool,
}

/// A name as it is meant. None of one that is no text (half a surrogate pair), nor of the one that
/// clients in JavaScript refuse to follow.
fn decoded(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let name = match inner.contains('\\') {
        true => Cow::Owned(serde_json::from_str(quoted).ok()?),
        false => Cow::Borrowed(inner),
    };
    (name != "__proto__").then_some(name)
}

/// Adds a reference token (RFC 6901 §3), as it stands in a JSON string.
fn push_name(path: &mut String, name: &str) {
    path.push('/');
    for character in name.chars() {
        match character {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            '"' => path.push_str("\\\""),
            '\\' => path.push_str("\\\\"),
            '\0'..'\u{20}' => path.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => path.push(character),
        }
    }
}

#[cfg(test)]
mod tests;
