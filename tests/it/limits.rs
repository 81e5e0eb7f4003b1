//! What is too much, too often, or from where it may not be.

use std::time::Duration;

use pogo::gateway;
use serde_json::{Value, json};

use crate::harness::{Pogo, Socket, start};

fn ping() -> Value {
    json!({"event": "ping"})
}

/// A problem in an answer over HTTP.
fn refused(pogo: &Pogo, fields: &str, status: u16) -> crate::harness::Message {
    let mut wire = pogo.ask(&format!("GET /posts HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let answer = wire.message();
    answer.assert_problem(status);
    answer
}

#[test]
fn a_socket_has_so_many_bindings_and_no_more() {
    let (api, pogo) = start(|options| options.session.bindings = 2);
    for n in 1..=3 {
        api.put(&format!("/posts/{n}"), json!(n));
    }
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    socket.bind("/posts/2");
    socket.bind("/posts/1");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/3"})), "limit_exceeded");
    assert!(api.seen("GET /posts/3").is_empty());
    // A request goes through, only nothing follows it.
    socket.must(json!({"event": "update", "uri": "/posts/3", "data": 4}));
    socket.assert_silent();
    socket.must(json!({"event": "unbind", "uri": "/posts/1"}));
    socket.bind("/posts/3");
    Socket::open(&pogo).bind("/posts/1");
}

#[test]
fn a_binding_that_was_refused_takes_no_place() {
    let (_api, pogo) = start(|options| options.session.bindings = 1);
    let mut socket = Socket::open(&pogo);
    for _ in 0..3 {
        assert_eq!(socket.error(json!({"event": "bind", "uri": "/../a"})), "bad_request");
    }
    let (api, pogo) = start(|options| options.session.bindings = 1);
    api.on("GET /no", |_, _| Some(crate::harness::Reply::empty(403)));
    let mut socket = Socket::open(&pogo);
    for _ in 0..3 {
        assert_eq!(socket.error(json!({"event": "bind", "uri": "/no"})), "forbidden");
    }
    socket.bind("/posts");
}

#[test]
fn who_says_too_much_is_told_when_to_go_on_and_then_closed() {
    let (_api, pogo) = start(|options| {
        options.gate.rates.messages = Some("1/h burst 5".parse().unwrap());
    });
    let mut socket = Socket::open(&pogo);
    for _ in 0..5 {
        socket.must(ping());
    }
    for request in [ping(), json!({"event": "dance"}), json!({"event": 7})] {
        let answer = socket.ask(request);
        assert_eq!(answer["error"]["code"], "rate_limited");
        let wait = answer["error"]["retry_after"].as_u64().unwrap();
        assert!((3_500..=3_600).contains(&wait), "{answer}");
    }
    for _ in 3..64 {
        assert_eq!(socket.error(ping()), "rate_limited");
    }
    socket.send(&ping());
    assert_eq!(socket.closed(), (4429, "over the message rate".into()));
    // The budget is the address's, not the socket's.
    assert_eq!(Socket::open(&pogo).error(ping()), "rate_limited");
}

#[test]
fn nonsense_costs_the_message_budget_too() {
    let (_api, pogo) = start(|options| {
        options.gate.rates.messages = Some("1/h burst 3".parse().unwrap());
    });
    let mut socket = Socket::open(&pogo);
    for _ in 0..3 {
        socket.send_text("nonsense");
        assert_eq!(socket.receive()["error"]["code"], "bad_request");
    }
    socket.send_text("nonsense");
    assert_eq!(socket.receive()["error"]["code"], "rate_limited");
}

#[test]
fn a_denied_address_gets_neither_an_answer_nor_a_socket() {
    let (api, pogo) = start(|options| options.gate.deny = vec!["127.0.0.0/8".parse().unwrap()]);
    refused(&pogo, "", 403);
    assert_eq!(Socket::try_open(pogo.address(), "/", &[]).err(), Some(403));
    assert_eq!(Socket::try_open(pogo.address(), "/live", &[]).err(), Some(403));
    assert!(api.seen("").is_empty());
    let (_api, pogo) = start(|options| {
        options.gate.deny = vec!["192.0.2.0/24".parse().unwrap()];
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let behind = |address| Socket::try_open(pogo.address(), "/", &[("x-forwarded-for", address)]);
    assert_eq!(behind("192.0.2.7").err(), Some(403));
    behind("198.51.100.1").ok().unwrap().must(ping());
}

#[test]
fn requests_over_the_rate_are_told_when_to_come_back() {
    let (api, pogo) = start(|options| {
        options.gate.rates.http = Some("1/h burst 4".parse().unwrap());
    });
    let mut socket = Socket::open(&pogo);
    let mut wire = pogo.ask("GET /posts HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.message().status(), 200);
    for _ in 0..2 {
        socket.must(json!({"event": "show", "uri": "/posts", "bind": false}));
    }
    let answer = refused(&pogo, "", 429);
    let wait: u64 = answer.one("retry-after").unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    for event in ["show", "create", "update", "delete"] {
        let answer = socket.ask(json!({"event": event, "uri": "/posts"}));
        assert_eq!(answer["error"]["code"], "rate_limited");
        assert!(answer["error"]["retry_after"].as_u64().unwrap() > 3_500, "{answer}");
    }
    assert_eq!(api.seen("").len(), 3);
    assert_eq!(Socket::try_open(pogo.address(), "/", &[]).err(), Some(429));
    // What costs no request is not held up.
    socket.must(ping());
}

#[test]
fn only_pages_of_the_same_or_a_listed_origin_open_a_socket() {
    let (_api, pogo) = start(|options| {
        options.gate.allowed_origins = vec!["https://app.example".into()];
    });
    let address = pogo.address();
    let own = format!("http://{address}");
    for (origin, expected) in [
        ("https://app.example", None),
        (own.as_str(), None),
        ("https://evil.example", Some(403)),
        ("http://app.example", Some(403)),
        ("https://app.example.evil.example", Some(403)),
        ("https://app.example:8443", Some(403)),
        ("null", Some(403)),
        ("", Some(403)),
    ] {
        let opened = Socket::try_open(address, "/", &[("origin", origin)]);
        assert_eq!(opened.err(), expected, "{origin}");
    }
    let two = [("origin", "https://app.example"), ("origin", "https://evil.example")];
    assert_eq!(Socket::try_open(address, "/", &two).err(), Some(403));
    Socket::open(&pogo).must(ping());
}

#[test]
fn there_are_so_many_connections_and_no_more() {
    for per_address in [false, true] {
        let (_api, pogo) = start(|options| {
            if per_address {
                options.connections_per_address = 3;
            } else {
                options.connections = 3;
            }
        });
        let mut sockets: Vec<_> = (0..3).map(|_| Socket::open(&pogo)).collect();
        pogo.connect().assert_closed();
        for socket in &mut sockets {
            socket.must(ping());
        }
        // A socket that has ended gives its place back.
        let mut last = sockets.pop().unwrap();
        last.close();
        last.assert_ended();
        Socket::open(&pogo).must(ping());
    }
}

#[test]
fn the_header_limits_hold_for_handshakes() {
    let (_api, pogo) = start(|options| {
        options.gateway =
            gateway::Options { header_read: Duration::from_secs(5), ..gateway::Options::default() };
    });
    let long = "x".repeat(70 << 10);
    let opened = Socket::try_open(pogo.address(), "/", &[("x-long", &long)]);
    assert_eq!(opened.err(), Some(431));
}
