//! One core: runtime, listener, connections, upstream pool, sockets.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::channel;
use crate::connections::{Connections, Exceeded, Slot};
use crate::downstream::{Downstream, Patience, Speaks};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::gate::auth::Authenticator;
use crate::gateway::{self, Answer, Gateway, Peer};
use crate::headers::Via;
use crate::hub::mail::Mailbox;
use crate::hub::{self, Hub};
use crate::metrics::{self, Reason};
use crate::route::Routes;
use crate::server::Options;
use crate::session::orders::Order;
use crate::session::{self, Sessions};
use crate::spelling::Spellings;
use crate::upstream::Upstream;

/// A timer that is due this soon at all times: without it every request that sets a nearer one
/// than any before costs a write to wake the driver (one system call in five).
const TICK: Duration = Duration::from_millis(100);
/// How many ticks lie between two looks at what is idle.
const SWEEP_TICKS: u64 = 5;
/// How many ticks lie between two looks at the gate's budgets.
const GATE_TICKS: u64 = 600;
/// How long accepting rests when the process has no descriptors or memory left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long a connection that was just accepted may take to say something once a drain begins:
/// what its client has sent is on its way, and is not to be thrown back at it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// hyper's own limit, which costs nothing; any other takes memory for each request.
const HEADERS_BY_DEFAULT: usize = 100;
/// How often a silent HTTP/2 client is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) workers: usize,
    pub(crate) gate: Arc<Gate>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) channels: Arc<[channel::Rule]>,
    /// What the workers' hubs share.
    pub(crate) hubs: hub::Node,
    /// One mailbox for each worker.
    pub(crate) mail: Arc<[Mailbox]>,
    pub(crate) connections: Connections,
    pub(crate) metrics: Arc<metrics::Node>,
    /// No new connections and requests; those that are there may finish.
    pub(crate) drain: CancellationToken,
    /// Everything ends now.
    pub(crate) stop: CancellationToken,
}

/// Serves until drained or stopped; what then is still open is dropped with the runtime.
pub(crate) async fn run(
    number: usize,
    listener: std::net::TcpListener,
    orders: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let worker = Worker::new(number, Arc::clone(&shared));
    let services = [
        tokio::task::spawn_local(tick(number, Rc::clone(&worker))),
        tokio::task::spawn_local(Rc::clone(&worker.sessions).run()),
        tokio::task::spawn_local(Rc::clone(&worker.sessions).obey(orders)),
        tokio::task::spawn_local({
            let sessions = Rc::clone(&worker.sessions);
            Rc::clone(&worker.hub).run(move |news| sessions.tell(news))
        }),
    ];
    tokio::select! {
        () = Rc::clone(&worker).accept(listener) => (),
        () = shared.stop.cancelled() => {
            worker.access.cut();
            return Ok(());
        }
    }
    worker.tasks.close();
    let finished = async {
        tokio::join!(worker.tasks.wait(), worker.sessions.drain());
    };
    tokio::select! {
        () = finished => (),
        () = tokio::time::sleep(shared.options.drain) => {
            let cut = worker.tasks.len();
            tracing::warn!(cut, "the deadline of the drain passed");
            worker.access.cut();
        }
        () = shared.stop.cancelled() => worker.access.cut(),
    }
    services.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

async fn tick(number: usize, worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for count in 0_u64.. {
        ticks.tick().await;
        if count % SWEEP_TICKS == 0 {
            worker.upstream.sweep();
            worker.upstream.count(worker.access.metrics());
        }
        if number == 0 && count % GATE_TICKS == 0 {
            worker.shared.gate.sweep();
            worker.shared.routes.sweep();
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    /// The worker's own, so that its connections share no lock with another's.
    drain: CancellationToken,
    /// Set before `drain` is cancelled, and cheaper to ask.
    draining: Cell<bool>,
    http1: http1::Builder,
    http2: http2::Builder<Local>,
    upstream: Rc<Upstream>,
    hub: Rc<Hub>,
    sessions: Rc<Sessions>,
    gateway: Rc<Gateway>,
    access: Rc<Access>,
    /// Connections, tunnels, and writes that outlive their client.
    tasks: TaskTracker,
}

impl Worker {
    fn new(number: usize, shared: Arc<Shared>) -> Rc<Self> {
        let options = &shared.options;
        let tasks = TaskTracker::new();
        let spellings = Rc::new(Spellings::default());
        let upstream =
            Rc::new(Upstream::new(options.upstream.clone(), shared.workers, Rc::clone(&spellings)));
        let via = options.gateway.via.as_deref().and_then(Via::new);
        let hub = Hub::new(
            number,
            Arc::clone(&shared.mail),
            Arc::clone(&shared.routes),
            Rc::clone(&upstream),
            via.clone(),
            options.hub.clone(),
            shared.hubs.clone(),
        );
        let exchange = Rc::new(Exchange::new(
            Rc::clone(&upstream),
            Rc::clone(&hub),
            Arc::clone(&shared.routes),
            via,
            Arc::clone(&shared.authenticator),
            tasks.clone(),
        ));
        let services = session::Services {
            options: options.session.clone(),
            hub: Rc::clone(&hub),
            exchange: Rc::clone(&exchange),
            gate: Arc::clone(&shared.gate),
            authenticator: Arc::clone(&shared.authenticator),
            verifies: options.auth.verify.is_some() || options.auth.jwt.is_some(),
            auth_required: shared.authenticator.required(),
            routes: Arc::clone(&shared.routes),
            channels: Arc::clone(&shared.channels),
            credential_headers: options.hub.credential_headers.clone(),
            tasks: tasks.clone(),
        };
        let sessions = Sessions::new(number, services);
        let access = Access::new(
            Arc::clone(&shared.metrics),
            number,
            Arc::clone(&shared.routes),
            options.admin.is_some(),
        );
        let gateway = Rc::new(Gateway::new(
            &options.gateway,
            Arc::clone(&shared.gate),
            exchange,
            Rc::clone(&sessions),
            Rc::clone(&access),
            spellings,
            tasks.clone(),
        ));
        let (http1, http2) = (http1_builder(&options.gateway), http2_builder(&options.gateway));
        let (drain, draining) = (CancellationToken::new(), Cell::new(false));
        Rc::new(Self {
            shared,
            drain,
            draining,
            http1,
            http2,
            upstream,
            hub,
            sessions,
            gateway,
            access,
            tasks,
        })
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        let drain = self.shared.drain.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => {
                    self.draining.set(true);
                    self.drain.cancel();
                    return;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take_in(stream, peer),
                Err(error) if concerns_one_connection(&error) => (),
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn take_in(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) {
        let peer = Peer::new(address, &self.shared.gate);
        match self.shared.connections.open(address.ip(), peer.is_trusted()) {
            Ok(slot) => {
                let worker = Rc::clone(self);
                self.tasks.spawn_local(async move {
                    if let Err(error) = worker.converse(stream, slot, peer).await {
                        tracing::debug!(%error, client = %address, "connection ended");
                    }
                });
            }
            Err(exceeded) => {
                self.access.metrics().rejected(match exceeded {
                    Exceeded::Total => Reason::Connections,
                    Exceeded::Address => Reason::ConnectionsPerAddress,
                });
                tracing::debug!(?exceeded, client = %address, "connection refused");
            }
        }
    }

    async fn converse(&self, stream: TcpStream, slot: Slot, peer: Peer) -> Result<(), Ended> {
        stream.set_nodelay(true)?;
        let options = &self.shared.options.gateway;
        let patience = Patience {
            head: options.header_read,
            rest: options.rest_after,
            untaken: options.request_idle,
        };
        let mut stream = Downstream::new(stream, slot, patience);
        let peer = Rc::new(peer.on(&stream));
        let mut begun = false;
        loop {
            let speaks = {
                let first_bytes = tokio::time::timeout(options.header_read, stream.listen());
                let mut first_bytes = std::pin::pin!(first_bytes);
                let heard = tokio::select! {
                    biased;
                    heard = first_bytes.as_mut() => heard,
                    () = self.drain.cancelled() => {
                        if begun {
                            return Ok(());
                        }
                        match tokio::time::timeout(LAST_WORD, first_bytes).await {
                            Ok(heard) => heard,
                            Err(_) => return Ok(()),
                        }
                    }
                };
                heard.map_err(|_| Ended::Silent)??
            };
            match speaks {
                None => return Ok(()),
                Some(Speaks::Http2) if !begun => {
                    return Box::pin(self.speak_http2(stream, peer)).await;
                }
                Some(Speaks::Http1 | Speaks::Http2) => begun = true,
            }
            // In a box of its own, so that an idle connection does not keep the room for it.
            match Box::pin(self.speak_http1(stream, Rc::clone(&peer))).await? {
                Some(idle) => stream = idle,
                None => return Ok(()),
            }
        }
    }

    /// Returns the stream when nothing has been asked for a while.
    async fn speak_http1(
        &self,
        stream: Downstream,
        peer: Rc<Peer>,
    ) -> Result<Option<Downstream>, Ended> {
        let heads = stream.heads();
        let connection =
            self.http1.serve_connection(stream, service(Rc::clone(&self.gateway), peer));
        let mut connection = connection.with_upgrades();
        let mut drain = std::pin::pin!(self.drain.cancelled());
        let (mut registered, mut resting, mut draining) = (false, false, false);
        std::future::poll_fn(|cx| {
            // What has come is read before the connection is told to end.
            if !registered && self.draining.get() {
                let polled = Pin::new(&mut connection).poll(cx);
                if polled.is_ready() {
                    return polled;
                }
            }
            // Asking a token takes a lock, so it is asked only when it has been cancelled.
            if !draining && (!registered || self.draining.get()) {
                registered = true;
                draining = drain.as_mut().poll(cx).is_ready();
                if draining {
                    heads.keep_open(false);
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
            let polled = Pin::new(&mut connection).poll(cx);
            if polled.is_ready() || draining || resting || !heads.is_idle() {
                return polled;
            }
            // An idle connection ends at once. Were it not idle, it would end after its answer.
            resting = true;
            heads.keep_open(true);
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).poll(cx)
        })
        .await
        .map_err(Ended::Http)?;
        if !resting || draining {
            return Ok(None);
        }
        Ok(connection.into_parts().map(|parts| parts.io.rest(&parts.read_buf)))
    }

    async fn speak_http2(&self, stream: Downstream, peer: Rc<Peer>) -> Result<(), Ended> {
        let connection =
            self.http2.serve_connection(stream, service(Rc::clone(&self.gateway), peer));
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(Ended::Http),
            () = self.drain.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(Ended::Http)
    }
}

/// What answers the requests of one connection.
fn service(
    gateway: Rc<Gateway>,
    peer: Rc<Peer>,
) -> impl Service<
    http::Request<Incoming>,
    Response = http::Response<Answer>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Answer>, Infallible>>,
> {
    service_fn(move |request: http::Request<Incoming>| {
        Rc::clone(&gateway).serve(request, Rc::clone(&peer))
    })
}

/// Why a connection ended otherwise than by agreement.
#[derive(Debug)]
enum Ended {
    Io(io::Error),
    Http(hyper::Error),
    /// Nothing came that would tell what the client speaks.
    Silent,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Silent => f.write_str("the client said nothing"),
        }
    }
}

fn http1_builder(options: &gateway::Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(options.header_bytes)
        .max_buf_size(options.header_bytes.max(64 * 1024))
        .half_close(false)
        .keep_alive(true)
        .writev(true)
        .title_case_headers(true);
    if options.headers != HEADERS_BY_DEFAULT {
        builder.max_headers(options.headers);
    }
    builder
}

fn http2_builder(options: &gateway::Options) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX));
    builder
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}

/// The others mean that accepting as such does not work, and would fail again at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
