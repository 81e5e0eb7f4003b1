//! What a namespace with an API of its own is over plain HTTP.

use pogo::route::Rule;
use pogo::server::Options;
use serde_json::json;

use crate::harness::{
    Api, Events, Operator, Pogo, Reply, Socket, apart, namespace, start, start_of_two,
};

fn with(api: &Api) -> impl FnOnce(&mut Options) + use<> {
    let own = apart("/a", api);
    move |options| {
        Operator::admit(options);
        options.namespaces = vec![own];
    }
}

fn put(pogo: &Pogo, path: &str, data: u64) {
    assert_eq!(pogo.write("PUT", path, &json!(data)), 200);
}

fn at(pogo: &Pogo, path: &str) -> Socket {
    Socket::try_open(pogo.address(), path, &[]).expect("the handshake succeeds")
}

#[test]
fn a_resource_below_its_name_is_followed_as_the_view_that_its_sockets_are_bound_to() {
    let other = Api::start();
    let (api, pogo) = start_of_two(with(&other));
    api.put("/posts/1", json!(10));
    other.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/a/posts/1");
    assert_eq!(events.event().said(), ("update", json!(1)));
    let mut socket = at(&pogo, "/a");
    let bound = socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null}));
    assert_eq!(bound["data"], 1);
    put(&pogo, "/a/posts/1", 2);
    let second = events.event();
    assert_eq!(second.said(), ("update", json!(2)));
    assert_eq!(socket.event()["version"], json!(second.id));
    // What is written at the first API is another resource.
    put(&pogo, "/posts/1", 11);
    socket.must(json!({"event": "update", "uri": "/posts/1", "data": 3}));
    assert_eq!(events.event().said(), ("update", json!(3)));
    // A view for both.
    assert_eq!(Operator::of(&pogo).metric("pogo_subscriptions{way=\"sse\"}"), 1.0);
    assert!(api.seen("GET /posts/1").is_empty());
}

#[test]
fn every_way_of_following_is_open_below_its_name() {
    let other = Api::start();
    let (_api, pogo) = start(with(&other));
    other.put("/posts/1", json!(1));
    let get = |fields: &str| {
        pogo.ask(&format!("GET /a/posts/1 HTTP/1.1\r\nHost: api\r\n{fields}\r\n\r\n"))
    };
    assert_eq!(get("Subscribe: ?1").head().status(), 209);
    let prep = get("Accept-Events: \"prep\"").head();
    assert!(prep.one("events").is_some_and(|events| events.contains("prep")), "{prep:?}");
    let tag = get("Prefer: wait=20").message().one("etag").expect("a version");
    let mut waiting = get(&format!("Prefer: wait=20\r\nIf-None-Match: {tag}"));
    waiting.assert_quiet();
    put(&pogo, "/a/posts/1", 2);
    let answer = waiting.message();
    assert_eq!((answer.status(), answer.text()), (200, "2"));
    // What is no state passes as it is, with the path that its client has to ask for.
    other.on("GET /moved", |_, _| Some(Reply::empty(302).with("Location", "/posts/1")));
    let moved = pogo.ask(&Events::request("GET", "/a/moved", &[])).message();
    assert_eq!((moved.status(), moved.one("location").as_deref()), (302, Some("/a/posts/1")));
}

#[test]
fn a_credential_is_checked_by_the_api_that_checks_them_for_all() {
    let other = Api::start();
    let (api, pogo) = start(|options| {
        with(&other)(options);
        options.auth.verify = Some("/verify".into());
        options.auth.required = true;
        options.auth.logout = vec![(http::Method::POST, "/logout".into())];
    });
    other.put("/posts/1", json!(1));
    api.on("POST /logout", |_, _| Some(Reply::empty(204)));
    api.on("GET /verify", |seen, _| {
        let good = seen.header("authorization") == Some("Bearer good");
        Some(Reply::empty(if good { 204 } else { 401 }))
    });
    let bad = pogo.ask(&Events::request("GET", "/a/posts/1", &[("Authorization", "Bearer bad")]));
    assert_eq!({ bad }.message().status(), 401);
    let mut events = Events::open_as(&pogo, "/a/posts/1", "good");
    assert_eq!(events.event().said(), ("update", json!(1)));
    assert!(other.seen("GET /verify").is_empty());
    // A logout there ends what is followed here.
    let logout = "POST /logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(pogo.ask(logout).message().status(), 204);
    assert_eq!(events.event().name, "unbind");
    events.assert_ended();
}

#[test]
fn what_is_followed_ends_with_its_namespace_and_stays_when_others_change() {
    let (one, two) = (Api::start(), Api::start());
    one.put("/posts/1", json!(1));
    two.put("/posts/1", json!(2));
    let (_api, mut pogo) = start(with(&one));
    let mut events = Events::open(&pogo, "/a/posts/1");
    assert_eq!(events.event().json(), json!(1));
    pogo.reload(|options| options.namespaces.push(namespace("/b")));
    put(&pogo, "/a/posts/1", 3);
    assert_eq!(events.event().json(), json!(3));
    pogo.reload(|options| options.namespaces[0] = apart("/a", &two));
    events.assert_ended();
    events.assert_told_to_return();
    let mut events = Events::open(&pogo, "/a/posts/1");
    assert_eq!(events.event().json(), json!(2));
    // A route that cannot be bound any more.
    pogo.reload(|options| {
        let silent = Rule { path: "/posts/{id}".into(), realtime: false, ..Rule::default() };
        options.namespaces[0].routes = vec![silent];
    });
    events.assert_ended();
    let plain = pogo.ask(&Events::request("GET", "/a/posts/1", &[])).message();
    assert_eq!(plain.text(), "2");
    pogo.reload(|options| options.namespaces[0].routes.clear());
    let mut events = Events::open(&pogo, "/a/posts/1");
    assert_eq!(events.event().json(), json!(2));
    let drained = std::thread::spawn(move || pogo.drain());
    events.assert_ended();
    drained.join().unwrap();
}
