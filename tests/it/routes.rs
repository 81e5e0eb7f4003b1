//! What a `[[route]]` decides, and which writes touch which views.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pogo::route::{Push, Rule, Visibility};
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

/// One worker, so that changes reach views in the order in which they were written.
fn start(routes: Vec<Rule>) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.routes = routes;
        options.hub.min_interval = Duration::ZERO;
    });
    (api, pogo)
}

fn rule(path: &str) -> Rule {
    Rule { path: path.into(), ..Rule::default() }
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

/// GETs of `uri` itself, none below it.
fn gets(api: &Api, uri: &str) -> usize {
    let line = format!("GET {uri}");
    api.seen(&line).iter().filter(|seen| seen.line() == line).count()
}

#[test]
fn a_route_that_is_not_realtime_is_not_bindable_and_its_writes_announce_nothing() {
    let (api, pogo) = start(vec![Rule { realtime: false, ..rule("/quiet/{*rest}") }]);
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/quiet/1"})), "not_bindable");
    socket.bind("/quiet");
    assert_eq!(pogo.write("PUT", "/quiet/1", &json!(1)), 200);
    socket.see_through(&pogo);
    socket.assert_silent();
    assert_eq!(gets(&api, "/quiet"), 1);
}

#[test]
fn a_public_route_is_fetched_once_for_all_with_no_credential() {
    let (api, pogo) = start(vec![Rule { visibility: Visibility::Public, ..rule("/news") }]);
    let mut sockets = [
        Socket::open_as(&pogo, "alice"),
        Socket::open_with(&pogo, &[("cookie", "sid=bob")]),
        Socket::open(&pogo),
    ];
    sockets.iter_mut().for_each(|socket| socket.bind("/news"));
    let before = gets(&api, "/news");
    assert_eq!(pogo.write("PUT", "/news", &json!({"n": 1})), 200);
    for socket in &mut sockets {
        assert_eq!(socket.event(), update("/news", json!({"n": 1})));
    }
    sockets[2].see_through(&pogo);
    assert_eq!(gets(&api, "/news"), before + 1);
    for seen in api.seen("GET /news") {
        assert_eq!((seen.header("authorization"), seen.header("cookie")), (None, None));
    }
}

#[test]
fn a_personal_resource_that_was_declared_public_shows_what_anybody_sees() {
    let (api, pogo) = start(vec![Rule { visibility: Visibility::Public, ..rule("/me") }]);
    api.on("GET /me", |seen, _| {
        let you = seen.header("authorization").or(seen.header("cookie"));
        Some(match you {
            Some(you) => Reply::new(200, &json!({"secret of": you})),
            None => Reply::new(401, &json!({"you": null})),
        })
    });
    let mut alice = Socket::open_as(&pogo, "alice");
    let answer = alice.ask(json!({"event": "bind", "uri": "/me", "version": null}));
    assert_eq!(answer["error"]["code"], "unauthorized");
    assert!(!alice.texts.concat().contains("secret"));
}

#[test]
fn a_notify_route_tells_that_and_not_what() {
    let (api, pogo) = start(vec![Rule { push: Push::Notify, ..rule("/posts/{id}") }]);
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let mut versioned = Socket::open(&pogo);
    socket.bind("/posts/1");
    let answer = versioned.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert_eq!(answer.get("data"), None);
    let before = gets(&api, "/posts/1");
    for n in 2..4 {
        assert_eq!(pogo.write("PUT", "/posts/1", &json!({"n": n})), 200);
        assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1"}));
    }
    let event = versioned.event();
    assert_eq!(event.get("data"), None);
    assert_ne!(event["version"], answer["version"]);
    assert_eq!(gets(&api, "/posts/1"), before);
}

#[test]
fn a_client_of_a_notify_route_that_returns_learns_that_it_missed_something() {
    let (api, pogo) = start(vec![Rule { push: Push::Notify, ..rule("/posts/{id}") }]);
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let first = socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    socket.must(json!({"event": "unbind", "uri": "/posts/1"}));
    pogo.write("PUT", "/posts/1", &json!({"n": 2}));
    let bind = json!({"event": "bind", "uri": "/posts/1", "version": first["version"]});
    let second = socket.must(bind);
    assert_ne!(second["version"], first["version"]);
}

#[test]
fn affects_adds_uris_however_the_write_is_spelled() {
    let affects = vec!["/me".into(), "/teams/{id}".into()];
    let (api, pogo) = start(vec![Rule { affects, ..rule("/users/{id}") }]);
    let mut socket = Socket::open(&pogo);
    for uri in ["/me", "/teams/7", "/teams/8", "/users/7"] {
        socket.bind(uri);
    }
    for (n, target) in ["/users/7", "/users/7/", "/%75sers//7", "/x/../users/7"].iter().enumerate()
    {
        let before = gets(&api, "/me");
        pogo.write("PUT", target, &json!(n));
        api.wait_gets("/me", before + 1);
        api.wait_gets("/teams/7", n + 2);
        socket.see_through(&pogo);
        assert_eq!(gets(&api, "/me"), before + 1, "{target}");
    }
    api.wait_gets("/teams/8", 1);
}

#[test]
fn affects_only_replaces_what_a_write_touches() {
    let affects_only = Some(vec!["/stats".into()]);
    let (api, pogo) = start(vec![Rule { affects_only, ..rule("/events") }]);
    let mut socket = Socket::open(&pogo);
    socket.bind("/stats");
    socket.bind("/events");
    api.put("/stats", json!(2));
    assert_eq!(pogo.write("POST", "/events", &json!(1)), 201);
    assert_eq!(socket.event(), update("/stats", json!(2)));
    socket.see_through(&pogo);
    socket.assert_silent();
    assert_eq!(gets(&api, "/events"), 1);
}

#[test]
fn min_interval_of_a_route_holds_back_all_but_those_who_bind() {
    let min_interval = Some(Duration::from_secs(3600));
    let (api, pogo) = start(vec![Rule { min_interval, ..rule("/posts/{id}") }]);
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    pogo.write("PUT", "/posts/1", &json!({"n": 2}));
    socket.see_through(&pogo);
    socket.assert_silent();
    let mut other = Socket::open(&pogo);
    let answer = other.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert_eq!(answer["data"], json!({"n": 2}));
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
    assert_eq!(gets(&api, "/posts/1"), 2);
}

#[test]
fn the_last_change_is_shown_when_the_interval_has_passed() {
    let min_interval = Some(Duration::from_millis(50));
    let (api, pogo) = start(vec![Rule { min_interval, ..rule("/posts/{id}") }]);
    api.put("/posts/1", json!({"n": 0}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    for n in 1..=20 {
        pogo.write("PUT", "/posts/1", &json!({"n": n}));
    }
    socket.until(&update("/posts/1", json!({"n": 20})));
}

/// Reads lag behind writes: this many GETs are answered as before the last write.
fn lag(api: &Api, line: &str, old: Value, count: usize) {
    let left = AtomicUsize::new(count);
    api.on(line, move |_, reply| {
        let take = |left: usize| left.checked_sub(1);
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Some(Reply::new(200, &old)),
            Err(_) => reply,
        }
    });
}

fn settling() -> Vec<Rule> {
    let settle = vec![Duration::from_millis(150), Duration::from_millis(300)];
    vec![Rule { settle, ..rule("/posts/{id}") }]
}

#[test]
fn a_route_that_settles_is_asked_again() {
    let (api, pogo) = start(settling());
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    lag(&api, "GET /posts/1", json!({"n": 1}), 2);
    pogo.write("PUT", "/posts/1", &json!({"n": 2}));
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
    assert_eq!(gets(&api, "/posts/1"), 4);
}

#[test]
fn a_view_that_is_bound_before_a_write_has_settled_is_asked_again_too() {
    // However slow this is, the bind comes before the last of them.
    let settle = vec![Duration::from_millis(150), Duration::from_secs(3)];
    let (api, pogo) = start(vec![Rule { settle, ..rule("/posts/{id}") }]);
    api.put("/posts/1", json!({"n": 1}));
    lag(&api, "GET /posts/1", json!({"n": 1}), 1);
    let mut socket = Socket::open(&pogo);
    pogo.write("PUT", "/posts/1", &json!({"n": 2}));
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert_eq!(answer["data"], json!({"n": 1}));
    assert_eq!(socket.event()["data"], json!({"n": 2}));
}

#[test]
fn what_was_accepted_is_asked_for_again() {
    let (api, pogo) = start(Vec::new());
    api.put("/jobs/1", json!("waiting"));
    api.on("PUT /jobs/1", |_, _| Some(Reply::empty(202)));
    let mut socket = Socket::open(&pogo);
    socket.bind("/jobs/1");
    lag(&api, "GET /jobs/1", json!("waiting"), 1);
    assert_eq!(pogo.write("PUT", "/jobs/1", &json!("done")), 202);
    assert_eq!(socket.event(), update("/jobs/1", json!("done")));
}

#[test]
fn a_write_touches_what_is_above_and_below_it_and_nothing_beside_it() {
    let (api, pogo) = start(Vec::new());
    let related = ["/users", "/users?page=2", "/users/7", "/users/7?full=1", "/users/7/posts/3"];
    let beside = ["/users/8", "/users/70", "/teams"];
    let mut socket = Socket::open(&pogo);
    related.iter().chain(&beside).for_each(|uri| socket.bind(uri));
    pogo.write("PUT", "/users/7", &json!({"n": 1}));
    socket.see_through(&pogo);
    related.iter().for_each(|uri| api.wait_gets(uri, 2));
    beside.iter().for_each(|uri| api.wait_gets(uri, 1));
}

#[test]
fn what_the_answer_names_is_touched() {
    let (api, pogo) = start(Vec::new());
    let mut socket = Socket::open(&pogo);
    for (status, field, value) in [
        (201, "Location", "/results/5"),
        (303, "Location", "/results/5"),
        (200, "Content-Location", "http://api/results/5"),
        (207, "Content-Location", "results/5"),
    ] {
        api.be_normal();
        socket.bind("/results/5");
        api.on("POST /jobs", move |_, _| Some(Reply::empty(status).with(field, value)));
        api.put("/results/5", json!([status, field]));
        assert_eq!(pogo.write("POST", "/jobs", &json!(1)), status);
        assert_eq!(socket.event(), update("/results/5", json!([status, field])));
        socket.must(json!({"event": "unbind", "uri": "/results/5"}));
    }
}

#[test]
fn a_write_that_was_refused_touches_nothing() {
    let (api, pogo) = start(Vec::new());
    api.on("PUT /posts/1", |_, _| Some(Reply::empty(422)));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(1)), 422);
    socket.see_through(&pogo);
    assert_eq!(gets(&api, "/posts/1"), 1);
}

#[test]
fn a_write_whose_outcome_is_not_known_may_have_happened() {
    let (api, pogo) = start(Vec::new());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    // The API has done it when the connection breaks, or when it fails to say so.
    api.on("PUT /posts/1", |_, _| None);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(1)), 502);
    assert_eq!(socket.event(), update("/posts/1", json!(1)));
    api.on("PUT /posts/1", |_, _| Some(Reply::empty(500)));
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 500);
    assert_eq!(socket.event(), update("/posts/1", json!(2)));
}

#[test]
fn a_write_is_announced_though_its_client_has_left() {
    let (api, pogo) = start(Vec::new());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    api.hold("PUT /posts/1");
    let client = pogo.ask("PUT /posts/1 HTTP/1.1\r\nHost: api\r\nContent-Length: 1\r\n\r\n5");
    api.wait_held();
    drop(client);
    api.release();
    assert_eq!(socket.event(), update("/posts/1", json!(5)));
}

#[test]
fn every_method_that_is_not_safe_is_a_write() {
    let (api, pogo) = start(Vec::new());
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PATCH", "/posts/1", &json!({"m": 2})), 200);
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 1, "m": 2})));
    assert_eq!(pogo.write("DELETE", "/posts/1", &json!(null)), 204);
    assert_eq!(socket.event(), json!({"event": "delete", "uri": "/posts/1"}));
    api.on("MERGE /posts/1", |_, _| Some(Reply::empty(200)));
    api.put("/posts/1", json!("merged"));
    assert_eq!(pogo.write("MERGE", "/posts/1", &json!(null)), 200);
    assert_eq!(socket.event(), update("/posts/1", json!("merged")));
    api.put("/posts/1", json!("otherwise"));
    assert_eq!(pogo.write("OPTIONS", "/posts/1", &json!(null)), 405);
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn a_route_has_a_budget_for_each_address_over_http_and_the_socket() {
    let rate = Some("2/h".parse().unwrap());
    let (api, pogo) = start(vec![Rule { rate, ..rule("/dear/{id}") }]);
    for path in ["/dear/1", "/dear/3", "/%64ear//2", "/cheap/1"] {
        api.put(path, json!(1));
    }
    assert_eq!(pogo.get("/dear/1").message().status(), 200);
    assert_eq!(pogo.get("/%64ear//2?x=1").message().status(), 200);
    let refused = pogo.get("/dear/1").message();
    refused.assert_problem(429);
    let wait: u64 = refused.one("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "{wait}");
    let mut socket = Socket::open(&pogo);
    let answer = socket.ask(json!({"event": "show", "uri": "/dear/3"}));
    assert_eq!(answer["error"]["code"], "rate_limited");
    assert!(answer["error"]["retry_after"].as_u64().unwrap() >= 1700, "{answer}");
    assert_eq!(pogo.get("/cheap/1").message().status(), 200);
}
