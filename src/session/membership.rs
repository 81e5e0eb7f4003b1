//! What a session has to do with channels: where it is subscribed, and what it waits for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::asks::Occasion;
use super::registry::RETURN_SPREAD;
use super::{Session, Sessions};
use crate::channel::{Overflow, Published, Rule};
use crate::protocol::{Close, Message};

/// One session on one channel. Held by both, until it is left.
pub(super) struct Subscription {
    pub(super) channel: Arc<str>,
    pub(super) session: Rc<Session>,
    /// What was said up to this place, the client knows.
    pub(super) from: Cell<u64>,
    /// The client is told who comes and goes, if it was after this place.
    pub(super) watches: Cell<Option<u64>>,
    /// Others are told that this one is there.
    pub(super) is_shown: Cell<bool>,
    /// The upstream is asked whether it may stay; what is said meanwhile counts as lost.
    pub(super) withheld: Cell<bool>,
    /// How it ends when it is too slow.
    pub(super) overflow: Cell<Overflow>,
    pub(super) trial: Trial,
}

/// Whether a subscription is to be judged again, and why.
#[derive(Default)]
pub(super) struct Trial {
    /// There while a task sees to it.
    occasion: Cell<Option<Occasion>>,
    calls: Cell<u64>,
}

impl Trial {
    /// It is to be judged. Whether somebody has to see to it, because nobody does.
    pub(super) fn call(&self, occasion: Occasion) -> bool {
        self.calls.set(self.calls.get() + 1);
        let pending = self.occasion.get();
        // That it is time is less than anything else.
        let is_less = occasion == Occasion::Time && pending.is_some();
        self.occasion.set(if is_less { pending } else { Some(occasion) });
        pending.is_none()
    }

    /// Why, and up to which call; none when all is done.
    pub(super) fn begin(&self) -> Option<(Occasion, u64)> {
        Some((self.occasion.get()?, self.calls.get()))
    }

    /// Judged, unless it was called again since.
    pub(super) fn ends(&self, call: u64) -> bool {
        let is_last = self.calls.get() == call;
        if is_last {
            self.drop_it();
        }
        is_last
    }

    pub(super) fn drop_it(&self) {
        self.occasion.set(None);
    }
}

impl Subscription {
    pub(super) fn new(channel: Arc<str>, session: Rc<Session>) -> Self {
        Self {
            channel,
            session,
            from: Cell::new(0),
            watches: Cell::new(None),
            is_shown: Cell::new(false),
            withheld: Cell::new(false),
            overflow: Cell::new(Overflow::Lost),
            trial: Trial::default(),
        }
    }

    pub(super) fn go_by(&self, rule: Option<&Rule>) {
        self.overflow.set(rule.map_or(Overflow::Lost, |rule| rule.overflow));
    }

    fn is_news(&self, published: &Published) -> bool {
        if published.place == 0 {
            return true;
        }
        match published.of_presence {
            true => self.watches.get().is_some_and(|from| published.place > from),
            false => published.place > self.from.get(),
        }
    }

    /// Gives the client an event. None if it is not for it, and false if it was lost.
    pub(super) fn give(&self, published: &Published, limit: usize) -> Option<bool> {
        if !self.is_news(published) {
            return None;
        }
        if self.withheld.get() {
            self.session.outbox.lose(&self.channel, 1);
            return Some(false);
        }
        let outbox = &self.session.outbox;
        let taken = outbox.push_event(&self.channel, published.frame(outbox.dialect), limit);
        if !taken {
            self.close_if_it_must();
        }
        self.session.owe_flush();
        Some(taken)
    }

    /// Events were lost before they reached the session.
    pub(super) fn lose(&self, count: u64) {
        self.session.outbox.lose(&self.channel, count);
        self.close_if_it_must();
        self.session.owe_flush();
    }

    fn close_if_it_must(&self) {
        if self.overflow.get() == Overflow::Close {
            let socket = self.session.socket();
            socket.close(&Close::Overloaded { retry_after: 1 + socket.id % RETURN_SPREAD });
        }
    }
}

/// Nothing, for a session that has nothing to do with channels.
#[derive(Default)]
pub(super) struct Channels(RefCell<Option<Box<State>>>);

#[derive(Default)]
struct State {
    subscriptions: Vec<Rc<Subscription>>,
    /// Channels of which the upstream is asked something, and what is to be done there after.
    lanes: Vec<(Arc<str>, VecDeque<Message>)>,
    /// Made for this socket.
    id: Option<Arc<str>>,
    subject: Option<Arc<str>>,
    /// When the upstream is asked again whether the session may stay on its channels.
    recheck: Option<Instant>,
}

impl Channels {
    fn read<T: Default>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.0.borrow().as_deref().map(read).unwrap_or_default()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(self.0.borrow_mut().get_or_insert_default())
    }

    pub(super) fn count(&self) -> usize {
        self.read(|state| state.subscriptions.len())
    }

    pub(super) fn all(&self) -> Vec<Rc<Subscription>> {
        self.read(|state| state.subscriptions.clone())
    }

    pub(super) fn find(&self, channel: &str) -> Option<Rc<Subscription>> {
        self.read(|state| {
            state.subscriptions.iter().find(|other| &*other.channel == channel).cloned()
        })
    }

    pub(super) fn add(&self, subscription: Rc<Subscription>) {
        self.change(|state| state.subscriptions.push(subscription));
    }

    pub(super) fn remove(&self, channel: &str) -> Option<Rc<Subscription>> {
        let mut state = self.0.borrow_mut();
        let subscriptions = &mut state.as_deref_mut()?.subscriptions;
        let at = subscriptions.iter().position(|other| &*other.channel == channel)?;
        Some(subscriptions.remove(at))
    }

    pub(super) fn take(&self) -> Vec<Rc<Subscription>> {
        self.0
            .borrow_mut()
            .as_deref_mut()
            .map(|state| std::mem::take(&mut state.subscriptions))
            .unwrap_or_default()
    }

    /// Whether something on that channel must wait for what is asked of it.
    pub(super) fn has_lane(&self, channel: &str) -> bool {
        self.read(|state| state.lanes.iter().any(|(other, _)| &**other == channel))
    }

    /// Opens the lane of a channel for a message that is asked for.
    pub(super) fn open_lane(&self, channel: &str) {
        self.change(|state| state.lanes.push((channel.into(), VecDeque::new())));
    }

    /// Puts a message behind the others on its channel.
    pub(super) fn queue(&self, channel: &str, message: Message) {
        self.change(|state| {
            if let Some((_, lane)) = state.lanes.iter_mut().find(|(other, _)| &**other == channel) {
                lane.push_back(message);
            }
        });
    }

    /// One message is done; gives the next, or closes the lane.
    pub(super) fn next(&self, channel: &str) -> Option<Message> {
        self.change(|state| {
            let at = state.lanes.iter().position(|(other, _)| &**other == channel)?;
            let next = state.lanes[at].1.pop_front();
            if next.is_none() {
                state.lanes.swap_remove(at);
            }
            next
        })
    }

    /// How the session is called where it is shown who is there.
    pub(super) fn id(&self, make: impl FnOnce() -> Arc<str>) -> Arc<str> {
        self.change(|state| Arc::clone(state.id.get_or_insert_with(make)))
    }

    pub(super) fn subject(&self) -> Option<Arc<str>> {
        self.read(|state| state.subject.clone())
    }

    /// Says whether it is another than before.
    pub(super) fn set_subject(&self, subject: Option<&str>) -> bool {
        if self.subject().as_deref() == subject {
            return false;
        }
        self.change(|state| state.subject = subject.map(Arc::from));
        true
    }

    pub(super) fn recheck(&self) -> Option<Instant> {
        self.read(|state| state.recheck)
    }

    pub(super) fn recheck_at(&self, at: Option<Instant>) {
        if self.recheck() != at {
            self.change(|state| state.recheck = at);
        }
    }
}

impl Sessions {
    /// An event of a channel that keeps no order: who is on this worker hears it at once.
    pub(super) fn publish(&self, published: &Published) {
        self.publish_here(published);
        self.hub.publish(published);
    }

    pub(super) fn publish_here(&self, published: &Published) {
        let metrics = self.hub.metrics();
        let limit = self.services().options.outbox_bytes;
        for subscription in self.members.others(&published.channel, published.but) {
            match subscription.give(published, limit) {
                Some(true) => metrics.channel_events.add(1),
                Some(false) => metrics.channel_events_lost.add(1),
                None => {}
            }
        }
    }

    /// What a socket is called where others are shown it: the same as long as it is open, and told
    /// by nothing else.
    pub(super) fn name_for(&self, session: u64) -> Arc<str> {
        format!("{:016x}", self.names.hash_one(session)).into()
    }

    /// What the upstream has said of channels counts no more, in whatever namespace.
    pub(super) fn forget_what_was_asked(&self) {
        self.asks.forget();
        self.namespaces().iter().for_each(|namespace| namespace.sessions.asks.forget());
    }
}
