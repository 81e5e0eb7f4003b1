//! How credentials and sockets end.

use std::time::Duration;

use pogo::server::Options;
use serde_json::json;

use crate::harness::{Api, Pogo, Reply, Socket};

/// An API whose `/me` asks for a credential.
fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    api.on("GET /me", |seen, _| {
        Some(match seen.header("authorization") {
            Some(name) => Reply::new(200, &json!({"name": name})),
            None => Reply::new(401, &json!({"why": "who are you?"})),
        })
    });
    let pogo = Pogo::at(&api.address().to_string(), change);
    (api, pogo)
}

#[test]
fn a_credential_that_expires_is_dropped_and_every_binding_judged_without_it() {
    let (api, pogo) = start(|options| options.auth.lifetime = Duration::from_secs(1));
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "auth", "data": {"token": "t"}}));
    assert!(answer["data"]["expires"].is_u64(), "{answer}");
    socket.bind("/me");
    socket.bind("/posts/1");
    assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    let unbind = json!({"event": "unbind", "uri": "/me", "reason": "expired"});
    assert_eq!(socket.event(), unbind);
    // What anybody may see stays bound.
    socket.must(json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}}));
    assert_eq!(socket.event()["data"], json!({"n": 2}));
}

#[test]
fn where_authentication_is_required_expiry_closes_the_socket() {
    let (_api, pogo) = start(|options| {
        options.auth.required = true;
        options.auth.verify = Some("/me".into());
        options.auth.lifetime = Duration::from_secs(1);
    });
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "auth", "data": {"token": "t"}}));
    socket.bind("/me");
    assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    assert_eq!(socket.closed().0, 4401);
}

#[test]
fn a_token_that_the_upstream_does_not_accept_changes_nothing() {
    let (api, pogo) = start(|options| options.auth.verify = Some("/verify".into()));
    api.on("GET /verify", |seen, _| {
        let is_good = seen.header("authorization") == Some("Bearer good");
        Some(Reply::new(if is_good { 200 } else { 401 }, &json!({})))
    });
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "auth", "data": {"token": "good"}}));
    let bad = json!({"event": "auth", "data": {"token": "bad"}});
    assert_eq!(socket.error(bad), "unauthorized");
    let me = socket.must(json!({"event": "show", "uri": "/me"}));
    assert_eq!(me["data"], json!({"name": "Bearer good"}));
}

#[test]
fn a_socket_lives_no_longer_than_it_may() {
    let (_api, pogo) =
        start(|options| options.session.max_lifetime = Some(Duration::from_millis(300)));
    assert_eq!(Socket::open(&pogo).closed().0, 1001);
}

#[test]
fn a_drain_closes_sockets_and_says_when_to_come_back() {
    let (_api, mut pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts");
    let drained = pogo.drain();
    let (code, reason) = socket.closed();
    assert_eq!(code, 1001);
    let (_, seconds) = reason.split_once("retry_after=").expect("a time");
    assert!((1..=10).contains(&seconds.parse::<u64>().unwrap()), "{reason}");
    drained.join().unwrap().unwrap();
}
