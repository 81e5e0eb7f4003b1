//! The end: what is under way finishes, what is idle closes, nothing outlasts the deadline.

use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Pogo, Upstream};

#[test]
fn what_is_under_way_finishes_and_what_is_idle_closes() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::before(&upstream);
    let address = pogo.address();
    let mut idle = pogo.get("/idle");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(idle.message().status(), 200);
    let mut silent = pogo.connect();
    let mut busy = pogo.get("/busy");
    assert_eq!(api.message().start, "GET /busy HTTP/1.1");
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    busy.head();
    let draining = pogo.drain();
    idle.assert_closed();
    silent.assert_closed();
    api.send("lf");
    assert_eq!(busy.exactly(4), b"half");
    busy.assert_closed();
    draining.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_client_that_had_just_connected_is_heard() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::before(&upstream);
    let mut early = pogo.connect();
    let mut idle = pogo.get("/idle");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(idle.message().status(), 200);
    let draining = pogo.drain();
    // The drain has begun, and what the early one sends was on its way.
    idle.assert_closed();
    early.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(api.message().start, "GET /early HTTP/1.1");
    api.respond("heard");
    let answer = early.message();
    assert_eq!(answer.text(), "heard");
    assert_eq!(answer.one("connection").as_deref(), Some("close"));
    draining.join().unwrap().unwrap();
}

#[test]
fn an_answer_that_has_not_begun_says_that_it_is_the_last() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::before(&upstream);
    let mut busy = pogo.get("/busy");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /busy HTTP/1.1");
    let mut idle = pogo.get("/idle");
    let (mut other, _) = upstream.request();
    other.respond("");
    assert_eq!(idle.message().status(), 200);
    let draining = pogo.drain();
    // Connections are told in the order in which they came: the busy one knows by now.
    idle.assert_closed();
    api.respond("last");
    let answer = busy.message();
    assert_eq!(answer.text(), "last");
    assert_eq!(answer.one("connection").as_deref(), Some("close"));
    draining.join().unwrap().unwrap();
}

#[test]
fn what_does_not_finish_is_cut_at_the_deadline() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::with(&upstream, |options| options.drain = Duration::from_millis(300));
    let mut busy = pogo.get("/never");
    let (mut api, _) = upstream.request();
    let draining = pogo.drain();
    busy.assert_closed();
    api.assert_closed();
    draining.join().unwrap().unwrap();
}

#[test]
fn a_tunnel_is_cut_at_the_deadline() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::with(&upstream, |options| options.drain = Duration::from_millis(300));
    let mut client = pogo
        .ask("GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut api = upstream.accept();
    api.head();
    api.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    );
    client.head();
    let draining = pogo.drain();
    api.send("still");
    assert_eq!(client.exactly(5), b"still");
    client.assert_closed();
    api.assert_closed();
    draining.join().unwrap().unwrap();
}
