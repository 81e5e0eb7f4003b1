//! How reloads of the configuration went.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Exposition;

/// The start is not one, but it was the last success.
#[derive(Debug)]
pub struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    last_failed: AtomicBool,
    /// In seconds since 1970.
    last_success: AtomicU64,
}

impl Reloads {
    pub(super) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failed: AtomicBool::new(false),
            last_success: AtomicU64::new(now()),
        }
    }

    pub fn note(&self, good: bool) {
        let count = if good { &self.done } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_failed.store(!good, Ordering::Relaxed);
        if good {
            self.last_success.store(now(), Ordering::Relaxed);
        }
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        out.counter("pogo_reloads", "Reloads of the configuration.");
        out.sample(&[("outcome", "done")], self.done.load(Ordering::Relaxed));
        out.sample(&[("outcome", "failed")], self.failed.load(Ordering::Relaxed));
        out.gauge("pogo_reload_last_failed", "1 if the last reload failed.");
        out.sample(&[], u64::from(self.last_failed.load(Ordering::Relaxed)));
        out.gauge(
            "pogo_reload_last_success_timestamp_seconds",
            "When the configuration in effect was read.",
        );
        out.sample(&[], self.last_success.load(Ordering::Relaxed));
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
