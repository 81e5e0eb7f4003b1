//! Namespaces that see the API of all by routes of their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use pogo::namespace::Name;
use pogo::route::{Push, Rule, Visibility};
use pogo::server::Options;
use pogo::session::namespaces;
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, start, start_of_two};

fn with(routes: Vec<Rule>) -> impl FnOnce(&mut Options) {
    let name = Name::new("/a").unwrap();
    let own = namespaces::Options { routes, ..namespaces::Options::new(name) };
    move |options| options.namespaces = vec![own]
}

fn rule(path: &str) -> Rule {
    Rule { path: path.into(), ..Rule::default() }
}

/// In both namespaces; what names none is said in `/`.
fn open(pogo: &Pogo) -> Socket {
    let mut socket = Socket::open(pogo);
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    socket
}

fn bind(uri: &str, namespace: &str) -> Value {
    json!({"event": "bind", "uri": uri, "version": null, "namespace": namespace})
}

fn put(pogo: &Pogo, path: &str, data: u64) {
    assert_eq!(pogo.write("PUT", path, &json!(data)), 200);
}

/// The next event's name, namespace and data.
#[track_caller]
fn heard(socket: &mut Socket) -> (Value, Value, Value) {
    let mut event = socket.event();
    ["event", "namespace", "data"].map(|key| event[key].take()).into()
}

#[test]
fn what_can_be_bound_and_what_a_write_touches_is_by_the_routes_of_each_namespace() {
    let (api, pogo) = start_of_two(|options| {
        let silent = Rule { realtime: false, ..rule("/secret/{id}") };
        let feeds = Rule { affects: vec!["/feed".into()], ..rule("/posts/{id}") };
        options.routes = vec![silent];
        with(vec![feeds, Rule { realtime: false, ..rule("/open/{id}") }])(options);
    });
    for uri in ["/secret/1", "/posts/1", "/open/1", "/feed"] {
        api.put(uri, json!(1));
    }
    let mut socket = open(&pogo);
    assert_eq!(socket.error(bind("/secret/1", "/")), "not_bindable");
    assert_eq!(socket.error(bind("/open/1", "/a")), "not_bindable");
    socket.must(bind("/secret/1", "/a"));
    socket.must(bind("/open/1", "/"));
    // Whoever writes, and where: over HTTP, and in the other namespace.
    put(&pogo, "/secret/1", 2);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(2)));
    put(&pogo, "/open/1", 2);
    assert_eq!(heard(&mut socket), (json!("update"), Value::Null, json!(2)));
    let update = |uri: &str, namespace: &str, data: u64| json!({"event": "update", "uri": uri, "namespace": namespace, "data": data, "bind": false});
    socket.must(update("/open/1", "/a", 3));
    assert_eq!(heard(&mut socket), (json!("update"), Value::Null, json!(3)));
    socket.must(update("/secret/1", "/", 3));
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(3)));
    // What else it touches, too.
    socket.must(bind("/feed", "/"));
    socket.must(bind("/feed", "/a"));
    api.put("/feed", json!(2));
    put(&pogo, "/posts/1", 2);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(2)));
    socket.see_through(&pogo);
    socket.assert_silent();
    // An outcome that nobody knows may have touched something.
    api.on("PUT /secret/1", |_, _| Some(Reply::empty(500)));
    assert_eq!(pogo.write("PUT", "/secret/1", &json!(4)), 500);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(4)));
}

#[test]
fn how_a_view_is_kept_and_with_whose_eyes_is_by_the_routes_of_each_namespace() {
    let (api, pogo) = start_of_two(|options| {
        let own = Rule {
            visibility: Visibility::Public,
            ttl: Some(Duration::from_secs(100)),
            update_method: Method::PATCH,
            autobind: false,
            ..rule("/posts/{id}")
        };
        let quiet = Rule { push: Push::Notify, ..rule("/news") };
        with(vec![own, quiet])(options);
    });
    api.on("GET /posts/1", |seen, _| {
        Some(Reply::new(200, &json!(seen.header("authorization"))).with("Vary", "Authorization"))
    });
    api.put("/news", json!(1));
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    assert_eq!(socket.must(bind("/posts/1", "/"))["data"], "Bearer ann");
    let mut for_long = bind("/posts/1", "/a");
    for_long["ttl"] = json!(1_000_000);
    let bound = socket.must(for_long);
    assert_eq!(bound["data"], Value::Null, "a public view is fetched with no credential");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(bound["expires"].as_u64().is_some_and(|at| at <= now + 101), "{bound}");
    for namespace in ["/", "/a"] {
        socket.must(json!({"event": "bind", "uri": "/news", "namespace": namespace}));
    }
    put(&pogo, "/news", 2);
    let mut both = [heard(&mut socket), heard(&mut socket)];
    both.sort_by_key(|(_, namespace, _)| namespace.to_string());
    let quiet = (json!("update"), json!("/a"), Value::Null);
    assert_eq!(both, [quiet, (json!("update"), Value::Null, json!(2))]);
    api.on("PATCH /posts/2", |_, _| Some(Reply::empty(204)));
    socket.must(json!({"event": "update", "uri": "/posts/2", "namespace": "/a", "data": 1}));
    assert_eq!((api.seen("PATCH /posts/2").len(), api.seen("PUT /posts/2").len()), (1, 0));
    put(&pogo, "/posts/2", 3);
    // What comes after it in the same namespace is all that comes.
    socket.must(json!({"event": "bind", "uri": "/last", "namespace": "/a"}));
    put(&pogo, "/last", 4);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(4)));
    socket.assert_silent();
}

#[test]
fn a_writers_own_answer_is_shown_where_the_routes_say_so_and_fetched_elsewhere() {
    let (api, pogo) = start_of_two(|options| {
        let public =
            Rule { visibility: Visibility::Public, push: Push::Response, ..rule("/posts/{id}") };
        options.routes = vec![public];
        with(vec![rule("/posts/{id}")])(options);
    });
    api.put("/posts/1", json!("before"));
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    socket.must(bind("/posts/1", "/"));
    socket.must(bind("/posts/1", "/a"));
    api.on("PUT /posts/1", |_, _| Some(Reply::new(200, &json!("for the writer"))));
    api.on("GET /posts/1", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    let host = pogo.address();
    let write = format!("PUT /posts/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\n1");
    assert_eq!(pogo.ask(&write).message().status(), 200);
    let mut both = [heard(&mut socket), heard(&mut socket)];
    both.sort_by_key(|(_, namespace, _)| namespace.to_string());
    assert_eq!(both[0], (json!("update"), json!("/a"), json!("Bearer ann")));
    assert_eq!(both[1], (json!("update"), Value::Null, json!("for the writer")));
}

#[test]
fn a_rate_of_a_route_is_of_what_is_asked_in_its_namespace() {
    let (api, pogo) = start(with(vec![Rule { rate: "1/h".parse().ok(), ..rule("/posts/{id}") }]));
    api.put("/posts/1", json!(1));
    let mut socket = open(&pogo);
    let show = |namespace: &str| json!({"event": "show", "uri": "/posts/1", "namespace": namespace, "bind": false});
    socket.must(show("/a"));
    assert_eq!(socket.error(show("/a")), "rate_limited");
    socket.must(show("/"));
    assert_eq!(pogo.get("/posts/1").message().status(), 200);
}

#[test]
fn routes_of_a_namespace_that_are_reloaded_hold_at_once() {
    let (api, mut pogo) = start_of_two(with(vec![rule("/posts/{id}"), rule("/x")]));
    api.put("/posts/1", json!(1));
    api.put("/posts/2", json!(1));
    let mut socket = open(&pogo);
    socket.must(bind("/posts/1", "/a"));
    socket.must(bind("/posts/1", "/"));
    pogo.reload(with(vec![Rule { realtime: false, ..rule("/posts/1") }, rule("/y")]));
    let over =
        json!({"event": "unbind", "uri": "/posts/1", "namespace": "/a", "reason": "forbidden"});
    assert_eq!(socket.event(), over);
    socket.must(bind("/posts/2", "/a"));
    put(&pogo, "/posts/2", 2);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(2)));
    // Without any it has the views of all again, which are others.
    pogo.reload(with(Vec::new()));
    assert_eq!(socket.event()["event"], "unbind");
    assert_eq!(socket.event()["event"], "pogo:disconnect");
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    socket.must(bind("/posts/1", "/a"));
    put(&pogo, "/posts/1", 3);
    let mut both = [heard(&mut socket), heard(&mut socket)];
    both.sort_by_key(|(_, namespace, _)| namespace.to_string());
    assert_eq!(both.each_ref().map(|(_, namespace, _)| namespace), [&json!("/a"), &Value::Null]);
    socket.assert_silent();
}

#[test]
fn another_api_of_all_is_that_of_a_namespace_with_routes_too() {
    let (old, mut pogo) = start_of_two(with(vec![rule("/posts/{id}")]));
    let new = Api::start();
    old.put("/posts/1", json!(1));
    new.put("/posts/1", json!(2));
    let mut socket = open(&pogo);
    socket.must(bind("/posts/1", "/a"));
    let origin = new.address().to_string().parse().unwrap();
    pogo.reload(|options| options.upstream.origin = origin);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(2)));
    put(&pogo, "/posts/1", 3);
    assert_eq!(heard(&mut socket), (json!("update"), json!("/a"), json!(3)));
}

#[test]
fn who_logs_out_in_a_namespace_is_out() {
    let (api, pogo) = start_of_two(|options| {
        options.auth.logout = vec![(Method::POST, "/logout".into())];
        with(vec![rule("/posts/{id}")])(options);
    });
    api.on("POST /logout", |_, _| Some(Reply::empty(204)));
    let mut socket = Socket::open_as(&pogo, "ann");
    let mut other = Socket::open_as(&pogo, "ann");
    other.must(json!({"event": "ping"}));
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    socket.send(&json!({"event": "create", "uri": "/logout", "namespace": "/a"}));
    assert_eq!(socket.closed().0, 4401);
    assert_eq!(other.closed().0, 4401);
}
