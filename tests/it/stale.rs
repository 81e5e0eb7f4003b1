//! What clients are told while the upstream does not say what is true.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.hub.min_interval = Duration::ZERO;
        options.hub.stale_after = Duration::from_millis(150);
    });
    api.put("/posts/1", json!(1));
    (api, pogo)
}

fn event(name: &str) -> Value {
    json!({"event": name, "uri": "/posts/1"})
}

fn update(data: Value) -> Value {
    json!({"event": "update", "uri": "/posts/1", "data": data})
}

#[test]
fn a_failing_upstream_makes_what_is_held_stale_until_it_answers() {
    for failure in [Some(Reply::empty(500)), Some(Reply::empty(400)), None] {
        let (api, pogo) = start();
        let mut socket = Socket::open(&pogo);
        socket.bind("/posts/1");
        let answer = failure.clone();
        api.on("GET /posts/1", move |_, _| answer.clone());
        pogo.write("PUT", "/posts/1", &json!(2));
        assert_eq!(socket.event(), event("stale"), "{failure:?}");
        let asked = api.seen("GET /posts/1").len();
        api.wait_seen("GET /posts/1", asked + 1);
        socket.assert_silent();
        api.be_normal();
        assert_eq!(socket.event(), update(json!(2)));
        socket.assert_silent();
    }
}

#[test]
fn what_turned_out_to_be_true_all_along_is_fresh() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    api.on("GET /posts/1", |_, _| Some(Reply::empty(503)));
    pogo.write("PUT", "/posts/1", &json!(1));
    assert_eq!(socket.event(), event("stale"));
    api.be_normal();
    assert_eq!(socket.event(), event("fresh"));
}

#[test]
fn a_fetch_that_hangs_makes_what_is_held_stale_too() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    let mut versioned = Socket::open(&pogo);
    socket.bind("/posts/1");
    versioned.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    api.hold("GET /posts/1");
    pogo.write("PUT", "/posts/1", &json!(2));
    assert_eq!(socket.event(), event("stale"));
    assert_eq!(versioned.event(), event("stale"));
    api.release();
    assert_eq!(socket.event(), update(json!(2)));
    assert_eq!(versioned.event()["data"], 2);
}

#[test]
fn an_upstream_that_cannot_be_reached_refuses_binds_and_ends_none() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    api.on("GET /posts/1", |_, _| None);
    let mut other = Socket::open(&pogo);
    assert_eq!(other.error(json!({"event": "bind", "uri": "/posts/1"})), "upstream_error");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "upstream_error");
    api.be_normal();
    pogo.write("PUT", "/posts/1", &json!(2));
    // It may have been stale for a while: since the binds that failed.
    socket.until(&update(json!(2)));
    other.assert_silent();
}

#[test]
fn a_bind_to_a_stale_view_is_answered_by_a_fetch_of_its_own_and_the_rest_hear_of_it() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    let later = Reply::empty(503).with("Retry-After", "1");
    api.hold_with("GET /posts/1", later);
    pogo.write("PUT", "/posts/1", &json!(2));
    api.wait_held();
    assert_eq!(socket.event(), event("stale"));
    let mut other = Socket::open(&pogo);
    other.send(&json!({"id": 70, "event": "bind", "uri": "/posts/1", "version": null}));
    other.must(json!({"event": "ping"}));
    api.release();
    let answer = other.answer(70);
    assert_eq!(answer["error"]["retry_after"], 1, "{answer}");
    assert_eq!(socket.event(), update(json!(2)));
    assert_eq!(api.seen("GET /posts/1").len(), 3);
}

#[test]
fn an_upstream_that_says_when_to_come_back_is_not_asked_before() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    for (status, code) in [(429, "rate_limited"), (503, "unavailable")] {
        let uri = format!("/busy/{status}");
        socket.bind(&uri);
        let line = format!("GET {uri}");
        api.on(&line, move |_, _| Some(Reply::empty(status).with("Retry-After", "3600")));
        pogo.write("PUT", &uri, &json!(1));
        assert_eq!(socket.event(), json!({"event": "stale", "uri": uri}));
        api.be_normal();
        for _ in 0..3 {
            let answer = socket.ask(json!({"event": "bind", "uri": uri}));
            assert_eq!(answer["error"]["code"], code);
            assert_eq!(answer["error"]["retry_after"], 3600);
        }
        pogo.write("PUT", &uri, &json!(2));
        socket.see_through(&pogo);
        socket.assert_silent();
        assert_eq!(api.seen(&line).len(), 2);
    }
}
