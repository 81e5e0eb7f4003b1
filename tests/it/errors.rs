//! Each way to get no answer has its own status, and none tells what went on inside.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Pogo, Upstream};

#[test]
fn an_upstream_that_refuses_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let pogo = Pogo::at(&address, |_| ());
    let mut client = pogo.get("/");
    client.message().assert_problem(502);
    client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    client.message().assert_problem(502);
}

#[test]
fn an_upstream_that_does_not_accept_in_time_is_a_timeout() {
    // TEST-NET-1 (RFC 5737) routes nowhere; where a network answers for it, that is a refusal.
    let pogo = Pogo::at("192.0.2.1:81", |options| {
        options.upstream.connect_timeout = Duration::from_millis(200);
    });
    let status = pogo.get("/").message().status();
    assert!(matches!(status, 502 | 504), "{status}");
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_a_timeout() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.response_timeout = Duration::from_millis(200);
    });
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    client.message().assert_problem(504);
    api.assert_closed();
}

#[test]
fn an_upstream_that_closes_without_a_word_is_a_bad_gateway() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    drop(upstream.request());
    client.message().assert_problem(502);
}

#[test]
fn an_upstream_that_does_not_speak_http_is_a_bad_gateway() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    client.message().assert_problem(502);
}

#[test]
fn an_answer_with_many_fields_passes_and_its_request_is_sent_once() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let fields: String = (0..200).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let answer = format!("HTTP/1.1 201 Fine\r\n{fields}Content-Length: 3\r\n\r\n");
    for (method, sent) in [("GET", ""), ("POST", "abc"), ("PUT", "abc"), ("HEAD", "")] {
        for cut in [10, 700, answer.len()] {
            let length = sent.len();
            let mut client = pogo.ask(&format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{sent}"
            ));
            let (mut api, request) = upstream.request();
            assert_eq!(request.text(), sent);
            api.send(&answer[..cut]);
            client.assert_quiet();
            api.send(&answer[cut..]);
            let got = if method == "HEAD" {
                client.head()
            } else {
                api.send("xyz");
                client.message()
            };
            assert_eq!(
                (got.status(), got.one("x-199").as_deref()),
                (201, Some("199")),
                "{method} {cut} {}",
                got.text()
            );
            assert!(got.start.ends_with(" Fine"), "{}", got.start);
            assert_eq!(got.text(), if method == "HEAD" { "" } else { "xyz" });
            // Nothing follows on a connection that was read twice.
            api.assert_closed();
            upstream.assert_untouched();
        }
    }
}

#[test]
fn an_answer_with_more_fields_than_may_be_is_an_error() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    let fields: String = (0..300).map(|n| format!("X-{n}: {n}\r\n")).collect();
    api.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
    client.message().assert_problem(502);
}

#[test]
fn a_head_beyond_the_limit_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.connect();
    let cookie = "c".repeat(65 * 1024);
    let _cut_short =
        client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    assert_eq!(client.message().status(), 431);
    let mut client = pogo.connect();
    let fields = "X: 1\r\n".repeat(129);
    let _cut_short = client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(client.message().status(), 431);
    upstream.assert_untouched();
}

#[test]
fn a_body_beyond_the_limit_is_refused_whether_announced_or_not() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| options.gateway.body_bytes = 10);
    let mut client = pogo.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    client.message().assert_problem(413);
    client.assert_closed();
    upstream.assert_untouched();
    let mut client = pogo
        .ask("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n");
    client.message().assert_problem(413);
    assert!(!upstream.accept().rest().ends_with(b"0\r\n\r\n"));
    let mut client = pogo.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890");
    let (mut api, request) = upstream.request();
    assert_eq!(request.text(), "1234567890");
    api.respond("");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn an_unknown_expectation_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n");
    client.message().assert_problem(417);
    upstream.assert_untouched();
}
