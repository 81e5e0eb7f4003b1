//! A client that leaves: what it only asked for is cancelled, what it changed is carried through.

use crate::harness::{Pogo, Upstream};

#[test]
fn a_read_is_cancelled_when_its_client_leaves() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = pogo.get("/slow");
    let (mut api, _) = upstream.request();
    drop(client);
    api.assert_closed();
}

#[test]
fn an_answer_is_cancelled_when_its_client_leaves() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/events");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    client.head();
    assert_eq!(client.chunk().unwrap(), b"one");
    drop(client);
    api.assert_closed();
}

#[test]
fn a_write_goes_on_when_its_client_leaves() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = pogo.ask("POST /posts HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let (mut api, _) = upstream.request();
    drop(client);
    // A whole exchange later, in which Pogo has noticed, the write is still waited for.
    let mut other = pogo.get("/other");
    let (mut second, _) = upstream.request();
    second.respond("other");
    assert_eq!(other.message().text(), "other");
    api.assert_quiet();
    api.respond("posted");
    // Only now has nobody any use for the connection.
    api.assert_closed();
}
