//! One number of one worker.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its own worker changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    pub fn subtract(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
