//! A client that has bound a URI holds what a GET with its own credentials answers.

use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.workers = 2);
    (api, pogo)
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

fn put(pogo: &Pogo, path: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let mut wire = pogo.ask(&format!(
        "PUT {path} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    wire.message().status()
}

fn write(pogo: &Pogo, method: &str, path: &str) -> u16 {
    let mut wire = pogo
        .ask(&format!("{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\n\r\n{{}}"));
    wire.message().status()
}

#[test]
fn a_write_over_plain_http_reaches_who_bound_the_uri() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"title": "old"}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    socket.assert_silent();
    assert_eq!(put(&pogo, "/posts/1", &json!({"title": "new"})), 200);
    assert_eq!(socket.event(), update("/posts/1", json!({"title": "new"})));
    socket.assert_silent();
}

#[test]
fn a_write_touches_collections_queries_and_descendants() {
    let (api, pogo) = start();
    api.put("/users/7/posts/3", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/users/7/posts");
    socket.bind("/users/7/posts?page=1");
    put(&pogo, "/users/7/posts/3", &json!({"n": 2}));
    let mut events = [socket.event(), socket.event()];
    events.sort_by_key(|event| event["uri"].as_str().unwrap().len());
    assert_eq!(events[0], update("/users/7/posts", json!([{"n": 2}])));
    assert_eq!(events[1], update("/users/7/posts?page=1", json!([{"n": 2}])));
}

#[test]
fn an_unchanged_answer_tells_nobody() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    put(&pogo, "/posts/1", &json!({"n": 1}));
    api.wait_seen("GET /posts/1", 2);
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
}

#[test]
fn a_deleted_resource_is_told_and_may_come_back() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    assert_eq!(write(&pogo, "DELETE", "/posts/1"), 204);
    assert_eq!(socket.event(), json!({"event": "delete", "uri": "/posts/1"}));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
}

#[test]
fn what_is_not_there_yet_can_be_bound() {
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/9");
    put(&pogo, "/posts/9", &json!({"n": 1}));
    assert_eq!(socket.event(), update("/posts/9", json!({"n": 1})));
}

#[test]
fn a_change_while_the_snapshot_loads_is_not_lost() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    api.hold("GET /posts/1");
    socket.send(&json!({"id": 50, "event": "bind", "uri": "/posts/1", "version": null}));
    api.wait_held();
    put(&pogo, "/posts/1", &json!({"n": 2}));
    api.release();
    let answer = socket.answer(50);
    assert_eq!(answer["data"], json!({"n": 1}), "the snapshot is of before the write");
    let event = socket.event();
    assert_eq!(event["data"], json!({"n": 2}));
    assert_ne!(event["version"], answer["version"]);
    socket.assert_silent();
}

#[test]
fn a_client_that_returns_with_its_version_is_told_what_it_missed_and_nothing_else() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut first = Socket::open(&pogo);
    let answer = first.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    let version = answer["version"].clone();
    assert_eq!(answer["data"], json!({"n": 1}));
    let mut second = Socket::open(&pogo);
    let answer = second.must(json!({"event": "bind", "uri": "/posts/1", "version": version}));
    assert_eq!(answer["version"], version);
    assert_eq!(answer.get("data"), None);
    drop(second);
    api.put("/posts/1", json!({"n": 2}));
    let mut third = Socket::open(&pogo);
    let answer = third.must(json!({"event": "bind", "uri": "/posts/1", "version": version}));
    assert_eq!(answer["data"], json!({"n": 2}));
    assert_ne!(answer["version"], version);
}

#[test]
fn after_unbind_nothing_comes() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let mut other = Socket::open(&pogo);
    socket.bind("/posts/1");
    other.bind("/posts/1");
    socket.must(json!({"event": "unbind", "uri": "/posts/1"}));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(other.event(), update("/posts/1", json!({"n": 2})));
    socket.assert_silent();
}

#[test]
fn who_may_not_get_may_not_bind() {
    let (api, pogo) = start();
    for (path, status) in
        [("/a", 401), ("/b", 403), ("/c", 405), ("/d", 501), ("/e", 500), ("/f", 429)]
    {
        api.on(&format!("GET {path}"), move |_, _| {
            Some(Reply::new(status, &json!({"why": "no"})).with("Retry-After", "7"))
        });
    }
    let mut socket = Socket::open(&pogo);
    for (path, code) in [
        ("/a", "unauthorized"),
        ("/b", "forbidden"),
        ("/c", "not_bindable"),
        ("/d", "not_bindable"),
        ("/e", "upstream_error"),
        ("/f", "rate_limited"),
    ] {
        let answer = socket.ask(json!({"event": "bind", "uri": path}));
        assert_eq!(answer["error"]["code"], code, "{path} {answer}");
        assert_eq!(answer["error"]["data"], json!({"why": "no"}), "{answer}");
    }
    api.be_normal();
    put(&pogo, "/a", &json!({}));
    socket.assert_silent();
}

#[test]
fn a_credential_that_is_revoked_ends_the_binding() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.bind("/posts/1");
    for status in [401, 403] {
        api.on("GET /posts/1", move |_, _| Some(Reply::new(status, &json!({}))));
        put(&pogo, "/posts/1", &json!({"n": status}));
        assert_eq!(
            socket.event(),
            json!({"event": "unbind", "uri": "/posts/1", "reason": "forbidden"})
        );
        api.be_normal();
        put(&pogo, "/posts/1", &json!({"n": 3}));
        socket.assert_silent();
        socket.bind("/posts/1");
    }
}

#[test]
fn each_client_sees_with_its_own_eyes() {
    let (api, pogo) = start();
    api.on("GET /me", |seen, _| {
        Some(Reply::new(
            200,
            &json!({"you": seen.header("authorization"), "cookie": seen.header("cookie")}),
        ))
    });
    let mut alice = Socket::open_as(&pogo, "alice");
    let mut bob = Socket::open_with(&pogo, &[("cookie", "sid=bob")]);
    for (socket, you, cookie) in [
        (&mut alice, json!("Bearer alice"), json!(null)),
        (&mut bob, json!(null), json!("sid=bob")),
    ] {
        let answer = socket.must(json!({"event": "bind", "uri": "/me", "version": null}));
        assert_eq!(answer["data"], json!({"you": you, "cookie": cookie}));
    }
}

#[test]
fn a_refetch_looks_like_the_viewers_own_request_and_says_what_it_is() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket =
        Socket::open_with(&pogo, &[("authorization", "Bearer a"), ("accept-language", "fi")]);
    socket.bind("/posts/1");
    let seen = api.seen("GET /posts/1").remove(0);
    assert_eq!(seen.header("authorization"), Some("Bearer a"));
    assert_eq!(seen.header("accept-language"), Some("fi"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("host"), Some(pogo.address().to_string().as_str()));
    assert_eq!(seen.header("pogo-refetch"), Some("1"));
    assert_eq!(seen.header("sec-websocket-key"), None);
}

#[test]
fn vary_tells_viewers_apart_that_would_have_shared_a_view() {
    let (api, pogo) = start();
    api.on("GET /tenant", |seen, _| {
        Some(
            Reply::new(200, &json!(seen.header("x-tenant")))
                .with("Vary", "X-Tenant, Accept-Encoding"),
        )
    });
    let mut one = Socket::open_with(&pogo, &[("x-tenant", "one")]);
    let mut two = Socket::open_with(&pogo, &[("x-tenant", "two")]);
    let mut none = Socket::open(&pogo);
    for (socket, tenant) in
        [(&mut one, json!("one")), (&mut two, json!("two")), (&mut none, json!(null))]
    {
        let answer = socket.must(json!({"event": "bind", "uri": "/tenant", "version": null}));
        assert_eq!(answer["data"], tenant);
    }
}

#[test]
fn an_etag_is_the_version_and_makes_refetches_conditional() {
    let (api, pogo) = start();
    api.on("GET /posts/1", |seen, reply| {
        if seen.header("if-none-match") == Some("\"v1\"") {
            return Some(Reply::empty(304));
        }
        reply.map(|reply| reply.with("ETag", "\"v1\""))
    });
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert_eq!(answer["version"], "v1");
    put(&pogo, "/posts/1", &json!({"n": 1}));
    let seen = api.wait_seen("GET /posts/1", 2);
    assert_eq!(seen[1].header("if-none-match"), Some("\"v1\""));
    socket.assert_silent();
}

#[test]
fn a_bind_that_failed_as_the_credential_changed_binds_nothing() {
    let (api, pogo) = start();
    api.put("/posts/1", json!(1));
    let mut failures = 1;
    api.on("GET /posts/1", move |seen, usual| {
        let fails = seen.header("authorization") == Some("Bearer bob") && failures > 0;
        if !fails {
            return usual;
        }
        failures -= 1;
        Some(Reply::empty(500))
    });
    let mut socket = Socket::open_as(&pogo, "alice");
    api.hold("GET /posts/1");
    socket.send(&json!({"id": "bind", "event": "bind", "uri": "/posts/1"}));
    api.wait_gets("/posts/1", 1);
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    let answer = socket.event();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("bind"), &json!("upstream_error"))
    );
    api.release();
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    socket.see_through(&pogo);
    socket.assert_silent();
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(3)), 200);
    assert_eq!(socket.event()["data"], 3);
}

#[test]
fn a_bind_again_that_failed_as_the_credential_changed_leaves_what_was_bound() {
    let (api, pogo) = start();
    api.put("/posts/1", json!(1));
    let mut failures = 1;
    api.on("GET /posts/1", move |seen, usual| {
        if seen.header("authorization") != Some("Bearer bob") {
            return usual;
        }
        failures -= 1;
        Some(if failures == 0 { Reply::empty(500) } else { Reply::new(200, &json!("bob's")) })
    });
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.bind("/posts/1");
    api.hold("GET /posts/1");
    socket.send(&json!({"id": "again", "event": "bind", "uri": "/posts/1"}));
    api.wait_gets("/posts/1", 2);
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    let answer = socket.event();
    assert_eq!((&answer["id"], &answer["status"]), (&json!("again"), &json!("error")));
    api.release();
    assert_eq!(socket.event(), update("/posts/1", json!("bob's")));
}
