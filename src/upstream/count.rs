//! What is counted of the upstream.

use super::{Kind, Upstream};
use crate::metrics::{self, UpstreamFailure};

impl Upstream {
    /// Writes down how many connections there are; called on every tick.
    pub fn count(&self, metrics: &metrics::Worker) {
        metrics.upstream_opened.add(self.opened.take());
        metrics.upstream_shed.add(self.pool.shed.take());
        metrics.upstream_idle.set(self.pool.idle() as u64);
        metrics.upstream_busy.set(self.pool.busy() as u64);
    }
}

impl Kind {
    /// How it is counted.
    pub fn label(&self) -> UpstreamFailure {
        match self {
            Self::Connect(_) => UpstreamFailure::Connect,
            Self::ConnectTimeout => UpstreamFailure::ConnectTimeout,
            Self::ResponseTimeout => UpstreamFailure::ResponseTimeout,
            Self::Reset(_) => UpstreamFailure::Reset,
            Self::Busy => UpstreamFailure::Busy,
            Self::BadResponse(_) => UpstreamFailure::BadResponse,
            Self::RequestBody(_) => UpstreamFailure::RequestBody,
        }
    }
}
