//! A view over plain HTTP, at the URI of the resource itself: a GET that asks for more than one
//! answer gets the API's own answer and then, in the same response, what becomes of it.
//!
//! The API is asked first, so what it answers itself (a stream of events, an error, a page) is what
//! the client gets. An answer in JSON is taken for a state of the view that the client would be
//! bound to over a socket, and the view is followed from there: the same views, fetched with the
//! same credentials, for whoever has the same eyes.

mod braid;
mod follow;
mod listed;
mod long_poll;
mod opening;
mod options;
mod prep;
mod sse;
mod stream;
mod wanted;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::Instant;

use self::follow::{Follow, Follower, Over};
pub(crate) use self::opening::Asked;
pub use self::options::Options;
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::gate::auth::Authenticator;
use crate::hub::mirror::{Binding, Owner, Purpose};
use crate::hub::{Hub, News, Standing};
use crate::metrics::{self, Way};
use crate::namespace::Name;
use crate::protocol::Reason;
use crate::rejection::Rejection;

/// What every subscription of a worker uses. Replaced whole.
pub struct Services {
    pub options: Rc<Options>,
    pub exchange: Rc<Exchange>,
    /// With the API that checks credentials, if one does.
    pub verifier: Rc<Exchange>,
    pub gate: Arc<Gate>,
    pub authenticator: Arc<Authenticator>,
    /// Tokens are checked by Pogo, so that it is known when they end.
    pub verifies: bool,
    pub auth_required: bool,
    pub credential_headers: Vec<HeaderName>,
}

/// Each by its number, and what it is bound with.
type All = HashMap<u64, (Rc<Follower>, Rc<Binding>)>;

/// One worker's subscriptions, to the resources of one API.
pub struct Subscriptions {
    /// The one with that API, if it is not `/`.
    namespace: Option<Name>,
    hub: Rc<Hub>,
    metrics: Arc<metrics::Node>,
    services: RefCell<Rc<Services>>,
    all: RefCell<All>,
    /// The worker's.
    numbers: Rc<Cell<u64>>,
    draining: Cell<bool>,
    /// Those to the APIs of namespaces; what is done here is done there, too.
    branches: RefCell<Vec<Rc<Self>>>,
}

/// A restart spreads its clients' return over this many seconds.
const RETURN_SPREAD: u64 = 10;
/// Sets the numbers of subscriptions apart from those of the worker's sockets.
const NO_SOCKET: u64 = 1 << 47;

impl Subscriptions {
    /// `worker` makes the numbers of subscriptions distinct on the node.
    pub fn new(
        worker: usize,
        hub: Rc<Hub>,
        metrics: Arc<metrics::Node>,
        services: Services,
    ) -> Rc<Self> {
        let numbers = Rc::new(Cell::new((worker as u64) << 48 | NO_SOCKET));
        Self::with(None, hub, metrics, services, numbers)
    }

    /// Those to the API of a namespace.
    pub fn of_namespace(&self, name: Name, hub: Rc<Hub>, services: Services) -> Rc<Self> {
        let (metrics, numbers) = (Arc::clone(&self.metrics), Rc::clone(&self.numbers));
        Self::with(Some(name), hub, metrics, services, numbers)
    }

    fn with(
        namespace: Option<Name>,
        hub: Rc<Hub>,
        metrics: Arc<metrics::Node>,
        services: Services,
        numbers: Rc<Cell<u64>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            namespace,
            hub,
            metrics,
            services: RefCell::new(Rc::new(services)),
            all: RefCell::default(),
            numbers,
            draining: Cell::new(false),
            branches: RefCell::default(),
        })
    }

    /// What holds now. What begins with it is to end with it.
    fn services(&self) -> Rc<Services> {
        Rc::clone(&self.services.borrow())
    }

    /// From now on these are there for namespaces; what is followed through others ends.
    pub fn branch(&self, branches: Vec<Rc<Self>>) {
        for before in self.branches.replace(branches) {
            if !self.branches().iter().any(|branch| Rc::ptr_eq(branch, &before)) {
                before.end_those(&|_, _| Some(Over::Left("reload")));
            }
        }
    }

    fn branches(&self) -> Vec<Rc<Self>> {
        self.branches.borrow().clone()
    }

    /// Goes by other services from now on. Subscriptions that were begun under rules that count no
    /// more end, and their clients come back under the new ones. The hub must have adopted the
    /// settings that belong to them.
    pub fn adopt(&self, services: Services) {
        let before = self.services.replace(Rc::new(services));
        let now = self.services();
        let judges_alike = now.authenticator.agrees_with(&before.authenticator)
            && now.auth_required == before.auth_required
            && now.credential_headers == before.credential_headers;
        self.end_own(&|follower, binding| {
            let stays = self.hub.review(binding) == Standing::Good
                && (judges_alike || follower.viewer.credentials().is_empty());
            (!stays).then_some(Over::Left("reload"))
        });
    }

    /// What other workers have to say.
    pub fn tell(&self, news: &News) {
        let unbound = Over::Unbound(Reason::Forbidden);
        match news {
            News::LoggedOut(credentials) => {
                self.end_those(&|follower, _| {
                    follower.viewer.shares_credential(credentials).then_some(unbound)
                });
            }
            News::EverybodyOut => {
                self.end_those(&|follower, _| {
                    (!follower.viewer.credentials().is_empty()).then_some(unbound)
                });
            }
            News::Published(_) | News::Lost { .. } | News::LostSomewhere { .. } => {}
        }
    }

    /// Ends the subscriptions of addresses that may not be here any more; how many there were. Those
    /// whose connection is their own have ended with it.
    pub fn end_the_shut_out(&self) -> usize {
        let gate = Arc::clone(&self.services().gate);
        self.end_those(&|follower, _| {
            gate.admit(follower.client.ip).is_err().then_some(Over::Unbound(Reason::Forbidden))
        })
    }

    /// Ends every subscription, and those that are begun from now on after their first answer.
    pub fn drain(&self) {
        self.branches().iter().for_each(|branch| branch.draining.set(true));
        self.draining.set(true);
        self.end_those(&|_, _| Some(Over::Left("drain")));
    }

    /// In all namespaces.
    fn end_those(&self, why: &dyn Fn(&Follower, &Binding) -> Option<Over>) -> usize {
        let of_branches: usize = self.branches().iter().map(|branch| branch.end_own(why)).sum();
        self.end_own(why) + of_branches
    }

    fn end_own(&self, why: &dyn Fn(&Follower, &Binding) -> Option<Over>) -> usize {
        let all: Vec<_> = self.all.borrow().values().cloned().collect();
        let to_end = all.iter().filter_map(|(it, binding)| Some((it, why(it, binding)?)));
        to_end.map(|(follower, over)| follower.end(over)).count()
    }

    /// Binds a client that holds `held` to the view; nothing that happens after that state is lost.
    fn follow(
        self: &Rc<Self>,
        asked: &Asked,
        held: Arc<str>,
        way: Way,
        expires: Option<Instant>,
    ) -> Result<Follow, Rejection> {
        // Since it was let in.
        let services = self.services();
        services.gate.admit(asked.client.ip)?;
        if self.metrics.subscriptions() >= services.options.limit as u64 {
            return Err(Rejection::Crowded);
        }
        let id = self.numbers.get() + 1;
        self.numbers.set(id);
        let follower = Rc::new(Follower::new(id, asked, way, expires, Rc::clone(&self.hub)));
        let weak = Rc::downgrade(&follower);
        let owner: Weak<dyn Owner> = weak;
        let binding = self.hub.binding(asked.uri.clone(), None, owner);
        let binding = binding.map_err(|_| Rejection::Crowded)?;
        binding.held.replace(Some(held));
        self.all.borrow_mut().insert(id, (Rc::clone(&follower), Rc::clone(&binding)));
        self.hub.metrics().subscribed(way);
        let follow = Follow::new(Rc::clone(self), follower, Rc::clone(&binding));
        let waiting = self.hub.wait(&binding, asked.client.clone(), Purpose::Autobind);
        waiting.map_err(|_| Rejection::Crowded)?;
        if self.draining.get() {
            follow.end(Over::Left("drain"));
        }
        Ok(follow)
    }

    fn forget(&self, id: u64, way: Way) {
        self.all.borrow_mut().remove(&id);
        self.hub.metrics().unsubscribed(way);
    }
}

/// When the client of this subscription is to come back.
fn return_after(id: u64) -> Duration {
    Duration::from_secs(1 + id % RETURN_SPREAD)
}
