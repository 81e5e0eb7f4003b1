//! What a head says of its own form, noted as its bytes arrive, because hyper keeps none of it.
//!
//! hyper takes `Content-Length` out of a request that has `Transfer-Encoding` as well, so that
//! nothing behind it can refuse such a request, as RFC 9112 §6.1 lets a server do and as one that
//! forwards to others should. And it lower-cases the names of fields ([`crate::spelling`]).
//!
//! A head that begins amid a read, behind another message, is not looked at: hyper's own reading
//! of it is one that the upstream cannot take in two ways, and its names are sent in Title-Case.

use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};

use crate::spelling::Names;
use crate::title_case::lines;

/// The longest line of which more than its first bytes is looked at when it comes in parts.
const KEPT: usize = 8 * 1024;

/// Nobody drives the connection at this moment, or in a way that does not say so.
const NO_TURN: u8 = 0;
const TURN: u8 = 1;
/// In this turn the socket has nothing more.
const DRY: u8 = 2;

const CONTENT_LENGTH: u8 = 1;
const TRANSFER_ENCODING: u8 = 2;

/// What is known of the heads on one connection. Its reader notes it; who serves it takes it.
///
/// The atomics are there because hyper wants sockets to be `Send`; a connection has one thread.
#[derive(Debug, Default)]
pub struct Heads {
    declared: AtomicU8,
    /// What arrives is no head.
    ignored: AtomicBool,
    respelled: AtomicBool,
    names: Mutex<Names>,
    turn: AtomicU8,
}

impl Heads {
    /// Whether the head that has been read declares two lengths; forgets it.
    pub fn take_two_lengths(&self) -> bool {
        let declared = self.declared.load(Ordering::Relaxed);
        self.declared.store(0, Ordering::Relaxed);
        declared == CONTENT_LENGTH | TRANSFER_ENCODING
    }

    /// The names that are not in Title-Case; forgets them.
    pub fn take_names(&self) -> Option<Names> {
        if !self.respelled.load(Ordering::Relaxed) {
            return None;
        }
        self.respelled.store(false, Ordering::Relaxed);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *names))
    }

    /// What comes next is no head.
    pub fn ignore(&self) {
        self.ignored.store(true, Ordering::Relaxed);
    }

    /// The next read begins with a head.
    pub fn expect(&self) {
        self.ignored.store(false, Ordering::Relaxed);
    }

    pub fn is_ignored(&self) -> bool {
        self.ignored.load(Ordering::Relaxed)
    }

    /// One turn of whoever drives the connection. hyper asks a socket that had nothing several times
    /// more in one turn, but a worker has one thread, which looks at its sockets between turns.
    pub fn turn<T>(&self, drive: impl FnOnce() -> T) -> T {
        self.turn.store(TURN, Ordering::Relaxed);
        let driven = drive();
        self.turn.store(NO_TURN, Ordering::Relaxed);
        driven
    }

    fn is_dry(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == DRY
    }

    fn dries(&self) {
        if self.turn.load(Ordering::Relaxed) == TURN {
            self.turn.store(DRY, Ordering::Relaxed);
        }
    }

    fn note(&self, line: &[u8], title_case: bool) {
        if title_case && !matches!(line, [b'C' | b'T', ..]) {
            return;
        }
        let Some(end) = memchr::memchr(b':', line) else { return };
        let name = &line[..end];
        if name.eq_ignore_ascii_case(b"content-length") {
            self.declare(CONTENT_LENGTH);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.declare(TRANSFER_ENCODING);
        }
        if !title_case {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.push(name);
            self.respelled.store(true, Ordering::Relaxed);
        }
    }

    fn declare(&self, length: u8) {
        self.declared.store(self.declared.load(Ordering::Relaxed) | length, Ordering::Relaxed);
    }
}

/// Divides what arrives into lines, up to the end of the head.
#[derive(Debug, Default)]
pub struct Scan {
    /// The line under way, when its end has not come yet. It holds no memory between heads.
    begun: Vec<u8>,
    /// A line of the head has come: empty ones before the first do not end it (RFC 9112 §2.2).
    lines: bool,
}

impl Scan {
    /// Reads what may begin with a head, and looks at it on the way.
    pub fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
        heads: &Heads,
    ) -> Poll<io::Result<()>> {
        if heads.is_dry() {
            return Poll::Pending;
        }
        Pin::new(&mut TokioIo::new(Look { io, scan: self, heads })).poll_read(cx, buf)
    }

    /// Looks at what has come, up to the empty line that ends a head.
    pub fn read(&mut self, bytes: &[u8], heads: &Heads) {
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = self.look(bytes, heads);
    }

    fn look(&mut self, mut bytes: &[u8], heads: &Heads) -> ControlFlow<()> {
        if !self.begun.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let room = KEPT.saturating_sub(self.begun.len());
            let line = &bytes[..end.unwrap_or(bytes.len())];
            self.begun.extend_from_slice(&line[..line.len().min(room)]);
            let Some(end) = end else { return ControlFlow::Continue(()) };
            bytes = &bytes[end + 1..];
            let mut line = std::mem::take(&mut self.begun);
            line.push(b'\n');
            lines(&line, |line, title_case| self.take(line, title_case, heads))?;
        }
        let rest = lines(bytes, |line, title_case| self.take(line, title_case, heads))?;
        let rest = &bytes[rest..];
        if !rest.is_empty() {
            self.begun.extend_from_slice(&rest[..rest.len().min(KEPT)]);
        }
        ControlFlow::Continue(())
    }

    /// Stops at the empty line that ends a head. The first line has no name, though it may have a
    /// colon.
    fn take(&mut self, line: &[u8], title_case: bool, heads: &Heads) -> ControlFlow<()> {
        if matches!(line, [] | b"\r") {
            return match std::mem::take(&mut self.lines) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        if self.lines {
            heads.note(line, title_case);
        }
        self.lines = true;
        ControlFlow::Continue(())
    }

    /// Whether a head has begun and its end has not come.
    pub fn is_amid(&self) -> bool {
        self.lines || !self.begun.is_empty()
    }
}

/// A socket at whose bytes somebody looks where they are read to.
struct Look<'a, T> {
    io: &'a mut T,
    scan: &'a mut Scan,
    heads: &'a Heads,
}

impl<T: AsyncRead + Unpin> AsyncRead for Look<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, scan, heads } = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut **io).poll_read(cx, buf);
        if polled.is_pending() {
            heads.dries();
        }
        ready!(polled)?;
        scan.read(&buf.filled()[before..], heads);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 3\r\nx-a: 1\r\n\
        Transfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n";

    #[test]
    fn two_lengths_and_spelling_are_seen_however_the_head_is_split() {
        for at in 0..BOTH.len() {
            let (heads, mut scan) = (Heads::default(), Scan::default());
            scan.read(&BOTH[..at], &heads);
            assert_eq!(scan.is_amid(), at > 0);
            scan.read(&BOTH[at..], &heads);
            assert!(!scan.is_amid());
            assert!(heads.take_two_lengths(), "split at {at}");
            assert!(!heads.take_two_lengths());
            let mut names = Names::default();
            [&b"CONTENT-LENGTH"[..], b"x-a", b"ETag"].iter().for_each(|name| names.push(name));
            assert_eq!(heads.take_names(), Some(names));
            assert_eq!(heads.take_names(), None);
        }
    }

    #[test]
    fn one_length_and_the_head_of_the_next_message_are_not_two() {
        let (heads, mut scan) = (Heads::default(), Scan::default());
        scan.read(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &heads);
        assert!(!heads.take_two_lengths());
        scan.read(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &heads);
        scan.read(&[&b"GET / HTTP/1.1\r\n\r\n"[..], BOTH].concat(), &heads);
        assert!(!heads.take_two_lengths());
        assert_eq!(heads.take_names(), None);
    }

    #[test]
    fn empty_lines_before_a_head_do_not_end_it() {
        let before = [b"\r\n\n", BOTH].concat();
        for at in 0..before.len() {
            let (heads, mut scan) = (Heads::default(), Scan::default());
            scan.read(&before[..at], &heads);
            scan.read(&before[at..], &heads);
            assert!(heads.take_two_lengths() && !scan.is_amid(), "split at {at}");
        }
    }

    #[test]
    fn what_is_not_a_field_has_no_name() {
        for line in [&b"GET http://a/ HTTP/1.1"[..], b"content-length: 1", b"\r\nhttp/1.1 200: ok"]
        {
            let (heads, mut scan) = (Heads::default(), Scan::default());
            scan.read(
                &[line, b"\r\n folded: 1\r\n: 1\r\nTransfer-Encoding: a\r\n\r\n"].concat(),
                &heads,
            );
            assert!(!heads.take_two_lengths());
            assert_eq!(heads.take_names(), None, "{line:?}");
        }
    }

    /// A socket that has nothing, and counts how often it is asked.
    struct Empty(usize);

    impl AsyncRead for Empty {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0 += 1;
            Poll::Pending
        }
    }

    #[test]
    fn a_socket_that_has_nothing_is_asked_once_in_a_turn() {
        let (heads, mut scan, mut socket) = (Heads::default(), Scan::default(), Empty(0));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut ask = || {
            let mut bytes = [0; 16];
            let mut bytes = hyper::rt::ReadBuf::new(&mut bytes);
            assert!(scan.poll_read(&mut socket, cx, bytes.unfilled(), &heads).is_pending());
            socket.0
        };
        assert_eq!(heads.turn(|| [ask(), ask(), ask()]), [1, 1, 1]);
        assert_eq!(heads.turn(|| [ask(), ask()]), [2, 2]);
        // Whoever does not say that it is a turn asks every time.
        assert_eq!([ask(), ask()], [3, 4]);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let (heads, mut scan) = (Heads::default(), Scan::default());
        for _ in 0..100 {
            scan.read(&[b'a'; 1000], &heads);
        }
        assert!(scan.begun.len() <= KEPT);
    }

    #[test]
    fn title_case_is_what_hyper_writes() {
        let kept = |name: &str| {
            let (heads, mut scan) = (Heads::default(), Scan::default());
            scan.read(format!("GET / HTTP/1.1\r\n{name}: 1\r\n").as_bytes(), &heads);
            heads.take_names().is_some()
        };
        for name in ["Host", "X-Forwarded-For", "X-1a", "-A", "A--B", "1"] {
            assert!(!kept(name), "{name}");
        }
        for name in ["host", "ETag", "X-forwarded-For", "WWW-Authenticate", "X-A-b"] {
            assert!(kept(name), "{name}");
        }
    }
}
