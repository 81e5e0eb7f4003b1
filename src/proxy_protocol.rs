//! The PROXY protocol, versions 1 and 2: what a proxy that forwards bytes says, before the first of
//! them, about whom it forwards.
//!
//! Only trusted proxies are asked for it, and they must say it: a listener that took a header or
//! none would believe any client that sends one
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, §2). What is not the header to
//! the letter ends the connection. Not a byte after the header is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest header of version 1, with its line end (§2.1).
const V1_MOST: usize = 107;
const V2_FIXED: usize = 16;
/// The longest header of version 2 that is read: two addresses and the details of a TLS session
/// are a few hundred bytes.
const V2_MOST: usize = 4096;

/// A header's word about the connection that it precedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is forwarded from here.
    Client(SocketAddr),
    /// It is the proxy's own, or from somewhere that has no address.
    Unknown,
}

/// No header, or a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no valid PROXY header where one must be")
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// Reads the header; what came after it in the same reads is left in `ahead`.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    ahead: &mut BytesMut,
) -> io::Result<Source> {
    loop {
        if let Some((length, source)) = parse(ahead)? {
            ahead.advance(length);
            return Ok(source);
        }
        if stream.read_buf(ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The header's length and word; none as long as these bytes may become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted);
    if begins(SIGNATURE) {
        v2(bytes)
    } else if begins(V1_PREFIX) {
        v1(bytes)
    } else {
        Err(Malformed)
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n` (§2.1).
fn v1(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let window = &bytes[..bytes.len().min(V1_MOST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < V1_MOST { Ok(None) } else { Err(Malformed) };
    };
    let line =
        std::str::from_utf8(&window[V1_PREFIX.len().min(end)..end]).map_err(|_| Malformed)?;
    let source = match line.split(' ').collect::<Vec<_>>()[..] {
        // Whatever follows is to be ignored.
        ["UNKNOWN", ..] => Source::Unknown,
        ["TCP4", from, to, from_port, to_port] => {
            let _: (Ipv4Addr, u16) = (parsed(to)?, port(to_port)?);
            client(IpAddr::V4(parsed(from)?), port(from_port)?)
        }
        ["TCP6", from, to, from_port, to_port] => {
            let _: (Ipv6Addr, u16) = (parsed(to)?, port(to_port)?);
            client(IpAddr::V6(parsed(from)?), port(from_port)?)
        }
        _ => return Err(Malformed),
    };
    Ok(Some((end + 2, source)))
}

fn client(address: IpAddr, port: u16) -> Source {
    Source::Client(SocketAddr::new(address.to_canonical(), port))
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed)
}

/// Decimal, without a sign and without leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if leading_zero || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    parsed(text)
}

/// Sixteen bytes, the addresses, and any number of further values that are passed over (§2.2).
fn v2(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else {
        return match bytes.get(SIGNATURE.len()) {
            Some(version) if version >> 4 != 2 => Err(Malformed),
            _ => Ok(None),
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_MOST - V2_FIXED {
        return Err(Malformed);
    }
    let least = match (command, family) {
        // The proxy's own connection; whatever the addresses are.
        (0x20, _) => 0,
        (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        // Another version, another command, or datagrams, of which this is none.
        _ => return Err(Malformed),
    };
    if length < least {
        return Err(Malformed);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let source = match (command, family, body) {
        (0x21, 0x11, &[a, b, c, d, _, _, _, _, high, low, ..]) => {
            client(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
        }
        (0x21, 0x21, _) => {
            let (address, rest) = body.split_first_chunk::<16>().ok_or(Malformed)?;
            let port = rest.get(16..18).and_then(|port| port.first_chunk()).ok_or(Malformed)?;
            client(Ipv6Addr::from(*address).into(), u16::from_be_bytes(*port))
        }
        _ => Source::Unknown,
    };
    Ok(Some((V2_FIXED + length, source)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header_v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, body].concat()
    }

    /// The bytes of a header that forwards from `from`, with `extra` after the addresses.
    fn v2_from(from: SocketAddr, extra: &[u8]) -> Vec<u8> {
        let port = from.port().to_be_bytes();
        let (family, body) = match from.ip() {
            IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[9; 4], &port, &[1, 187], extra].concat()),
            IpAddr::V6(ip) => {
                (0x21, [&ip.octets()[..], &[9; 16], &port, &[1, 187], extra].concat())
            }
        };
        header_v2(0x21, family, &body)
    }

    fn v1_from(from: SocketAddr) -> Vec<u8> {
        let (family, to) = if from.is_ipv4() { ("TCP4", "9.9.9.9") } else { ("TCP6", "::9") };
        format!("PROXY {family} {} {to} {} 443\r\n", from.ip(), from.port()).into_bytes()
    }

    #[test]
    fn version_1_is_read_to_the_letter() {
        let client = |text: &str| Ok(Some(Source::Client(text.parse().unwrap())));
        let cases: &[(&str, Result<Option<Source>, Malformed>)] = &[
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", client("192.0.2.1:4711")),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 0 65535\r\n", client("192.0.2.1:0")),
            ("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", client("[2001:db8::1]:4711")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n", client("192.0.2.1:4711")),
            ("PROXY UNKNOWN\r\n", Ok(Some(Source::Unknown))),
            ("PROXY UNKNOWN what ever 1 2\r\n", Ok(Some(Source::Unknown))),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443", Ok(None)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r", Ok(None)),
            ("", Ok(None)),
            ("PROX", Ok(None)),
            ("GET / HTTP/1.1\r\n", Err(Malformed)),
            ("PROXYTCP4", Err(Malformed)),
            ("proxy TCP4", Err(Malformed)),
            ("PROXY \r\n", Err(Malformed)),
            ("PROXY UNKNOWNX\r\n", Err(Malformed)),
            ("PROXY TCP4\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 \r\n", Err(Malformed)),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 04711 443\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +711 443\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 65536\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.01 198.51.100.1 4711 443\r\n", Err(Malformed)),
            ("PROXY TCP4 2001:db8::1 ::1 4711 443\r\n", Err(Malformed)),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 nowhere 4711 443\r\n", Err(Malformed)),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed)),
        ];
        for (text, expected) in cases {
            let found = parse(text.as_bytes());
            assert_eq!(found.map(|found| found.map(|(_, source)| source)), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_version_1_ends_within_107_bytes() {
        let line = |filler: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(filler)).into_bytes();
        let longest = V1_MOST - line(0).len();
        assert_eq!(parse(&line(longest)), Ok(Some((V1_MOST, Source::Unknown))));
        assert_eq!(parse(&line(longest + 1)), Err(Malformed));
        assert_eq!(parse(&line(longest + 1)[..V1_MOST]), Err(Malformed));
        assert_eq!(parse(&line(longest + 1)[..V1_MOST - 1]), Ok(None));
    }

    #[test]
    fn version_2_takes_streams_and_the_proxys_own_connections() {
        let source = |bytes: &[u8]| parse(bytes).map(|found| found.map(|(_, source)| source));
        let client: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        let full = v2_from(client, b"\x20\x00\x02ab");
        assert_eq!(source(&full), Ok(Some(Source::Client(client))));
        let unknown = Ok(Some(Source::Unknown));
        // LOCAL, with and without addresses
        assert_eq!(source(&header_v2(0x20, 0, b"")), unknown);
        assert_eq!(source(&header_v2(0x20, 0x11, &full[16..])), unknown);
        // AF_UNSPEC and AF_UNIX
        assert_eq!(source(&header_v2(0x21, 0, b"whatever")), unknown);
        assert_eq!(source(&header_v2(0x21, 0x31, &[0; 216])), unknown);
        for bad in [
            header_v2(0x11, 0x11, &full[16..]),
            header_v2(0x22, 0x11, &full[16..]),
            header_v2(0x21, 0x12, &full[16..]),
            header_v2(0x21, 0x41, &full[16..]),
            header_v2(0x21, 0x11, &[0; 11]),
            header_v2(0x21, 0x21, &[0; 35]),
            header_v2(0x21, 0x31, &[0; 215]),
            header_v2(0x21, 0x00, &[0; V2_MOST - V2_FIXED + 1]),
        ] {
            assert_eq!(source(&bad), Err(Malformed), "{bad:?}");
        }
        assert_eq!(source(&header_v2(0x21, 0x00, &[0; V2_MOST - V2_FIXED])), unknown);
        // A length that will not be read is refused before it is waited for.
        assert_eq!(parse(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()), Err(Malformed));
    }

    fn any_source() -> impl Strategy<Value = SocketAddr> {
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ];
        (address, any::<u16>())
            .prop_filter("mapped ones come back as IPv4", |(ip, _)| ip.to_canonical() == *ip)
            .prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn a_header_is_taken_whole_and_nothing_after_it(
            from in any_source(),
            extra in proptest::collection::vec(any::<u8>(), 0..300),
            after in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            for header in [v1_from(from), v2_from(from, &extra)] {
                let expected = Ok(Some((header.len(), Source::Client(from))));
                for length in 0..header.len() {
                    prop_assert_eq!(parse(&header[..length]), Ok(None), "{} bytes", length);
                }
                prop_assert_eq!(parse(&header), expected);
                prop_assert_eq!(parse(&[&header[..], &after].concat()), expected);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_there_are(
            start in 0usize..3,
            rest in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let start: &[u8] = [&b""[..], SIGNATURE, V1_PREFIX][start];
            let bytes = [start, &rest].concat();
            if let Ok(Some((length, _))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        #[test]
        fn however_the_bytes_arrive_those_after_the_header_stay(
            from in any_source(),
            chunk in 1usize..40,
        ) {
            let after = b"GET / HTTP/1.1\r\n\r\n";
            for header in [v1_from(from), v2_from(from, b"")] {
                let bytes = [&header[..], after].concat();
                let mut stream = in_chunks(&bytes, chunk);
                let mut ahead = BytesMut::new();
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let rest = runtime.block_on(async {
                    let source = read(&mut stream, &mut ahead).await.unwrap();
                    assert_eq!(source, Source::Client(from));
                    let mut rest = ahead.to_vec();
                    stream.read_to_end(&mut rest).await.unwrap();
                    rest
                });
                prop_assert_eq!(rest, after);
            }
        }
    }

    /// Gives at most `chunk` bytes at a time.
    fn in_chunks(bytes: &[u8], chunk: usize) -> impl AsyncRead + Unpin {
        let mut boxed: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for part in bytes.chunks(chunk) {
            boxed = Box::new(tokio::io::AsyncReadExt::chain(boxed, io::Cursor::new(part.to_vec())));
        }
        boxed
    }
}
