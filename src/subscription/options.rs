//! What may be said of subscriptions.

use std::time::Duration;

/// What a client may ask for over plain HTTP, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Without, such requests are forwarded like all others.
    pub enabled: bool,
    /// Silence after which a stream says that it is still there.
    pub heartbeat: Duration,
    pub max_lifetime: Option<Duration>,
    /// The longest that a request is kept waiting that prefers to wait.
    pub longest_wait: Duration,
    /// Subscriptions at one time, on the whole node.
    pub limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            heartbeat: Duration::from_secs(15),
            max_lifetime: None,
            longest_wait: Duration::from_secs(60),
            limit: 16_384,
        }
    }
}
