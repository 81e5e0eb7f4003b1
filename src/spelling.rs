//! How the names of fields are spelled when a message is passed on: as they came.
//!
//! hyper writes names in Title-Case, which is how nearly all are spelled, for nothing. For the
//! others it has a map, which only its own reading of a head can make. So it is given heads to
//! read that have nothing but these names, once for every set of names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

/// Sets of names that are remembered. There are as many as there are kinds of clients and of
/// answers. Whoever invents more costs the reading of a head for each request, and then all are
/// forgotten. A set has at most 8 KiB of names, and no more of them than a head may have fields.
const REMEMBERED: usize = 256;

/// One worker's knowledge of spellings.
#[derive(Debug, Default)]
pub struct Spellings(RefCell<HashMap<Vec<u8>, Extensions>>);

impl Spellings {
    /// What makes hyper write these names as they stand here, a line each.
    pub fn of(&self, names: Vec<u8>) -> Extensions {
        let mut known = self.0.borrow_mut();
        if let Some(spelling) = known.get(&names) {
            return spelling.clone();
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.entry(names).or_insert_with_key(|names| read(names)).clone()
    }
}

/// Has hyper read a request with these names. Empty if it does not like them, and they are then
/// written in Title-Case: but it has read them before, in the message that they are from.
fn read(names: &[u8]) -> Extensions {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    let mut count = 0;
    for name in names.split(|&byte| byte == b'\n').filter(|name| !name.is_empty()) {
        head.extend_from_slice(name);
        head.extend_from_slice(value_of(name));
        count += 1;
    }
    head.extend_from_slice(b"\r\n");
    let spelling = Rc::new(RefCell::new(Extensions::new()));
    let seen = Rc::clone(&spelling);
    let service = service_fn(move |mut request: Request<Incoming>| {
        seen.replace(std::mem::take(request.extensions_mut()));
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true).max_headers(count + 1).keep_alive(false);
    let mut connection = builder.serve_connection(Canned(head), service);
    // All that it reads is there, so it is done at once.
    let polled = Pin::new(&mut connection).poll(&mut Context::from_waker(Waker::noop()));
    if polled.is_pending() {
        tracing::debug!("hyper waits for more than a head");
    }
    spelling.take()
}

/// A value that lets the head be read: these two must have one.
fn value_of(name: &[u8]) -> &'static [u8] {
    if name.eq_ignore_ascii_case(b"content-length") {
        b": 0\r\n"
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        b": chunked\r\n"
    } else {
        b":\r\n"
    }
}

/// Bytes that arrive at once, before a client that wants no answer.
struct Canned(Vec<u8>);

impl Read for Canned {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.0.len().min(buf.remaining());
        let rest = self.0.split_off(count);
        buf.put_slice(&std::mem::replace(&mut self.0, rest));
        Poll::Ready(Ok(()))
    }
}

impl Write for Canned {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_names_is_read_once() {
        let spellings = Spellings::default();
        let names = b"ETag\ncontent-length\nTRANSFER-encoding\nhost\nconnection\nupgrade\n";
        assert!(!spellings.of(names.to_vec()).is_empty());
        assert!(!spellings.of(names.to_vec()).is_empty());
        assert_eq!(spellings.0.borrow().len(), 1);
        let many = "x-a\n".repeat(1000);
        assert!(!spellings.of(many.into_bytes()).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let spellings = Spellings::default();
        for number in 0..3 * REMEMBERED {
            spellings.of(format!("x-{number}\n").into_bytes());
        }
        assert!(spellings.0.borrow().len() <= REMEMBERED);
    }
}
