//! From bytes to messages and back: JSON in text frames.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{ErrorCode, Message, Outgoing, Problem};

/// Longest `id`, `event` and `channel`, in bytes.
const MAX_NAME: usize = 256;

/// A message that was refused, with its `id` where that could still be read.
#[derive(Debug)]
pub struct Malformed {
    pub id: Option<Box<RawValue>>,
    pub problem: Problem,
}

/// Fields as they stand; each is judged on its own, so that a bad one still lets `id` be echoed.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    bind: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow, rename = "return")]
    returns: Option<&'a RawValue>,
    #[serde(borrow)]
    ttl: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// Tells `null` from absent, which `Option` alone does not.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message.
pub fn decode(text: &str) -> Result<Message, Malformed> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        let what = if text.trim_start().starts_with('{') { "not JSON" } else { "not an object" };
        malformed(None, format!("the message is {what}: {error}"))
    })?;
    let id = envelope.id.map(read_id).transpose()?;
    let at = |field: &'static str, expected: &'static str| {
        malformed(id.clone(), format!("\"{field}\" must be {expected}"))
    };
    let string = |field: &'static str, raw: Option<&RawValue>| match raw {
        None => Ok(None),
        Some(raw) => {
            serde_json::from_str::<String>(raw.get()).map(Some).map_err(|_| at(field, "a string"))
        }
    };
    let boolean = |field: &'static str, raw: Option<&RawValue>| match raw {
        None => Ok(None),
        Some(raw) => serde_json::from_str::<bool>(raw.get())
            .map(Some)
            .map_err(|_| at(field, "true or false")),
    };
    let Some(event) = string("event", envelope.event)? else {
        return Err(at("event", "given"));
    };
    let channel = string("channel", envelope.channel)?;
    if event.is_empty() || event.len() > MAX_NAME {
        return Err(at("event", "of 1 to 256 bytes"));
    }
    if channel.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME) {
        return Err(at("channel", "of 1 to 256 bytes"));
    }
    let version = match envelope.version.map(RawValue::get) {
        None => None,
        Some("null") => Some(None),
        Some(_) => Some(string("version", envelope.version)?),
    };
    Ok(Message {
        event,
        channel,
        version,
        uri: string("uri", envelope.uri)?,
        namespace: string("namespace", envelope.namespace)?,
        data: envelope.data.map(ToOwned::to_owned),
        bind: boolean("bind", envelope.bind)?,
        method: string("method", envelope.method)?,
        returns: boolean("return", envelope.returns)?.unwrap_or(false),
        unsupported: match (envelope.ttl, envelope.items) {
            (Some(_), _) => Some("ttl"),
            (None, Some(raw)) if raw.get() != "false" => Some("items"),
            _ => None,
        },
        id,
    })
}

fn malformed(id: Option<Box<RawValue>>, message: impl Into<Cow<'static, str>>) -> Malformed {
    Malformed { id, problem: Problem::new(ErrorCode::BadRequest, message) }
}

fn read_id(raw: &RawValue) -> Result<Box<RawValue>, Malformed> {
    let text = raw.get();
    let integer = text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    if text.len() <= MAX_NAME && (integer || text.starts_with('"')) {
        Ok(raw.to_owned())
    } else {
        Err(malformed(None, "\"id\" must be an integer or a string, of at most 256 bytes"))
    }
}

/// A whole text frame, ready for any number of sockets (a server masks nothing, RFC 6455 §5.1).
pub fn encode(message: &Outgoing<'_>) -> Bytes {
    let mut json = Vec::with_capacity(message.data.map_or(0, |data| data.get().len()) + 96);
    if let Err(error) = serde_json::to_writer(&mut json, message) {
        // Only a map with non-string keys or a failing writer can end here, and there is neither.
        tracing::error!(%error, "a message could not be encoded");
    }
    frame(OpCode::Data(Data::Text), &json)
}

/// A ping that carries nothing.
pub fn ping() -> Bytes {
    frame(OpCode::Control(Control::Ping), &[])
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(OpCode::Control(Control::Pong), payload)
}

/// A close frame; `reason` is ASCII.
pub fn close_with(code: u16, reason: &str) -> Bytes {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    // Control frames carry at most 125 bytes (RFC 6455 §5.5).
    payload.truncate(125);
    frame(OpCode::Control(Control::Close), &payload)
}

fn frame(opcode: OpCode, payload: &[u8]) -> Bytes {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let length = payload.len() as u64;
    let mut out = Vec::with_capacity(header.len(length) + payload.len());
    if let Err(error) = header.format(length, &mut out) {
        // Writing to a Vec does not fail.
        tracing::error!(%error, "a frame could not be formatted");
    }
    out.extend_from_slice(payload);
    out.into()
}

/// JSON text of a string.
pub fn json_string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> (Option<String>, String) {
        let error = decode(text).unwrap_err();
        assert_eq!(error.problem.code, ErrorCode::BadRequest);
        (error.id.map(|id| id.get().to_owned()), error.problem.message.into_owned())
    }

    #[test]
    fn ids_are_echoed_as_given() {
        for id in ["1", "-7", "18446744073709551616", r#""a\u00e9""#] {
            let message = decode(&format!(r#"{{"event":"ping","id":{id}}}"#)).unwrap();
            assert_eq!(message.id.unwrap().get(), id);
        }
        for id in ["1.5", "1e3", "[]", "{}", "true"] {
            assert!(refusal(&format!(r#"{{"event":"ping","id":{id}}}"#)).1.contains("\"id\""));
        }
    }

    #[test]
    fn a_bad_field_is_named_and_the_id_survives_it() {
        assert_eq!(
            refusal(r#"{"id":4,"event":"bind","uri":7}"#),
            (Some("4".into()), "\"uri\" must be a string".into())
        );
        assert_eq!(refusal(r#"{"id":4}"#).1, "\"event\" must be given");
        assert_eq!(refusal(r#"{"id":4,"event":""}"#).1, "\"event\" must be of 1 to 256 bytes");
        assert!(refusal("[1]").1.starts_with("the message is not an object"));
        assert!(refusal("{\"event\":").1.starts_with("the message is not JSON"));
        assert!(refusal(r#"{"event":"a","event":"b"}"#).1.contains("duplicate field"));
    }

    #[test]
    fn a_null_version_is_not_an_absent_one() {
        let version = |text: &str| decode(text).unwrap().version;
        assert_eq!(version(r#"{"event":"bind"}"#), None);
        assert_eq!(version(r#"{"event":"bind","version":null}"#), Some(None));
        assert_eq!(version(r#"{"event":"bind","version":"a"}"#), Some(Some("a".into())));
    }

    proptest! {
        #[test]
        fn any_text_is_a_message_or_an_error(text in "\\PC{0,80}") {
            let _outcome = decode(&text);
        }

        #[test]
        fn any_object_of_known_fields_is_a_message_or_an_error(
            fields in proptest::collection::vec(
                (prop::sample::select(&["id", "event", "uri", "channel", "data", "version", "bind"][..]),
                 prop::sample::select(&["null", "1", "\"x\"", "[]", "{}", "true"][..])), 0..6)
        ) {
            let body: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
            let _outcome = decode(&format!("{{{}}}", body.join(",")));
        }
    }
}
