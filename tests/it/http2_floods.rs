//! Clients of HTTP/2 that make work of little: each is cut off, and the others are served.

use std::time::Duration;

use crate::harness::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, request, string,
};
use crate::harness::{Pogo, Upstream};

/// More than any limit; what matters is that less is taken.
const FLOOD: usize = 200_000;

/// Sends until the other side has had enough of it.
fn flood(client: &mut Frames, mut next: impl FnMut(usize) -> Vec<u8>) {
    for count in 0..FLOOD / 100 {
        let batch: Vec<u8> = (count * 100..count * 100 + 100).flat_map(&mut next).collect();
        if !client.try_send(&batch) {
            return;
        }
    }
    panic!("{FLOOD} frames and no end");
}

fn assert_serves(pogo: &Pogo, upstream: &Upstream) {
    let mut client = pogo.get("/probe");
    loop {
        let mut api = upstream.accept();
        if api.rest_or_head().starts_with("GET /probe ") {
            api.respond("probe");
            break;
        }
    }
    assert_eq!(client.message().text(), "probe");
}

#[test]
fn streams_that_are_reset_as_soon_as_they_are_opened_are_too_many() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let head = block(&request("GET", "/rapid"));
    flood(&mut client, |count| {
        let stream = count as u32 * 2 + 1;
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &head),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    assert_serves(&pogo, &upstream);
}

#[test]
fn streams_that_the_client_makes_the_server_reset_are_too_many() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let head = block(&request("POST", "/made"));
    flood(&mut client, |count| {
        let stream = count as u32 * 2 + 1;
        [frame(HEADERS, END_HEADERS, stream, &head), frame(WINDOW_UPDATE, 0, stream, &[0; 4])]
            .concat()
    });
    assert_serves(&pogo, &upstream);
}

#[test]
fn a_head_that_never_ends_ends_the_connection() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for piece in [Vec::new(), block(&[("x", "y")]), block(&[("x", &"y".repeat(8000))])] {
        let mut client = Frames::connect(pogo.address());
        client.send(HEADERS, END_STREAM, 1, &block(&request("GET", "/")));
        flood(&mut client, |_| frame(CONTINUATION, 0, 1, &piece));
        upstream.assert_untouched();
    }
}

#[test]
fn a_head_that_unpacks_to_much_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let mut bomb = block(&request("GET", "/"));
    // A field of 4000 bytes goes into the table, and is then named 16000 times by a byte each.
    bomb.push(0x40);
    string(&mut bomb, b"x");
    string(&mut bomb, &[b'y'; 4000]);
    bomb.extend([0xbe; 12_000]);
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    let fate = client.fate(1);
    assert!(fate.is_refusal(), "{fate:?}");
    upstream.assert_untouched();
    assert_serves(&pogo, &upstream);
}

#[test]
fn data_of_nothing_is_too_much() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    client.head(1, 0, &request("POST", "/empty"));
    let mut api = upstream.accept();
    api.head();
    for (flags, payload) in [(0, &b""[..]), (8, &[3, 0, 0, 0][..])] {
        let mut client = Frames::connect(pogo.address());
        client.head(1, 0, &request("POST", "/nothing"));
        flood(&mut client, |_| frame(DATA, flags, 1, payload));
    }
    assert_serves(&pogo, &upstream);
}

#[test]
fn questions_whose_answers_nobody_reads_are_not_taken_for_ever() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.request_idle = Duration::from_millis(500);
    });
    for question in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let mut client = Frames::connect(pogo.address());
        // Each asks for an answer of as many bytes: once they fill the way back, nothing is read.
        let batch = question.repeat(4000);
        let taken = (0..10_000).take_while(|_| client.try_send(&batch)).count();
        assert!(taken < 10_000, "answers are hoarded");
    }
    assert_serves(&pogo, &upstream);
}

#[test]
fn a_window_that_is_kept_shut_holds_nothing_for_ever() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.request_idle = Duration::from_millis(300);
        options.upstream.connections = 1;
    });
    // The window of a stream, which all answers have to pass, is of no byte.
    let mut client = Frames::with_settings(pogo.address(), &[(4, 0)]);
    client.get(1, "/shut");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    api.assert_closed();
    assert!(matches!(client.fate(1), Fate::Reset(_)));
    assert_serves(&pogo, &upstream);
}

#[test]
fn an_answer_that_pauses_is_no_fault_of_the_client() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.request_idle = Duration::from_millis(200);
        options.gateway.header_read = Duration::from_millis(200);
    });
    let mut client = Frames::connect(pogo.address());
    client.get(1, "/slow");
    let (mut api, _) = upstream.request();
    // Other connections end for their silence meanwhile, before the answer and amid it.
    for part in ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "0\r\n\r\n"] {
        pogo.connect().assert_closed();
        pogo.connect().assert_closed();
        api.send(part);
    }
    assert_eq!(client.fate(1), Fate::Answered(200));
}

#[test]
fn a_connection_without_requests_is_closed() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.header_read = Duration::from_millis(200);
        options.gateway.request_idle = Duration::from_millis(200);
    });
    // One that has asked for nothing, one whose first head never ends, and one that is done.
    let mut nothing = Frames::connect(pogo.address());
    assert_eq!(nothing.fate(1), Fate::Closed);
    let mut half = Frames::connect(pogo.address());
    half.send(HEADERS, 0, 1, &block(&request("GET", "/")));
    // It cannot even answer the farewell, being amid a head; nobody waits for that.
    while half.frame().is_some() {}
    upstream.assert_untouched();
    let mut done = Frames::connect(pogo.address());
    done.get(1, "/");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(done.fate(1), Fate::Answered(200));
    assert_eq!(done.fate(3), Fate::Closed);
}

#[test]
fn a_client_that_says_nothing_more_is_closed_even_if_it_answers_every_ping() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.header_read = Duration::from_millis(200);
        options.gateway.request_idle = Duration::from_millis(200);
    });
    let mut client = Frames::connect(pogo.address());
    while let Some(received) = client.frame() {
        if received.kind == PING && received.flags & ACK == 0 {
            client.try_send(&frame(PING, ACK, 0, &received.payload));
        }
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_served() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = Frames::connect(pogo.address());
    let mut apis = Vec::new();
    for number in 0..128 {
        client.get(number * 2 + 1, "/many");
        apis.push(upstream.request().0);
    }
    client.get(257, "/one-too-many");
    assert!(matches!(client.fate(257), Fate::Reset(7)));
    upstream.assert_untouched();
    apis.pop().unwrap().respond("");
    assert_eq!(client.fate(255), Fate::Answered(200));
}
