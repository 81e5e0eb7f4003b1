//! Why a request got no answer.

use super::pool::Broken;
use crate::body::{Fault, Progress};

/// Why a request got no answer.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    /// Bytes of the request may have reached the upstream, so it may have acted on it.
    pub may_have_been_seen: bool,
}

#[derive(Debug)]
pub enum Kind {
    Connect(std::io::Error),
    ConnectTimeout,
    ResponseTimeout,
    /// The connection ended before an answer.
    Reset(hyper::Error),
    /// Every connection is taken.
    Busy,
    /// What came is no HTTP answer.
    BadResponse(hyper::Error),
    /// The client failed to send its body.
    RequestBody(Fault),
}

impl Failure {
    pub(super) fn unseen(kind: Kind) -> Self {
        Self { kind, may_have_been_seen: false }
    }

    pub(super) fn seen(kind: Kind) -> Self {
        Self { kind, may_have_been_seen: true }
    }
}

pub(super) fn failure(broken: Broken, progress: Option<&Progress>) -> Failure {
    let kind = match progress.and_then(Progress::fault) {
        Some(fault) => Kind::RequestBody(fault),
        None => kind(broken.error),
    };
    Failure { kind, may_have_been_seen: broken.unwritten.is_none() }
}

pub(super) fn kind(error: hyper::Error) -> Kind {
    if error.is_parse() || error.is_user() { Kind::BadResponse(error) } else { Kind::Reset(error) }
}
