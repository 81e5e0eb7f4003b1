//! Every message, error code and close code of the socket protocol, v1 (`docs/protocol.md`).

pub mod codec;
pub mod deflate;
mod format;
mod keys;
mod msgpack;

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

pub use self::format::{Encoded, Format};
use self::keys::Key;
#[cfg(test)]
pub(crate) use self::msgpack::tests::values as any_value;
use crate::namespace;

/// What a client sent, read but not yet judged.
#[derive(Debug)]
pub struct Message {
    /// As the client wrote it: an integer or a string, echoed byte for byte.
    pub id: Option<Box<RawValue>>,
    pub event: String,
    pub uri: Option<String>,
    pub channel: Option<String>,
    pub namespace: Option<String>,
    pub data: Option<Box<RawValue>>,
    /// `data` in MsgPack, where it contains binary; in `data` that is base64.
    pub packed: Option<Box<[u8]>>,
    /// `Some(None)` is `"version": null`: the client asks for versions and holds none.
    pub version: Option<Option<String>>,
    pub bind: Option<bool>,
    pub method: Option<String>,
    pub returns: bool,
    pub delta: Option<bool>,
    pub ttl: Option<Duration>,
    /// `Some(None)` is `"since": null`: the client asks for what is kept and knows nothing of it.
    pub since: Option<Option<String>>,
    /// The client wants to be told who is on the channel.
    pub presence: bool,
    /// Members of a collection are to be told of one by one.
    pub items: bool,
    /// `false`: and not in whole states.
    pub state: Option<bool>,
}

/// What Pogo sends: an answer (with `status`) or an event. Absent fields are not written.
#[derive(Debug, Default, Clone)]
pub struct Outgoing<'a> {
    pub id: Option<&'a RawValue>,
    pub event: Option<&'a str>,
    pub status: Option<Status>,
    pub uri: Option<&'a str>,
    /// The member of `uri` that the event is about.
    pub item: Option<&'a str>,
    /// As Pogo calls it: a name that is of a namespace is written as the two that it is made of.
    pub channel: Option<&'a str>,
    /// Not of an answer, and not `/`.
    pub namespace: Option<&'a str>,
    pub data: Option<&'a RawValue>,
    /// What is written for `data` in MsgPack, where it contains binary.
    pub packed: Option<&'a [u8]>,
    /// JSON text of a patch, and the version that it is of.
    pub patch: Option<&'a RawValue>,
    pub from: Option<&'a str>,
    pub version: Option<&'a str>,
    /// Unix seconds.
    pub expires: Option<u64>,
    pub reason: Option<Reason>,
    pub count: Option<u64>,
    /// How far the client knows the channel after this.
    pub offset: Option<&'a str>,
    pub error: Option<&'a Problem>,
}

/// A field of a message that is written; in MsgPack, where given, by its second form.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Raw(&'a RawValue, Option<&'a [u8]>),
    Text(&'a str),
    Number(u64),
    Problem(&'a Problem),
}

type Fields<'a, const N: usize> = [Option<(Key, Field<'a>)>; N];

impl Outgoing<'_> {
    fn fields(&self) -> Fields<'_, 16> {
        let (namespace, channel) = match self.channel {
            Some(channel) => {
                let (namespace, channel) = namespace::of_channel(channel);
                (namespace.or(self.namespace), Some(channel))
            }
            None => (self.namespace, None),
        };
        let text = |key, text: Option<_>| text.map(|text| (key, Field::Text(text)));
        [
            self.id.map(|id| (Key::Id, Field::Raw(id, None))),
            text(Key::Event, self.event),
            text(Key::Status, self.status.map(Status::name)),
            text(Key::Uri, self.uri),
            text(Key::Item, self.item),
            text(Key::Channel, channel),
            text(Key::Namespace, namespace),
            self.data.map(|data| (Key::Data, Field::Raw(data, self.packed))),
            self.patch.map(|patch| (Key::Patch, Field::Raw(patch, None))),
            text(Key::From, self.from),
            text(Key::Version, self.version),
            self.expires.map(|expires| (Key::Expires, Field::Number(expires))),
            text(Key::Reason, self.reason.map(Reason::name)),
            self.count.map(|count| (Key::Count, Field::Number(count))),
            text(Key::Offset, self.offset),
            self.error.map(|problem| (Key::Error, Field::Problem(problem))),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Error,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// Why a binding or a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Forbidden,
    Expired,
    Limit,
    /// Its time was over.
    Ttl,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Expired => "expired",
            Self::Limit => "limit",
            Self::Ttl => "ttl",
        }
    }
}

/// The closed set of error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    BadRequest,
    UnknownEvent,
    Unauthorized,
    Forbidden,
    NotFound,
    NotBindable,
    Conflict,
    Unprocessable,
    TooLarge,
    RateLimited,
    LimitExceeded,
    UpstreamError,
    UpstreamTimeout,
    Unavailable,
}

/// The `error` of an answer.
#[derive(Debug, Clone)]
pub struct Problem {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
    /// The upstream's status, when the answer is the upstream's.
    pub http_status: Option<u16>,
    /// The upstream's own body.
    pub data: Option<Box<RawValue>>,
    /// Seconds.
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), http_status: None, data: None, retry_after: None }
    }

    /// An answer of the upstream that is not a success.
    pub fn of_upstream(status: http::StatusCode, data: Option<Box<RawValue>>) -> Self {
        let message = match status.canonical_reason() {
            Some(reason) => format!("the upstream answered {} {reason}", status.as_u16()),
            None => format!("the upstream answered {}", status.as_u16()),
        };
        let http_status = Some(status.as_u16());
        Self { http_status, data, ..Self::new(ErrorCode::of_status(status), message) }
    }

    fn fields(&self) -> Fields<'_, 5> {
        let number = |key, number: Option<u64>| number.map(|number| (key, Field::Number(number)));
        [
            Some((Key::Code, Field::Text(self.code.name()))),
            Some((Key::Message, Field::Text(&self.message))),
            number(Key::HttpStatus, self.http_status.map(u64::from)),
            self.data.as_deref().map(|data| (Key::Data, Field::Raw(data, None))),
            number(Key::RetryAfter, self.retry_after),
        ]
    }
}

impl ErrorCode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownEvent => "unknown_event",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::NotBindable => "not_bindable",
            Self::Conflict => "conflict",
            Self::Unprocessable => "unprocessable",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::LimitExceeded => "limit_exceeded",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Unavailable => "unavailable",
        }
    }

    /// What an upstream's status means to a client of the socket.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            401 | 407 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 | 410 => Self::NotFound,
            409 | 412 | 428 => Self::Conflict,
            413 => Self::TooLarge,
            415 | 422 => Self::Unprocessable,
            429 => Self::RateLimited,
            503 => Self::Unavailable,
            504 => Self::UpstreamTimeout,
            400..=499 if status.as_u16() != 405 => Self::BadRequest,
            _ => Self::UpstreamError,
        }
    }
}

/// Why a socket is closed (RFC 6455 §7.4; 4000–4999 are the application's).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    Normal,
    /// Shutting down, or the session reached its longest life: come back.
    GoingAway {
        retry_after: Option<u64>,
    },
    Protocol,
    /// JSON goes in text frames, MsgPack in binary ones.
    Unsupported,
    /// Bad UTF-8.
    Invalid,
    /// A compressed message that cannot be decompressed.
    Corrupt,
    TooBig,
    Abuse,
    Unauthorized(&'static str),
    /// This address may not be here, for good or for a time.
    Forbidden {
        retry_after: Option<u64>,
    },
    NoPong,
    RateLimited,
    /// It did not take what it must not miss: come back.
    Overloaded {
        retry_after: u64,
    },
    /// An operator does not want this session here.
    Ended,
}

impl Close {
    pub fn code(&self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway { .. } => 1001,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::Invalid | Self::Corrupt => 1007,
            Self::TooBig => 1009,
            Self::Abuse => 4400,
            Self::Unauthorized(_) => 4401,
            Self::Forbidden { .. } => 4403,
            Self::NoPong => 4408,
            Self::RateLimited => 4429,
            Self::Overloaded { .. } => 4503,
            Self::Ended => 4403,
        }
    }

    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Normal => "".into(),
            Self::GoingAway { retry_after: Some(seconds) } => {
                format!("going away; retry_after={seconds}").into()
            }
            Self::GoingAway { retry_after: None } => "going away".into(),
            Self::Protocol => "protocol error".into(),
            Self::Unsupported => "this format goes in the other kind of frames".into(),
            Self::Invalid => "not UTF-8".into(),
            Self::Corrupt => "not a compressed message".into(),
            Self::TooBig => "message too big".into(),
            Self::Abuse => "too many malformed messages".into(),
            Self::Unauthorized(why) => (*why).into(),
            Self::Forbidden { retry_after: Some(seconds) } => {
                format!("this address is banned; retry_after={seconds}").into()
            }
            Self::Forbidden { retry_after: None } => "this address is denied".into(),
            Self::NoPong => "no pong".into(),
            Self::Overloaded { retry_after } => {
                format!("overloaded; retry_after={retry_after}").into()
            }
            Self::RateLimited => "over the message rate".into(),
            Self::Ended => "ended by the operator".into(),
        }
    }
}
