//! Clients that hold a connection open rather than use it.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::frames::{Fate, Frames, WINDOW_UPDATE};
use crate::harness::{Operator, PATIENCE, Pogo, Upstream, Wire};

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

/// Sends a little now and then for as long as the other side bears it; gives what that then says.
fn drip(wire: Wire, little: &[u8]) -> Vec<u8> {
    let mut stream = wire.into_stream();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => said.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if said.is_empty() && stream.write_all(little).is_err() {
                    return said;
                }
            }
            Ok(0) | Err(_) => return said,
        }
    }
}

/// Heads and bodies that come in drops are over at their limit, however often a drop falls; and
/// meanwhile nobody waits for them.
#[test]
fn clients_that_drip_are_ended_at_the_limit_and_hold_nobody_up() {
    const LIMIT: Duration = Duration::from_secs(3);
    const EACH: usize = 24;
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.header_read = LIMIT;
        options.gateway.request_idle = LIMIT;
        options.upstream.connections = EACH + 1;
    });
    let (ends, ended) = channel();
    let drip = |start: &str, little: &'static [u8]| {
        let (wire, ends) = (pogo.ask(start), ends.clone());
        std::thread::spawn(move || ends.send(drip(wire, little)));
    };
    (0..EACH).for_each(|_| drip("GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y"));
    // Five bytes a second, where eight are the least.
    let mut held: Vec<Wire> = (0..EACH)
        .map(|_| {
            drip("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"y");
            let mut api = upstream.accept();
            assert_eq!(api.head().start, "POST /slow HTTP/1.1");
            api
        })
        .collect();
    let mut client = pogo.get("/first");
    let (mut api, _) = upstream.request();
    api.respond("first");
    assert_eq!(client.message().text(), "first");
    for _ in 0..50 {
        client.send("GET /fast HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(api.message().start, "GET /fast HTTP/1.1");
        api.respond("fast");
        assert_eq!(client.message().text(), "fast");
    }
    // Whoever had to wait for a slow one would have been answered after its end.
    assert!(ended.try_recv().is_err(), "somebody waited");
    let ends = (0..2 * EACH).map(|_| ended.recv_timeout(2 * PATIENCE).expect("a drip ends"));
    let (told, silent): (Vec<_>, Vec<_>) = ends.partition(|end| end.starts_with(b"HTTP/1.1 408 "));
    assert_eq!(told.len(), EACH, "{silent:?}");
    assert!(silent.iter().all(Vec::is_empty), "{silent:?}");
    for slow in &mut held {
        assert!(slow.rest().len() < 1000);
    }
    // No connection to the upstream is lost by it.
    let mut clients: Vec<Wire> = (0..EACH).map(|_| pogo.get("/last")).collect();
    client.send("GET /last HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut apis: Vec<Wire> = (0..EACH).map(|_| upstream.accept()).chain([api]).collect();
    apis.iter_mut().for_each(|api| assert_eq!(api.message().start, "GET /last HTTP/1.1"));
    apis.iter_mut().for_each(|api| api.respond("last"));
    for client in clients.iter_mut().chain([&mut client]) {
        assert_eq!(client.message().text(), "last");
    }
}

/// Whether an answer in chunks, of which nothing was taken so far, is whole.
fn is_whole(wire: Wire) -> bool {
    let (mut stream, mut last, mut buffer) = (wire.into_stream(), Vec::new(), [0; 65_536]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        last.extend_from_slice(&buffer[..count]);
        last.drain(..last.len().saturating_sub(5));
    }
    last == b"0\r\n\r\n"
}

/// Of each kind one client that holds a connection to the API and hardly uses it; and one who is
/// itself kept waiting.
#[test]
fn while_others_wait_clients_that_hardly_send_or_take_lose_their_connections() {
    const INITIAL_WINDOW: u16 = 4;
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        Operator::admit(options);
        options.gateway.header_read = Duration::from_secs(1);
        options.upstream.connections = 4;
        options.upstream.slow_client = Duration::from_millis(500);
    });
    let operator = Operator::of(&pogo);
    let shed = || operator.metric("pogo_upstream_connections_shed_total");

    let dripping = pogo.ask("POST /drip HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let mut taker = upstream.accept();
    assert_eq!(taker.head().start, "POST /drip HTTP/1.1");
    let dripped = std::thread::spawn(move || drip(dripping, b"yyyyyyyy"));
    let deaf = pogo.get("/deaf");
    let mut http2 = Frames::with_settings(pogo.address(), &[(INITIAL_WINDOW, 10)]);
    http2.get(1, "/narrow");
    let givers: Vec<_> = (0..2)
        .map(|_| {
            let (mut api, _) = upstream.request();
            std::thread::spawn(move || {
                api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                while api.try_send(&chunk).is_ok() {}
            })
        })
        .collect();
    let mut patient = pogo.get("/patient");
    let (mut slow_api, _) = upstream.request();

    // Nobody else waits, and each may go on as it does.
    pogo.connect().assert_closed();
    assert!(shed() < 1.0);
    let mut others: Vec<Wire> = (0..3).map(|_| pogo.get("/other")).collect();
    for _ in 0..3 {
        let (mut api, request) = upstream.request();
        assert_eq!(request.start, "GET /other HTTP/1.1");
        api.respond("served");
    }
    others.iter_mut().for_each(|other| assert_eq!(other.message().text(), "served"));
    let begin = Instant::now();
    while shed() < 3.0 {
        assert!(begin.elapsed() < PATIENCE, "{} given up", shed());
    }
    assert!(dripped.join().unwrap().starts_with(b"HTTP/1.1 408 "));
    assert!(taker.rest().len() < 1000);
    // They are over when nobody takes what they give.
    givers.into_iter().for_each(|giver| giver.join().unwrap());
    assert!(!is_whole(deaf), "what was broken off looks whole");
    http2.send(WINDOW_UPDATE, 0, 1, &100_000_000_u32.to_be_bytes());
    http2.send(WINDOW_UPDATE, 0, 0, &100_000_000_u32.to_be_bytes());
    let fate = http2.fate(1);
    assert!(matches!(fate, Fate::Reset(_)), "{fate:?}");
    slow_api.respond("late");
    assert_eq!(patient.message().text(), "late");
}
