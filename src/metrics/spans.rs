//! What became of the spans of requests.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Exposition;

/// Any thread may count here: what sends spans does it once for many, and workers only for those
/// that find no place.
#[derive(Debug, Default)]
pub struct Spans {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Spans {
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    pub fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// How many were dropped.
    pub fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        out.counter("pogo_spans_exported", "Spans of requests that the collector has taken.");
        out.sample(&[], self.exported.load(Ordering::Relaxed));
        out.counter("pogo_spans_dropped", "Spans of requests that no collector has taken.");
        out.sample(&[], self.lost());
    }
}
