//! The life of one HTTP request, top to bottom.

mod answer;
mod branch;
mod lawful;
mod notes;
mod peer;
mod tunnel;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method, Request, Response, request};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio_util::task::TaskTracker;

pub use self::answer::Answer;
pub use self::branch::Branch;
use self::lawful::{lawful, own_options};
use self::notes::{Notes, log, over_rate};
pub use self::peer::Peer;
use self::tunnel::{bare, tunnel};
use crate::access::{self, Access};
use crate::body::Limits;
use crate::callers::Callers;
use crate::change;
use crate::exchange::{Exchange, RequestBody, ResponseBody, Upgrade};
use crate::gate::{Account, Action, Gate, forwarded};
use crate::headers::{self, ClientAddress};
use crate::rejection::Rejection;
use crate::session::{self, Opening, Sessions};
use crate::subscription::Subscriptions;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// For a request's head, from its first byte; and for that first byte, on a connection that is
    /// new or rests.
    pub header_read: Duration,
    /// How long nothing is asked on a connection until it is kept with as little memory as can be.
    /// Long enough that whoever asks one thing after another never pays for it.
    pub rest_after: Duration,
    /// The window over which a body must keep a least pace of 8 bytes per second; and how long a
    /// client may take nothing of an answer.
    pub request_idle: Duration,
    /// The largest body of a request; 0 is no limit.
    pub body_bytes: u64,
    pub header_bytes: usize,
    pub headers: usize,
    /// The name in `Via`; none sends no `Via`.
    pub via: Option<String>,
    /// Where sockets are opened; elsewhere a WebSocket passes through to the upstream.
    pub websocket_path: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(30),
            rest_after: Duration::from_secs(1),
            request_idle: Duration::from_secs(30),
            body_bytes: 0,
            header_bytes: 64 * 1024,
            headers: 100,
            via: Some("pogo".into()),
            websocket_path: "/".into(),
        }
    }
}

/// What is to be done with a request that may come in.
enum Step {
    Forward(Box<Request<RequestBody>>),
    /// A WebSocket, a request for more than one answer, or one to the API of a namespace.
    Special(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Rejection>>>>),
    Answer(Box<Response<ResponseBody>>),
}

/// What a gateway works with.
pub struct Parts {
    pub gate: Arc<Gate>,
    pub exchange: Rc<Exchange>,
    /// Whose path is the longest first.
    pub branches: Vec<Branch>,
    pub sessions: Rc<Sessions>,
    pub subscriptions: Rc<Subscriptions>,
    pub access: Rc<Access>,
    pub tasks: TaskTracker,
    pub callers: Callers,
}

/// One worker's front: what every request of its connections goes through.
pub struct Gateway {
    limits: Limits,
    websocket_path: String,
    gate: Arc<Gate>,
    exchange: Rc<Exchange>,
    branches: Vec<Branch>,
    sessions: Rc<Sessions>,
    subscriptions: Rc<Subscriptions>,
    access: Rc<Access>,
    /// Upgrades under way and tunnels.
    tasks: TaskTracker,
    /// Whose tunnels there are.
    callers: Callers,
}

impl Gateway {
    pub fn new(options: &Options, parts: Parts) -> Self {
        let Parts { gate, exchange, branches, sessions, subscriptions, access, tasks, callers } =
            parts;
        Self {
            limits: Limits { bytes: options.body_bytes, window: options.request_idle },
            websocket_path: options.websocket_path.clone(),
            gate,
            exchange,
            branches,
            sessions,
            subscriptions,
            access,
            tasks,
            callers,
        }
    }

    /// Everything that needs no waiting is done before the future is made. hyper moves that future
    /// about for every request, so it holds a pointer to the request and not the request.
    pub fn serve(
        self: Rc<Self>,
        mut request: Request<Incoming>,
        peer: Rc<Peer>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
        let began = self.access.begin();
        let (method, target) = (request.method().clone(), request.uri().clone());
        let (headers, client) =
            (request.headers_mut(), |headers: &HeaderMap| self.client_of(&peer, headers));
        let mut line = self.access.line(began, &method, &target, headers, client);
        let mut notes = None;
        let step = self.judge(request, &peer, &mut notes);
        async move {
            if let (Ok(_), Some(line)) = (&step, &mut line) {
                line.ask();
            }
            let answer = match step {
                Ok(Step::Forward(request)) => self.exchange.forward(request).await,
                Ok(Step::Special(answer)) => answer.await.map(Box::new),
                Ok(Step::Answer(answer)) => Ok(answer),
                Err(rejection) => Err(rejection),
            };
            let told = notes.map(|notes: Box<Notes>| notes.conclude(&self.gate, &answer));
            let mut response = answer.unwrap_or_else(|rejection| {
                self.access.metrics().rejected((&rejection).into());
                if let Some(line) = &mut line {
                    line.refused(&rejection);
                }
                log(&rejection, &method, &target, &peer);
                Box::new(rejection.into_response().map(ResponseBody::from))
            });
            if let Some(account) = told {
                account.tell(response.headers_mut());
            }
            peer.spelling.of_next(response.extensions_mut().remove());
            self.access.answered(began, &method, &target, response.status(), line.as_deref_mut());
            Ok(response.map(|body| Answer::new(access::Body::new(body, line), &peer.rest)))
        }
    }

    fn judge(
        self: &Rc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
        notes: &mut Option<Box<Notes>>,
    ) -> Result<Step, Rejection> {
        let (parts, body) = request.into_parts();
        peer.rest.set_answering(true);
        let behind = peer.is_trusted_by(&self.gate).then(|| self.behind(peer, &parts));
        let client = behind.as_ref().unwrap_or(&peer.address);
        let watched = self.gate.watches().then_some(client.ip);
        let is_write = change::is_write(&parts.method);
        let tries_credential =
            watched.is_some() && (is_write || self.gate.carries_credential(&parts.headers));
        let mut account = Account::default();
        let step = self.pass(parts, body, peer, client, tries_credential, &mut account);
        if watched.is_some() || !account.is_empty() {
            *notes = Some(Box::new(Notes { account, watched, tries_credential }));
        }
        step
    }

    fn pass(
        self: &Rc<Self>,
        mut parts: request::Parts,
        body: Incoming,
        peer: &Peer,
        client: &ClientAddress,
        tries_credential: bool,
        account: &mut Account,
    ) -> Result<Step, Rejection> {
        let two_lengths = peer.heads.take_two_lengths();
        let names = peer.heads.take_names();
        if !body.is_end_stream() {
            peer.heads.ignore();
        }
        self.gate.admit(client.ip)?;
        if two_lengths {
            return Err(Rejection::BadRequest("both Content-Length and Transfer-Encoding"));
        }
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.filter(|_| headers::wants_websocket(&parts));
        let action = match upgrade {
            Some(_) => Action::Connect,
            None if change::is_write(&parts.method) => Action::Write,
            None => Action::Read,
        };
        if tries_credential {
            self.gate.may_authenticate(client.ip).map_err(over_rate)?;
        }
        let caller = self.gate.caller(client.ip, parts.headers.iter());
        self.gate.spend(action, caller, account).map_err(over_rate)?;
        lawful(&parts)?;
        if let Some(names) = names {
            parts.extensions.insert(names);
        }
        if let Some(upgrade) = upgrade {
            if !body.is_end_stream() {
                // Where it ends, a socket's first frame or a tunnel's first byte would begin.
                return Err(Rejection::BadRequest("an upgrade to WebSocket has no body"));
            }
            let (this, client) = (Rc::clone(self), client.clone());
            return Ok(Step::Special(Box::pin(async move {
                this.websocket(parts, upgrade, &client).await
            })));
        }
        self.fits(&parts)?;
        let body = RequestBody::incoming(body, self.limits, &peer.heads);
        let branch = match self.branches.is_empty() {
            true => None,
            false => Branch::of(&self.branches, &mut parts.uri),
        };
        let exchange = branch.map_or(&self.exchange, |branch| &branch.exchange);
        let mut request = Box::new(Request::from_parts(parts, body));
        let may_subscribe = exchange.outgoing(&mut request, client, account)?;
        if *request.method() == Method::OPTIONS && !headers::spend_hop(request.headers_mut()) {
            return Ok(Step::Answer(Box::new(own_options())));
        }
        if let Some(branch) = branch {
            let subscriptions = may_subscribe.then_some(&branch.subscriptions);
            let asked = subscriptions.and_then(|it| it.asked(&request, client));
            return Ok(Step::Special(Box::pin(branch.clone().answer(request, asked))));
        }
        if may_subscribe && let Some(asked) = self.subscriptions.asked(&request, client) {
            let subscriptions = Rc::clone(&self.subscriptions);
            return Ok(Step::Special(Box::pin(subscriptions.answer(*request, asked))));
        }
        Ok(Step::Forward(request))
    }

    /// The client's address, behind all trusted proxies.
    fn client_of(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        match peer.is_trusted_by(&self.gate) {
            true => self.gate.client_address(peer.address.ip, headers),
            false => peer.address.ip,
        }
    }

    fn behind(&self, proxy: &Peer, parts: &request::Parts) -> ClientAddress {
        let ip = self.gate.client_address(proxy.address.ip, &parts.headers);
        match self.gate.client_header() {
            forwarded::Field::XForwardedFor => proxy.address.behind(ip, &parts.headers),
            forwarded::Field::Forwarded => proxy.address.behind_forwarded(ip),
        }
    }

    /// Refuses a body that says it is too large before the upstream hears of it.
    fn fits(&self, parts: &request::Parts) -> Result<(), Rejection> {
        if self.limits.bytes == 0 {
            return Ok(());
        }
        let declared = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        match declared.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length > self.limits.bytes => Err(Rejection::TooLarge),
            _ => Ok(()),
        }
    }

    async fn websocket(
        self: &Rc<Self>,
        mut parts: request::Parts,
        upgrade: OnUpgrade,
        client: &ClientAddress,
    ) -> Result<Response<ResponseBody>, Rejection> {
        if parts.uri.path() == self.websocket_path {
            return self.session(parts, upgrade, client, None);
        }
        if let Some(namespace) = self.namespace_at(parts.uri.path()) {
            return self.session(parts, upgrade, client, Some(namespace));
        }
        let branch = Branch::of(&self.branches, &mut parts.uri);
        let exchange = branch.map_or(&self.exchange, |branch| &branch.exchange);
        let request = Request::from_parts(parts, RequestBody::Empty);
        match exchange.upgrade(request, client).await? {
            Upgrade::Refused(answer) => Ok(answer),
            Upgrade::Switched { answer, upstream } => {
                // It may have been shut out while the upstream thought about it.
                self.gate.admit(client.ip)?;
                self.callers.spawn(&self.tasks, client.ip, |listed| async move {
                    if let Err(error) = tunnel(upgrade, upstream).await {
                        tracing::debug!(%error, "tunnel ended");
                    }
                    drop(listed);
                });
                Ok(answer)
            }
        }
    }

    /// The namespace whose sockets are opened at this path.
    fn namespace_at(&self, path: &str) -> Option<String> {
        let base = self.websocket_path.strip_suffix('/').unwrap_or(&self.websocket_path);
        let name = path.strip_prefix(base)?;
        self.sessions.has_namespace(name).then(|| name.to_owned())
    }

    fn session(
        self: &Rc<Self>,
        parts: request::Parts,
        upgrade: OnUpgrade,
        client: &ClientAddress,
        namespace: Option<String>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default().to_owned();
        if !self.gate.origin_allowed(&parts.headers, &host) {
            return Err(Rejection::Forbidden(
                "this origin may not open a socket; the operator can list it in websocket.allowed_origins",
            ));
        }
        let request = Request::from_parts(parts, ());
        let (answer, dialect) = session::handshake::accept(&request, &self.sessions.options())?;
        let headers = request.into_parts().0.headers;
        let (gateway, client) = (Rc::clone(self), client.clone());
        self.tasks.spawn_local(async move {
            match bare(upgrade).await {
                Ok((stream, read_ahead, slot)) => {
                    let opening = Opening { dialect, headers, client, host, slot, namespace };
                    gateway.sessions.open(stream, read_ahead, opening);
                }
                Err(error) => tracing::debug!(%error, "a socket was not opened"),
            }
        });
        Ok(answer.map(|()| ResponseBody::Empty))
    }
}
