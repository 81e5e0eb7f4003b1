//! The views of this node, found by URI and by change, and the tasks that fetch them.
//!
//! Every view has one home: the worker that fetches it, chosen by hash, so that one change costs
//! one GET per audience however many workers there are. Each worker with members has a mirror of
//! it. Between home and mirrors go messages; inside a worker nothing is shared or locked.

mod channels;
mod drive;
mod extras;
pub mod fetch;
mod history;
mod home;
pub mod items;
pub mod mail;
pub mod mirror;
mod node;
pub mod outlook;
mod purpose;
mod settings;
mod terms;
pub mod written;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use self::home::Home;
use self::mail::{Credentials, Mail, Mailbox, Seat};
use self::mirror::{Binding, Mirror, Owner, Purpose};
pub use self::node::Node;
pub use self::settings::{Refetches, Settings, Standing};
use self::written::{Expectation, Written};
use crate::audience::ViewKey;
use crate::change::Change;
use crate::channel::Published;
use crate::headers::ClientAddress;
use crate::metrics;
use crate::protocol::Reason;
use crate::route::{Push, Visibility};
use crate::uri::Uri;
use crate::view::Pace;

/// How views are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Shortest time between two refetches of one view; the last change is always fetched.
    pub min_interval: Duration,
    /// Refetches under way at once, on the whole node.
    pub refetch_concurrency: usize,
    /// How long the truth may be unknown before clients are told `stale`.
    pub stale_after: Duration,
    /// Longest time without a fetch of a view with credentials.
    pub recheck: Option<Duration>,
    /// Earlier states that a view remembers while a member wants patches.
    pub history: usize,
    /// Fields that carry credentials besides `Authorization` and `Cookie`.
    pub credential_headers: Vec<HeaderName>,
    /// Largest state, in bytes.
    pub body_bytes: usize,
    /// Longest that one fetch may take, body included.
    pub fetch_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_millis(100),
            refetch_concurrency: 32,
            stale_after: Duration::from_secs(30),
            recheck: None,
            history: 4,
            credential_headers: Vec::new(),
            body_bytes: 4 << 20,
            fetch_timeout: Duration::from_secs(60),
        }
    }
}

/// One worker's part of the hub.
pub struct Hub {
    worker: usize,
    mail: Arc<[Mailbox]>,
    settings: RefCell<Rc<Settings>>,
    home: Home,
    mirrors: RefCell<HashMap<Arc<ViewKey>, Rc<Mirror>>>,
    tickets: Cell<u64>,
    node: Node,
}

/// What arrived from other workers and is not about views.
#[derive(Debug)]
pub enum News {
    Published(Published),
    Lost {
        channel: Arc<str>,
        count: u64,
    },
    /// More channels lost events than are told apart.
    LostSomewhere {
        count: u64,
    },
    LoggedOut(Arc<Credentials>),
    /// More logouts than a worker keeps: every session with a credential ends.
    EverybodyOut,
}

/// Why a binding could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbound {
    /// The route has `realtime = false`.
    NotRealtime,
    /// The view's worker is too far behind.
    Overloaded,
}

impl Hub {
    /// `mail` has one mailbox for each worker; `worker` is this one's index.
    pub fn new(worker: usize, mail: Arc<[Mailbox]>, settings: Settings, node: Node) -> Rc<Self> {
        Rc::new(Self {
            worker,
            mail,
            settings: RefCell::new(Rc::new(settings)),
            home: Home::default(),
            mirrors: RefCell::default(),
            tickets: Cell::new(0),
            node,
        })
    }

    /// Marks every view that `change` may have touched dirty, on every worker. Does not wait.
    pub fn changed(&self, change: Change) {
        self.metrics().changes.add(1);
        self.hear_of(change);
    }

    /// The same of what is counted elsewhere.
    pub fn hear_of(&self, change: Change) {
        self.node.changed(&self.mail, change);
    }

    /// What this worker counts.
    pub fn metrics(&self) -> &metrics::Worker {
        self.node.metrics.worker(self.worker)
    }

    /// A write to `uri` begins, whose answer may be its new state.
    pub fn expect(&self, uri: Uri, host: Option<HeaderValue>) -> Expectation {
        self.node.writes.expect(uri, host)
    }

    /// As [`Hub::changed`], but the views of the expected URI wait for
    /// [`Hub::fulfilled`]. False if another write came between: then nothing is spared.
    pub fn changed_but(&self, expectation: &mut Expectation, change: Change) -> bool {
        let spares = self.node.writes.allow(expectation, &change);
        self.changed(Change { spared: spares.then(|| expectation.uri().clone()), ..change });
        spares
    }

    /// What was expected has come: the new state, or `None` for no good answer.
    pub fn fulfilled(&self, expectation: &Expectation, written: Option<Written>) {
        match written.filter(|_| self.node.writes.undisturbed(expectation)) {
            Some(written) => {
                let written = Arc::new(written);
                self.mail.iter().for_each(|mailbox| mailbox.written(&written));
            }
            None => self.changed(expectation.as_change()),
        }
    }

    /// Ends the sessions of a credential, on every worker.
    pub fn logged_out(&self, credentials: Credentials) {
        let credentials = Arc::new(credentials);
        self.mail.iter().for_each(|mailbox| mailbox.log_out(&credentials));
    }

    /// A binding that waits for nothing yet; see [`Hub::wait`].
    pub fn binding(
        &self,
        uri: Uri,
        spelling: Option<Box<str>>,
        owner: std::rc::Weak<dyn Owner>,
    ) -> Result<Rc<Binding>, Unbound> {
        let settings = self.settings();
        let route = settings.routes.of(uri.as_str());
        if !route.rule.realtime {
            return Err(Unbound::NotRealtime);
        }
        let public = route.rule.visibility == Visibility::Public;
        Ok(Binding::new(uri, spelling, public, owner))
    }

    /// Registers the binding, then asks for a fetch that starts after this; its answer goes to
    /// the owner with `purpose`.
    pub fn wait(
        &self,
        binding: &Rc<Binding>,
        client: ClientAddress,
        purpose: Purpose,
    ) -> Result<(), Unbound> {
        let mirror = match binding.mirror() {
            Some(mirror) => mirror,
            None => self.join(binding),
        };
        let (ticket, items) = (self.next_ticket(), purpose.wants_items() || binding.wants_items());
        if self.take_seat(&mirror, ticket, client, items) {
            binding.wait(ticket, purpose);
            mirror.await_with(binding);
            Ok(())
        } else {
            if !binding.live.get() && !binding.waits() {
                self.leave(binding);
            }
            Err(Unbound::Overloaded)
        }
    }

    /// Moves the binding to the view of its owner's present credential and judges it again.
    pub fn rejudge(
        &self,
        binding: &Rc<Binding>,
        client: ClientAddress,
        purpose: Purpose,
    ) -> Result<(), Unbound> {
        binding.remember();
        self.move_home(binding, client.clone())?;
        self.wait(binding, client, purpose)
    }

    /// Nothing for this binding follows.
    pub fn leave(&self, binding: &Binding) {
        let Some(mirror) = binding.mirror() else { return };
        mirror.remove(binding);
        self.metrics().bindings.subtract(1);
        if mirror.is_empty() {
            self.mirrors.borrow_mut().remove(&mirror.key);
            let leave = Seat::Leave { key: Arc::clone(&mirror.key), worker: self.worker };
            self.mail[mirror.key.home(self.mail.len())].leave_seat(leave);
        } else {
            self.forget_items(&mirror);
        }
    }

    fn join(&self, binding: &Rc<Binding>) -> Rc<Mirror> {
        let audience = match binding.owner() {
            Some(owner) => binding.audience(&*owner),
            None => crate::audience::Audience::nobody(),
        };
        let key = Arc::new(ViewKey::new(binding.uri.clone(), Arc::new(audience)));
        let mut mirrors = self.mirrors.borrow_mut();
        let mirror =
            mirrors.entry(key).or_insert_with_key(|key| Rc::new(Mirror::new(Arc::clone(key))));
        mirror.add(binding);
        if binding.takes_patches() {
            mirror.follow(self.options().history);
        }
        self.metrics().bindings.add(1);
        Rc::clone(mirror)
    }

    /// Leaves the present view for the one of the owner's present audience; who waited goes on.
    fn move_home(&self, binding: &Rc<Binding>, client: ClientAddress) -> Result<(), Unbound> {
        self.leave(binding);
        let mirror = self.join(binding);
        if !binding.waits() {
            return Ok(());
        }
        let ticket = self.next_ticket();
        binding.wait_again(ticket);
        mirror.await_with(binding);
        let taken = self.take_seat(&mirror, ticket, client, binding.wants_items());
        if taken { Ok(()) } else { Err(Unbound::Overloaded) }
    }

    fn next_ticket(&self) -> u64 {
        self.tickets.set(self.tickets.get() + 1);
        self.tickets.get()
    }

    /// Reads this worker's mail for ever; `tell` gets what is not about views.
    pub async fn run(self: Rc<Self>, mut tell: impl FnMut(News)) {
        loop {
            let mail = self.mail[self.worker].collect().await;
            self.read(mail, &mut tell);
        }
    }

    fn read(self: &Rc<Self>, mail: Mail, tell: &mut impl FnMut(News)) {
        let mailbox = &self.mail[self.worker];
        for seat in mail.seats {
            if let Some(view) = self.home.take(seat, mailbox, |key| self.pace(key)) {
                self.attend(&view);
            }
        }
        // After the seats: a change must also reach the views that they opened, since the fetch
        // of such a view starts only when this turn is over, and none is missed.
        let now = Instant::now();
        if mail.begin_again {
            self.begin_again(now);
        }
        self.lose_items(mail.everything_changed.is_some());
        let everything = mail.everything_changed.map(Change::of_everything).map(Arc::new);
        for change in mail.changes.iter().chain(&everything) {
            self.home.remember(change, now);
            for view in self.home.touched(change) {
                if !change.names(&view.key.uri.key()) {
                    self.doubt(&view);
                }
                if let Some(trace) = &change.trace {
                    view.trace.replace(Some(Arc::clone(trace)));
                }
                view.note_items(change);
                view.view.borrow_mut().change(now, &change.settle);
                self.attend(&view);
            }
        }
        for written in &mail.written {
            self.take_written(written);
        }
        for delivery in mail.deliveries {
            let mirror = self.mirrors.borrow().get(&delivery.key).cloned();
            let Some(mirror) = mirror else { continue };
            for binding in mirror.apply(delivery.covers, &delivery.verdict, delivery.items) {
                self.rehome(&binding);
            }
            self.forget_items(&mirror);
        }
        mail.published.into_iter().for_each(|published| tell(News::Published(published)));
        mail.lost.into_iter().for_each(|(channel, count)| tell(News::Lost { channel, count }));
        if mail.lost_somewhere > 0 {
            tell(News::LostSomewhere { count: mail.lost_somewhere });
        }
        mail.logouts.into_iter().for_each(|credentials| tell(News::LoggedOut(credentials)));
        if mail.everybody_out {
            tell(News::EverybodyOut);
        }
    }

    /// Shows a write's own answer to the views that are not in the middle of something else.
    fn take_written(self: &Rc<Self>, written: &Written) {
        let now = Instant::now();
        for view in self.home.views_of(&written.uri) {
            let mut fields = view.key.audience.fields().iter();
            let host = fields.find(|(name, _)| *name == http::header::HOST);
            let verdict = match host.map(|(_, value)| value) == written.host.as_ref() {
                true => view.view.borrow_mut().replace(written.state(), written.began),
                false => None,
            };
            let settle = written.settle();
            if verdict.is_some() {
                let later = settle.iter().map(|delay| now + *delay);
                view.view.borrow_mut().ask_at(later);
                self.deliver(&view, verdict);
                self.attend_items(&view);
            } else {
                view.view.borrow_mut().change(now, settle);
            }
            self.attend(&view);
        }
    }

    /// The upstream's `Vary` named a field that this member sends and its view's fetch did not.
    fn rehome(&self, binding: &Rc<Binding>) {
        let client = binding.owner().map(|owner| owner.client());
        let Some(client) = client else { return };
        let moved = if binding.live.get() || !binding.waits() {
            // The other view may be behind what the client holds: nothing of it is shown until it
            // was fetched for this member too.
            self.rejudge(binding, client, Purpose::Rejudge(Reason::Forbidden))
        } else {
            self.move_home(binding, client)
        };
        if let Err(Unbound::NotRealtime | Unbound::Overloaded) = moved
            && let Some(owner) = binding.owner()
        {
            owner.overloaded(binding);
        }
    }

    fn pace(&self, key: &ViewKey) -> Pace {
        let settings = self.settings();
        let (options, route) = (&settings.options, settings.routes.of(key.uri.as_str()));
        let authorised = key.audience.has_credentials(&options.credential_headers);
        Pace {
            min_interval: route.rule.min_interval.unwrap_or(options.min_interval),
            stale_after: options.stale_after,
            recheck: options.recheck.filter(|_| authorised),
            poll: route.rule.poll,
            spread: key.spread(),
            notify: route.rule.push == Push::Notify,
            single_use: key.audience.is_single_use(),
        }
    }
}
