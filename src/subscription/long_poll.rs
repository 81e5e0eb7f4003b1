//! Long-polling: a GET with `If-None-Match` and `Prefer: wait=N` (RFC 7240 §4.3) that would be
//! answered 304 is answered when there is another state, or 304 when the time is over.
//!
//! The API's own `ETag` tells states apart. Where it gives none, the answer has the version for one,
//! also when there is nothing to wait for yet; a client may come back with either.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, response};

use super::follow::{Notice, Over};
use super::opening::{Asked, First, Reading, head_of, read};
use super::{Options, Services, Subscriptions};
use crate::exchange::{RequestBody, ResponseBody};
use crate::hub::fetch;
use crate::metrics::Way;
use crate::rejection::Rejection;
use crate::view::{Content, State};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long the client waits, and what it has.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    tags: Tags,
}

pub(super) fn wanted(headers: &HeaderMap, options: &Options) -> Option<Patience> {
    let wait = wait(headers)?.min(options.longest_wait);
    (!wait.is_zero()).then(|| Patience { wait, tags: Tags::of(headers) })
}

/// RFC 7240 §2: of a preference that is there twice, the first counts.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').parse::<u32>().ok())
    });
    Some(Duration::from_secs(u64::from(seconds??)))
}

/// What stands in `If-None-Match` (RFC 9110 §13.1.2).
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    /// Their opaque parts: whether they are weak does not count.
    Listed(Vec<String>),
}

impl Tags {
    fn of(headers: &HeaderMap) -> Self {
        let mut listed = Vec::new();
        let lines = headers.get_all(header::IF_NONE_MATCH).iter();
        for line in lines.filter_map(|line| line.to_str().ok()) {
            if line.trim() == "*" {
                return Self::Any;
            }
            // A tag may hold a comma, and no quotation mark.
            listed.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
        }
        Self::Listed(listed)
    }

    /// Whether the client has a state with this tag, or this version.
    fn have(&self, etag: Option<&HeaderValue>, version: &str) -> bool {
        let Self::Listed(listed) = self else { return true };
        let etag = etag.and_then(|etag| etag.to_str().ok());
        let opaque = etag.and_then(|etag| etag.split('"').nth(1));
        listed.iter().any(|tag| tag == version || Some(tag.as_str()) == opaque)
    }
}

/// What the API said of a state that the client has.
struct Held {
    parts: response::Parts,
    version: Arc<str>,
}

pub(super) async fn answer(
    subscriptions: &Rc<Subscriptions>,
    services: &Services,
    request: Request<RequestBody>,
    asked: &Asked,
    patience: &Patience,
) -> Result<Response<ResponseBody>, Rejection> {
    let exchange = &services.exchange;
    let mut unconditional = head_of(&request);
    unconditional.headers_mut().remove(header::IF_NONE_MATCH);
    let answer = exchange.forward(Box::new(request)).await?;
    let held = match held(subscriptions, services, answer, &unconditional, patience).await? {
        Ok(held) => held,
        Err(answer) => return Ok(*answer),
    };
    let expires = subscriptions.judge(services, asked).await?;
    let follow = subscriptions.follow(asked, Arc::clone(&held.version), Way::LongPoll, expires)?;
    let over = tokio::time::Instant::now() + patience.wait;
    let news = async {
        loop {
            match std::future::poll_fn(|cx| follow.poll(cx)).await {
                Notice::Stale | Notice::Fresh => {}
                news => return news,
            }
        }
    };
    let news = tokio::time::timeout_at(expires.map_or(over, |at| at.min(over)), news).await;
    // Others who wait need not wait for the rest of this.
    drop(follow);
    match news {
        Ok(Notice::State(state)) if matches!(state.content, Content::Data(_)) => {
            Ok(changed(held.parts, &state, patience))
        }
        // It cannot be shown, or may not be: the API says why.
        Ok(Notice::State(_) | Notice::Over(Over::Unbound(_))) => {
            let mut answer = *exchange.forward(Box::new(unconditional)).await?;
            applied(answer.headers_mut(), patience);
            Ok(answer)
        }
        Ok(Notice::Over(Over::Left(_)) | Notice::Stale | Notice::Fresh) | Err(_) => {
            Ok(unchanged(held.parts, patience))
        }
    }
}

/// What the client has, or the answer if that is another state or none.
async fn held(
    subscriptions: &Subscriptions,
    services: &Services,
    mut answer: Box<Response<ResponseBody>>,
    unconditional: &Request<RequestBody>,
    patience: &Patience,
) -> Result<Result<Held, Box<Response<ResponseBody>>>, Rejection> {
    let has_waited = answer.headers().get_all(PREFERENCE_APPLIED).iter();
    if has_waited.filter_map(|line| line.to_str().ok()).any(|line| line.contains("wait")) {
        return Ok(Err(answer));
    }
    if answer.status() == StatusCode::NOT_MODIFIED {
        // A strong tag is the version of a view, too. From any other it cannot be told which state
        // that is.
        if let Some(version) = strong(answer.headers()) {
            return Ok(Ok(Held { parts: answer.into_parts().0, version }));
        }
        answer = services.exchange.forward(Box::new(head_of(unconditional))).await?;
    }
    let first = match read(*answer, &subscriptions.hub.options()).await? {
        Reading::State(first) => *first,
        Reading::Other(answer) => return Ok(Err(answer)),
        Reading::TooLarge => {
            let again = Box::new(head_of(unconditional));
            return services.exchange.forward(again).await.map(Err);
        }
    };
    let First { mut parts, body, version, .. } = first;
    if let Ok(tag) = format!("\"{version}\"").parse() {
        parts.headers.entry(header::ETAG).or_insert(tag);
    }
    if patience.tags.have(parts.headers.get(header::ETAG), &version) {
        return Ok(Ok(Held { parts, version }));
    }
    Ok(Err(Box::new(Response::from_parts(parts, body.into()))))
}

/// The version of an answer without content.
fn strong(headers: &HeaderMap) -> Option<Arc<str>> {
    let etag = headers.get(header::ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))?;
    Some(fetch::version(Some(etag), b""))
}

fn changed(parts: response::Parts, state: &State, patience: &Patience) -> Response<ResponseBody> {
    let json = match &state.content {
        Content::Data(data) => data.0.get(),
        Content::Absent | Content::Unseen => "",
    };
    let mut answer = Response::from_parts(parts, ResponseBody::Full(json.to_owned().into()));
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    without_content(headers);
    headers.remove(header::LAST_MODIFIED);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, json.len().into());
    let tag = || HeaderValue::try_from(format!("\"{}\"", state.version)).ok();
    match state.etag.clone().or_else(tag) {
        Some(tag) => headers.insert(header::ETAG, tag),
        None => headers.remove(header::ETAG),
    };
    applied(headers, patience);
    answer
}

fn unchanged(parts: response::Parts, patience: &Patience) -> Response<ResponseBody> {
    let mut answer = Response::from_parts(parts, ResponseBody::Empty);
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    without_content(answer.headers_mut());
    applied(answer.headers_mut(), patience);
    answer
}

fn without_content(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::TRAILER,
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("digest"),
    ] {
        headers.remove(name);
    }
}

fn applied(headers: &mut HeaderMap, patience: &Patience) {
    if let Ok(wait) = format!("wait={}", patience.wait.as_secs()).parse() {
        headers.insert(PREFERENCE_APPLIED, wait);
    }
    headers.append(header::VARY, HeaderValue::from_static("Prefer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_first_wait_of_a_prefer_counts() {
        for (prefer, seconds) in [
            ("wait=10", Some(10)),
            ("respond-async, Wait = 5 ;x=1", Some(5)),
            ("wait=\"7\"", Some(7)),
            ("wait=3, wait=9", Some(3)),
            ("return=minimal", None),
            ("wait", None),
            ("wait=soon, wait=9", None),
            ("wait=-1", None),
            ("await=10", None),
        ] {
            let found = wait(&head(PREFER, prefer)).map(|wait| wait.as_secs());
            assert_eq!(found, seconds, "{prefer}");
        }
    }

    #[test]
    fn tags_are_compared_weakly_and_with_the_version() {
        let etag = |text: &str| HeaderValue::try_from(text).unwrap();
        for (listed, tag, version, has) in [
            ("\"a\"", Some("\"a\""), "a", true),
            ("W/\"a\"", Some("\"a\""), "a", true),
            ("\"a\"", Some("W/\"a\""), "hash", true),
            ("\"x\", \"a,b\"", Some("\"a,b\""), "a,b", true),
            ("\"hash\"", Some("W/\"a\""), "hash", true),
            ("\"hash\"", None, "hash", true),
            ("*", None, "hash", true),
            ("\"b\"", Some("\"a\""), "a", false),
            ("\"b\"", None, "hash", false),
        ] {
            let tags = Tags::of(&head(header::IF_NONE_MATCH, listed));
            assert_eq!(tags.have(tag.map(etag).as_ref(), version), has, "{listed} {tag:?}");
        }
        for nothing in [head(header::IF_NONE_MATCH, "a"), HeaderMap::new()] {
            assert_eq!(Tags::of(&nothing), Tags::Listed(Vec::new()));
        }
    }
}
