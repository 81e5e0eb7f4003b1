//! Connections to the upstream: kept, replaced when they broke, and never used twice for what must
//! not happen twice.

use std::time::Duration;

use crate::harness::{Pogo, Upstream, Wire};

/// A Pogo with one idle connection, whose upstream end is returned.
fn with_an_idle_connection(upstream: &Upstream) -> (Pogo, Wire, Wire) {
    let pogo = Pogo::before(upstream);
    let mut client = pogo.get("/first");
    let (mut api, _) = upstream.request();
    api.respond("first");
    assert_eq!(client.message().text(), "first");
    (pogo, client, api)
}

#[test]
fn a_read_is_sent_again_when_a_reused_connection_breaks_without_an_answer() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let upstream = Upstream::start();
        let (_pogo, mut client, mut api) = with_an_idle_connection(&upstream);
        // A head that fits in a packet, and one that does not.
        for size in [10, 20_000] {
            let filler = "x".repeat(size);
            client.send(format!(
                "{method} /again HTTP/1.1\r\nHost: a\r\nx-ODD: 1\r\nFiller: {filler}\r\n\r\n"
            ));
            let first = api.message();
            assert_eq!(first.start, format!("{method} /again HTTP/1.1"));
            drop(api);
            let again;
            (api, again) = upstream.request();
            assert_eq!((&again.start, &again.headers), (&first.start, &first.headers));
            assert!(again.headers.contains(&("x-ODD".into(), b"1".into())));
            api.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.message().status(), 200);
        }
        upstream.assert_untouched();
    }
}

#[test]
fn it_is_sent_again_once() {
    let upstream = Upstream::start();
    let (_pogo, mut client, mut api) = with_an_idle_connection(&upstream);
    client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    api.message();
    drop(api);
    let (api, _) = upstream.request();
    drop(api);
    client.message().assert_problem(502);
    upstream.assert_untouched();
}

#[test]
fn what_may_have_happened_is_not_sent_again() {
    for request in [
        "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST /pay HTTP/1.1\r\nHost: a\r\n\r\n",
        "PATCH /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "PUT /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let upstream = Upstream::start();
        let (_pogo, mut client, mut api) = with_an_idle_connection(&upstream);
        client.send(request);
        api.message();
        drop(api);
        client.message().assert_problem(502);
        upstream.assert_untouched();
    }
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let upstream = Upstream::start();
    let (_pogo, mut client, mut api) = with_an_idle_connection(&upstream);
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    api.message();
    api.send("HTTP/1.1 200 O");
    drop(api);
    client.message().assert_problem(502);
    upstream.assert_untouched();
}

#[test]
fn a_connection_that_the_upstream_closed_is_not_used() {
    let upstream = Upstream::start();
    let (pogo, mut client, api) = with_an_idle_connection(&upstream);
    drop(api);
    // A whole exchange on another connection lets the worker notice.
    let mut other = pogo.get("/other");
    let (mut api, _) = upstream.request();
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let (mut second, request) = upstream.request();
    assert_eq!(request.text(), "abc");
    second.respond("paid");
    assert_eq!(client.message().text(), "paid");
    api.respond("other");
    assert_eq!(other.message().text(), "other");
}

#[test]
fn an_idle_connection_is_closed_before_the_upstream_would() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.idle_timeout = Duration::from_millis(200);
    });
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.respond("");
    client.message();
    api.assert_closed();
}

#[test]
fn a_connection_that_the_upstream_will_close_is_not_kept() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/1");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.message().text(), "ok");
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut second, request) = upstream.request();
    assert_eq!(request.start, "GET /2 HTTP/1.1");
    second.respond("");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn requests_wait_for_a_connection_when_all_are_taken_but_not_for_ever() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.connections = 1;
        options.upstream.connect_timeout = Duration::from_millis(300);
    });
    let mut first = pogo.get("/first");
    let (mut api, _) = upstream.request();
    let mut refused = pogo.get("/refused");
    let answer = refused.message();
    answer.assert_problem(503);
    assert_eq!(answer.one("retry-after").as_deref(), Some("1"));
    let mut waiting = pogo.get("/waiting");
    api.respond("first");
    assert_eq!(first.message().text(), "first");
    assert_eq!(api.message().start, "GET /waiting HTTP/1.1");
    api.respond("waiting");
    assert_eq!(waiting.message().text(), "waiting");
    upstream.assert_untouched();
}

#[test]
fn bytes_after_an_answer_are_not_taken_for_the_next_one() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/1");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Evil: 1\r\n");
    api.send("Content-Length: 0\r\n\r\n");
    assert_eq!(client.message().text(), "ok");
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut second, request) = upstream.request();
    assert_eq!(request.start, "GET /2 HTTP/1.1");
    second.respond("two");
    assert_eq!(client.message().text(), "two");
}
