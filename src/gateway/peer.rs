//! Who is at the other end of a connection, and what is known of it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::downstream::{Downstream, Rest};
use crate::gate::Gate;
use crate::head::Heads;
use crate::headers::ClientAddress;
use crate::spelling::Spelling;

/// A connection's other end.
#[derive(Debug)]
pub struct Peer {
    pub(super) address: ClientAddress,
    /// Whether it is a trusted proxy, as the gate of that number said.
    trusted: Cell<(u64, bool)>,
    /// It does not say for whom it forwards.
    mute: bool,
    pub(super) heads: Arc<Heads>,
    pub(super) rest: Arc<Rest>,
    pub(super) spelling: Arc<Spelling>,
}

impl Peer {
    pub fn new(peer: SocketAddr, gate: &Gate) -> Self {
        let address = ClientAddress::direct(peer);
        let trusted = Cell::new((gate.number(), gate.trusts(address.ip)));
        Self {
            address,
            trusted,
            mute: false,
            heads: Arc::default(),
            rest: Arc::default(),
            spelling: Arc::default(),
        }
    }

    /// The same, with what is known of the connection.
    pub(crate) fn on(self, stream: &Downstream) -> Self {
        Self { heads: stream.heads(), rest: stream.rest(), spelling: stream.spelling(), ..self }
    }

    /// The same, whose headers are not believed: a proxy that does not say for whom it forwards.
    pub(crate) fn untrusted(self) -> Self {
        Self { mute: true, ..self }
    }

    /// The same over TLS.
    pub(crate) fn over_tls(self) -> Self {
        Self { address: self.address.over_tls(), ..self }
    }

    pub(crate) fn is_trusted_by(&self, gate: &Gate) -> bool {
        let (number, trusted) = self.trusted.get();
        if number == gate.number() {
            return trusted && !self.mute;
        }
        self.trusted.set((gate.number(), gate.trusts(self.address.ip)));
        self.is_trusted_by(gate)
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip
    }
}
