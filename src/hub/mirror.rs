//! The members of a view on one worker, and the last state that reached them.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::extras::Extras;
use super::history::Patch;
pub use super::purpose::{Ask, Purpose};
use super::terms::Terms;
use crate::audience::{Audience, Vary, ViewKey, Viewer};
use crate::headers::ClientAddress;
use crate::namespace::Name;
use crate::uri::Uri;
use crate::view::items::{Log, Reading};
use crate::view::{End, State, Verdict};

/// What a binding belongs to, a socket or a request of plain HTTP, as the hub sees it.
pub trait Owner {
    fn id(&self) -> u64;
    fn viewer(&self) -> Rc<Viewer>;
    /// Its address, for `X-Forwarded-For`.
    fn client(&self) -> ClientAddress;
    /// What its client is told with each event; none is `/`.
    fn namespace(&self) -> Option<Rc<Name>> {
        None
    }
    /// The binding's state is not what the client holds: send the latest when the socket takes it.
    fn owe(&self, binding: &Rc<Binding>);
    /// What `purpose` waited for has come.
    fn answer(&self, binding: &Rc<Binding>, purpose: Purpose, verdict: &Verdict);
    /// The binding is over: nothing more will come for it.
    fn ended(&self, binding: &Rc<Binding>, end: &End);
    /// What was shown so far may no longer be; a later answer is still waited for.
    fn lapsed(&self, binding: &Rc<Binding>);
    /// The view's worker cannot take the binding: it is over too.
    fn overloaded(&self, binding: &Rc<Binding>);
}

/// One client's binding to one URI.
pub struct Binding {
    pub uri: Uri,
    /// The client's own spelling, where it is not the canonical one.
    pub spelling: Option<Box<str>>,
    pub namespace: Option<Rc<Name>>,
    pub versioned: Cell<bool>,
    /// The version that the client holds; `None` means that it was never shown any.
    pub held: RefCell<Option<Arc<str>>>,
    pub told_stale: Cell<bool>,
    /// Queued in the owner's outbox.
    pub ready: Cell<bool>,
    /// Answered at least once under the present credential; until then nothing is shown.
    pub live: Cell<bool>,
    owner: Weak<dyn Owner>,
    mirror: RefCell<Option<Rc<Mirror>>>,
    slot: Cell<usize>,
    pub(super) waiting: RefCell<Vec<(u64, Purpose)>>,
    /// What the client held under its previous credential: versions of two audiences do not
    /// compare, contents do.
    before: RefCell<Option<Arc<State>>>,
    /// The client holds something of a view that the binding has left.
    moved: Cell<bool>,
    /// Everything that answers to this binding ever named in `Vary`. It only grows, so that an
    /// upstream that changes its mind cannot send a binding round in circles.
    vary: RefCell<Option<Box<Vary>>>,
    /// Fetched without any credential.
    pub(super) public: Cell<bool>,
    /// What was asked for that few ask for.
    terms: OnceCell<Box<Terms>>,
}

/// One view on one worker.
pub struct Mirror {
    pub key: Arc<ViewKey>,
    pub state: RefCell<Option<Arc<State>>>,
    pub stale: Cell<bool>,
    pub(super) members: RefCell<Vec<Rc<Binding>>>,
    /// Those of them that wait for an answer: all that an answer concerns which changes nothing.
    waiters: Cell<Vec<Rc<Binding>>>,
    /// There while a member asks for more than states.
    pub(super) extras: Cell<Option<Box<Extras>>>,
}

impl Mirror {
    pub(super) fn new(key: Arc<ViewKey>) -> Self {
        Self {
            key,
            state: RefCell::new(None),
            stale: Cell::new(false),
            members: RefCell::new(Vec::new()),
            waiters: Cell::new(Vec::new()),
            extras: Cell::new(None),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    pub(super) fn add(self: &Rc<Self>, binding: &Rc<Binding>) {
        let mut members = self.members.borrow_mut();
        binding.slot.set(members.len());
        binding.mirror.replace(Some(Rc::clone(self)));
        members.push(Rc::clone(binding));
    }

    pub(super) fn remove(&self, binding: &Binding) {
        let mut members = self.members.borrow_mut();
        let slot = binding.slot.get();
        if slot < members.len() {
            members.swap_remove(slot);
            if let Some(moved) = members.get(slot) {
                moved.slot.set(slot);
            }
        }
        binding.mirror.replace(None);
        if binding.takes_patches() {
            self.unfollow();
        }
    }

    /// Takes in what the view's home says. Gives the members that must be bound again, because the
    /// upstream's `Vary` names something that only their own requests carry.
    pub(super) fn apply(
        &self,
        covers: u64,
        verdict: &Verdict,
        items: Option<Arc<Log>>,
    ) -> Vec<Rc<Binding>> {
        let concerns_all = match verdict {
            Verdict::Live { state, stale } => {
                let tells = self.tell(items);
                self.show(state, *stale) || tells
            }
            Verdict::Failed(_) => false,
            Verdict::Ended(_) => true,
        };
        // Owners add and remove members while they are told, so the list is not held.
        let waiters = self.waiters.take();
        let members = if concerns_all { self.members.borrow().clone() } else { waiters.clone() };
        let mut elsewhere = Vec::new();
        for member in &members {
            let Some(owner) = member.owner.upgrade() else { continue };
            if !member.is_of(self) {
                continue;
            }
            match verdict {
                Verdict::Live { state, .. }
                    if member.belongs_elsewhere(&*owner, state, &self.key) =>
                {
                    elsewhere.push(Rc::clone(member));
                }
                Verdict::Live { state, stale } => {
                    member.answer(&*owner, covers, verdict);
                    if member.live.get()
                        && (member.differs(state, *stale) || member.lacks_items(self))
                    {
                        owner.owe(member);
                    }
                }
                Verdict::Failed(_) => member.answer(&*owner, covers, verdict),
                Verdict::Ended(end) => {
                    if member.waits_beyond(covers) {
                        // Registered after the answer that ended the view: the home asks again.
                        if member.live.replace(false) {
                            owner.lapsed(member);
                        }
                    } else {
                        member.answer(&*owner, covers, verdict);
                        owner.ended(member, end);
                    }
                }
            }
        }
        let still_waiting = waiters.into_iter().filter(|one| one.waits() && one.is_of(self));
        // Whoever began to wait while the others were told.
        let mut waiters = self.waiters.take();
        waiters.extend(still_waiting);
        self.waiters.set(waiters);
        elsewhere
    }

    pub(super) fn await_with(&self, binding: &Rc<Binding>) {
        let mut waiters = self.waiters.take();
        waiters.push(Rc::clone(binding));
        self.waiters.set(waiters);
    }

    /// Takes the state in. True when it is another than the last, or was named by more `Vary`.
    fn show(&self, state: &Arc<State>, stale: bool) -> bool {
        let was_stale = self.stale.replace(stale);
        let before = self.state.replace(Some(Arc::clone(state)));
        if let Some(old) = before.as_ref().filter(|old| old.version != state.version) {
            self.with_history(|history| history.remember(old));
        }
        was_stale != stale
            || before.is_none_or(|old| old.version != state.version || old.vary != state.vary)
    }
}

impl Binding {
    pub fn new(
        uri: Uri,
        spelling: Option<Box<str>>,
        public: bool,
        owner: Weak<dyn Owner>,
    ) -> Rc<Self> {
        Rc::new(Self {
            uri,
            spelling,
            namespace: owner.upgrade().and_then(|owner| owner.namespace()),
            owner,
            public: Cell::new(public),
            versioned: Cell::new(false),
            held: RefCell::new(None),
            told_stale: Cell::new(false),
            ready: Cell::new(false),
            live: Cell::new(false),
            mirror: RefCell::new(None),
            slot: Cell::new(0),
            waiting: RefCell::new(Vec::new()),
            before: RefCell::new(None),
            moved: Cell::new(false),
            vary: RefCell::default(),
            terms: OnceCell::new(),
        })
    }

    /// The name under which the client knows the URI.
    pub fn name(&self) -> &str {
        self.spelling.as_deref().unwrap_or(self.uri.as_str())
    }

    /// The latest state and whether it may be old; `None` before the first and after the end.
    pub fn latest(&self) -> Option<(Arc<State>, bool)> {
        let mirror = self.mirror.borrow();
        let mirror = mirror.as_ref()?;
        let state = mirror.state.borrow().clone()?;
        Some((state, mirror.stale.get()))
    }

    /// What makes `state`, the latest, of the version `from`.
    pub fn patch(&self, from: &str, state: &State) -> Option<Rc<Patch>> {
        let mirror = self.mirror();
        mirror?.with_history(|history| history.patch(from, state))?
    }

    /// Changes may come as patches.
    pub fn takes_patches(&self) -> bool {
        self.terms().is_some_and(|terms| terms.delta.get())
    }

    pub fn terms(&self) -> Option<&Terms> {
        self.terms.get().map(|terms| &**terms)
    }

    /// For those that ask for more than most.
    pub fn own_terms(&self) -> &Terms {
        self.terms.get_or_init(Box::default)
    }

    pub(super) fn mirror(&self) -> Option<Rc<Mirror>> {
        self.mirror.borrow().clone()
    }

    pub(super) fn owner(&self) -> Option<Rc<dyn Owner>> {
        self.owner.upgrade()
    }

    pub(super) fn wait(&self, ticket: u64, purpose: Purpose) {
        self.waiting.borrow_mut().push((ticket, purpose));
    }

    /// Raises the ticket of all that wait, because they now wait at another view.
    pub(super) fn wait_again(&self, ticket: u64) {
        self.waiting.borrow_mut().iter_mut().for_each(|(at, _)| *at = ticket);
    }

    pub fn waits(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// The client has it, was it moved or not, or waits for what it has asked for. If not, only
    /// whether it may stay waits to be decided, of what has not come to be.
    pub fn is_wanted(&self) -> bool {
        let is_asked_for =
            || self.waiting.borrow().iter().any(|(_, it)| !matches!(it, Purpose::Rejudge(_)));
        self.live.get() || self.moved.get() || is_asked_for()
    }

    /// A `bind` of the client has not been answered yet.
    pub fn waits_for_answer(&self) -> bool {
        self.waiting.borrow().iter().any(|(_, purpose)| matches!(purpose, Purpose::Bind(_)))
    }

    /// Nothing is waited for any more; gives what was.
    pub fn give_up(&self) -> Vec<Purpose> {
        self.waiting.take().into_iter().map(|(_, purpose)| purpose).collect()
    }

    /// Remembers what the client holds, for comparing it by content under the next credential.
    pub(super) fn remember(&self) {
        let held = self.held.borrow().clone();
        let state = self.latest().map(|(state, _)| state);
        if let Some(state) = state.filter(|state| held.as_deref() == Some(&*state.version)) {
            self.before.replace(Some(state));
        }
        self.held.replace(None);
        self.read(Reading::NOTHING);
        self.moved.set(self.moved.get() || self.live.get());
        self.live.set(false);
    }

    /// The client was shown this version by the answer to a request. Whether it takes that or the
    /// last event for the latest cannot be known, so unless they are one the next answer is sent.
    pub fn shown(&self, version: &str) {
        if self.held.borrow().as_deref() != Some(version) {
            self.held.replace(None);
            self.before.replace(None);
            self.read(Reading::NOTHING);
        }
    }

    fn is_of(&self, mirror: &Mirror) -> bool {
        self.mirror.borrow().as_ref().is_some_and(|own| std::ptr::eq(&**own, mirror))
    }

    fn waits_beyond(&self, covers: u64) -> bool {
        self.waiting.borrow().iter().any(|(ticket, _)| *ticket > covers)
    }

    fn differs(&self, state: &State, stale: bool) -> bool {
        self.told_stale.get() != stale || self.held.borrow().as_deref() != Some(&*state.version)
    }

    /// Whose eyes the view must be fetched with, after all that the upstream said.
    pub(super) fn audience(&self, owner: &dyn Owner) -> Audience {
        let vary = self.vary.borrow();
        let vary = vary.as_deref().unwrap_or(Vary::NOTHING);
        owner.viewer().audience(self.public.get(), vary, owner.id())
    }

    fn belongs_elsewhere(&self, owner: &dyn Owner, state: &State, key: &ViewKey) -> bool {
        let mut vary = self.vary.borrow_mut();
        if vary.as_deref().unwrap_or(Vary::NOTHING).includes(&state.vary) {
            return false;
        }
        vary.get_or_insert_default().add(&state.vary);
        drop(vary);
        self.audience(owner) != *key.audience
    }

    fn answer(self: &Rc<Self>, owner: &dyn Owner, covers: u64, verdict: &Verdict) {
        // Of nearly every delivery this is all.
        if !self.waits() {
            return;
        }
        let due = {
            let mut waiting = self.waiting.borrow_mut();
            let failed = matches!(verdict, Verdict::Failed(_));
            // A re-judged binding cannot be judged by a failure: it goes on waiting, silently.
            let due = waiting
                .extract_if(.., |(ticket, purpose)| {
                    *ticket <= covers && !(failed && matches!(purpose, Purpose::Rejudge(_)))
                })
                .collect::<Vec<_>>();
            if waiting.is_empty() {
                // Most never wait again.
                *waiting = Vec::new();
            }
            due
        };
        if due.is_empty() {
            return;
        }
        let asks = due.iter().any(|(_, purpose)| purpose.wants_items());
        let without_items = if asks { self.without_items(verdict) } else { None };
        let is_good = |purpose: &Purpose| without_items.is_none() || !purpose.wants_items();
        let mut outdated = false;
        if let Verdict::Live { state, .. } = verdict
            && due.iter().any(|(_, purpose)| is_good(purpose))
        {
            self.live.set(true);
            let before = self.before.take();
            if before.is_some_and(|before| before.same_content(state)) {
                self.held.replace(Some(Arc::clone(&state.version)));
                self.read_embedded();
            } else {
                outdated = self.moved.get();
            }
            self.moved.set(false);
        }
        let shown = due.iter().any(|(_, purpose)| purpose.shows_the_state());
        for (_, purpose) in due {
            let refused = without_items.as_ref().filter(|_| purpose.wants_items());
            let verdict = refused.unwrap_or(verdict);
            owner.answer(self, purpose, verdict);
        }
        if outdated && !shown {
            // A bind without a version does not bring up to date what was held before the move.
            self.held.replace(None);
            self.read(Reading::NOTHING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What few ask for costs the others one word; with the counts of its `Rc`, a binding takes what
    /// the allocator gives for 28 words, and a mirror for 14.
    #[test]
    fn a_binding_and_a_mirror_are_no_larger_than_they_have_to_be() {
        let word = size_of::<usize>();
        assert!(size_of::<Binding>() <= 26 * word, "{}", size_of::<Binding>());
        assert!(size_of::<Mirror>() <= 12 * word, "{}", size_of::<Mirror>());
        assert!(size_of::<Purpose>() <= 2 * word, "{}", size_of::<Purpose>());
    }

    /// There is no session.
    struct Nobody;

    impl Owner for Nobody {
        fn id(&self) -> u64 {
            0
        }
        fn viewer(&self) -> Rc<Viewer> {
            unreachable!()
        }
        fn client(&self) -> ClientAddress {
            unreachable!()
        }
        fn owe(&self, _: &Rc<Binding>) {}
        fn answer(&self, _: &Rc<Binding>, _: Purpose, _: &Verdict) {}
        fn ended(&self, _: &Rc<Binding>, _: &End) {}
        fn lapsed(&self, _: &Rc<Binding>) {}
        fn overloaded(&self, _: &Rc<Binding>) {}
    }

    #[test]
    fn earlier_states_are_kept_as_long_as_somebody_wants_patches() {
        let uri = Uri::parse("/a").unwrap();
        let mirror =
            Rc::new(Mirror::new(Arc::new(ViewKey::new(uri.clone(), Arc::new(Audience::nobody())))));
        let members = [(); 3].map(|()| {
            let owner: Weak<dyn Owner> = Weak::<Nobody>::new();
            Binding::new(uri.clone(), None, false, owner)
        });
        let state =
            |version: &str| Arc::new(State::new(version.into(), crate::view::Content::Absent));
        let followers = || mirror.with_history(|history| history.followers);
        members.iter().for_each(|member| mirror.add(member));
        mirror.show(&state("1"), false);
        assert_eq!(followers(), None, "nobody wants any");
        for member in &members[1..] {
            member.own_terms().delta.set(true);
            mirror.follow(4);
        }
        assert_eq!(followers(), Some(2));
        mirror.remove(&members[0]);
        mirror.remove(&members[1]);
        assert_eq!(followers(), Some(1));
        mirror.remove(&members[2]);
        assert_eq!(followers(), None);
    }
}
