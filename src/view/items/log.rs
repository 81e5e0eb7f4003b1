//! What is to be told of the members of one collection: the last event of each, numbered, as far as
//! they are remembered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Encoded;
use crate::uri::Uri;
use crate::view::Data;

/// Events that a log remembers.
const MAX_EVENTS: usize = 256;
/// Numbers of all logs are of one series, so that one log's mean nothing in another.
pub(super) fn next_stamp() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// How far a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The last event.
    pub seen: u64,
    /// When it lacked nothing. Of what was told since, it may have missed what was told anew before
    /// it came to it.
    pub(super) complete: u64,
    /// The last whole state.
    pub(super) whole: u64,
}

impl Reading {
    /// Of who must be told the whole state.
    pub const NOTHING: Self = Self { seen: 0, complete: 0, whole: 0 };

    /// Of who was told a whole state.
    pub fn whole(stamp: u64) -> Self {
        Self { seen: stamp, complete: stamp, whole: stamp }
    }

    /// Of who then lacks nothing.
    #[must_use]
    pub fn completed(self, stamp: u64) -> Self {
        Self { seen: stamp, complete: stamp, ..self }
    }
}

/// Since when something is a member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    /// The first state that it stood in.
    pub(super) entered: u64,
    /// The first event that told so.
    pub(super) told: u64,
}

impl Since {
    pub(super) fn new(entered: u64) -> Self {
        Self { entered, told: u64::MAX }
    }

    fn is_known_to(&self, reading: Reading) -> bool {
        reading.whole >= self.entered || reading.complete >= self.told
    }

    fn may_be_known_to(&self, reading: Reading) -> bool {
        reading.whole >= self.entered || reading.seen >= self.told
    }
}

/// What is to be told of one member.
#[derive(Debug)]
pub struct Event {
    stamp: u64,
    since: Since,
    /// Since when it is or was a member for the first time that is remembered.
    pub(super) first: Since,
    pub item: Uri,
    pub what: What,
    /// As `create` and as anything else, without a version; as `State::frames`.
    pub frames: [Encoded; 2],
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// It is like this.
    Shown(Data),
    /// It is another; the client fetches for itself.
    Unseen,
    Gone,
}

/// The last event of each member of one collection, as far as they are remembered.
#[derive(Debug, Clone)]
pub struct Log {
    pub(super) stamp: u64,
    /// Who has read less than this has to be told the whole state.
    horizon: u64,
    /// Whether the state has members at all.
    pub is_collection: bool,
    /// The version of the state that its events lead to, if they show all that it says of members.
    pub version: Option<Arc<str>>,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The frames of the last event with `version`.
    pub last: Last,
}

/// Of one log alone.
#[derive(Debug, Default)]
pub struct Last(pub [Encoded; 2]);

impl Clone for Last {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What a client lacks.
#[derive(Debug)]
pub enum Next<'l> {
    Nothing,
    /// It cannot be told in events.
    Everything,
    Event(Told<'l>),
}

/// An event as one client is to be told it.
#[derive(Debug)]
pub struct Told<'l> {
    pub event: &'l Event,
    pub is_new: bool,
    /// How far the client has then been told.
    pub reading: Reading,
    /// It lacks nothing more then.
    pub is_last: bool,
    /// Everybody's last event is this one.
    pub is_newest: bool,
}

impl Log {
    pub(super) fn new(is_collection: bool) -> Self {
        let stamp = next_stamp();
        Self {
            stamp,
            horizon: stamp,
            is_collection,
            version: None,
            events: VecDeque::new(),
            bytes: 0,
            last: Last::default(),
        }
    }

    /// Who was told this much lacks nothing.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// What is next for who has read that far.
    pub fn next(&self, reading: Reading) -> Next<'_> {
        if reading.seen < self.horizon {
            return Next::Everything;
        }
        let start = self.events.partition_point(|event| event.stamp <= reading.seen);
        let concerns =
            |event: &&Arc<Event>| event.what != What::Gone || event.first.may_be_known_to(reading);
        let mut rest = self.events.range(start..).filter(concerns);
        let Some(event) = rest.next() else { return Next::Nothing };
        let is_last = rest.next().is_none();
        Next::Event(Told {
            event,
            is_new: !event.since.is_known_to(reading),
            reading: match is_last {
                true => reading.completed(self.stamp),
                false => Reading { seen: event.stamp, ..reading },
            },
            is_last,
            is_newest: self.events.back().is_some_and(|last| Arc::ptr_eq(last, event)),
        })
    }

    pub(super) fn of(&self, item: &Uri) -> Option<&Event> {
        self.events.iter().find(|event| event.item == *item).map(|event| &**event)
    }

    pub(super) fn push(
        &mut self,
        [mut since, mut first]: [Since; 2],
        item: Uri,
        what: What,
        limit: usize,
    ) {
        if let Some(at) = self.events.iter().position(|event| event.item == item) {
            self.remove(at);
        }
        self.stamp = next_stamp();
        self.bytes += what.bytes();
        let frames = Default::default();
        if what != What::Gone {
            since.told = since.told.min(self.stamp);
            first.told = first.told.min(self.stamp);
        }
        let event = Event { stamp: self.stamp, since, first, item, what, frames };
        self.events.push_back(Arc::new(event));
        while self.events.len() > MAX_EVENTS || self.bytes > limit {
            let Some(oldest) = self.remove(0) else { break };
            self.horizon = oldest.stamp;
        }
    }

    fn remove(&mut self, at: usize) -> Option<Arc<Event>> {
        let event = self.events.remove(at)?;
        self.bytes -= event.what.bytes();
        Some(event)
    }
}

impl What {
    fn bytes(&self) -> usize {
        match self {
            Self::Shown(data) => data.0.get().len(),
            Self::Unseen | Self::Gone => 0,
        }
    }
}
