//! Other options for a server that runs: found good as a whole, or not taken at all.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Options;
use super::files::Following;
use crate::admin::Subject;
use crate::gate::Gate;
use crate::worker::Shared;
use crate::worker::settings::Settings;

/// How long workers may take until a reload is said to be done.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reload was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What is other than before and will be so after a restart only, by its name in the file.
    pub restart_for: Vec<&'static str>,
}

/// A reload was not done, and nothing has changed.
#[derive(Debug)]
pub enum Refused {
    /// The server is about to end.
    Draining,
    Bad(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("the server drains"),
            Self::Bad(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// Reloads a server; a clone reloads the same.
#[derive(Debug, Clone)]
pub struct Reloader(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: watch::Sender<Arc<Settings>>,
    /// What operators are shown.
    subject: Arc<ArcSwap<Subject>>,
    following: Following,
    /// One reload after the other.
    turn: Mutex<()>,
}

impl Reloader {
    /// The first settings of a server. Blocks: files are read.
    pub(super) fn start(options: Options, shared: Arc<Shared>) -> io::Result<Self> {
        let following = Following::new(shared.stop.clone());
        let (certificate, identity) = following.certificate(&options)?;
        let settings = Settings::new(options, identity, &shared)?;
        let deny = following.deny_file(&settings.options, &settings.gate)?;
        following.take(deny, certificate)?;
        shared.metrics.show(settings.all_counted());
        Ok(Self(Arc::new(Inner {
            subject: Arc::new(ArcSwap::from_pointee(subject(&settings, &shared))),
            settings: watch::Sender::new(Arc::new(settings)),
            shared,
            following,
            turn: Mutex::default(),
        })))
    }

    /// Goes by other options from now on, without closing a connection or ending a binding that
    /// they allow. They are found good as a whole, files that they name included, or nothing
    /// changes. When this returns, requests that begin are served by them. Blocks.
    pub fn reload(&self, options: Options) -> Result<Reloaded, Refused> {
        self.reload_with(options, || ())
    }

    /// The same; `found_good` is called when they are known to be good and nobody goes by them yet.
    pub fn reload_with(
        &self,
        options: Options,
        found_good: impl FnOnce(),
    ) -> Result<Reloaded, Refused> {
        let inner = &*self.0;
        let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        let reloaded = inner.take(options, found_good);
        inner.shared.metrics.reloads.note(reloaded.is_ok());
        reloaded.map_err(Refused::Bad)
    }

    /// Notes that there were options that could not even be read.
    pub fn note_failure(&self) {
        self.0.shared.metrics.reloads.note(false);
    }

    /// Whether the server is about to end, and takes no other options any more.
    pub fn is_draining(&self) -> bool {
        self.0.shared.drain.is_cancelled() || self.0.shared.stop.is_cancelled()
    }

    pub(super) fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.0.settings.subscribe()
    }

    pub(super) fn subject(&self) -> Arc<ArcSwap<Subject>> {
        Arc::clone(&self.0.subject)
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.0.settings.borrow().gate)
    }

    /// Waits for what it has begun, after everything was told to stop.
    pub(super) fn end(&self) -> io::Result<()> {
        self.0.following.end()
    }
}

impl Inner {
    fn take(&self, mut options: Options, found_good: impl FnOnce()) -> io::Result<Reloaded> {
        let present = Arc::clone(&self.settings.borrow());
        let restart_for = keep_what_cannot_change(&mut options, &present.options);
        let (certificate, identity) = self.following.certificate(&options)?;
        let next = present.succeed(options, identity, &self.shared)?;
        let deny = self.following.deny_file(&next.options, &next.gate)?;
        self.following.take(deny, certificate)?;
        found_good();
        let options = &next.options;
        self.shared.connections.limit(options.connections, options.connections_per_address);
        self.shared.hubs.limit_histories(options.history_bytes);
        self.shared.metrics.show(next.all_counted());
        self.subject.store(Arc::new(subject(&next, &self.shared)));
        let number = next.number;
        self.settings.send_replace(Arc::new(next));
        if !self.shared.progress.wait(number, PATIENCE) {
            tracing::warn!("a worker is busy and will go by the new configuration later");
        }
        Ok(Reloaded { restart_for })
    }
}

/// Has `options` say what the server does now where it cannot do otherwise; gives the names of
/// what they wanted otherwise.
pub(crate) fn keep_what_cannot_change(
    options: &mut Options,
    present: &Options,
) -> Vec<&'static str> {
    let mut kept = Vec::new();
    if options.listen != present.listen {
        options.listen = present.listen;
        kept.push("listen");
    }
    if options.workers != present.workers {
        options.workers = present.workers;
        kept.push("workers");
    }
    match (&mut options.admin, &present.admin) {
        (Some(admin), Some(present)) => {
            if admin.listen != present.listen {
                admin.listen = present.listen;
                kept.push("admin.listen");
            }
            let reachable = !present.listen.ip().is_loopback();
            if reachable && admin.token.is_none() && present.token.is_some() {
                // Others than this machine can reach the listener, whatever it is to be.
                admin.token.clone_from(&present.token);
                kept.push("admin.token_file");
            }
            admin.patience = present.patience;
        }
        (None, None) => (),
        (admin, present) => {
            admin.clone_from(present);
            kept.push("admin");
        }
    }
    let endpoint = |options: &Options| options.traces.as_ref().map(|it| it.endpoint.clone());
    let name = |options: &Options| options.traces.as_ref().map(|it| it.service_name.clone());
    if endpoint(options) != endpoint(present) {
        kept.push("traces.endpoint");
    } else if name(options) != name(present) {
        kept.push("traces.service_name");
    }
    options.traces.clone_from(&present.traces);
    kept
}

fn subject(settings: &Settings, shared: &Shared) -> Subject {
    let admin = settings.options.admin.clone().unwrap_or_default();
    Subject {
        token: admin.token,
        hosts: admin.hosts,
        tables: settings.tables(),
        places: settings.places(shared),
        gate: Arc::clone(&settings.gate),
        upstream: settings.options.upstream.clone(),
    }
}
