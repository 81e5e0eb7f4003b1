//! What becomes of a connection that has left HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

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

/// How long one end may go on after the other is done: what it has yet to say is on its way.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Carries bytes both ways until either end is done.
pub(super) async fn tunnel(client: OnUpgrade, upstream: Tunnel) -> io::Result<()> {
    let (mut client, from_client, _slot) = bare(client).await?;
    let (mut upstream, from_upstream) =
        tokio::time::timeout(UPGRADE_TIMEOUT, upstream.into_transport()).await??;
    upstream.write_all(&from_client).await?;
    client.write_all(&from_upstream).await?;
    carry(client, upstream).await
}

/// Until both ends are done, or one for a while: the other may not even have noticed, and is not to
/// hold a connection for ever.
async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let done = Notify::new();
    let (mut client, mut upstream) = (End::new(client, &done), End::new(upstream, &done));
    let carried = tokio::io::copy_bidirectional(&mut client, &mut upstream);
    let given_up = async {
        done.notified().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    tokio::select! {
        carried = carried => carried.map(drop),
        () = given_up => Ok(()),
    }
}

/// One end of a tunnel, which says when it is done.
struct End<'a, T> {
    io: T,
    done: &'a Notify,
}

impl<'a, T> End<'a, T> {
    fn new(io: T, done: &'a Notify) -> Self {
        Self { io, done }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for End<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() == before {
            self.done.notify_one();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for End<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_end_may_have_its_last_word_and_no_more() {
        let (mut client, clients_end) = tokio::io::duplex(64);
        let (mut upstream, upstreams_end) = tokio::io::duplex(64);
        let carried = tokio::spawn(carry(clients_end, upstreams_end));
        let begin = Instant::now();
        upstream.write_all(b"bye").await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"bye");
        tokio::time::sleep(LAST_WORD / 2).await;
        client.write_all(b"well").await.unwrap();
        let mut heard = [0; 4];
        upstream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"well");
        // It neither leaves nor says anything more.
        carried.await.unwrap().unwrap();
        assert_eq!(begin.elapsed(), LAST_WORD);
        assert!(client.write_all(b"hello?").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn while_both_are_there_neither_has_to_say_anything() {
        let (client, clients_end) = tokio::io::duplex(64);
        let (upstream, upstreams_end) = tokio::io::duplex(64);
        let hour = std::time::Duration::from_secs(3600);
        let carried = tokio::time::timeout(hour, carry(clients_end, upstreams_end)).await;
        assert!(carried.is_err());
        drop((client, upstream));
    }
}
