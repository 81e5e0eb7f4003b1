//! What the gate asks of a session: that its address may be here, and that it pays for what it does.

use super::Session;
use crate::audience::Viewer;
use crate::gate::{Account, Action, Offence, Refusal, Wait};
use crate::protocol::{Close, ErrorCode, Problem};

impl Session {
    /// How the session is to be closed if its address may not be here any more.
    pub(super) fn shut_out(&self) -> Option<Close> {
        let retry_after = match self.sessions.services().gate.admit(self.client.ip).err()? {
            Refusal::Banned { left } => Some(Wait { retry: left }.seconds()),
            Refusal::Denied | Refusal::NotAllowed => None,
        };
        Some(Close::Forbidden { retry_after })
    }

    /// Spends what an action of `viewer` costs.
    pub(super) fn pay(&self, action: Action, viewer: &Viewer) -> Result<(), Problem> {
        let services = self.sessions.services();
        let gate = &services.gate;
        let fields = viewer.credentials().iter().map(|(name, value)| (name, value));
        let caller = gate.caller(self.client.ip, fields);
        gate.spend(action, caller, &mut Account::default()).map_err(|wait| {
            let text = match action {
                Action::Message => "too many messages",
                Action::Bind => "too many binds",
                Action::Read | Action::Write | Action::Connect => "too many requests",
            };
            self.over_rate(wait, text)
        })
    }

    /// Whether this address may try credentials: not after too many that were refused.
    pub(super) fn may_authenticate(&self) -> Result<(), Problem> {
        let services = self.sessions.services();
        let gate = &services.gate;
        let may = gate.may_authenticate(self.client.ip);
        may.map_err(|wait| self.over_rate(wait, "too many credentials were refused"))
    }

    pub(super) fn over_rate(&self, wait: Wait, text: &'static str) -> Problem {
        self.sessions.services().gate.offend(self.client.ip, Offence::OverRate);
        let retry_after = Some(wait.seconds());
        Problem { retry_after, ..Problem::new(ErrorCode::RateLimited, text) }
    }

    /// A credential of the session's was refused.
    pub(super) fn bad_credential(&self) {
        self.sessions.services().gate.bad_credential(self.client.ip);
    }

    /// The session is closed for what it sent.
    pub(super) fn abuse(&self, close: &Close) {
        self.sessions.services().gate.offend(self.client.ip, Offence::Malformed);
        self.close(close);
    }
}
