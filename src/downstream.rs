//! A client's socket as hyper sees it: with the bytes that were read to tell which HTTP it speaks,
//! and with the clocks of clients that are silent or take nothing.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::alarm::Alarm;
use crate::connections::Slot;
use crate::head::{Heads, Scan};
use crate::spelling::{Speller, Spelling};
use crate::transport::Transport;

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

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a head, from its first byte to its last; and for that first byte.
    pub head: Duration,
    /// For that first byte, until the connection is better kept without buffers.
    pub rest: Duration,
    /// For the client to take any of what is written to it.
    pub untaken: Duration,
}

#[derive(Debug)]
pub struct Downstream {
    io: TokioIo<Transport>,
    /// Read, and not yet seen by hyper.
    ahead: Bytes,
    slot: Slot,
    heads: Arc<Heads>,
    rest: Arc<Rest>,
    scan: Scan,
    speller: Speller,
    patience: Patience,
    stall: Stall,
}

impl Downstream {
    /// `ahead` is what was read already.
    pub fn new(io: Transport, ahead: Bytes, slot: Slot, patience: Patience) -> Self {
        Self {
            io: TokioIo::new(io),
            ahead,
            slot,
            heads: Arc::default(),
            rest: Arc::default(),
            scan: Scan::default(),
            speller: Speller::default(),
            patience,
            stall: Stall { patience: patience.untaken, taken: 0, timer: None },
        }
    }

    /// Waits until the first bytes tell what the client speaks; `None` when it left before. Until
    /// something arrives no buffer is held.
    pub async fn listen(&mut self) -> io::Result<Option<Speaks>> {
        let mut ahead = BytesMut::from(std::mem::take(&mut self.ahead));
        loop {
            if let Some(speaks) = speaks(&ahead) {
                self.ahead = ahead.freeze();
                match speaks {
                    Speaks::Http1 => {
                        self.scan.read(&self.ahead, &self.heads);
                        self.rest.hear(self.scan.is_amid());
                    }
                    Speaks::Http2 => self.heads.ignore(),
                }
                return Ok(Some(speaks));
            }
            std::future::poll_fn(|cx| self.io.inner().poll_read_ready(cx)).await?;
            let mut bytes = [MaybeUninit::uninit(); FIRST_READ];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            // Read so, a socket that gave less than there was room for is known to have no more, and
            // is not asked again for nothing.
            let read = std::future::poll_fn(|cx| {
                Poll::Ready(Pin::new(self.io.inner_mut()).poll_read(cx, &mut bytes))
            });
            match read.await {
                Poll::Ready(Ok(())) if bytes.filled().is_empty() => return Ok(None),
                Poll::Ready(read) => read?,
                Poll::Pending => (),
            }
            ahead.extend_from_slice(bytes.filled());
        }
    }

    /// Goes back to where nothing has been heard, once whoever served the connection has let it go.
    pub fn begin_again(self, read_buf: &[u8]) -> Self {
        self.rest.keep_open(false);
        let stall = Stall { timer: None, ..self.stall };
        // Copied, because an empty `Bytes` of hyper's can hold all of its buffer.
        Self { ahead: Bytes::copy_from_slice(read_buf), scan: Scan::default(), stall, ..self }
    }

    pub fn patience(&self) -> Patience {
        self.patience
    }

    pub fn heads(&self) -> Arc<Heads> {
        Arc::clone(&self.heads)
    }

    pub fn rest(&self) -> Arc<Rest> {
        Arc::clone(&self.rest)
    }

    pub fn spelling(&self) -> Arc<Spelling> {
        self.speller.spelling()
    }

    /// Ends the connection where no answer is under way.
    pub fn say_goodbye(&mut self) {
        self.io.inner_mut().say_goodbye();
    }

    /// The bare socket, and what was read on it after `read_buf`.
    pub fn into_transport(self, read_buf: Bytes) -> (Transport, Bytes, Slot) {
        let ahead =
            if self.ahead.is_empty() { read_buf } else { [read_buf, self.ahead].concat().into() };
        (self.io.into_inner(), ahead, self.slot)
    }
}

fn speaks(ahead: &[u8]) -> Option<Speaks> {
    let common = PREFACE.len().min(ahead.len());
    if ahead[..common] != PREFACE[..common] {
        Some(Speaks::Http1)
    } else {
        (common == PREFACE.len()).then_some(Speaks::Http2)
    }
}

impl Read for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..count]);
            this.ahead.advance(count);
            if this.ahead.is_empty() {
                this.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if this.heads.is_ignored() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let polled = this.scan.poll_read(this.io.inner_mut(), cx, buf, &this.heads);
        if polled.is_ready() {
            this.rest.hear(this.scan.is_amid());
        }
        polled
    }
}

impl Write for Downstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = this.speller.poll_write(&mut this.io, cx, &[io::IoSlice::new(buf)]);
        this.stall.judge(polled, this.io.inner(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = this.speller.poll_write(&mut this.io, cx, bufs);
        this.stall.judge(polled, this.io.inner(), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = this.speller.poll_flush(&mut this.io, cx);
        this.stall.judge(polled, this.io.inner(), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is served no more is dropped at once, and that alone says goodbye without TLS.
        if self.rest.is_kept_open() || self.io.inner().is_plain() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What is known of a connection where it is served, and what its socket sees of it.
///
/// The atomics are there because hyper wants sockets to be `Send`; a connection has one thread.
#[derive(Debug, Default)]
pub struct Rest {
    /// A message is being answered, so whoever is silent is not waited for.
    answering: AtomicBool,
    /// Some of a head has come, and not its end.
    amid: AtomicBool,
    /// A head began, or ended, since somebody looked.
    heard: AtomicBool,
    /// The connection is served no more, and yet stays open.
    kept_open: AtomicBool,
}

impl Rest {
    pub fn set_answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::Relaxed);
    }

    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Something came, and it was or was not the end of a head.
    fn hear(&self, amid: bool) {
        if !(amid && self.is_amid()) {
            self.heard.store(true, Ordering::Relaxed);
        }
        self.amid.store(amid, Ordering::Relaxed);
    }

    fn is_amid(&self) -> bool {
        self.amid.load(Ordering::Relaxed)
    }

    fn take_heard(&self) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        self.heard.store(false, Ordering::Relaxed);
        heard
    }

    pub fn keep_open(&self, kept_open: bool) {
        self.kept_open.store(kept_open, Ordering::Relaxed);
    }

    fn is_kept_open(&self) -> bool {
        self.kept_open.load(Ordering::Relaxed)
    }
}

/// How long a client has asked nothing. To be judged whenever its connection has been polled: what
/// ends an answer does not wake the connection, so its socket may not be asked again for long.
#[derive(Debug)]
pub struct Silence {
    patience: Patience,
    heads: Arc<Heads>,
    rest: Arc<Rest>,
    spelling: Arc<Spelling>,
    since: Option<Instant>,
    /// A request costs it a look at the clock.
    alarm: Alarm,
}

/// What is to become of a client that is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// Nothing has been asked for a while: the connection is better kept without buffers.
    ForAWhile,
    /// No head came, or not its end.
    TooLong,
}

impl Silence {
    pub fn new(stream: &Downstream) -> Self {
        Self {
            patience: stream.patience,
            heads: stream.heads(),
            rest: stream.rest(),
            spelling: stream.spelling(),
            since: None,
            alarm: Alarm::default(),
        }
    }

    /// Whoever is about to leave does not rest before, and is waited for as long as for a head.
    pub fn judge(&mut self, leaves: bool, cx: &mut Context<'_>) -> Poll<Silent> {
        if self.rest.is_answering() || self.spelling.is_unsent() {
            self.since = None;
            return Poll::Pending;
        }
        if self.rest.take_heard() {
            self.since = None;
        }
        let Patience { head, rest, .. } = self.patience;
        let since = *self.since.get_or_insert_with(Instant::now);
        // Amid a body that nobody wants any more it has the time that it has for a head.
        let amid = self.rest.is_amid() || self.heads.is_ignored();
        let rests = rest < head && !leaves && !amid;
        ready!(self.alarm.poll(since + if rests { rest } else { head }, cx));
        Poll::Ready(if rests { Silent::ForAWhile } else { Silent::TooLong })
    }
}

/// How long a client has taken nothing of what is written to it.
#[derive(Debug)]
struct Stall {
    patience: Duration,
    /// What it had taken when it was last waited for.
    taken: u64,
    /// Runs while the socket is full.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn judge<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        io: &Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if self.timer.is_some() {
                self.timer = None;
            }
            return polled;
        }
        // It may take a part of what still waits.
        if std::mem::replace(&mut self.taken, io.taken()) != self.taken {
            self.timer = None;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::connections::Connections;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        rest: Duration::from_secs(1),
        untaken: Duration::from_secs(60),
    };

    #[tokio::test(start_paused = true)]
    async fn silence_is_that_of_a_client_who_has_all_and_asks_nothing() {
        let (heads, rest, spelling): (Arc<Heads>, Arc<Rest>, Arc<Spelling>) = Default::default();
        let mut silence = Silence {
            patience: PATIENCE,
            heads: Arc::clone(&heads),
            rest: Arc::clone(&rest),
            spelling: Arc::clone(&spelling),
            since: None,
            alarm: Alarm::default(),
        };
        let judged = async |silence: &mut Silence, leaves| {
            let begin = Instant::now();
            let limit = Duration::from_secs(100);
            let judged = poll_fn(|cx| silence.judge(leaves, cx));
            let judged = tokio::time::timeout(limit, judged).await.ok();
            judged.map(|silent| (silent, begin.elapsed().as_secs()))
        };
        assert_eq!(judged(&mut silence, false).await, Some((Silent::ForAWhile, 1)));
        assert_eq!(judged(&mut silence, true).await, Some((Silent::TooLong, 9)));
        rest.hear(true);
        assert_eq!(judged(&mut silence, false).await, Some((Silent::TooLong, 10)));
        rest.hear(true);
        assert_eq!(judged(&mut silence, false).await, Some((Silent::TooLong, 0)));
        rest.hear(false);
        rest.set_answering(true);
        assert_eq!(judged(&mut silence, false).await, None);
        rest.set_answering(false);
        assert_eq!(judged(&mut silence, false).await, Some((Silent::ForAWhile, 1)));
        rest.hear(false);
        heads.ignore();
        assert_eq!(judged(&mut silence, false).await, Some((Silent::TooLong, 10)));
        heads.expect();
        spelling.set_unsent(true);
        assert_eq!(judged(&mut silence, false).await, None);
    }

    #[tokio::test]
    async fn what_tls_holds_back_is_unsent_until_it_is_gone() {
        let (mut client, mut server) = crate::transport::tests::pair().await;
        while server.try_write(&[7; 10_000]).is_ok() {}
        let slot = Connections::new(0, 0).open([127, 0, 0, 1].into(), false).unwrap();
        let mut stream = Downstream::new(server, Bytes::new(), slot, PATIENCE);
        let spelling = stream.spelling();
        spelling.set_unsent(true);
        poll_fn(|cx| {
            assert!(Pin::new(&mut stream).poll_flush(cx).is_pending(), "nobody reads");
            Poll::Ready(())
        })
        .await;
        assert!(spelling.is_unsent());
        let reading = async { while client.read(&mut [0; 65_536]).await.unwrap() > 0 {} };
        tokio::select! {
            flushed = poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)) => flushed.unwrap(),
            () = reading => panic!("the connection ended"),
        }
        assert!(!spelling.is_unsent());
    }
}
