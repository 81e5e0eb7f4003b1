//! A connection that is to leave HTTP.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::time::Instant;

use super::failure::{Failure, Kind, kind};
use super::response::{Connection, Download, ResponseBody};
use super::wire::Wire;
use super::{Upstream, note_spelling, within};
use crate::alarm::Alarm;
use crate::body::RequestBody;
use crate::transport::Transport;

impl Upstream {
    /// Sends a request to switch protocols, on a connection that serves nothing else.
    pub async fn upgrade(&self, mut request: Request<RequestBody>) -> Result<Switch, Failure> {
        let permit = self.permit().await?;
        let wire = Wire::new(self.connect().await?);
        let heads = wire.heads();
        wire.spelling().of_next(request.extensions_mut().remove());
        let (mut sender, connection) = self
            .roomy
            .handshake(wire)
            .await
            .map_err(|error| Failure::unseen(Kind::Reset(error)))?;
        let driver = Driver(tokio::task::spawn_local(connection.with_upgrades()));
        let timeout = self.options.response_timeout;
        let answer = sender.send_request(request);
        let answer = within(&mut Alarm::default(), timeout, Instant::now(), None, answer)
            .await
            .ok_or_else(|| Failure::seen(Kind::ResponseTimeout))?;
        let mut answer = answer.map_err(|error| Failure::seen(kind(error)))?;
        note_spelling(&heads, &mut answer);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut answer);
            let head = answer.map(|_| ());
            drop(permit);
            return Ok(Switch::Switched { head, upstream: Tunnel { upgrade, _driver: driver } });
        }
        let (head, incoming) = answer.into_parts();
        let connection = Connection::Driven { _driver: driver, _sender: sender, _permit: permit };
        Ok(Switch::Answered(Response::from_parts(
            head,
            ResponseBody::Incoming(Download::new(incoming, Some(connection))),
        )))
    }
}

/// What the upstream said to a request to switch protocols.
#[derive(Debug)]
pub enum Switch {
    Switched { head: Response<()>, upstream: Tunnel },
    Answered(Response<ResponseBody>),
}

/// The upstream's end of a connection that has left HTTP.
#[derive(Debug)]
pub struct Tunnel {
    upgrade: OnUpgrade,
    _driver: Driver,
}

impl Tunnel {
    /// The bare socket, and what the upstream has already said on it.
    pub async fn into_transport(self) -> std::io::Result<(Transport, Bytes)> {
        let upgraded: Upgraded = self.upgrade.await.map_err(std::io::Error::other)?;
        let parts = upgraded
            .downcast::<Wire>()
            .map_err(|_| std::io::Error::other("not the socket that was connected"))?;
        Ok((parts.io.into_transport(), parts.read_buf))
    }
}

/// The task of a connection that may leave HTTP; it ends with whoever uses the connection.
#[derive(Debug)]
pub(super) struct Driver(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
