//! One client that follows a view over plain HTTP. What it lacks is not queued: it is asked for when
//! the client takes bytes, and then it is the latest.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::{Asked, Subscriptions, return_after};
use crate::audience::Viewer;
use crate::headers::ClientAddress;
use crate::hub::Hub;
use crate::hub::mirror::{Binding, Owner, Purpose};
use crate::metrics::Way;
use crate::protocol::Reason;
use crate::view::{End, State, Verdict};

/// Why nothing more follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The client may not have what follows.
    Unbound(Reason),
    /// It may come back; why it has to is for the log alone.
    Left(&'static str),
}

impl Over {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unbound(reason) => reason.name(),
            Self::Left(why) => why,
        }
    }
}

/// What the client is to be told next.
#[derive(Debug)]
pub(super) enum Notice {
    State(Arc<State>),
    /// What it holds may be old.
    Stale,
    /// What it holds is the latest after all.
    Fresh,
    Over(Over),
}

/// The client, as the hub sees it.
pub(super) struct Follower {
    pub(super) id: u64,
    hub: Rc<Hub>,
    pub(super) viewer: Rc<Viewer>,
    pub(super) client: ClientAddress,
    pub(super) host: Option<HeaderValue>,
    pub(super) way: Way,
    pub(super) born: Instant,
    /// When the credential ends that Pogo has found good.
    pub(super) expires: Option<Instant>,
    /// There may be something that the client lacks.
    owed: Cell<bool>,
    over: Cell<Option<Over>>,
    waker: RefCell<Option<Waker>>,
}

impl Follower {
    pub(super) fn new(
        id: u64,
        asked: &Asked,
        way: Way,
        expires: Option<Instant>,
        hub: Rc<Hub>,
    ) -> Self {
        Self {
            id,
            hub,
            viewer: Rc::clone(&asked.viewer),
            client: asked.client.clone(),
            host: asked.host.clone(),
            way,
            born: Instant::now(),
            expires,
            owed: Cell::new(false),
            over: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    pub(super) fn end(&self, over: Over) {
        if self.over.get().is_none() {
            self.over.set(Some(over));
            self.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Owner for Follower {
    fn id(&self) -> u64 {
        self.id
    }

    fn viewer(&self) -> Rc<Viewer> {
        Rc::clone(&self.viewer)
    }

    fn client(&self) -> ClientAddress {
        self.client.clone()
    }

    fn owe(&self, _binding: &Rc<Binding>) {
        self.owed.set(true);
        self.wake();
    }

    fn answer(&self, binding: &Rc<Binding>, _purpose: Purpose, verdict: &Verdict) {
        match verdict {
            Verdict::Live { .. } => {}
            Verdict::Failed(_) if binding.live.get() || binding.waits() => {}
            // Nothing would be shown, whatever the view comes to.
            Verdict::Failed(_) => self.end(Over::Left("view_unavailable")),
            Verdict::Ended(_) => self.end(Over::Unbound(Reason::Forbidden)),
        }
    }

    fn ended(&self, binding: &Rc<Binding>, _end: &End) {
        self.hub.leave(binding);
        self.end(Over::Unbound(Reason::Forbidden));
    }

    fn lapsed(&self, _binding: &Rc<Binding>) {
        self.end(Over::Unbound(Reason::Forbidden));
    }

    fn overloaded(&self, binding: &Rc<Binding>) {
        self.hub.leave(binding);
        self.end(Over::Left("view_unavailable"));
    }
}

/// A follower's place in its view, given up when it is dropped.
pub(super) struct Follow {
    subscriptions: Rc<Subscriptions>,
    follower: Rc<Follower>,
    binding: Rc<Binding>,
}

impl Follow {
    pub(super) fn new(
        subscriptions: Rc<Subscriptions>,
        follower: Rc<Follower>,
        binding: Rc<Binding>,
    ) -> Self {
        Self { subscriptions, follower, binding }
    }

    pub(super) fn end(&self, over: Over) {
        self.follower.end(over);
    }

    pub(super) fn return_after(&self) -> Duration {
        return_after(self.follower.id)
    }

    /// What brings the client from what it holds to the latest, and what it has to know of that.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Notice> {
        let (follower, binding) = (&self.follower, &self.binding);
        follower.listen(cx);
        if let Some(over) = follower.over.get() {
            return Poll::Ready(Notice::Over(over));
        }
        if !follower.owed.replace(false) {
            return Poll::Pending;
        }
        let Some((state, stale)) = binding.latest().filter(|_| binding.live.get()) else {
            return Poll::Pending;
        };
        if binding.held.borrow().as_deref() != Some(&*state.version) {
            binding.held.replace(Some(Arc::clone(&state.version)));
            binding.told_stale.set(binding.told_stale.get() && stale);
            follower.owed.set(stale);
            self.subscriptions.hub.metrics().states.add(1);
            return Poll::Ready(Notice::State(state));
        }
        match (binding.told_stale.replace(stale), stale) {
            (false, true) => Poll::Ready(Notice::Stale),
            (true, false) => Poll::Ready(Notice::Fresh),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.subscriptions.hub.leave(&self.binding);
        self.subscriptions.forget(self.follower.id, self.follower.way);
    }
}
