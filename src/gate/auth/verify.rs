//! A token that the upstream is asked about: a GET with it on a path that only good ones open.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use serde_json::Value;

use super::{AuthError, Error, whole};

/// Most that is read of what the upstream answers.
const BODY_BYTES: usize = 64 * 1024;
/// Longest that asking may take, the body included.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Question {
    path: PathAndQuery,
    expires_pointer: Option<String>,
}

impl Question {
    pub(super) fn new(path: &str, expires_pointer: Option<&str>) -> Result<Self, Error> {
        let expires_pointer = expires_pointer.map(pointer).transpose()?;
        Ok(Question { path: verify_path(path)?, expires_pointer })
    }

    /// When the token ends, if the upstream says so.
    pub(super) async fn ask<A, B, E>(
        &self,
        credential: (HeaderName, HeaderValue),
        ask: A,
        now: u64,
    ) -> Result<Option<u64>, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        let asked = answer(self.request(credential), ask, self.expires_pointer.as_deref());
        let expires = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| {
            tracing::warn!(path = %self.path, "the upstream did not verify a token in time");
            AuthError::unavailable("the token could not be verified in time")
        })??;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(AuthError::unauthorized("the token has expired"));
        }
        Ok(expires)
    }

    fn request(&self, (name, value): (HeaderName, HeaderValue)) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(name, value);
        request
    }
}

async fn answer<A, B, E>(
    request: Request<()>,
    ask: A,
    pointer: Option<&str>,
) -> Result<Option<u64>, AuthError>
where
    A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Display,
{
    const UNUSABLE: &str = "the upstream's answer about the token was not usable";
    let response = ask(request).await.map_err(|error| {
        tracing::warn!(%error, "the upstream could not be asked about a token");
        AuthError::unavailable("the upstream could not be asked about the token")
    })?;
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Err(AuthError::unauthorized("the upstream does not accept the token"));
    }
    if !status.is_success() {
        tracing::warn!(%status, "the upstream could not verify a token");
        return Err(AuthError::unavailable("the upstream could not verify the token"));
    }
    let Some(pointer) = pointer else { return Ok(None) };
    let body = Limited::new(response.into_body(), BODY_BYTES).collect().await.map_err(|error| {
        tracing::warn!(%error, "the answer about a token could not be read");
        AuthError::unavailable(UNUSABLE)
    })?;
    expiry(&body.to_bytes(), pointer).map_err(|problem| {
        tracing::warn!(pointer, problem, "the answer about a token does not say when it ends");
        AuthError::unavailable(UNUSABLE)
    })
}

/// When the token ends, by the answer of `verify`. Nothing there, or null, leaves it to the
/// lifetime; what is there and cannot be read is an error, since guessing longer would be wrong.
fn expiry(body: &[u8], pointer: &str) -> Result<Option<u64>, &'static str> {
    if body.is_empty() {
        return Ok(None);
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| "not JSON")?;
    let seconds = match body.pointer(pointer) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => number(text),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    seconds.filter(|seconds| seconds.is_finite()).map(whole).map(Some).ok_or("no Unix time")
}

/// `1400382523` or `1400382523.5`; not what else a float may be spelled like.
fn number(text: &str) -> Option<f64> {
    let spelled = text.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte));
    text.parse().ok().filter(|_| spelled)
}

fn verify_path(path: &str) -> Result<PathAndQuery, Error> {
    let bad = || Error::VerifyPath(path.to_owned());
    if !path.starts_with('/') || path.contains('#') {
        return Err(bad());
    }
    path.parse().map_err(|_| bad())
}

/// RFC 6901 §3: empty, or `/` before each part, and `~` only as `~0` or `~1`.
fn pointer(text: &str) -> Result<String, Error> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if (text.is_empty() || text.starts_with('/')) && escapes {
        Ok(text.to_owned())
    } else {
        Err(Error::ExpiresPointer(text.to_owned()))
    }
}
