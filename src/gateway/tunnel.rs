//! What becomes of a connection that has left HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncWriteExt;

use crate::connections::Slot;
use crate::downstream::Downstream;
use crate::transport::Transport;
use crate::upstream::Tunnel;

/// How long an accepted upgrade may take to be carried out.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client's bare connection, once hyper has let go of it.
pub(super) async fn bare(upgrade: OnUpgrade) -> io::Result<(Transport, Bytes, Slot)> {
    let upgraded =
        tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await?.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<Downstream>()
        .map_err(|_| io::Error::other("not the socket that was accepted"))?;
    Ok(parts.io.into_transport(parts.read_buf))
}

/// Carries bytes both ways until either end is done.
pub(super) async fn tunnel(client: OnUpgrade, upstream: Tunnel) -> io::Result<()> {
    let (mut client, from_client, _slot) = bare(client).await?;
    let (mut upstream, from_upstream) =
        tokio::time::timeout(UPGRADE_TIMEOUT, upstream.into_transport()).await??;
    upstream.write_all(&from_client).await?;
    client.write_all(&from_upstream).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
