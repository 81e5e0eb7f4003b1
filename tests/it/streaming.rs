//! Nothing is held back, and nothing is hoarded.

use std::io::Write;

use crate::harness::{Pogo, Upstream};

#[test]
fn each_part_of_an_answer_arrives_before_the_next_is_sent() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/events");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.head();
    for event in ["one", "two", "three"] {
        api.send(format!("{:x}\r\n{event}\r\n", event.len()));
        assert_eq!(client.chunk().unwrap(), event.as_bytes());
    }
    api.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
}

#[test]
fn each_part_of_a_request_arrives_before_the_next_is_sent() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut api = upstream.accept();
    api.head();
    for part in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        assert_eq!(api.chunk().unwrap(), part.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(api.chunk(), None);
    api.trailers();
    api.respond("done");
    assert_eq!(client.message().text(), "done");
}

#[test]
fn an_upstream_that_sends_faster_than_its_client_reads_is_made_to_wait() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/huge");
    let (api, _) = upstream.request();
    let length: usize = 1 << 30;
    let mut stream = api.stream().try_clone().unwrap();
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())
        .unwrap();
    client.head();
    // The sockets on the way hold what the kernel lets them; more than that must not be taken.
    stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let part = vec![0; 64 * 1024];
    let mut taken = 0;
    while taken < length {
        match stream.write(&part) {
            Ok(count) => taken += count,
            Err(_) => break,
        }
    }
    assert!(taken < 64 << 20, "{taken} bytes were taken for a client that reads none");
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let body: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = pogo.connect();
    let sent = body.clone();
    let mut sender = client.stream().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head =
            format!("PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len());
        sender.write_all(head.as_bytes()).unwrap();
        sender.write_all(&sent).unwrap();
    });
    let (api, request) = upstream.request();
    assert!(request.body == body);
    sending.join().unwrap();
    let mut answering = api.stream().try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        answering.write_all(head.as_bytes()).unwrap();
        answering.write_all(&sent).unwrap();
    });
    assert!(client.message().body == body);
    sending.join().unwrap();
}
