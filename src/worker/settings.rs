//! What holds for all workers, in one piece: made and found good as a whole, and replaced whole.

use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Shared;
use super::spaces::Spaces;
use crate::access::{Counted, Sorts};
use crate::channel;
use crate::exchange::{Exchange, Outlooks};
use crate::gate::Gate;
use crate::gate::auth::Authenticator;
use crate::handlers::{Act, Hooks};
use crate::headers::Via;
use crate::hub::{self, Hub};
use crate::metrics;
use crate::route::Routes;
use crate::server::Options;
use crate::session;
use crate::subscription;
use crate::tls::Identity;
use crate::upstream::{Secure, Upstream};

#[derive(Debug)]
pub(crate) struct Settings {
    /// How many there were before.
    pub(crate) number: u64,
    /// The number of the first ones under which views show what they show under these.
    pub(crate) views_since: u64,
    pub(crate) options: Options,
    pub(crate) gate: Arc<Gate>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) routes: Arc<Routes>,
    /// Where the requests of those are counted.
    pub(crate) counted: metrics::Routes,
    pub(crate) channels: Arc<[channel::Rule]>,
    pub(crate) spaces: Spaces,
    /// Asks the handlers that are elsewhere than at the API, if there are any.
    hooks: Option<Hooks>,
    pub(crate) refetches: hub::Refetches,
    /// What clients are shown; none speaks to them in the clear.
    pub(crate) identity: Option<Arc<Identity>>,
    /// How the upstream is spoken to; none does so in the clear.
    pub(crate) secure: Option<Secure>,
}

pub(crate) fn invalid(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

impl Settings {
    /// The first ones. Blocks: files are read.
    pub(crate) fn new(
        options: Options,
        identity: Option<Arc<Identity>>,
        shared: &Shared,
    ) -> io::Result<Self> {
        let patterns = options.routes.iter().map(|rule| rule.path.clone());
        Ok(Self {
            number: 0,
            views_since: 0,
            gate: Arc::new(Gate::new(&options.gate).map_err(invalid)?),
            authenticator: Arc::new(Authenticator::new(&options.auth).map_err(invalid)?),
            routes: Arc::new(Routes::new(options.routes.clone()).map_err(bad_route)?),
            counted: shared.metrics.routes_of(None, patterns),
            channels: options.channels.clone().into(),
            spaces: Spaces::new(&options, None, shared)?,
            hooks: hooks(&options)?,
            refetches: hub::Refetches::new(&options.hub),
            identity,
            secure: Secure::new(&options.upstream).map_err(invalid)?,
            options,
        })
    }

    /// Those that take the place of these. What is the same in both is kept with all that it knows.
    /// Blocks: files are read.
    pub(crate) fn succeed(
        &self,
        options: Options,
        identity: Option<Arc<Identity>>,
        shared: &Shared,
    ) -> io::Result<Self> {
        let before = &self.options;
        let gate = match options.gate == before.gate {
            true => Arc::clone(&self.gate),
            false => Arc::new(self.gate.succeed(&options.gate).map_err(invalid)?),
        };
        let authenticator = match options.auth == before.auth {
            true => Arc::clone(&self.authenticator),
            false => Arc::new(self.authenticator.succeed(&options.auth).map_err(invalid)?),
        };
        let routes = match options.routes == before.routes {
            true => Arc::clone(&self.routes),
            false => Arc::new(self.routes.succeed(options.routes.clone()).map_err(bad_route)?),
        };
        let refetches = match options.hub.refetch_concurrency == before.hub.refetch_concurrency {
            true => self.refetches.clone(),
            false => hub::Refetches::new(&options.hub),
        };
        let secure = Secure::new(&options.upstream).map_err(invalid)?;
        let shows_the_same = options.upstream.origin == before.upstream.origin
            && secure == self.secure
            && options.hub.credential_headers == before.hub.credential_headers;
        let number = self.number + 1;
        let patterns = options.routes.iter().map(|rule| rule.path.clone());
        Ok(Self {
            number,
            views_since: if shows_the_same { self.views_since } else { number },
            gate,
            authenticator,
            routes,
            counted: shared.metrics.routes_of(None, patterns),
            channels: options.channels.clone().into(),
            spaces: Spaces::new(&options, Some(&self.spaces), shared)?,
            hooks: hooks(&options)?,
            refetches,
            identity,
            secure,
            options,
        })
    }

    /// What requests are told apart by.
    pub(super) fn sorts(&self) -> Sorts {
        let (routes, places) = (Arc::clone(&self.routes), Arc::clone(&self.counted));
        Sorts { whole: Counted { routes, places }, branches: self.spaces.counted() }
    }

    /// All places where requests are counted.
    pub(crate) fn all_counted(&self) -> metrics::Routes {
        let of_branches = self.spaces.counted().into_iter();
        let of_branches = of_branches.flat_map(|(_, counted)| counted.places.to_vec());
        self.counted.iter().cloned().chain(of_branches).collect()
    }

    /// Whether the upstream is spoken to in the same way.
    pub(super) fn asks_like(&self, other: &Self) -> bool {
        self.options.upstream == other.options.upstream && self.secure == other.secure
    }

    /// A worker's way to the upstream.
    pub(super) fn upstream(&self, workers: usize) -> Rc<Upstream> {
        let (options, secure) = (self.options.upstream.clone(), self.secure.clone());
        Rc::new(Upstream::new(options, secure, workers))
    }

    pub(super) fn via(&self) -> Option<Via> {
        self.options.gateway.via.as_deref().and_then(Via::new)
    }

    /// What a worker's hub goes by.
    pub(super) fn views(&self, upstream: &Rc<Upstream>) -> hub::Settings {
        hub::Settings {
            routes: Arc::clone(&self.routes),
            upstream: Rc::clone(upstream),
            via: self.via(),
            options: Rc::new(self.options.hub.clone()),
            refetches: self.refetches.clone(),
        }
    }

    /// A worker's exchanges; its hub must go by these settings.
    pub(super) fn exchange(
        &self,
        upstream: &Rc<Upstream>,
        hub: &Rc<Hub>,
        outlooks: &Outlooks,
        tasks: &TaskTracker,
    ) -> Rc<Exchange> {
        Rc::new(Exchange::new(
            Rc::clone(upstream),
            Rc::clone(hub),
            Arc::clone(&self.routes),
            self.via(),
            Arc::clone(&self.authenticator),
            Rc::clone(outlooks),
            tasks.clone(),
        ))
    }

    /// What a worker's sockets use in `/`.
    pub(super) fn services(&self, exchange: &Rc<Exchange>) -> session::Services {
        let options = &self.options;
        session::Services {
            options: Rc::new(options.session.clone()),
            exchange: Rc::clone(exchange),
            gate: Arc::clone(&self.gate),
            authenticator: Arc::clone(&self.authenticator),
            verifies: options.auth.verify.is_some() || options.auth.jwt.is_some(),
            auth_required: self.authenticator.required(),
            routes: Arc::clone(&self.routes),
            channels: Arc::clone(&self.channels),
            credential_headers: options.hub.credential_headers.clone(),
            handlers: Arc::clone(&self.spaces.handlers),
            hooks: self.hooks.clone(),
            messages: None,
            namespaces: Vec::new(),
        }
    }

    /// What a worker's subscriptions use; credentials are checked by the API of `verifier`.
    pub(super) fn subscriptions(
        &self,
        exchange: &Rc<Exchange>,
        verifier: &Rc<Exchange>,
    ) -> subscription::Services {
        let options = &self.options;
        subscription::Services {
            options: Rc::new(options.subscription.clone()),
            exchange: Rc::clone(exchange),
            verifier: Rc::clone(verifier),
            gate: Arc::clone(&self.gate),
            authenticator: Arc::clone(&self.authenticator),
            verifies: options.auth.verify.is_some() || options.auth.jwt.is_some(),
            auth_required: self.authenticator.required(),
            credential_headers: options.hub.credential_headers.clone(),
        }
    }
}

fn hooks(options: &Options) -> io::Result<Option<Hooks>> {
    let mut rules = options.namespaces.iter().flat_map(|namespace| &namespace.handlers);
    if !rules.any(|rule| matches!(rule.act, Act::Post { .. })) {
        return Ok(None);
    }
    let upstream = &options.upstream;
    let hooks = Hooks::new(upstream.connect_timeout, upstream.response_timeout);
    hooks.map(Some).map_err(invalid)
}

fn bad_route((number, error): (usize, matchit::InsertError)) -> io::Error {
    invalid(format!("route {}: {error}", number + 1))
}

/// Which settings each worker has adopted, by their number.
#[derive(Debug)]
pub(crate) struct Progress {
    numbers: Mutex<Vec<u64>>,
    moved: Condvar,
}

impl Progress {
    pub(crate) fn new(workers: usize) -> Self {
        Self { numbers: Mutex::new(vec![0; workers]), moved: Condvar::new() }
    }

    /// A worker has adopted settings; whether that makes it the last to have left all that were
    /// before those of number `since` behind.
    pub(super) fn reach(&self, worker: usize, number: u64, since: u64) -> bool {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lowest(&numbers);
        numbers[worker] = number;
        self.moved.notify_all();
        (before + 1..=lowest(&numbers)).contains(&since)
    }

    /// Waits until every worker has adopted those of `number`, or later ones. Blocks.
    pub(crate) fn wait(&self, number: u64, patience: Duration) -> bool {
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |numbers: &mut Vec<u64>| lowest(numbers) < number;
        match self.moved.wait_timeout_while(numbers, patience, behind) {
            Ok((_, waited)) => !waited.timed_out(),
            Err(_) => false,
        }
    }
}

fn lowest(numbers: &[u64]) -> u64 {
    numbers.iter().copied().min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_worker_to_leave_something_behind_knows_that_it_is_the_last() {
        let progress = Progress::new(2);
        assert!(!progress.reach(0, 1, 1));
        assert!(!progress.wait(1, Duration::ZERO));
        assert!(progress.reach(1, 1, 1) && progress.wait(1, Duration::ZERO));
        // Nothing to leave behind since.
        assert!(!progress.reach(0, 2, 1) && !progress.reach(1, 2, 1));
        // One passes over settings that the other had.
        assert!(!progress.reach(0, 3, 3) && !progress.reach(0, 4, 3));
        assert!(progress.reach(1, 4, 3));
    }
}
