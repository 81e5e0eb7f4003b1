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
        credentials: Vec<(HeaderName, HeaderValue)>,
        ask: A,
        now: u64,
    ) -> Result<Option<u64>, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        let asked = answer(self.request(credentials), ask, self.expires_pointer.as_deref());
        let expires = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| {
            tracing::warn!(path = %self.path, "the upstream did not verify a token in time");
            AuthError::unavailable("the token could not be verified in time")
        })??;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(AuthError::unauthorized("the token has expired"));
        }
        Ok(expires)
    }

    fn request(&self, credentials: Vec<(HeaderName, HeaderValue)>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in credentials {
            headers.append(name, value);
        }
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
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    seconds.filter(|seconds| seconds.is_finite()).map(whole).map(Some).ok_or("no Unix time")
}

fn verify_path(path: &str) -> Result<PathAndQuery, Error> {
    let bad = || Error::VerifyPath(path.to_owned());
    if !path.starts_with('/') || path.contains('#') || !path.is_ascii() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use http_body_util::combinators::UnsyncBoxBody;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::convert::Infallible;

    const NOW: u64 = 1_400_000_000;

    fn credential() -> (HeaderName, HeaderValue) {
        (header::AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"))
    }

    async fn asked(
        pointer: Option<&str>,
        status: u16,
        body: &[u8],
    ) -> Result<Option<u64>, AuthError> {
        let body = Full::new(Bytes::copy_from_slice(body));
        let question = Question::new("/me", pointer).unwrap();
        let ask = async |_| -> Result<_, Infallible> {
            Ok(Response::builder().status(status).body(body).unwrap())
        };
        question.ask(vec![credential()], ask, NOW).await
    }

    #[tokio::test]
    async fn the_upstream_is_asked_with_the_credential() {
        let seen = RefCell::new(None);
        let question = Question::new("/me?brief=1", None).unwrap();
        let ask = async |request: Request<()>| -> Result<Response<Full<Bytes>>, Infallible> {
            *seen.borrow_mut() = Some(request);
            Ok(Response::new(Full::default()))
        };
        assert_eq!(question.ask(vec![credential()], ask, NOW).await, Ok(None));
        let request = seen.into_inner().unwrap();
        assert_eq!(request.method(), http::Method::GET);
        assert_eq!(request.uri().to_string(), "/me?brief=1");
        assert_eq!(request.headers()["authorization"], "Bearer t0ken");
        assert_eq!(request.headers()["accept"], "application/json");
        assert_eq!(request.headers().len(), 2);
    }

    #[tokio::test]
    async fn its_status_is_the_verdict() {
        let verdicts = [
            (200, "good"),
            (204, "good"),
            (299, "good"),
            (401, "unauthorized"),
            (403, "unauthorized"),
            (302, "unavailable"),
            (304, "unavailable"),
            (400, "unavailable"),
            (404, "unavailable"),
            (407, "unavailable"),
            (429, "unavailable"),
            (500, "unavailable"),
            (503, "unavailable"),
        ];
        for (status, expected) in verdicts {
            let verdict = match asked(None, status, b"").await {
                Ok(None) => "good",
                Ok(Some(_)) => "good until some time",
                Err(AuthError::Unauthorized(_)) => "unauthorized",
                Err(AuthError::Unavailable(_)) => "unavailable",
            };
            assert_eq!(verdict, expected, "{status}");
        }
    }

    #[tokio::test]
    async fn an_upstream_that_cannot_be_asked_makes_nobody_unauthorized() {
        let question = Question::new("/me", None).unwrap();
        let ask = async |_| -> Result<Response<Full<Bytes>>, &str> {
            Err("connection refused by 10.1.2.3")
        };
        let reason = "the upstream could not be asked about the token";
        let refused = question.ask(vec![credential()], ask, NOW).await;
        assert_eq!(refused, Err(AuthError::unavailable(reason)), "says nothing of the inside");
    }

    #[tokio::test]
    async fn its_body_may_say_when_the_token_ends() {
        let expired = || Err(AuthError::unauthorized("the token has expired"));
        let unusable = || {
            let reason = "the upstream's answer about the token was not usable";
            Err(AuthError::unavailable(reason))
        };
        let cases = [
            (r#"{"exp":1400000060}"#, Ok(Some(1_400_000_060))),
            (r#"{"exp":1400000060.9}"#, Ok(Some(1_400_000_060))),
            (r#"{"exp":1.40000006e9}"#, Ok(Some(1_400_000_060))),
            (r#"{"exp":"1400000060"}"#, Ok(Some(1_400_000_060))),
            (r#"{"exp":"1400000060.9"}"#, Ok(Some(1_400_000_060))),
            (r#"{"exp":18446744073709551615}"#, Ok(Some(u64::MAX))),
            (r#"{"exp":1400000000}"#, expired()),
            (r#"{"exp":0}"#, expired()),
            (r#"{"exp":-1}"#, expired()),
            (r#"{"exp":null}"#, Ok(None)),
            (r#"{"other":1}"#, Ok(None)),
            (r#"[1]"#, Ok(None)),
            ("", Ok(None)),
            (r#"{"exp":"2014-05-13T16:53:20Z"}"#, unusable()),
            (r#"{"exp":"inf"}"#, unusable()),
            (r#"{"exp":"NaN"}"#, unusable()),
            (r#"{"exp":""}"#, unusable()),
            (r#"{"exp":true}"#, unusable()),
            (r#"{"exp":[1400000060]}"#, unusable()),
            ("<html>", unusable()),
            (r#"{"exp":1400000060"#, unusable()),
        ];
        for (body, expected) in cases {
            assert_eq!(asked(Some("/exp"), 200, body.as_bytes()).await, expected, "{body}");
            assert_eq!(
                asked(None, 200, body.as_bytes()).await,
                Ok(None),
                "{body} is not looked at"
            );
        }
        let nested = br#"{"data":[{"a/b":1400000060}]}"#;
        assert_eq!(asked(Some("/data/0/a~1b"), 200, nested).await, Ok(Some(1_400_000_060)));
        assert_eq!(asked(Some(""), 200, b"1400000060").await, Ok(Some(1_400_000_060)));
    }

    #[tokio::test]
    async fn no_more_of_its_body_is_read_than_the_bound() {
        let padded = |spaces: usize| format!("{}1400000060", " ".repeat(spaces));
        let fits = padded(BODY_BYTES - 10);
        assert_eq!(asked(Some(""), 200, fits.as_bytes()).await, Ok(Some(1_400_000_060)));
        let over = padded(BODY_BYTES - 9);
        let refused = asked(Some(""), 200, over.as_bytes()).await;
        assert!(matches!(refused, Err(AuthError::Unavailable(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_usable() {
        struct Broken;
        impl Body for Broken {
            type Data = Bytes;
            type Error = std::io::Error;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>>
            {
                std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
            }
        }
        let question = Question::new("/me", Some("/exp")).unwrap();
        let ask =
            async |_| -> Result<_, Infallible> { Ok(Response::new(UnsyncBoxBody::new(Broken))) };
        let refused = question.ask(vec![credential()], ask, NOW).await;
        assert!(matches!(refused, Err(AuthError::Unavailable(_))), "{refused:?}");
    }

    #[test]
    fn a_bad_question_does_not_start() {
        for path in ["", "me", "http://upstream/me", "/a b", "/me#x", "*", "/\u{e4}"] {
            let refused = Question::new(path, None).unwrap_err();
            assert_eq!(refused, Error::VerifyPath(path.to_owned()));
        }
        for bad in ["exp", "/a~", "/a~2", "/~/b", "/a~1~"] {
            let refused = Question::new("/me", Some(bad)).unwrap_err();
            assert_eq!(refused, Error::ExpiresPointer(bad.to_owned()));
        }
        for good in ["", "/", "/exp", "/a~0b", "/a~1b", "/a/0"] {
            assert!(Question::new("/me", Some(good)).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in ".{0,60}", pointer in "(/[a~01]{0,2}){0,3}") {
            let _either = expiry(body.as_bytes(), &pointer);
        }

        #[test]
        fn whole_seconds_are_what_they_say(seconds in 0u64..1 << 53) {
            for body in [seconds.to_string(), format!("\"{seconds}\"")] {
                prop_assert_eq!(expiry(body.as_bytes(), ""), Ok(Some(seconds)));
            }
        }
    }
}
