//! When a stream of a view ends, and what its client is told then.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pogo::route::Rule;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    Api, Events, Launch, Operator, PATIENCE, Pogo, Reply, Socket, Upstream, start, start_of_two,
};

fn put(pogo: &Pogo, path: &str, value: &Value) {
    assert_eq!(pogo.write("PUT", path, value), 200);
}

/// A stream of which the first state has come, and whose view has been fetched.
fn following(api: &Api, pogo: &Pogo, token: &str) -> Events {
    let before = api.seen("GET /posts/1").len();
    let mut events = Events::open_as(pogo, "/posts/1", token);
    assert_eq!(events.event().name, "update");
    api.wait_seen("GET /posts/1", before + 2);
    events
}

fn assert_unbound(events: &mut Events, reason: &str) {
    assert_eq!(events.event().said(), ("unbind", json!({"reason": reason})));
    events.assert_ended();
}

fn assert_to_return(events: &mut Events) {
    events.assert_ended();
    events.assert_told_to_return();
}

/// Waits until so many are counted as open.
fn assert_open(operator: &Operator, count: f64) {
    let end = Instant::now() + PATIENCE;
    while operator.metric("pogo_subscriptions{way=\"sse\"}") != count {
        assert!(Instant::now() < end, "{}", operator.metrics());
    }
}

#[test]
fn who_may_not_see_it_any_more_is_unbound_and_shown_nothing() {
    for status in [401, 403] {
        let (api, pogo) = start(|_| ());
        api.put("/posts/1", json!(1));
        let mut alice = following(&api, &pogo, "alice");
        let mut bob = following(&api, &pogo, "bob");
        api.on("GET /posts/1", move |seen, usual| {
            match seen.header("authorization") == Some("Bearer bob") {
                true => Some(Reply::new(status, &json!("secret"))),
                false => usual,
            }
        });
        put(&pogo, "/posts/1", &json!(2));
        assert_unbound(&mut bob, "forbidden");
        assert_eq!(alice.event().json(), json!(2));
        assert!(!bob.text.contains("secret") && !bob.text.contains("data: 2"), "{}", bob.text);
        // Who comes back is answered by the API.
        let fields = [("Authorization", "Bearer bob")];
        let answer = pogo.ask(&Events::request("GET", "/posts/1", &fields)).message();
        assert_eq!(answer.status(), status);
    }
}

#[test]
fn a_credential_that_ends_ends_the_stream() {
    let (api, pogo) = start(|options| {
        options.auth.verify = Some("/me".into());
        options.auth.expires_pointer = Some("/expires".into());
    });
    api.put("/posts/1", json!(1));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    api.on("GET /me", move |seen, _| match seen.header("authorization")? {
        "Bearer short" => Some(Reply::new(200, &json!({"expires": now + 2}))),
        "Bearer long" => Some(Reply::new(200, &json!({"expires": now + 3600}))),
        _ => Some(Reply::empty(401)),
    });
    let mut long = Events::open_as(&pogo, "/posts/1", "long");
    // The API has let them have it, so Pogo does.
    let mut unknown = Events::open_as(&pogo, "/posts/1", "unknown");
    let mut nobody = Events::open(&pogo, "/posts/1");
    let mut short = Events::open_as(&pogo, "/posts/1", "short");
    for events in [&mut long, &mut unknown, &mut nobody, &mut short] {
        assert_eq!(events.event().name, "update");
    }
    assert_unbound(&mut short, "expired");
    put(&pogo, "/posts/1", &json!(2));
    for events in [&mut long, &mut unknown, &mut nobody] {
        assert_eq!(events.event().json(), json!(2));
    }
}

#[test]
fn where_a_credential_is_required_a_stream_needs_one_that_is_good() {
    let (api, pogo) = start(|options| {
        options.auth.verify = Some("/me".into());
        options.auth.required = true;
    });
    api.put("/posts/1", json!(1));
    api.on("GET /me", |seen, _| {
        let good = seen.header("authorization") == Some("Bearer good");
        Some(Reply::empty(if good { 200 } else { 401 }))
    });
    let mut events = Events::open_as(&pogo, "/posts/1", "good");
    assert_eq!(events.event().json(), json!(1));
    for fields in [&[("Authorization", "Bearer bad")][..], &[]] {
        let mut wire = pogo.ask(&Events::request("GET", "/posts/1", fields));
        wire.message().assert_problem(401);
    }
    assert_eq!(pogo.get("/posts/1").message().status(), 200, "a plain GET is the API's to judge");
}

#[test]
fn a_logout_ends_the_streams_of_its_credential_and_no_other() {
    let (api, pogo) = start_of_two(|options| {
        options.auth.logout = vec![(http::Method::POST, "/logout".into())];
    });
    api.put("/posts/1", json!(1));
    let mut alices: Vec<_> = (0..4).map(|_| following(&api, &pogo, "alice")).collect();
    let mut bob = following(&api, &pogo, "bob");
    let logout = "POST /logout HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer alice\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(pogo.ask(logout).message().status(), 201);
    for alice in &mut alices {
        assert_unbound(alice, "forbidden");
    }
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(bob.event().json(), json!(2));
}

#[test]
fn an_address_that_is_shut_out_is_told_no_more() {
    let (api, mut pogo) = start(|options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    api.put("/posts/1", json!(1));
    let follow = |client: &str| {
        let mut events = Events::open_with(&pogo, "/posts/1", &[("X-Forwarded-For", client)]);
        assert_eq!(events.event().json(), json!(1));
        events
    };
    let (mut bad, mut good) = (follow("192.0.2.7"), follow("192.0.2.8"));
    pogo.reload(|options| options.gate.deny = vec!["192.0.2.7/32".parse().unwrap()]);
    assert_unbound(&mut bad, "forbidden");
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(good.event().json(), json!(2));
}

#[test]
fn an_address_that_is_shut_out_meanwhile_is_not_let_in() {
    let (api, mut pogo) = start(|options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    api.put("/posts/1", json!("secret"));
    api.hold("GET /posts/1");
    let fields = [("X-Forwarded-For", "192.0.2.7")];
    let mut wire = pogo.ask(&Events::request("GET", "/posts/1", &fields));
    api.wait_held();
    pogo.reload(|options| options.gate.deny = vec!["192.0.2.7/32".parse().unwrap()]);
    api.release();
    wire.message().assert_problem(403);
}

#[test]
fn a_shutdown_ends_streams_well_and_says_when_to_return() {
    let (api, mut pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!(1));
    let mut streams: Vec<_> = (0..4).map(|_| following(&api, &pogo, "me")).collect();
    // One that is asked for before and answered after.
    api.hold("GET /posts/1");
    let mut late = pogo.ask(&Events::request("GET", "/posts/1", &[]));
    api.wait_held();
    let draining = pogo.drain();
    for events in &mut streams {
        assert_to_return(events);
        events.wire().assert_closed();
    }
    api.release();
    assert_eq!(late.head().status(), 200);
    let body: Vec<u8> = std::iter::from_fn(|| late.chunk()).flatten().collect();
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("data: 1\n\n") && body.ends_with(": come back\n\n"), "{body}");
    draining.join().unwrap().unwrap();
}

#[test]
fn a_stream_lives_as_long_as_is_said() {
    let (api, pogo) = start(|options| {
        options.subscription.max_lifetime = Some(Duration::from_millis(200));
    });
    api.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().json(), json!(1));
    assert_to_return(&mut events);
    let again = Events::open_with(&pogo, "/posts/1", &[("Last-Event-ID", events.last_id())]);
    assert_eq!(again.retry(), None, "nothing of it was read yet");
}

#[test]
fn more_than_there_may_be_are_asked_to_come_back() {
    let (api, pogo) = start(|options| {
        options.subscription.limit = 2;
        Operator::admit(options);
    });
    api.put("/posts/1", json!(1));
    let (first, _second) = (following(&api, &pogo, "a"), following(&api, &pogo, "b"));
    let refused = pogo.ask(&Events::request("GET", "/posts/1", &[])).message();
    refused.assert_problem(503);
    assert_eq!(refused.one("retry-after").as_deref(), Some("1"));
    let operator = Operator::of(&pogo);
    assert_eq!(operator.metric("pogo_rejections_total{reason=\"subscriptions\"}"), 1.0);
    assert_eq!(pogo.get("/posts/1").message().status(), 200);
    drop(first);
    assert_open(&operator, 1.0);
    following(&api, &pogo, "c");
    assert_eq!(operator.metric("pogo_subscriptions_opened_total{way=\"sse\"}"), 3.0);
}

#[test]
fn who_leaves_leaves_the_view() {
    let (api, pogo) = start(Operator::admit);
    api.put("/posts/1", json!(1));
    let operator = Operator::of(&pogo);
    let streams: Vec<_> = (0..3).map(|_| following(&api, &pogo, "me")).collect();
    assert_open(&operator, 3.0);
    assert_eq!(operator.metric("pogo_bindings"), 3.0);
    assert_eq!(operator.metric("pogo_views"), 1.0);
    drop(streams);
    assert_open(&operator, 0.0);
    assert_eq!(operator.metric("pogo_bindings"), 0.0);
    let before = api.seen("GET /posts/1").len();
    put(&pogo, "/posts/1", &json!(2));
    let mut socket = Socket::open(&pogo);
    socket.see_through(&pogo);
    assert_eq!(api.seen("GET /posts/1").len(), before, "nobody is there to fetch it for");
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let (api, pogo) = start(|options| {
        options.gateway.request_idle = Duration::from_millis(500);
        options.hub.min_interval = Duration::ZERO;
        // Its own silence is no fault of a client that takes everything.
        options.gateway.header_read = Duration::from_millis(300);
        Operator::admit(options);
    });
    let state = |n: u64| json!({"n": n, "ballast": "x".repeat(512 * 1024)});
    api.put("/posts/1", state(0));
    let operator = Operator::of(&pogo);
    let (_slow, mut quick) = (Events::open(&pogo, "/posts/1"), Events::open(&pogo, "/posts/1"));
    assert_eq!(quick.event().json()["n"], 0);
    for n in 1..=28 {
        api.put("/posts/1", state(n));
        put(&pogo, "/posts/1/touched", &json!(n));
        assert_eq!(quick.event().json()["n"], n);
    }
    assert_open(&operator, 1.0);
    put(&pogo, "/posts/1", &json!({"n": "last"}));
    assert_eq!(quick.event().json(), json!({"n": "last"}));
}

#[test]
fn a_view_that_cannot_be_had_after_all_sends_the_client_away_for_a_while() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut first = true;
    api.on("GET /posts/1", move |_, usual| {
        if std::mem::take(&mut first) { usual } else { Some(Reply::empty(500)) }
    });
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().json(), json!(1));
    assert_to_return(&mut events);
}

#[test]
fn what_other_rules_do_not_allow_ends_when_they_come() {
    let (api, mut pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    api.put("/other", json!(1));
    let mut other = Events::open(&pogo, "/other");
    assert_eq!(other.event().json(), json!(1));
    let mut alice = following(&api, &pogo, "alice");
    pogo.reload(|options| {
        options.routes =
            vec![Rule { path: "/posts/{id}".into(), realtime: false, ..Rule::default() }];
    });
    assert_to_return(&mut alice);
    let answer = pogo.ask(&Events::request("GET", "/posts/1", &[])).message();
    assert_eq!(answer.text(), "1");
    put(&pogo, "/other", &json!(2));
    assert_eq!(other.event().json(), json!(2));
    pogo.reload(|options| options.subscription.enabled = false);
    let answer = pogo.ask(&Events::request("GET", "/other", &[])).message();
    assert_eq!(answer.text(), "2");
    put(&pogo, "/other", &json!(3));
    assert_eq!(other.event().json(), json!(3), "what is open stays");
}

#[test]
fn what_checks_credentials_counts_for_those_who_have_one() {
    let (api, mut pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut alice = following(&api, &pogo, "alice");
    let mut nobody = Events::open(&pogo, "/posts/1");
    assert_eq!(nobody.event().json(), json!(1));
    pogo.reload(|options| options.auth.verify = Some("/me".into()));
    assert_to_return(&mut alice);
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(nobody.event().json(), json!(2));
}

#[test]
fn the_access_log_says_how_a_stream_ended() {
    let api = Api::start();
    api.put("/posts/1", json!(1));
    let launch = Launch {
        configuration: "[subscriptions]\nmax_lifetime = \"100ms\"",
        access_log: true,
        ..Launch::default()
    };
    let program = launch.before(api.address());
    let mut events = Events::open_on(program.connect(), "/posts/1?token=hidden", &[]);
    assert_eq!(events.event().json(), json!(1));
    events.assert_ended();
    let line = program.line("request");
    assert_eq!(line["ended_by"], "pogo", "{line}");
    assert_eq!((&line["ended_at"], &line["reason"]), (&json!("body"), &json!("lifetime")));
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(events.text.len())));
    assert!(!line.to_string().contains("hidden"), "{line}");
}

#[test]
fn an_upstream_that_breaks_off_a_state_is_an_error() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(&Events::request("GET", "/posts/1", &[]));
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[1,");
    drop(api);
    client.message().assert_problem(502);
}
