//! The operators' listener: probes, metrics, what there is, and commands.
//!
//! It has a thread and a runtime of its own, so that a slow operator costs no client anything and
//! a stuck worker can still be found out. What it wants of a worker's sockets it orders through a
//! bounded channel, and waits for with a time-out.

mod answer;
mod bans;
mod commands;
mod guard;
mod lists;
mod probes;
mod process;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, Refusal};
use crate::connections::Connections;
use crate::gate::Gate;
use crate::gate::auth::Secret;
use crate::hub::outlook::Place;
use crate::metrics;
use crate::namespace::Name;
use crate::route::Routes;
use crate::session::orders::{Order, Orders};
use crate::upstream;

/// Connections of operators at one time; more are closed.
const CONNECTIONS: usize = 32;
/// The largest body of a command.
const BODY_BYTES: usize = 64 * 1024;
/// How long a worker may take to carry out an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting rests when the process has no descriptors or memory left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub listen: SocketAddr,
    /// What operators must show; with none, only probes and metrics are served.
    pub token: Option<Secret>,
    /// Names under which the listener may be spoken to, besides IP addresses.
    pub hosts: Vec<String>,
    pub patience: Patience,
}

/// How long an operator is waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// For the head of a request, and for the wait between two.
    pub head: Duration,
    /// For a request from its head to its answer; and, once a connection is to end, for its client
    /// to take the last answer.
    pub request: Duration,
    /// For all that is asked on one connection.
    pub connection: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            request: Duration::from_secs(15),
            connection: Duration::from_secs(60),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9180)),
            token: None,
            hosts: vec!["localhost".into()],
            patience: Patience::default(),
        }
    }
}

/// What holds for operators, and what they are shown. Replaced whole.
#[derive(Debug)]
pub struct Subject {
    pub token: Option<Secret>,
    pub hosts: Vec<String>,
    /// Of `/`, and of the namespaces that have some of their own.
    pub tables: Vec<Table>,
    /// Every namespace, `/` before all others.
    pub places: Vec<Place>,
    pub gate: Arc<Gate>,
    pub upstream: upstream::Options,
}

/// Routes, as operators are shown them.
#[derive(Debug, Clone)]
pub struct Table {
    pub namespace: Name,
    pub routes: Arc<Routes>,
    /// Where the requests of those are counted, if there are any but over sockets.
    pub counted: Option<metrics::Routes>,
}

/// What the listener reaches of the server that it belongs to.
#[derive(Debug)]
pub struct Reach {
    pub subject: Arc<ArcSwap<Subject>>,
    pub metrics: Arc<metrics::Node>,
    /// One for each worker.
    pub orders: Vec<Orders>,
    pub connections: Connections,
    pub drain: CancellationToken,
}

/// A running listener. Dropping it stops it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Admin {
    pub fn start(options: &Options, reach: Reach) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on {} (admin.listen): {error}", options.listen),
            )
        };
        let listener = std::net::TcpListener::bind(options.listen).map_err(named)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let patience = options.patience;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            runtime.block_on(serve(listener, Rc::new(Desk::new(patience, reach)), stopped))
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::error!(%error, "the admin listener failed"),
            Some(Err(_)) => tracing::error!("the admin listener ended in a panic"),
            Some(Ok(Ok(()))) | None => (),
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    desk: Rc<Desk>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Rc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        if places.available_permits() == 0 {
            continue;
        }
        let (desk, places) = (Rc::clone(&desk), Rc::clone(&places));
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.try_acquire() else { return };
            if let Err(error) = desk.converse(stream).await {
                tracing::debug!(%error, "an operator's connection ended");
            }
        });
    }
}

/// Where operators are served.
struct Desk {
    patience: Patience,
    reach: Reach,
    /// Whether the upstream could be connected to when it was last tried.
    upstream: Cell<Option<(Instant, bool)>>,
}

impl Desk {
    fn new(patience: Patience, reach: Reach) -> Self {
        Self { patience, reach, upstream: Cell::new(None) }
    }

    /// What holds now.
    fn subject(&self) -> Guard<Arc<Subject>> {
        self.reach.subject.load()
    }

    /// Serves one connection, and ends it when it has lasted long enough: who takes no answer holds
    /// no place for ever.
    async fn converse(self: Rc<Self>, stream: TcpStream) -> hyper::Result<()> {
        let Patience { head, request, connection: lifetime } = self.patience;
        let service = service_fn(move |asked| {
            let desk = Rc::clone(&self);
            async move { Ok::<_, Infallible>(desk.serve(asked).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        if let Ok(ended) = tokio::time::timeout(lifetime, connection.as_mut()).await {
            return ended;
        }
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(request, connection).await.unwrap_or(Ok(()))
    }

    async fn serve(&self, request: Request<Incoming>) -> http::Response<Full<Bytes>> {
        let is_head = request.method() == Method::HEAD;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = tokio::time::timeout(self.patience.request, self.answer(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Refusal::unavailable("this took too long")));
        let answer = answer.unwrap_or_else(|refusal| {
            tracing::info!(%method, path, status = refusal.status.as_u16(), detail = %refusal.detail, "operator refused");
            refusal.into_answer()
        });
        answer.into_response(is_head)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let segments: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        let method = match head.method {
            Method::HEAD => Method::GET,
            ref other => other.clone(),
        };
        let subject = self.reach.subject.load_full();
        guard::check_host(&head.headers, &head.uri, &subject.hosts)?;
        match (method.as_str(), &segments[..]) {
            ("GET", ["healthz"]) => return self.health().await,
            ("GET", ["readyz"]) => return self.readiness().await,
            _ => (),
        }
        if let Some(token) = &subject.token {
            guard::check_token(&head.headers, token)?;
        }
        if (method.as_str(), &segments[..]) == ("GET", &["metrics"]) {
            return Ok(self.metrics());
        }
        let known = match segments[..] {
            ["healthz" | "readyz" | "metrics" | "routes" | "bindings"] => "GET, HEAD",
            ["sessions"] => "GET, HEAD, DELETE",
            ["sessions", _] | ["bans", _] | ["bans", _, _] => "DELETE",
            ["bans"] => "GET, HEAD, POST",
            ["changed" | "publish"] => "POST",
            _ => return Err(Refusal::not_found()),
        };
        if subject.token.is_none() {
            return Err(Refusal::forbidden(
                "without admin.token_file only /healthz, /readyz and /metrics are served",
            ));
        }
        let query = head.uri.query();
        match (method.as_str(), &segments[..]) {
            ("GET", ["routes"]) => Ok(self.routes()),
            ("GET", ["sessions"]) => self.sessions(query).await,
            ("GET", ["bindings"]) => self.bindings(query).await,
            ("DELETE", ["sessions"]) => self.end_sessions(query).await,
            ("DELETE", ["sessions", id]) => self.end_session(id, query).await,
            ("GET", ["bans"]) => self.bans(query),
            ("POST", ["bans"]) => self.ban(&collect(&head.headers, body).await?),
            ("DELETE", ["bans", address]) => self.lift(address, None),
            ("DELETE", ["bans", address, prefix]) => self.lift(address, Some(prefix)),
            ("POST", ["changed"]) => self.changed(&collect(&head.headers, body).await?),
            ("POST", ["publish"]) => self.publish(&collect(&head.headers, body).await?),
            _ => Err(Refusal::method_not_allowed(known)),
        }
    }

    /// Has a worker carry something out, and waits for what comes of it.
    async fn order<T>(
        &self,
        orders: &Orders,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        orders.try_send(order(reply)).map_err(|error| {
            Refusal::unavailable(match error {
                TrySendError::Full(_) => "a worker takes no more orders",
                TrySendError::Closed(_) => "a worker has ended",
            })
        })?;
        match tokio::time::timeout(ORDER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Refusal::unavailable("a worker has ended")),
            Err(_) => Err(Refusal::unavailable("a worker does not answer")),
        }
    }
}

/// The JSON of a command. A page of another origin cannot send this media type unasked.
async fn collect(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
    guard::check_json(headers)?;
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(BODY_BYTES)),
        Err(_) => Err(Refusal::bad_request("the body broke off")),
    }
}
