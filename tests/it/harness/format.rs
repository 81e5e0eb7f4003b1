//! Messages in any format, by another implementation than Pogo's and with the keys of the document.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use pogo::protocol::Format;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

thread_local! {
    static SPOKEN: Cell<Option<Option<Format>>> = const { Cell::new(None) };
}

/// Runs a test once with each format chosen by all sockets that it opens, and once with none.
pub fn in_every_format(test: impl Fn()) {
    for format in Format::ALL.map(Some).into_iter().chain([None]) {
        SPOKEN.set(Some(format));
        test();
    }
    SPOKEN.set(None);
}

/// For a test that makes its frames by hand, or looks at the very text: its sockets choose nothing.
pub fn in_plain_json() {
    SPOKEN.set(Some(None));
}

/// What sockets choose if the test does not say: for a run of all tests in one format, what
/// `POGO_TEST_FORMAT` names.
pub fn spoken() -> Option<Format> {
    static OF_ALL: LazyLock<Option<Format>> = LazyLock::new(|| {
        let name = std::env::var("POGO_TEST_FORMAT").ok()?;
        let format = Format::ALL.into_iter().find(|format| format.subprotocol() == name);
        Some(format.expect("a subprotocol"))
    });
    SPOKEN.get().unwrap_or(*OF_ALL)
}

/// The table in `docs/protocol.md`: keys in full, and in one character.
static KEYS: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    let page = include_str!("../../../docs/protocol.md");
    let table = page.split("### Compact keys").nth(1).expect("the section of compact keys");
    let row = |line: &'static str| {
        let mut words = line.split('`').skip(1).step_by(2);
        Some((words.next()?, words.next()?))
    };
    let rows = table.lines().skip_while(|line| !line.starts_with('|'));
    rows.take_while(|line| line.starts_with('|')).filter_map(row).collect()
});

pub fn encode(message: &Value, format: Format) -> Message {
    let message = if format.is_compact() {
        respell(message, |key| KEYS.get(key).copied().unwrap_or(key))
    } else {
        message.clone()
    };
    if format.is_binary() {
        Message::binary(rmp_serde::to_vec(&message).unwrap())
    } else {
        Message::text(message.to_string())
    }
}

/// The message, and what of it can be read as text.
pub fn decode(frame: &Message, format: Format) -> (Value, String) {
    let (value, text) = match frame {
        Message::Text(text) if !format.is_binary() => {
            (serde_json::from_str(text).expect("JSON"), text.to_string())
        }
        Message::Binary(bytes) if format.is_binary() => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            (rmp_serde::from_slice(bytes).expect("MsgPack"), text)
        }
        other => panic!("unexpected {other:?}"),
    };
    if !format.is_compact() {
        return (value, text);
    }
    let in_full = |short: &str| {
        let known = KEYS.iter().find(|(_, value)| **value == short);
        *known.unwrap_or_else(|| panic!("{short} is not in the table")).0
    };
    (respell(&value, in_full), text)
}

/// The message with other keys of its own, and of its error; none of what is in `data`.
fn respell<'k>(message: &'k Value, spell: impl Fn(&'k str) -> &'k str + Copy) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let fields = fields.iter().map(|(key, value)| {
        let is_error = matches!(key.as_str(), "error" | "x");
        let value = if is_error { respell(value, spell) } else { value.clone() };
        (spell(key).to_owned(), value)
    });
    Value::Object(fields.collect())
}
