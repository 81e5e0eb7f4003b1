//! From bytes to messages and back: JSON in text frames, MsgPack in binary ones.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::msgpack::{self, write};
use super::{ErrorCode, Field, Format, Key, Message, Outgoing, Problem};
use crate::namespace;

/// Longest `id`, `event` and `channel`, in bytes.
const MAX_NAME: usize = 256;

/// A message that was refused, with its `id` where that could still be read.
#[derive(Debug)]
pub struct Malformed {
    pub id: Option<Box<RawValue>>,
    pub problem: Problem,
}

/// Fields as they stand; each is judged on its own, so that a bad one still lets `id` be echoed.
#[derive(Default)]
struct Envelope<'a> {
    id: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    uri: Option<&'a RawValue>,
    channel: Option<&'a RawValue>,
    namespace: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    version: Option<&'a RawValue>,
    bind: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    returns: Option<&'a RawValue>,
    delta: Option<&'a RawValue>,
    ttl: Option<&'a RawValue>,
    items: Option<&'a RawValue>,
    since: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    state: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Where a key's value is kept, if a client's message may have that key.
    fn slot(&mut self, key: Key) -> Option<&mut Option<&'a RawValue>> {
        Some(match key {
            Key::Id => &mut self.id,
            Key::Event => &mut self.event,
            Key::Uri => &mut self.uri,
            Key::Channel => &mut self.channel,
            Key::Namespace => &mut self.namespace,
            Key::Data => &mut self.data,
            Key::Version => &mut self.version,
            Key::Bind => &mut self.bind,
            Key::Method => &mut self.method,
            Key::Return => &mut self.returns,
            Key::Delta => &mut self.delta,
            Key::Ttl => &mut self.ttl,
            Key::Items => &mut self.items,
            Key::Since => &mut self.since,
            Key::Presence => &mut self.presence,
            Key::State => &mut self.state,
            Key::Status
            | Key::Error
            | Key::Code
            | Key::Message
            | Key::HttpStatus
            | Key::RetryAfter
            | Key::Patch
            | Key::From
            | Key::Reason
            | Key::Expires
            | Key::Item
            | Key::Count
            | Key::Offset => return None,
        })
    }
}

/// A whole message in a format's spelling of keys.
struct EnvelopeIn(Format);

impl<'de> Visitor<'de> for EnvelopeIn {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key_seed(KeyIn(self.0))? {
            let Some((slot, key)) = key.and_then(|key| Some((envelope.slot(key)?, key))) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?;
            if slot.replace(value).is_some() {
                return Err(de::Error::duplicate_field(key.name()));
            }
        }
        Ok(envelope)
    }
}

/// A key in the spelling of a format.
struct KeyIn(Format);

impl<'de> DeserializeSeed<'de> for KeyIn {
    type Value = Option<Key>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIn {
    type Value = Option<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.read_key(text))
    }
}

/// A message in a binary frame.
pub fn decode_binary(bytes: &[u8], format: Format) -> Result<Message, Malformed> {
    let json = msgpack::read::to_json(bytes, format.key(Key::Data))
        .map_err(|fault| malformed(None, format!("the message is not MsgPack: {fault}")))?;
    let decoded = decode(&json.text, format);
    if let Some(refused) = json.refused {
        let id = decoded.map_or_else(|bad| bad.id, |message| message.id);
        return Err(malformed(id, refused));
    }
    let packed = json.packed.and_then(|range| bytes.get(range)).map(Into::into);
    decoded.map(|message| Message { packed, ..message })
}

/// A message in a text frame. What it says of fields names them in full.
pub fn decode(text: &str, format: Format) -> Result<Message, Malformed> {
    let envelope = read_envelope(text, format).map_err(|error| {
        let what = if text.trim_start().starts_with('{') { "not JSON" } else { "not an object" };
        malformed(None, format!("the message is {what}: {error}"))
    })?;
    let id = given(envelope.id).map(read_id).transpose()?;
    let at = |field: &'static str, expected: &'static str| {
        malformed(id.clone(), format!("\"{field}\" must be {expected}"))
    };
    let string = |field: &'static str, raw: Option<&RawValue>| match given(raw) {
        None => Ok(None),
        Some(raw) => {
            serde_json::from_str::<String>(raw.get()).map(Some).map_err(|_| at(field, "a string"))
        }
    };
    let boolean = |field: &'static str, raw: Option<&RawValue>| match given(raw) {
        None => Ok(None),
        Some(raw) => serde_json::from_str::<bool>(raw.get())
            .map(Some)
            .map_err(|_| at(field, "true or false")),
    };
    let seconds = |field: &'static str, raw: Option<&RawValue>| match given(raw) {
        None => Ok(None),
        Some(raw) => match raw.get().parse::<u32>() {
            Ok(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds.into()))),
            Ok(0) | Err(_) => Err(at(field, "a whole number of seconds, from 1 to 4294967295")),
        },
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
    if channel.as_deref().is_some_and(|name| !namespace::is_sayable(name)) {
        return Err(at("channel", "a name that does not begin with U+0000"));
    }
    // Of these two, `null` is something other than nothing.
    let or_null = |field, raw: Option<&RawValue>| match raw.map(RawValue::get) {
        None => Ok(None),
        Some("null") => Ok(Some(None)),
        Some(_) => string(field, raw).map(Some),
    };
    Ok(Message {
        event,
        channel,
        version: or_null("version", envelope.version)?,
        since: or_null("since", envelope.since)?,
        presence: boolean("presence", envelope.presence)?.unwrap_or(false),
        uri: string("uri", envelope.uri)?,
        namespace: string("namespace", envelope.namespace)?,
        data: envelope.data.map(ToOwned::to_owned),
        bind: boolean("bind", envelope.bind)?,
        method: string("method", envelope.method)?,
        returns: boolean("return", envelope.returns)?.unwrap_or(false),
        packed: None,
        delta: boolean("delta", envelope.delta)?,
        ttl: seconds("ttl", envelope.ttl)?,
        items: boolean("items", envelope.items)?.unwrap_or(false),
        state: boolean("state", envelope.state)?,
        id,
    })
}

fn read_envelope(text: &str, format: Format) -> serde_json::Result<Envelope<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let envelope = deserializer.deserialize_map(EnvelopeIn(format))?;
    deserializer.end()?;
    Ok(envelope)
}

/// For most fields, `null` is as good as nothing.
fn given(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
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

/// A whole frame, ready for any number of sockets (a server masks nothing, RFC 6455 §5.1).
#[inline(never)]
pub fn encode(message: &Outgoing<'_>, format: Format) -> Bytes {
    let raw = message.data.or(message.patch);
    let mut payload = Vec::with_capacity(raw.map_or(0, |raw| raw.get().len()) + 96);
    if format.is_binary() {
        append_map(&mut payload, &message.fields(), format);
        frame(&head(OpCode::Data(Data::Binary)), &payload)
    } else {
        append_object(&mut payload, &message.fields(), format);
        frame(&head(OpCode::Data(Data::Text)), &payload)
    }
}

fn append_object(out: &mut Vec<u8>, fields: &[Option<(Key, Field<'_>)>], format: Format) {
    out.push(b'{');
    for (at, (key, field)) in fields.iter().flatten().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(format.key(*key).as_bytes());
        out.extend_from_slice(b"\":");
        match field {
            Field::Raw(json, _) => out.extend_from_slice(json.get().as_bytes()),
            Field::Text(text) => append_json(out, text),
            Field::Number(number) => append_json(out, number),
            Field::Problem(problem) => append_object(out, &problem.fields(), format),
        }
    }
    out.push(b'}');
}

fn append_map(out: &mut Vec<u8>, fields: &[Option<(Key, Field<'_>)>], format: Format) {
    write::short_map(out, fields.iter().flatten().count() as u8);
    for (key, field) in fields.iter().flatten() {
        write::text(out, format.key(*key));
        match field {
            Field::Raw(_, Some(packed)) => out.extend_from_slice(packed),
            Field::Raw(json, None) => write::json(out, json.get()),
            Field::Text(text) => write::text(out, text),
            Field::Number(number) => write::unsigned(out, *number),
            Field::Problem(problem) => append_map(out, &problem.fields(), format),
        }
    }
}

/// Appends JSON text.
pub(super) fn append_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    if let Err(error) = serde_json::to_writer(out, value) {
        // Only a map with non-string keys or a failing writer can end here, and there is neither.
        tracing::error!(%error, "a message could not be encoded");
    }
}

/// A ping that carries nothing.
pub fn ping() -> Bytes {
    frame(&head(OpCode::Control(Control::Ping)), &[])
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(&head(OpCode::Control(Control::Pong)), payload)
}

/// A close frame; `reason` is ASCII.
pub fn close_with(code: u16, reason: &str) -> Bytes {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    // Control frames carry at most 125 bytes (RFC 6455 §5.5).
    payload.truncate(125);
    frame(&head(OpCode::Control(Control::Close)), &payload)
}

fn head(opcode: OpCode) -> FrameHeader {
    FrameHeader { opcode, ..FrameHeader::default() }
}

pub(super) fn frame(header: &FrameHeader, payload: &[u8]) -> Bytes {
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
    use serde_json::{Value, json};

    use crate::protocol::msgpack::tests::values;
    use crate::protocol::{Reason, Status};

    fn refusal(text: &str) -> (Option<String>, String) {
        let error = decode(text, Format::Json).unwrap_err();
        assert_eq!(error.problem.code, ErrorCode::BadRequest);
        (error.id.map(|id| id.get().to_owned()), error.problem.message.into_owned())
    }

    #[test]
    fn ids_are_echoed_as_given() {
        for id in ["1", "-7", "18446744073709551616", r#""a\u00e9""#] {
            let message =
                decode(&format!(r#"{{"event":"ping","id":{id}}}"#), Format::Json).unwrap();
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
        let version = |text: &str| decode(text, Format::Json).unwrap().version;
        assert_eq!(version(r#"{"event":"bind"}"#), None);
        assert_eq!(version(r#"{"event":"bind","version":null}"#), Some(None));
        assert_eq!(version(r#"{"event":"bind","version":"a"}"#), Some(Some("a".into())));
    }

    /// As a client would do it, with the other implementation of MsgPack.
    fn as_client(value: &Value, format: Format) -> Vec<u8> {
        let value =
            respelled(value, |key| Key::of_name(key).map_or(key, |key| format.key(key)).to_owned());
        if format.is_binary() {
            rmp_serde::to_vec(&value).unwrap()
        } else {
            value.to_string().into()
        }
    }

    fn for_client(frame: &[u8], format: Format) -> Value {
        let mut cursor = std::io::Cursor::new(frame);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let kind = if format.is_binary() { Data::Binary } else { Data::Text };
        assert_eq!(header.opcode, OpCode::Data(kind));
        let payload = &frame[cursor.position() as usize..];
        assert_eq!(payload.len() as u64, length);
        let value: Value = if format.is_binary() {
            rmp_serde::from_slice(payload).unwrap()
        } else {
            serde_json::from_slice(payload).unwrap()
        };
        respelled(&value, |key| format.read_key(key).expect("a key of the table").name().to_owned())
    }

    /// A message with its own keys, and those of its error, spelled otherwise.
    fn respelled(message: &Value, spell: impl Fn(&str) -> String + Copy) -> Value {
        let Value::Object(fields) = message else { return message.clone() };
        let fields = fields.iter().map(|(key, value)| {
            let spelled = spell(key);
            let is_error = ["error", "x"].contains(&key.as_str()) && value["code"].is_string()
                || value["k"].is_string() && key == "x";
            let value = if is_error { respelled(value, spell) } else { value.clone() };
            (spelled, value)
        });
        Value::Object(fields.collect())
    }

    fn decode_any(bytes: &[u8], format: Format) -> Result<Message, Malformed> {
        if format.is_binary() {
            decode_binary(bytes, format)
        } else {
            decode(std::str::from_utf8(bytes).unwrap(), format)
        }
    }

    fn value_of(raw: Option<&RawValue>) -> Option<Value> {
        raw.map(|raw| serde_json::from_str(raw.get()).unwrap())
    }

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn json_is_written_as_it_always_was() {
        let (id, data) = (raw(&json!(1)), RawValue::from_string("{ \"a\": 1.0}".into()).unwrap());
        let patch = RawValue::from_string("[]".into()).unwrap();
        let problem = Problem {
            http_status: Some(429),
            data: Some(raw(&json!("\u{7}"))),
            retry_after: Some(7),
            ..Problem::new(ErrorCode::RateLimited, "\"slow\"")
        };
        let message = Outgoing {
            id: Some(&id),
            event: Some("update"),
            status: Some(Status::Ok),
            uri: Some("/a"),
            item: Some("/a/1"),
            channel: Some("c"),
            namespace: None,
            data: Some(&data),
            packed: None,
            patch: Some(&patch),
            from: Some("u"),
            version: Some("v"),
            expires: Some(1400382523),
            reason: Some(Reason::Limit),
            count: Some(3),
            offset: Some("o"),
            error: Some(&problem),
        };
        let long = r#"{"id":1,"event":"update","status":"ok","uri":"/a","item":"/a/1","channel":"c","data":{ "a": 1.0},"patch":[],"from":"u","version":"v","expires":1400382523,"reason":"limit","count":3,"offset":"o","error":{"code":"rate_limited","message":"\"slow\"","http_status":429,"data":"\u0007","retry_after":7}}"#;
        let short = r#"{"i":1,"e":"update","s":"ok","u":"/a","o":"/a/1","c":"c","d":{ "a": 1.0},"p":[],"f":"u","v":"v","y":1400382523,"r":"limit","q":3,"O":"o","x":{"k":"rate_limited","m":"\"slow\"","g":429,"d":"\u0007","a":7}}"#;
        assert_eq!(encode(&message, Format::Json).as_ref()[4..], *long.as_bytes());
        assert_eq!(encode(&message, Format::JsonCompact).as_ref()[4..], *short.as_bytes());
        let long: Value = serde_json::from_str(long).unwrap();
        for format in Format::ALL {
            assert_eq!(for_client(&encode(&message, format), format), long, "{format:?}");
        }
    }

    #[test]
    fn only_the_formats_own_spelling_of_a_key_counts() {
        let id = |text: &str, format| decode(text, format).map(|message| message.id.is_some());
        assert_eq!(id(r#"{"event":"a","i":1,"id":2}"#, Format::Json).ok(), Some(true));
        assert_eq!(id(r#"{"event":"a","i":1}"#, Format::Json).ok(), Some(false));
        assert_eq!(id(r#"{"e":"a","id":1}"#, Format::JsonCompact).ok(), Some(false));
        assert!(id(r#"{"event":"a"}"#, Format::JsonCompact).is_err());
        let twice = decode(r#"{"e":"a","e":"b"}"#, Format::JsonCompact).unwrap_err();
        assert!(twice.problem.message.contains("duplicate field `event`"));
    }

    #[test]
    fn what_has_no_form_in_json_is_refused_with_the_id_that_stands_beside_it() {
        // {"id": 4, "event": "a", "data": <timestamp>}
        let message = b"\x83\xa2id\x04\xa5event\xa1a\xa4data\xd6\xff\x00\x00\x00\x01";
        let bad = decode_binary(message, Format::MsgPack).unwrap_err();
        assert_eq!(bad.id.unwrap().get(), "4");
        assert_eq!(bad.problem.code, ErrorCode::BadRequest);
        assert!(bad.problem.message.contains("extension types"));
        let cut = decode_binary(&message[..9], Format::MsgPack).unwrap_err();
        assert_eq!(cut.problem.message, "the message is not MsgPack: it ends too early");
        let list = decode_binary(b"\x91\x01", Format::MsgPack).unwrap_err();
        assert!(list.problem.message.starts_with("the message is not an object"));
        let binary_id = decode_binary(b"\x82\xa5event\xa1a\xa2id\xc4\x01a", Format::MsgPack);
        assert!(binary_id.unwrap_err().problem.message.contains("binary may stand in"));
    }

    #[test]
    fn binary_passes_from_message_to_message_as_it_came() {
        let message = b"\x82\xa1e\xa1a\xa1d\x82\xa1k\xc4\x02\xfb\xff\xa1e\xca\x3f\x80\x00\x00";
        let read = decode_binary(message, Format::MsgPackCompact).unwrap();
        assert_eq!(read.data.as_ref().unwrap().get(), r#"{"k":"+/8=","e":1.0}"#);
        let written = Outgoing {
            event: Some(&read.event),
            data: read.data.as_deref(),
            packed: read.packed.as_deref(),
            ..Outgoing::default()
        };
        assert_eq!(encode(&written, Format::MsgPackCompact)[2..], message[..]);
        let json = encode(&written, Format::JsonCompact);
        assert_eq!(json[2..], *br#"{"e":"a","d":{"k":"+/8=","e":1.0}}"#);
    }

    proptest! {
        #[test]
        fn any_message_of_a_client_survives_any_encoding(
            id in prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), "[^\\x00-\\x1f\"\\\\]{0,60}".prop_map(Value::from)],
            event in ".{1,60}",
            uri in proptest::option::of(any::<String>()),
            data in proptest::option::of(values()),
            version in proptest::option::of(proptest::option::of(any::<String>())),
            bind in proptest::option::of(any::<bool>()),
            returns in any::<bool>(),
            delta in proptest::option::of(any::<bool>()),
            ttl in proptest::option::of(1..=u32::MAX),
            unknown in values(),
        ) {
            let mut message = json!({"id": id, "event": event, "return": returns, "zz": unknown});
            for (key, value) in [
                ("uri", uri.clone().map(Value::from)),
                ("data", data.clone()),
                ("version", version.clone().map(Value::from)),
                ("bind", bind.map(Value::from)),
                ("delta", delta.map(Value::from)),
                ("ttl", ttl.map(Value::from)),
            ] {
                if let Some(value) = value {
                    message[key] = value;
                }
            }
            for format in Format::ALL {
                let read = decode_any(&as_client(&message, format), format).unwrap();
                prop_assert_eq!(value_of(read.id.as_deref()), Some(id.clone()));
                prop_assert_eq!(&read.event, &event);
                prop_assert_eq!(&read.uri, &uri);
                prop_assert_eq!(value_of(read.data.as_deref()), data.clone());
                prop_assert_eq!(&read.version, &version);
                prop_assert_eq!((read.bind, read.returns), (bind, returns));
                let ttl = ttl.map(|ttl| Duration::from_secs(ttl.into()));
                prop_assert_eq!((read.delta, read.ttl), (delta, ttl));
                prop_assert!(read.packed.is_none());
            }
        }

        #[test]
        fn any_message_to_a_client_survives_any_encoding(
            id in any::<u64>(), text in any::<String>(), data in values(), count in any::<u64>(),
        ) {
            let (raw_id, raw_data) = (raw(&json!(id)), raw(&data));
            let problem = Problem {
                data: Some(raw_data.clone()),
                ..Problem::new(ErrorCode::Conflict, text.clone())
            };
            let message = Outgoing {
                id: Some(&raw_id),
                status: Some(Status::Error),
                uri: Some(&text),
                data: Some(&raw_data),
                patch: Some(&raw_data),
                from: Some(&text),
                expires: Some(count),
                count: Some(count),
                error: Some(&problem),
                ..Outgoing::default()
            };
            let expected = json!({"id": id, "status": "error", "uri": text, "data": data, "count": count,
                "patch": data, "from": text, "expires": count,
                "error": {"code": "conflict", "message": text, "data": data}});
            for format in Format::ALL {
                prop_assert_eq!(&for_client(&encode(&message, format), format), &expected);
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _outcome = decode_binary(&bytes, Format::MsgPack);
        }

        #[test]
        fn any_text_is_a_message_or_an_error(text in "\\PC{0,80}") {
            let _outcome = decode(&text, Format::Json);
        }

        #[test]
        fn any_object_of_known_fields_is_a_message_or_an_error(
            fields in proptest::collection::vec(
                (prop::sample::select(&["id", "event", "uri", "channel", "data", "version", "bind", "delta", "ttl"][..]),
                 prop::sample::select(&["null", "1", "\"x\"", "[]", "{}", "true"][..])), 0..6)
        ) {
            let body: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
            let _outcome = decode(&format!("{{{}}}", body.join(",")), Format::Json);
        }
    }
}
