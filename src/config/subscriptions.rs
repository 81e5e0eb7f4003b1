//! The section of views over plain HTTP.

use serde::{Deserialize, Serialize};

use crate::subscription;
use crate::units::Interval;

/// Which requests are answered with more than one state, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subscriptions {
    pub enabled: bool,
    pub heartbeat: Interval,
    pub max_lifetime: Option<Interval>,
    pub longest_wait: Interval,
    pub limit: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            enabled: true,
            heartbeat: Interval::seconds(15),
            max_lifetime: None,
            longest_wait: Interval::seconds(60),
            limit: 16_384,
        }
    }
}

impl Subscriptions {
    pub(super) fn options(&self) -> subscription::Options {
        subscription::Options {
            enabled: self.enabled,
            heartbeat: self.heartbeat.0,
            max_lifetime: self.max_lifetime.map(|lifetime| lifetime.0),
            longest_wait: self.longest_wait.0,
            limit: self.limit,
        }
    }
}
