//! How a socket ends, and what is left of it.

use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Pogo, Socket, frame, in_plain_json, start};

fn put(pogo: &Pogo, path: &str, body: &serde_json::Value) {
    let body = body.to_string();
    let mut wire = pogo.ask(&format!(
        "PUT {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(wire.message().status(), 200);
}

#[test]
fn a_shutdown_tells_every_client_when_to_come_back() {
    let (_api, mut pogo) = start(|options| options.workers = 2);
    let mut sockets: Vec<_> = (0..30).map(|_| Socket::open(&pogo)).collect();
    for socket in &mut sockets {
        socket.bind("/posts");
    }
    let draining = pogo.drain();
    let mut times = Vec::new();
    for mut socket in sockets {
        let (code, reason) = socket.closed();
        assert_eq!(code, 1001);
        let wait = reason.strip_prefix("going away; retry_after=").unwrap();
        times.push(wait.parse::<u64>().unwrap());
    }
    assert!(times.iter().all(|wait| (1..=10).contains(wait)), "{times:?}");
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 5, "they do not all return in one second: {times:?}");
    draining.join().unwrap().unwrap();
}

#[test]
fn a_shutdown_lets_requests_under_way_be_answered_and_takes_no_more() {
    let (api, mut pogo) = start(|_| ());
    let mut idle = Socket::open(&pogo);
    let mut busy = Socket::open(&pogo);
    api.hold("PUT /posts/1");
    for id in 1..=2 {
        busy.send(&json!({"id": id, "event": "update", "uri": "/posts/1", "data": id}));
    }
    api.wait_held();
    idle.must(json!({"event": "ping"}));
    let draining = pogo.drain();
    assert_eq!(idle.closed().0, 1001);
    busy.send(&json!({"id": 3, "event": "update", "uri": "/posts/1", "data": 3}));
    api.release();
    assert_eq!(busy.answer(1)["status"], "ok");
    assert_eq!(busy.answer(2)["status"], "ok");
    assert_eq!(busy.closed().0, 1001);
    assert_eq!(api.seen("PUT").len(), 2);
    draining.join().unwrap().unwrap();
}

#[test]
fn a_shutdown_does_not_wait_for_who_does_not_answer() {
    let (_api, mut pogo) = start(|options| options.drain = Duration::from_secs(60));
    let mut mute = pogo.ask(&handshake());
    assert_eq!(mute.head().status(), 101);
    mute.send(frame(0x81, br#"{"id":1,"event":"ping"}"#));
    assert_eq!(mute.exactly(24).len(), 24);
    let draining = pogo.drain();
    let close = mute.rest();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
    draining.join().unwrap().unwrap();
}

#[test]
fn who_answers_no_ping_is_closed_and_who_does_is_not() {
    let (api, pogo) = start(|options| {
        options.session.ping_interval = Duration::from_millis(200);
        options.session.pong_timeout = Duration::from_millis(300);
    });
    let mut mute = pogo.ask(&handshake());
    assert_eq!(mute.head().status(), 101);
    mute.send(frame(0x81, br#"{"id":1,"event":"bind","uri":"/posts"}"#));
    assert_eq!(mute.exactly(24).len(), 24);
    let mut answers = Socket::open(&pogo);
    // Three rounds of questions and answers.
    for _ in 0..3 {
        assert_eq!(answers.frame(), Message::Ping(Vec::new().into()));
    }
    answers.must(json!({"event": "ping"}));
    assert_eq!(mute.exactly(2), [0x89, 0]);
    let close = mute.rest();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4408));
    assert_eq!(&close[4..], b"no pong");
    let mut witness = Socket::open(&pogo);
    witness.bind("/witness");
    put(&pogo, "/posts/1", &json!(1));
    put(&pogo, "/witness", &json!(1));
    assert_eq!(witness.event()["data"], json!(1));
    assert_eq!(api.seen("GET /posts").len(), 1, "its binding went with it");
}

#[test]
fn a_socket_lives_no_longer_than_it_may() {
    let (_api, pogo) = start(|options| {
        options.session.max_lifetime = Some(Duration::from_millis(300));
    });
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts");
    assert_eq!(socket.closed(), (1001, "going away".into()));
}

#[test]
fn a_clients_close_is_answered_with_its_code() {
    let (_api, pogo) = start(|_| ());
    for (payload, code) in [
        (&[][..], 1000),
        (&1000_u16.to_be_bytes(), 1000),
        (&1001_u16.to_be_bytes(), 1001),
        (&4321_u16.to_be_bytes(), 4321),
    ] {
        let mut socket = Socket::open(&pogo);
        socket.send_frame(0x88, payload);
        assert_eq!(socket.close_frame().0, code);
        socket.assert_ended();
    }
}

#[test]
fn what_was_asked_before_the_close_is_answered_before_it() {
    in_plain_json();
    let (_api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    let ping = frame(0x81, br#"{"id":1,"event":"ping"}"#);
    socket.send_bytes(&[ping.clone(), frame(0x88, b"\x03\xe8"), ping].concat());
    assert_eq!(socket.receive(), json!({"id": 1, "status": "ok"}));
    assert_eq!(socket.close_frame().0, 1000);
    socket.assert_ended();
}

/// Each way in which a client may leave.
const WAYS: [fn(Socket); 4] = [
    |mut socket| {
        socket.close();
        socket.assert_ended();
    },
    |mut socket| {
        socket.stream().shutdown(Shutdown::Write).unwrap();
        socket.assert_ended();
    },
    |socket| {
        socket2::SockRef::from(socket.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    },
    |mut socket| {
        socket.send_bytes(b"\x81\x00");
        assert_eq!(socket.closed().0, 1002);
    },
];

#[test]
fn of_a_client_that_has_left_nothing_is_left() {
    let (api, pogo) = start(|_| ());
    let mut watcher = Socket::open(&pogo);
    watcher.must(json!({"event": "channel:subscribe", "channel": "c"}));
    watcher.bind("/witness");
    for (way, leave) in WAYS.iter().enumerate() {
        let uri = format!("/posts/{way}");
        api.put(&uri, json!({"n": 1}));
        let mut socket = Socket::open(&pogo);
        socket.bind(&uri);
        socket.must(json!({"event": "channel:subscribe", "channel": "c"}));
        assert_eq!(api.seen(&format!("GET {uri}")).len(), 1);
        leave(socket);
        // A reset is known to Pogo once another socket's bytes, which came later, are.
        watcher.must(json!({"event": "ping"}));
        put(&pogo, &uri, &json!({"n": 2}));
        // Had the binding still been there, its view would have been fetched along with this one.
        put(&pogo, "/witness", &json!({"way": way}));
        assert_eq!(watcher.event()["data"], json!({"way": way}));
        assert_eq!(api.seen(&format!("GET {uri}")).len(), 1, "way {way}");
        watcher.must(json!({"event": "hello", "channel": "c"}));
    }
    watcher.assert_silent();
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing() {
    let (api, pogo) = start(|_| ());
    let mut watcher = Socket::open(&pogo);
    watcher.bind("/posts");
    for (way, leave) in WAYS.iter().enumerate() {
        api.hold("GET /slow");
        api.hold("PUT /posts/1");
        let mut socket = Socket::open(&pogo);
        socket.send(&json!({"event": "bind", "uri": "/slow"}));
        socket.send(&json!({"event": "update", "uri": "/posts/1", "data": way}));
        api.wait_seen("PUT /posts/1", 2 * way + 1);
        api.wait_seen("GET /slow", way + 1);
        leave(socket);
        api.release();
        // The write was made, and what it would have bound is not fetched for anybody.
        assert_eq!(watcher.event()["data"], json!([way]));
        put(&pogo, "/posts/1", &json!("later"));
        assert_eq!(watcher.event()["data"], json!(["later"]));
        assert_eq!(api.seen("GET /posts/1").len(), 0, "way {way}");
        assert_eq!(api.seen("GET /slow").len(), way + 1);
    }
}

#[test]
fn a_client_that_does_not_read_ends_with_the_last_state() {
    let (api, pogo) = start(|options| options.hub.min_interval = Duration::ZERO);
    let padding = "x".repeat(200 << 10);
    api.put("/posts/1", json!({"n": 0, "padding": padding}));
    let mut deaf = Socket::open(&pogo);
    deaf.listen_little();
    let mut quick = Socket::open(&pogo);
    deaf.bind("/posts/1");
    quick.bind("/posts/1");
    const CHANGES: u64 = 60;
    for n in 1..=CHANGES {
        put(&pogo, "/posts/1", &json!({"n": n, "padding": padding}));
        while quick.event()["data"]["n"] != n {}
    }
    let mut states = Vec::new();
    while states.last() != Some(&CHANGES) {
        states.push(deaf.event()["data"]["n"].as_u64().unwrap());
    }
    assert!(states.is_sorted_by(|earlier, later| earlier < later), "{states:?}");
    // What the kernel holds, and two ahead of it; not the 12 MB that the changes made.
    assert!(states.len() < 40, "{states:?}");
    deaf.assert_silent();
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    in_plain_json();
    let (_api, pogo) = start(|_| ());
    let mut deaf = Socket::open(&pogo);
    deaf.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let ping = frame(0x81, format!(r#"{{"id":"{}","event":"ping"}}"#, "i".repeat(200)).as_bytes());
    let many = ping.repeat(1_000);
    // Pogo stops taking requests when their answers are not taken, long before this is all sent.
    let sent = (0..1_000).take_while(|_| deaf.try_send_bytes(&many)).count();
    assert!(sent < 1_000, "{sent}");
    let mut other = Socket::open(&pogo);
    other.must(json!({"event": "ping"}));
}

fn handshake() -> String {
    "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .to_owned()
}
