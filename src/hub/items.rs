//! The members of collections that clients are told of one by one: at a view's home they are asked
//! for as its audience, and each client's binding keeps how far it was told.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header;

use super::home::HomeView;
use super::mail::Seat;
use super::mirror::{Binding, Mirror};
use super::{Hub, fetch};
use crate::audience::{Audience, ViewKey};
use crate::change::Change;
use crate::protocol::{ErrorCode, Problem};
use crate::route::{Push, Visibility};
use crate::uri::Uri;
use crate::view::items::{Job, Log, Reading};
use crate::view::{Answer, Collection, Content, Data, Verdict};

/// Members of one view that are asked for at one time.
const MAX_ASKERS: usize = 4;
/// Pauses after an upstream that failed; after the last, clients ask for themselves.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];

/// What a client wants to be told of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shows {
    #[default]
    State,
    StateAndItems,
    Items,
}

/// What the client of a binding was told of members.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// How far, in the mirror's log.
    pub reading: Reading,
    /// Besides whole states.
    pub state: bool,
}

impl Binding {
    /// How far its client was told of members, and whether it is told of states, too.
    #[inline]
    pub fn told(&self) -> Option<Told> {
        self.terms()?.told.get()
    }

    /// The client was told this much.
    pub fn read(&self, reading: Reading) {
        if let Some(told) = self.told() {
            self.own_terms().told.set(Some(Told { reading, ..told }));
        }
    }

    /// From now on the client is told this; it has been told that much of members.
    pub fn show(&self, shows: Shows, reading: Reading) {
        let state = shows == Shows::StateAndItems;
        let told = (shows != Shows::State).then_some(Told { reading, state });
        if told.is_some() || self.told().is_some() {
            self.own_terms().told.set(told);
        }
    }

    /// The same for a client that holds what it was told last, or else gets the state of `version`
    /// by itself.
    pub fn go_on(&self, shows: Shows, version: &Arc<str>) {
        let told = self.told();
        if shows == Shows::State && told.is_some_and(|told| !told.state) {
            // It holds members, and no state that another could follow.
            self.held.replace(None);
            return self.show(shows, Reading::NOTHING);
        }
        let mut held = self.held.borrow_mut();
        let is_held = *held.get_or_insert_with(|| Arc::clone(version)) == *version;
        let read = if is_held { self.all_read() } else { Reading::NOTHING };
        self.show(shows, told.map_or(read, |told| told.reading));
    }

    /// What is to be told of members.
    pub fn log(&self) -> Option<Arc<Log>> {
        self.mirror()?.log()
    }

    /// How far a client has read that was shown the present state, or that will have it another way.
    pub fn all_read(&self) -> Reading {
        self.log().map_or(Reading::NOTHING, |log| Reading::whole(log.stamp()))
    }

    /// Whether who holds the version of a state lacks nothing of what is to be told.
    pub fn is_told_by_versions(&self, shows: Shows) -> bool {
        shows == Shows::State || self.log().is_some_and(|log| log.version.is_some())
    }

    pub(super) fn wants_items(&self) -> bool {
        let waits = || self.waiting.borrow().iter().any(|(_, purpose)| purpose.wants_items());
        self.told().is_some() || waits()
    }

    pub(super) fn lacks_items(&self, mirror: &Mirror) -> bool {
        let Some(told) = self.told() else { return false };
        mirror.log().is_some_and(|log| log.stamp() != told.reading.seen)
    }

    /// The client holds the present state, and with it all that is told of its members if they are
    /// what stands in it.
    pub(super) fn read_embedded(&self) {
        if let Some(log) = self.log().filter(|log| log.version.is_some()) {
            self.read(Reading::whole(log.stamp()));
        }
    }

    /// What a bind that asks for members is answered if the state has none.
    pub(super) fn without_items(&self, verdict: &Verdict) -> Option<Verdict> {
        let Verdict::Live { state, .. } = verdict else { return None };
        let log = self.log();
        let is_fit = |log: Arc<Log>| log.is_collection || state.content == Content::Absent;
        if log.is_some_and(is_fit) {
            return None;
        }
        let text = "this resource has no members that can be told apart";
        Some(Verdict::Failed(Arc::new(Problem::new(ErrorCode::NotBindable, text))))
    }
}

impl Mirror {
    /// Takes in what is to be told of members. True when that is something new.
    pub(super) fn tell(&self, items: Option<Arc<Log>>) -> bool {
        let stamp = items.as_ref().map(|log| log.stamp());
        let before = self.replace_log(items);
        stamp.is_some() && before.map(|log| log.stamp()) != stamp
    }
}

impl HomeView {
    pub(super) fn note_items(&self, change: &Change) {
        if let Some(table) = self.items.borrow_mut().as_mut() {
            table.note(change);
        }
    }

    /// What was written is not known.
    pub(super) fn lose_items(&self) {
        if let Some(table) = self.items.borrow_mut().as_mut() {
            table.lose();
        }
    }

    fn next_item(&self) -> Option<Job> {
        if self.is_empty() { None } else { self.items.borrow_mut().as_mut()?.next_job() }
    }

    fn needs(&self, job: &Job) -> bool {
        !self.is_empty() && self.items.borrow().as_ref().is_some_and(|table| table.needs(job))
    }

    fn stamp(&self) -> Option<u64> {
        self.items.borrow().as_ref().map(|table| table.log().stamp())
    }
}

/// What a member's own URI was answered with.
enum Asked {
    Data(Data),
    Absent,
    /// Nothing that everybody of the audience may be shown.
    Nothing,
}

impl Hub {
    /// Takes in what members are to be told of, before they are.
    pub(super) fn take_items(&self, view: &HomeView, verdict: &Verdict) {
        let mut items = view.items.borrow_mut();
        let Some(table) = items.as_mut() else { return };
        match verdict {
            Verdict::Live { state, .. } => {
                let settings = self.settings();
                let rule = &settings.routes.of(view.key.uri.as_str()).rule.items;
                let mut fields = view.key.audience.fields().iter();
                let host = fields.find(|(name, _)| *name == header::HOST);
                let host = host.and_then(|(_, value)| value.to_str().ok());
                let collection = Collection { uri: &view.key.uri, host, rule };
                table.take(state, collection, settings.options.body_bytes);
            }
            Verdict::Failed(_) => {}
            Verdict::Ended(_) => table.lose(),
        }
    }

    /// Reads the members again, if other rules say how.
    pub(super) fn reread_items(self: &Rc<Self>, view: &Rc<HomeView>) {
        let before = view.stamp();
        if before.is_some()
            && let Some(verdict) = view.view.borrow().live()
        {
            self.take_items(view, &verdict);
        }
        if view.stamp() != before {
            view.deliver_items(&self.mail);
        }
        self.attend_items(view);
    }

    /// Tells the home that nobody here is told of members any more, if that is so.
    pub(super) fn forget_items(&self, mirror: &Mirror) {
        if mirror.log().is_none() {
            return;
        }
        if !mirror.members.borrow().iter().any(|member| member.wants_items()) {
            mirror.replace_log(None);
            let forget = Seat::NoItems { key: Arc::clone(&mirror.key), worker: self.worker };
            self.mail[mirror.key.home(self.mail.len())].leave_seat(forget);
        }
    }

    /// Of which members were written is not known, if that is `so`.
    pub(super) fn lose_items(&self, so: bool) {
        if so {
            self.home.all().iter().for_each(|view| view.lose_items());
        }
    }

    /// Sees to it that members that wait to be asked for are.
    pub(super) fn attend_items(self: &Rc<Self>, view: &Rc<HomeView>) {
        let waiting = view.items.borrow().as_ref().map_or(0, |table| table.waiting());
        let more = waiting.min(MAX_ASKERS.saturating_sub(view.askers.get()));
        for _ in 0..more {
            view.askers.set(view.askers.get() + 1);
            tokio::task::spawn_local(Rc::clone(self).ask_items(Rc::clone(view)));
        }
    }

    /// Asks for members until none waits. A few such tasks for a view, while there is something to
    /// ask; ended by its last member.
    async fn ask_items(self: Rc<Self>, view: Rc<HomeView>) {
        while let Some(job) = view.next_item() {
            let asked = self.ask_for(&view, &job).await;
            let before = view.stamp();
            if let Some(table) = view.items.borrow_mut().as_mut() {
                match asked {
                    // Deleted, it seems: the collection, which is being asked for, will say so.
                    Asked::Absent if !view.view.borrow().rests() => table.postpone(&job),
                    Asked::Data(data) => table.finish(&job, Some(data)),
                    Asked::Absent | Asked::Nothing => table.finish(&job, None),
                }
            }
            if view.stamp() != before {
                view.deliver_items(&self.mail);
            }
        }
        view.askers.set(view.askers.get() - 1);
    }

    async fn ask_for(&self, view: &HomeView, job: &Job) -> Asked {
        let mut pauses = PAUSES.into_iter();
        loop {
            let Some(audience) = self.audience_of(view, &job.item) else { return Asked::Nothing };
            let key = ViewKey::new(job.item.clone(), audience);
            let answer = self.ask_as(&key, view).await;
            self.count(&answer);
            match answer {
                Answer::State(state) => {
                    // Fields that these viewers need not have in common may make a difference.
                    let shown = view.view.borrow().state().cloned();
                    if !shown.is_some_and(|shown| shown.vary.includes(&state.vary)) {
                        return Asked::Nothing;
                    }
                    return match state.content {
                        Content::Data(data) => Asked::Data(data),
                        Content::Absent => Asked::Absent,
                        Content::Unseen => Asked::Nothing,
                    };
                }
                Answer::NotModified | Answer::Refused(_) | Answer::NotBindable(_) => {
                    return Asked::Nothing;
                }
                Answer::Failed(problem) => {
                    let told = Duration::from_secs(problem.retry_after.unwrap_or(0));
                    let Some(pause) = pauses.find(|pause| *pause >= told) else {
                        return Asked::Nothing;
                    };
                    tokio::time::sleep(pause).await;
                    if !view.needs(job) {
                        return Asked::Nothing;
                    }
                }
            }
        }
    }

    async fn ask_as(&self, key: &ViewKey, view: &HomeView) -> Answer {
        let refetches = self.settings().refetches.clone();
        // The semaphore is never closed; were it, an unbounded fetch is better than none.
        let _permit = refetches.0.acquire().await.ok();
        let settings = self.settings();
        let client = view.client.borrow().clone();
        let sent = fetch::Sent { key, client: &client, trace: None };
        let via = settings.via.as_ref();
        fetch::fetch(&settings.upstream, via, sent, None, &settings.options).await.answer
    }

    /// Whose eyes a member is seen with; `None` if it cannot be seen with those of the collection.
    fn audience_of(&self, view: &HomeView, item: &Uri) -> Option<Arc<Audience>> {
        let settings = self.settings();
        let of = |uri: &Uri| settings.routes.of(uri.as_str()).rule;
        let rule = of(item);
        let audience = &view.key.audience;
        if !rule.realtime || rule.push == Push::Notify || audience.is_single_use() {
            return None;
        }
        match (of(&view.key.uri).visibility, rule.visibility) {
            (Visibility::Public, Visibility::Viewer) => None,
            (Visibility::Viewer, Visibility::Public) => {
                let headers = &settings.options.credential_headers;
                Some(Arc::new(audience.without_credentials(headers)))
            }
            (Visibility::Viewer, Visibility::Viewer) | (Visibility::Public, Visibility::Public) => {
                Some(Arc::clone(audience))
            }
        }
    }
}
