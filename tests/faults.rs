//! What a process goes through: an upstream that is killed, hangs, resets or crawls while clients
//! are bound to it and others write; and a shutdown amid requests. Pogo is a process of its own, so
//! that what it holds can be counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::needless_pass_by_value, reason = "a JSON literal reads best where it is passed")]
#![allow(dead_code, unused_imports, reason = "of what all tests are told with, this uses a part")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use harness::{Api, Launch, PATIENCE, Process, Socket, Wire};

#[path = "it/harness/mod.rs"]
mod harness;

/// Connections to the upstream that Pogo may have.
const CONNECTIONS: usize = 16;
const POSTS: usize = 8;

/// What lies between Pogo and its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Good,
    /// Every connection ends, and new ones do at once.
    Killed,
    /// Connections are there, and nothing moves on them.
    Hung,
    /// Answers break off in the middle.
    Resetting,
    /// Answers come in drops.
    Slow,
}

#[derive(Clone)]
struct Relay {
    address: SocketAddr,
    shared: Arc<(Mutex<Road>, Condvar)>,
}

struct Road {
    way: Way,
    open: Vec<TcpStream>,
}

impl Relay {
    fn before(api: &Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Road { way: Way::Good, open: Vec::new() };
        let shared = Arc::new((Mutex::new(road), Condvar::new()));
        let relay = Self { address: listener.local_addr().unwrap(), shared };
        let (this, upstream) = (relay.clone(), api.address());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                this.carry(stream, upstream);
            }
        });
        relay
    }

    fn carry(&self, pogo: TcpStream, upstream: SocketAddr) {
        if self.way() == Way::Killed {
            return reset(&pogo);
        }
        let Ok(api) = TcpStream::connect(upstream) else { return };
        let mut road = self.shared.0.lock().unwrap();
        road.open.extend([pogo.try_clone().unwrap(), api.try_clone().unwrap()]);
        drop(road);
        for (from, to, answers) in
            [(pogo.try_clone().unwrap(), api.try_clone().unwrap(), false), (api, pogo, true)]
        {
            let this = self.clone();
            std::thread::spawn(move || this.copy(from, to, answers));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let road = self.shared.0.lock().unwrap();
            let road = self.shared.1.wait_while(road, |road| road.way == Way::Hung).unwrap();
            let way = road.way;
            drop(road);
            let sent = match way {
                Way::Resetting if answers => {
                    let _sent = to.write_all(&buffer[..count / 2]);
                    reset(&to);
                    break;
                }
                Way::Slow if answers => {
                    buffer[..count].chunks(32).try_for_each(|drop| self.drip(&mut to, drop))
                }
                _ => to.write_all(&buffer[..count]),
            };
            if sent.is_err() {
                break;
            }
        }
        let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Lets a drop through after a moment, or at once when the way is another.
    fn drip(&self, to: &mut TcpStream, drop: &[u8]) -> std::io::Result<()> {
        let (road, changed) = &*self.shared;
        let moment = Duration::from_millis(2);
        let waited = changed
            .wait_timeout_while(road.lock().unwrap(), moment, |road| road.way == Way::Slow)
            .unwrap();
        std::mem::drop(waited);
        to.write_all(drop)
    }

    fn way(&self) -> Way {
        self.shared.0.lock().unwrap().way
    }

    fn set(&self, way: Way) {
        let mut road = self.shared.0.lock().unwrap();
        road.way = way;
        let open = std::mem::take(&mut road.open);
        if way == Way::Killed {
            open.iter().for_each(reset);
        } else {
            road.open = open;
        }
        drop(road);
        self.shared.1.notify_all();
    }
}

/// Ends a connection with a reset, whoever else holds it.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    let _ended = stream.shutdown(Shutdown::Both);
}

fn pogo_before(upstream: SocketAddr) -> Process {
    let configuration = format!(
        "[timeouts]\nupstream_connect = \"500ms\"\nupstream_response = \"2s\"\n\
         upstream_idle = \"200ms\"\ndrain = \"10s\"\n\
         [limits]\nupstream_connections = {CONNECTIONS}\n[views]\nmin_interval = \"1ms\"\n"
    );
    Launch { configuration: &configuration, workers: 1, ..Launch::default() }.before(upstream)
}

/// The sockets that the process holds.
fn sockets_of(pogo: &Process) -> BTreeSet<String> {
    let open = std::fs::read_dir(pogo.kernel("fd")).unwrap();
    let links = open.flatten().map(|entry| std::fs::read_link(entry.path()));
    let links = links.flatten().map(|link| link.display().to_string());
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// Waits until the process holds no others than these; there is no event for it.
fn wait_sockets(pogo: &Process, most: &BTreeSet<String>) {
    let begin = Instant::now();
    while !sockets_of(pogo).is_subset(most) {
        assert!(begin.elapsed() < PATIENCE, "{:?} were {most:?}", sockets_of(pogo));
        std::thread::yield_now();
    }
}

/// Writers and readers that take whatever comes, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    bad: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(pogo: &Process) -> Self {
        let (stop, good, bad) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, good, bad, threads: Vec::new() };
        for worker in 0..6 {
            let (stop, good) = (Arc::clone(&load.stop), Arc::clone(&load.good));
            let (bad, address) = (Arc::clone(&load.bad), pogo.address());
            load.threads.push(std::thread::spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let post = (number + worker) % POSTS;
                    let done = if worker % 2 == 0 {
                        exchange(address, "PUT", post, &json!({"n": number}).to_string())
                    } else {
                        exchange(address, "GET", post, "")
                    };
                    if done { &good } else { &bad }.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        load
    }

    /// Waits until so many more requests have gone well, or not.
    fn wait(&self, counter: &AtomicUsize, more: usize) {
        let (begin, goal) = (Instant::now(), counter.load(Ordering::SeqCst) + more);
        while counter.load(Ordering::SeqCst) < goal {
            assert!(begin.elapsed() < 4 * PATIENCE, "requests neither succeed nor fail");
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Whether a request was answered 200, whole.
fn exchange(address: SocketAddr, method: &str, post: usize, body: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{method} /posts/{post} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    match stream.read_to_string(&mut answer) {
        Ok(_) => answer.starts_with("HTTP/1.1 200 "),
        Err(error) => {
            let waits = error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(!waits, "{method} is neither answered nor refused: {answer}");
            false
        }
    }
}

fn survives(way: Way) {
    let api = Api::start();
    for post in 0..POSTS {
        api.put(&format!("/posts/{post}"), json!({"n": 0}));
    }
    let relay = Relay::before(&api);
    let pogo = pogo_before(relay.address);
    let before = sockets_of(&pogo);
    let mut sockets: Vec<Socket> = (0..POSTS)
        .map(|post| {
            let mut socket = Socket::try_open(pogo.address(), "/", &[]).unwrap();
            socket.bind(&format!("/posts/{post}"));
            socket.bind("/posts");
            socket
        })
        .collect();
    let load = Load::on(&pogo);
    load.wait(&load.good, 100);
    relay.set(way);
    match way {
        Way::Good | Way::Slow => load.wait(&load.good, 100),
        Way::Killed | Way::Resetting => load.wait(&load.bad, 100),
        // Each takes as long as Pogo waits for the upstream.
        Way::Hung => load.wait(&load.bad, 6),
    }
    relay.set(Way::Good);
    load.wait(&load.good, 100);
    load.stop();
    for post in 0..POSTS {
        let body = json!({"n": "last", "of": post}).to_string();
        assert!(exchange(pogo.address(), "PUT", post, &body), "the last write of {post}");
    }
    converge(&mut sockets);
    all_connections_are_there(&api, &pogo);
    drop(sockets);
    wait_sockets(&pogo, &before);
}

/// Each holds the last state of its post and of the collection.
fn converge(sockets: &mut [Socket]) {
    let last = |post: usize| json!({"n": "last", "of": post});
    let all: Vec<Value> = (0..POSTS).map(last).collect();
    for (post, socket) in sockets.iter_mut().enumerate() {
        let (mut own, mut list) = (Value::Null, Value::Null);
        while own != last(post) || list != json!(all) {
            let event = socket.event();
            assert_ne!(event["event"], "unbind", "{event}");
            if event["event"] == "update" {
                let held = if event["uri"] == "/posts" { &mut list } else { &mut own };
                *held = event["data"].clone();
            }
        }
    }
}

/// As many requests as there may be connections are under way at once: no permit is stuck.
fn all_connections_are_there(api: &Api, pogo: &Process) {
    (0..CONNECTIONS).for_each(|_| api.hold("GET /held"));
    let mut clients: Vec<Wire> =
        (0..CONNECTIONS).map(|number| pogo.ask("GET", &format!("/held/{number}"), "")).collect();
    api.wait_seen("GET /held", CONNECTIONS);
    api.release();
    for client in &mut clients {
        // There is no such thing, and that is the API's own answer.
        assert_eq!(client.message().status(), 404);
    }
}

#[test]
fn clients_converge_after_the_upstream_was_killed() {
    survives(Way::Killed);
}

#[test]
fn clients_converge_after_the_upstream_hung() {
    survives(Way::Hung);
}

#[test]
fn clients_converge_after_the_upstream_reset_its_connections() {
    survives(Way::Resetting);
}

#[test]
fn clients_converge_after_the_upstream_was_slow() {
    survives(Way::Slow);
}

/// Requests that were sent whole before Pogo hears of the signal: on new connections, on ones that
/// it has not accepted yet, and on ones that were used before.
#[test]
fn a_shutdown_loses_no_request_that_was_sent_before_it() {
    let api = Api::start();
    let mut pogo = pogo_before(api.address());
    let reused: Vec<Wire> = (0..8)
        .map(|number| {
            let mut wire = pogo.ask("PUT", &format!("/reused/{number}"), "0");
            assert_eq!(wire.message().status(), 200);
            wire
        })
        .collect();
    let silent: Vec<Wire> = (0..8).map(|_| Wire::connect(pogo.address())).collect();
    // That all of them have been accepted is known once one that came later is answered.
    assert_eq!(pogo.ask("GET", "/reused/0", "").message().status(), 200);
    pogo.signal("-STOP");
    let unaccepted: Vec<Wire> = (0..8).map(|_| Wire::connect(pogo.address())).collect();
    let mut clients: Vec<Wire> = reused.into_iter().chain(silent).chain(unaccepted).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let body = json!(number).to_string();
        client.send(format!(
            "PUT /last/{number} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    pogo.signal("-TERM");
    pogo.signal("-CONT");
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.message();
        assert_eq!((answer.status(), answer.text()), (200, json!(number).to_string().as_str()));
        client.assert_closed();
    }
    assert!(pogo.wait().success());
    assert_eq!(api.seen("PUT /last/").len(), clients.len());
}

/// Under load, each request is answered whole, or was never seen by the API.
#[test]
fn a_shutdown_under_load_answers_what_it_has_begun() {
    let api = Api::start();
    let mut pogo = pogo_before(api.address());
    let address = pogo.address();
    let answered = Arc::<AtomicUsize>::default();
    let clients: Vec<JoinHandle<Vec<String>>> = (0..8)
        .map(|client| {
            let answered = Arc::clone(&answered);
            std::thread::spawn(move || write_until_closed(address, client, &answered))
        })
        .collect();
    let begin = Instant::now();
    while answered.load(Ordering::SeqCst) < 400 {
        assert!(begin.elapsed() < 4 * PATIENCE, "no load");
        std::thread::yield_now();
    }
    pogo.signal("-TERM");
    let unanswered: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(pogo.wait().success());
    for line in unanswered {
        assert!(api.seen(&line).is_empty(), "{line} was seen and not answered");
    }
}

/// Writes on one connection until Pogo ends it; gives the line of what was not answered.
fn write_until_closed(address: SocketAddr, client: usize, answered: &AtomicUsize) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for number in 0.. {
        let target = format!("/load/{client}-{number}.");
        let request = format!("PUT {target} HTTP/1.1\r\nHost: api\r\nContent-Length: 1\r\n\r\n1");
        let lost = || vec![format!("PUT {target}")];
        if stream.write_all(request.as_bytes()).is_err() {
            return lost();
        }
        let (mut head, mut line) = (String::new(), String::new());
        while let Ok(1..) = reader.read_line(&mut line) {
            head.push_str(&line);
            if std::mem::take(&mut line) == "\r\n" {
                break;
            }
        }
        if head.is_empty() {
            return lost();
        }
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head:?}");
        let mut body = [0];
        reader.read_exact(&mut body).expect("an answer is whole");
        answered.fetch_add(1, Ordering::SeqCst);
        if head.to_ascii_lowercase().contains("connection: close") {
            return Vec::new();
        }
    }
    Vec::new()
}
