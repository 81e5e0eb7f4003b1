//! As much as is allowed passes, and a little more does not: heads and bodies, up and down, in both
//! versions of HTTP, and messages.

use std::time::Duration;

use crate::harness::frames::{DATA, END_STREAM, Fate, Frames, request};
use crate::harness::{Api, Pogo, Socket, Upstream, frame, in_plain_json};

#[test]
fn a_head_has_so_many_bytes_and_fields() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.header_bytes = 1000;
        options.gateway.headers = 5;
    });
    let long = |length: usize| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        head.replace("X: ", &format!("X: {}", "y".repeat(length - head.len())))
    };
    let many =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for (allowed, refused) in [(long(1000), long(1001)), (many(5), many(6))] {
        let mut client = pogo.ask(&refused);
        assert_eq!(client.message().status(), 431);
        client.assert_closed();
        upstream.assert_untouched();
        let mut client = pogo.ask(&allowed);
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200);
    }
    let mut client = Frames::connect(pogo.address());
    let long = "y".repeat(1000);
    client.head(1, END_STREAM, &[request("GET", "/"), vec![("x", &long)]].concat());
    assert_eq!(client.fate(1), Fate::Answered(431));
    upstream.assert_untouched();
}

#[test]
fn the_head_of_an_answer_has_so_many_bytes_and_fields() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.header_bytes = 1000;
        options.upstream.headers = 5;
    });
    let many = |count: usize| "X: y\r\n".repeat(count - 1);
    for (fields, status) in [
        (many(5), 200),
        (many(6), 502),
        (format!("X: {}\r\n", "y".repeat(900)), 200),
        (format!("X: {}\r\n", "y".repeat(1000)), 502),
    ] {
        let mut client = pogo.get("/");
        let (mut api, _) = upstream.request();
        api.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
        api.finish();
        assert_eq!(client.message().status(), status);
    }
}

#[test]
fn a_body_in_frames_has_so_many_bytes_and_a_pace() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.body_bytes = 10;
        options.gateway.request_idle = Duration::from_millis(300);
    });
    let post = request("POST", "/");
    let mut announced = Frames::connect(pogo.address());
    announced.head(1, 0, &[post.clone(), vec![("content-length", "11")]].concat());
    assert_eq!(announced.fate(1), Fate::Answered(413));
    upstream.assert_untouched();
    let mut unannounced = Frames::connect(pogo.address());
    unannounced.head(1, 0, &post);
    unannounced.send(DATA, END_STREAM, 1, &[b'x'; 11]);
    assert_eq!(unannounced.fate(1), Fate::Answered(413));
    let mut slow = Frames::connect(pogo.address());
    slow.head(1, 0, &post);
    slow.send(DATA, 0, 1, b"x");
    assert_eq!(slow.fate(1), Fate::Answered(408));
}

#[test]
fn a_message_has_so_many_bytes_whole_or_in_pieces() {
    in_plain_json();
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.session.message_bytes = 50);
    let ping = |length: usize| format!("{:length$}", r#"{"id":1,"event":"ping"}"#);
    let pieces = |text: &str| {
        let (one, rest) = text.as_bytes().split_at(20);
        let (two, three) = rest.split_at(20);
        [frame(0x01, one), frame(0x00, two), frame(0x80, three)].concat()
    };
    for bytes in [frame(0x81, ping(50).as_bytes()), pieces(&ping(50))] {
        let mut socket = Socket::open(&pogo);
        socket.send_bytes(&bytes);
        assert_eq!(socket.receive()["status"], "ok");
    }
    for bytes in [frame(0x81, ping(51).as_bytes()), pieces(&ping(51))] {
        let mut socket = Socket::open(&pogo);
        socket.send_bytes(&bytes);
        assert_eq!(socket.close_frame().0, 1009);
    }
}
