//! What many viewers and slow ones cost, and what a public route is fetched with.

use std::time::Duration;

use pogo::route::{Rule, Visibility};
use serde_json::{Value, json};

use crate::harness::{Api, Socket, start};

#[test]
fn a_public_route_is_fetched_once_for_all_and_with_no_credentials() {
    let (api, pogo) = start(|options| {
        options.routes = vec![Rule {
            path: "/posts/{id}".into(),
            visibility: Visibility::Public,
            ..Rule::default()
        }];
    });
    api.put("/posts/1", json!({"n": 1}));
    let mut viewers = ["a", "b"].map(|token| {
        let mut socket = Socket::open_with(
            &pogo,
            &[("authorization", &format!("Bearer {token}")), ("cookie", "session=1")],
        );
        socket.bind("/posts/1");
        socket
    });
    let before = api.seen("GET /posts/1").len();
    let write = json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}, "bind": false});
    viewers[0].must(write);
    for viewer in &mut viewers {
        assert_eq!(viewer.event()["data"], json!({"n": 2}));
    }
    let seen = api.seen("GET /posts/1");
    assert_eq!(seen.len(), before + 1);
    for request in seen {
        assert_eq!((request.header("authorization"), request.header("cookie")), (None, None));
    }
}

#[test]
fn viewers_with_the_same_credentials_are_one_fetch() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let mut viewers: Vec<Socket> = (0..20).map(|_| Socket::open(&pogo)).collect();
    for viewer in &mut viewers {
        viewer.bind("/posts/1");
    }
    let before = api.seen("GET /posts/1").len();
    let write = json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}, "bind": false});
    viewers[0].must(write);
    for viewer in &mut viewers {
        assert_eq!(viewer.event()["data"], json!({"n": 2}));
    }
    assert_eq!(api.seen("GET /posts/1").len(), before + 1);
}

#[test]
fn many_different_viewers_are_a_queue_before_the_upstream() {
    let (api, pogo) = start(|options| options.hub.refetch_concurrency = 2);
    api.put("/posts/1", json!({"n": 1}));
    let mut viewers: Vec<Socket> =
        (0..20).map(|number| Socket::open_as(&pogo, &format!("token-{number}"))).collect();
    for viewer in &mut viewers {
        viewer.bind("/posts/1");
    }
    let write = json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}, "bind": false});
    viewers[0].must(write);
    for viewer in &mut viewers {
        assert_eq!(viewer.event()["data"], json!({"n": 2}));
    }
    assert!(api.most_concurrent() <= 2, "{} at once", api.most_concurrent());
}

#[test]
fn a_client_that_does_not_read_gets_fewer_states_and_the_latest() {
    let (api, pogo) = start(|options| options.hub.min_interval = Duration::ZERO);
    one_that_does_not_read_gets_fewer_states(&api, 256 * 1024, || Socket::open(&pogo));
}

/// States of so many bytes are made faster than one of two sockets reads.
pub(crate) fn one_that_does_not_read_gets_fewer_states(
    api: &Api,
    bytes: usize,
    open: impl Fn() -> Socket,
) {
    const WRITES: u64 = 64;
    let state = |n: u64| json!({"n": n, "ballast": "x".repeat(bytes)});
    api.put("/posts/1", state(0));
    let (mut slow, mut quick) = (open(), open());
    slow.bind("/posts/1");
    quick.bind("/posts/1");
    for n in 1..=WRITES {
        // Nobody waits for the slow one: each state is made and reaches the other.
        api.put("/posts/1", state(n));
        quick.must(json!({"event": "update", "uri": "/posts/1/touched", "bind": false, "data": n}));
        assert_eq!(quick.event()["data"]["n"], n);
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&WRITES) {
        let Value::Number(n) = slow.event()["data"]["n"].take() else { panic!("no state") };
        seen.push(n.as_u64().unwrap());
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!((seen.len() as u64) < WRITES, "nothing was left out");
    slow.assert_silent();
}

#[test]
fn a_write_over_the_socket_says_how_long_it_is() {
    let (api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    let write = json!({"event": "create", "uri": "/posts", "data": {"n": 1}});
    assert_eq!(socket.must(write)["data"], json!({"n": 1}));
    let seen = api.seen("POST /posts").remove(0);
    assert_eq!(seen.header("content-length"), Some("7"));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("content-type"), Some("application/json"));
}
