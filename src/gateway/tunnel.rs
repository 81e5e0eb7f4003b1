//! What becomes of a connection that has left HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::connections::Slot;
use crate::downstream::Downstream;
use crate::upstream::Tunnel;

/// How long an accepted upgrade may take to be carried out.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client's bare socket, once hyper has let go of it.
pub(super) async fn socket(upgrade: OnUpgrade) -> io::Result<(TcpStream, Bytes, Slot)> {
    let upgraded =
        tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await?.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<Downstream>()
        .map_err(|_| io::Error::other("not the socket that was accepted"))?;
    Ok(parts.io.into_socket(parts.read_buf))
}

/// Carries bytes both ways until either end is done.
pub(super) async fn tunnel(client: OnUpgrade, upstream: Tunnel) -> io::Result<()> {
    let (mut client, from_client, _slot) = socket(client).await?;
    let (mut upstream, from_upstream) =
        tokio::time::timeout(UPGRADE_TIMEOUT, upstream.into_socket()).await??;
    upstream.write_all(&from_client).await?;
    client.write_all(&from_upstream).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
