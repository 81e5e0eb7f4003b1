use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use pogo::server::{Options, Refused, Reloaded, Server};

use super::{Api, Upstream, Wire};

/// A worker panicked: the runtime goes on, and no test may pass over it.
static PANICKED: AtomicBool = AtomicBool::new(false);
static WATCH_FOR_PANICS: Once = Once::new();

/// An API, and a Pogo of one worker before it.
pub fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), change);
    (api, pogo)
}

/// The same with two workers, which have to tell each other.
pub fn start_of_two(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    start(|options| {
        options.workers = 2;
        change(options);
    })
}

/// A running Pogo; at its end no worker may have panicked.
pub struct Pogo {
    server: Option<Server>,
    options: Options,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Pogo {
    pub fn before(upstream: &Upstream) -> Self {
        Self::with(upstream, |_| ())
    }

    /// A Pogo of one worker, so that connections to the upstream are reused predictably.
    pub fn with(upstream: &Upstream, change: impl FnOnce(&mut Options)) -> Self {
        Self::at(&upstream.address().to_string(), change)
    }

    pub fn at(upstream: &str, change: impl FnOnce(&mut Options)) -> Self {
        WATCH_FOR_PANICS.call_once(watch_for_panics);
        let mut options = Options { workers: 1, ..Options::default() };
        options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.upstream.origin = upstream.parse().unwrap();
        change(&mut options);
        let server = Server::start(options.clone()).unwrap();
        Self { address: server.address(), admin: server.admin(), options, server: Some(server) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn gate(&self) -> Arc<pogo::gate::Gate> {
        self.server.as_ref().unwrap().gate()
    }

    /// Has it go by other options, which are changed from the present ones.
    pub fn try_reload(&mut self, change: impl FnOnce(&mut Options)) -> Result<Reloaded, Refused> {
        let mut options = self.options.clone();
        change(&mut options);
        let reloaded = self.server.as_ref().unwrap().reload(options.clone());
        if reloaded.is_ok() {
            self.options = options;
        }
        reloaded
    }

    /// The same; nothing of it may need a restart.
    #[track_caller]
    pub fn reload(&mut self, change: impl FnOnce(&mut Options)) {
        assert_eq!(self.try_reload(change).unwrap().restart_for, [""; 0]);
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Where operators are served.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("options.admin is set")
    }

    /// A connection that a proxy makes for `client`, as it says in a PROXY header.
    pub fn connect_for(&self, client: &str) -> Wire {
        let mut wire = self.connect();
        wire.send(format!("PROXY TCP4 {client} 127.0.0.1 4711 80\r\n"));
        wire
    }

    /// A new connection on which `request` has been sent.
    pub fn ask(&self, request: &str) -> Wire {
        let mut client = self.connect();
        client.send(request);
        client
    }

    pub fn get(&self, path: &str) -> Wire {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n\r\n"))
    }

    /// The status that a request with a JSON body is answered with.
    pub fn write(&self, method: &str, path: &str, body: &serde_json::Value) -> u16 {
        let body = body.to_string();
        let length = body.len();
        let mut wire = self.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
        wire.message().status()
    }

    /// Begins to drain; the thread ends when the drain has.
    pub fn drain(&mut self) -> std::thread::JoinHandle<std::io::Result<()>> {
        let server = self.server.take().unwrap();
        std::thread::spawn(|| server.drain())
    }
}

impl Drop for Pogo {
    fn drop(&mut self) {
        drop(self.server.take());
        if !std::thread::panicking() {
            assert!(!PANICKED.load(Ordering::SeqCst), "a worker panicked");
        }
    }
}

fn watch_for_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let is_its =
            |name: &str| name.starts_with("worker-") || ["admin", "traces"].contains(&name);
        if thread.name().is_some_and(is_its) {
            PANICKED.store(true, Ordering::SeqCst);
        }
        report(panic);
    }));
}
