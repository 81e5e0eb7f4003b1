//! The text of a description as a tree of values, and the references in it.

use serde_json::Value;

/// A YAML alias repeats what it names, so a short text can be a large tree.
const MOST_NODES: usize = 2_000_000;
const MOST_ALIASED: usize = 100_000;
/// References that lead to references; more are a circle.
const MOST_HOPS: usize = 16;

pub(super) struct Document {
    root: Value,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?
        } else {
            yaml(text)?
        };
        match root {
            Value::Object(_) => Ok(Self { root }),
            _ => Err("it is no description: it has no keys".into()),
        }
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// The value itself, or what its `$ref` leads to within this document.
    pub(super) fn follow<'a>(&'a self, value: &'a Value) -> Result<&'a Value, String> {
        let mut value = value;
        for _ in 0..MOST_HOPS {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
                return Ok(value);
            };
            let pointer = reference
                .strip_prefix('#')
                .ok_or_else(|| format!("{reference:?} leads out of this file"))?;
            let found = self.root.pointer(&decoded(pointer));
            value = found.ok_or_else(|| format!("{reference:?} leads nowhere"))?;
        }
        Err("its references go round in a circle".into())
    }
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: MOST_NODES, max_events: 4 * MOST_NODES },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_ALIASED },
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("it is not YAML: {error}").replace('\n', " "))
}

/// A fragment's percent-encoding undone (RFC 6901 §6).
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (*first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = &tail[2..];
            }
            (byte, ..) => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value that was meant as text: YAML takes `2.0` and `true` for something else.
pub(super) fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The items of a list; none where there is no list.
pub(super) fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The entries of an object; none where there is no object.
pub(super) fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}
