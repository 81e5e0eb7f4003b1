//! One core: runtime, listener, connections, upstream pool, sockets.

pub(crate) mod apart;
mod conversation;
mod ended;
pub(crate) mod settings;
mod spaces;
mod speech;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::apart::{Branch, Trunk};
use self::settings::{Progress, Settings};
use self::speech::{Local, Present};
use crate::access::Access;
use crate::callers::Callers;
use crate::connections::{Connections, Exceeded};
use crate::exchange::{Exchange, Outlooks};
use crate::gateway::{self, Gateway, Peer};
use crate::hub::mail::Mailbox;
use crate::hub::{self, Hub};
use crate::metrics::{self, Unserved};
use crate::session::Sessions;
use crate::session::orders::{Beside, Order};
use crate::subscription::Subscriptions;
use crate::traces::Spans;
use crate::upstream::Upstream;

/// A timer that is due this soon at all times: without it every request that sets a nearer one
/// than any before costs a write to wake the driver (one system call in five). It is also all
/// that an idle worker wakes for: four times a second, because timers wake it twice each.
const TICK: Duration = Duration::from_millis(500);
/// How many ticks lie between two looks at the gate's budgets.
const GATE_TICKS: u64 = 120;
/// How long accepting rests when the process has no descriptors or memory left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What all workers have in common as long as they run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) workers: usize,
    /// What the workers' hubs share.
    pub(crate) hubs: hub::Node,
    /// One mailbox for each worker.
    pub(crate) mail: Arc<[Mailbox]>,
    pub(crate) connections: Connections,
    pub(crate) metrics: Arc<metrics::Node>,
    /// Where spans of requests go, if they go anywhere.
    pub(crate) spans: Option<Spans>,
    pub(crate) progress: Progress,
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
    mut settings: watch::Receiver<Arc<Settings>>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let first = Arc::clone(&settings.borrow_and_update());
    let worker = Worker::new(number, Arc::clone(&shared), first);
    // It may have begun with others than there were when it was to begin.
    worker.report();
    let services = [
        tokio::task::spawn_local(tick(number, Rc::clone(&worker))),
        tokio::task::spawn_local(Rc::clone(&worker).follow(settings)),
        tokio::task::spawn_local(Rc::clone(&worker.sessions).run()),
        tokio::task::spawn_local({
            let beside: Rc<dyn Beside> = Rc::<Subscriptions>::clone(&worker.subscriptions);
            Rc::clone(&worker.sessions).obey(orders, beside)
        }),
        tokio::task::spawn_local({
            let (sessions, subscriptions) =
                (Rc::clone(&worker.sessions), Rc::clone(&worker.subscriptions));
            Rc::clone(&worker.hub).run(move |news| {
                subscriptions.tell(&news);
                sessions.tell(news);
            })
        }),
    ];
    tokio::select! {
        () = Rc::clone(&worker).accept(listener) => (),
        () = shared.stop.cancelled() => {
            worker.front().access.cut();
            return Ok(());
        }
    }
    worker.tasks.close();
    worker.subscriptions.drain();
    let finished = async {
        tokio::join!(worker.tasks.wait(), worker.sessions.drain());
    };
    let patience = worker.front().settings.options.drain;
    tokio::select! {
        () = finished => (),
        () = tokio::time::sleep(patience) => {
            let cut = worker.tasks.len();
            tracing::warn!(cut, "the deadline of the drain passed");
            worker.front().access.cut();
        }
        () = shared.stop.cancelled() => worker.front().access.cut(),
    }
    services.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

async fn tick(number: usize, worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut shutouts = worker.front().settings.gate.shutouts();
    for count in 0_u64.. {
        ticks.tick().await;
        let front = worker.front();
        worker.sessions.keep_time();
        // Here, and not at each of many bans, because it looks at every client.
        let latest = front.settings.gate.shutouts();
        if latest != shutouts {
            shutouts = latest;
            worker.end_the_shut_out();
        }
        front.upstream.sweep();
        front.upstream.count(front.access.metrics());
        for upstream in front.branches.iter().filter_map(|branch| branch.own_upstream()) {
            upstream.sweep();
            upstream.count(front.access.metrics());
        }
        if number == 0 {
            worker.shared.hubs.sweep();
        }
        if number == 0 && count % GATE_TICKS == 0 {
            front.settings.gate.sweep();
            front.settings.routes.sweep();
            front.settings.spaces.sweep();
        }
    }
}

/// What holds on this worker. Replaced whole, and with it the gateway.
struct Front {
    settings: Arc<Settings>,
    http1: http1::Builder,
    http2: http2::Builder<Local>,
    upstream: Rc<Upstream>,
    branches: Vec<Rc<Branch>>,
    access: Rc<Access>,
}

impl Front {
    fn new(
        settings: Arc<Settings>,
        upstream: Rc<Upstream>,
        branches: Vec<Rc<Branch>>,
        access: Rc<Access>,
    ) -> Self {
        let options = &settings.options.gateway;
        let (http1, http2) = (speech::http1(options), speech::http2(options));
        Self { settings, http1, http2, upstream, branches, access }
    }
}

struct Worker {
    number: usize,
    shared: Arc<Shared>,
    /// The worker's own, so that its connections share no lock with another's.
    drain: CancellationToken,
    /// Set before `drain` is cancelled, and cheaper to ask.
    draining: Cell<bool>,
    front: RefCell<Rc<Front>>,
    /// Asked for each request.
    gateway: Present,
    hub: Rc<Hub>,
    /// Who sees the API of `/`.
    outlooks: Outlooks,
    sessions: Rc<Sessions>,
    subscriptions: Rc<Subscriptions>,
    /// Connections, tunnels, and writes that outlive their client.
    tasks: TaskTracker,
    /// Whose connections and tunnels those are.
    callers: Callers,
}

impl Worker {
    fn new(number: usize, shared: Arc<Shared>, settings: Arc<Settings>) -> Rc<Self> {
        let (tasks, callers) = (TaskTracker::new(), Callers::default());
        let upstream = settings.upstream(shared.workers);
        let (mail, views) = (Arc::clone(&shared.mail), settings.views(&upstream));
        let hub = Hub::new(number, mail, views, shared.hubs.clone());
        let outlooks = Outlooks::default();
        let exchange = settings.exchange(&upstream, &hub, &outlooks, &tasks);
        let services = settings.services(&exchange);
        let sessions = Sessions::new(number, Rc::clone(&hub), tasks.clone(), services.clone());
        let (metrics, following) =
            (Arc::clone(&shared.metrics), settings.subscriptions(&exchange, &exchange));
        let subscriptions = Subscriptions::new(number, Rc::clone(&hub), metrics, following);
        let trunk = Trunk {
            number,
            upstream: &upstream,
            hub: &hub,
            exchange: &exchange,
            sessions: &sessions,
            subscriptions: &subscriptions,
            outlooks: &outlooks,
            tasks: &tasks,
        };
        let branches = settings.branches(&[], &trunk);
        sessions.adopt(settings.with_namespaces(services, &sessions, &branches));
        let (sorts, counts) = (settings.sorts(), settings.options.admin.is_some());
        let (metrics, spans) = (Arc::clone(&shared.metrics), shared.spans.clone());
        let access = Access::new(metrics, number, sorts, counts, spans);
        let parts = gateway::Parts {
            gate: Arc::clone(&settings.gate),
            exchange,
            branches: apart::for_gateway(&branches),
            sessions: Rc::clone(&sessions),
            subscriptions: Rc::clone(&subscriptions),
            access: Rc::clone(&access),
            tasks: tasks.clone(),
            callers: callers.clone(),
        };
        let gateway = Rc::new(Gateway::new(&settings.options.gateway, parts));
        Rc::new(Self {
            number,
            shared,
            drain: CancellationToken::new(),
            draining: Cell::new(false),
            front: RefCell::new(Rc::new(Front::new(settings, upstream, branches, access))),
            gateway: Rc::new(RefCell::new(gateway)),
            hub,
            outlooks,
            sessions,
            subscriptions,
            tasks,
            callers,
        })
    }

    fn front(&self) -> Rc<Front> {
        Rc::clone(&self.front.borrow())
    }

    /// Adopts settings as they come, for ever; of several at once the last.
    async fn follow(self: Rc<Self>, mut settings: watch::Receiver<Arc<Settings>>) {
        while settings.changed().await.is_ok() {
            let next = Arc::clone(&settings.borrow_and_update());
            self.adopt(next);
        }
    }

    /// Goes by other settings from now on. What is under way ends as it began.
    fn adopt(&self, settings: Arc<Settings>) {
        let before = self.front();
        let upstream = match settings.asks_like(&before.settings) {
            true => Rc::clone(&before.upstream),
            false => settings.upstream(self.shared.workers),
        };
        // The hub before all that asks it.
        self.hub.adopt(settings.views(&upstream));
        let exchange = settings.exchange(&upstream, &self.hub, &self.outlooks, &self.tasks);
        let branches = settings.branches(&before.branches, &self.trunk(&upstream, &exchange));
        let services = settings.services(&exchange);
        let services = settings.with_namespaces(services, &self.sessions, &branches);
        let following = settings.subscriptions(&exchange, &exchange);
        let access = before.access.succeed(settings.sorts());
        let parts = gateway::Parts {
            gate: Arc::clone(&settings.gate),
            exchange,
            branches: apart::for_gateway(&branches),
            sessions: Rc::clone(&self.sessions),
            subscriptions: Rc::clone(&self.subscriptions),
            access: Rc::clone(&access),
            tasks: self.tasks.clone(),
            callers: self.callers.clone(),
        };
        self.gateway.replace(Rc::new(Gateway::new(&settings.options.gateway, parts)));
        if !Rc::ptr_eq(&upstream, &before.upstream) {
            before.upstream.count(before.access.metrics());
            before.upstream.retire();
        }
        before.branches.iter().for_each(|branch| branch.give_way(&branches));
        self.front.replace(Rc::new(Front::new(settings, upstream, branches, access)));
        self.sessions.adopt(services);
        self.subscriptions.adopt(following);
        self.end_the_shut_out();
        self.report();
    }

    fn trunk<'w>(&'w self, upstream: &'w Rc<Upstream>, exchange: &'w Rc<Exchange>) -> Trunk<'w> {
        Trunk {
            number: self.number,
            upstream,
            hub: &self.hub,
            exchange,
            sessions: &self.sessions,
            subscriptions: &self.subscriptions,
            outlooks: &self.outlooks,
            tasks: &self.tasks,
        }
    }

    /// Says which settings this worker goes by; the last one that does so has the views begin again.
    fn report(&self) {
        let front = self.front();
        let Settings { number, views_since, .. } = *front.settings;
        if self.shared.progress.reach(self.number, number, views_since) {
            self.shared.hubs.begin_again(&self.shared.mail);
            // These are of the same API.
            for (_, apart) in front.settings.spaces.apart().filter(|(_, it)| !it.has_api()) {
                apart.begin_again();
            }
        }
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
        let front = self.front();
        let gate = &front.settings.gate;
        let peer = Peer::new(address, gate);
        match self.shared.connections.open(address.ip(), peer.is_trusted_by(gate)) {
            Ok(slot) => {
                let worker = Rc::clone(self);
                self.callers.spawn(&self.tasks, peer.ip(), |listed| {
                    let met = Box::pin(Rc::clone(&worker).meet(stream, slot, peer, listed));
                    async move {
                        if let Err(error) = worker.converse(met).await {
                            tracing::debug!(%error, client = %address, "connection ended");
                        }
                    }
                });
            }
            Err(exceeded) => {
                front.access.metrics().rejected(match exceeded {
                    Exceeded::Total => Unserved::Connections,
                    Exceeded::Address => Unserved::ConnectionsPerAddress,
                });
                tracing::debug!(?exceeded, client = %address, "connection refused");
            }
        }
    }

    /// Ends what those have open who may not be here any more.
    fn end_the_shut_out(&self) {
        let gate = Arc::clone(&self.front().settings.gate);
        // The connection of a trusted proxy is not one client's: each request is judged instead.
        let connections =
            self.callers.end(|address| gate.trusts(address) || gate.admit(address).is_ok());
        let sockets = self.sessions.end_the_shut_out();
        let subscriptions = self.subscriptions.end_the_shut_out();
        if connections + sockets + subscriptions > 0 {
            tracing::info!(
                connections,
                sockets,
                subscriptions,
                "ended what denied or banned addresses had open"
            );
        }
    }
}

/// The others mean that accepting as such does not work, and would fail again at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
