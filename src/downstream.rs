//! A client's socket as hyper sees it, with the bytes that were read to tell which HTTP it speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::connections::Slot;

/// How an HTTP/2 client begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A whole small request, so that the first one costs no second read.
const FIRST_READ: usize = 1024;

/// What a client speaks, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

#[derive(Debug)]
pub struct Downstream {
    tcp: TokioIo<TcpStream>,
    /// Read, and not yet seen by hyper.
    ahead: Bytes,
    slot: Slot,
}

impl Downstream {
    /// Reads until the first bytes tell what the client speaks; `None` when it left before.
    pub async fn listen(
        mut tcp: TcpStream,
        slot: Slot,
    ) -> io::Result<Option<(Speaks, Downstream)>> {
        let mut ahead = BytesMut::with_capacity(FIRST_READ);
        loop {
            if tcp.read_buf(&mut ahead).await? == 0 {
                return Ok(None);
            }
            let common = PREFACE.len().min(ahead.len());
            let speaks = if ahead[..common] != PREFACE[..common] {
                Speaks::Http1
            } else if common == PREFACE.len() {
                Speaks::Http2
            } else {
                continue;
            };
            let tcp = TokioIo::new(tcp);
            return Ok(Some((speaks, Self { tcp, ahead: ahead.freeze(), slot })));
        }
    }

    /// The bare socket, and what was read on it after `read_buf`.
    pub fn into_socket(self, read_buf: Bytes) -> (TcpStream, Bytes, Slot) {
        let ahead =
            if self.ahead.is_empty() { read_buf } else { [read_buf, self.ahead].concat().into() };
        (self.tcp.into_inner(), ahead, self.slot)
    }
}

impl Read for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Downstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
