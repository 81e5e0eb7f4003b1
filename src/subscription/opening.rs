//! From a request to a subscription, or to the API's answer as it stands.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, response};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::stream::{Stream, Times};
use super::wanted::{Ask, Wanted};
use super::{Services, Subscriptions, long_poll};
use crate::audience::{JSON_FIRST, Viewer};
use crate::exchange::{Exchange, RequestBody, ResponseBody};
use crate::gate::auth::{AuthError, Verified};
use crate::headers::{self, ClientAddress};
use crate::hub::{self, fetch};
use crate::rejection::Rejection;
use crate::uri::Uri;

/// A request that asks for more than one answer, of a resource that can be followed.
pub(crate) struct Asked {
    wanted: Wanted,
    pub(super) uri: Uri,
    pub(super) viewer: Rc<Viewer>,
    pub(super) client: ClientAddress,
    pub(super) host: Option<HeaderValue>,
}

/// An answer that is a state of the view.
pub(super) struct First {
    pub(super) parts: response::Parts,
    /// As it came.
    pub(super) body: Bytes,
    pub(super) data: Box<RawValue>,
    /// The version that a view of the same answer would have.
    pub(super) version: Arc<str>,
}

/// What an answer is to a subscription.
pub(super) enum Reading {
    State(Box<First>),
    /// Nothing that can be followed.
    Other(Box<Response<ResponseBody>>),
    /// It went on and on, and so much of it is gone.
    TooLarge,
}

impl Subscriptions {
    /// What the request asks for besides an answer, if it does and if that can be had.
    pub(crate) fn asked(
        &self,
        request: &Request<RequestBody>,
        client: &ClientAddress,
    ) -> Option<Asked> {
        let services = self.services();
        if !services.options.enabled || !request.body().is_empty() {
            return None;
        }
        let wanted = Wanted::of(request.method(), request.headers(), &services.options)?;
        let target = request.uri().path_and_query()?;
        let uri = Uri::parse(target.as_str()).ok()?;
        if !self.hub.settings().routes.of(uri.as_str()).rule.realtime {
            return None;
        }
        let viewer = viewer(request.headers(), &services.credential_headers);
        let host = request.headers().get(header::HOST).cloned();
        Some(Asked { wanted, uri, viewer: Rc::new(viewer), client: client.clone(), host })
    }

    /// Answers such a request.
    pub(crate) async fn answer(
        self: Rc<Self>,
        mut request: Request<RequestBody>,
        asked: Asked,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let services = self.services();
        // A state is read here, so it has to come as it is.
        if request.headers().contains_key(header::ACCEPT_ENCODING) {
            let identity = HeaderValue::from_static("identity");
            request.headers_mut().insert(header::ACCEPT_ENCODING, identity);
        }
        match &asked.wanted {
            Wanted::Next(patience) => {
                long_poll::answer(&self, &services, request, &asked, patience).await
            }
            Wanted::Stream(ask) => self.stream(&services, request, &asked, ask).await,
        }
    }

    async fn stream(
        self: &Rc<Self>,
        services: &Services,
        request: Request<RequestBody>,
        asked: &Asked,
        ask: &Ask,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let exchange = &services.exchange;
        let mut again = head_of(&request);
        let is_head = *request.method() == Method::HEAD;
        let mut answer = *exchange.forward(Box::new(request)).await?;
        if answer.status() == StatusCode::NOT_ACCEPTABLE {
            let accept = accepted(again.headers()).unwrap_or(JSON_FIRST);
            again.headers_mut().insert(header::ACCEPT, accept);
            answer = *exchange.forward(Box::new(head_of(&again))).await?;
        }
        let options = self.hub.options();
        if is_head {
            return Ok(match is_state(&answer, &options) {
                true => {
                    let (mut parts, _) = answer.into_parts();
                    ask.speech.head(&mut parts, None);
                    Response::from_parts(parts, ResponseBody::Empty)
                }
                false => answer,
            });
        }
        let first = match read(answer, &options).await? {
            Reading::State(first) => *first,
            Reading::Other(answer) => return Ok(*answer),
            Reading::TooLarge => {
                return exchange.forward(Box::new(again)).await.map(|answer| *answer);
            }
        };
        let expires = self.judge(services, asked).await?;
        let follow = self.follow(asked, Arc::clone(&first.version), ask.way, expires)?;
        let text = ask.speech.first(&first, ask.held.is(&first.version));
        let now = Instant::now();
        let heartbeat = services.options.heartbeat;
        let lives = [services.options.max_lifetime, ask.speech.lifetime()];
        let times = Times {
            heartbeat: ask.heartbeat.map_or(heartbeat, |wanted| wanted.min(heartbeat)),
            lives_until: lives.into_iter().flatten().min().map(|life| now + life),
            expires,
        };
        let mut parts = first.parts;
        ask.speech.head(&mut parts, Some(&first.version));
        let stream = Stream::new(follow, Rc::clone(&ask.speech), text, times);
        Ok(Response::from_parts(parts, ResponseBody::Made(Box::new(stream))))
    }

    /// When the client's credential ends, where Pogo checks credentials. Only where it must be good
    /// is it refused for that: else the API is the judge, and has let the client have the state.
    pub(super) async fn judge(
        &self,
        services: &Services,
        asked: &Asked,
    ) -> Result<Option<Instant>, Rejection> {
        const REQUIRED: Rejection = Rejection::Unauthorized("authenticate first");
        if !services.verifies {
            return Ok(None);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in asked.viewer.credentials() {
            headers.append(name, value.clone());
        }
        let ask = async |request| ask_upstream(&services.verifier, request, asked).await;
        match services.authenticator.check_handshake(&headers, ask).await {
            Ok(Some(verified)) => Ok(Some(end_of(&verified))),
            Err(AuthError::Unauthorized(_)) => {
                services.gate.bad_credential(asked.client.ip);
                if services.auth_required { Err(REQUIRED) } else { Ok(None) }
            }
            Ok(None) if services.auth_required => Err(REQUIRED),
            Err(AuthError::Unavailable(why)) if services.auth_required => {
                Err(Rejection::UpstreamBroken(why))
            }
            Ok(None) | Err(AuthError::Unavailable(_)) => Ok(None),
        }
    }
}

/// A question about a credential, as this client.
async fn ask_upstream(
    exchange: &Rc<Exchange>,
    request: Request<()>,
    asked: &Asked,
) -> Result<Response<ResponseBody>, &'static str> {
    let mut request = request.map(|()| RequestBody::Empty);
    if let Some(host) = &asked.host {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    exchange.run(request, &asked.client).await.map_err(|rejection| rejection.detail())
}

fn end_of(verified: &Verified) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Instant::now() + Duration::from_secs(verified.ends).saturating_sub(now)
}

/// Another request with the same head, which has been made what the upstream is to see.
pub(super) fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// Reads an answer to its end if it is a state.
pub(super) async fn read(
    answer: Response<ResponseBody>,
    options: &hub::Options,
) -> Result<Reading, Rejection> {
    if !is_state(&answer, options) {
        return Ok(Reading::Other(Box::new(answer)));
    }
    let (parts, body) = answer.into_parts();
    let body = fetch::collect(body, options.body_bytes);
    let body = match tokio::time::timeout(options.fetch_timeout, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(fetch::Uncollected::TooLarge(_))) => return Ok(Reading::TooLarge),
        Ok(Err(fetch::Uncollected::Broken)) => {
            return Err(Rejection::UpstreamBroken("the answer broke off".into()));
        }
        Err(_) => return Err(Rejection::UpstreamTimeout("finishing its answer")),
    };
    Ok(match fetch::content(&parts.headers, &body) {
        Ok(data) => {
            let etag = parts.headers.get(header::ETAG);
            let version = fetch::version(etag, data.get().as_bytes());
            Reading::State(Box::new(First { parts, body, data, version }))
        }
        Err(_) => Reading::Other(Box::new(Response::from_parts(parts, body.into()))),
    })
}

/// Whether the answer is what a view of the resource would show, by its head.
fn is_state(answer: &Response<ResponseBody>, options: &hub::Options) -> bool {
    let headers = answer.headers();
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    answer.status() == StatusCode::OK
        && fetch::is_json(headers)
        && encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"))
        && length.is_none_or(|length| length <= options.body_bytes)
}

/// Whose eyes the view is to have: those of a socket of the same client, which asks for the state
/// and does not say how it is to be told.
fn viewer(headers: &HeaderMap, credential_headers: &[HeaderName]) -> Viewer {
    const HOW_TO_TELL: [&str; 7] =
        ["accept-events", "heartbeats", "last-event-id", "parents", "peer", "prefer", "subscribe"];
    let mut headers = headers.clone();
    for name in HOW_TO_TELL {
        headers.remove(name);
    }
    match accepted(&headers) {
        Some(accept) => headers.insert(header::ACCEPT, accept),
        None => headers.remove(header::ACCEPT),
    };
    Viewer::from_handshake(&headers, credential_headers)
}

/// What the client accepts besides a stream of events, if that says anything.
fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::ACCEPT).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let members = members.map(<[u8]>::trim_ascii);
    let rest: Vec<_> =
        members.filter(|member| !member.is_empty() && !headers::is_event_stream(member)).collect();
    match *rest {
        [] | [b"*/*"] => None,
        _ => HeaderValue::from_bytes(&rest.join(&b", "[..])).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_asked_for_with_what_else_the_client_accepts() {
        for (lines, rest) in [
            (&["text/event-stream"][..], None),
            (&["*/*"], None),
            (&["text/event-stream, */*"], None),
            (&[], None),
            (&["application/json"], Some("application/json")),
            (&["text/event-stream;q=0.9,application/hal+json"], Some("application/hal+json")),
            (&["a/b", "text/event-stream, c/d;q=0.1"], Some("a/b, c/d;q=0.1")),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, line.parse().unwrap());
            }
            let rest = rest.map(|rest| rest.parse::<HeaderValue>().unwrap());
            assert_eq!(accepted(&headers), rest, "{lines:?}");
        }
    }
}
