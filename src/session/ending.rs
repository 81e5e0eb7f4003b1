//! What is noted of a socket that has ended.

use super::Session;
use crate::access::ACCESS_LOG;

impl Session {
    pub(super) fn note_end(&self) {
        let parted = self.parted.get();
        self.sessions.hub.metrics().closed(parted.map(|(code, _)| code));
        tracing::info!(
            target: ACCESS_LOG,
            session = self.id,
            client = %self.client.ip,
            code = parted.map(|(code, _)| code),
            ended_by = if parted.is_some_and(|(_, here)| here) { "pogo" } else { "client" },
            duration_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX),
            "socket"
        );
    }
}
