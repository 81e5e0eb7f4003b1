//! How the names of fields are spelled when a message is passed on: as they came.
//!
//! hyper writes them in lower case. It can write them in Title-Case, or as it has read them itself,
//! but takes its time for the one and a second map of all fields for the other. So heads are
//! respelled on their way to the socket, which changes no length: names that are known are written
//! as they came, and all others in Title-Case, as most are.
//!
//! hyper has sent all of one message before it begins the next, so that the write that a head
//! comes in begins with it. Where that does not hold the head is left as it is.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::Write;
use tokio::io::ReadBuf;

use crate::title_case::capitalize;

/// The most names of one head that are kept as they were spelled, in bytes.
const KEPT: usize = 8 * 1024;
/// Most bytes that are put together before they are written.
const TOGETHER: usize = 4 * 1024;

/// The names of a head that are not in Title-Case, as they were spelled and in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Each behind its length, in two bytes.
    bytes: Vec<u8>,
}

impl Names {
    /// Adds a name, unless there are too many already.
    pub fn push(&mut self, name: &[u8]) {
        let Ok(length) = u16::try_from(name.len()) else { return };
        if self.bytes.len() + 2 + name.len() <= KEPT {
            self.bytes.extend_from_slice(&length.to_be_bytes());
            self.bytes.extend_from_slice(name);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (length, others) = rest.split_first_chunk()?;
            let (name, others) = others.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = others;
            Some(name)
        })
    }
}

/// How the next message on a connection is to be spelled. Who sends it says so; the socket asks.
///
/// The atomics are there because hyper wants sockets to be `Send`; a connection has one thread.
#[derive(Debug, Default)]
pub struct Spelling {
    /// Something was written, and perhaps not all of it has gone out.
    unsent: AtomicBool,
    /// What is written next begins with a head.
    awaited: AtomicBool,
    /// What is written next is kept.
    keeps: AtomicBool,
    /// In place of what hyper writes next goes out what another connection kept.
    repeats: AtomicBool,
    text: Mutex<Text>,
}

#[derive(Debug, Default)]
struct Text {
    names: Names,
    /// Apart, because no client's connection has any, and each has a `Spelling`.
    whole: Option<Box<Whole>>,
}

/// Messages that were or are written as they are.
#[derive(Debug, Default)]
struct Whole {
    kept: Vec<u8>,
    repeated: Bytes,
}

impl Spelling {
    /// Whether some of what was written may not have gone out yet.
    pub fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unsent(&self, unsent: bool) {
        self.unsent.store(unsent, Ordering::Relaxed);
    }

    /// To be called when the message is given to hyper.
    pub fn of_next(&self, names: Option<Names>) {
        self.awaited.store(!self.is_unsent(), Ordering::Relaxed);
        self.keeps.store(false, Ordering::Relaxed);
        self.text().names = names.unwrap_or_default();
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message, which has no body, may have to be sent once more: it is kept as it is
    /// written, which costs less than to have kept what it was made of.
    pub fn keep_next(&self) {
        self.keeps.store(true, Ordering::Relaxed);
        let mut text = self.text();
        let kept = &mut text.whole.get_or_insert_default().kept;
        match kept.capacity() > TOGETHER {
            true => *kept = Vec::new(),
            false => kept.clear(),
        }
    }

    /// The message that was to be kept, if it has been written.
    pub fn kept(&self) -> Option<Bytes> {
        let kept = std::mem::take(&mut self.text().whole.as_mut()?.kept);
        (self.keeps.load(Ordering::Relaxed) && !kept.is_empty()).then(|| kept.into())
    }

    /// The next message that is given to hyper only stands for this one.
    pub fn repeat_instead_of_next(&self, message: Bytes) {
        self.of_next(None);
        self.repeats.store(true, Ordering::Relaxed);
        self.text().whole.get_or_insert_default().repeated = message;
    }
}

/// Writes what hyper gives a socket to write.
#[derive(Debug, Default)]
pub struct Speller {
    spelling: Arc<Spelling>,
    /// Of a head that the socket has taken a part of, what it has not.
    untaken: Vec<u8>,
}

impl Speller {
    pub fn spelling(&self) -> Arc<Spelling> {
        Arc::clone(&self.spelling)
    }

    /// hyper has written all, which is when it flushes.
    pub fn poll_flush<T: Write + Unpin>(
        &self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(io).poll_flush(cx))?;
        self.spelling.set_unsent(false);
        Poll::Ready(Ok(()))
    }

    pub fn poll_write<T: Write + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.spelling.set_unsent(true);
        let respells = !self.untaken.is_empty() || self.spelling.awaited.load(Ordering::Relaxed);
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.spelling.repeats.load(Ordering::Relaxed) {
            ready!(self.poll_repeat(io, cx))?;
            return Poll::Ready(Ok(length));
        }
        if length <= TOGETHER && (respells || bufs.len() > 1) {
            // To copy a little costs less than to have the kernel look at a list.
            let mut bytes = [MaybeUninit::uninit(); TOGETHER];
            let mut together = ReadBuf::uninit(&mut bytes);
            bufs.iter().for_each(|buf| together.put_slice(buf));
            let head = respells.then(|| self.respell(together.filled_mut()));
            let count = ready!(Pin::new(io).poll_write(cx, together.filled()))?;
            if let Some(Some(head)) = head {
                self.wrote(&together.filled()[..head], count);
            }
            return Poll::Ready(Ok(count));
        }
        match bufs {
            [] => Pin::new(io).poll_write(cx, &[]),
            [first, others @ ..] if respells => {
                let mut first = first.to_vec();
                let head = self.respell(&mut first);
                let others = others.iter().map(|other| IoSlice::new(other));
                let all: Vec<_> = std::iter::once(IoSlice::new(&first)).chain(others).collect();
                let count = ready!(Pin::new(io).poll_write_vectored(cx, &all))?;
                if let Some(head) = head {
                    self.wrote(&first[..head], count);
                }
                Poll::Ready(Ok(count))
            }
            [only] => Pin::new(io).poll_write(cx, only),
            _ => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    /// Respells the head that these bytes begin with; where it ends, unless it is yet to come.
    fn respell(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if !self.untaken.is_empty() {
            let count = self.untaken.len().min(bytes.len());
            bytes[..count].copy_from_slice(&self.untaken[..count]);
            return Some(count);
        }
        let mut text = self.spelling.text();
        let head = respell(bytes, &text.names);
        if self.spelling.keeps.load(Ordering::Relaxed)
            && let Some(whole) = &mut text.whole
        {
            whole.kept.clear();
            whole.kept.extend_from_slice(bytes);
        }
        head
    }

    fn poll_repeat<T: Write + Unpin>(
        &self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(whole) = &mut self.spelling.text().whole {
            while !whole.repeated.is_empty() {
                match ready!(Pin::new(&mut *io).poll_write(cx, &whole.repeated))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => whole.repeated.advance(count),
                }
            }
        }
        self.spelling.repeats.store(false, Ordering::Relaxed);
        self.spelling.awaited.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Of the respelled `head`, and what was behind it, so many bytes were taken. What follows is no
    /// head, whatever it looks like.
    fn wrote(&mut self, head: &[u8], count: usize) {
        self.spelling.awaited.store(false, Ordering::Relaxed);
        self.spelling.text().names = Names::default();
        match head.get(count..) {
            Some(left) if !left.is_empty() => self.untaken = left.to_vec(),
            _ if !self.untaken.is_empty() => self.untaken = Vec::new(),
            _ => (),
        }
    }
}

/// Respells the head that `bytes` begin with, behind interim answers, which have no fields. Returns
/// where it ends, at 0 if it is none; nothing if there are interim answers alone.
fn respell(bytes: &mut [u8], names: &Names) -> Option<usize> {
    let mut at = 0;
    while is_interim(&bytes[at..]) {
        at += memchr::memmem::find(&bytes[at..], b"\r\n\r\n")? + 4;
    }
    if at > 0 && at == bytes.len() {
        return None;
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[at..]) else { return Some(0) };
    let start = &bytes[at..at + end];
    if !start.starts_with(b"HTTP/1.") && !start.ends_with(b" HTTP/1.1\r") {
        return Some(0);
    }
    at += end + 1;
    let end = capitalize(&mut bytes[at..]).map_or(bytes.len(), |empty| at + empty);
    if !names.is_empty() {
        respell_as_known(&mut bytes[at..end], names);
    }
    Some(bytes.len().min(end + 2))
}

/// Spells the names in these fields as they are known.
fn respell_as_known(mut fields: &mut [u8], names: &Names) {
    // A bit for each name that has been written; one beyond them may be written twice.
    let mut written = 0_u128;
    while let Some(end) = memchr::memchr2(b':', b'\n', fields) {
        let (name, rest) = fields.split_at_mut(end);
        let known = names.iter().enumerate().find(|&(number, known)| {
            known.len() == name.len()
                && known.eq_ignore_ascii_case(name)
                && bit(number) & written == 0
        });
        if let Some((number, known)) = known {
            name.copy_from_slice(known);
            written |= bit(number);
        }
        let Some(end) = memchr::memchr(b'\n', rest) else { return };
        fields = &mut rest[end + 1..];
    }
}

fn bit(number: usize) -> u128 {
    u32::try_from(number).ok().and_then(|number| 1_u128.checked_shl(number)).unwrap_or(0)
}

/// A switch of protocols is no interim answer: it is the last that is said in HTTP.
fn is_interim(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 1") && !bytes.starts_with(b"HTTP/1.1 101")
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    fn names(list: &[&str]) -> Names {
        let mut names = Names::default();
        list.iter().for_each(|name| names.push(name.as_bytes()));
        names
    }

    fn respelled(head: &str, list: &[&str]) -> (String, Option<usize>) {
        let mut bytes = head.as_bytes().to_vec();
        let end = respell(&mut bytes, &names(list));
        (String::from_utf8(bytes).unwrap(), end)
    }

    #[test]
    fn names_are_written_as_they_came_and_the_others_in_title_case() {
        let head = "HTTP/1.1 200 OK\r\netag: \"x-y\"\r\nx-a: b: c\r\nx-a: 2\r\nx-_b: 3\r\n\r\n";
        let body = "x-a: 1\r\n\r\n";
        let (text, end) = respelled(&format!("{head}{body}"), &["ETag", "x-a", "x-_B"]);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nETag: \"x-y\"\r\nx-a: b: c\r\nX-A: 2\r\nx-_B: 3\r\n\r\nx-a: 1\r\n\r\n"
        );
        assert_eq!(end, Some(head.len()));
    }

    #[test]
    fn there_may_be_more_names_than_are_kept_and_than_are_told_apart() {
        let list: Vec<_> = (0..3000).map(|number| format!("x-{number}")).collect();
        let names = names(&list.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(names.bytes.len() <= KEPT && names.iter().count() > 128);
        let lines: String = list.iter().map(|name| format!("{name}: 1\r\n")).collect();
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
        assert_eq!(respell(&mut bytes, &names), Some(bytes.len()));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\nx-200: 1\r\n") && text.contains("\r\nX-2999: 1\r\n"));
    }

    #[test]
    fn a_head_is_found_behind_interim_answers_and_nowhere_else() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(respelled(interim, &[]).1, None);
        let (text, end) = respelled(&format!("{interim}HTTP/1.1 200 OK\r\na: 1\r\n\r\na: 1"), &[]);
        assert_eq!(text, format!("{interim}HTTP/1.1 200 OK\r\nA: 1\r\n\r\na: 1"));
        assert_eq!(end, Some(text.len() - 4));
        let switched = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\na: 1";
        assert!(respelled(switched, &[]).0.contains("Upgrade: websocket\r\n\r\na: 1"));
        for other in ["", "a: 1\r\n", "5\r\nhello\r\n", "GET / HTTP/2\r\na: 1\r\n"] {
            assert_eq!(respelled(other, &[]), (other.to_owned(), Some(0)));
        }
        assert_eq!(respelled("GET / HTTP/1.1\r\nx-a: 1\r\n\r\n", &[]).0[16..22], *"X-A: 1");
    }

    /// A socket that takes so many bytes at a time, and nothing every other time.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        full: bool,
    }

    impl Write for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.full = !self.full;
            if self.full {
                return Poll::Pending;
            }
            let bytes: Vec<_> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            let count = self.width.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes these parts as hyper does: from where the socket stopped taking, until all is taken.
    fn write_all(speller: &mut Speller, io: &mut Narrow, parts: &[&[u8]]) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut written = 0;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        while written < length {
            let mut before = written;
            let mut left = Vec::new();
            for part in parts {
                let skipped = before.min(part.len());
                before -= skipped;
                if skipped < part.len() {
                    left.push(IoSlice::new(&part[skipped..]));
                }
            }
            if let Poll::Ready(count) = speller.poll_write(io, cx, &left) {
                written += count.unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn however_little_the_socket_takes_the_head_is_respelled_and_nothing_else(
            width in 1_usize..80,
            names in proptest::collection::vec("[a-zA-Z][a-zA-Z-]{0,8}", 0..8),
            body in prop_oneof![9 => "[a-z:]{0,100}", 1 => "[a-z:]{4000,5000}"],
            apart in any::<bool>(),
        ) {
            let text: String = names.iter().map(|name| format!("{name}: a-b\r\n")).collect();
            let expected = format!("HTTP/1.1 200 OK\r\n{text}\r\n{body}");
            let given = format!("HTTP/1.1 200 OK\r\n{}\r\n", text.to_ascii_lowercase());
            // The order of names that differ only in their capitals is not kept.
            let mut distinct: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
            distinct.sort();
            distinct.dedup();
            prop_assume!(distinct.len() == names.len());
            let mut speller = Speller::default();
            let mut io = Narrow { taken: Vec::new(), width, full: false };
            let mut listed = Names::default();
            names.iter().for_each(|name| listed.push(name.as_bytes()));
            for _ in 0..2 {
                io.taken.clear();
                speller.spelling().of_next(Some(listed.clone()));
                if apart {
                    write_all(&mut speller, &mut io, &[given.as_bytes(), body.as_bytes()]);
                } else {
                    write_all(&mut speller, &mut io, &[format!("{given}{body}").as_bytes()]);
                }
                prop_assert_eq!(String::from_utf8_lossy(&io.taken), &*expected);
                // A part of the body that looks like a head is none.
                write_all(&mut speller, &mut io, &[given.as_bytes()]);
                prop_assert!(io.taken.ends_with(given.as_bytes()));
                let cx = &mut Context::from_waker(Waker::noop());
                prop_assert!(speller.poll_flush(&mut io, cx).is_ready());
                prop_assert!(speller.untaken.capacity() == 0);
            }
        }
    }

    #[test]
    fn what_was_kept_goes_out_once_more_in_place_of_what_stands_for_it() {
        let head: &[u8] = b"GET /a HTTP/1.1\r\nx-a: 1\r\nx-b: 2\r\n\r\n";
        for width in 1..50 {
            let (mut first, mut second) = (Speller::default(), Speller::default());
            let mut io = Narrow { taken: Vec::new(), width, full: false };
            first.spelling().of_next(Some(names(&["x-a"])));
            first.spelling().keep_next();
            write_all(&mut first, &mut io, &[head]);
            let sent = std::mem::take(&mut io.taken);
            let kept = first.spelling().kept().unwrap();
            assert_eq!(kept, sent);
            assert_eq!(first.spelling().kept(), None);
            second.spelling().repeat_instead_of_next(kept);
            write_all(&mut second, &mut io, &[b"GET / HTTP/1.1\r\n\r\n"]);
            assert_eq!(io.taken, sent);
            // What follows is what it is.
            write_all(&mut second, &mut io, &[b"abc"]);
            assert!(io.taken.ends_with(b"abc") && io.taken.len() == sent.len() + 3);
        }
    }

    #[test]
    fn what_does_not_begin_with_a_head_ends_the_wait_for_one() {
        let mut speller = Speller::default();
        let mut io = Narrow { taken: Vec::new(), width: 1000, full: false };
        let mut list = names(&["x-a"]);
        for (first, next, taken) in [
            ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nb: 1\r\n\r\n", "B: 1\r\n\r\n"),
            ("a frame", "HTTP/1.1 200 OK\r\nb: 1\r\n\r\n", "b: 1\r\n\r\n"),
        ] {
            speller.spelling.set_unsent(false);
            speller.spelling().of_next(Some(std::mem::take(&mut list)));
            write_all(&mut speller, &mut io, &[first.as_bytes()]);
            write_all(&mut speller, &mut io, &[next.as_bytes()]);
            assert!(io.taken.ends_with(taken.as_bytes()), "{first:?}");
            assert!(speller.spelling.text().names.is_empty(), "they are kept for nothing");
        }
    }

    #[test]
    fn a_head_that_others_are_still_before_is_left_as_it_is() {
        let mut speller = Speller::default();
        let mut io = Narrow { taken: Vec::new(), width: 1000, full: false };
        write_all(&mut speller, &mut io, &[b"the end of an answer"]);
        speller.spelling().of_next(None);
        write_all(&mut speller, &mut io, &[b"HTTP/1.1 200 OK\r\na: 1\r\n\r\n"]);
        assert!(io.taken.ends_with(b"\r\na: 1\r\n\r\n"));
    }
}
