//! How much one client may take.

use std::time::Duration;

use pogo::units::Rate;

use crate::harness::{Pogo, Upstream};

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gate.rates.http = Some(Rate {
            count: 1.try_into().unwrap(),
            per: Duration::from_secs(3600),
            burst: 1.try_into().unwrap(),
        });
    });
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.message();
    answer.assert_problem(429);
    let wait: u64 = answer.one("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
}

#[test]
fn bytes_of_a_body_that_was_refused_are_not_taken_for_a_request() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gate.deny = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = pogo.ask(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    ));
    client.message().assert_problem(403);
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    client.message().assert_problem(403);
    client.assert_quiet();
    upstream.assert_untouched();
}

#[test]
fn connections_beyond_the_limit_are_closed_until_there_is_room() {
    let upstream = Upstream::start();
    let limit_all: fn(&mut pogo::server::Options) = |options| options.connections = 1;
    let limit_address: fn(&mut pogo::server::Options) =
        |options| options.connections_per_address = 1;
    for limit in [limit_all, limit_address] {
        let pogo = Pogo::with(&upstream, limit);
        let mut first = pogo.get("/");
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(first.message().status(), 200);
        pogo.connect().assert_closed();
        first.finish();
        first.assert_closed();
        let mut second = pogo.get("/");
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(second.message().status(), 200);
    }
}

#[test]
fn a_tunnel_counts_as_a_connection() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| options.connections = 1);
    let mut client = pogo
        .ask("GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut api = upstream.accept();
    api.head();
    api.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    );
    assert_eq!(client.head().status(), 101);
    api.send("open");
    assert_eq!(client.exactly(4), b"open");
    pogo.connect().assert_closed();
}
