//! What is done about a request once it is answered.

use std::net::IpAddr;

use http::{Method, Response, StatusCode, Uri};

use super::Peer;
use crate::exchange::ResponseBody;
use crate::gate::{Account, Gate, Offence, Wait};
use crate::rejection::Rejection;

pub(super) struct Notes {
    /// What its client is told of its budgets.
    pub(super) account: Account,
    /// Whom the gate wants to know of that asks for what it is refused.
    pub(super) watched: Option<IpAddr>,
    pub(super) tries_credential: bool,
}

impl Notes {
    /// Counts against the client what it should not have asked for.
    pub(super) fn conclude(
        self,
        gate: &Gate,
        answer: &Result<Box<Response<ResponseBody>>, Rejection>,
    ) -> Account {
        if let Some(client) = self.watched {
            match answer {
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                    if self.tries_credential {
                        gate.bad_credential(client);
                    }
                }
                Err(Rejection::RateLimited { .. }) => gate.offend(client, Offence::OverRate),
                Err(Rejection::BadRequest(_)) => gate.offend(client, Offence::Malformed),
                Ok(_) | Err(_) => {}
            }
        }
        self.account
    }
}

pub(super) fn over_rate(wait: Wait) -> Rejection {
    Rejection::RateLimited { retry_after: wait.retry }
}

/// One line for each request that the gateway itself answered: no query, no credentials.
pub(super) fn log(rejection: &Rejection, method: &Method, target: &Uri, peer: &Peer) {
    let status = rejection.status().as_u16();
    let path = target.path();
    let client = peer.address.ip;
    let (code, detail, cause) = (rejection.code(), rejection.detail(), rejection.cause());
    if rejection.status().is_server_error() {
        tracing::warn!(%method, path, status, ?code, detail, cause, %client, "request failed");
    } else {
        tracing::info!(%method, path, status, ?code, detail, cause, %client, "request refused");
    }
}
