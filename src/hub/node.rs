//! What the hubs of all workers share, and what can be said to all of them from outside.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Options;
use super::mail::Mailbox;
use super::written::Writes;
use crate::change::Change;
use crate::metrics;

/// What the hubs of all workers share.
#[derive(Debug, Clone)]
pub struct Node {
    /// Refetches that may still start.
    pub(super) refetches: Arc<Semaphore>,
    pub(super) writes: Arc<Writes>,
    pub(super) metrics: Arc<metrics::Node>,
}

impl Node {
    pub fn new(options: &Options, metrics: Arc<metrics::Node>) -> Self {
        let refetches = Arc::new(Semaphore::new(options.refetch_concurrency.max(1)));
        Self { refetches, writes: Arc::default(), metrics }
    }

    /// Marks every view that `change` may have touched dirty, on every worker. Does not wait.
    pub fn changed(&self, mail: &[Mailbox], change: Change) {
        self.writes.note(&change);
        let change = Arc::new(change);
        mail.iter().for_each(|mailbox| mailbox.change(&change));
    }
}
