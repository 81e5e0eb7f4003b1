//! The workers: started together, drained together.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::deny_file::DenyFile;
use crate::gate::auth::{self, Authenticator};
use crate::gate::{self, Gate};
use crate::hub::mail::Mailbox;
use crate::route::{Routes, Rule};
use crate::worker::{self, Shared};
use crate::{channel, gateway, hub, session, upstream};

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
    /// How long a drain waits for what is under way.
    pub drain: Duration,
    pub gateway: gateway::Options,
    pub upstream: upstream::Options,
    pub gate: gate::Options,
    pub auth: auth::Options,
    pub session: session::Options,
    pub hub: hub::Options,
    pub routes: Vec<Rule>,
    pub channels: Vec<channel::Rule>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 0,
            connections: 16_384,
            connections_per_address: 0,
            drain: Duration::from_secs(30),
            gateway: gateway::Options::default(),
            upstream: upstream::Options::default(),
            gate: gate::Options::default(),
            auth: auth::Options::default(),
            session: session::Options::default(),
            hub: hub::Options::default(),
            routes: Vec::new(),
            channels: vec![channel::Rule::open()],
        }
    }
}

/// A running Pogo. Dropping it stops it at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    stop: CancellationToken,
    gate: Arc<Gate>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Of the deny file.
    follower: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Listens and serves on threads of its own. When it returns, connections are accepted.
    pub fn start(options: Options) -> io::Result<Self> {
        let workers = match NonZeroUsize::new(options.workers) {
            Some(workers) => workers,
            None => std::thread::available_parallelism()?,
        };
        let listeners = listen(options.listen, workers)?;
        let address = listeners[0].local_addr()?;
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidInput, error);
        let gate = Gate::new(&options.gate).map_err(|error| invalid(error.to_string()))?;
        let gate = Arc::new(gate);
        let deny_file = match options.gate.deny_file.clone() {
            Some(path) => {
                let told = |error| invalid(format!("{}: {error}", path.display()));
                Some(DenyFile::open(path.clone(), &gate).map_err(told)?)
            }
            None => None,
        };
        let authenticator =
            Authenticator::new(&options.auth).map_err(|error| invalid(error.to_string()))?;
        let routes = Routes::new(options.routes.clone())
            .map_err(|(number, error)| invalid(format!("route {}: {error}", number + 1)))?;
        let shared = Arc::new(Shared {
            workers: workers.get(),
            gate: Arc::clone(&gate),
            authenticator: Arc::new(authenticator),
            routes: Arc::new(routes),
            channels: options.channels.clone().into(),
            hubs: hub::Node::new(&options.hub),
            mail: (0..workers.get()).map(|_| Mailbox::default()).collect(),
            connections: Connections::new(options.connections, options.connections_per_address),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            options,
        });
        let (drain, stop) = (shared.drain.clone(), shared.stop.clone());
        let follower = deny_file.map(|file| follow(file, Arc::clone(&gate), stop.clone()));
        let follower = follower.transpose()?;
        let mut server = Self { address, drain, stop, gate, workers: Vec::new(), follower };
        for (number, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            server.workers.push(thread.spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default())?;
                runtime.block_on(worker::run(number, listener, shared))
            })?);
        }
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is banned, and lets them in again: the gate that all workers share.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Accepts nothing more, lets what is under way finish, and returns when all has ended: after
    /// the drain's deadline at the latest. Blocks the thread.
    pub fn drain(mut self) -> io::Result<()> {
        self.drain.cancel();
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
        self.stop.cancel();
        if let Some(follower) = self.follower.take() {
            let failed = |_| Err(io::Error::other("the follower of the deny file panicked"));
            result = result.and(follower.join().unwrap_or_else(failed));
        }
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = self.join() {
            tracing::error!(%error, "a worker failed");
        }
    }
}

/// Follows the deny file on a thread of its own, where a slow disk holds up no client.
fn follow(
    file: DenyFile,
    gate: Arc<Gate>,
    stop: CancellationToken,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name("deny-file".into()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(file.follow(gate, stop));
        Ok(())
    })
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
        socket2::SockRef::from(listener).listen(BACKLOG)?;
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    // Inherited by every connection that is accepted.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
