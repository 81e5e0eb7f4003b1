//! Who holds a connection to the API for no other reason than that its client is slow, and is to
//! give it up while others wait for one.
//!
//! A client that takes or sends a little now and then may do so for as long as nobody else wants
//! what it holds: many a slow phone means no harm. But there are only so many connections to the
//! API, and who holds them all that way would shut everybody out.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// Below this pace, in bytes per second of waiting for it, a client gives way to those who wait.
const LEAST_BYTES_PER_SECOND: u64 = 1024;

/// One worker's holders whose client has had to be waited for.
#[derive(Debug, Default)]
pub struct Holds {
    list: RefCell<Vec<Weak<Hold>>>,
}

/// One connection to the API that is held, and how long it has had to wait for its client.
pub struct Hold {
    /// While it is the client's turn: since when.
    since: Cell<Option<Instant>>,
    /// How long it was the client's turn before, and what it has sent or taken for that.
    waited: Cell<Duration>,
    bytes: Cell<u64>,
    /// What is to be done so that the connection is free; nothing when it is given up.
    release: RefCell<Option<Release>>,
}

type Release = Box<dyn FnOnce()>;

impl Holds {
    /// Lists a connection that may have to be given up by `release`.
    pub fn hold(&self, release: impl FnOnce() + 'static) -> Rc<Hold> {
        let hold = Rc::new(Hold {
            since: Cell::new(None),
            waited: Cell::new(Duration::ZERO),
            bytes: Cell::new(0),
            release: RefCell::new(Some(Box::new(release))),
        });
        let mut list = self.list.borrow_mut();
        if list.len() == list.capacity() {
            // So that what is left of those that are over is never more than those that are not.
            list.retain(|hold| hold.strong_count() > 0);
        }
        list.push(Rc::downgrade(&hold));
        hold
    }

    /// Has up to `count` connections given up, of those whose client had to be waited for longest and
    /// for at least `patience`. Returns how many.
    pub fn shed(&self, count: usize, patience: Duration, now: Instant) -> usize {
        let mut slow: Vec<_> = {
            let mut list = self.list.borrow_mut();
            list.retain(|hold| hold.strong_count() > 0);
            let holds = list.iter().filter_map(Weak::upgrade);
            holds.filter_map(|hold| Some((hold.slow(patience, now)?, hold))).collect()
        };
        slow.sort_by_key(|(waited, _)| std::cmp::Reverse(*waited));
        let released = slow.iter().take(count).filter_map(|(_, hold)| hold.release.take());
        // Whoever is released may hold, or drop, something in the list.
        released.map(|release| release()).count()
    }
}

impl Hold {
    /// It is the client's turn to send, or to take.
    pub fn wait(&self) {
        if self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// When it will have been the client's turn for so long, if it stays so.
    pub fn due(&self, window: Duration) -> Instant {
        let since = self.since.get().unwrap_or_else(Instant::now);
        since + window.saturating_sub(self.waited.get())
    }

    /// How long it has been the client's turn, up to now.
    pub fn waited(&self) -> Duration {
        let since = self.since.get();
        self.waited.get() + since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// The client has sent or taken so much: it is not its turn any more.
    pub fn moved(&self, bytes: u64) {
        self.waited.set(self.waited());
        self.since.set(None);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// What was before does not count any more.
    pub fn begin_again(&self) {
        self.since.set(None);
        self.waited.set(Duration::ZERO);
        self.bytes.set(0);
    }

    /// How long a slow client has been waited for, if it is waited for now.
    fn slow(&self, patience: Duration, now: Instant) -> Option<Duration> {
        let waited = self.waited.get() + now.saturating_duration_since(self.since.get()?);
        let least = waited.as_millis() as u64 * LEAST_BYTES_PER_SECOND / 1000;
        (waited >= patience && self.bytes.get() < least).then_some(waited)
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("waited", &self.waited()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    type Noted = Rc<RefCell<Vec<usize>>>;

    /// Holds whose number is noted when they are given up.
    fn noting(count: usize) -> (Holds, Vec<Rc<Hold>>, Noted) {
        let (holds, noted) = (Holds::default(), Noted::default());
        let list = (0..count).map(|number| {
            let noted = Rc::clone(&noted);
            holds.hold(move || noted.borrow_mut().push(number))
        });
        let list = list.collect();
        (holds, list, noted)
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_were_waited_for_longest_give_way_and_only_they() {
        let (holds, list, noted) = noting(5);
        for hold in &list[..3] {
            hold.wait();
            tokio::time::advance(SECOND).await;
        }
        list[3].wait();
        let now = Instant::now() + SECOND;
        assert_eq!(holds.shed(2, 2 * SECOND, now), 2);
        assert_eq!(*noted.borrow(), [0, 1]);
        assert_eq!(holds.shed(9, 2 * SECOND, now), 1, "each once, and not the fourth yet");
        assert_eq!(*noted.borrow(), [0, 1, 2]);
        assert_eq!(holds.shed(9, 2 * SECOND, now + 99 * SECOND), 1, "it is not the fifth's turn");
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_a_pace_stays() {
        let (holds, list, noted) = noting(2);
        for _ in 0..20 {
            list.iter().for_each(|hold| hold.wait());
            tokio::time::advance(SECOND).await;
            list[0].moved(LEAST_BYTES_PER_SECOND);
            list[1].moved(LEAST_BYTES_PER_SECOND - 1);
        }
        list.iter().for_each(|hold| hold.wait());
        assert_eq!(holds.shed(9, 5 * SECOND, Instant::now()), 1);
        assert_eq!(*noted.borrow(), [1]);
        tokio::time::advance(SECOND).await;
        assert_eq!(holds.shed(9, 30 * SECOND, Instant::now()), 0);
        assert_eq!(holds.shed(9, 5 * SECOND, Instant::now()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_not_kept() {
        let (holds, list, noted) = noting(100);
        drop(list);
        let last = holds.hold(|| ());
        last.wait();
        tokio::time::advance(9 * SECOND).await;
        assert_eq!(holds.shed(9, SECOND, Instant::now()), 1);
        assert!(noted.borrow().is_empty());
        assert_eq!(holds.list.borrow().len(), 1);
        (0..1000).for_each(|_| drop(holds.hold(|| ())));
        assert!(holds.list.borrow().len() <= 256);
    }
}
