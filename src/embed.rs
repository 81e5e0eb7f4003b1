//! Pogo in a program of one's own: closures answer custom events, and the program publishes to
//! channels and says what has changed.
//!
//! ```no_run
//! use pogo::{Event, HandlerError, Pogo};
//! use serde_json::{Value, json};
//!
//! let pogo = Pogo::builder()
//!     .upstream("http://127.0.0.1:3000")
//!     .listen("127.0.0.1:8080")
//!     .namespace("/analytics", |ns| {
//!         ns.on("track", |event: Event| async move {
//!             let page: String = event.data()?;
//!             Ok::<_, HandlerError>(json!({"tracked": page}))
//!         })
//!     })
//!     .start()?;
//! pogo.publish("news", "published", &json!({"title": "Hello"}))?;
//! pogo.changed(["/posts/1"])?;
//! pogo.drain()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Handlers run on the tokio runtime in which [`Builder::start`] is called or, outside of any, on a
//! thread of their own; never on a worker. One that takes longer than
//! [`Builder::handler_timeout`] is ended, one that panics answers an error, and either way nothing
//! else notices.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use http::Uri;
use serde::Serialize;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::handlers::{Act, Closure, Event, HandlerError, Rule, Runner};
use crate::namespace::{self, Name};
use crate::server::{Options, Refused, Reloaded, Reloader, Server, Unannounced};
use crate::session::namespaces;
use crate::upstream::Tls;

/// How long the end of Pogo waits for a handler that blocks its thread.
const GRACE: Duration = Duration::from_millis(500);
/// How long a handler may take unless the program says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

type Make = Arc<dyn Fn(&Runner) -> Closure + Send + Sync>;

/// A closure, as yet without a place to run.
#[derive(Clone)]
struct Handler {
    event: String,
    make: Make,
}

/// The handlers of one namespace.
#[derive(Default)]
pub struct Namespace {
    handlers: Vec<Handler>,
}

impl Namespace {
    /// Answers the event `event` by this closure. What it gives becomes the answer's `data`; `()`
    /// and `null` become an answer without.
    #[must_use]
    pub fn on<F, A, T>(mut self, event: &str, handler: F) -> Self
    where
        F: Fn(Event) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, HandlerError>> + Send + 'static,
        T: Serialize + 'static,
    {
        let make: Make = Arc::new(move |runner| Closure::new(runner.clone(), handler.clone()));
        self.handlers.push(Handler { event: event.to_owned(), make });
        self
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.handlers.iter().map(|handler| &handler.event)).finish()
    }
}

/// What is to be started.
#[derive(Debug)]
pub struct Builder {
    options: Options,
    namespaces: Vec<(Name, Namespace)>,
    runtime: Option<runtime::Handle>,
    patience: Duration,
    handle: Handle,
    /// The first thing that was said wrongly.
    error: Option<io::Error>,
}

impl Builder {
    fn new() -> Self {
        Self {
            options: Options::default(),
            namespaces: Vec::new(),
            runtime: None,
            patience: PATIENCE,
            handle: Handle::default(),
            error: None,
        }
    }

    /// The API, an http or https URL without a path.
    #[must_use]
    pub fn upstream(mut self, url: &str) -> Self {
        let parsed = url
            .parse::<Uri>()
            .ok()
            .map(Uri::into_parts)
            .filter(|parts| parts.path_and_query.as_ref().is_none_or(|path| path == "/"));
        let origin = parsed.as_ref().and_then(|parts| parts.authority.clone());
        let scheme = parsed.as_ref().and_then(|parts| parts.scheme.as_ref()).map(|it| it.as_str());
        match (scheme, origin) {
            (Some(scheme @ ("http" | "https")), Some(origin)) if !origin.as_str().contains('@') => {
                self.options.upstream.origin = origin;
                self.options.upstream.tls = (scheme == "https").then(Tls::default);
            }
            _ => self.refuse("the upstream is a URL such as \"http://127.0.0.1:3000\""),
        }
        self
    }

    /// The address and port to listen on; port 0 is any that is free.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        match address.parse::<SocketAddr>() {
            Ok(address) => self.options.listen = address,
            Err(_) => self.refuse("an address to listen on is such as \"127.0.0.1:8080\""),
        }
        self
    }

    /// Everything else there is to be said.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Answers the event `event` in the default namespace; see [`Namespace::on`].
    #[must_use]
    pub fn on<F, A, T>(self, event: &str, handler: F) -> Self
    where
        F: Fn(Event) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, HandlerError>> + Send + 'static,
        T: Serialize + 'static,
    {
        self.namespace(namespace::DEFAULT, |default| default.on(event, handler))
    }

    /// A namespace and its handlers.
    #[must_use]
    pub fn namespace(mut self, name: &str, describe: impl FnOnce(Namespace) -> Namespace) -> Self {
        match Name::new(name) {
            Ok(name) => self.namespaces.push((name, describe(Namespace::default()))),
            Err(bad) => self.refuse(&bad.to_string()),
        }
        self
    }

    /// Where handlers run, if not where [`Builder::start`] is called.
    #[must_use]
    pub fn runtime(mut self, runtime: runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// How long a handler may take; by default 30 seconds.
    #[must_use]
    pub fn handler_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What publishes once the server runs: for handlers that have something to say to others.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Listens and serves on threads of its own. When it returns, connections are accepted.
    pub fn start(self) -> io::Result<Pogo> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let has_handlers = self.namespaces.iter().any(|(_, it)| !it.handlers.is_empty());
        let present = self.runtime.or_else(|| runtime::Handle::try_current().ok());
        let (runtime, own) = match present {
            Some(runtime) => (Some(runtime), None),
            None if has_handlers => {
                let own = Own::start()?;
                (Some(own.runtime.clone()), Some(own))
            }
            None => (None, None),
        };
        let runner = runtime.map(|runtime| Runner::new(runtime, self.patience));
        let rules = self.namespaces.iter().map(|(name, namespace)| {
            let rule = |handler: &Handler| {
                let runner = runner.as_ref()?;
                let act = Act::Call((handler.make)(runner));
                Some(Rule { event: handler.event.clone(), act })
            };
            (name.clone(), namespace.handlers.iter().filter_map(rule).collect())
        });
        let closures = Closures(rules.collect());
        let server = Server::start(closures.join(self.options))?;
        let handle = self.handle;
        handle.0.get_or_init(|| server.reloader());
        Ok(Pogo { server, closures, handle, _own: own })
    }

    fn refuse(&mut self, reason: &str) {
        let refusal = || io::Error::new(io::ErrorKind::InvalidInput, reason);
        self.error.get_or_insert_with(refusal);
    }
}

/// The handlers of the program, by namespace.
#[derive(Debug)]
struct Closures(Vec<(Name, Vec<Rule>)>);

impl Closures {
    /// The options with these among their handlers.
    fn join(&self, mut options: Options) -> Options {
        for (name, rules) in &self.0 {
            let all = &mut options.namespaces;
            let at = all.iter().position(|known| known.name == *name).unwrap_or_else(|| {
                all.push(namespaces::Options::new(name.clone()));
                all.len() - 1
            });
            all[at].handlers.extend(rules.iter().cloned());
        }
        options
    }
}

/// A running Pogo. Dropping it stops it at once.
#[derive(Debug)]
pub struct Pogo {
    server: Server,
    closures: Closures,
    handle: Handle,
    /// Ends after the server, which may still ask handlers.
    _own: Option<Own>,
}

impl Pogo {
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it is made of.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What publishes from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// See [`Handle::publish`].
    pub fn publish(
        &self,
        channel: &str,
        event: &str,
        data: &impl Serialize,
    ) -> Result<(), Unannounced> {
        self.handle.publish(channel, event, data)
    }

    /// See [`Handle::changed`].
    pub fn changed<'u>(&self, uris: impl IntoIterator<Item = &'u str>) -> Result<(), Unannounced> {
        self.handle.changed(uris)
    }

    /// Goes by other options and the same handlers from now on: see
    /// [`Reloader::reload`](crate::server::Reloader::reload).
    pub fn reload(&self, options: Options) -> Result<Reloaded, Refused> {
        self.server.reload(self.closures.join(options))
    }

    /// Accepts nothing more, lets what is under way finish, handlers included, and returns when all
    /// has ended. Blocks the thread: if that is what handlers run on, call [`Pogo::drained`].
    pub fn drain(self) -> io::Result<()> {
        self.server.drain()
    }

    /// [`Pogo::drain`] on a thread for blocking work.
    pub async fn drained(self) -> io::Result<()> {
        let drained = tokio::task::spawn_blocking(|| self.drain()).await;
        drained.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Publishes, and says what has changed, from any thread and any handler.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<OnceLock<Reloader>>);

impl Handle {
    /// Sends an event to everybody who is subscribed to a channel of the default namespace. The
    /// rules of channels bind clients, not the program.
    pub fn publish(
        &self,
        channel: &str,
        event: &str,
        data: &impl Serialize,
    ) -> Result<(), Unannounced> {
        self.publish_in(namespace::DEFAULT, channel, event, data)
    }

    /// The same in another namespace.
    pub fn publish_in(
        &self,
        namespace: &str,
        channel: &str,
        event: &str,
        data: &impl Serialize,
    ) -> Result<(), Unannounced> {
        let data = serde_json::value::to_raw_value(data)
            .map_err(|error| Unannounced::BadData(error.to_string()))?;
        self.server()?.publish(namespace, channel, event, Some(data))
    }

    /// Something behind these URIs has changed, though no write went through Pogo: what is bound to
    /// them, to what is in them, or to the collections that they are in is fetched again.
    pub fn changed<'u>(&self, uris: impl IntoIterator<Item = &'u str>) -> Result<(), Unannounced> {
        self.changed_in(namespace::DEFAULT, uris)
    }

    /// The same of URIs in another namespace, which may have an API of its own.
    pub fn changed_in<'u>(
        &self,
        namespace: &str,
        uris: impl IntoIterator<Item = &'u str>,
    ) -> Result<(), Unannounced> {
        self.server()?.changed(namespace, uris)
    }

    fn server(&self) -> Result<&Reloader, Unannounced> {
        self.0.get().ok_or(Unannounced::NotRunning)
    }
}

/// A thread on which handlers run.
#[derive(Debug)]
struct Own {
    runtime: runtime::Handle,
    stop: CancellationToken,
    /// Closed when the thread ends.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Own {
    fn start() -> io::Result<Self> {
        let (stop, (tell, told)) = (CancellationToken::new(), mpsc::sync_channel(1));
        let (ends, ended) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        std::thread::Builder::new().name("handlers".into()).spawn(move || {
            // Dropped last.
            let _ends: mpsc::SyncSender<()> = ends;
            let built = runtime::Builder::new_current_thread().enable_all().build();
            let handle = built.as_ref().map(|runtime| runtime.handle().clone());
            let handle = handle.map_err(|error| io::Error::new(error.kind(), error.to_string()));
            // Who started this waits for it.
            if tell.send(handle).is_ok()
                && let Ok(runtime) = built
            {
                runtime.block_on(stopped.cancelled());
            }
        })?;
        let gone = |_| io::Error::other("the thread of the handlers has ended");
        let runtime = told.recv().map_err(gone)??;
        Ok(Self { runtime, stop, ended: Mutex::new(ended) })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("a handler blocks its thread, which is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_wrongly_is_told_when_it_is_to_start() {
        let nothing = |event: Event| async move { event.data::<()>() };
        for (builder, told) in [
            (Pogo::builder().upstream("127.0.0.1:3000"), "upstream"),
            (Pogo::builder().upstream("http://a/b"), "upstream"),
            (Pogo::builder().upstream("http://me:secret@a"), "upstream"),
            (Pogo::builder().listen("localhost"), "listen"),
            (Pogo::builder().namespace("a", |it| it), "namespace"),
            (Pogo::builder().listen("127.0.0.1:0").on("bind", nothing), "handler 1"),
            (Pogo::builder().listen("127.0.0.1:0").on("a", nothing).on("a", nothing), "handler 2"),
        ] {
            let error = builder.start().unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_upstream_is_http_or_https() {
        let upstream = |url| Pogo::builder().upstream(url).options.upstream;
        assert_eq!(
            (upstream("http://a:1").origin.as_str(), upstream("http://a:1/").tls),
            ("a:1", None)
        );
        assert_eq!(upstream("https://a").tls, Some(Tls::default()));
    }

    #[test]
    fn nothing_is_published_before_the_start() {
        let handle = Pogo::builder().handle();
        assert_eq!(handle.publish("c", "e", &1), Err(Unannounced::NotRunning));
        assert_eq!(handle.changed(["/a"]), Err(Unannounced::NotRunning));
    }
}
