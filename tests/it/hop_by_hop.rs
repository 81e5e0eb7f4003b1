//! What belongs to one connection stays on it (RFC 9110 §7.6.1), and nothing else is removed.

use crate::harness::{Message, Pogo, Upstream};

/// What the upstream sees of a request with these lines.
fn seen(lines: &str) -> Message {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let _client = pogo.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
    upstream.request().1
}

/// What the client sees of an answer with these lines.
fn told(lines: &str) -> Message {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n\r\n"));
    client.message()
}

#[test]
fn fields_that_connection_names_go_no_further_up() {
    let request = seen(
        "Connection: close, X-A\r\nConnection: \tx-b ,\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\nClose: 4",
    );
    for gone in ["connection", "x-a", "x-b", "close"] {
        assert_eq!(request.one(gone), None, "{gone}");
    }
    assert_eq!(request.one("x-c").as_deref(), Some("3"));
}

#[test]
fn fields_that_connection_names_go_no_further_down() {
    let answer = told("Connection: X-B\r\nConnection: x-d\r\nX-B: 1\r\nX-D: 2\r\nX-C: 3");
    for gone in ["connection", "x-b", "x-d"] {
        assert_eq!(answer.one(gone), None, "{gone}");
    }
    assert_eq!(answer.one("x-c").as_deref(), Some("3"));
}

#[test]
fn fields_that_others_rely_on_cannot_be_named_away() {
    let request = seen(
        "Connection: Host, Authorization, X-Forwarded-For, Cookie, Content-Length\r\n\
         Authorization: Bearer t\r\nCookie: a=1\r\nContent-Length: 0",
    );
    assert_eq!(request.one("host").as_deref(), Some("a"));
    assert_eq!(request.one("authorization").as_deref(), Some("Bearer t"));
    assert_eq!(request.one("cookie").as_deref(), Some("a=1"));
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.one("content-length").as_deref(), Some("0"));
}

#[test]
fn the_fields_of_one_connection_are_removed_unnamed() {
    let lines = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk";
    let request = seen(lines);
    for gone in ["keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        assert_eq!(request.one(gone), None, "{gone}");
    }
    assert_eq!(told("Keep-Alive: timeout=5").one("keep-alive"), None);
}

#[test]
fn values_in_any_bytes_pass() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Latin: caf\xe9\r\nCookie: a=\xff\r\n\r\n");
    let mut api = upstream.accept();
    let head = api.until(b"\r\n\r\n");
    assert!(head.windows(4).any(|bytes| bytes == b"caf\xe9"));
    api.send(b"HTTP/1.1 200 OK\r\nX-Latin: na\xefve\r\nContent-Length: 0\r\n\r\n");
    let head = client.until(b"\r\n\r\n");
    assert!(head.windows(5).any(|bytes| bytes == b"na\xefve"));
}

#[test]
fn trailers_pass_to_a_client_that_takes_them() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client =
        pogo.ask("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("te").as_deref(), Some("trailers"));
    assert_eq!(request.one("connection").as_deref(), Some("te"));
    api.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T, Content-Length\r\n\r\n",
    );
    api.send("2\r\nok\r\n0\r\nX-T: 7\r\nContent-Length: 99\r\n\r\n");
    let answer = client.message();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailers.len(), 1, "{answer:?}");
    assert_eq!(answer.trailers[0].0.to_ascii_lowercase(), "x-t");
    assert_eq!(answer.trailers[0].1, b"7");
}

#[test]
fn what_an_untrusted_client_says_about_itself_is_overwritten() {
    let request = seen(
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4",
    );
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(request.one("x-forwarded-host").as_deref(), Some("a"));
    assert_eq!(request.one("forwarded"), None);
    assert_eq!(request.one("x-real-ip"), None);
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gate.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        options.gate.deny = vec!["5.6.7.8/32".parse().unwrap()];
    });
    let mut client = pogo.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Forwarded-Proto: https\r\n\r\n",
    );
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("5.6.7.8, 1.2.3.4, 127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n\r\n");
    client.message().assert_problem(403);
}
