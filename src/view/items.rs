//! What became of the members of a collection, told one by one.
//!
//! The states of the collection, as its audience sees it, say who is a member; nothing else does.
//! A [`Table`] compares each with the one before, asks for the members that entered, look different
//! or were written (or takes what stands in the collection), and keeps a [`Log`] of what is to be
//! told: the last event of each member, numbered. A client is where it has read to, one number:
//! what it lacks is every event after it, and a client that reads slowly finds only the last of
//! each member. The log is bounded; who is behind its beginning is told the whole state instead.

mod log;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

pub use self::log::{Event, Last, Log, Next, Reading, Told, What};
use self::log::{Since, next_stamp};
use super::members::{Collection, Found};
use super::{Content, Data, State};
use crate::change::{Change, Touch};
use crate::route::{ItemData, Items};
use crate::uri::{PathKey, Uri};

/// Members of one collection that wait to be asked for; of more, the whole state is told.
const MAX_WAITING: usize = 64;

/// A member, as far as it is known.
#[derive(Debug)]
struct Member {
    /// Where it stands in the state.
    place: Range<usize>,
    since: Since,
    first: Since,
    /// The last state that it stood in.
    stood: u64,
    /// It entered or looks different, and that was not told yet.
    differs: bool,
    /// Something of it was written; to be asked for once the collection has been.
    noted: bool,
    /// To be asked for.
    wanted: bool,
    asked: bool,
}

impl Member {
    fn new(place: Range<usize>, stood: u64) -> Self {
        let [differs, noted, wanted, asked] = [false; 4];
        let since = Since::new(stood);
        Self { place, since, first: since, stood, differs, noted, wanted, asked }
    }
}

/// A member that is to be asked for.
#[derive(Debug)]
pub struct Job {
    pub item: Uri,
    /// Tells it from another that had its URI before or has it after.
    entered: u64,
}

/// The members of one view.
#[derive(Debug)]
pub struct Table {
    rule: Items,
    state: Option<Arc<State>>,
    members: HashMap<Uri, Member>,
    paths: HashMap<PathKey, Vec<Uri>>,
    noted: Vec<Uri>,
    waiting: VecDeque<Uri>,
    /// Which members were written is not known.
    lost: bool,
    log: Arc<Log>,
    /// Bytes that the events of a log may have.
    limit: usize,
    most_waiting: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rule: Items::default(),
            state: None,
            members: HashMap::new(),
            paths: HashMap::new(),
            noted: Vec::new(),
            waiting: VecDeque::new(),
            lost: true,
            log: Arc::new(Log::new(false)),
            limit: 0,
            most_waiting: MAX_WAITING,
        }
    }
}

impl Table {
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    fn embeds(&self) -> bool {
        self.rule.data == ItemData::Embedded
    }

    /// Takes in the latest state of the collection. The log is to have no more than `limit` bytes.
    pub fn take(&mut self, state: &Arc<State>, collection: Collection<'_>, limit: usize) {
        self.limit = limit;
        let is_first = self.state.is_none() || self.rule != *collection.rule;
        if is_first {
            self.rule = collection.rule.clone();
        }
        let is_old = self
            .state
            .as_ref()
            .is_some_and(|old| old.version == state.version && old.content == state.content);
        // What stands in the state is all that is told of members that are embedded.
        let is_lost = self.lost && !self.embeds();
        if is_first || is_lost || !is_old {
            let found = match &state.content {
                Content::Data(Data(json)) => collection.members(json.get()),
                Content::Absent | Content::Unseen => None,
            };
            match found {
                Some(found) if self.log.is_collection && !is_first && !is_lost => {
                    self.compare(state, found);
                }
                found => self.begin(state, found),
            }
        } else {
            self.state = Some(Arc::clone(state));
        }
        self.lost = false;
        self.release();
        let version = self.embeds().then(|| Arc::clone(&state.version));
        if self.log.version != version {
            self.edit().version = version;
        }
    }

    /// Has everybody told the whole state.
    fn begin(&mut self, state: &Arc<State>, found: Option<Vec<Found>>) {
        self.state = Some(Arc::clone(state));
        self.members.clear();
        self.paths.clear();
        self.noted.clear();
        self.waiting.clear();
        self.log = Arc::new(Log::new(found.is_some()));
        let stamp = self.log.stamp;
        for Found { uri, place } in found.into_iter().flatten() {
            self.enter(&uri, Member::new(place, stamp));
        }
    }

    fn enter(&mut self, uri: &Uri, member: Member) {
        if !self.members.contains_key(uri) {
            self.paths.entry(uri.key()).or_default().push(uri.clone());
            self.members.insert(uri.clone(), member);
        }
    }

    fn leave(&mut self, uri: &Uri) -> Option<Member> {
        let path = uri.key();
        if let Some(uris) = self.paths.get_mut(&path) {
            uris.retain(|other| other != uri);
            if uris.is_empty() {
                self.paths.remove(&path);
            }
        }
        self.members.remove(uri)
    }

    /// Notes what is different from the state before.
    fn compare(&mut self, state: &Arc<State>, found: Vec<Found>) {
        let before = self.state.replace(Arc::clone(state));
        let stamp = next_stamp();
        self.edit().stamp = stamp;
        let mut differing = Vec::new();
        for Found { uri, place } in found {
            match self.members.get_mut(&uri) {
                // One that stands there twice is what it is the first time.
                Some(member) if member.stood == stamp => {}
                Some(member) => {
                    member.stood = stamp;
                    let old = std::mem::replace(&mut member.place, place.clone());
                    if text(before.as_deref(), &old) != text(Some(state), &place) {
                        member.differs = true;
                        differing.push(uri);
                    }
                }
                None => {
                    let mut member = Member { differs: true, ..Member::new(place, stamp) };
                    if let Some(gone) = self.log.of(&uri) {
                        member.first = gone.first;
                    }
                    self.enter(&uri, member);
                    differing.push(uri);
                }
            }
        }
        let left = self.members.iter().filter(|(_, member)| member.stood != stamp);
        let left: Vec<Uri> = left.map(|(uri, _)| uri.clone()).collect();
        for uri in left {
            if let Some(Member { since, first, .. }) = self.leave(&uri) {
                let limit = self.limit;
                self.edit().push([since, first], uri, What::Gone, limit);
            }
        }
        for uri in differing {
            if self.embeds() { self.tell_embedded(&uri) } else { self.want(&uri) }
        }
    }

    fn tell(&mut self, item: &Uri, what: What) {
        let Some(Member { since, first, .. }) = self.members.get(item) else { return };
        let (since, limit) = ([*since, *first], self.limit);
        let log = self.edit();
        log.push(since, item.clone(), what, limit);
        let stamp = log.stamp;
        if let Some(member) = self.members.get_mut(item) {
            member.since.told = member.since.told.min(stamp);
            member.first.told = member.first.told.min(stamp);
        }
    }

    /// Another log than the one that clients may be told of at present.
    fn edit(&mut self) -> &mut Log {
        let log = Arc::make_mut(&mut self.log);
        log.last = Last::default();
        log
    }

    fn tell_embedded(&mut self, uri: &Uri) {
        let Some(member) = self.members.get(uri) else { return };
        let json = text(self.state.as_deref(), &member.place);
        if let Some(json) = json.and_then(|json| serde_json::from_str(json).ok()) {
            self.tell(uri, What::Shown(Data(json)));
        }
    }

    fn want(&mut self, uri: &Uri) {
        if let Some(member) = self.members.get_mut(uri)
            && !std::mem::replace(&mut member.wanted, true)
            && !member.asked
        {
            self.waiting.push_back(uri.clone());
        }
    }

    /// Something was written. Its members among it are asked for when the collection has been: by
    /// then it is known whether they still are.
    pub fn note(&mut self, change: &Change) {
        if self.embeds() {
            return;
        }
        for touch in &change.touches {
            match touch {
                Touch::Path(path) => self.note_path(path),
                Touch::Family(path) => {
                    self.note_path(path);
                    path.ancestors().for_each(|above| self.note_path(&above));
                }
                Touch::Group(_) => {}
            }
        }
    }

    fn note_path(&mut self, path: &PathKey) {
        for uri in self.paths.get(path).into_iter().flatten() {
            if let Some(member) = self.members.get_mut(uri)
                && !std::mem::replace(&mut member.noted, true)
            {
                self.noted.push(uri.clone());
            }
        }
    }

    /// What was written is not known any more: everything may be another.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// What was noted is asked for from now on.
    fn release(&mut self) {
        for uri in std::mem::take(&mut self.noted) {
            let noted = self.members.get_mut(&uri).map(|member| &mut member.noted);
            if noted.is_some_and(std::mem::take) {
                self.want(&uri);
            }
        }
        if self.waiting.len() > self.most_waiting
            && let Some(state) = self.state.take()
        {
            // The present state shows all of them, for the price of one.
            let found = self.members.drain();
            let found = found.map(|(uri, member)| Found { uri, place: member.place }).collect();
            self.begin(&state, Some(found));
        }
    }

    /// How many members wait to be asked for.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next member to ask for.
    pub fn next_job(&mut self) -> Option<Job> {
        loop {
            let item = self.waiting.pop_front()?;
            if let Some(member) = self.members.get_mut(&item)
                && !member.asked
                && std::mem::take(&mut member.wanted)
            {
                member.asked = true;
                return Some(Job { item, entered: member.since.entered });
            }
        }
    }

    /// Whether an answer is still of use.
    pub fn needs(&self, job: &Job) -> bool {
        self.members.get(&job.item).is_some_and(|member| member.since.entered == job.entered)
    }

    fn answered(&mut self, job: &Job) -> Option<&mut Member> {
        let member = self.members.get_mut(&job.item)?;
        (member.since.entered == job.entered).then(|| {
            member.asked = false;
            if member.wanted {
                self.waiting.push_back(job.item.clone());
            }
            member
        })
    }

    /// A member has been asked for: this is it, or, with `None`, clients must ask for themselves.
    pub fn finish(&mut self, job: &Job, data: Option<Data>) {
        let Some(member) = self.answered(job) else { return };
        // What was asked for again meanwhile may be the difference.
        let differs = std::mem::take(&mut member.differs);
        let what = data.map_or(What::Unseen, What::Shown);
        let told = self.log.of(&job.item);
        let is_told = what != What::Unseen && told.is_some_and(|told| told.what == what);
        if differs || !is_told {
            self.tell(&job.item, what);
        }
    }

    /// A member is not there, and the collection is being asked for: whether it has left is seen
    /// then.
    pub fn postpone(&mut self, job: &Job) {
        if let Some(member) = self.answered(job)
            && !std::mem::replace(&mut member.noted, true)
        {
            self.noted.push(job.item.clone());
        }
    }
}

fn text<'s>(state: Option<&'s State>, place: &Range<usize>) -> Option<&'s str> {
    match &state?.content {
        Content::Data(Data(json)) => json.get().get(place.clone()),
        Content::Absent | Content::Unseen => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// An API in which each member has what stands in the collection and what its own URI answers.
    #[derive(Debug, Clone, Default)]
    struct Truth {
        members: BTreeMap<u8, (u32, u32)>,
        clock: u32,
    }

    impl Truth {
        fn embedded(&self, id: u8) -> Option<String> {
            let (value, _) = self.members.get(&id)?;
            Some(format!(r#"{{"id":{id},"e":{value}}}"#))
        }

        fn detail(&self, id: u8) -> Option<String> {
            let (_, value) = self.members.get(&id)?;
            Some(format!(r#"{{"id":{id},"d":{value}}}"#))
        }

        fn state(&self) -> Arc<State> {
            let members = self.members.keys().filter_map(|id| self.embedded(*id));
            let text = format!("[{}]", members.collect::<Vec<_>>().join(","));
            Arc::new(State::new(text.as_str().into(), Content::Data(data(&text))))
        }
    }

    fn data(json: &str) -> Data {
        Data(serde_json::from_str(json).unwrap())
    }

    fn id_of(uri: &Uri) -> u8 {
        uri.as_str().rsplit('/').next().unwrap().parse().unwrap()
    }

    fn written(id: u8) -> Change {
        let path = PathKey::of(&format!("/c/{id}"));
        let touches = vec![Touch::Family(path)];
        Change { touches, settle: Vec::new(), spared: None, trace: None }
    }

    fn embedding(embeds: bool) -> Items {
        let data = if embeds { ItemData::Embedded } else { ItemData::Fetched };
        Items { data, ..Items::default() }
    }

    fn take(table: &mut Table, state: &Arc<State>, embeds: bool) {
        let (uri, rule) = (Uri::parse("/c?q=1").unwrap(), embedding(embeds));
        table.take(state, Collection { uri: &uri, host: None, rule: &rule }, 90);
    }

    /// One who is told of members and of no states.
    struct Client {
        reading: Reading,
        holds: BTreeMap<u8, Option<String>>,
    }

    impl Client {
        /// Who binds now, and is answered with the state.
        fn bound(table: &Table) -> Self {
            let reading = Reading::whole(table.log().stamp());
            Self { reading, holds: whole(table) }
        }

        fn read(&mut self, table: &Table, mut frames: usize) {
            let log = Arc::clone(table.log());
            while frames > 0 && self.reading.seen != log.stamp() {
                frames -= 1;
                match log.next(self.reading) {
                    Next::Nothing => self.reading = self.reading.completed(log.stamp()),
                    Next::Everything => {
                        *self = Self::bound(table);
                    }
                    Next::Event(told) => {
                        assert!(told.reading.seen > self.reading.seen);
                        self.reading = told.reading;
                        let id = id_of(&told.event.item);
                        match &told.event.what {
                            What::Gone => drop(self.holds.remove(&id)),
                            what => {
                                assert!(told.is_new || self.holds.contains_key(&id), "{id}");
                                let data = match what {
                                    What::Shown(Data(json)) => Some(json.get().to_owned()),
                                    What::Unseen | What::Gone => None,
                                };
                                self.holds.insert(id, data);
                            }
                        }
                    }
                }
            }
        }
    }

    fn whole(table: &Table) -> BTreeMap<u8, Option<String>> {
        let state = table.state.as_deref();
        let members = table.members.iter();
        members
            .map(|(uri, member)| (id_of(uri), text(state, &member.place).map(str::to_owned)))
            .collect()
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Write {
            id: u8,
            embedded: bool,
            detail: bool,
        },
        Delete(u8),
        /// A write of which it is lost what it was to.
        Lose(u8),
        /// The collection is asked for; what it answers arrives with the next.
        Snap,
        Ask,
        Answer(prop::sample::Index),
        Bind(usize),
        Read(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (id, client) = (0..6_u8, 0..3_usize);
        let write = (id.clone(), any::<bool>(), any::<bool>());
        proptest::collection::vec(
            prop_oneof![
                6 => write.prop_map(|(id, embedded, detail)| Step::Write { id, embedded, detail }),
                3 => id.clone().prop_map(Step::Delete),
                1 => id.prop_map(Step::Lose),
                5 => Just(Step::Snap),
                5 => Just(Step::Ask),
                5 => any::<prop::sample::Index>().prop_map(Step::Answer),
                1 => client.clone().prop_map(Step::Bind),
                5 => (client, 0..4_usize).prop_map(|(client, frames)| Step::Read(client, frames)),
            ],
            0..60,
        )
    }

    struct Run {
        embeds: bool,
        table: Table,
        truth: Truth,
        snap: Truth,
        asked: Vec<(Job, Option<String>)>,
        clients: Vec<Client>,
    }

    impl Run {
        fn new(embeds: bool, most_waiting: usize) -> Self {
            let mut table = Table { most_waiting, ..Table::default() };
            take(&mut table, &Truth::default().state(), embeds);
            let clients = (0..3).map(|_| Client::bound(&table)).collect();
            let (truth, snap) = Default::default();
            Self { embeds, table, truth, snap, asked: Vec::new(), clients }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Write { id, embedded, detail } => {
                    self.write(id, embedded, detail);
                    self.table.note(&written(id));
                }
                Step::Delete(id) => {
                    self.truth.clock += 1;
                    self.truth.members.remove(&id);
                    self.table.note(&written(id));
                }
                Step::Lose(id) => {
                    self.write(id, false, true);
                    self.table.lose();
                }
                Step::Snap => {
                    let state = self.snap.state();
                    take(&mut self.table, &state, self.embeds);
                    self.snap = self.truth.clone();
                }
                Step::Ask => {
                    if let Some(job) = self.table.next_job() {
                        let twice = self.asked.iter().any(|(other, _)| {
                            other.item == job.item && other.entered == job.entered
                        });
                        assert!(!twice, "one at a time");
                        let detail = self.truth.detail(id_of(&job.item));
                        self.asked.push((job, detail));
                    }
                }
                Step::Answer(which) => {
                    if !self.asked.is_empty() {
                        let (job, detail) = self.asked.remove(which.index(self.asked.len()));
                        self.answer(&job, detail);
                    }
                }
                Step::Bind(client) => self.clients[client] = Client::bound(&self.table),
                Step::Read(client, frames) => self.clients[client].read(&self.table, frames),
            }
        }

        fn write(&mut self, id: u8, embedded: bool, detail: bool) {
            self.truth.clock += 1;
            let now = self.truth.clock;
            let member = self.truth.members.entry(id).or_insert((now, now));
            if embedded {
                member.0 = now;
            }
            if detail {
                member.1 = now;
            }
        }

        fn answer(&mut self, job: &Job, detail: Option<String>) {
            match detail {
                None if self.snap.clock != self.truth.clock
                    || whole(&self.table).len() != self.snap.members.len() =>
                {
                    self.table.postpone(job);
                }
                detail => self.table.finish(job, detail.map(|detail| data(&detail))),
            }
        }

        /// Nothing is written any more, and everything that was asked for is answered.
        fn come_to_rest(&mut self) {
            self.step(Step::Snap);
            self.step(Step::Snap);
            loop {
                self.step(Step::Ask);
                if self.asked.is_empty() {
                    break;
                }
                let (job, detail) = self.asked.remove(0);
                self.answer(&job, detail);
            }
            for client in &mut self.clients {
                client.read(&self.table, usize::MAX);
            }
        }
    }

    proptest! {
        #[test]
        fn who_folds_what_is_told_holds_the_members_as_they_are(
            embeds in any::<bool>(), most_waiting in 1..9_usize, steps in steps(),
        ) {
            let mut run = Run::new(embeds, most_waiting);
            steps.into_iter().for_each(|step| run.step(step));
            run.come_to_rest();
            for client in &run.clients {
                let held: Vec<_> = client.holds.keys().collect();
                prop_assert_eq!(held, run.truth.members.keys().collect::<Vec<_>>());
                for (id, holds) in &client.holds {
                    let embedded = run.truth.embedded(*id);
                    let is_right = *holds == embedded
                        || (!embeds && *holds == run.truth.detail(*id));
                    prop_assert!(is_right, "{} is {:?}, not {:?}", id, holds, run.truth);
                }
            }
        }
    }

    #[test]
    fn an_answer_of_before_a_member_left_says_nothing_of_the_one_that_came_back() {
        let mut run = Run::new(false, 9);
        let see = |run: &mut Run, write: bool| {
            run.truth.members.clear();
            if write {
                run.write(1, true, true);
            }
            run.step(Step::Snap);
            run.step(Step::Snap);
            run.table.next_job().map(|job| (job, run.truth.detail(1)))
        };
        let (old, old_detail) = see(&mut run, true).unwrap();
        assert!(see(&mut run, false).is_none());
        let (new, new_detail) = see(&mut run, true).unwrap();
        run.answer(&new, new_detail.clone());
        run.answer(&old, old_detail);
        run.clients[0].read(&run.table, usize::MAX);
        assert_eq!(run.clients[0].holds[&1], new_detail);
    }

    fn events(log: &Log, mut reading: Reading) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            match log.next(reading) {
                Next::Nothing => return events,
                Next::Everything => {
                    events.push("everything".into());
                    reading = Reading::whole(log.stamp());
                }
                Next::Event(told) => {
                    let id = id_of(&told.event.item);
                    events.push(match (&told.event.what, told.is_new) {
                        (What::Gone, _) => format!("-{id}"),
                        (_, true) => format!("+{id}"),
                        (_, false) => format!("={id}"),
                    });
                    assert_eq!(told.is_last, told.reading.seen == log.stamp());
                    reading = told.reading;
                }
            }
        }
    }

    #[test]
    fn a_client_is_told_the_last_of_each_member_and_nothing_of_what_it_never_had() {
        let mut run = Run::new(true, 9);
        let from = |run: &Run| Reading::whole(run.table.log().stamp());
        let change = |run: &mut Run, write: &[u8], delete: &[u8]| {
            write.iter().for_each(|id| run.write(*id, true, true));
            run.truth.members.retain(|id, _| !delete.contains(id));
            run.step(Step::Snap);
            run.step(Step::Snap);
        };
        let empty = from(&run);
        change(&mut run, &[1, 2], &[]);
        let two = from(&run);
        assert_eq!(events(run.table.log(), empty), ["+1", "+2"]);
        change(&mut run, &[2, 3], &[1]);
        let other = from(&run);
        assert_eq!(events(run.table.log(), empty), ["+2", "+3"]);
        assert_eq!(events(run.table.log(), two), ["-1", "=2", "+3"]);
        change(&mut run, &[1], &[3]);
        assert_eq!(events(run.table.log(), two), ["=2", "+1"]);
        assert_eq!(events(run.table.log(), other), ["-3", "+1"]);
        assert_eq!(events(run.table.log(), from(&run)), [""; 0]);
        assert_eq!(events(run.table.log(), Reading::NOTHING), ["everything"]);
    }

    #[test]
    fn what_is_too_much_to_remember_is_told_whole() {
        let mut table = Table::default();
        let rule = embedding(true);
        let uri = Uri::parse("/c").unwrap();
        let of = |count: u8, value: u32| Truth {
            members: (0..count).map(|id| (id, (value, value))).collect(),
            clock: 0,
        };
        let take = |table: &mut Table, truth: &Truth, limit| {
            table.take(&truth.state(), Collection { uri: &uri, host: None, rule: &rule }, limit);
        };
        take(&mut table, &of(255, 0), usize::MAX);
        let start = Reading::whole(table.log().stamp());
        take(&mut table, &of(255, 1), usize::MAX);
        assert_eq!(events(table.log(), start).len(), 255);
        take(&mut table, &of(0, 0), usize::MAX);
        assert_eq!(events(table.log(), start).len(), 255);
        let before = Reading::whole(table.log().stamp());
        take(&mut table, &of(3, 1), 2 * of(1, 1).embedded(0).unwrap().len());
        assert_eq!(events(table.log(), before), ["everything"]);
        let last = Reading { seen: table.log().stamp() - 2, ..before };
        assert_eq!(events(table.log(), last), ["+1", "+2"]);
    }

    #[test]
    fn many_members_at_once_are_shown_by_the_state_and_not_asked_for() {
        let mut table = Table::default();
        let state = |count: usize| {
            let list: Vec<_> = (0..count).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
            let text = format!("[{}]", list.join(","));
            Arc::new(State::new(text.as_str().into(), Content::Data(data(&text))))
        };
        take(&mut table, &state(0), false);
        take(&mut table, &state(MAX_WAITING), false);
        let start = Reading::whole(table.log().stamp());
        assert_eq!((table.waiting(), events(table.log(), start).len()), (MAX_WAITING, 0));
        take(&mut table, &state(2 * MAX_WAITING), false);
        assert_eq!((table.waiting(), table.next_job().is_none()), (0, true));
        assert_eq!(events(table.log(), start), ["everything"]);
    }
}
