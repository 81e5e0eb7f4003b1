//! Requests in HTTP/2 that HTTP/1.1 would read as others (RFC 9113 §8.2, §8.3, §10.3), and frames
//! that are not to be sent.

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, request, string,
};
use crate::harness::{Pogo, Upstream};

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [request("POST", "/"), more.to_vec()].concat()
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn unlawful_heads() -> Vec<Vec<(&'static str, &'static str)>> {
    let get = request("GET", "/");
    let without = |name: &str| -> Vec<(&'static str, &'static str)> {
        get.iter().filter(|(other, _)| *other != name).copied().collect()
    };
    let instead = |name: &'static str, value: &'static str| {
        let mut fields = request("GET", "/");
        fields.iter_mut().find(|(other, _)| *other == name).unwrap().1 = value;
        fields
    };
    vec![
        with(&[("x", "a\r\ny: b")]),
        with(&[("x", "a\nb")]),
        with(&[("x", "a\rb")]),
        with(&[("x", "a\0b")]),
        with(&[("x\r\ny", "a")]),
        with(&[("x: y\r\nz", "a")]),
        with(&[("x y", "a")]),
        with(&[("x:", "a")]),
        with(&[("\"x", "a")]),
        with(&[("", "a")]),
        with(&[("X-Upper", "a")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("transfer-encoding", "identity")]),
        with(&[("connection", "x")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("content-length", "-1")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "1, 2")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "0, 0")]),
        with(&[("host", "b")]),
        with(&[("host", "a"), ("host", "a")]),
        with(&[(":path", "/b")]),
        with(&[(":method", "PUT")]),
        with(&[(":authority", "b")]),
        with(&[(":status", "200")]),
        with(&[(":unknown", "x")]),
        with(&[("x", "y"), (":path", "/late")]),
        without(":method"),
        without(":path"),
        without(":scheme"),
        without(":authority"),
        instead(":method", "GET / HTTP/1.1\r\nx: y"),
        instead(":method", "G T"),
        instead(":method", ""),
        instead(":path", ""),
        instead(":path", "/ HTTP/1.1\r\nhost: evil\r\n\r\nGET /b"),
        instead(":path", "/a b"),
        instead(":path", "/a\0"),
        instead(":path", "a"),
        instead(":path", "#a"),
        instead(":path", "#/a?b"),
        instead(":path", "http://evil/"),
        instead(":path", "*"),
        instead(":authority", "a\r\nx: y"),
        instead(":authority", "a b"),
        instead(":authority", "user@a"),
        instead(":authority", "a/b"),
        instead(":authority", ""),
        instead(":scheme", "ftp"),
        instead(":scheme", "http\r\n"),
        [request("CONNECT", "/"), vec![(":protocol", "websocket")]].concat(),
        vec![(":method", "CONNECT"), (":authority", "a:80")],
        request("TRACE", "/"),
    ]
}

#[test]
fn heads_that_would_be_others_in_http_1_1_reach_nobody() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for fields in unlawful_heads() {
        let mut client = Frames::connect(pogo.address());
        client.head(1, END_STREAM, &fields);
        let fate = client.fate(1);
        assert!(fate.is_refusal(), "{fields:?}: {fate:?}");
        upstream.assert_untouched();
    }
}

#[test]
fn a_body_of_another_length_than_it_says_is_not_whole() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for (length, body) in [("5", "abc"), ("2", "abc"), ("0", "abc")] {
        let mut client = Frames::connect(pogo.address());
        client.head(1, 0, &with(&[("content-length", length)]));
        client.send(DATA, END_STREAM, 1, body.as_bytes());
        let fate = client.fate(1);
        assert!(fate.is_refusal(), "{length}: {fate:?}");
        drop(client);
    }
    let mut client = Frames::connect(pogo.address());
    client.head(1, END_STREAM, &with(&[("content-length", "5")]));
    assert!(client.fate(1).is_refusal());
    // Nobody reads the next request as the rest of one of these: it has a connection of its own.
    let mut client = Frames::connect(pogo.address());
    client.get(1, "/probe");
    loop {
        let mut api = upstream.accept();
        let seen = api.rest_or_head();
        if seen.starts_with("GET /probe HTTP/1.1\r\n") {
            api.respond("probe");
            break;
        }
        assert!(seen.is_empty() || seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
        if seen.to_lowercase().contains("content-length: 0\r\n") {
            // Whole, by its head, before it was anything else.
            continue;
        }
        let rest = api.rest();
        assert!(!rest.windows(3).any(|bytes| bytes == b"GET"), "{rest:?}");
    }
    assert_eq!(client.fate(1), Fate::Answered(200));
}

/// Pogo's reader does not show it (docs/security.md), so that it is not refused.
#[test]
fn a_scheme_beside_host_alone_goes_no_further() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let fields = [(":method", "GET"), (":scheme", "ftp"), (":path", "/a"), ("host", "a")];
    client.head(1, END_STREAM, &fields);
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /a HTTP/1.1");
    assert_eq!(request.one("host").as_deref(), Some("a"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("http"));
    api.respond("");
    assert_eq!(client.fate(1), Fate::Answered(200));
}

#[test]
fn what_is_lawful_goes_on_in_one_form() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let fields =
        with(&[("te", "trailers"), ("content-length", "3"), ("host", "a"), ("x-a", "\tb ")]);
    client.head(1, 0, &fields);
    client.send(DATA, 0, 1, b"ab");
    client.send(DATA, 0, 1, b"");
    client.send(DATA, END_STREAM, 1, b"c");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "POST / HTTP/1.1");
    assert_eq!(request.one("content-length").as_deref(), Some("3"));
    assert_eq!(request.one("transfer-encoding"), None);
    assert_eq!(request.one("host").as_deref(), Some("a"));
    assert_eq!(request.text(), "abc");
    api.assert_quiet();
    api.respond("");
    assert_eq!(client.fate(1), Fate::Answered(200));
}

#[test]
fn frames_that_are_not_to_be_sent_end_the_connection() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut oversized = vec![0];
    string(&mut oversized, b"x");
    let get = block(&request("GET", "/"));
    let opened = frame(HEADERS, END_HEADERS, 1, &block(&request("POST", "/")));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("data without a stream", frame(DATA, 0, 0, b"x")),
        ("data before a head", frame(DATA, 0, 1, b"x")),
        ("a head without a stream", frame(HEADERS, END_HEADERS, 0, &get)),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &get)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &get)),
        ("a frame amid a head", [frame(HEADERS, 0, 1, &get), frame(DATA, 0, 1, b"x")].concat()),
        (
            "a continuation of another stream",
            [frame(HEADERS, 0, 1, &get), frame(CONTINUATION, 0, 3, b"")].concat(),
        ),
        ("a push", frame(5, END_HEADERS, 1, &get)),
        ("settings of half a setting", frame(SETTINGS, 0, 0, b"abc")),
        ("settings of a stream", frame(SETTINGS, 0, 1, b"")),
        ("a window beyond all windows", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("frames too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window that grows beyond all windows",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        ("a reset of nothing", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("padding beyond the frame", [opened.clone(), frame(DATA, 8, 1, &[9, 0])].concat()),
        ("a frame larger than agreed", [opened, frame(DATA, 0, 1, &[0; 16_385])].concat()),
        ("an index of nothing", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0x7f])),
        ("half a string", frame(HEADERS, END_HEADERS, 1, &oversized)),
        ("a number without end", frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
        ("a table larger than agreed", frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0x7f])),
    ];
    for (name, bytes) in cases {
        let mut client = Frames::connect(pogo.address());
        client.try_send(&bytes);
        let fate = client.fate(0);
        assert!(matches!(fate, Fate::GoneAway(_) | Fate::Closed), "{name}: {fate:?}");
    }
}
