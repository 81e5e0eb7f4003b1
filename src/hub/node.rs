//! What the hubs of all workers share, and what can be said to all of them from outside.

use std::sync::Arc;

use super::mail::Mailbox;
use super::written::Writes;
use crate::change::Change;
use crate::channel::Rooms;
use crate::metrics;

/// What the hubs of all workers share.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) writes: Arc<Writes>,
    pub(super) rooms: Arc<Rooms>,
    pub(super) metrics: Arc<metrics::Node>,
}

impl Node {
    /// Histories of channels may take so many bytes together.
    pub fn new(metrics: Arc<metrics::Node>, history_bytes: usize) -> Self {
        Self { writes: Arc::default(), rooms: Arc::new(Rooms::new(history_bytes)), metrics }
    }

    /// For the views of another API.
    pub fn apart(&self) -> Self {
        Self { writes: Arc::default(), ..self.clone() }
    }

    /// Has every view of every worker fetched again: what it shows is of an upstream, or was told
    /// apart by rules, that count no more. To be said once no worker goes by them any longer.
    pub fn begin_again(&self, mail: &[Mailbox]) {
        self.writes.note(&Change::of_everything(Vec::new()));
        mail.iter().for_each(Mailbox::begin_again);
    }

    /// Marks every view that `change` may have touched dirty, on every worker. Does not wait.
    pub fn changed(&self, mail: &[Mailbox], change: Change) {
        self.writes.note(&change);
        let change = Arc::new(change);
        mail.iter().for_each(|mailbox| mailbox.change(&change));
    }
}
