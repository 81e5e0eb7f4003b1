//! The quickstart's API behind Pogo, and the transcripts of `docs/protocol.md` played on it.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Pogo, Socket, in_every_format};

#[path = "../../examples/quickstart/api.rs"]
mod api;
#[path = "../../examples/quickstart/front.rs"]
mod front;
#[path = "../../examples/quickstart/store.rs"]
mod store;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// The example's API on a free port, until it is dropped.
struct Quickstart {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Quickstart {
    fn start() -> (Self, Pogo) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    ended = api::serve(listener) => panic!("the API ended: {ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        let pogo = Pogo::at(&address.to_string(), front::configure);
        (Self { address, stop: Some(stop), thread: Some(thread) }, pogo)
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the API panicked");
    }
}

/// A fenced block of the page.
struct Transcript {
    /// The subprotocol in which it is written, if not in JSON for all.
    subprotocol: &'static str,
    number: usize,
    lines: Vec<&'static str>,
}

fn transcripts() -> Vec<Transcript> {
    let mut blocks = Vec::new();
    let mut open: Option<Transcript> = None;
    for (number, line) in PROTOCOL.lines().enumerate() {
        match (&mut open, line.strip_prefix("```transcript")) {
            (None, Some(name)) => {
                let subprotocol = name.trim();
                open = Some(Transcript { subprotocol, number: number + 1, lines: Vec::new() });
            }
            (Some(_), _) if line == "```" => blocks.extend(open.take()),
            (Some(transcript), _) => transcript.lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a transcript does not end");
    blocks
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// `"…"` stands for any value; all else must be equal, field for field.
fn fits(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(any), _) if any == "…" => true,
        (Value::Object(expected), Value::Object(got)) => {
            expected.len() == got.len()
                && expected
                    .iter()
                    .all(|(name, value)| got.get(name).is_some_and(|got| fits(value, got)))
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected.iter().zip(got).all(|(expected, got)| fits(expected, got))
        }
        _ => expected == got,
    }
}

#[test]
fn every_transcript_of_the_protocol_is_what_happens_in_every_format() {
    in_every_format(|| {
        let transcripts = transcripts().into_iter().filter(|all| all.subprotocol.is_empty());
        assert!(transcripts.map(replay).count() >= 10, "transcripts are missing");
    });
}

fn replay(Transcript { number, lines, .. }: Transcript) {
    let (_api, pogo) = Quickstart::start();
    let mut socket = Socket::open(&pogo);
    for line in lines {
        if let Some(text) = line.strip_prefix("> ") {
            socket.send_text(text);
        } else if let Some(text) = line.strip_prefix("< ") {
            let got = socket.receive();
            let expected = serde_json::from_str(text).expect("a line of Pogo is JSON");
            assert!(fits(&expected, &got), "line {number}: {line}\nbut got: {got}");
        } else {
            panic!("line {number}: neither sent nor received: {line}");
        }
    }
    socket.assert_silent();
}

#[test]
fn every_transcript_in_one_format_is_what_happens_to_the_byte() {
    let own = transcripts().into_iter().filter(|own| !own.subprotocol.is_empty());
    let mut count = 0;
    for Transcript { subprotocol, number, lines } in own {
        let (_api, pogo) = Quickstart::start();
        let mut socket = Socket::open_with(&pogo, &[("sec-websocket-protocol", subprotocol)]);
        assert_eq!(socket.format().subprotocol(), subprotocol, "line {number}");
        for line in lines {
            count += 1;
            let said = line.get(2..).unwrap();
            match (line.starts_with('>'), socket.format().is_binary()) {
                (true, true) => socket.send_raw(Message::binary(bytes(said))),
                (true, false) => socket.send_raw(Message::text(said)),
                (false, true) => {
                    let frame = socket.frame();
                    let got: String =
                        frame.into_data().iter().map(|b| format!("{b:02x}")).collect();
                    assert_eq!(got, said.replace(' ', ""), "line {number}: {line}");
                }
                (false, false) => {
                    let got = serde_json::from_slice(&socket.frame().into_data()).unwrap();
                    let expected = serde_json::from_str(said).expect("a line of Pogo is JSON");
                    assert!(fits(&expected, &got), "line {number}: {line}\nbut got: {got}");
                }
            }
        }
    }
    assert!(count >= 8, "only {count} lines");
}

#[test]
fn two_users_of_the_quickstart_see_different_items_at_one_uri() {
    let (_api, pogo) = Quickstart::start();
    let titles = |socket: &mut Socket| {
        let answer = socket.must(json!({"event": "bind", "uri": "/items", "version": null}));
        let items = answer["data"].as_array().unwrap().clone();
        items.iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (mut alice, mut bob) =
        (Socket::open_as(&pogo, "alice-token"), Socket::open_as(&pogo, "bob-token"));
    assert_eq!(
        titles(&mut alice),
        ["Water the plants", "Book the train", "Present for Bob", "Return the books"]
    );
    assert_eq!(
        titles(&mut bob),
        ["Water the plants", "Book the train", "Return the books", "Surprise party"]
    );
    // A private item of Alice's is news to Alice alone.
    let private = json!({"event": "create", "uri": "/items", "bind": false,
                         "data": {"title": "A secret", "private": true}});
    alice.must(private);
    assert_eq!(alice.event()["data"][4]["title"], "A secret");
    bob.must(json!({"event": "create", "uri": "/items", "bind": false, "data": {"title": "Tea"}}));
    let news = bob.event();
    assert_eq!(news["data"][4]["title"], "Tea", "{news}");
    assert!(bob.texts.iter().all(|text| !text.contains("A secret")));
}

#[test]
fn the_quickstarts_page_comes_through_pogo_and_loads_nothing_else() {
    let (api, pogo) = Quickstart::start();
    let page = pogo.get("/app").message();
    assert_eq!(page.status(), 200);
    let body = page.text();
    assert!(body.contains("new WebSocket(") && !body.contains(&api.address.to_string()));
    let links = body
        .split("http")
        .skip(1)
        .filter(|rest| rest.starts_with("://") || rest.starts_with("s://"));
    assert!(links.into_iter().all(|rest| rest.starts_with("://www.w3.org/2000/svg")));
}

#[test]
fn text_can_be_bound_as_a_string() {
    let (_api, pogo) = Quickstart::start();
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "bind", "uri": "/app", "version": null}));
    assert!(answer["data"].as_str().unwrap().starts_with("<!doctype html>"));
}

#[test]
fn signing_out_of_the_quickstart_ends_the_sockets_of_that_token() {
    let (_api, pogo) = Quickstart::start();
    let mut alice = Socket::open(&pogo);
    alice.must(json!({"event": "auth", "data": {"token": "alice-token"}}));
    alice.bind("/me");
    let mut logout = pogo.ask(
        "POST /logout HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer alice-token\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(logout.message().status(), 204);
    assert_eq!(alice.closed().0, 4401);
}
