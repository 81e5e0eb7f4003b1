//! A session as the hub sees it: whose eyes its bindings have, and what becomes of them.

use std::rc::Rc;

use super::Session;
use super::requests::unbound_problem;
use crate::audience::Viewer;
use crate::headers::ClientAddress;
use crate::hub::Unbound;
use crate::hub::mirror::{Binding, Owner, Purpose};
use crate::namespace::Name;
use crate::protocol::{Outgoing, Reason};
use crate::view::{End, Verdict};

impl Owner for Session {
    fn id(&self) -> u64 {
        self.id
    }

    fn viewer(&self) -> Rc<Viewer> {
        Rc::clone(&self.viewer.borrow())
    }

    fn client(&self) -> ClientAddress {
        self.client.clone()
    }

    fn namespace(&self) -> Option<Rc<Name>> {
        self.namespace_name().cloned()
    }

    fn owe(&self, binding: &Rc<Binding>) {
        if self.closing.get().is_none() {
            self.outbox.mark_ready(binding);
            self.owe_flush();
        }
    }

    fn answer(&self, binding: &Rc<Binding>, purpose: Purpose, verdict: &Verdict) {
        match purpose {
            Purpose::Bind(ask) => self.answer_bind(binding, &ask, verdict),
            // The request itself was answered well, so the client takes the URI for bound.
            Purpose::Autobind if !binding.live.get() => match verdict {
                Verdict::Live { .. } => {}
                Verdict::Failed(_) if binding.is_wanted() => {}
                Verdict::Failed(_) => {
                    self.sessions.hub.leave(binding);
                    self.drop_binding(binding);
                    self.send_unbind(binding, Reason::Limit);
                }
                Verdict::Ended(_) => self.send_unbind(binding, Reason::Forbidden),
            },
            Purpose::Autobind => {}
            Purpose::Rejudge(reason) => {
                if matches!(verdict, Verdict::Ended(_)) {
                    self.send_unbind(binding, reason);
                }
            }
        }
    }

    fn ended(&self, binding: &Rc<Binding>, _end: &End) {
        if binding.live.get() {
            self.send_unbind(binding, Reason::Forbidden);
        }
        self.sessions.hub.leave(binding);
        self.drop_binding(binding);
    }

    fn lapsed(&self, binding: &Rc<Binding>) {
        // Who was told that it is over need not keep what a patch would be of.
        self.sessions.hub.set_delta(binding, false);
        self.send_unbind(binding, Reason::Forbidden);
    }

    fn overloaded(&self, binding: &Rc<Binding>) {
        self.sessions.hub.leave(binding);
        self.drop_binding(binding);
        self.refuse_waiting(binding, &unbound_problem(Unbound::Overloaded));
        self.send_unbind(binding, Reason::Limit);
    }
}

impl Session {
    pub(super) fn find(&self, uri: &crate::uri::Uri) -> Result<usize, usize> {
        self.bindings.borrow().binary_search_by(|binding| binding.uri.cmp(uri))
    }

    /// Ends a binding on this side.
    pub(super) fn drop_binding(&self, binding: &Rc<Binding>) {
        if let Ok(at) = self.find(&binding.uri) {
            self.bindings.borrow_mut().remove(at);
        }
        self.outbox.forget(binding);
        binding.live.set(false);
    }

    pub(super) fn send_unbind(&self, binding: &Binding, reason: Reason) {
        self.send(&Outgoing {
            event: Some("unbind"),
            uri: Some(binding.name()),
            reason: Some(reason),
            ..Outgoing::default()
        });
    }
}
