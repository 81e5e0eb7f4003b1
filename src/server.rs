//! The workers: started together, drained together.

mod announce;
mod files;
mod reload;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::announce::Unannounced;
#[cfg(test)]
pub(crate) use self::reload::keep_what_cannot_change;
pub use self::reload::{Refused, Reloaded, Reloader};
use crate::admin::{Admin, Reach, Subject};
use crate::connections::Connections;
use crate::gate::auth;
use crate::gate::{self, Gate};
use crate::hub::mail::Mailbox;
use crate::route::Rule;
use crate::session::{namespaces, orders};
use crate::traces::{Exporter, Spans};
use crate::worker::settings::Progress;
use crate::worker::{self, Shared};
use crate::{admin, channel, gateway, hub, metrics, session, subscription, tls, traces, upstream};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 1024;
/// How long a connection is silent before the kernel asks whether the client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub listen: SocketAddr,
    /// Threads that serve; 0 is one per core.
    pub workers: usize,
    /// Of clients, in all; 0 is no limit.
    pub connections: usize,
    /// Of clients, from one address (IPv6: one /64), unless it is a trusted proxy's; 0 is no limit.
    pub connections_per_address: usize,
    /// What the histories of all channels may hold, in bytes.
    pub history_bytes: usize,
    /// How long a drain waits for what is under way.
    pub drain: Duration,
    /// What clients are shown; none speaks to them in the clear.
    pub tls: Option<tls::Pair>,
    pub gateway: gateway::Options,
    pub upstream: upstream::Options,
    pub gate: gate::Options,
    pub auth: auth::Options,
    pub session: session::Options,
    pub subscription: subscription::Options,
    pub hub: hub::Options,
    pub routes: Vec<Rule>,
    pub channels: Vec<channel::Rule>,
    pub namespaces: Vec<namespaces::Options>,
    /// For operators; none listens for none.
    pub admin: Option<admin::Options>,
    /// Who is told of each request; none tells nobody.
    pub traces: Option<traces::Options>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 0,
            connections: 16_384,
            connections_per_address: 0,
            history_bytes: 64 << 20,
            drain: Duration::from_secs(30),
            tls: None,
            gateway: gateway::Options::default(),
            upstream: upstream::Options::default(),
            gate: gate::Options::default(),
            auth: auth::Options::default(),
            session: session::Options::default(),
            subscription: subscription::Options::default(),
            hub: hub::Options::default(),
            routes: Vec::new(),
            channels: vec![channel::Rule::open()],
            namespaces: Vec::new(),
            admin: None,
            traces: None,
        }
    }
}

/// A running Pogo. Dropping it stops it at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    reloader: Reloader,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Outlives the workers, so that probes are answered while they drain.
    admin: Option<Admin>,
    /// Outlives the workers, so that their last spans are sent.
    exporter: Option<Exporter>,
}

impl Server {
    /// Listens and serves on threads of its own. When it returns, connections are accepted.
    pub fn start(options: Options) -> io::Result<Self> {
        Self::start_on(options, &[])
    }

    /// The same, on listeners that were opened before this process began, instead of on
    /// `options.listen`; with none of them, on that.
    pub fn start_on(options: Options, inherited: &[TcpListener]) -> io::Result<Self> {
        let workers = match NonZeroUsize::new(options.workers) {
            Some(workers) => workers,
            None => std::thread::available_parallelism()?,
        };
        let listeners = match inherited.is_empty() {
            true => listen(options.listen, workers)?,
            false => divide(inherited, workers)?,
        };
        listeners.iter().try_for_each(prepare)?;
        let address = listeners[0].local_addr()?;
        let (orders, ordered) = (0..workers.get())
            .map(|_| mpsc::channel(orders::MAX_ORDERS))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let admin_options = options.admin.clone();
        let patterns = options.routes.iter().map(|rule| rule.path.clone());
        let metrics = Arc::new(metrics::Node::new(workers.get(), patterns));
        let exporter = options.traces.as_ref();
        let exporter = exporter.map(|it| Exporter::start(it, &metrics)).transpose()?;
        let spans = exporter.as_ref().map(Exporter::spans);
        let shared = Arc::new(share(&options, workers.get(), metrics, spans));
        let reloader = Reloader::start(options, Arc::clone(&shared))?;
        let admin = match admin_options {
            Some(options) => {
                Some(Admin::start(&options, reach(&shared, reloader.subject(), orders))?)
            }
            None => None,
        };
        let mut server = Self { address, shared, reloader, workers: Vec::new(), admin, exporter };
        let parts = listeners.into_iter().zip(ordered);
        for (number, (listener, orders)) in parts.enumerate() {
            let (shared, settings) = (Arc::clone(&server.shared), server.reloader.settings());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            server.workers.push(thread.spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default())?;
                runtime.block_on(worker::run(number, listener, orders, settings, shared))
            })?);
        }
        Ok(server)
    }

    /// Has it go by other options from now on: see [`Reloader::reload`].
    pub fn reload(&self, options: Options) -> Result<Reloaded, Refused> {
        self.reloader.reload(options)
    }

    /// What reloads this server from another thread.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Where operators are served, if they are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is banned, and lets them in again: the gate that all workers share at present.
    pub fn gate(&self) -> Arc<Gate> {
        self.reloader.gate()
    }

    /// Accepts nothing more, and nothing is reloaded any more; [`Server::drain`] waits for the end.
    pub fn begin_to_drain(&self) {
        self.shared.drain.cancel();
    }

    /// Accepts nothing more, lets what is under way finish, and returns when all has ended: after
    /// the drain's deadline at the latest. Blocks the thread.
    pub fn drain(mut self) -> io::Result<()> {
        self.begin_to_drain();
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for worker in self.workers.drain(..) {
            let ended = worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker ended in a panic")));
            result = result.and(ended);
        }
        self.shared.stop.cancel();
        // Waits until it has sent, or given up, what it has.
        drop(self.exporter.take());
        result.and(self.reloader.end())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Err(error) = self.join() {
            tracing::error!(%error, "a worker failed");
        }
    }
}

/// What all workers have in common as long as they run.
fn share(
    options: &Options,
    workers: usize,
    metrics: Arc<metrics::Node>,
    spans: Option<Spans>,
) -> Shared {
    Shared {
        workers,
        hubs: hub::Node::new(Arc::clone(&metrics), options.history_bytes),
        mail: (0..workers).map(|_| Mailbox::default()).collect(),
        connections: Connections::new(options.connections, options.connections_per_address),
        metrics,
        spans,
        progress: Progress::new(workers),
        drain: CancellationToken::new(),
        stop: CancellationToken::new(),
    }
}

/// What operators may reach of it.
fn reach(shared: &Shared, subject: Arc<ArcSwap<Subject>>, orders: Vec<orders::Orders>) -> Reach {
    Reach {
        subject,
        metrics: Arc::clone(&shared.metrics),
        orders,
        connections: shared.connections.clone(),
        drain: shared.drain.clone(),
    }
}

/// Inherited listeners, each for one worker or several. They belong to whoever opened them too,
/// so that a connection that comes while nobody accepts waits for the next process.
fn divide(inherited: &[TcpListener], workers: NonZeroUsize) -> io::Result<Vec<TcpListener>> {
    if inherited.len() > workers.get() {
        let (listeners, workers) = (inherited.len(), workers.get());
        let text = format!("{listeners} inherited listeners for {workers} workers");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for listener in inherited {
        listener.set_nonblocking(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        socket2::SockRef::from(listener).set_tcp_keepalive(&keepalive)?;
    }
    inherited.iter().cycle().take(workers.get()).map(TcpListener::try_clone).collect()
}

/// One listener for each worker, all on one port.
fn listen(address: SocketAddr, workers: NonZeroUsize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT two programs would share the port, each with half of the connections
        // and neither any the wiser.
        bind(address, false)?;
    }
    let first = bind(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < workers.get() {
        listeners.push(bind(address, true)?);
    }
    for listener in &listeners {
        SockRef::from(listener).listen(BACKLOG)?;
    }
    Ok(listeners)
}

/// Sets what every connection that is accepted inherits, and need not be told.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
