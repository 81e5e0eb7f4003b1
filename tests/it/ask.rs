//! Channels about which the API is asked: who may, how often it is asked, and what becomes of those
//! of whom it says something else.

use std::time::Duration;

use pogo::channel::{Rule, Who};
use pogo::server::Options;
use serde_json::{Value, json};

use crate::harness::{Api, Reply, Socket, start, start_of_two};

/// The API is asked who may subscribe to and publish on "/asked/…".
fn asked(options: &mut Options) {
    let rule = Rule {
        pattern: "/asked/*".into(),
        subscribe: Who::Ask,
        publish: Who::Ask,
        ask: Some("/may".into()),
        ask_for: Duration::from_secs(3600),
        ..Rule::open()
    };
    options.channels = vec![Rule::open(), rule];
}

fn asked_each_time(options: &mut Options) {
    asked(options);
    options.channels[1].ask_for = Duration::ZERO;
}

/// Says yes to those with this credential.
fn allow(api: &Api, token: &'static str) {
    let good = format!("Bearer {token}");
    api.on("GET /may", move |seen, _| {
        let is_good = seen.header("authorization") == Some(&good);
        Some(Reply::empty(if is_good { 204 } else { 403 }))
    });
}

fn answer_with(api: &Api, status: u16) {
    api.on("GET /may", move |_, _| Some(Reply::empty(status)));
}

fn subscribe(channel: &str) -> Value {
    json!({"event": "channel:subscribe", "channel": channel})
}

fn unsubscribe(channel: &str) -> Value {
    json!({"event": "channel:unsubscribe", "channel": channel})
}

fn hello(channel: &str, data: impl Into<Value>) -> Value {
    json!({"event": "hello", "channel": channel, "data": data.into()})
}

fn told_to_leave(reason: &str) -> Value {
    json!({"event": "channel:unsubscribe", "channel": "/asked/1", "reason": reason})
}

#[test]
fn the_api_is_asked_as_the_client_and_told_what_it_wants() {
    let (api, pogo) = start_of_two(asked);
    allow(&api, "ann");
    let mut ann = Socket::open_as(&pogo, "ann");
    let mut bob = Socket::open_as(&pogo, "bob");
    ann.must(subscribe("/asked/a b&c"));
    assert_eq!(bob.error(subscribe("/asked/a b&c")), "forbidden");
    ann.must(hello("/asked/1", 1));
    let answer = bob.ask(hello("/asked/1", 1));
    assert_eq!(answer["error"]["http_status"], 403, "{answer}");
    let seen = api.seen("GET /may");
    let targets: Vec<_> = seen.iter().map(|seen| seen.target.as_str()).collect();
    let subscribed = "/may?channel=%2Fasked%2Fa%20b%26c&right=subscribe";
    let published = "/may?channel=%2Fasked%2F1&right=publish";
    assert_eq!(targets, [subscribed, subscribed, published, published]);
    assert_eq!(seen[0].header("authorization"), Some("Bearer ann"));
    assert_eq!(seen[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.iter().all(|seen| seen.headers.iter().all(|(name, _)| !name.starts_with("pogo"))));
}

#[test]
fn each_no_has_its_own_code_and_what_is_no_answer_is_no_too() {
    let (api, pogo) = start(asked_each_time);
    let mut socket = Socket::open(&pogo);
    for (status, code) in [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (302, "upstream_error"),
        (400, "upstream_error"),
        (429, "upstream_error"),
        (500, "upstream_error"),
        (503, "unavailable"),
    ] {
        answer_with(&api, status);
        for request in [subscribe("/asked/1"), hello("/asked/1", 1)] {
            assert_eq!(socket.error(request), code, "{status}");
        }
    }
    answer_with(&api, 200);
    let mut other = Socket::open(&pogo);
    other.must(hello("/asked/1", 1));
    socket.assert_silent();
}

#[test]
fn an_answer_counts_for_its_credential_channel_and_right_and_for_its_time() {
    let (api, pogo) = start(asked);
    answer_with(&api, 204);
    let (mut ann, mut bob) = (Socket::open_as(&pogo, "ann"), Socket::open_as(&pogo, "bob"));
    for _ in 0..3 {
        ann.must(subscribe("/asked/1"));
        ann.must(hello("/asked/1", 1));
        ann.must(unsubscribe("/asked/1"));
    }
    assert_eq!(api.seen("GET /may").len(), 2);
    let mut again = Socket::open_as(&pogo, "ann");
    again.must(subscribe("/asked/1"));
    assert_eq!(api.seen("GET /may").len(), 2);
    bob.must(subscribe("/asked/1"));
    ann.must(subscribe("/asked/2"));
    assert_eq!(api.seen("GET /may").len(), 4);
    // A no counts as long; what is no verdict does not count at all.
    answer_with(&api, 403);
    for _ in 0..3 {
        assert_eq!(ann.error(subscribe("/asked/3")), "forbidden");
    }
    assert_eq!(api.seen("GET /may").len(), 5);
    answer_with(&api, 500);
    assert_eq!(ann.error(subscribe("/asked/4")), "upstream_error");
    answer_with(&api, 200);
    ann.must(subscribe("/asked/4"));
    assert_eq!(api.seen("GET /may").len(), 7);
}

#[test]
fn who_want_to_know_the_same_at_once_ask_once() {
    let (api, pogo) = start(asked_each_time);
    answer_with(&api, 204);
    let mut sockets: Vec<_> = (0..8).map(|_| Socket::open_as(&pogo, "ann")).collect();
    api.hold("GET /may");
    for socket in &mut sockets {
        let mut request = subscribe("/asked/1");
        request["id"] = json!(7);
        socket.send(&request);
        // Behind it in the same socket, and not held up.
        socket.must(json!({"event": "ping"}));
    }
    api.wait_held();
    api.release();
    for socket in &mut sockets {
        assert_eq!(socket.answer(7)["status"], "ok");
    }
    assert_eq!(api.seen("GET /may").len(), 1);
}

#[test]
fn what_is_done_on_a_channel_keeps_its_order_and_holds_up_nothing_else() {
    let (api, pogo) = start_of_two(asked);
    answer_with(&api, 204);
    let (mut socket, mut other) = (Socket::open(&pogo), Socket::open(&pogo));
    other.must(subscribe("elsewhere"));
    api.hold("GET /may?channel=%2Fasked%2F1&right=subscribe");
    for (id, mut request) in [subscribe("/asked/1"), unsubscribe("/asked/1"), hello("/asked/1", 1)]
        .into_iter()
        .enumerate()
    {
        request["id"] = json!(100 + id);
        socket.send(&request);
    }
    api.wait_held();
    socket.must(hello("elsewhere", 1));
    assert_eq!(other.event(), hello("elsewhere", 1));
    socket.assert_silent();
    api.release();
    let ids: Vec<_> = (0..3).map(|_| socket.receive()["id"].clone()).collect();
    assert_eq!(ids, [100, 101, 102]);
    other.must(hello("/asked/1", 2));
    socket.assert_silent();
}

#[test]
fn so_much_may_wait_on_one_socket_and_no_more() {
    let (api, pogo) = start(|options| {
        asked(options);
        options.session.requests_in_flight = 2;
    });
    answer_with(&api, 204);
    let mut socket = Socket::open(&pogo);
    api.hold("GET /may");
    socket.send(&subscribe("/asked/1"));
    socket.send(&unsubscribe("/asked/1"));
    api.wait_held();
    assert_eq!(socket.error(hello("/asked/1", 1)), "limit_exceeded");
    assert_eq!(socket.error(subscribe("/asked/2")), "limit_exceeded");
    assert_eq!(socket.error(json!({"event": "show", "uri": "/posts/1"})), "limit_exceeded");
    api.release();
    api.be_calm();
    while socket.ask(subscribe("/asked/3"))["status"] != "ok" {}
}

#[test]
fn an_api_that_hangs_lets_nobody_in_and_does_not_hang_the_socket() {
    let (api, pogo) = start_of_two(|options| {
        asked(options);
        options.hub.fetch_timeout = Duration::from_millis(50);
    });
    answer_with(&api, 204);
    let mut socket = Socket::open(&pogo);
    api.hold("GET /may");
    assert_eq!(socket.error(subscribe("/asked/1")), "upstream_timeout");
    api.hold("GET /may");
    assert_eq!(socket.error(hello("/asked/1", 1)), "upstream_timeout");
    api.release();
    api.be_calm();
    socket.must(subscribe("/asked/1"));
}

#[test]
fn another_credential_is_judged_and_the_old_one_counts_until_then() {
    let (api, pogo) = start_of_two(asked);
    allow(&api, "ann");
    let (mut socket, mut other) = (Socket::open_as(&pogo, "ann"), Socket::open_as(&pogo, "ann"));
    socket.must(subscribe("/asked/1"));
    api.hold("GET /may");
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    api.wait_held();
    other.must(hello("/asked/1", 1));
    assert_eq!(socket.event(), hello("/asked/1", 1));
    api.release();
    assert_eq!(socket.event(), told_to_leave("forbidden"));
    other.must(hello("/asked/1", 2));
    socket.assert_silent();
    // What is good stays, without a word.
    socket.must(json!({"event": "auth", "data": {"token": "ann"}}));
    socket.must(subscribe("/asked/1"));
    socket.must(json!({"event": "auth", "data": {"token": "ann"}}));
    other.must(hello("/asked/1", 3));
    assert_eq!(socket.event(), hello("/asked/1", 3));
}

#[test]
fn of_many_credentials_only_the_last_is_judged_and_nobody_stays_by_changing_them() {
    let (api, pogo) = start(asked);
    allow(&api, "ann");
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.must(subscribe("/asked/1"));
    api.hold("GET /may");
    for number in 0..50 {
        socket.must(json!({"event": "auth", "data": {"token": format!("token-{number}")}}));
    }
    api.wait_held();
    api.release();
    assert_eq!(socket.event(), told_to_leave("forbidden"));
    let seen = api.seen("GET /may");
    let asked: Vec<_> = seen.iter().map(|seen| seen.header("authorization").unwrap()).collect();
    assert_eq!(asked, ["Bearer ann", "Bearer token-0", "Bearer token-49"]);
}

#[test]
fn who_has_another_credential_and_an_api_that_cannot_be_asked_about_it_has_to_leave() {
    let (api, pogo) = start_of_two(asked);
    answer_with(&api, 204);
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.must(subscribe("/asked/1"));
    answer_with(&api, 500);
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    assert_eq!(socket.event(), told_to_leave("limit"));
}

#[test]
fn a_credential_that_has_ended_shows_nothing_until_the_api_was_asked_without_it() {
    let (api, pogo) = start_of_two(|options| {
        asked(options);
        options.auth.lifetime = Duration::from_secs(1);
    });
    let mut socket = Socket::open(&pogo);
    let mut other = Socket::open_as(&pogo, "ann");
    api.on("GET /may", |seen, _| {
        let is_known = seen.header("authorization").is_some();
        Some(Reply::empty(if is_known { 204 } else { 403 }))
    });
    socket.must(json!({"event": "auth", "data": {"token": "ann"}}));
    socket.must(subscribe("/asked/1"));
    api.hold("GET /may");
    assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    api.wait_held();
    other.must(hello("/asked/1", 1));
    // What comes behind it on the way to the socket has come: so has it.
    other.must(json!({"event": "channel:subscribe", "channel": "way"}));
    let mut helper = Socket::open(&pogo);
    socket.must(json!({"event": "channel:subscribe", "channel": "way"}));
    helper.must(hello("way", 1));
    let mut events = socket.until(&hello("way", 1));
    api.release();
    events.extend(socket.until(&told_to_leave("expired")));
    assert!(events.iter().all(|event| event["event"] == "channel:lost"), "{events:?}");
    other.must(hello("/asked/1", 2));
    socket.assert_silent();
}

#[test]
fn the_api_is_asked_again_from_time_to_time_and_may_change_its_mind() {
    let (api, pogo) = start_of_two(|options| {
        asked_each_time(options);
        options.hub.recheck = Some(Duration::from_millis(20));
    });
    answer_with(&api, 204);
    let mut socket = Socket::open(&pogo);
    socket.must(subscribe("/asked/1"));
    let before = api.wait_seen("GET /may", 3).len();
    // Where nobody can say, it stays.
    answer_with(&api, 500);
    api.wait_seen("GET /may", before + 3);
    socket.assert_silent();
    answer_with(&api, 404);
    assert_eq!(socket.event(), told_to_leave("forbidden"));
}

#[test]
fn other_rules_are_gone_by_and_the_api_is_asked_where_it_was_not() {
    let (api, mut pogo) = start_of_two(|options| options.channels = vec![Rule::open()]);
    allow(&api, "ann");
    let (mut ann, mut bob) = (Socket::open_as(&pogo, "ann"), Socket::open_as(&pogo, "bob"));
    let mut other = Socket::open_as(&pogo, "ann");
    for socket in [&mut ann, &mut bob] {
        socket.must(subscribe("/asked/1"));
    }
    pogo.reload(asked);
    assert_eq!(bob.event(), told_to_leave("forbidden"));
    ann.must(unsubscribe("/asked/1"));
    ann.must(subscribe("/asked/1"));
    other.must(hello("/asked/1", 1));
    assert_eq!(ann.until(&hello("/asked/1", 1)), Vec::<Value>::new());
    bob.assert_silent();
    // The same rule again asks nobody again.
    let count = api.seen("GET /may").len();
    pogo.reload(|options| options.channels.push(Rule { pattern: "b".into(), ..Rule::open() }));
    ann.assert_silent();
    assert_eq!(api.seen("GET /may").len(), count);
}

#[test]
fn a_logout_ends_what_was_answered_for_its_credential() {
    let (api, pogo) = start(|options| {
        asked(options);
        options.auth.logout = vec![(http::Method::POST, "/logout".into())];
    });
    allow(&api, "ann");
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.must(subscribe("/asked/1"));
    api.on("POST /logout", |_, _| Some(Reply::empty(204)));
    let request = "POST /logout HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer ann\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(pogo.ask(request).message().status(), 204);
    assert_eq!(socket.closed().0, 4401);
    answer_with(&api, 401);
    let mut again = Socket::open_as(&pogo, "ann");
    assert_eq!(again.error(subscribe("/asked/1")), "unauthorized");
}
