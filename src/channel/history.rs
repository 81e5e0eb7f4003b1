//! The last events of one channel, numbered.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::event::Published;
use super::rule::History;

/// What a channel itself costs, and what each event costs besides what its client wrote.
const OVERHEAD: usize = 256;

/// Numbers rise by one from event to event, and go on where an earlier log of the channel ended.
#[derive(Debug)]
pub(super) struct Log {
    /// What came up to this is not known: the number that the log began after.
    base: u64,
    last: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    bytes: usize,
    published: Published,
}

/// What a subscriber that comes back has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    None,
    /// So many events before those that follow.
    Of(u64),
    /// Nobody knows what.
    Unknown,
}

/// What came after an event.
#[derive(Debug)]
pub struct Replay {
    pub gap: Gap,
    pub events: Vec<Published>,
}

impl Replay {
    pub(super) fn nothing(gap: Gap) -> Self {
        Self { gap, events: Vec::new() }
    }
}

impl Log {
    pub(super) fn after(base: u64) -> Self {
        Self { base, last: base, entries: VecDeque::new(), bytes: 0 }
    }

    /// The number of the latest event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.bytes
    }

    /// Takes the next event, made for its number.
    pub(super) fn push(
        &mut self,
        bytes: usize,
        now: Instant,
        keep: &History,
        make: impl FnOnce(u64) -> Published,
    ) -> Published {
        self.last += 1;
        let published = make(self.last);
        let bytes = OVERHEAD + bytes;
        self.bytes += bytes;
        self.entries.push_back(Entry { at: now, bytes, published: published.clone() });
        self.forget(now, keep);
        published
    }

    /// Drops what is too old or too much.
    pub(super) fn forget(&mut self, now: Instant, keep: &History) {
        let too_much = |log: &Self| {
            let written = log.bytes - OVERHEAD * log.entries.len();
            log.entries.len() > keep.count || written > keep.bytes
        };
        while let Some(oldest) = self.entries.front() {
            if !too_much(self) && now.saturating_duration_since(oldest.at) < keep.ttl {
                break;
            }
            self.bytes -= oldest.bytes;
            self.entries.pop_front();
        }
    }

    /// What came after the event of that number, or all that is kept.
    pub(super) fn since(&self, number: Option<u64>) -> Replay {
        let all = || self.entries.iter().map(|entry| entry.published.clone());
        let Some(number) = number else {
            return Replay { gap: Gap::None, events: all().collect() };
        };
        let before_oldest = self.last - self.entries.len() as u64;
        if number < self.base || number > self.last {
            Replay { gap: Gap::Unknown, events: all().collect() }
        } else if number < before_oldest {
            Replay { gap: Gap::Of(before_oldest - number), events: all().collect() }
        } else {
            let known = usize::try_from(number - before_oldest).unwrap_or(usize::MAX);
            Replay { gap: Gap::None, events: all().skip(known).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::event::Said;

    fn push(log: &mut Log, now: Instant, keep: &History, size: usize) {
        log.push(size, now, keep, |number| {
            let data = serde_json::value::to_raw_value(&number).ok();
            let said = Said { name: "e".into(), data, packed: None };
            Published::in_order("c".into(), said, None, number, None)
        });
    }

    fn numbers(replay: &Replay) -> Vec<u64> {
        replay.events.iter().map(|event| event.text().parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_kept_is_counted_and_what_was_never_known_is_not() {
        let (keep, mut log) = (History { count: 3, ..History::default() }, Log::after(10));
        let now = Instant::now();
        for _ in 0..5 {
            push(&mut log, now, &keep, 1);
        }
        let cases = [
            (None, Gap::None, vec![13, 14, 15]),
            (Some(15), Gap::None, vec![]),
            (Some(13), Gap::None, vec![14, 15]),
            (Some(12), Gap::None, vec![13, 14, 15]),
            (Some(11), Gap::Of(1), vec![13, 14, 15]),
            (Some(10), Gap::Of(2), vec![13, 14, 15]),
            (Some(9), Gap::Unknown, vec![13, 14, 15]),
            (Some(16), Gap::Unknown, vec![13, 14, 15]),
        ];
        for (since, gap, kept) in cases {
            let replay = log.since(since);
            assert_eq!((replay.gap, numbers(&replay)), (gap, kept), "{since:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_goes_with_its_time_and_with_the_bytes() {
        let keep = History { count: 100, ttl: Duration::from_secs(10), bytes: 100 };
        let (mut log, start) = (Log::after(0), Instant::now());
        push(&mut log, start, &keep, 10);
        push(&mut log, start + Duration::from_secs(9), &keep, 10);
        log.forget(start + Duration::from_secs(10), &keep);
        assert_eq!(numbers(&log.since(None)), [2]);
        push(&mut log, start + Duration::from_secs(10), &keep, 90);
        assert_eq!(numbers(&log.since(None)), [2, 3]);
        push(&mut log, start + Duration::from_secs(10), &keep, 11);
        assert_eq!(numbers(&log.since(None)), [4]);
        // One that is larger than all that is kept is not kept, and counted.
        push(&mut log, start + Duration::from_secs(10), &keep, 101);
        assert_eq!((log.since(Some(4)).gap, log.bytes()), (Gap::Of(1), OVERHEAD));
    }
}
