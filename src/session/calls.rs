//! REST over the socket: each call an exchange with the upstream, beside the session's other
//! traffic, in order with the session's other calls to the same URI.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, response};
use serde_json::value::RawValue;

use super::Session;
use crate::audience::Viewer;
use crate::body::RequestBody;
use crate::gate::{Action, Offence};
use crate::hub::fetch;
use crate::hub::mirror::{Owner, Purpose};
use crate::protocol::{ErrorCode, Message, Outgoing, Problem, Status};
use crate::rejection::Rejection;
use crate::uri::Uri;

/// The session's calls that wait or run.
#[derive(Default)]
pub(super) struct Calls {
    in_flight: Cell<usize>,
    lanes: RefCell<Vec<(Uri, VecDeque<Call>)>>,
}

impl Calls {
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    pub(super) fn is_done(&self) -> bool {
        self.in_flight.get() == 0
    }
}

/// One `index`, `show`, `create`, `update` or `delete`.
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) uri: Uri,
    pub(super) message: Message,
    /// Who the session was when it asked.
    pub(super) viewer: Rc<Viewer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Create,
    Update,
    Delete,
}

/// A success of the upstream.
struct Answer {
    headers: HeaderMap,
    /// `None` when it is not for the session's eyes.
    data: Option<Box<RawValue>>,
    /// The version that a view of the same answer would have.
    version: std::sync::Arc<str>,
}

impl Session {
    /// Starts a call, or queues it behind the others to its URI.
    pub(super) fn call(&self, call: Call) {
        if !self.begin_call(call.message.id.as_deref()) {
            return;
        }
        let mut lanes = self.calls.lanes.borrow_mut();
        if let Some((_, lane)) = lanes.iter_mut().find(|(uri, _)| *uri == call.uri) {
            lane.push_back(call);
            return;
        }
        lanes.push((call.uri.clone(), VecDeque::new()));
        if let Some(me) = self.me.upgrade() {
            self.sessions.tasks.spawn_local(me.run_lane(call));
        }
    }

    /// Counts a request in; false if it was refused, because the socket has too many.
    pub(super) fn begin_call(&self, id: Option<&RawValue>) -> bool {
        let in_flight = &self.socket().calls.in_flight;
        let is_allowed = in_flight.get() < self.options().requests_in_flight;
        if is_allowed {
            in_flight.set(in_flight.get() + 1);
        } else {
            let problem = Problem::new(ErrorCode::LimitExceeded, "too many requests in flight");
            self.refuse(id, &problem);
        }
        is_allowed
    }

    pub(super) fn end_call(&self) {
        let in_flight = &self.socket().calls.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
        self.leave_if_done();
    }

    async fn run_lane(self: Rc<Self>, mut call: Call) {
        loop {
            self.perform(&call).await;
            self.end_call();
            let mut lanes = self.calls.lanes.borrow_mut();
            let Some(at) = lanes.iter().position(|(uri, _)| *uri == call.uri) else { return };
            match lanes[at].1.pop_front() {
                Some(next) => call = next,
                None => {
                    lanes.swap_remove(at);
                    return;
                }
            }
        }
    }

    async fn perform(&self, call: &Call) {
        let outcome = self.exchange(call).await;
        // What was fetched with one credential is not shown under the next.
        let is_stranger = !Rc::ptr_eq(&call.viewer, &self.viewer());
        match outcome {
            Ok(_) if is_stranger && call.verb == Verb::Read => {
                let text = "the credential changed while this was under way";
                let problem = Problem::new(ErrorCode::Unauthorized, text);
                self.refuse(call.message.id.as_deref(), &problem);
            }
            Err(problem) if is_stranger => {
                let problem = Problem { data: None, ..problem };
                self.refuse(call.message.id.as_deref(), &problem);
            }
            Err(problem) => self.refuse(call.message.id.as_deref(), &problem),
            Ok(mut answer) => {
                if is_stranger {
                    answer.data = None;
                }
                let created = match call.verb {
                    Verb::Create => location(&answer.headers, &call.uri, &self.host),
                    Verb::Read | Verb::Update | Verb::Delete => None,
                };
                self.answer_call(call, &answer, created.as_deref());
                self.autobind(call, &answer, created.as_deref());
            }
        }
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, Problem> {
        let action = if call.verb == Verb::Read { Action::Read } else { Action::Write };
        // A request without credentials, unless it may be a login, is not refused for them.
        let tries_credential = action == Action::Write || !call.viewer.credentials().is_empty();
        let request = self.request(call)?;
        let (head, bytes) =
            self.whole_answer(request, action, &call.viewer, tries_credential).await?;
        let data = fetch::content(&head.headers, &bytes);
        let is_good = head.status.is_success()
            || (head.status == StatusCode::SEE_OTHER && call.verb == Verb::Create);
        if !is_good {
            let retry_after = fetch::retry_after(&head.headers);
            return Err(Problem { retry_after, ..Problem::of_upstream(head.status, data.ok()) });
        }
        let wants_data = match call.verb {
            Verb::Read | Verb::Create => true,
            Verb::Update => call.message.returns,
            Verb::Delete => false,
        };
        let data = match data {
            Err(problem) if wants_data => return Err(problem),
            data => data.unwrap_or_else(|_| RawValue::NULL.to_owned()),
        };
        let etag = head.headers.get(header::ETAG);
        let version = fetch::version(etag, data.get().as_bytes());
        Ok(Answer { headers: head.headers, data: Some(data), version })
    }

    /// Pays for a request, sends it, and reads what the upstream answers.
    pub(super) async fn whole_answer(
        &self,
        request: Request<RequestBody>,
        action: Action,
        viewer: &Viewer,
        tries_credential: bool,
    ) -> Result<(response::Parts, Bytes), Problem> {
        let services = self.sessions.services();
        if tries_credential {
            self.may_authenticate()?;
        }
        self.pay(action, viewer)?;
        let response = services.exchange.run(request, &self.client).await.map_err(|rejection| {
            if matches!(rejection, Rejection::RateLimited { .. }) {
                services.gate.offend(self.client.ip, Offence::OverRate);
            }
            Problem::from(&rejection)
        })?;
        if response.status() == StatusCode::UNAUTHORIZED && tries_credential {
            self.bad_credential();
        }
        let (head, body) = response.into_parts();
        let options = self.sessions.hub.options();
        let body = fetch::collect(body, options.body_bytes);
        let bytes = tokio::time::timeout(options.fetch_timeout, body)
            .await
            .map_err(|_| Problem::from(&Rejection::UpstreamTimeout("finishing its answer")))??;
        Ok((head, bytes))
    }

    fn request(&self, call: &Call) -> Result<Request<RequestBody>, Problem> {
        let method = self.method(call)?;
        let mut request = Request::new(match &call.message.data {
            Some(data) if call.verb != Verb::Read => {
                RequestBody::Full(data.get().to_owned().into())
            }
            _ => RequestBody::Empty,
        });
        *request.method_mut() = method;
        *request.uri_mut() = call.uri.as_str().parse().map_err(|_| {
            Problem::new(ErrorCode::BadRequest, "uri has characters that must be percent-encoded")
        })?;
        let headers = request.headers_mut();
        for (name, value) in call.viewer.request_fields() {
            headers.append(name, value.clone());
        }
        if let Some(data) = call.message.data.as_ref().filter(|_| call.verb != Verb::Read) {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            // A body of known length is not sent in chunks: not every API takes those.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(data.get().len()));
        }
        Ok(request)
    }

    fn method(&self, call: &Call) -> Result<Method, Problem> {
        match call.verb {
            Verb::Read => Ok(Method::GET),
            Verb::Create => Ok(Method::POST),
            Verb::Delete => Ok(Method::DELETE),
            Verb::Update => match call.message.method.as_deref() {
                Some("PUT") => Ok(Method::PUT),
                Some("PATCH") => Ok(Method::PATCH),
                Some(_) => Err(Problem::new(
                    ErrorCode::BadRequest,
                    "\"method\" must be \"PUT\" or \"PATCH\"",
                )),
                None => {
                    let services = self.sessions.services();
                    let route = services.routes.of(call.uri.as_str());
                    Ok(route.rule.update_method.clone())
                }
            },
        }
    }

    fn answer_call(&self, call: &Call, answer: &Answer, created: Option<&str>) {
        let Some(id) = call.message.id.as_deref() else { return };
        let data = match call.verb {
            Verb::Read | Verb::Create => answer.data.as_deref(),
            Verb::Update if call.message.returns => {
                answer.data.as_deref().filter(|data| data.get() != "null")
            }
            Verb::Update | Verb::Delete => None,
        };
        self.send(&Outgoing {
            id: Some(id),
            status: Some(Status::Ok),
            uri: created,
            data,
            ..Outgoing::default()
        });
    }

    /// A good request binds what it was about, unless the message or the route says no.
    fn autobind(&self, call: &Call, answer: &Answer, created: Option<&str>) {
        let (spelling, held) = match call.verb {
            Verb::Read => (call.message.uri.as_deref(), Some(answer.version.clone())),
            Verb::Update => (call.message.uri.as_deref(), None),
            Verb::Create => (created, None),
            Verb::Delete => return,
        };
        let Some(spelling) = spelling.filter(|_| self.closing.get().is_none()) else { return };
        let Ok(uri) = Uri::parse(spelling) else { return };
        let autobinds = self.sessions.services().routes.of(uri.as_str()).rule.autobind;
        let wanted = autobinds && call.message.bind.unwrap_or(true);
        // What a bound client is shown may be older than what it held: the latest must follow.
        let overtaken = held.is_some() && self.find(&uri).is_ok();
        if !wanted && !overtaken {
            return;
        }
        let Ok((binding, is_new)) = self.binding(uri, spelling) else {
            // The request was good; that it could not be followed is told by no event coming,
            // and by an explicit `bind` in its own answer.
            return;
        };
        if is_new {
            self.begin_life(&binding, None);
        }
        match held {
            Some(held) if is_new => drop(binding.held.replace(Some(held))),
            Some(held) => binding.shown(&held),
            None => {}
        }
        let hub = &self.sessions.hub;
        if hub.wait(&binding, self.client.clone(), Purpose::Autobind).is_err() && is_new {
            hub.leave(&binding);
            self.drop_binding(&binding);
        }
    }
}

/// The created resource in origin form, when the upstream named one (RFC 9110 §10.2.2). A URI on
/// another host is given as it stands: the client cannot bind it here.
fn location(headers: &HeaderMap, target: &Uri, host: &str) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    // A reference is resolved against the request's own URI (RFC 3986 §5.2).
    let base = reqwest::Url::parse(&format!("http://{host}{target}")).ok()?;
    let resolved = base.join(location).ok()?;
    let authority = |url: &reqwest::Url| {
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    if authority(&resolved) != authority(&base) {
        return Some(location.to_owned());
    }
    Some(match resolved.query() {
        Some(query) => format!("{}?{query}", resolved.path()),
        None => resolved.path().to_owned(),
    })
}
