//! What a node keeps of its channels: who is there, what was said, and in which order.
//!
//! All of it is behind one lock, and whatever is to be heard in order is handed to the mailboxes of
//! all workers while it is held. So every worker hears it in the same order, and who comes is shown
//! a state that belongs to one place in that order: what is before it the newcomer knows, what is
//! after it will come. Channels that keep neither order nor anything else never come here.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::event::{Published, Said};
use super::history::{Gap, Log, Replay};
use super::presence::{Here, Member, Presence};
use super::rule::History;

/// Members that are listed; of more only the number is told.
pub const LISTED: usize = 100;
/// Bytes that members may say of themselves, all together; at the bound nobody joins.
const MEMBER_BYTES: usize = 64 << 20;

/// The channels of a node that keep something.
#[derive(Debug)]
pub struct Rooms {
    /// Other in each process, so that a number from before a restart is not taken for one of now.
    epoch: String,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The last place in the order of all that is said.
    place: u64,
    rooms: HashMap<Arc<str>, Room>,
    /// The channels with a history, by when there will be nothing left in it.
    ends: BTreeMap<(Instant, u64), Arc<str>>,
    /// No history that was forgotten had a higher number.
    floor: u64,
    history_bytes: usize,
    most_history_bytes: usize,
    member_bytes: usize,
}

#[derive(Debug, Default)]
struct Room {
    /// With its key in `ends`.
    log: Option<(Log, (Instant, u64))>,
    presence: Presence,
}

/// Somebody who comes to a channel, or comes again.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub channel: &'a str,
    /// As whom, if the channel tells who is there.
    pub member: Option<Member>,
    /// Up to which event it knows the channel: none, or that of an offset.
    pub since: Option<Option<&'a str>>,
    pub history: Option<&'a History>,
}

/// What it finds there.
#[derive(Debug)]
pub struct Found {
    /// It knows what was said up to here.
    pub place: u64,
    pub here: Here,
    /// What it missed, and the offset from which it misses nothing more.
    pub missed: Option<(Replay, Option<String>)>,
}

/// Members have said too much of themselves already.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Rooms {
    /// The bytes are those of all histories together.
    pub fn new(most_history_bytes: usize) -> Self {
        let kept = Kept {
            place: 0,
            rooms: HashMap::new(),
            ends: BTreeMap::new(),
            floor: 0,
            history_bytes: 0,
            most_history_bytes,
            member_bytes: 0,
        };
        let epoch = format!("{:x}", RandomState::new().hash_one(0) >> 32);
        Self { epoch, kept: Mutex::new(kept) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic leaves at worst an event that was numbered and not heard: a gap that is seen.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn limit(&self, most_history_bytes: usize) {
        let mut kept = self.kept();
        kept.most_history_bytes = most_history_bytes;
        kept.make_room();
    }

    /// Says something on a channel in its order, and keeps it if it has a history.
    pub fn publish(
        &self,
        channel: &Arc<str>,
        said: Said,
        but: Option<u64>,
        history: Option<&History>,
        now: Instant,
        post: impl FnOnce(&Published),
    ) {
        let mut kept = self.kept();
        let place = kept.next_place();
        let published = match history {
            None => Published::in_order(Arc::clone(channel), said, but, place, None),
            Some(history) => {
                let bytes = said.bytes();
                kept.with_log(channel, history, now, |log| {
                    log.push(bytes, now, history, |number| {
                        let offset = format!("{}-{number}", self.epoch).into();
                        let channel = Arc::clone(channel);
                        Published::in_order(channel, said, but, place, Some(offset))
                    })
                })
            }
        };
        post(&published);
    }

    /// Lets somebody in; the others are told.
    pub fn arrive(
        &self,
        arrival: Arrival<'_>,
        now: Instant,
        post: impl FnOnce(&Published),
    ) -> Result<Found, Full> {
        let mut kept = self.kept();
        let channel: Arc<str> = arrival.channel.into();
        if let Some(member) = arrival.member {
            kept.join(&channel, &Arc::new(member), post)?;
        }
        let missed = arrival
            .since
            .map(|since| self.missed(&mut kept, &channel, since, arrival.history, now));
        Ok(Found { place: kept.place, here: kept.here(&channel), missed })
    }

    fn missed(
        &self,
        kept: &mut Kept,
        channel: &Arc<str>,
        since: Option<&str>,
        history: Option<&History>,
        now: Instant,
    ) -> (Replay, Option<String>) {
        let unknown = if since.is_some() { Gap::Unknown } else { Gap::None };
        let Some(history) = history else { return (Replay::nothing(unknown), None) };
        // A number of another epoch is one that no event has yet.
        let number = since.map(|offset| self.number(offset).unwrap_or(u64::MAX));
        kept.with_log(channel, history, now, |log| {
            log.forget(now, history);
            (log.since(number), Some(format!("{}-{}", self.epoch, log.last())))
        })
    }

    fn number(&self, offset: &str) -> Option<u64> {
        offset.strip_prefix(&self.epoch)?.strip_prefix('-')?.parse().ok()
    }

    /// Somebody who is there has another subject from now on; the others are told.
    pub fn set_subject(
        &self,
        channel: &Arc<str>,
        session: u64,
        subject: Option<Arc<str>>,
        post: impl FnOnce(&Published),
    ) -> Result<(), Full> {
        let mut kept = self.kept();
        let room = kept.rooms.get(channel);
        let Some(member) = room.and_then(|room| room.presence.of(session)) else { return Ok(()) };
        let (id, data) = (Arc::clone(&member.id), member.data.clone());
        kept.join(channel, &Arc::new(Member { session, id, data, subject }), post)
    }

    /// Somebody is gone; the others are told.
    pub fn leave(&self, channel: &Arc<str>, session: u64, post: impl FnOnce(&Published)) {
        let mut kept = self.kept();
        let Some(room) = kept.rooms.get_mut(channel) else { return };
        let Some(member) = room.presence.leave(session) else { return };
        let count = room.presence.count() as u64;
        kept.member_bytes -= member.bytes();
        kept.forget_if_empty(channel);
        let place = kept.next_place();
        post(&of_member("channel:leave", channel, &member, place, count));
    }

    /// Who is there, at which place in the order.
    pub fn here(&self, channel: &str) -> (u64, Here) {
        let kept = self.kept();
        (kept.place, kept.here(channel))
    }

    /// Forgets the histories in which there is nothing left.
    pub fn sweep(&self, now: Instant) {
        let mut kept = self.kept();
        while kept.ends.first_key_value().is_some_and(|((end, _), _)| *end <= now) {
            kept.forget_first();
        }
    }

    /// Forgets the histories of the channels that are to have none. What is said there from now on
    /// is known to nobody, so a history that is kept later does not go on where this one ends.
    pub fn keep_histories(&self, of: impl Fn(&str) -> bool) {
        let mut kept = self.kept();
        let gone: Vec<_> = kept.ends.values().filter(|channel| !of(channel)).cloned().collect();
        for channel in gone {
            kept.forget_log(&channel);
            kept.floor += 1;
        }
    }

    /// Bytes of all histories.
    pub fn history_bytes(&self) -> usize {
        self.kept().history_bytes
    }
}

impl Kept {
    fn next_place(&mut self) -> u64 {
        self.place += 1;
        self.place
    }

    fn here(&self, channel: &str) -> Here {
        let presence = self.rooms.get(channel).map(|room| &room.presence);
        Here {
            members: presence.map(|presence| presence.first(LISTED)).unwrap_or_default(),
            count: presence.map_or(0, Presence::count) as u64,
        }
    }

    fn join(
        &mut self,
        channel: &Arc<str>,
        member: &Arc<Member>,
        post: impl FnOnce(&Published),
    ) -> Result<(), Full> {
        let place = self.place + 1;
        let before = self.rooms.get(channel).and_then(|room| room.presence.of(member.session));
        let before = before.map_or(0, |before| before.bytes());
        if self.member_bytes - before + member.bytes() > MEMBER_BYTES {
            return Err(Full);
        }
        let room = self.rooms.entry(Arc::clone(channel)).or_default();
        let is_news = room.presence.join(member, place);
        let count = room.presence.count() as u64;
        self.member_bytes = self.member_bytes - before + member.bytes();
        if is_news {
            self.place = place;
            post(&of_member("channel:join", channel, member, place, count));
        }
        Ok(())
    }

    /// Does something with a channel's history, which then lives as long as something just said.
    fn with_log<T>(
        &mut self,
        channel: &Arc<str>,
        history: &History,
        now: Instant,
        act: impl FnOnce(&mut Log) -> T,
    ) -> T {
        let place = self.next_place();
        let room = self.rooms.entry(Arc::clone(channel)).or_default();
        let (mut log, before) = match room.log.take() {
            Some((log, end)) => {
                self.ends.remove(&end);
                let bytes = log.bytes();
                (log, bytes)
            }
            None => (Log::after(self.floor), 0),
        };
        let outcome = act(&mut log);
        self.history_bytes = self.history_bytes - before + log.bytes();
        let end = (now + history.ttl, place);
        self.ends.insert(end, Arc::clone(channel));
        room.log = Some((log, end));
        self.make_room();
        outcome
    }

    /// Histories that would end first are forgotten first.
    fn make_room(&mut self) {
        while self.history_bytes > self.most_history_bytes && !self.ends.is_empty() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(channel) = self.ends.first_key_value().map(|(_, channel)| Arc::clone(channel)) {
            self.forget_log(&channel);
        }
    }

    fn forget_log(&mut self, channel: &Arc<str>) {
        let Some(room) = self.rooms.get_mut(channel) else { return };
        if let Some((log, end)) = room.log.take() {
            self.ends.remove(&end);
            self.history_bytes -= log.bytes();
            self.floor = self.floor.max(log.last());
        }
        self.forget_if_empty(channel);
    }

    fn forget_if_empty(&mut self, channel: &Arc<str>) {
        let is_empty = |room: &Room| room.log.is_none() && room.presence.count() == 0;
        if self.rooms.get(channel).is_some_and(is_empty) {
            self.rooms.remove(channel);
        }
    }
}

fn of_member(
    event: &str,
    channel: &Arc<str>,
    member: &Member,
    place: u64,
    count: u64,
) -> Published {
    let data = serde_json::value::to_raw_value(member).ok();
    let said = Said { name: event.to_owned(), data, packed: None };
    Published::of_presence(Arc::clone(channel), said, member.session, place, count)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn said(text: &str) -> Said {
        let data = serde_json::value::to_raw_value(text).ok();
        Said { name: "said".into(), data, packed: None }
    }

    fn member(session: u64, data: u8) -> Member {
        let data = serde_json::value::to_raw_value(&data).ok();
        Member { session, id: session.to_string().into(), data, subject: None }
    }

    fn arrival<'a>(
        channel: &'a str,
        history: Option<&'a History>,
        since: Option<&'a str>,
    ) -> Arrival<'a> {
        Arrival { channel, member: None, since: Some(since), history }
    }

    fn offset_of(found: &Found) -> String {
        found.missed.as_ref().unwrap().1.clone().unwrap()
    }

    fn gap_of(found: &Found) -> Gap {
        found.missed.as_ref().unwrap().0.gap
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_forgotten_is_an_unknown_gap_and_what_never_was_is_none() {
        let (rooms, keep, now) = (Rooms::new(1 << 20), History::default(), Instant::now());
        let arrive = |rooms: &Rooms, since: Option<&str>, now| {
            rooms.arrive(arrival("c", Some(&keep), since), now, |_| ()).unwrap()
        };
        let begin = offset_of(&arrive(&rooms, None, now));
        // Nothing was said, however long it is.
        assert_eq!(gap_of(&arrive(&rooms, Some(&begin), now)), Gap::None);
        rooms.sweep(now + keep.ttl);
        assert_eq!((rooms.history_bytes(), rooms.kept().rooms.len()), (0, 0));
        assert_eq!(gap_of(&arrive(&rooms, Some(&begin), now + keep.ttl)), Gap::None);
        rooms.publish(&"c".into(), said("a"), None, Some(&keep), now, |_| ());
        assert_eq!(gap_of(&arrive(&rooms, Some(&begin), now)), Gap::None);
        rooms.sweep(now + 2 * keep.ttl);
        let later = arrive(&rooms, Some(&begin), now + 2 * keep.ttl);
        assert_eq!(gap_of(&later), Gap::Unknown);
        assert_ne!(offset_of(&later), begin);
        // Another process.
        let other = Rooms { epoch: "other".into(), ..Rooms::new(1 << 20) };
        assert_eq!(gap_of(&arrive(&other, Some(&begin), now)), Gap::Unknown);
        rooms.keep_histories(|_| false);
        let (stopped, again) = (offset_of(&later), arrive(&rooms, None, now));
        assert_eq!(gap_of(&arrive(&rooms, Some(&stopped), now)), Gap::Unknown);
        assert_eq!(gap_of(&arrive(&rooms, Some(&offset_of(&again)), now)), Gap::None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_end_first_is_forgotten_first_and_the_bytes_are_true() {
        let (rooms, now) = (Rooms::new(4096), Instant::now());
        for number in 0..1000_u64 {
            let keep =
                History { ttl: Duration::from_secs(1000 - number % 7), ..History::default() };
            let channel: Arc<str> = format!("c{}", number % 13).into();
            rooms.publish(&channel, said("some text"), None, Some(&keep), now, |_| ());
            let kept = rooms.kept();
            let logs = kept.rooms.values().filter_map(|room| room.log.as_ref());
            assert_eq!(kept.history_bytes, logs.map(|(log, _)| log.bytes()).sum::<usize>());
            assert!(kept.history_bytes <= 4096);
            assert_eq!(kept.ends.len(), kept.rooms.len());
        }
        rooms.limit(0);
        assert_eq!((rooms.history_bytes(), rooms.kept().rooms.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn members_may_say_so_much_of_themselves_and_no_more() {
        let rooms = Rooms::new(0);
        let big = |session| Member {
            data: serde_json::value::to_raw_value(&"x".repeat(1 << 20)).ok(),
            ..member(session, 0)
        };
        let join = |session| {
            let member = Some(big(session));
            let arrival = Arrival { channel: "c", member, since: None, history: None };
            rooms.arrive(arrival, Instant::now(), |_| ()).map(|found| found.here.count)
        };
        for session in 0..63 {
            assert_eq!(join(session), Ok(session + 1));
        }
        assert_eq!(join(63), Err(Full));
        // Who is there already takes the place of itself.
        assert_eq!(join(0), Ok(63));
        rooms.leave(&"c".into(), 0, |_| ());
        assert_eq!(join(63), Ok(63));
        (0..64).for_each(|session| rooms.leave(&"c".into(), session, |_| ()));
        let kept = rooms.kept();
        assert_eq!((kept.member_bytes, kept.rooms.len()), (0, 0));
    }

    /// Whoever hears the events in their order, from the place where it was shown who is there,
    /// knows at each place who is there, and how many.
    #[derive(Debug, Clone)]
    enum Step {
        Join(u64, u8),
        Leave(u64),
        Watch,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..5_u64, 0..3_u8).prop_map(|(session, data)| Step::Join(session, data)),
            2 => (0..5_u64).prop_map(Step::Leave),
            1 => Just(Step::Watch),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn whoever_hears_of_all_since_it_came_knows_who_is_there(steps in steps()) {
            let (rooms, events) = (Rooms::new(0), RefCell::new(Vec::<Published>::new()));
            let channel: Arc<str> = "c".into();
            let post = |published: &Published| events.borrow_mut().push(published.clone());
            let mut watchers = Vec::new();
            let show = |here: &Here| -> BTreeMap<String, String> {
                let data = |it: &Member| it.data.as_ref().map(|data| data.get().to_owned());
                here.members.iter().map(|it| (it.id.to_string(), data(it).unwrap())).collect()
            };
            let now = Instant::now();
            for step in steps {
                match step {
                    Step::Join(session, data) => {
                        let member = Some(member(session, data));
                        let arrival = Arrival { channel: "c", member, since: None, history: None };
                        rooms.arrive(arrival, now, post).unwrap();
                    }
                    Step::Leave(session) => rooms.leave(&channel, session, post),
                    Step::Watch => {
                        let (place, here) = rooms.here("c");
                        watchers.push((place, show(&here)));
                    }
                }
            }
            let (_, here) = rooms.here("c");
            for (place, mut known) in watchers {
                for event in events.borrow().iter().filter(|event| event.place > place) {
                    let it: serde_json::Value = serde_json::from_str(event.text()).unwrap();
                    let id = it["id"].as_str().unwrap().to_owned();
                    match event.is_of("channel:join") {
                        true => drop(known.insert(id, it["data"].to_string())),
                        false => prop_assert!(known.remove(&id).is_some()),
                    }
                }
                prop_assert_eq!(&known, &show(&here));
            }
            prop_assert_eq!(here.count as usize, here.members.len());
        }
    }
}
