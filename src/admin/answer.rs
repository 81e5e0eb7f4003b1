//! What operators are answered: JSON, or a problem (RFC 9457).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    media_type: &'static str,
    body: String,
    field: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    pub(super) fn json(value: &Value) -> Self {
        Self::text("application/json", format!("{value}\n"))
    }

    pub(super) fn text(media_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, media_type, body, field: None }
    }

    pub(super) fn into_response(self, is_head: bool) -> Response<Full<Bytes>> {
        let length = self.body.len();
        let body = if is_head { Bytes::new() } else { Bytes::from(self.body) };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.field);
        response
    }
}

/// Why an operator is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) detail: Cow<'static, str>,
    field: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), field: None }
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn unauthorized() -> Self {
        let bearer = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        let detail = "the token of admin.token_file is needed";
        Self { field: Some(bearer), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(super) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing here")
    }

    pub(super) fn method_not_allowed(known: &'static str) -> Self {
        let allow = (ALLOW, HeaderValue::from_static(known));
        let detail = "this method is not served here";
        Self { field: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {limit} bytes"))
    }

    pub(super) fn not_json() -> Self {
        let detail = "the body must be application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(super) fn misdirected() -> Self {
        let detail = "this name is not one of admin.hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, detail)
    }

    pub(super) fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(super) fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(super) fn into_answer(self) -> Answer {
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        Answer {
            status: self.status,
            media_type: "application/problem+json",
            body: format!("{problem}\n"),
            field: self.field,
        }
    }
}
