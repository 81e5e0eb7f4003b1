//! Requests that two readers could take for different ones: refused, or made into one that cannot
//! be (RFC 9112 §2.2, §3, §5, §6, §7.1, §11.2).

use crate::harness::{Message, Pogo, Upstream, Wire};

const BODY: &str = "0\r\n\r\n";

/// A POST with these lines in its head, and what a chunked reader takes for no body.
fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{BODY}")
}

/// Asserts that each is refused with this status, ends its connection, and reaches nobody.
fn assert_refused(requests: impl IntoIterator<Item = (impl AsRef<[u8]>, u16)>) {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for (request, status) in requests {
        let request = request.as_ref();
        let shown = String::from_utf8_lossy(request);
        let mut client = pogo.connect();
        client.send(request);
        assert_eq!(client.message().status(), status, "{shown:?}");
        client.finish();
        client.assert_closed();
        upstream.assert_untouched();
    }
}

#[test]
fn lengths_that_are_none_are_refused() {
    let lengths = [
        "-1",
        "+3",
        "0x3",
        "3 3",
        "3,4",
        "3, 3",
        "",
        "1e1",
        "3.0",
        "3;",
        "\"3\"",
        "\u{663}",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999",
    ];
    let too_large = |length: &&str| if **length == *"18446744073709551615" { 431 } else { 400 };
    assert_refused(
        lengths
            .iter()
            .map(|length| (post(&format!("Content-Length: {length}")), too_large(length))),
    );
    assert_refused([
        (post("Content-Length: 3\r\nContent-Length: 4"), 400),
        (post("Content-Length: 3\r\nCONTENT-LENGTH: 4"), 400),
        (post("Content-Length: 0\r\nX: y\r\nContent-Length: 5"), 400),
    ]);
}

#[test]
fn codings_that_are_not_chunked_alone_are_refused() {
    let codings = [
        ("identity", 400),
        ("xchunked", 400),
        ("chunkedx", 400),
        ("'chunked'", 400),
        ("\"chunked\"", 400),
        ("chunked;q=1", 400),
        ("chunked,", 400),
        ("chunked, identity", 400),
        ("chunked, gzip", 400),
        ("chu nked", 400),
        ("", 400),
        (",chunked", 501),
        ("identity, chunked", 501),
        ("gzip, chunked", 501),
        ("chunked, chunked", 501),
        ("\x0bchunked", 400),
        ("chunked\0", 400),
        ("identity\r\nTransfer-Encoding: chunked", 501),
        ("chunked\r\nTransfer-Encoding: chunked", 501),
        ("chunked\r\nTransfer-Encoding: identity", 400),
        ("chunked\r\nTransfer-Encoding: x", 400),
    ];
    assert_refused(
        codings.map(|(coding, status)| (post(&format!("Transfer-Encoding: {coding}")), status)),
    );
}

#[test]
fn a_length_and_a_coding_are_refused_however_they_are_written() {
    let both = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "transfer-encoding:chunked\r\ncontent-length:5",
        "tRANSFER-eNCODING:\tchunked\t\r\nX: y\r\nContent-Length: \t5",
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Content-Length: nonsense\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense",
    ];
    assert_refused(both.map(|lines| (post(lines), 400)));
    // An empty line before a request is no head (RFC 9112 §2.2).
    assert_refused(
        ["\r\n", "\n", "\r\n\r\n"].map(|line| (format!("{line}{}", post(both[0])), 400)),
    );
}

#[test]
fn names_that_only_begin_like_those_of_a_length_are_others() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding-Wanted: chunked",
        "Content-Length-Hint: 7\r\nTransfer-Encoding: chunked",
    ] {
        let body =
            if lines.starts_with("Content-Length:") { BODY } else { "3\r\nabc\r\n0\r\n\r\n" };
        let mut client = pogo.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}"));
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200, "{lines}");
    }
}

#[test]
fn lines_that_are_no_fields_are_refused() {
    let lines: [&[u8]; 19] = [
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Content-Length : 5",
        b" Transfer-Encoding: chunked",
        b"\tTransfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: y\r\n\tContent-Length: 5",
        b"Transfer-Encoding:\r\n chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\r\rTransfer-Encoding: chunked",
        b"X: y\0",
        b"X\0: y",
        b"X: \x7f",
        b"X: \x01",
        b": y",
        b"X",
        b"X\xe9: y",
        b"X(y): z",
        b"X,Y: z",
    ];
    assert_refused(
        lines.map(|line| ([b"POST / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat(), 400)),
    );
    // Among the lines of a message there is no bare CR, even as the end of all of them.
    assert_refused([
        ("GET / HTTP/1.1\rHost: a\r\r", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX", 400),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ]);
}

#[test]
fn first_lines_that_are_none_are_refused() {
    let lines: [&[u8]; 26] = [
        b"GET /",
        b"GET / ",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/11",
        b"GET / HTTP/1.10",
        b"GET / http/1.1",
        b"GET / HTTP/1,1",
        b" GET / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /a\0 HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
        b"GET /a\x7f HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET HTTP/1.1",
        b"/ HTTP/1.1",
        b"G\0T / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET ?x HTTP/1.1",
        b"GET http:/a HTTP/1.1",
    ];
    assert_refused(lines.map(|line| ([line, b"\r\nHost: a\r\n\r\n"].concat(), 400)));
}

#[test]
fn an_older_http_has_no_chunks() {
    assert_refused([
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    ]);
}

#[test]
fn hosts_and_targets_that_could_name_two_places_are_refused() {
    let hosts = [
        "a b",
        "a/b",
        "a@b",
        "user:pw@a",
        "a?b",
        "a#b",
        "a\\b",
        "a,b\r\nHost: c",
        "a\r\nHost: a",
        "",
        "a:b",
        "a:1:2",
        "a:-1",
        "[::1",
        "::1",
        "[::1]x",
        "[a b]",
        "a%",
        "a%zz",
        "a]",
        "\"a\"",
        "<a>",
    ];
    assert_refused(hosts.map(|host| (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400)));
    let targets = [
        "http://user@b/",
        "http://user:pw@b/",
        "http:///",
        "http://b c/",
        "http://b:x/",
        "ftp://b/",
        "file:///etc/passwd",
        "b:80",
        "*",
        "http://[::1/",
    ];
    assert_refused([("GET http://b/ HTTP/1.1\r\n\r\n", 400)]);
    assert_refused(
        targets.map(|target| (format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400)),
    );
}

/// What the upstream gets for bytes that a client sends.
fn forwarded(request: &[u8]) -> Message {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.connect();
    client.send(request);
    let (mut api, message) = upstream.request();
    api.assert_quiet();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    message
}

#[test]
fn what_is_odd_and_lawful_goes_on_in_one_form() {
    let chunked = "Transfer-Encoding: chunked";
    for (request, start, length, body) in [
        ("\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "GET /a HTTP/1.1", None, ""),
        ("GET /a HTTP/1.1\nHost: a\n\n".to_owned(), "GET /a HTTP/1.1", None, ""),
        ("GET /a HTTP/1.0\r\n\r\n".to_owned(), "GET /a HTTP/1.1", None, ""),
        ("GET http://b/a?c HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), "GET /a?c HTTP/1.1", None, ""),
        ("GET HTTP://b HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), "GET / HTTP/1.1", None, ""),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
                .to_owned(),
            "POST / HTTP/1.1",
            Some("3"),
            "abc",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{chunked}\r\n\r\n3;a=\"b;c\"\r\nabc\r\n0;d\r\n\r\n"
            ),
            "POST / HTTP/1.1",
            None,
            "abc",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{chunked}\r\n\r\n0000000000000003\r\nabc\r\n000\r\n\r\n"
            ),
            "POST / HTTP/1.1",
            None,
            "abc",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tCHUNKED \r\n\r\n0\r\n\r\n"
                .to_owned(),
            "POST / HTTP/1.1",
            None,
            "",
        ),
    ] {
        let message = forwarded(request.as_bytes());
        assert_eq!(message.start, start, "{request:?}");
        assert_eq!(message.text(), body, "{request:?}");
        assert_eq!(message.one("content-length").as_deref(), length, "{request:?}");
    }
}

#[test]
fn names_with_an_underscore_frame_nothing() {
    let message = forwarded(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n",
    );
    assert_eq!(message.one("content-length").as_deref(), Some("0"));
    assert_eq!(message.one("transfer-encoding"), None);
}

fn chunked(pogo: &Pogo, body: &[u8]) -> Wire {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = pogo.connect();
    client.send([head, body].concat());
    client
}

#[test]
fn chunks_that_are_none_are_the_clients_fault_and_end_nothing() {
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000));
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(200));
    let chunks: [&[u8]; 24] = [
        b"FFFFFFFFFFFFFFFFF\r\nabc",
        b"10000000000000000\r\nabc",
        b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b";x\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\rabc\r\n0\r\n\r\n",
        b"3\r\rabc\r\n0\r\n\r\n",
        b"3;x\nabc\r\n0\r\n\r\n",
        b"3;x\rabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        b"3 3\r\nabc\r\n0\r\n\r\n",
        b"3_\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        b"3\r\nabc\r\n0\r\n X: y\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX: \0\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for chunk in chunks {
        let shown = String::from_utf8_lossy(&chunk[..chunk.len().min(40)]).into_owned();
        let mut client = chunked(&pogo, chunk);
        let answer = client.message();
        assert_eq!(answer.status(), 400, "{shown:?}: {answer:?}");
        answer.assert_problem(400);
        client.finish();
        client.assert_closed();
        let seen = upstream.accept().rest();
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{shown:?}: taken for whole");
    }
}

#[test]
fn a_trailer_sets_nothing_that_a_head_would() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-T\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\
         Transfer-Encoding: chunked\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nX-T: 1\r\n\r\n",
    );
    let (mut api, request) = upstream.request();
    assert_eq!(request.text(), "abc");
    let names: Vec<String> =
        request.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-t"]);
    api.respond("");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn what_follows_a_refused_request_is_not_another() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_refused([
        (format!("{}{smuggled}", post("Content-Length: 5\r\nTransfer-Encoding: chunked")), 400),
        (format!("{}{smuggled}", post("Transfer-Encoding: gzip, chunked")), 501),
    ]);
}

#[test]
fn of_two_lengths_behind_another_request_only_one_goes_on() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(&format!(
        "GET /first HTTP/1.1\r\nHost: a\r\n\r\n{}GET /third HTTP/1.1\r\nHost: a\r\n\r\n",
        post("Content-Length: 4\r\nTransfer-Encoding: chunked")
    ));
    let (mut api, first) = upstream.request();
    assert_eq!(first.start, "GET /first HTTP/1.1");
    api.respond("first");
    assert_eq!(client.message().text(), "first");
    let second = api.message();
    assert_eq!((second.start.as_str(), second.text()), ("POST / HTTP/1.1", ""));
    assert_eq!(second.all("content-length").len() + second.all("transfer-encoding").len(), 1);
    api.respond("second");
    let answer = client.message();
    assert_eq!((answer.text(), answer.one("connection").as_deref()), ("second", Some("close")));
    client.assert_closed();
    api.assert_quiet();
}

#[test]
fn options_go_as_many_hops_as_they_may() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let options = |target: &str, forwards: &str| {
        pogo.ask(&format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: a\r\nMax-Forwards: {forwards}\r\n\r\n"
        ))
    };
    for target in ["*", "/a"] {
        let answer = options(target, "0").message();
        assert_eq!(answer.status(), 204);
        assert!(answer.one("allow").unwrap().contains("GET"));
    }
    upstream.assert_untouched();
    for (received, sent) in [
        ("10", "9"),
        ("1", "0"),
        ("99999999999999999999", "18446744073709551614"),
        ("many", "many"),
    ] {
        let mut client = options("/a", received);
        let (mut api, request) = upstream.request();
        assert_eq!(request.one("max-forwards").as_deref(), Some(sent));
        api.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(client.message().status(), 204);
    }
    // Of other methods it says nothing (RFC 9110 §7.6.2).
    let mut client = pogo.ask("GET /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("max-forwards").as_deref(), Some("0"));
    api.respond("");
    assert_eq!(client.message().status(), 200);
    let mut client = pogo.ask("TRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    client.message().assert_problem(405);
    upstream.assert_untouched();
}
