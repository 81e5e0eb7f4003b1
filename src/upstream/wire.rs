//! A socket to the API as hyper sees it, with a look at the heads that arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::head::{Heads, Scan};
use crate::spelling::{Speller, Spelling};
use crate::transport::Transport;

#[derive(Debug)]
pub(super) struct Wire {
    io: TokioIo<Transport>,
    /// What has come, to be read once more.
    again: Bytes,
    /// The request that stands for the one that was sent has been swallowed.
    asked: bool,
    heads: Arc<Heads>,
    scan: Scan,
    speller: Speller,
}

impl Wire {
    pub(super) fn new(io: Transport) -> Self {
        Self {
            io: TokioIo::new(io),
            again: Bytes::new(),
            asked: false,
            heads: Arc::default(),
            scan: Scan::default(),
            speller: Speller::default(),
        }
    }

    /// The same socket before these bytes were read, and with its request sent.
    pub(super) fn read_again(self, bytes: Bytes) -> Self {
        Self { again: bytes, ..self }
    }

    fn swallows(&mut self, cx: &mut Context<'_>) -> bool {
        let swallows = !self.again.is_empty();
        if swallows && !self.asked {
            self.asked = true;
            cx.waker().wake_by_ref();
        }
        swallows
    }

    pub(super) fn heads(&self) -> Arc<Heads> {
        Arc::clone(&self.heads)
    }

    pub(super) fn spelling(&self) -> Arc<Spelling> {
        self.speller.spelling()
    }

    pub(super) fn into_transport(self) -> Transport {
        self.io.into_inner()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.again.is_empty() {
            if !this.asked {
                // hyper takes an answer before its request for a fault.
                return Poll::Pending;
            }
            let count = this.again.len().min(buf.remaining());
            buf.put_slice(&this.again.split_to(count));
            return Poll::Ready(Ok(()));
        }
        if this.heads.is_ignored() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        this.scan.poll_read(this.io.inner_mut(), cx, buf, &this.heads)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(cx) {
            return Poll::Ready(Ok(buf.len()));
        }
        let this = &mut *self;
        this.speller.poll_write(&mut this.io, cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(cx) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let this = &mut *self;
        this.speller.poll_write(&mut this.io, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.speller.poll_flush(&mut this.io, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
