//! Which host a request is for (RFC 9112 §3.2, RFC 9113 §8.3.1).

use crate::harness::{Pogo, Upstream};

#[track_caller]
fn assert_refused(request: &str) {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(request);
    client.message().assert_problem(400);
    client.assert_closed();
    upstream.assert_untouched();
}

#[test]
fn a_request_without_a_host_is_refused() {
    assert_refused("GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_request_with_two_hosts_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
}

#[test]
fn a_host_that_is_none_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\nHost:\r\n\r\n");
}

#[test]
fn the_host_of_an_absolute_target_replaces_the_one_in_the_head() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /x?y HTTP/1.1");
    assert_eq!(request.one("host").as_deref(), Some("b.example"));
    api.respond("");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn a_client_of_http_1_0_that_names_no_host_is_served() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("GET /old HTTP/1.0\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /old HTTP/1.1");
    assert_eq!(request.one("host"), Some(upstream.address().to_string()));
    assert_eq!(request.one("via").as_deref(), Some("1.0 pogo"));
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let answer = client.message();
    assert_eq!(answer.one("transfer-encoding"), None);
    assert_eq!(answer.text(), "ok");
}
