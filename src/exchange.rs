//! One request of a client, forwarded, and what it may have changed made known.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio_util::task::TaskTracker;

use crate::audience::is_credential;
use crate::body::Fault;
use crate::change::{self, Change};
use crate::gate::Account;
use crate::gate::auth::Authenticator;
use crate::headers::{self, ClientAddress, Via};
use crate::hub::mail::Credentials;
use crate::hub::written::Expectation;
use crate::hub::{self, Hub};
use crate::rejection::Rejection;
use crate::route::{Push, Routes};
use crate::trace::Trace;
use crate::upstream::{Failure, Kind, Switch, Tee, Tunnel, Upstream};
use crate::uri::Uri;

pub use crate::body::RequestBody;
pub use crate::upstream::ResponseBody;

/// How long views wait for the end of a write's answer before they are fetched all the same.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);

/// Everybody's views of one API, where not all go by the same routes: a write touches of each what
/// its own routes say. Empty where all do.
pub type Outlooks = Rc<RefCell<Vec<(Rc<Hub>, Arc<Routes>)>>>;

/// One worker's exchanges with the upstream.
pub struct Exchange {
    upstream: Rc<Upstream>,
    hub: Rc<Hub>,
    /// Of the hub, as they were when this was made.
    views: Rc<hub::Options>,
    routes: Arc<Routes>,
    via: Option<Via>,
    authenticator: Arc<Authenticator>,
    outlooks: Outlooks,
    /// Writes that go on although their client has left.
    tasks: TaskTracker,
}

impl Exchange {
    pub fn new(
        upstream: Rc<Upstream>,
        hub: Rc<Hub>,
        routes: Arc<Routes>,
        via: Option<Via>,
        authenticator: Arc<Authenticator>,
        outlooks: Outlooks,
        tasks: TaskTracker,
    ) -> Self {
        let views = hub.options();
        Self { upstream, hub, views, routes, via, authenticator, outlooks, tasks }
    }

    /// Forwards a request and returns its answer, after what it touched was announced.
    ///
    /// Dropping the future of a safe request cancels it upstream. An unsafe one goes on, because
    /// the upstream may act on it whoever is still there to hear.
    pub async fn run(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        client: &ClientAddress,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let mut request = Box::new(request);
        self.outgoing(&mut request, client, &mut Account::default())?;
        self.forward(request).await.map(|answer| *answer)
    }

    /// The same for a request whose head is already what the upstream is to see.
    pub(crate) async fn forward(
        self: &Rc<Self>,
        request: Box<Request<RequestBody>>,
    ) -> Result<Box<Response<ResponseBody>>, Rejection> {
        let mut answer = if change::is_write(request.method()) {
            let this = Rc::clone(self);
            // In a box, because a task moves what it runs several times.
            let write = Box::pin(async move { this.write(request).await });
            let write = self.tasks.spawn_local(write);
            write.await.map_err(|_| Rejection::Internal)??
        } else {
            self.upstream.forward(request).await.map_err(|failure| self.failed(failure))?
        };
        self.incoming(&mut answer)?;
        Ok(answer)
    }

    /// Asks the upstream to speak WebSocket with the client.
    pub async fn upgrade(
        &self,
        mut request: Request<RequestBody>,
        client: &ClientAddress,
    ) -> Result<Upgrade, Rejection> {
        self.outgoing(&mut request, client, &mut Account::default())?;
        headers::switch_to_websocket(request.headers_mut());
        match self.upstream.upgrade(request).await.map_err(|failure| self.failed(failure))? {
            Switch::Answered(mut answer) => {
                self.incoming(&mut answer)?;
                Ok(Upgrade::Refused(answer))
            }
            Switch::Switched { mut head, upstream } => {
                if !headers::lists(head.headers(), http::header::UPGRADE, b"websocket") {
                    return Err(Rejection::UpstreamBroken("switched to another protocol".into()));
                }
                headers::to_client(&mut head, self.via.as_ref()).map_err(bad_answer)?;
                headers::switch_to_websocket(head.headers_mut());
                let answer = head.map(|()| ResponseBody::Empty);
                Ok(Upgrade::Switched { answer, upstream })
            }
        }
    }

    /// Gives a request the head that the upstream is to see, and takes what its route costs. Says
    /// whether more than one answer may be asked for.
    pub(crate) fn outgoing(
        &self,
        request: &mut Request<RequestBody>,
        client: &ClientAddress,
        account: &mut Account,
    ) -> Result<bool, Rejection> {
        let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        self.routes
            .spend(target, client.ip, account)
            .map_err(|wait| Rejection::RateLimited { retry_after: wait.retry })?;
        let (via, host) = (self.via.as_ref(), self.upstream.host());
        let has_body = !request.body().is_empty();
        headers::to_upstream(request, has_body, client, via, host)
    }

    fn incoming(&self, answer: &mut Response<ResponseBody>) -> Result<(), Rejection> {
        if answer.status().is_informational() {
            return Err(Rejection::UpstreamBroken("switched protocols unasked".into()));
        }
        headers::to_client(answer, self.via.as_ref()).map_err(bad_answer)
    }

    async fn write(
        &self,
        request: Box<Request<RequestBody>>,
    ) -> Result<Box<Response<ResponseBody>>, Rejection> {
        let method = request.method().clone();
        let target = request.uri().clone();
        let target = target.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        let logout = self.logged_out_by(&request);
        let trace = Trace::of(request.headers()).map(Arc::new);
        let host = request.headers().get(http::header::HOST).cloned();
        let expectation = self.expectation(&method, target, host);
        match self.upstream.forward(request).await {
            Ok(answer) => {
                if let Some(credentials) = logout.filter(|_| answer.status().is_success()) {
                    self.hub.logged_out(credentials);
                }
                self.tell_others(&method, target, Some(&answer), trace.as_ref());
                let change = self.change(&method, target, Some(&answer));
                let change = change.map(|change| Change { trace, ..change });
                match (change, expectation) {
                    (Some(change), Some(expectation)) if answer.status() == StatusCode::OK => {
                        return Ok(self.watch(answer, change, expectation));
                    }
                    (Some(change), _) => self.hub.changed(change),
                    (None, _) => {}
                }
                Ok(answer)
            }
            Err(failure) => {
                if failure.may_have_been_seen {
                    self.tell_others(&method, target, None, trace.as_ref());
                    if let Some(change) = self.change(&method, target, None) {
                        self.hub.changed(Change { trace, ..change });
                    }
                }
                Err(self.failed(failure))
            }
        }
    }

    fn failed(&self, failure: Failure) -> Rejection {
        self.hub.metrics().upstream_failed(failure.kind.label());
        Rejection::from(failure)
    }

    /// Where the answer to a write is to be shown, if the operator said so (`push = "response"`).
    fn expectation(
        &self,
        method: &Method,
        target: &str,
        host: Option<HeaderValue>,
    ) -> Option<Expectation> {
        let replaces = matches!(*method, Method::PUT | Method::PATCH) && !target.contains('?');
        let route = self.routes.of(target);
        let shown = replaces && route.rule.push == Push::Response;
        // Only the exact URI: what is coarse enough to find what a write may have touched also finds
        // what it has not.
        let uri = Uri::parse(target).ok().filter(|_| shown)?;
        Some(self.hub.expect(uri, host))
    }

    /// Announces the change, and shows the answer as the new state once it has come whole.
    fn watch(
        &self,
        mut answer: Box<Response<ResponseBody>>,
        change: Change,
        mut expectation: Expectation,
    ) -> Box<Response<ResponseBody>> {
        if !self.hub.changed_but(&mut expectation, change) {
            return answer;
        }
        let body = std::mem::replace(answer.body_mut(), ResponseBody::Empty);
        let (hub, views) = (Rc::clone(&self.hub), Rc::clone(&self.views));
        let (headers, limit) = (answer.headers().clone(), views.body_bytes);
        // A writer that does not read its answer keeps nobody from the truth for long.
        let (slow, change) = (Rc::clone(&self.hub), expectation.as_change());
        let alarm = self.tasks.spawn_local(async move {
            tokio::time::sleep(LONGEST_ANSWER).await;
            slow.changed(change);
        });
        let tee = Tee::new(body, limit, move |body| {
            alarm.abort();
            let written = body.and_then(|body| expectation.read(&headers, body, &views));
            hub.fulfilled(&expectation, written);
        });
        *answer.body_mut() = ResponseBody::Watched(Box::new(tee));
        answer
    }

    /// The credentials that the request ends if it succeeds.
    fn logged_out_by(&self, request: &Request<RequestBody>) -> Option<Credentials> {
        let is_logout = self.authenticator.is_logout(request.method(), request.uri().path());
        is_logout.then(|| {
            let configured = &self.views.credential_headers;
            let fields = request.headers().iter();
            let credentials = fields.filter(|(name, _)| is_credential(name, configured));
            credentials.map(|(name, value)| (name.clone(), value.clone())).collect()
        })
    }

    fn change(
        &self,
        method: &Method,
        target: &str,
        answer: Option<&Response<ResponseBody>>,
    ) -> Option<Change> {
        touched(method, target, answer, &self.routes)
    }

    /// Announces a write where other routes hold than here.
    fn tell_others(
        &self,
        method: &Method,
        target: &str,
        answer: Option<&Response<ResponseBody>>,
        trace: Option<&Arc<Trace>>,
    ) {
        let outlooks = self.outlooks.borrow();
        for (hub, routes) in outlooks.iter().filter(|(hub, _)| !Rc::ptr_eq(hub, &self.hub)) {
            if let Some(change) = touched(method, target, answer, routes) {
                hub.hear_of(Change { trace: trace.cloned(), ..change });
            }
        }
    }
}

fn touched(
    method: &Method,
    target: &str,
    answer: Option<&Response<ResponseBody>>,
    routes: &Routes,
) -> Option<Change> {
    let nothing = HeaderMap::new();
    let headers = answer.map_or(&nothing, Response::headers);
    change::touched(method, target, answer.map(Response::status), headers, routes)
}

/// What became of a request to speak WebSocket.
#[derive(Debug)]
pub enum Upgrade {
    Switched { answer: Response<ResponseBody>, upstream: Tunnel },
    Refused(Response<ResponseBody>),
}

fn bad_answer(headers::BadAnswer::UnknownTransferCoding: headers::BadAnswer) -> Rejection {
    Rejection::UpstreamBroken("unknown transfer coding".into())
}

/// From each way to get no answer to what the client is told.
impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::Connect(error) => Self::UpstreamUnreachable(error.to_string()),
            Kind::ConnectTimeout => Self::UpstreamTimeout("connecting"),
            Kind::ResponseTimeout => Self::UpstreamTimeout("answering"),
            Kind::Reset(error) | Kind::BadResponse(error) => {
                Self::UpstreamBroken(error.to_string())
            }
            Kind::Busy => Self::Busy,
            Kind::RequestBody(Fault::Malformed) => Self::BadRequest("malformed body"),
            Kind::RequestBody(Fault::TooLarge) => Self::TooLarge,
            Kind::RequestBody(Fault::Slow) => Self::SlowBody,
            Kind::RequestBody(Fault::Aborted) => Self::ClientGone,
        }
    }
}
