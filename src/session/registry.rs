//! Every socket of one worker: their timers, their flusher, their channels, their drain.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::asks::Asks;
use super::beginning::{Beginning, Opening};
use super::inflate::Inflater;
use super::membership::Subscription;
use super::namespaces::{Namespace, Outlet};
use super::outbox::Outbox;
use super::{Connection, Options, Session};
use crate::audience::Viewer;
use crate::channel::{self, Members};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::gate::auth::Authenticator;
use crate::gate::rate::Limiter;
use crate::handlers::{Handlers, Hooks};
use crate::hub::{Hub, News};
use crate::protocol::Close;
use crate::route::Routes;
use crate::transport::Transport;

/// What every socket of a worker uses, in one namespace. Replaced whole.
#[derive(Clone)]
pub struct Services {
    pub options: Rc<Options>,
    pub exchange: Rc<Exchange>,
    pub gate: Arc<Gate>,
    pub authenticator: Arc<Authenticator>,
    /// Tokens are checked by Pogo (`auth.verify` or `auth.jwt`), so "authenticated" means something.
    pub verifies: bool,
    pub auth_required: bool,
    pub routes: Arc<Routes>,
    pub channels: Arc<[channel::Rule]>,
    pub credential_headers: Vec<HeaderName>,
    pub handlers: Arc<Handlers>,
    /// Asks handlers elsewhere than at the API, if there are any.
    pub hooks: Option<Hooks>,
    /// Messages in this namespace, besides what all messages may be.
    pub messages: Option<Arc<Limiter>>,
    /// All but `/`; of `/` alone.
    pub namespaces: Vec<Namespace>,
}

/// One worker's sockets.
pub struct Sessions {
    services: RefCell<Rc<Services>>,
    /// The rules of channels before those that hold now.
    rules_before: RefCell<Arc<[channel::Rule]>>,
    pub(super) hub: Rc<Hub>,
    pub(super) tasks: TaskTracker,
    /// Sockets whose credential is judged again at one time.
    pub(super) judges: Semaphore,
    pub(super) all: RefCell<HashMap<u64, Rc<Session>>>,
    /// By channel, as Pogo calls it: of all namespaces.
    pub(super) members: Rc<Members<Rc<Subscription>>>,
    pub(super) asks: Asks,
    /// Makes the names under which sockets are shown.
    pub(super) names: RandomState,
    owed: RefCell<VecDeque<Rc<Session>>>,
    bell: Notify,
    timers: RefCell<BinaryHeap<Reverse<(Instant, u64)>>>,
    scratch: RefCell<Box<[u8]>>,
    pub(super) inflater: RefCell<Inflater>,
    numbers: Cell<u64>,
    draining: Cell<Option<u64>>,
    emptied: Notify,
}

/// Bytes read from a socket at once; shared by all sockets of a worker.
const SCRATCH: usize = 16 * 1024;
/// Sockets flushed before other tasks get their turn.
const FLUSHES_PER_TURN: usize = 256;
/// So many sockets of a worker ask the upstream about their credential at one time when what
/// checks credentials was replaced.
const JUDGES: usize = 16;
/// A restart spreads its clients' return over this many seconds.
pub(super) const RETURN_SPREAD: u64 = 10;

impl Sessions {
    /// `worker` makes the numbers of sessions distinct on the node.
    pub fn new(worker: usize, hub: Rc<Hub>, tasks: TaskTracker, services: Services) -> Rc<Self> {
        Rc::new(Self {
            rules_before: RefCell::new(Arc::clone(&services.channels)),
            services: RefCell::new(Rc::new(services)),
            hub,
            tasks,
            judges: Semaphore::new(JUDGES),
            all: RefCell::default(),
            members: Rc::default(),
            asks: Asks::default(),
            names: RandomState::new(),
            owed: RefCell::default(),
            bell: Notify::new(),
            timers: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            inflater: RefCell::default(),
            numbers: Cell::new((worker as u64) << 48),
            draining: Cell::new(None),
            emptied: Notify::new(),
        })
    }

    /// Those of a namespace, with no sockets but parts of these sockets.
    pub fn of_namespace(&self, hub: Rc<Hub>, services: Services) -> Rc<Self> {
        Rc::new(Self {
            rules_before: RefCell::new(Arc::clone(&services.channels)),
            services: RefCell::new(Rc::new(services)),
            hub,
            tasks: self.tasks.clone(),
            judges: Semaphore::new(0),
            all: RefCell::default(),
            members: Rc::clone(&self.members),
            asks: Asks::default(),
            names: self.names.clone(),
            owed: RefCell::default(),
            bell: Notify::new(),
            timers: RefCell::default(),
            scratch: RefCell::default(),
            inflater: RefCell::default(),
            numbers: Cell::new(0),
            draining: Cell::new(None),
            emptied: Notify::new(),
        })
    }

    pub fn hub(&self) -> Rc<Hub> {
        Rc::clone(&self.hub)
    }

    /// All namespaces but `/`.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.services().namespaces.clone()
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        let services = self.services();
        services.namespaces.iter().any(|namespace| namespace.name.as_str() == name)
    }

    /// Those of a namespace go by these from now on. Its parts are looked at again when their
    /// sockets are.
    pub fn succeed(&self, services: Services) {
        self.replace_services(services);
    }

    /// What a socket may do that is opened now.
    pub fn options(&self) -> Rc<Options> {
        Rc::clone(&self.services().options)
    }

    /// What holds now. What begins with it is to end with it.
    pub(super) fn services(&self) -> Rc<Services> {
        Rc::clone(&self.services.borrow())
    }

    /// From now on these hold; gives those that did. What the upstream said of channels may have
    /// been another's word.
    pub(super) fn replace_services(&self, services: Services) -> Rc<Services> {
        let before = self.services.replace(Rc::new(services));
        self.rules_before.replace(Arc::clone(&before.channels));
        self.asks.forget();
        before
    }

    pub(super) fn rules_before(&self) -> Arc<[channel::Rule]> {
        Arc::clone(&self.rules_before.borrow())
    }

    /// Takes over a socket after its handshake.
    pub fn open(self: &Rc<Self>, stream: Transport, read_ahead: Bytes, opening: Opening) {
        let id = self.numbers.get() + 1;
        self.numbers.set(id);
        let services = self.services();
        let viewer = Viewer::from_handshake(&opening.headers, &services.credential_headers);
        let session = Session::begin(Beginning {
            id,
            sessions: Rc::clone(self),
            connection: Some(Connection { stream, _slot: opening.slot }),
            client: opening.client,
            host: opening.host,
            outbox: Outlet::Own(Outbox::new(opening.dialect)),
            extra: OnceCell::new(),
            viewer: Rc::new(viewer),
            authenticated: false,
        });
        tracing::debug!(session = id, client = %session.client.ip, "socket opened");
        self.all.borrow_mut().insert(id, Rc::clone(&session));
        self.hub.metrics().sessions.add(1);
        self.arm(&session);
        if let Some(home) = opening.namespace {
            session.settle_in(&home);
        }
        session.check_handshake(&opening.headers);
        if let Some(retry_after) = self.draining.get() {
            session.leave(retry_after);
        }
        if let Some(close) = session.shut_out() {
            // Since it was let in.
            session.close(&close);
        }
        self.tasks.spawn_local(session.serve(read_ahead));
    }

    /// What other workers have to say.
    pub fn tell(&self, news: News) {
        match news {
            News::Published(published) => self.publish_here(&published),
            News::Lost { channel, count } => {
                let metrics = self.hub.metrics();
                for member in self.members.others(&channel, None) {
                    metrics.channel_events_lost.add(count);
                    member.lose(count);
                }
            }
            News::LostSomewhere { count } => {
                let sessions: Vec<_> = self.all.borrow().values().cloned().collect();
                let parts = sessions.iter().flat_map(|session| session.parts());
                for session in parts.chain(sessions.iter().cloned()) {
                    session.channels.all().iter().for_each(|subscription| subscription.lose(count));
                }
            }
            News::LoggedOut(credentials) => {
                self.forget_what_was_asked();
                self.log_out(|session| session.viewer.borrow().shares_credential(&credentials));
            }
            News::EverybodyOut => {
                self.forget_what_was_asked();
                self.log_out(|session| !session.viewer.borrow().credentials().is_empty());
            }
        }
    }

    fn log_out(&self, wanted: impl Fn(&Session) -> bool) {
        let close = Close::Unauthorized("logged out");
        self.close_those(|session| wanted(session).then(|| close.clone()));
    }

    /// Closes the sockets of addresses that may not be here any more; how many there were.
    pub fn end_the_shut_out(&self) -> usize {
        self.close_those(Session::shut_out)
    }

    fn close_those(&self, why: impl Fn(&Session) -> Option<Close>) -> usize {
        let sessions: Vec<_> = self.all.borrow().values().cloned().collect();
        let to_close = sessions.iter().filter_map(|session| Some((session, why(session)?)));
        to_close.map(|(session, close)| session.close(&close)).count()
    }

    /// Closes every socket with 1001, after the answers that it waits for, until all are gone. A socket opened meanwhile is
    /// closed too.
    pub async fn drain(&self) {
        self.draining.set(Some(1));
        let sessions: Vec<_> = self.all.borrow().values().cloned().collect();
        for session in sessions {
            session.leave(1 + session.id % RETURN_SPREAD);
        }
        while !self.all.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }

    pub(super) fn forget(&self, id: u64) {
        self.all.borrow_mut().remove(&id);
        self.hub.metrics().sessions.subtract(1);
        if self.all.borrow().is_empty() {
            self.emptied.notify_one();
        }
    }

    pub(super) fn with_scratch<T>(
        &self,
        read: impl FnOnce(&mut [u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        read(&mut self.scratch.borrow_mut())
    }

    pub(super) fn owe(&self, session: Rc<Session>) {
        self.owed.borrow_mut().push_back(session);
        self.bell.notify_one();
    }

    /// Writes what sockets are owed, for ever. A publish only queues; here every owed socket is
    /// written to once per turn.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.bell.notified().await;
            let mut flushed = 0;
            while let Some(session) = self.next_owed() {
                session.flush();
                flushed += 1;
                if flushed % FLUSHES_PER_TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn next_owed(&self) -> Option<Rc<Session>> {
        self.owed.borrow_mut().pop_front()
    }

    /// Has the session looked at when its next deadline is due.
    pub(super) fn arm(&self, session: &Session) {
        self.arm_by(session, session.next_deadline());
    }

    /// As [`Sessions::arm`], but something is due at `at`.
    pub(super) fn arm_by(&self, session: &Session, at: Instant) {
        if session.wakes_at.get().is_none_or(|armed| armed > at) {
            session.wakes_at.set(Some(at));
            self.timers.borrow_mut().push(Reverse((at, session.id)));
        }
    }

    /// Keeps the sockets' timers; called on every tick of the worker.
    pub fn keep_time(&self) {
        let now = Instant::now();
        self.asks.sweep(now);
        for namespace in &self.services().namespaces {
            namespace.sessions.asks.sweep(now);
        }
        while let Some(session) = self.due(now) {
            session.on_time(now);
            if !session.over.get() {
                self.arm(&session);
            }
        }
    }

    /// Takes the next session whose entry is due; entries that were superseded are dropped.
    fn due(&self, now: Instant) -> Option<Rc<Session>> {
        let mut timers = self.timers.borrow_mut();
        while let Some(Reverse((at, id))) = timers.peek().copied() {
            if at > now {
                return None;
            }
            timers.pop();
            let session = self.all.borrow().get(&id).cloned();
            if let Some(session) = session.filter(|session| session.wakes_at.get() == Some(at)) {
                session.wakes_at.set(None);
                return Some(session);
            }
        }
        None
    }
}
