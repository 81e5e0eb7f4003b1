//! What is said on channels, on its way to all workers.

use std::sync::Arc;

use tokio::time::Instant;

use super::mail::Mailbox;
use super::{Hub, Node};
use crate::channel::{Arrival, Found, Full, Here, History, Published, Rule, Said};

impl Node {
    /// Says something on a channel as nobody's client.
    pub fn publish(&self, mail: &[Mailbox], rules: &[Rule], channel: &Arc<str>, said: Said) {
        match Rule::of(rules, channel).filter(|rule| rule.keeps_order()) {
            Some(rule) => {
                self.publish_in_order(mail, channel, said, None, rule.history.as_ref());
            }
            None => post(mail)(&Published::new(Arc::clone(channel), said, None)),
        }
    }

    fn publish_in_order(
        &self,
        mail: &[Mailbox],
        channel: &Arc<str>,
        said: Said,
        but: Option<u64>,
        history: Option<&History>,
    ) {
        self.rooms.publish(channel, said, but, history, Instant::now(), post(mail));
    }

    /// Histories may take so many bytes together.
    pub fn limit_histories(&self, bytes: usize) {
        self.rooms.limit(bytes);
    }

    /// Forgets the histories in which there is nothing left.
    pub fn sweep(&self) {
        self.rooms.sweep(Instant::now());
    }
}

/// Gives an event to every worker: also to the one that it is said on, which hears it in its turn.
fn post(mail: &[Mailbox]) -> impl Fn(&Published) {
    |published| mail.iter().for_each(|mailbox| mailbox.publish(published.clone()))
}

impl Hub {
    /// Sends a channel event to the subscribers on other workers.
    pub fn publish(&self, published: &Published) {
        for (worker, mailbox) in self.mail.iter().enumerate() {
            if worker != self.worker {
                mailbox.publish(published.clone());
            }
        }
    }

    /// Says something that everybody is to hear in one order.
    pub fn publish_in_order(
        &self,
        channel: &Arc<str>,
        said: Said,
        but: Option<u64>,
        history: Option<&History>,
    ) {
        self.node.publish_in_order(&self.mail, channel, said, but, history);
    }

    /// Lets somebody in on a channel that keeps order; the others are told.
    pub fn arrive(&self, arrival: Arrival<'_>) -> Result<Found, Full> {
        self.node.rooms.arrive(arrival, Instant::now(), post(&self.mail))
    }

    /// Somebody who is shown on a channel is so no more; the others are told.
    pub fn depart(&self, channel: &Arc<str>, session: u64) {
        self.node.rooms.leave(channel, session, post(&self.mail));
    }

    /// Who is on a channel, at which place in the order of what is said.
    pub fn here(&self, channel: &str) -> (u64, Here) {
        self.node.rooms.here(channel)
    }

    /// Where there is no room for it, what was shown stays.
    pub fn set_subject(&self, channel: &Arc<str>, session: u64, subject: Option<Arc<str>>) {
        let rooms = &self.node.rooms;
        if rooms.set_subject(channel, session, subject, post(&self.mail)).is_err() {
            tracing::warn!(%channel, "too much is told of who is there");
        }
    }

    pub fn keep_histories(&self, of: impl Fn(&str) -> bool) {
        self.node.rooms.keep_histories(of);
    }
}
