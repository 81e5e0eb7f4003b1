//! Every message, error code and close code of the socket protocol, v1 (`docs/protocol.md`).

pub mod codec;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

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
    /// `Some(None)` is `"version": null`: the client asks for versions and holds none.
    pub version: Option<Option<String>>,
    pub bind: Option<bool>,
    pub method: Option<String>,
    pub returns: bool,
    /// The first option that later releases know and this one does not.
    pub unsupported: Option<&'static str>,
}

/// What Pogo sends: an answer (with `status`) or an event. Absent fields are not written.
#[derive(Debug, Default, Serialize)]
pub struct Outgoing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Error,
}

/// Why a binding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    Forbidden,
    Expired,
    Limit,
}

/// The closed set of error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
    /// The upstream's status, when the answer is the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The upstream's own body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
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
}

impl ErrorCode {
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
    /// JSON goes in text frames.
    Unsupported,
    /// Bad UTF-8.
    Invalid,
    TooBig,
    Abuse,
    Unauthorized(&'static str),
    /// This address may not be here, for good or for a time.
    Forbidden {
        retry_after: Option<u64>,
    },
    NoPong,
    RateLimited,
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
            Self::Invalid => 1007,
            Self::TooBig => 1009,
            Self::Abuse => 4400,
            Self::Unauthorized(_) => 4401,
            Self::Forbidden { .. } => 4403,
            Self::NoPong => 4408,
            Self::RateLimited => 4429,
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
            Self::Unsupported => "this format goes in text frames".into(),
            Self::Invalid => "not UTF-8".into(),
            Self::TooBig => "message too big".into(),
            Self::Abuse => "too many malformed messages".into(),
            Self::Unauthorized(why) => (*why).into(),
            Self::Forbidden { retry_after: Some(seconds) } => {
                format!("this address is banned; retry_after={seconds}").into()
            }
            Self::Forbidden { retry_after: None } => "this address is denied".into(),
            Self::NoPong => "no pong".into(),
            Self::RateLimited => "over the message rate".into(),
            Self::Ended => "ended by the operator".into(),
        }
    }
}
