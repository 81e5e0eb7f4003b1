//! Every refusal over HTTP and its response (RFC 9457 problem details).

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};

use crate::protocol::{ErrorCode, Problem};

/// The methods that pass; others that are tokens do, too.
pub const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Why a request is answered by the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    BadRequest(&'static str),
    Unauthorized(&'static str),
    Forbidden(&'static str),
    NotFound(&'static str),
    MethodNotAllowed,
    /// The body stopped coming, or nearly.
    SlowBody,
    TooLarge,
    ExpectationFailed,
    UpgradeRequired,
    RateLimited {
        retry_after: Duration,
    },
    /// This address is kept out, for so long.
    Banned {
        left: Duration,
    },
    UnknownTransferCoding,
    /// The upstream could not be reached; why is for the log alone.
    UpstreamUnreachable(String),
    /// The upstream answered with something that is no answer, or broke off; why is for the log alone.
    UpstreamBroken(String),
    /// The upstream did not do in time what is named.
    UpstreamTimeout(&'static str),
    /// Every connection to the upstream is taken.
    Busy,
    /// As many subscriptions are open as there may be.
    Crowded,
    /// The gateway itself failed.
    Internal,
    /// The client went away: nobody reads this.
    ClientGone,
}

impl Rejection {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Banned { .. } => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UpstreamUnreachable(_) | Self::UpstreamBroken(_) => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy | Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The protocol's error code for the same refusal over a socket.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadRequest(_)
            | Self::MethodNotAllowed
            | Self::SlowBody
            | Self::ExpectationFailed
            | Self::UpgradeRequired
            | Self::UnknownTransferCoding
            | Self::ClientGone => ErrorCode::BadRequest,
            Self::Unauthorized(_) => ErrorCode::Unauthorized,
            Self::Forbidden(_) | Self::Banned { .. } => ErrorCode::Forbidden,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::TooLarge => ErrorCode::TooLarge,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::UpstreamUnreachable(_) | Self::UpstreamBroken(_) => ErrorCode::UpstreamError,
            Self::UpstreamTimeout(_) => ErrorCode::UpstreamTimeout,
            Self::Busy | Self::Crowded | Self::Internal => ErrorCode::Unavailable,
        }
    }

    /// One sentence for the person at the other end.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::BadRequest(why)
            | Self::Unauthorized(why)
            | Self::Forbidden(why)
            | Self::NotFound(why) => why,
            Self::MethodNotAllowed => "this method is not served here",
            Self::SlowBody => "the request body came too slowly",
            Self::TooLarge => "the request body is too large",
            Self::ExpectationFailed => "this expectation is not supported",
            Self::UpgradeRequired => "this resource speaks WebSocket",
            Self::RateLimited { .. } => "too many requests",
            Self::Banned { .. } => "this address is banned for some time",
            Self::UnknownTransferCoding => "this transfer coding is not supported",
            Self::UpstreamUnreachable(_) => "the upstream cannot be reached",
            Self::UpstreamBroken(_) => "the upstream's answer could not be understood",
            Self::UpstreamTimeout(_) => "the upstream did not answer in time",
            Self::Busy => "too many requests are waiting for the upstream",
            Self::Crowded => "too many subscriptions are open",
            Self::Internal => "something went wrong here",
            Self::ClientGone => "the client went away",
        }
    }

    /// What the log says besides `detail`.
    pub fn cause(&self) -> &str {
        match self {
            Self::UpstreamUnreachable(why) | Self::UpstreamBroken(why) => why,
            Self::UpstreamTimeout(what) => what,
            _ => "",
        }
    }

    /// When it is worth asking again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::Banned { left } => Some(*left),
            Self::Busy | Self::Crowded => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether the rest of the request cannot be told from the next one, or is not wanted.
    fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::Banned { .. }
                | Self::SlowBody
                | Self::TooLarge
                | Self::ExpectationFailed
                | Self::UnknownTransferCoding
                | Self::ClientGone
        )
    }

    pub fn into_response(self) -> Response<Bytes> {
        let status = self.status();
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.detail(),
            "code": self.code().name(),
        });
        let mut response = Response::new(Bytes::from(problem.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
            }
            Self::Unauthorized(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::UpgradeRequired => {
                headers.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
                // RFC 6455 §4.4: which versions there are.
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => (),
        }
        response
    }
}

/// Rounded up: a client that keeps to it must not come a moment too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let retry_after = rejection.retry_after().map(|wait| wait.as_secs().max(1));
        Problem { retry_after, ..Problem::new(rejection.code(), rejection.detail()) }
    }
}
