//! Bindings that end by themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pogo::route::Rule;
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, start};

fn ended(uri: &str) -> Value {
    json!({"event": "unbind", "uri": uri, "reason": "ttl"})
}

fn bind(uri: &str, ttl: u64) -> Value {
    json!({"event": "bind", "uri": uri, "ttl": ttl})
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A route of `/short/…` whose bindings last so long.
fn lasting(ttl: Option<Duration>) -> Vec<Rule> {
    vec![Rule { path: "/short/{*rest}".into(), ttl, ..Rule::default() }]
}

fn put(pogo: &Pogo, uri: &str, value: &Value) {
    assert_eq!(pogo.write("PUT", uri, value), 200);
}

/// The seconds that are left of what an answer says.
fn left(answer: &Value) -> u64 {
    answer["expires"].as_u64().unwrap_or_else(|| panic!("{answer}")) - now()
}

#[test]
fn a_binding_ends_at_its_time_and_says_so_before() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    api.put("/posts/2", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let began = tokio::time::Instant::now();
    let answer = socket.must(bind("/posts/1", 1));
    assert!(left(&answer) <= 1, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 3, "{answer}");
    let answer =
        socket.must(json!({"event": "bind", "uri": "/posts/2", "ttl": 3600, "version": null}));
    assert!((3599..=3600).contains(&left(&answer)), "{answer}");
    assert_eq!(answer["data"], json!({"n": 1}));
    assert_eq!(socket.event(), ended("/posts/1"));
    assert!(began.elapsed() >= Duration::from_secs(1));
    // Nothing of it follows; the others stay, and it can be bound again.
    put(&pogo, "/posts/1", &json!({"n": 2}));
    put(&pogo, "/posts/2", &json!({"n": 2}));
    assert_eq!(socket.event()["uri"], "/posts/2");
    socket.assert_silent();
    socket.bind("/posts/1");
    put(&pogo, "/posts/1", &json!({"n": 3}));
    assert_eq!(socket.event()["data"], json!({"n": 3}));
}

#[test]
fn a_bind_again_renews_and_the_last_one_counts() {
    let (api, pogo) = start(|options| options.routes = lasting(Some(Duration::from_secs(3600))));
    for uri in ["/posts/1", "/posts/2", "/short/1", "/short/2"] {
        api.put(uri, json!({"n": 1}));
    }
    let mut socket = Socket::open(&pogo);
    for uri in ["/posts/1", "/posts/2", "/short/1", "/short/2"] {
        socket.must(bind(uri, 2));
    }
    assert!(left(&socket.must(bind("/posts/1", 100))) > 90);
    // Without a ttl it is as if it had never had one.
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/2"}));
    assert_eq!(answer.get("expires"), None);
    assert!(left(&socket.must(bind("/short/1", 7200))) > 3500, "the route's is the longest");
    // What a request over the socket touches is not bound anew.
    socket.must(json!({"event": "show", "uri": "/short/2"}));
    assert_eq!(socket.event(), ended("/short/2"));
    socket.bind("/short/2");
    let mut other = Socket::open(&pogo);
    other.must(bind("/posts/3", 1));
    assert_eq!(other.event(), ended("/posts/3"));
    socket.assert_silent();
    for uri in ["/posts/1", "/posts/2", "/short/1", "/short/2"] {
        put(&pogo, uri, &json!({"n": 2}));
        assert_eq!(socket.event()["uri"], uri);
    }
}

#[test]
fn a_routes_ttl_ends_what_asked_for_none_or_for_more() {
    let (api, pogo) = start(|options| options.routes = lasting(Some(Duration::from_secs(1))));
    for n in 1..4 {
        api.put(&format!("/short/{n}"), json!({"n": 1}));
    }
    let mut socket = Socket::open(&pogo);
    // No field in an answer that was not asked for.
    let answer = socket.must(json!({"event": "bind", "uri": "/short/1"}));
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    assert!(left(&socket.must(bind("/short/2", 3600))) <= 1);
    socket.must(json!({"event": "show", "uri": "/short/3"}));
    let mut events = [(); 3].map(|()| socket.event());
    events.sort_by_key(|event| event["uri"].to_string());
    assert_eq!(events, ["/short/1", "/short/2", "/short/3"].map(ended));
    socket.assert_silent();
}

#[test]
fn a_reload_gives_bindings_another_end() {
    let (api, mut pogo) = start(|options| options.routes = lasting(None));
    for uri in ["/short/1", "/short/2", "/short/3"] {
        api.put(uri, json!({"n": 1}));
    }
    let mut socket = Socket::open(&pogo);
    socket.bind("/short/1");
    socket.must(bind("/short/2", 3600));
    pogo.reload(|options| options.routes = lasting(Some(Duration::from_secs(1))));
    let mut events = [(); 2].map(|()| socket.event());
    events.sort_by_key(|event| event["uri"].to_string());
    assert_eq!(events, ["/short/1", "/short/2"].map(ended));
    socket.bind("/short/3");
    pogo.reload(|options| options.routes = lasting(None));
    let mut other = Socket::open(&pogo);
    other.must(bind("/posts/1", 2));
    assert_eq!(other.event(), ended("/posts/1"));
    socket.assert_silent();
}

#[test]
fn a_binding_that_is_asked_for_again_lasts_until_that_is_answered() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts/1", 1));
    for answer in [None, Some(Reply::empty(500))] {
        match answer.clone() {
            Some(reply) => api.hold_with("GET /posts/1", reply),
            None => api.hold("GET /posts/1"),
        }
        let id = if answer.is_none() { 50 } else { 51 };
        socket.send(&json!({"id": id, "event": "bind", "uri": "/posts/1", "ttl": 1}));
        api.wait_held();
        // Longer than it would have lasted.
        let mut other = Socket::open(&pogo);
        other.must(bind("/posts/2", 2));
        assert_eq!(other.event(), ended("/posts/2"));
        socket.assert_silent();
        api.release();
        let said = socket.answer(id);
        assert_eq!(said["status"], if answer.is_none() { "ok" } else { "error" }, "{said}");
    }
    assert_eq!(socket.event(), ended("/posts/1"), "what failed renewed nothing");
}

#[test]
fn only_whole_seconds_are_a_ttl() {
    let (_api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    for ttl in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("60"),
        json!(4_294_967_296_u64),
        json!(true),
        json!([1]),
    ] {
        let bind = json!({"event": "bind", "uri": "/posts", "ttl": ttl});
        assert_eq!(socket.error(bind), "bad_request", "{ttl}");
    }
    let answer = socket.must(json!({"event": "bind", "uri": "/posts", "ttl": null}));
    assert_eq!(answer.get("expires"), None);
    assert!(left(&socket.must(bind("/posts", 4_294_967_295))) > 4_000_000_000);
}

/// Thousands of them are as good as one.
#[test]
fn many_ends_come_together() {
    const MANY: usize = 300;
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.workers = 2);
    let mut socket = Socket::open(&pogo);
    for n in 0..MANY {
        socket.send(&json!({"event": "bind", "uri": format!("/posts?n={n}"), "ttl": 1}));
    }
    let mut uris: Vec<_> = (0..MANY)
        .map(|_| {
            let event = socket.event();
            assert_eq!((&event["event"], &event["reason"]), (&json!("unbind"), &json!("ttl")));
            event["uri"].as_str().unwrap().to_owned()
        })
        .collect();
    uris.sort();
    uris.dedup();
    assert_eq!(uris.len(), MANY);
    socket.assert_silent();
}
