//! One core: runtime, listener, connections, upstream pool, sockets.

mod conversation;
mod ended;
mod speech;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::speech::Local;
use crate::access::Access;
use crate::callers::Callers;
use crate::channel;
use crate::connections::{Connections, Exceeded};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::gate::auth::Authenticator;
use crate::gateway::{self, Gateway, Peer};
use crate::headers::Via;
use crate::hub::mail::Mailbox;
use crate::hub::{self, Hub};
use crate::metrics::{self, Unserved};
use crate::route::Routes;
use crate::server::Options;
use crate::session::orders::Order;
use crate::session::{self, Sessions};
use crate::spelling::Spellings;
use crate::tls::Identity;
use crate::upstream::{Secure, Upstream};

/// A timer that is due this soon at all times: without it every request that sets a nearer one
/// than any before costs a write to wake the driver (one system call in five). It is also all
/// that an idle worker wakes for: eight times a second, because timers wake it twice each.
const TICK: Duration = Duration::from_millis(250);
/// How many ticks lie between two looks at what is idle.
const SWEEP_TICKS: u64 = 2;
/// How many ticks lie between two looks at the gate's budgets.
const GATE_TICKS: u64 = 240;
/// How long accepting rests when the process has no descriptors or memory left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

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
    /// What clients are shown; none speaks to them in the clear.
    pub(crate) identity: Option<Arc<Identity>>,
    /// How the upstream is spoken to; none does so in the clear.
    pub(crate) secure: Option<Secure>,
    /// No new connections and requests; those that are there may finish.
    pub(crate) drain: CancellationToken,
    /// Everything ends now.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// A worker's way to the upstream.
    fn upstream(&self, spellings: Rc<Spellings>) -> Upstream {
        let (options, secure) = (self.options.upstream.clone(), self.secure.clone());
        Upstream::new(options, secure, self.workers, spellings)
    }
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
    let mut shutouts = worker.shared.gate.shutouts();
    for count in 0_u64.. {
        ticks.tick().await;
        worker.sessions.keep_time();
        // Here, and not at each of many bans, because it looks at every client.
        let latest = worker.shared.gate.shutouts();
        if latest != shutouts {
            shutouts = latest;
            worker.end_the_shut_out();
        }
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
    /// Whose connections and tunnels those are.
    callers: Callers,
}

impl Worker {
    fn new(number: usize, shared: Arc<Shared>) -> Rc<Self> {
        let options = &shared.options;
        let (tasks, callers) = (TaskTracker::new(), Callers::default());
        let spellings = Rc::new(Spellings::default());
        let upstream = Rc::new(shared.upstream(Rc::clone(&spellings)));
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
        let parts = gateway::Parts {
            gate: Arc::clone(&shared.gate),
            exchange,
            sessions: Rc::clone(&sessions),
            access: Rc::clone(&access),
            spellings,
            tasks: tasks.clone(),
            callers: callers.clone(),
        };
        let gateway = Rc::new(Gateway::new(&options.gateway, parts));
        let (http1, http2) = (speech::http1(&options.gateway), speech::http2(&options.gateway));
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
            callers,
        })
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        let drain = self.shared.drain.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => break,
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
        // Who has connected by now may have sent a request as well.
        tokio::task::yield_now().await;
        while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
            self.take_in(stream, peer);
        }
        self.draining.set(true);
        self.drain.cancel();
    }

    fn take_in(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) {
        let peer = Peer::new(address, &self.shared.gate);
        match self.shared.connections.open(address.ip(), peer.is_trusted()) {
            Ok(slot) => {
                let worker = Rc::clone(self);
                self.callers.spawn(&self.tasks, peer.ip(), |listed| async move {
                    if let Err(error) = worker.converse(stream, slot, peer, &listed).await {
                        tracing::debug!(%error, client = %address, "connection ended");
                    }
                });
            }
            Err(exceeded) => {
                self.access.metrics().rejected(match exceeded {
                    Exceeded::Total => Unserved::Connections,
                    Exceeded::Address => Unserved::ConnectionsPerAddress,
                });
                tracing::debug!(?exceeded, client = %address, "connection refused");
            }
        }
    }

    /// Ends what those have open who may not be here any more.
    fn end_the_shut_out(&self) {
        let gate = &self.shared.gate;
        // The connection of a trusted proxy is not one client's: each request is judged instead.
        let connections =
            self.callers.end(|address| gate.trusts(address) || gate.admit(address).is_ok());
        let sockets = self.sessions.end_the_shut_out();
        if connections + sockets > 0 {
            tracing::info!(connections, sockets, "ended what denied or banned addresses had open");
        }
    }
}

/// The others mean that accepting as such does not work, and would fail again at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
