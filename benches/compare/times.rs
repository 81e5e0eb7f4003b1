//! How long things took, and what of it is the middle and the end.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
    }

    /// These and those.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Microseconds that this share of all took at most; nothing of nothing.
    pub(crate) fn quantile(&mut self, share: f64) -> Option<f64> {
        self.0.sort_unstable_by(f64::total_cmp);
        // The rounding is meant: the nearest rank.
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }
}
