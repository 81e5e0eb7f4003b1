//! A client's socket as hyper sees it, with the bytes that were read to tell which HTTP it speaks.

use std::io::{self, BufRead};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::connections::Slot;

/// How an HTTP/2 client begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A whole small request, so that the first one costs no second read.
const FIRST_READ: usize = 1024;
/// Most heads in one read.
const HEAD_READ: usize = 4096;

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
    framing: Arc<Framing>,
    line: LineStart,
    stall: Stall,
}

impl Downstream {
    /// Reads until the first bytes tell what the client speaks; `None` when it left before.
    ///
    /// From then on the client may leave what is written to it untaken for `patience`.
    pub async fn listen(
        mut tcp: TcpStream,
        slot: Slot,
        patience: Duration,
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
            let mut this = Self {
                tcp: TokioIo::new(tcp),
                ahead: ahead.freeze(),
                slot,
                framing: Arc::default(),
                line: LineStart::default(),
                stall: Stall { patience, timer: None },
            };
            match speaks {
                Speaks::Http1 => this.line.scan(&this.ahead, &this.framing),
                Speaks::Http2 => this.framing.ignore(),
            }
            return Ok(Some((speaks, this)));
        }
    }

    pub fn framing(&self) -> Arc<Framing> {
        Arc::clone(&self.framing)
    }

    /// Reads what may be a head.
    fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut head = [MaybeUninit::uninit(); HEAD_READ];
        let room = HEAD_READ.min(buf.remaining());
        let mut head = ReadBuf::uninit(&mut head[..room]);
        ready!(Pin::new(self.tcp.inner_mut()).poll_read(cx, &mut head))?;
        self.line.scan(head.filled(), &self.framing);
        buf.put_slice(head.filled());
        Poll::Ready(Ok(()))
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
            return if self.framing.is_ignored() {
                Pin::new(&mut self.tcp).poll_read(cx, buf)
            } else {
                self.poll_read_head(cx, buf)
            };
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
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.stall.judge(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.stall.judge(polled, cx)
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

/// How long a client has taken nothing of what is written to it.
#[derive(Debug)]
struct Stall {
    patience: Duration,
    /// Runs while the socket is full.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn judge(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            if self.timer.is_some() {
                self.timer = None;
            }
            return polled;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

/// Which lengths the head of the request under way declares.
///
/// hyper takes `Content-Length` out of a request that has `Transfer-Encoding` as well, so that
/// nothing behind it can refuse such a request, as RFC 9112 §6.1 lets a server do and as one that
/// forwards to others should. What a head says is therefore noted as its bytes arrive. A head that
/// begins amid a read, behind another message, is not looked at: hyper's own reading of it is one
/// that the upstream cannot take in two ways.
#[derive(Debug, Default)]
pub struct Framing {
    declared: AtomicU8,
    ignored: AtomicBool,
}

const CONTENT_LENGTH: u8 = 1;
const TRANSFER_ENCODING: u8 = 2;

impl Framing {
    /// Whether the head that has been read declares two lengths; forgets it.
    pub fn take_two_lengths(&self) -> bool {
        let declared = self.declared.load(Ordering::Relaxed);
        self.declared.store(0, Ordering::Relaxed);
        declared == CONTENT_LENGTH | TRANSFER_ENCODING
    }

    /// What comes next is no head.
    pub fn ignore(&self) {
        self.ignored.store(true, Ordering::Relaxed);
    }

    /// The next read begins with a head.
    pub fn expect_head(&self) {
        self.ignored.store(false, Ordering::Relaxed);
    }

    fn is_ignored(&self) -> bool {
        self.ignored.load(Ordering::Relaxed)
    }

    fn declare(&self, length: u8) {
        self.declared.store(self.declared.load(Ordering::Relaxed) | length, Ordering::Relaxed);
    }
}

/// The start of the line under way, as much of it as the longest name and its colon need.
#[derive(Debug, Default)]
struct LineStart {
    bytes: [u8; b"transfer-encoding:".len()],
    len: usize,
    /// A line of the head has been there: empty ones before the first do not end it.
    begun: bool,
}

impl LineStart {
    /// Looks at the lines up to the empty one that ends a head.
    fn scan(&mut self, mut bytes: &[u8], framing: &Framing) {
        while !bytes.is_empty() {
            let rest = bytes;
            let length = bytes.skip_until(b'\n').unwrap_or(rest.len());
            let line = &rest[..length];
            let count = line.len().min(self.bytes.len() - self.len);
            self.bytes[self.len..self.len + count].copy_from_slice(&line[..count]);
            self.len += count;
            if line.last() != Some(&b'\n') {
                return;
            }
            let start = &self.bytes[..self.len];
            self.len = 0;
            if let b"\r\n" | b"\n" = start {
                if std::mem::take(&mut self.begun) {
                    return;
                }
                continue;
            }
            self.begun = true;
            match start {
                [b'c' | b'C', ..] if begins(start, b"content-length:") => {
                    framing.declare(CONTENT_LENGTH);
                }
                [b't' | b'T', ..] if begins(start, b"transfer-encoding:") => {
                    framing.declare(TRANSFER_ENCODING);
                }
                _ => (),
            }
        }
    }
}

fn begins(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 3\r\n\
        Transfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn two_lengths_are_seen_however_the_head_is_split() {
        for at in 0..BOTH.len() {
            let (framing, mut line) = (Framing::default(), LineStart::default());
            line.scan(&BOTH[..at], &framing);
            line.scan(&BOTH[at..], &framing);
            assert!(framing.take_two_lengths(), "split at {at}");
            assert!(!framing.take_two_lengths());
        }
    }

    #[test]
    fn one_length_and_the_head_of_the_next_message_are_not_two() {
        let (framing, mut line) = (Framing::default(), LineStart::default());
        line.scan(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &framing);
        assert!(!framing.take_two_lengths());
        line.scan(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &framing);
        line.scan(&[&b"GET / HTTP/1.1\r\n\r\n"[..], BOTH].concat(), &framing);
        assert!(!framing.take_two_lengths());
    }

    #[test]
    fn empty_lines_before_a_head_do_not_end_it_and_longer_names_are_others() {
        let (framing, mut line) = (Framing::default(), LineStart::default());
        line.scan(&[b"\r\n\n", BOTH].concat(), &framing);
        assert!(framing.take_two_lengths());
        line.scan(
            b"POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding-X: chunked\r\n\r\n",
            &framing,
        );
        assert!(!framing.take_two_lengths());
    }
}
