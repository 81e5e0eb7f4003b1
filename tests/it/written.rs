//! `push = "response"`: a write's own answer is the new state, where nothing says otherwise.

use std::time::Duration;

use pogo::route::{Push, Rule, Visibility};
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, Wire};

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

/// To the host that the sockets name, too.
fn ask(pogo: &Pogo, method: &str, path: &str, body: &str) -> Wire {
    let (host, length) = (pogo.address(), body.len());
    pogo.ask(&format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

fn write(pogo: &Pogo, method: &str, path: &str, body: &Value) -> u16 {
    ask(pogo, method, path, &body.to_string()).message().status()
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
    let mut collection = Socket::open(&pogo);
    collection.bind("/news");
    let before = gets(&api, "/news/1");
    for n in 1..=5 {
        assert_eq!(write(&pogo, "PUT", "/news/1", &json!({"n": n})), 200);
        for socket in &mut sockets {
            assert_eq!(socket.event(), update("/news/1", json!({"n": n})));
        }
        // What else it touches is fetched as ever.
        assert_eq!(collection.event(), update("/news", json!([{"n": n}])));
    }
    assert_eq!(gets(&api, "/news/1"), before);
}

#[test]
fn what_is_no_state_is_fetched() {
    let (api, pogo) = start();
    api.put("/news/1", json!({"n": 0}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    let answers: [fn(Reply) -> Reply; 10] = [
        |_| Reply::empty(204),
        |reply| reply.with("Content-Type", "image/png"),
        |reply| reply.with("Vary", "Accept"),
        |reply| Reply { body: String::new(), ..reply },
        |reply| Reply { body: "updated".into(), ..reply }.with("Content-Type", "text/plain"),
        |reply| Reply { headers: Vec::new(), ..reply },
        |reply| reply.with("Content-Location", "/news/2"),
        |reply| Reply { body: "{".into(), ..reply },
        |reply| Reply { status: 201, ..reply },
        |reply| Reply { body: format!("\"{}\"", "x".repeat(5 << 20)), ..reply },
    ];
    for (n, change) in answers.into_iter().enumerate() {
        api.be_normal();
        api.on("PUT /news/1", move |_, reply| reply.map(change));
        let before = gets(&api, "/news/1");
        write(&pogo, "PUT", "/news/1", &json!({"n": n + 1}));
        assert_eq!(socket.event(), update("/news/1", json!({"n": n + 1})));
        assert_eq!(gets(&api, "/news/1"), before + 1, "{n}");
    }
}

#[test]
fn only_views_of_exactly_the_uri_and_host_take_it() {
    let (api, pogo) = start();
    for uri in ["/news/a%2Fb", "/news/a/b", "/news/1"] {
        api.put(uri, json!(0));
    }
    api.on("GET /news/1", |seen, _| Some(Reply::new(200, &json!(seen.header("host")))));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/a/b");
    socket.bind("/news/1");
    assert_eq!(write(&pogo, "PUT", "/news/a%2Fb", &json!("of another")), 200);
    assert_eq!(pogo.write("PUT", "/news/1", &json!("of another host")), 200);
    api.wait_seen("GET /news/a/b", 2);
    api.wait_seen("GET /news/1", 2);
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn an_answer_does_not_replace_what_was_fetched_since_the_write_began() {
    let (api, pogo) = start();
    api.put("/news/1", json!(0));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    api.hold("PUT /news/1");
    let mut writer = ask(&pogo, "PUT", "/news/1", "1");
    api.wait_held();
    // Past Pogo, and seen because somebody binds.
    api.put("/news/1", json!(2));
    let mut other = Socket::open(&pogo);
    let answer = other.must(json!({"event": "bind", "uri": "/news/1", "version": null}));
    assert_eq!(answer["data"], 2);
    assert_eq!(socket.event(), update("/news/1", json!(2)));
    api.release();
    assert_eq!(writer.message().text(), "1");
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn an_answer_that_comes_after_another_write_is_not_taken() {
    let (api, pogo) = start();
    api.put("/news/1", json!({"n": 0}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    api.hold("PUT /news/1");
    let mut first = ask(&pogo, "PUT", "/news/1", "{\"n\":1}");
    api.wait_held();
    assert_eq!(write(&pogo, "PATCH", "/news/1", &json!({"n": 2})), 200);
    let shown = socket.event();
    assert_eq!(shown, update("/news/1", json!({"n": 2})));
    let before = gets(&api, "/news/1");
    api.release();
    assert_eq!(first.message().text(), "{\"n\":1}");
    // The late answer is a change like any other, and brings nothing old.
    api.wait_seen("GET /news/1", before + 1);
    socket.assert_silent();
    assert_eq!(write(&pogo, "PUT", "/news/1", &json!({"n": 3})), 200);
    assert_eq!(socket.event(), update("/news/1", json!({"n": 3})));
}

#[test]
fn a_writer_that_leaves_in_the_middle_of_its_answer_keeps_nobody_from_the_truth() {
    let (_api, pogo) = start();
    let long = "x".repeat(3 << 20);
    let mut socket = Socket::open(&pogo);
    socket.bind("/news/1");
    let body = json!({"long": long}).to_string();
    let mut writer = ask(&pogo, "PUT", "/news/1", &body);
    writer.head();
    writer.reset();
    assert_eq!(socket.event(), update("/news/1", json!({"long": long})));
}
