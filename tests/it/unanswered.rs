//! Requests over the socket that the API does not answer, or not in time, or not with anything usable.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Api, Pogo, Socket, Upstream};

#[test]
fn an_api_that_is_not_there_or_breaks_off_is_an_upstream_error() {
    let gone = Upstream::start();
    let address = gone.address().to_string();
    drop(gone);
    let pogo = Pogo::at(&address, |_| ());
    let mut socket = Socket::open(&pogo);
    for event in ["show", "create", "update", "delete", "bind"] {
        let answer = socket.ask(json!({"event": event, "uri": "/posts/1"}));
        assert_eq!(answer["error"]["code"], "upstream_error", "{answer}");
        assert_eq!(answer["error"].get("http_status"), None);
        assert!(!answer.to_string().contains("os error"), "{answer}");
    }
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |_| ());
    let mut socket = Socket::open(&pogo);
    for event in ["show", "create", "update", "delete"] {
        for line in ["GET /posts/1", "POST /posts/1", "PUT /posts/1", "DELETE /posts/1"] {
            api.on(line, |_, _| None);
        }
        assert_eq!(socket.error(json!({"event": event, "uri": "/posts/1"})), "upstream_error");
    }
}

#[test]
fn an_answer_that_breaks_off_is_an_upstream_error() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 1, "event": "show", "uri": "/a"}));
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[1]");
    api.reset();
    assert_eq!(socket.answer(1)["error"]["code"], "upstream_error");
}

#[test]
fn an_api_that_takes_too_long_is_an_upstream_timeout() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.response_timeout = Duration::from_millis(200);
        options.hub.fetch_timeout = Duration::from_millis(400);
    });
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 1, "event": "show", "uri": "/a"}));
    let (_api, _) = upstream.request();
    assert_eq!(socket.answer(1)["error"]["code"], "upstream_timeout");
    // Nor may an answer that has begun go on for ever.
    socket.send(&json!({"id": 2, "event": "show", "uri": "/b"}));
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[1]");
    assert_eq!(socket.answer(2)["error"]["code"], "upstream_timeout");
}

#[test]
fn an_answer_that_is_too_large_is_an_upstream_error() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.hub.body_bytes = 100);
    api.put("/posts/1", json!("x".repeat(99)));
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.error(json!({"event": "show", "uri": "/posts/1"})), "upstream_error");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "upstream_error");
    api.put("/posts/1", json!("x".repeat(98)));
    socket.must(json!({"event": "show", "uri": "/posts/1"}));
}
