//! One socket's life.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::connections::Slot;
use crate::exchange::Exchange;
use crate::headers::ClientAddress;
use crate::hub::Hub;
use crate::rejection::Rejection;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub path: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { path: "/".into() }
    }
}

/// What a socket was opened with.
#[derive(Debug)]
pub struct Opening {
    pub headers: HeaderMap,
    pub client: ClientAddress,
    pub host: String,
    /// The connection's place among all; held as long as the socket is open.
    pub slot: Slot,
}

/// One worker's sockets.
#[derive(Debug)]
pub struct Sessions;

impl Sessions {
    pub fn new(_: Options, _: Rc<Hub>, _: Rc<Exchange>) -> Self {
        Self
    }

    pub fn open(&self, _: TcpStream, _: Bytes, _: Opening) {}

    pub async fn drain(&self) {}
}

pub fn handshake<B>(_: &Request<B>) -> Result<Response<()>, Rejection> {
    Err(Rejection::UpgradeRequired)
}
