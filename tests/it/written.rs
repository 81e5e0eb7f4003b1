//! `push = "response"`: a write's own answer is the new state, where nothing says otherwise.

use std::time::Duration;

use pogo::route::{Push, Rule, Visibility};
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.workers = 2;
        options.hub.min_interval = Duration::ZERO;
        options.routes = vec![Rule {
            path: "/news/{*rest}".into(),
            visibility: Visibility::Public,
            push: Push::Response,
            ..Rule::default()
        }];
    });
    (api, pogo)
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

fn gets(api: &Api, uri: &str) -> usize {
    let line = format!("GET {uri}");
    api.seen(&line).iter().filter(|seen| seen.line() == line).count()
}

#[test]
fn the_answer_to_a_write_is_shown_without_a_fetch() {
    let (api, pogo) = start();
    api.put("/news/1", json!({"n": 0}));
    let mut sockets = [Socket::open(&pogo), Socket::open_as(&pogo, "alice")];
    sockets.iter_mut().for_each(|socket| socket.bind("/news/1"));
    sockets[0].bind("/news");
    let before = gets(&api, "/news/1");
    for n in 1..=5 {
        assert_eq!(pogo.write("PUT", "/news/1", &json!({"n": n})), 200);
        assert_eq!(sockets[1].event(), update("/news/1", json!({"n": n})));
        // What else it touches is fetched as ever; which of the two comes first is not said.
        let mut events = [sockets[0].event(), sockets[0].event()];
        events.sort_by_key(|event| event["uri"].as_str().unwrap().len());
        assert_eq!(events[0], update("/news", json!([{"n": n}])));
        assert_eq!(events[1], update("/news/1", json!({"n": n})));
    }
    assert_eq!(gets(&api, "/news/1"), before);
}

#[test]
fn what_is_no_state_is_fetched() {
    let (api, pogo) = start();
    api.put("/news/1", json!({"n": 0}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    let answers: [fn(Reply) -> Reply; 6] = [
        |_| Reply::empty(204),
        |reply| reply.with("Content-Type", "image/png"),
        |reply| reply.with("Vary", "Accept"),
        |reply| Reply { body: "{".into(), ..reply },
        |reply| Reply { status: 201, ..reply },
        |reply| Reply { body: format!("\"{}\"", "x".repeat(5 << 20)), ..reply },
    ];
    for (n, change) in answers.into_iter().enumerate() {
        api.be_normal();
        api.on("PUT /news/1", move |_, reply| reply.map(change));
        let before = gets(&api, "/news/1");
        pogo.write("PUT", "/news/1", &json!({"n": n + 1}));
        assert_eq!(socket.event(), update("/news/1", json!({"n": n + 1})));
        assert_eq!(gets(&api, "/news/1"), before + 1, "{n}");
    }
}

#[test]
fn an_answer_that_comes_after_another_write_is_not_taken() {
    let (api, pogo) = start();
    api.put("/news/1", json!({"n": 0}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    api.hold("PUT /news/1");
    let mut first = pogo.ask(
        "PUT /news/1 HTTP/1.1\r\nHost: api.example\r\nContent-Length: 7\r\n\r\n{\"n\":1}",
    );
    api.wait_held();
    assert_eq!(pogo.write("PATCH", "/news/1", &json!({"n": 2})), 200);
    let shown = socket.event();
    assert_eq!(shown, update("/news/1", json!({"n": 2})));
    let before = gets(&api, "/news/1");
    api.release();
    assert_eq!(first.message().text(), "{\"n\":1}");
    // The late answer is a change like any other, and brings nothing old.
    api.wait_seen("GET /news/1", before + 1);
    socket.assert_silent();
    assert_eq!(pogo.write("PUT", "/news/1", &json!({"n": 3})), 200);
    assert_eq!(socket.event(), update("/news/1", json!({"n": 3})));
}

#[test]
fn a_writer_that_leaves_in_the_middle_of_its_answer_keeps_nobody_from_the_truth() {
    let (_api, pogo) = start();
    let long = "x".repeat(3 << 20);
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    let body = json!({"long": long}).to_string();
    let mut writer = pogo.ask(&format!(
        "PUT /news/1 HTTP/1.1\r\nHost: api.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    writer.head();
    writer.reset();
    assert_eq!(socket.event(), update("/news/1", json!({"long": long})));
}
