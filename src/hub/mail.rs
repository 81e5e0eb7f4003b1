//! What workers tell each other. A mailbox holds what is *owed*, not what happened: a later state of
//! a view replaces the earlier one, and too many changes become "everything changed".

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::sync::Notify;

use super::written::Written;
use crate::audience::ViewKey;
use crate::change::Change;
use crate::channel::Published;
use crate::headers::ClientAddress;
use crate::view::Verdict;
use crate::view::items::Log;

/// Changes that wait for one worker; one more and every view of it counts as changed.
const MAX_CHANGES: usize = 4096;
/// Binds and unbinds that wait for one worker; at the bound a bind is refused (`unavailable`).
const MAX_SEATS: usize = 65_536;
/// Channel events that wait for one worker; at the bound they are counted as lost.
const MAX_PUBLISHED: usize = 8192;
/// Channels whose losses are counted apart; of more, every subscriber of any channel is told.
const MAX_LOST: usize = 1024;
/// Logouts that wait for one worker; one more and every session with a credential is ended.
const MAX_LOGOUTS: usize = 1024;

/// The credential fields of one client.
pub type Credentials = Vec<(HeaderName, HeaderValue)>;

/// From a worker with members to the worker that fetches the view.
#[derive(Debug)]
pub enum Seat {
    /// Somebody waits for an answer that was fetched after this.
    /// `items`: and for what becomes of its members.
    Take { key: Arc<ViewKey>, worker: usize, ticket: u64, client: ClientAddress, items: bool },
    /// Nobody on the worker is told of its members any more.
    NoItems { key: Arc<ViewKey>, worker: usize },
    /// The worker's last member left.
    Leave { key: Arc<ViewKey>, worker: usize },
}

/// From the worker that fetches to one that has members.
#[derive(Debug)]
pub struct Delivery {
    pub key: Arc<ViewKey>,
    /// Those who wait with a ticket up to this one have their answer.
    pub covers: u64,
    pub verdict: Verdict,
    /// What is to be told of its members, on workers where somebody is.
    pub items: Option<Arc<Log>>,
}

/// Answers to writes that wait for one worker; at the bound the views are fetched instead.
const MAX_WRITTEN: usize = 64;

/// What was in a mailbox.
#[derive(Debug, Default)]
pub struct Mail {
    pub changes: Vec<Arc<Change>>,
    /// Set when there were more changes than are kept: how long the slowest takes to settle.
    pub everything_changed: Option<Vec<Duration>>,
    /// Nothing that is known of any view counts.
    pub begin_again: bool,
    pub seats: Vec<Seat>,
    pub written: Vec<Arc<Written>>,
    pub deliveries: Vec<Delivery>,
    pub published: Vec<Published>,
    pub lost: HashMap<Arc<str>, u64>,
    pub lost_somewhere: u64,
    pub logouts: Vec<Arc<Credentials>>,
    pub everybody_out: bool,
    latest: HashMap<Arc<ViewKey>, usize>,
}

/// One worker's mailbox; any worker may post.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    bell: Notify,
    /// Views that the worker fetches: with none, no change needs to be posted. Raised before a
    /// view's first fetch starts, so a change that sees zero came before that fetch.
    views: AtomicUsize,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        // A panic while posting leaves whole entries; losing the mailbox would lose changes.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change(&self, change: &Arc<Change>) {
        // One that is to be asked for again also concerns views that are opened until then.
        if change.settle.is_empty() && self.views.load(Ordering::SeqCst) == 0 {
            return;
        }
        {
            let mut mail = self.mail();
            if mail.changes.len() < MAX_CHANGES {
                mail.changes.push(Arc::clone(change));
            } else {
                let settle = mail.everything_changed.get_or_insert_default();
                if change.settle.iter().max() > settle.iter().max() {
                    settle.clone_from(&change.settle);
                }
            }
        }
        self.bell.notify_one();
    }

    /// Nothing that is known of any view counts any more.
    pub fn begin_again(&self) {
        self.mail().begin_again = true;
        self.bell.notify_one();
    }

    /// A state that needs no fetch; counts as a change where it cannot be taken.
    pub fn written(&self, written: &Arc<Written>) {
        if self.views.load(Ordering::SeqCst) == 0 {
            return;
        }
        let is_full = {
            let mut mail = self.mail();
            let is_full = mail.written.len() >= MAX_WRITTEN;
            if !is_full {
                mail.written.push(Arc::clone(written));
            }
            is_full
        };
        match is_full {
            true => self.change(&Arc::new(written.as_change())),
            false => self.bell.notify_one(),
        }
    }

    /// False when the worker is too far behind to take another bind.
    pub fn take_seat(&self, seat: Seat) -> bool {
        {
            let mut mail = self.mail();
            if mail.seats.len() >= MAX_SEATS {
                return false;
            }
            mail.seats.push(seat);
        }
        self.bell.notify_one();
        true
    }

    /// Never refused: there are at most as many as seats that were taken.
    pub fn leave_seat(&self, seat: Seat) {
        self.mail().seats.push(seat);
        self.bell.notify_one();
    }

    pub fn deliver(&self, mut delivery: Delivery) {
        {
            let mut mail = self.mail();
            let Mail { deliveries, latest, .. } = &mut *mail;
            let replaced = latest.get(&delivery.key).and_then(|at| deliveries.get_mut(*at)).filter(
                |earlier| {
                    matches!(earlier.verdict, Verdict::Live { .. })
                        && matches!(delivery.verdict, Verdict::Live { .. })
                },
            );
            if let Some(earlier) = replaced {
                delivery.covers = delivery.covers.max(earlier.covers);
                *earlier = delivery;
            } else {
                latest.insert(Arc::clone(&delivery.key), deliveries.len());
                deliveries.push(delivery);
            }
        }
        self.bell.notify_one();
    }

    pub fn publish(&self, published: Published) {
        {
            let mut mail = self.mail();
            if mail.published.len() < MAX_PUBLISHED {
                mail.published.push(published);
            } else {
                let is_counted = mail.lost.contains_key(&published.channel);
                match is_counted || mail.lost.len() < MAX_LOST {
                    true => *mail.lost.entry(published.channel).or_default() += 1,
                    false => mail.lost_somewhere += 1,
                }
            }
        }
        self.bell.notify_one();
    }

    pub fn log_out(&self, credentials: &Arc<Credentials>) {
        {
            let mut mail = self.mail();
            if mail.logouts.len() < MAX_LOGOUTS {
                mail.logouts.push(Arc::clone(credentials));
            } else {
                mail.everybody_out = true;
            }
        }
        self.bell.notify_one();
    }

    /// Waits for mail and takes all of it.
    pub async fn collect(&self) -> Mail {
        self.bell.notified().await;
        std::mem::take(&mut *self.mail())
    }

    pub fn view_opened(&self) {
        self.views.fetch_add(1, Ordering::SeqCst);
    }

    /// Views that the worker fetches.
    pub fn views(&self) -> usize {
        self.views.load(Ordering::Relaxed)
    }

    pub fn view_closed(&self) {
        self.views.fetch_sub(1, Ordering::SeqCst);
    }
}
