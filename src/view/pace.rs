//! How often a view is fetched, and how views are kept apart in time.

use std::time::Duration;

use tokio::time::Instant;

/// How a view is paced.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Shortest time between two fetches that no client waits for.
    pub min_interval: Duration,
    /// How long the truth may be unknown before members are told.
    pub stale_after: Duration,
    /// Longest time without a fetch, so that a revoked credential is found out.
    pub recheck: Option<Duration>,
    /// Time after the last good fetch at which to look for what changed elsewhere.
    pub poll: Option<Duration>,
    /// 0..1, different for each view, so that not all come back at once.
    pub spread: f64,
    /// Changes are announced, not shown.
    pub notify: bool,
    /// A 401 after a good bind says that the credential was used up, not that it was revoked.
    pub single_use: bool,
}

impl Pace {
    /// When the credential is to be judged again, after a good fetch at `now`.
    pub(super) fn recheck_after(&self, now: Instant) -> Option<Instant> {
        self.recheck.map(|every| now + self.jittered(every))
    }

    /// When to look for changes again, after a good fetch at `now`.
    pub(super) fn poll_after(&self, now: Instant) -> Option<Instant> {
        self.poll.map(|every| now + self.jittered(every))
    }

    /// One view's time where others have the same: up to a quarter more or less.
    pub(super) fn jittered(&self, time: Duration) -> Duration {
        time.mul_f64(0.75 + 0.5 * self.spread.clamp(0.0, 1.0))
    }
}
