//! Bindings that end by themselves, because the client or their route said so.
//!
//! They have no timers. A session that has any looks for the first of their ends whenever its own
//! timer is set, and one that has none does not.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Session;
use crate::hub::mirror::Binding;
use crate::protocol::Reason;

impl Session {
    /// The binding was asked for: it ends so long after, or when its route says. Gives when that is,
    /// in Unix seconds.
    pub(super) fn begin_life(&self, binding: &Binding, asked: Option<Duration>) -> Option<u64> {
        let services = self.sessions.services();
        let most = services.routes.of(binding.uri.as_str()).rule.ttl;
        if asked.is_none() && most.is_none() && binding.terms().is_none() {
            return None;
        }
        let now = Instant::now();
        binding.own_terms().begin(now, asked, most);
        let end = binding.terms()?.end()?;
        self.watch_end(end);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Some((unix + (end - now)).as_secs())
    }

    /// The binding's route says something else now.
    pub(super) fn limit_life(&self, binding: &Binding) {
        let services = self.sessions.services();
        let most = services.routes.of(binding.uri.as_str()).rule.ttl;
        if most.is_none() && binding.terms().is_none() {
            return;
        }
        binding.own_terms().limit(Instant::now(), most);
        if let Some(end) = binding.terms().and_then(|terms| terms.end()) {
            self.watch_end(end);
        }
    }

    /// What was waited for is decided, so that the binding's end counts again.
    pub(super) fn watch_again(&self, binding: &Binding) {
        if let Some(end) = binding.terms().and_then(|terms| terms.end()) {
            self.watch_end(end);
        }
    }

    fn watch_end(&self, end: Instant) {
        self.has_ends.set(true);
        let socket = self.socket();
        socket.sessions.arm_by(socket, end);
    }

    /// When the first binding ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        if !self.has_ends.get() {
            return None;
        }
        let bindings = self.bindings.borrow();
        bindings.iter().filter_map(|binding| end_of(binding)).min()
    }

    /// Ends the bindings whose time is over.
    pub(super) fn end_what_is_over(&self, now: Instant) {
        if !self.has_ends.get() {
            return;
        }
        let (mut over, mut has_ends) = (Vec::new(), false);
        for binding in self.bindings.borrow().iter() {
            let end = binding.terms().and_then(|terms| terms.end());
            has_ends |= end.is_some();
            if end_of(binding).is_some_and(|end| end <= now) {
                over.push(Rc::clone(binding));
            }
        }
        self.has_ends.set(has_ends);
        for binding in over {
            self.sessions.hub.leave(&binding);
            self.drop_binding(&binding);
            self.send_unbind(&binding, Reason::Ttl);
        }
    }
}

/// A binding that is being asked for again lasts until that is answered.
fn end_of(binding: &Binding) -> Option<Instant> {
    binding.terms()?.end().filter(|_| !binding.waits_for_answer())
}
