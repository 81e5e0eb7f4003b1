//! What must hold for what a balancer says before the first byte.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pogo::proxy_protocol::{self, Source};
use tokio::io::{AsyncRead, ReadBuf};

use super::RUNTIME;

/// A PROXY header says what a second reading of it says, is taken whole and nothing behind it
/// however it comes, and is never waited for beyond its bound.
///
/// The input is a first byte, the most bytes of one read, and what a proxy sends.
pub fn header(data: &[u8]) {
    const MOST: usize = 4096;
    let Some((piece, bytes)) = data.split_first() else { return };
    let parsed = proxy_protocol::parse(bytes);
    let mut pieces = Pieces { rest: bytes, most: usize::from(*piece).max(1) };
    let mut ahead = BytesMut::new();
    let read = RUNTIME.with(|runtime| {
        runtime
            .block_on(proxy_protocol::read(&mut pieces, &mut ahead))
            .map_err(|error| error.kind())
    });
    match parsed {
        Ok(Some((length, source))) => {
            assert!(length <= bytes.len().min(MOST));
            assert_eq!(Some(source), said(&bytes[..length]), "{}", bytes.escape_ascii());
            assert_eq!(proxy_protocol::parse(&bytes[..length]), parsed);
            for cut in 0..length {
                assert_eq!(proxy_protocol::parse(&bytes[..cut]), Ok(None), "{cut} of {length}");
            }
            assert_eq!(read, Ok(source));
            assert_eq!([&ahead[..], pieces.rest].concat(), &bytes[length..]);
        }
        Ok(None) => {
            assert!(bytes.len() < MOST);
            assert_eq!(said(bytes), None, "{}", bytes.escape_ascii());
            assert_eq!(read, Err(std::io::ErrorKind::UnexpectedEof));
        }
        Err(_) => {
            assert_eq!(said(bytes), None, "{}", bytes.escape_ascii());
            assert_eq!(read, Err(std::io::ErrorKind::InvalidData));
        }
    }
}

/// What exactly one header says, if that is what these bytes are.
fn said(header: &[u8]) -> Option<Source> {
    match header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some(rest) => said_in_bytes(rest),
        None => said_in_words(header),
    }
}

fn said_in_words(header: &[u8]) -> Option<Source> {
    let line = std::str::from_utf8(header.strip_suffix(b"\r\n")?).ok()?;
    if line.len() > 105 || line.contains("\r\n") {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let (kind, addresses) = match &words[..] {
        ["PROXY", "UNKNOWN", ..] => return Some(Source::Unknown),
        ["PROXY", kind, addresses @ ..] => (*kind, addresses),
        _ => return None,
    };
    let [from, to, from_port, to_port] = addresses else { return None };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let ip = |text: &str| {
        let ip = text.parse::<IpAddr>().ok()?;
        (kind == if ip.is_ipv4() { "TCP4" } else { "TCP6" }).then_some(ip)
    };
    ip(to)?;
    port(to_port)?;
    Some(client(ip(from)?, port(from_port)?))
}

fn said_in_bytes(rest: &[u8]) -> Option<Source> {
    let [command, family, high, low, body @ ..] = rest else { return None };
    if body.len() != usize::from(*high) * 256 + usize::from(*low) || body.len() > 4080 {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    match (command, family) {
        (0x20, _) | (0x21, 0) => Some(Source::Unknown),
        (0x21, 0x11) => {
            port(10)?;
            Some(client(<[u8; 4]>::try_from(body.get(..4)?).ok()?.into(), port(8)?))
        }
        (0x21, 0x21) => {
            port(34)?;
            Some(client(<[u8; 16]>::try_from(body.get(..16)?).ok()?.into(), port(32)?))
        }
        (0x21, 0x31) => (body.len() >= 216).then_some(Source::Unknown),
        _ => None,
    }
}

fn client(ip: IpAddr, port: u16) -> Source {
    Source::Client(SocketAddr::new(ip.to_canonical(), port))
}

/// Bytes that come in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    most: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.rest.len().min(self.most).min(buffer.remaining());
        let (now, later) = self.rest.split_at(count);
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}
