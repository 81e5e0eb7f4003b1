//! Whatever bytes a client sends, the upstream sees requests that the client has sent, in their
//! order, each whole and in one form; and nobody is given another's answer. What the client has
//! sent is what a second, independent reading of its bytes finds (`harness/reference.rs`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::reference::{Request, read_all};
use crate::harness::{PATIENCE, Pogo, Recorder};

/// One request, lawful as it stands.
fn request(number: usize) -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"]);
    let target =
        prop::sample::select(vec!["/a?b", "/%2F//../c", "http://b/c", "http://b", "/d#e", "/"]);
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            "X-A: 1",
            "x-a:2",
            "X-B:\tb, c ",
            "Connection: x-b",
            "Connection: keep-alive, X-A",
            "Cookie: a=1",
            "X-Empty:",
            "TE: trailers",
            "Keep-Alive: timeout=5",
            "Content_Length: 7",
            "X-Forwarded-For: 1.2.3.4",
            "Authorization: b",
        ]),
        0..5,
    );
    let body = prop_oneof![
        2 => Just(String::from("\r\n")),
        1 => "[a-z]{0,20}".prop_map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len())),
        1 => Just(String::from("Content-Length: 2\r\nContent-Length: 2\r\n\r\nab")),
        2 => prop::collection::vec("[a-z]{1,20}", 0..4).prop_map(|chunks| {
            let chunks: String = chunks
                .iter()
                .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()))
                .collect();
            format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        }),
        1 => Just(String::from(
            "Transfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
        )),
    ];
    (method, target, fields, body).prop_map(move |(method, target, fields, body)| {
        let target = match target.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{rest}?n={number}"),
            None => format!("/{number}{target}"),
        };
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{body}").into_bytes()
    })
}

/// What is done to the bytes of lawful requests.
#[derive(Debug, Clone)]
enum Damage {
    Insert(&'static [u8]),
    /// Before a line that is there.
    InsertLine(&'static [u8]),
    Delete(usize),
    Replace(u8),
    RepeatLine,
}

fn damage() -> impl Strategy<Value = (u16, Damage)> {
    const BITS: [&[u8]; 20] = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"0",
        b"f",
        b"\xff",
        b"0\r\n\r\n",
        b"chunked",
        b" HTTP/1.1\r\n",
        b"\x0b",
        b"\r\n ",
        b"GET /in HTTP/1.1\r\nHost: in\r\n\r\n",
    ];
    const LINES: [&[u8]; 14] = [
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length : 5\r\n",
        b"Host: b\r\n",
        b"Connection: content-length, host\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"GET /line HTTP/1.1\r\nHost: line\r\n\r\n",
    ];
    let damage = prop_oneof![
        3 => prop::sample::select(BITS.to_vec()).prop_map(Damage::Insert),
        4 => prop::sample::select(LINES.to_vec()).prop_map(Damage::InsertLine),
        2 => (1..6_usize).prop_map(Damage::Delete),
        2 => any::<u8>().prop_map(Damage::Replace),
        1 => Just(Damage::RepeatLine),
    ];
    (any::<u16>(), damage)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(u16, Damage)]) -> Vec<u8> {
    for (place, damage) in damage {
        let at = usize::from(*place) * bytes.len() / 65_536;
        let line_start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        match damage {
            Damage::Insert(bits) => drop(bytes.splice(at..at, bits.iter().copied())),
            Damage::InsertLine(line) => {
                drop(bytes.splice(line_start..line_start, line.iter().copied()));
            }
            Damage::Delete(count) => drop(bytes.drain(at..bytes.len().min(at + count))),
            Damage::Replace(byte) if at < bytes.len() => bytes[at] = *byte,
            Damage::Replace(_) => {}
            Damage::RepeatLine => {
                let length = bytes[line_start..].iter().position(|&byte| byte == b'\n');
                let line = bytes[line_start..line_start + length.map_or(0, |at| at + 1)].to_vec();
                drop(bytes.splice(line_start..line_start, line));
            }
        }
    }
    bytes
}

/// The names in the answers that a client got, in their order, as far as they are the API's.
fn names(mut answers: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(end) = answers.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&answers[..end]).into_owned();
        let field = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let length = field("Content-Length:").or(field("content-length:"));
        let length = length.map_or(0, |length| length.parse().unwrap());
        answers = &answers[end + 4..];
        if let Some(name) = field("X-Name:") {
            let bodiless = name.starts_with("HEAD ");
            let body = &answers[..if bodiless { 0 } else { length.min(answers.len()) }];
            assert!(bodiless || name.as_bytes() == body, "{name} was answered {body:?}");
            answers = &answers[body.len()..];
            names.push(name);
        } else {
            answers = &answers[length.min(answers.len())..];
        }
    }
    names
}

/// Sends bytes and reads until the connection ends.
fn converse(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Refused amid what is being sent is refused.
    let _sent = stream.write_all(bytes);
    let (mut answers, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answers,
            Ok(count) => answers.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answers,
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

fn probe(number: usize) -> Vec<u8> {
    format!("GET /probe/{number} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n").into_bytes()
}

/// The requests which were seen must be among those that were sent, in their order.
fn judge(seen: &[Request], sent: &[Request], bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut sent = sent.iter().filter(|request| request.lawful);
    for request in seen {
        let same = |other: &Request| {
            let host = other.host.is_none() || other.host == request.host;
            host && Request { host: None, ..other.clone() }
                == Request { host: None, ..request.clone() }
        };
        prop_assert!(
            sent.any(same),
            "the upstream saw {:?}, which is not in {:?}",
            request,
            String::from_utf8_lossy(bytes)
        );
    }
    Ok(())
}

#[test]
fn the_upstream_sees_what_the_client_sent_and_nobody_gets_anothers_answer() {
    let api = Recorder::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.gateway.header_read = Duration::from_millis(300);
        options.gateway.request_idle = Duration::from_millis(300);
    });
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(200), failure_persistence: None, ..Config::default() };
    let requests = (request(0), request(1), request(2))
        .prop_map(|(one, two, three)| [one, two, three].concat());
    let damage = prop::collection::vec(damage(), 0..4);
    let count = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&(requests, damage), |(requests, damage)| {
        count.set(count.get() + 1);
        let mut bytes = damaged(requests, &damage);
        bytes.extend(probe(count.get()));
        let sent = read_all(&bytes);
        let answered = names(&converse(pogo.address(), &bytes));
        let seen = api.take();
        prop_assert_eq!(&seen.nonsense, &Vec::<String>::new());
        judge(&seen.requests, &sent, &bytes)?;
        let seen: Vec<String> =
            seen.requests.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
        prop_assert!(seen.starts_with(&answered), "{:?} was answered {:?}", seen, answered);
        if damage.is_empty() {
            prop_assert_eq!(answered.len(), 4, "{:?}", String::from_utf8_lossy(&bytes));
        }
        // Nothing of it is left on a connection to the upstream.
        let after = names(&converse(pogo.address(), &probe(usize::MAX)));
        prop_assert_eq!(after, [format!("GET /probe/{}", usize::MAX)]);
        api.take();
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
}
