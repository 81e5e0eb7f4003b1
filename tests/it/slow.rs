//! Clients that hold a connection open rather than use it.

use std::time::Duration;

use crate::harness::{Pogo, Upstream};

fn impatient(upstream: &Upstream) -> Pogo {
    Pogo::with(upstream, |options| {
        options.gateway.header_read = Duration::from_millis(300);
        options.gateway.request_idle = Duration::from_millis(500);
    })
}

#[test]
fn a_connection_on_which_no_request_comes_is_closed() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    for start in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nS", "G", "GET / HTTP/1.1\r\nHo"] {
        let mut client = pogo.ask(start);
        client.assert_closed();
    }
    upstream.assert_untouched();
}

#[test]
fn a_connection_on_which_no_further_request_comes_is_closed() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.assert_closed();
}

#[test]
fn a_body_that_stops_coming_is_refused() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    let mut client = pogo.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\na");
    client.message().assert_problem(408);
    client.assert_closed();
    let mut api = upstream.accept();
    api.head();
    assert_eq!(api.rest(), b"a");
}

#[test]
fn a_slow_answer_is_no_fault_of_the_client() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    let mut client = pogo.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let (mut api, _) = upstream.request();
    // Another connection is closed for its silence meanwhile, and then another.
    pogo.connect().assert_closed();
    pogo.connect().assert_closed();
    api.respond("late");
    assert_eq!(client.message().text(), "late");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_dropped() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    let _client = pogo.get("/huge");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // Until the sockets on the way are full, and then until Pogo gives up.
    while api.try_send(&chunk).is_ok() {}
    api.assert_closed();
}
