//! A GET that prefers to wait until there is another state.

use std::time::Duration;

use pogo::route::Rule;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Api, Message, Operator, PATIENCE, Pogo, Reply, Wire, start, start_of_two};

fn poll(pogo: &Pogo, path: &str, fields: &[(&str, &str)]) -> Wire {
    let fields: String = fields.iter().map(|(name, it)| format!("{name}: {it}\r\n")).collect();
    pogo.ask(&format!("GET {path} HTTP/1.1\r\nHost: api\r\nPrefer: wait=20\r\n{fields}\r\n"))
}

fn put(pogo: &Pogo, path: &str, value: &serde_json::Value) {
    assert_eq!(pogo.write("PUT", path, value), 200);
}

/// What an API with validators of its own answers.
fn validated(api: &Api, path: &str, tag: impl Fn(&str) -> String + Send + 'static) {
    api.on(&format!("GET {path}"), move |seen, usual| {
        let reply = usual?;
        let tag = tag(&reply.body);
        Some(match seen.header("if-none-match") == Some(&*tag) {
            true => Reply::empty(304).with("ETag", &tag),
            false => reply.with("ETag", &tag),
        })
    });
}

fn assert_waited(answer: &Message, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.one("preference-applied").as_deref(), Some("wait=20"));
    assert!(answer.all("vary").contains(&"Prefer".into()));
}

#[test]
fn what_the_client_has_is_waited_for_until_there_is_another() {
    let (api, pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let first = poll(&pogo, "/posts/1", &[]).message();
    assert_eq!((first.status(), first.text()), (200, r#"{"n":1}"#));
    assert_eq!(first.one("preference-applied"), None, "there was nothing to wait for");
    let tag = first.one("etag").expect("an API without tags is given one");
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", &tag)]);
    api.wait_seen("GET /posts/1", 3);
    wire.assert_quiet();
    put(&pogo, "/posts/1", &json!({"n": 2}));
    let second = wire.message();
    assert_waited(&second, 200);
    assert_eq!(second.text(), r#"{"n":2}"#);
    let next = second.one("etag").unwrap();
    assert_ne!(next, tag);
    // Who comes with an old one is answered at once, and with the tag that was just given, waits.
    let late = poll(&pogo, "/posts/1", &[("If-None-Match", &tag)]).message();
    assert_eq!((late.status(), late.one("etag")), (200, Some(next.clone())));
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", &next)]);
    put(&pogo, "/posts/1", &json!({"n": 3}));
    assert_eq!(wire.message().text(), r#"{"n":3}"#);
}

#[test]
fn when_the_time_is_over_nothing_has_changed() {
    let (api, pogo) = start(|options| {
        options.subscription.longest_wait = Duration::from_secs(1);
    });
    validated(&api, "/posts/1", |body| format!("\"{}\"", body.len()));
    api.put("/posts/1", json!(1));
    api.put("/posts/2", json!(1));
    for path in ["/posts/1", "/posts/2"] {
        let tag = poll(&pogo, path, &[]).message().one("etag").unwrap();
        let answer = poll(&pogo, path, &[("If-None-Match", &tag)]).message();
        assert_eq!(answer.status(), 304);
        assert_eq!(answer.one("preference-applied").as_deref(), Some("wait=1"));
        assert_eq!(answer.one("etag"), Some(tag));
        assert_eq!((answer.one("content-type"), answer.one("content-length")), (None, None));
    }
}

#[test]
fn the_apis_own_tags_are_the_clients() {
    let (api, pogo) = start(|_| ());
    validated(&api, "/posts/1", |body| format!("\"of {}\"", body.replace('"', "")));
    api.put("/posts/1", json!(1));
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", "\"of 1\"")]);
    // The client's own, and the view's.
    let seen = api.wait_seen("GET /posts/1", 2);
    assert_eq!(seen[0].header("if-none-match"), Some("\"of 1\""), "it is forwarded as it is");
    assert_eq!(seen[0].header("prefer"), Some("wait=20"));
    assert_eq!((seen[1].header("prefer"), seen[1].header("if-none-match")), (None, None));
    put(&pogo, "/posts/1", &json!(2));
    let answer = wire.message();
    assert_waited(&answer, 200);
    assert_eq!((answer.one("etag").as_deref(), answer.text()), (Some("\"of 2\""), "2"));
}

#[test]
fn weak_tags_are_compared_and_do_not_hide_a_change() {
    let (api, pogo) = start(|_| ());
    validated(&api, "/posts/1", |body| format!("W/\"{}\"", body.len()));
    api.put("/posts/1", json!(1));
    let first = poll(&pogo, "/posts/1", &[]).message();
    assert_eq!(first.one("etag").as_deref(), Some("W/\"1\""));
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", "W/\"1\"")]);
    // It was asked for what that is, and the view for its own.
    api.wait_seen("GET /posts/1", 4);
    put(&pogo, "/posts/1", &json!(2));
    let answer = wire.message();
    assert_waited(&answer, 200);
    assert_eq!(answer.text(), "2", "of the same length");
    // What is given instead of a weak tag is known again.
    let tag = answer.one("etag").unwrap();
    let before = api.seen("GET /posts/1").len();
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", &tag)]);
    api.wait_seen("GET /posts/1", before + 2);
    put(&pogo, "/posts/1", &json!(3));
    assert_waited(&wire.message(), 200);
}

#[test]
fn a_write_between_the_answer_and_the_view_is_not_missed() {
    let (api, pogo) = start(|_| ());
    validated(&api, "/posts/1", |body| format!("\"{body}\""));
    api.put("/posts/1", json!(1));
    api.hold("GET /posts/1");
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", "\"1\"")]);
    api.wait_held();
    put(&pogo, "/posts/1", &json!(2));
    api.release();
    assert_eq!(wire.message().text(), "2");
}

#[test]
fn what_cannot_be_shown_any_more_is_answered_by_the_api() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut wire = poll(&pogo, "/posts/1", &[("If-None-Match", "*")]);
    api.wait_seen("GET /posts/1", 2);
    assert_eq!(pogo.write("DELETE", "/posts/1", &json!(null)), 204);
    let gone = wire.message();
    assert_waited(&gone, 404);
    assert_eq!(gone.text(), r#"{"error":"not found"}"#);
    api.put("/posts/2", json!(1));
    let mut wire = poll(&pogo, "/posts/2", &[("If-None-Match", "*")]);
    api.wait_seen("GET /posts/2", 2);
    api.on("GET /posts/2", |_, _| Some(Reply::new(403, &json!("no longer"))));
    put(&pogo, "/posts/2", &json!(2));
    let refused = wire.message();
    assert_waited(&refused, 403);
    assert_eq!(refused.text(), "\"no longer\"");
}

#[test]
fn each_waits_for_what_its_own_credential_may_see() {
    let (api, pogo) = start_of_two(|_| ());
    api.on("GET /posts/1", |seen, usual| {
        let who = seen.header("authorization")?;
        let n: u64 = usual?.body.parse().unwrap();
        // Bob sees even numbers alone.
        let n = if who == "Bearer bob" { n / 2 * 2 } else { n };
        Some(Reply::new(200, &json!({"n": n, "for": who})))
    });
    api.put("/posts/1", json!(2));
    let polling = |who: &str| {
        let credential = ("Authorization", who);
        let tag = poll(&pogo, "/posts/1", &[credential]).message().one("etag").unwrap();
        poll(&pogo, "/posts/1", &[credential, ("If-None-Match", &tag)])
    };
    let (mut alice, mut bob) = (polling("Bearer alice"), polling("Bearer bob"));
    api.wait_seen("GET /posts/1", 6);
    put(&pogo, "/posts/1", &json!(3));
    assert_eq!(alice.message().text(), r#"{"for":"Bearer alice","n":3}"#);
    put(&pogo, "/posts/1", &json!(4));
    assert_eq!(bob.message().text(), r#"{"for":"Bearer bob","n":4}"#);
}

#[test]
fn what_asks_for_no_wait_or_gets_no_state_passes_as_it_is() {
    let (api, pogo) = start(|options| {
        options.routes = vec![Rule { path: "/private".into(), realtime: false, ..Rule::default() }];
    });
    let cases = [
        ("/missing", Reply::new(404, &json!(1))),
        ("/page", Reply::new(200, &json!(1)).with("Content-Type", "text/html")),
        ("/private", Reply::empty(304).with("ETag", "\"a\"")),
        // It has waited itself.
        ("/waits", Reply::empty(304).with("ETag", "\"a\"").with("Preference-Applied", "wait=20")),
    ];
    for (path, reply) in cases {
        let answer = reply.clone();
        api.on(&format!("GET {path}"), move |_, _| Some(answer.clone()));
        let answer = poll(&pogo, path, &[("If-None-Match", "\"a\"")]).message();
        assert_eq!((answer.status(), answer.text()), (reply.status, &*reply.body), "{path}");
        assert_eq!(api.seen(&format!("GET {path}")).len(), 1, "{path}");
    }
    api.on("GET /posts/1", |_, _| Some(Reply::empty(304).with("ETag", "\"a\"")));
    for prefer in ["wait=0", "return=minimal", "respond-async"] {
        let mut wire = pogo.ask(&format!(
            "GET /posts/1 HTTP/1.1\r\nHost: api\r\nIf-None-Match: \"a\"\r\nPrefer: {prefer}\r\n\r\n"
        ));
        assert_eq!(wire.message().status(), 304, "{prefer}");
    }
    // An API that knows no tags has answered, and the answer has none.
    api.put("/posts/2", json!(1));
    assert_eq!(pogo.get("/posts/2").message().one("etag"), None);
}

#[test]
fn who_leaves_waits_no_more_and_a_shutdown_waits_for_nobody() {
    let (api, mut pogo) = start(Operator::admit);
    api.put("/posts/1", json!(1));
    let operator = Operator::of(&pogo);
    let assert_waiting = |count: f64| {
        let end = Instant::now() + PATIENCE;
        while operator.metric("pogo_subscriptions{way=\"long_poll\"}") != count {
            assert!(Instant::now() < end, "{}", operator.metrics());
        }
    };
    let left = poll(&pogo, "/posts/1", &[("If-None-Match", "*")]);
    let mut stays = poll(&pogo, "/posts/1", &[("If-None-Match", "*")]);
    assert_waiting(2.0);
    drop(left);
    assert_waiting(1.0);
    let draining = pogo.drain();
    assert_waited(&stays.message(), 304);
    draining.join().unwrap().unwrap();
}
