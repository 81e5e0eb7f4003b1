//! How views are fetched again: what the upstream is asked, how often, and what its answers mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pogo::server::Options;
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.hub.min_interval = Duration::ZERO;
        change(options);
    });
    (api, pogo)
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

const OLD: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

#[test]
fn a_tag_that_does_not_say_who_may_see_what_is_not_believed_when_something_else_was_written() {
    let (api, pogo) = start(|_| ());
    let hidden = Arc::new(AtomicBool::new(false));
    let now_hidden = Arc::clone(&hidden);
    // Like many, this API makes the tag of a list from when its members were written.
    api.on("GET /lists/1/items", move |seen, _| {
        if seen.header("if-none-match") == Some("\"7\"") {
            return Some(Reply::empty(304));
        }
        let items = if now_hidden.load(Ordering::SeqCst) { json!([]) } else { json!(["secret"]) };
        Some(Reply::new(200, &items).with("ETag", "\"7\""))
    });
    let mut socket = Socket::open_as(&pogo, "bob");
    let bind = json!({"event": "bind", "uri": "/lists/1/items", "version": null});
    assert_eq!(socket.must(bind)["data"], json!(["secret"]));
    hidden.store(true, Ordering::SeqCst);
    assert_eq!(pogo.write("PATCH", "/lists/1", &json!({"readers": []})), 200);
    let event = socket.event();
    assert_eq!(event["data"], json!([]));
    assert_ne!(event["version"], "7");
}

#[test]
fn a_refetch_is_conditional_only_where_the_validator_is_exact() {
    for (fields, expected) in [
        (&[("ETag", "\"a\"")][..], [Some("\"a\""), None]),
        (&[("ETag", "W/\"a\"")], [None, None]),
        (&[("Last-Modified", OLD)], [None, None]),
        (&[("Last-Modified", OLD), ("Date", "Mon, 01 Jan 2024 00:00:01 GMT")], [None, None]),
        (&[("Last-Modified", OLD), ("Date", "Mon, 01 Jan 2024 00:00:02 GMT")], [None, Some(OLD)]),
        (&[("Last-Modified", "lately"), ("Date", OLD)], [None, None]),
    ] {
        let (api, pogo) = start(|_| ());
        api.on("GET /posts/1", |_, reply| {
            Some(fields.iter().fold(reply?, |reply, (name, value)| reply.with(name, value)))
        });
        api.put("/posts/1", json!(0));
        let mut socket = Socket::open(&pogo);
        socket.bind("/posts/1");
        pogo.write("PUT", "/posts/1", &json!(1));
        let seen = api.wait_seen("GET /posts/1", 2).remove(1);
        let sent = ["if-none-match", "if-modified-since"].map(|name| seen.header(name));
        assert_eq!(sent, expected, "{fields:?}");
    }
}

#[test]
fn a_weak_tag_is_no_version() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |_, reply| Some(reply?.with("ETag", "W/\"same\"")));
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert!(!answer["version"].as_str().unwrap().contains("same"));
    pogo.write("PUT", "/posts/1", &json!(2));
    let event = socket.event();
    assert_eq!(event["data"], 2);
    assert_ne!(event["version"], answer["version"]);
}

#[test]
fn ten_writes_during_a_fetch_make_one_more() {
    let (api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    api.hold("GET /posts/1");
    pogo.write("PUT", "/posts/1", &json!(0));
    api.wait_held();
    for n in 1..=10 {
        pogo.write("PUT", "/posts/1", &json!(n));
    }
    api.release();
    let before = socket.until(&update("/posts/1", json!(10)));
    assert_eq!(before, [update("/posts/1", json!(0))]);
    socket.see_through(&pogo);
    socket.assert_silent();
    assert_eq!(api.seen("GET /posts/1").len(), 3);
}

#[test]
fn what_a_refetch_sets_in_cookies_goes_nowhere() {
    let (api, pogo) = start(|_| ());
    api.on("GET /me", |_, reply| Some(reply?.with("Set-Cookie", "sid=fresh")));
    let mut socket = Socket::open_with(&pogo, &[("cookie", "sid=old")]);
    socket.bind("/me");
    pogo.write("PUT", "/me", &json!(1));
    assert_eq!(socket.event(), update("/me", json!(1)));
    pogo.write("PUT", "/me", &json!(2));
    assert_eq!(socket.event(), update("/me", json!(2)));
    for seen in api.seen("GET /me") {
        assert_eq!(seen.header("cookie"), Some("sid=old"));
    }
    assert!(!socket.texts.concat().contains("fresh"));
}

#[test]
fn an_answer_that_is_no_state_is_said_to_who_binds_and_keeps_what_others_hold() {
    let json = |body: &str| Reply { body: body.into(), ..Reply::new(200, &json!(null)) };
    for (reply, message) in [
        (json(&format!("{:?}", "x".repeat(2000))), "larger than 1000 bytes"),
        (json("{\"half\":"), "JSON that is not valid"),
        (json("x").with("Content-Type", "image/png"), "image/png"),
        (json("").with("Location", "/elsewhere"), "301"),
    ] {
        let (api, pogo) = start(|options| options.hub.body_bytes = 1000);
        let reply = if message == "301" { Reply { status: 301, ..reply } } else { reply };
        let mut holder = Socket::open(&pogo);
        holder.bind("/posts/1");
        api.on("GET /posts/1", move |_, _| Some(reply.clone()));
        let mut socket = Socket::open(&pogo);
        let answer = socket.ask(json!({"event": "bind", "uri": "/posts/1"}));
        assert_eq!(answer["error"]["code"], "upstream_error", "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
        holder.assert_silent();
        api.be_normal();
        pogo.write("PUT", "/posts/1", &json!("well again"));
        assert_eq!(holder.event(), update("/posts/1", json!("well again")));
        socket.assert_silent();
    }
}

#[test]
fn text_is_a_string_and_nothing_is_null() {
    let (api, pogo) = start(|_| ());
    let text = Reply { body: "a \"b\"".into(), ..Reply::new(200, &json!(null)) };
    api.on("GET /text", move |_, _| Some(text.clone().with("Content-Type", "text/plain")));
    api.on("GET /nothing", |_, _| Some(Reply::empty(204)));
    api.on("GET /problem", |_, reply| Some(reply?.with("Content-Type", "application/x+json")));
    let mut socket = Socket::open(&pogo);
    for (uri, data) in
        [("/text", json!("a \"b\"")), ("/nothing", json!(null)), ("/problem", json!([]))]
    {
        let answer = socket.must(json!({"event": "bind", "uri": uri, "version": null}));
        assert_eq!(answer["data"], data, "{uri}");
    }
}

#[test]
fn no_more_fetches_run_at_once_than_the_node_may_have() {
    let (api, pogo) = start(|options| {
        options.workers = 2;
        options.hub.refetch_concurrency = 2;
    });
    (0..6).for_each(|_| api.hold("GET /posts/1"));
    let mut sockets: Vec<_> =
        (0..6).map(|n| Socket::open_as(&pogo, &format!("user-{n}"))).collect();
    for socket in &mut sockets {
        socket.send(&json!({"id": 70, "event": "bind", "uri": "/posts/1"}));
    }
    for round in 1..=3 {
        api.wait_seen("GET /posts/1", 2 * round);
        // Asked past the fetches, so that a third would have come before.
        Socket::open(&pogo).must(json!({"event": "show", "uri": "/other", "bind": false}));
        assert_eq!(api.seen("GET /posts/1").len(), 2 * round);
        api.release();
    }
    for socket in &mut sockets {
        assert_eq!(socket.answer(70)["status"], "ok");
    }
}

#[test]
fn a_write_through_any_worker_reaches_the_members_on_all_with_one_get() {
    let (api, pogo) = start(|options| options.workers = 2);
    // The kernel spreads connections: with sixteen, both workers have some.
    let mut sockets: Vec<_> = (0..16).map(|_| Socket::open(&pogo)).collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/posts/1"));
    for n in 1..=8 {
        let before = api.seen("GET /posts/1").len();
        assert_eq!(pogo.write("PUT", "/posts/1", &json!(n)), 200);
        for socket in &mut sockets {
            assert_eq!(socket.event(), update("/posts/1", json!(n)));
        }
        assert_eq!(api.seen("GET /posts/1").len(), before + 1);
    }
}

#[test]
fn a_refetch_names_a_member_as_the_client() {
    let (api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    pogo.write("PUT", "/posts/1", &json!(1));
    let seen = api.wait_seen("GET /posts/1", 2).remove(1);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("pogo-refetch"), Some("1"));
}

#[test]
fn a_quiet_view_is_asked_for_again_so_that_a_revoked_credential_is_found_out() {
    let (api, pogo) = start(|options| options.hub.recheck = Some(Duration::from_millis(200)));
    let mut alice = Socket::open_as(&pogo, "alice");
    let mut anybody = Socket::open(&pogo);
    alice.bind("/posts/1");
    anybody.bind("/posts/1");
    api.wait_seen("GET /posts/1", 4);
    alice.assert_silent();
    api.on("GET /posts/1", |_, _| Some(Reply::empty(401)));
    let over = json!({"event": "unbind", "uri": "/posts/1", "reason": "forbidden"});
    assert_eq!(alice.event(), over);
    anybody.assert_silent();
}

#[test]
fn vary_of_everything_means_a_view_for_each_session() {
    let (api, pogo) = start(|_| ());
    api.on("GET /dice", |_, reply| Some(reply?.with("Vary", "*")));
    let mut sockets = [Socket::open_as(&pogo, "a"), Socket::open_as(&pogo, "a")];
    sockets.iter_mut().for_each(|socket| socket.bind("/dice"));
    let before = api.seen("GET /dice").len();
    pogo.write("PUT", "/dice", &json!(6));
    for socket in &mut sockets {
        assert_eq!(socket.event(), update("/dice", json!(6)));
    }
    sockets[0].see_through(&pogo);
    assert_eq!(api.seen("GET /dice").len(), before + 2);
}

#[test]
fn vary_may_name_several_fields_one_after_the_other_and_after_the_bind() {
    let (api, pogo) = start(|_| ());
    let tenants = ["one", "two", "two"];
    let mut sockets: Vec<_> = tenants
        .iter()
        .zip(["x", "x", "y"])
        .map(|(tenant, plan)| Socket::open_with(&pogo, &[("x-tenant", tenant), ("x-plan", plan)]))
        .collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/tenant"));
    // From now on the answer depends on both, and says so of one only where it knows the other.
    api.on("GET /tenant", |seen, _| {
        let (tenant, plan) = (seen.header("x-tenant"), seen.header("x-plan"));
        let vary = if tenant.is_some() { "X-Tenant, X-Plan" } else { "x-tenant" };
        Some(Reply::new(200, &json!([tenant, plan])).with("Vary", vary))
    });
    pogo.write("PUT", "/tenant", &json!(null));
    let expected = [["one", "x"], ["two", "x"], ["two", "y"]];
    for (socket, expected) in sockets.iter_mut().zip(expected) {
        assert_eq!(socket.event(), update("/tenant", json!(expected)));
        socket.assert_silent();
    }
}

#[test]
fn a_proof_that_works_once_lets_its_client_know_and_fetch_for_itself() {
    let (api, pogo) = start(|_| ());
    let mut used = false;
    api.on("GET /posts/1", move |_, reply| match std::mem::replace(&mut used, true) {
        true => Some(Reply::empty(401)),
        false => reply,
    });
    let mut socket =
        Socket::open_with(&pogo, &[("authorization", "DPoP token"), ("dpop", "proof")]);
    socket.bind("/posts/1");
    for n in 1..4 {
        pogo.write("PUT", "/posts/1", &json!(n));
        assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1"}));
    }
    assert_eq!(api.seen("GET /posts/1").len(), 2);
}

#[test]
fn a_bind_that_comes_during_a_fetch_that_fails_is_answered_by_the_next() {
    let (api, pogo) = start(|_| ());
    api.hold_with("GET /posts/1", Reply::empty(500));
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 70, "event": "bind", "uri": "/posts/1"}));
    api.wait_held();
    socket.send(&json!({"id": 71, "event": "bind", "uri": "/posts/1"}));
    socket.must(json!({"event": "ping"}));
    api.release();
    assert_eq!(socket.answer(70)["error"]["code"], "upstream_error");
    assert_eq!(socket.answer(71)["status"], "ok");
    pogo.write("PUT", "/posts/1", &json!(1));
    assert_eq!(socket.event(), update("/posts/1", json!(1)));
}

#[test]
fn a_bind_that_is_unbound_before_its_answer_is_answered_all_the_same() {
    let (api, pogo) = start(|_| ());
    api.hold("GET /posts/1");
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 70, "event": "bind", "uri": "/posts/1"}));
    api.wait_held();
    socket.send(&json!({"id": 71, "event": "unbind", "uri": "/posts/1"}));
    assert_eq!(socket.answer(70)["error"]["code"], "conflict");
    assert_eq!(socket.answer(71)["status"], "ok");
    api.release();
    pogo.write("PUT", "/posts/1", &json!(1));
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn who_binds_during_the_fetch_that_ends_a_view_is_judged_by_one_of_his_own() {
    let (api, pogo) = start(|_| ());
    let mut first = Socket::open_as(&pogo, "alice");
    let mut second = Socket::open_as(&pogo, "alice");
    first.bind("/posts/1");
    api.hold_with("GET /posts/1", Reply::empty(403));
    pogo.write("PUT", "/posts/1", &json!(1));
    api.wait_held();
    second.send(&json!({"id": 70, "event": "bind", "uri": "/posts/1", "version": null}));
    second.must(json!({"event": "ping"}));
    api.release();
    let over = json!({"event": "unbind", "uri": "/posts/1", "reason": "forbidden"});
    assert_eq!(first.event(), over);
    assert_eq!(second.answer(70)["data"], 1);
    pogo.write("PUT", "/posts/1", &json!(2));
    assert_eq!(second.event()["data"], 2);
    first.assert_silent();
}

#[test]
fn an_answer_that_was_overtaken_by_an_event_is_followed_by_the_latest() {
    for bind in [true, false] {
        let (api, pogo) = start(|_| ());
        api.put("/posts/1", json!(1));
        let mut socket = Socket::open(&pogo);
        socket.bind("/posts/1");
        api.hold("GET /posts/1");
        socket.send(&json!({"id": 70, "event": "show", "uri": "/posts/1", "bind": bind}));
        api.wait_held();
        pogo.write("PUT", "/posts/1", &json!(2));
        assert_eq!(socket.event(), update("/posts/1", json!(2)));
        api.release();
        assert_eq!(socket.answer(70)["data"], 1);
        assert_eq!(socket.event(), update("/posts/1", json!(2)));
        socket.assert_silent();
    }
}

#[test]
fn a_bind_right_after_a_change_of_credential_does_not_hide_what_changed_by_it() {
    let (api, pogo) = start(|_| ());
    api.on("GET /me", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.must(json!({"event": "bind", "uri": "/me", "version": null}));
    socket.send(&json!({"id": 70, "event": "auth", "data": {"token": "bob"}}));
    socket.send(&json!({"id": 71, "event": "bind", "uri": "/me"}));
    assert_eq!(socket.answer(71)["status"], "ok");
    assert_eq!(socket.event()["id"], 70);
    assert_eq!(socket.event()["data"], "Bearer bob");
}

#[test]
fn the_fetch_that_follows_a_write_belongs_to_its_trace_and_no_later_one_does() {
    let api = Api::start();
    api.put("/posts/1", json!({"n": 0}));
    let pogo = Pogo::at(&api.address().to_string(), |_| ());
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut write = pogo.ask(&format!(
        "PUT /posts/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\ntraceparent: {parent}\r\n\
         tracestate: vendor=1\r\n\r\n{{\"n\":1}}"
    ));
    assert_eq!(write.message().status(), 200);
    assert_eq!(socket.event()["data"], json!({"n": 1}));
    assert_eq!(pogo.write("PUT", "/posts/1", &json!({"n": 2})), 200);
    assert_eq!(socket.event()["data"], json!({"n": 2}));
    let traces: Vec<_> = api
        .seen("GET /posts/1")
        .iter()
        .map(|get| ["traceparent", "tracestate"].map(|name| get.header(name).map(str::to_owned)))
        .collect();
    let own = [Some(parent.to_owned()), Some("vendor=1".to_owned())];
    assert_eq!(traces, [[None, None], own, [None, None]]);
}
