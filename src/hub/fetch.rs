//! One GET of a view, as its audience, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;

use super::Options;
use crate::audience::{ViewKey, vary_of};
use crate::body::RequestBody;
use crate::groups;
use crate::headers::{self, ClientAddress, Via};
use crate::protocol::codec::json_string;
use crate::protocol::{ErrorCode, Problem};
use crate::rejection::Rejection;
use crate::trace::Trace;
use crate::upstream::{ResponseBody, Upstream};
use crate::view::{Answer, Content, Data, State};

const UNFETCHABLE: &str = "this URI cannot be fetched";

/// Marks a GET that nobody asked for just now, so that an API can leave it out of its audit.
const REFETCH: HeaderName = HeaderName::from_static("pogo-refetch");

/// What is asked for, for whom, and on account of which write.
pub(super) struct Sent<'a> {
    pub(super) key: &'a ViewKey,
    pub(super) client: &'a ClientAddress,
    pub(super) trace: Option<Arc<Trace>>,
}

/// Asks the upstream for the view, with the validators of `known`.
pub(super) async fn fetch(
    upstream: &Upstream,
    via: Option<&Via>,
    sent: Sent<'_>,
    known: Option<Arc<State>>,
    options: &Options,
) -> Fetched {
    let request = request(&sent, known.as_deref()).map_err(|_| Rejection::BadRequest(UNFETCHABLE));
    let request = request.map(Box::new).and_then(|mut request| {
        headers::to_upstream(&mut request, false, sent.client, via, upstream.host())?;
        Ok(request)
    });
    let request = match request {
        Ok(request) => request,
        Err(rejection) => return Answer::NotBindable(Problem::from(&rejection)).into(),
    };
    let conditional =
        known.is_some_and(|known| known.etag.is_some() || known.last_modified.is_some());
    let exchange = async {
        let response =
            upstream.forward(request).await.map_err(|failure| Problem::from(&failure.into()))?;
        let headers = response.headers();
        let named = headers.contains_key(&groups::CACHE_GROUPS);
        let groups = named.then(|| groups::listed(headers, &groups::CACHE_GROUPS));
        Ok(Fetched { answer: read(response, conditional, options).await?, groups })
    };
    match tokio::time::timeout(options.fetch_timeout, exchange).await {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(problem)) => Answer::Failed(problem).into(),
        Err(_) => Answer::Failed(Problem::new(
            ErrorCode::UpstreamTimeout,
            "the upstream did not answer in time",
        ))
        .into(),
    }
}

/// What a GET was answered with.
pub(super) struct Fetched {
    pub(super) answer: Answer,
    /// The groups that the answer named, if it said anything of them.
    groups: Option<Vec<Arc<str>>>,
}

impl Fetched {
    /// The groups that the view is in from now on, if that may be others than before. A 304 that says
    /// nothing of them leaves them as they are (RFC 9111 §4.3.4).
    pub(super) fn regroups(&mut self) -> Option<Vec<Arc<str>>> {
        match self.answer {
            Answer::State(_) => Some(self.groups.take().unwrap_or_default()),
            Answer::NotModified => self.groups.take(),
            Answer::Refused(_) | Answer::NotBindable(_) | Answer::Failed(_) => None,
        }
    }
}

impl From<Answer> for Fetched {
    fn from(answer: Answer) -> Self {
        Self { answer, groups: None }
    }
}

fn request(sent: &Sent<'_>, known: Option<&State>) -> Result<Request<RequestBody>, http::Error> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(sent.key.uri.as_str())
        .body(RequestBody::Empty)?;
    let headers = request.headers_mut();
    for (name, value) in sent.key.audience.fields() {
        headers.append(name, value.clone());
    }
    headers.insert(REFETCH, HeaderValue::from_static("1"));
    if let Some(trace) = &sent.trace {
        trace.mark(headers);
    }
    if let Some(known) = known {
        if let Some(etag) = &known.etag {
            headers.insert(header::IF_NONE_MATCH, etag.clone());
        } else if let Some(date) = &known.last_modified {
            headers.insert(header::IF_MODIFIED_SINCE, date.clone());
        }
    }
    Ok(request)
}

async fn read(
    mut response: Box<Response<ResponseBody>>,
    conditional: bool,
    options: &Options,
) -> Result<Answer, Problem> {
    let body = std::mem::replace(response.body_mut(), ResponseBody::Empty);
    let (status, headers) = (response.status(), response.headers());
    match status {
        StatusCode::NOT_MODIFIED if conditional => return Ok(Answer::NotModified),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let state = State {
                vary: vary_of(headers, &options.credential_headers),
                ..State::new(ABSENT.into(), Content::Absent)
            };
            return Ok(Answer::State(state));
        }
        _ => {}
    }
    let bytes = collect(body, options.body_bytes).await?;
    if status.is_success() {
        return success(headers, &bytes, options).map(Answer::State);
    }
    let retry_after = retry_after(headers);
    let data = content(headers, &bytes).ok();
    let problem = Problem { retry_after, ..Problem::of_upstream(status, data) };
    Ok(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Refused(problem),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Answer::NotBindable(Problem { code: ErrorCode::NotBindable, ..problem })
        }
        _ => Answer::Failed(problem),
    })
}

/// Longer tags are not sent back.
const MAX_ETAG: usize = 256;

/// The version of what is not there.
const ABSENT: &str = "absent";

pub(super) fn success(
    headers: &HeaderMap,
    body: &[u8],
    options: &Options,
) -> Result<State, Problem> {
    let data = content(headers, body)?;
    // A weak one may stay when the content changes (RFC 9110 §8.8.1): a 304 to it proves nothing.
    let etag = headers
        .get(header::ETAG)
        .filter(|etag| etag.len() <= MAX_ETAG && etag.as_bytes().starts_with(b"\""));
    let vary = vary_of(headers, &options.credential_headers);
    Ok(State {
        etag: etag.cloned(),
        last_modified: headers.get(header::LAST_MODIFIED).filter(|_| is_exact(headers)).cloned(),
        vary,
        ..State::new(version(etag, data.get().as_bytes()), Content::Data(Data(data)))
    })
}

/// Gives a new content a version of its own where the upstream repeated the tag of the old one.
pub(super) fn told_apart(fetched: Fetched, before: Option<&State>) -> Fetched {
    match (fetched, before) {
        (Fetched { answer: Answer::State(new), groups }, Some(old))
            if new.version == old.version && !new.same_content(old) =>
        {
            let version = match &new.content {
                Content::Data(Data(json)) => version(None, json.get().as_bytes()),
                Content::Absent | Content::Unseen => new.version,
            };
            Fetched { answer: Answer::State(State { version, ..new }), groups }
        }
        (fetched, _) => fetched,
    }
}

/// Whether `Last-Modified` tells this state from the next: a date has a resolution of one second,
/// so it does only when the answer was made later than that (RFC 9110 §8.8.2.2).
fn is_exact(headers: &HeaderMap) -> bool {
    let date = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(text).ok()
    };
    match (date(header::LAST_MODIFIED), date(header::DATE)) {
        (Some(modified), Some(answered)) => {
            answered.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(2))
        }
        _ => false,
    }
}

/// The strong ETag, else a hash of the content (all states that have one were answered alike).
pub fn version(etag: Option<&HeaderValue>, json: &[u8]) -> Arc<str> {
    let strong = etag
        .and_then(|etag| etag.to_str().ok())
        .and_then(|etag| etag.strip_prefix('"')?.strip_suffix('"'));
    match strong {
        Some(tag) if tag != ABSENT => tag.into(),
        _ => {
            let hash = digest::digest(&digest::SHA256, json);
            let half = hash.as_ref().first_chunk().copied().unwrap_or_default();
            format!("{:032x}", u128::from_be_bytes(half)).into()
        }
    }
}

/// Why a body is not there whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncollected {
    /// It is larger than so many bytes.
    TooLarge(usize),
    Broken,
}

impl From<Uncollected> for Problem {
    fn from(why: Uncollected) -> Self {
        Self::new(
            ErrorCode::UpstreamError,
            match why {
                Uncollected::TooLarge(limit) => {
                    format!("the upstream's answer is larger than {limit} bytes")
                }
                Uncollected::Broken => "the upstream's answer broke off".into(),
            },
        )
    }
}

/// Reads a whole body, up to `limit` bytes.
pub async fn collect(body: ResponseBody, limit: usize) -> Result<Bytes, Uncollected> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Uncollected::TooLarge(limit)),
        Err(_) => Err(Uncollected::Broken),
    }
}

/// Whether the content says of itself that it is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// A body as JSON text: JSON as it stands, text as a string, nothing as `null`.
pub fn content(headers: &HeaderMap, body: &[u8]) -> Result<Box<RawValue>, Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type
        .unwrap_or(if body.is_empty() { "" } else { "application/json" })
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let wrong = |what: &str| Problem::new(ErrorCode::UpstreamError, format!("the upstream {what}"));
    let text = || std::str::from_utf8(body).map_err(|_| wrong("answered text that is not UTF-8"));
    if body.is_empty() {
        Ok(RawValue::NULL.to_owned())
    } else if essence == "application/json" || essence.ends_with("+json") {
        serde_json::from_str(text()?).map_err(|_| wrong("answered JSON that is not valid"))
    } else if essence.starts_with("text/") {
        Ok(json_string(text()?))
    } else {
        let shown: String = essence.chars().take(100).collect();
        Err(wrong(&format!("answered {shown}, which is neither JSON nor text")))
    }
}

/// Seconds to wait, by either form of `Retry-After` (RFC 9110 §10.2.3); never too few.
pub fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let wait = date.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
