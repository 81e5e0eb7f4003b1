//! Clients that ask before they send a body (RFC 9110 §10.1.1).

use crate::harness::{Pogo, Upstream};

const ASKING: &str =
    "PUT /big HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn a_client_is_told_to_send_when_the_upstream_says_so() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(ASKING);
    let mut api = upstream.accept();
    assert_eq!(api.head().one("expect").as_deref(), Some("100-continue"));
    client.assert_quiet();
    api.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.message().status(), 100);
    client.send("hello");
    assert_eq!(api.exactly(5), b"hello");
    api.respond("stored");
    assert_eq!(client.message().text(), "stored");
}

#[test]
fn a_client_is_not_told_to_send_what_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(ASKING);
    let mut api = upstream.accept();
    api.head();
    api.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.message();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text(), "no");
    client.assert_closed();
    api.assert_closed();
}

#[test]
fn a_client_is_told_to_send_when_the_upstream_says_nothing() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(ASKING);
    let mut api = upstream.accept();
    api.head();
    assert_eq!(client.message().status(), 100);
    client.send("hello");
    assert_eq!(api.exactly(5), b"hello");
    api.respond("stored");
    assert_eq!(client.message().text(), "stored");
}

#[test]
fn an_expectation_without_a_body_goes_no_further() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let _client = pogo.ask("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(upstream.request().1.one("expect"), None);
}
