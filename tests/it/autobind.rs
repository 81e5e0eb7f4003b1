//! A good request over the socket also binds what it was about.

use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

fn start(rules: &[pogo::route::Rule]) -> (Api, Pogo, Socket) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.routes = rules.to_vec());
    let socket = Socket::open(&pogo);
    (api, pogo, socket)
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

/// A write by somebody else.
fn put(pogo: &Pogo, path: &str, data: &Value) {
    let mut other = Socket::open(pogo);
    other.must(json!({"event": "update", "uri": path, "data": data, "bind": false}));
}

#[test]
fn a_read_binds_and_needs_no_event_until_something_changes() {
    for event in ["index", "show"] {
        let (api, pogo, mut socket) = start(&[]);
        api.put("/posts/1", json!({"n": 1}));
        socket.must(json!({"event": event, "uri": "/posts/1"}));
        api.wait_seen("GET /posts/1", 2);
        socket.assert_silent();
        put(&pogo, "/posts/1", &json!({"n": 2}));
        assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
        socket.assert_silent();
    }
}

#[test]
fn a_change_right_behind_a_read_is_not_lost() {
    let (api, _pogo, mut socket) = start(&[]);
    api.put("/posts/1", json!({"n": 1}));
    api.on("GET /posts/1", move |seen, reply| {
        // Between the answer and the view's own fetch the item changes behind Pogo's back.
        if seen.header("pogo-refetch").is_some() {
            return Some(Reply::new(200, &json!({"n": 2})));
        }
        reply
    });
    let answer = socket.must(json!({"event": "show", "uri": "/posts/1"}));
    assert_eq!(answer["data"], json!({"n": 1}));
    assert_eq!(socket.event(), update("/posts/1", json!({"n": 2})));
}

#[test]
fn a_write_binds_what_it_made_and_brings_what_a_get_answers() {
    let (api, pogo, mut socket) = start(&[]);
    api.on("GET /posts/1", |_, reply| {
        reply.map(|reply| Reply { body: format!("{{\"got\":{}}}", reply.body), ..reply })
    });
    let answer = socket.must(json!({"event": "create", "uri": "/posts", "data": 1}));
    assert_eq!((&answer["uri"], &answer["data"]), (&json!("/posts/1"), &json!(1)));
    assert_eq!(socket.event(), update("/posts/1", json!({"got": 1})));
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(socket.event(), update("/posts/1", json!({"got": 2})));
    socket.must(json!({"event": "update", "uri": "/posts/8", "data": 8}));
    assert_eq!(socket.event(), update("/posts/8", json!(8)));
    socket.must(json!({"event": "delete", "uri": "/posts/8"}));
    assert_eq!(socket.event(), json!({"event": "delete", "uri": "/posts/8"}));
    socket.assert_silent();
}

#[test]
fn neither_a_refused_request_nor_a_delete_binds() {
    let (api, pogo, mut socket) = start(&[]);
    api.put("/posts/2", json!({}));
    assert_eq!(socket.error(json!({"event": "show", "uri": "/posts/1"})), "not_found");
    socket.must(json!({"event": "delete", "uri": "/posts/2"}));
    put(&pogo, "/posts/1", &json!({"n": 1}));
    put(&pogo, "/posts/2", &json!({"n": 1}));
    socket.assert_silent();
    assert!(api.seen("GET").iter().all(|seen| seen.header("pogo-refetch").is_none()));
}

#[test]
fn the_message_or_the_route_may_say_no() {
    let quiet = pogo::route::Rule {
        path: "/quiet/{*rest}".into(),
        autobind: false,
        ..pogo::route::Rule::default()
    };
    let (api, pogo, mut socket) = start(&[quiet]);
    api.put("/posts/1", json!({"n": 1}));
    api.put("/quiet/1", json!({"n": 1}));
    for (uri, bind) in
        [("/posts/1", json!(false)), ("/quiet/1", json!(null)), ("/quiet/1", json!(true))]
    {
        for event in ["show", "index", "update", "create"] {
            let request = json!({"event": event, "uri": uri, "bind": bind, "data": {"n": event}});
            socket.must(request);
        }
        put(&pogo, uri, &json!({"n": 2}));
        socket.assert_silent();
    }
    assert!(api.seen("GET").iter().all(|seen| seen.header("pogo-refetch").is_none()));
    socket.bind("/quiet/1");
    put(&pogo, "/quiet/1", &json!({"n": 3}));
    assert_eq!(socket.event(), update("/quiet/1", json!({"n": 3})));
}

#[test]
fn what_is_not_realtime_cannot_be_bound_and_is_served_all_the_same() {
    let plain = pogo::route::Rule {
        path: "/plain/{*rest}".into(),
        realtime: false,
        ..pogo::route::Rule::default()
    };
    let (api, _pogo, mut socket) = start(&[plain]);
    api.put("/plain/1", json!({"n": 1}));
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/plain/1"})), "not_bindable");
    assert!(api.seen("").is_empty());
    assert_eq!(socket.must(json!({"event": "show", "uri": "/plain/1"}))["data"], json!({"n": 1}));
    socket.must(json!({"event": "update", "uri": "/plain/1", "data": {}}));
    socket.assert_silent();
    assert_eq!(api.seen("GET").len(), 1);
}

#[test]
fn a_resource_that_may_be_written_but_not_read_is_written_and_its_binding_ended() {
    let (api, _pogo, mut socket) = start(&[]);
    api.on("GET /secret/1", |_, _| Some(Reply::new(403, &json!({}))));
    socket.must(json!({"event": "update", "uri": "/secret/1", "data": {}}));
    assert_eq!(
        socket.event(),
        json!({"event": "unbind", "uri": "/secret/1", "reason": "forbidden"})
    );
    socket.must(json!({"event": "update", "uri": "/posts/1", "data": 1}));
    assert_eq!(socket.event(), update("/posts/1", json!(1)));
    socket.assert_silent();
}
