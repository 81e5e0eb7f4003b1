//! What a process is filled with: connections on which nothing is asked; ten thousand sockets on one URI, one GET where they see with the same
//! eyes and a queue where they do not; and a hundred thousand changes for one who does not read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unused_imports, reason = "of what all tests are told with, this uses a part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use harness::{Api, Launch, Process, Wire};

#[path = "it/harness/mod.rs"]
mod harness;

/// A crowd takes nearly all descriptors there are: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const CROWD: u64 = 10_000;
/// What the test, Pogo and the API open besides the sockets.
const SPARE: u64 = 1000;
const GET: &str = "GET /nothing/1 HTTP/1.1\r\nHost: api\r\n\r\n";
/// A member of a crowd waits for all before it.
const LONG: Duration = Duration::from_secs(60);

/// As many sockets as a process may have, at most [`CROWD`]. Pogo is a process of its own.
fn crowd() -> usize {
    let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
    let wanted = hard.min(CROWD + SPARE);
    let limit = match rlimit::Resource::NOFILE.set(wanted.max(soft), hard) {
        Ok(()) => wanted.max(soft),
        Err(_) => soft,
    };
    let count = CROWD.min(limit.saturating_sub(SPARE));
    assert!(count >= 10, "{limit} descriptors are too few for a crowd");
    eprintln!("{count} sockets, with {limit} descriptors");
    usize::try_from(count).unwrap()
}

/// A client of few bytes: it masks with zeros and reads short text frames.
struct Member(TcpStream);

impl Member {
    fn open(pogo: &Process, credential: &str) -> Self {
        let mut stream = TcpStream::connect(pogo.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Authorization: Bearer {credential}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).unwrap();
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame comes");
        assert!(head[0] == 0x81 && head[1] < 127, "a text of less than 64 KiB, not {head:?}");
        let mut length = u16::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).unwrap();
            length = u16::from_be_bytes(long);
        }
        let mut text = vec![0; usize::from(length)];
        self.0.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// The program, with the descriptors that this process has.
fn pogo_before(api: &Api) -> Process {
    let configuration = "[timeouts]\nupstream_response = \"2m\"\n\
        [views]\nstale_after = \"2m\"\nmin_interval = \"1ms\"\n\
        [websocket]\nping_interval = \"1h\"\npong_timeout = \"1h\"\n";
    Launch { configuration, ..Launch::default() }.before(api.address())
}

/// Resident memory of the process, in bytes.
fn memory_of(pogo: &Process) -> u64 {
    kernel_says(pogo, "VmRSS:")
}

/// One line of what the kernel knows of the process's memory, in bytes.
fn kernel_says(pogo: &Process, what: &str) -> u64 {
    let status = std::fs::read_to_string(pogo.kernel("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn bind_all(members: &mut [Member]) {
    for member in members {
        member.send(&json!({"id": 1, "event": "bind", "uri": "/posts/1"}));
    }
}

/// Waits until each of so many connections holds no more than this, while another is used; there is
/// no event for it.
fn wait_memory(pogo: &Process, before: u64, connections: u64, most: u64) {
    let begin = Instant::now();
    let mut other = pogo.connect();
    loop {
        let each = memory_of(pogo).saturating_sub(before) / connections;
        if each <= most {
            eprintln!("{each} bytes a connection");
            return;
        }
        assert!(begin.elapsed() < LONG, "{each} bytes a connection");
        other.send(GET);
        assert_eq!(other.message().status(), 404);
    }
}

#[test]
fn connections_on_which_nothing_is_asked_hold_little() {
    const CONNECTIONS: usize = 2000;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let count = crowd().min(CONNECTIONS);
    let api = Api::start();
    let pogo = pogo_before(&api);
    let asked = |wire: &mut Wire| {
        wire.send(GET);
        assert_eq!(wire.message().status(), 404);
    };
    let mut first = pogo.connect();
    (0..1000).for_each(|_| asked(&mut first));
    let before = memory_of(&pogo);
    let mut idle: Vec<Wire> = (0..count).map(|_| pogo.connect()).collect();
    idle.iter_mut().for_each(asked);
    // One that did not rest would hold three times as much.
    wait_memory(&pogo, before, count as u64, 8 << 10);
    idle.iter_mut().for_each(asked);
}

/// Sends as many bytes, after a head that says so.
fn pour(stream: &mut TcpStream, head: &str, count: usize) {
    let part = vec![b'x'; 256 << 10];
    stream.write_all(format!("{head}\r\nContent-Length: {count}\r\n\r\n").as_bytes()).unwrap();
    (0..count / part.len()).for_each(|_| stream.write_all(&part).unwrap());
}

/// Reads a head and so many bytes after it.
fn drain(stream: &mut TcpStream, count: usize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let taken = std::io::copy(&mut stream.take(count as u64), &mut std::io::sink()).unwrap();
    assert_eq!(taken, count as u64);
}

/// A quarter of a gigabyte up and as much down: no more of it is ever held than a few buffers.
#[test]
fn bodies_of_any_size_pass_in_little_memory() {
    const SIZE: usize = 256 << 20;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pogo = Launch { workers: 1, ..Launch::default() }.before(listener.local_addr().unwrap());
    let api = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for size in [256 << 10, SIZE] {
            drain(&mut stream, size);
            pour(&mut stream, "HTTP/1.1 200 OK", size);
        }
    });
    let mut client = TcpStream::connect(pogo.address()).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let peaks = [256 << 10, SIZE].map(|size| {
        pour(&mut client, "PUT /large HTTP/1.1\r\nHost: api", size);
        drain(&mut client, size);
        kernel_says(&pogo, "VmHWM:")
    });
    api.join().unwrap();
    let [small, large] = peaks;
    // The kernel sums a process's pages in parts: a peak that it tells later may be a little less.
    let more = large.saturating_sub(small);
    eprintln!("{} KiB more at most", more >> 10);
    assert!(more < 8 << 20, "{small} bytes at most before, {large} after");
}

#[test]
fn one_write_costs_one_get_for_a_crowd_with_the_same_eyes() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let count = crowd();
    let api = Api::start();
    let pogo = pogo_before(&api);
    let mut members: Vec<_> = (0..count).map(|_| Member::open(&pogo, "same")).collect();
    bind_all(&mut members);
    for member in &mut members {
        assert_eq!(member.receive(), json!({"id": 1, "status": "ok"}));
    }
    let before = api.seen("GET /posts/1").len();
    assert!(before < members.len() / 2, "{before} GETs for {} binds", members.len());
    assert_eq!(pogo.ask("PUT", "/posts/1", "\"new\"").message().status(), 200);
    for member in &mut members {
        let update = json!({"event": "update", "uri": "/posts/1", "data": "new"});
        assert_eq!(member.receive(), update);
    }
    assert_eq!(api.seen("GET /posts/1").len(), before + 1);
}

#[test]
fn a_crowd_of_different_eyes_is_a_queue_and_no_stampede() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let count = crowd();
    let api = Api::start();
    let pogo = pogo_before(&api);
    let limit = pogo::hub::Options::default().refetch_concurrency;
    let mut members: Vec<_> =
        (0..count).map(|n| Member::open(&pogo, &format!("user-{n}"))).collect();
    (0..limit).for_each(|_| api.hold("GET /posts/1"));
    bind_all(&mut members);
    api.wait_seen("GET /posts/1", limit);
    // The others wait: what came after them is through.
    let mut other = pogo.connect();
    other.send("GET /other HTTP/1.1\r\nHost: api\r\n\r\n");
    assert_eq!(other.message().status(), 200);
    assert_eq!(api.seen("GET /posts/1").len(), limit);
    api.release();
    for member in &mut members {
        assert_eq!(member.receive(), json!({"id": 1, "status": "ok"}));
    }
    assert_eq!(api.seen("GET /posts/1").len(), members.len(), "one for each of them");
    assert_eq!(pogo.ask("PUT", "/posts/1", "\"new\"").message().status(), 200);
    for member in &mut members {
        let update = json!({"event": "update", "uri": "/posts/1", "data": "new"});
        assert_eq!(member.receive(), update);
    }
    assert_eq!(api.seen("GET /posts/1").len(), 2 * members.len());
    assert!(api.most_concurrent() <= limit + 1, "{}", api.most_concurrent());
}

#[test]
fn a_client_that_is_deaf_to_a_hundred_thousand_changes_costs_little_and_ends_with_the_last() {
    const WRITERS: u64 = 4;
    const WRITES: u64 = 25_000;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let api = Api::start();
    let ballast = "x".repeat(1000);
    api.on("GET /posts/1", move |_, reply| {
        let state: Value = serde_json::from_str(&reply?.body).unwrap();
        Some(harness::Reply::new(200, &json!({"n": state, "ballast": ballast})))
    });
    api.put("/posts/1", json!(0));
    let pogo = pogo_before(&api);
    let mut deaf = Member::open(&pogo, "same");
    bind_all(std::slice::from_mut(&mut deaf));
    assert_eq!(deaf.receive()["status"], "ok");
    assert_eq!(pogo.ask("PUT", "/posts/1", "1").message().status(), 200);
    let (before, address) = (memory_of(&pogo), pogo.address());
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(move || {
                let mut wire = Wire::connect(address);
                for n in 0..WRITES {
                    let n = 100_000 + n;
                    wire.send(format!(
                        "PUT /posts/1 HTTP/1.1\r\nHost: api\r\nContent-Length: 6\r\n\r\n{n}"
                    ));
                    assert_eq!(wire.message().status(), 200);
                }
            });
        }
    });
    let grown = memory_of(&pogo).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert_eq!(pogo.ask("PUT", "/posts/1", "7").message().status(), 200);
    let mut states = 1;
    while deaf.receive()["data"]["n"] != json!(7) {
        states += 1;
    }
    eprintln!("{states} states of {} changes, {grown} bytes more", WRITERS * WRITES);
    assert!(states < WRITERS * WRITES / 2, "{states} states");
}
