//! Cache groups: what an API says to belong together is fetched again together.

use std::time::Duration;

use pogo::route::Rule;
use serde_json::{Value, json};

use crate::harness::{Api, Operator, Pogo, Reply, Socket};

/// An API whose `/a` and `/b` are in groups, and whose writes to `/elsewhere` invalidate them.
fn grouped(of_a: &'static str, of_b: &'static str) -> Api {
    let api = Api::start();
    for (path, groups) in [("/a", of_a), ("/b", of_b)] {
        api.put(path, json!({"n": 0}));
        api.on(&format!("GET {path}"), move |_, usual| {
            usual.map(|reply| reply.with("Cache-Groups", groups))
        });
    }
    api
}

fn pogo(api: &Api, workers: usize) -> Pogo {
    Pogo::at(&api.address().to_string(), |options| {
        Operator::admit(options);
        options.workers = workers;
    })
}

fn update(uri: &str, n: u64) -> Value {
    json!({"event": "update", "uri": uri, "data": {"n": n}})
}

#[test]
fn a_write_that_names_a_group_touches_its_views_and_no_others() {
    let api = grouped("\"left\", \"both\"", "\"right\", \"both\"");
    let pogo = pogo(&api, 3);
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    socket.bind("/b");
    let mut n = 0;
    for (groups, touched) in [
        ("\"left\"", &["/a"][..]),
        ("\"right\";x=1", &["/b"]),
        ("\"none\", \"both\"", &["/a", "/b"]),
    ] {
        n += 1;
        api.put("/a", json!({"n": n}));
        api.put("/b", json!({"n": n}));
        api.on("PUT /elsewhere", move |_, usual| {
            usual.map(|reply| reply.with("Cache-Group-Invalidation", groups))
        });
        assert_eq!(pogo.write("PUT", "/elsewhere", &json!(1)), 200);
        let mut events: Vec<_> = touched.iter().map(|_| socket.event()).collect();
        events.sort_by_key(|event| event["uri"].as_str().unwrap().to_owned());
        let wanted: Vec<_> = touched.iter().map(|uri| update(uri, n)).collect();
        assert_eq!(events, wanted, "{groups}");
        socket.see_through(&pogo);
        socket.assert_silent();
    }
}

#[test]
fn an_error_and_a_safe_request_invalidate_nothing() {
    let api = grouped("\"group\"", "\"group\"");
    for line in ["PUT /elsewhere", "GET /elsewhere"] {
        let status = if line.starts_with("PUT") { 409 } else { 200 };
        api.on(line, move |_, _| {
            Some(Reply::new(status, &json!({})).with("Cache-Group-Invalidation", "\"group\""))
        });
    }
    let pogo = pogo(&api, 1);
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    api.put("/a", json!({"n": 1}));
    assert_eq!(pogo.write("PUT", "/elsewhere", &json!(1)), 409);
    assert_eq!(pogo.get("/elsewhere").message().status(), 200);
    socket.see_through(&pogo);
    socket.assert_silent();
    api.wait_gets("/a", 1);
}

#[test]
fn a_group_that_changes_while_the_answer_that_names_it_is_on_its_way_is_not_missed() {
    let api = grouped("\"group\"", "\"other\"");
    let pogo = pogo(&api, 1);
    let operator = Operator::of(&pogo);
    let mut socket = Socket::open(&pogo);
    api.hold("GET /a");
    socket.send(&json!({"id": 1000, "event": "bind", "uri": "/a", "version": null}));
    // The answer that is held has the old state in it.
    api.wait_held();
    api.put("/a", json!({"n": 1}));
    operator.must("POST", "/changed", Some(&json!({"groups": ["group"]})));
    // The mark is there before the answer: a later change of the same worker's views has been seen.
    socket.see_through(&pogo);
    api.release();
    let answer = socket.answer(1000);
    let (old, new) = (json!({"n": 0}), json!({"n": 1}));
    if answer["data"] == old {
        assert_eq!(socket.event()["data"], new);
    } else {
        assert_eq!(answer["data"], new);
    }
}

#[test]
fn an_answer_that_leaves_a_group_takes_its_view_out_of_it() {
    let api = grouped("\"first\"", "\"other\"");
    let pogo = pogo(&api, 1);
    let operator = Operator::of(&pogo);
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    api.put("/a", json!({"n": 1}));
    api.on("GET /a", |_, usual| usual.map(|reply| reply.with("Cache-Groups", "\"second\"")));
    operator.must("POST", "/changed", Some(&json!({"groups": ["first"]})));
    assert_eq!(socket.event(), update("/a", 1));
    api.put("/a", json!({"n": 2}));
    operator.must("POST", "/changed", Some(&json!({"groups": ["first"]})));
    socket.see_through(&pogo);
    socket.assert_silent();
    operator.must("POST", "/changed", Some(&json!({"groups": ["second"], "uris": ["/b"]})));
    assert_eq!(socket.event(), update("/a", 2));
}

#[test]
fn any_unsafe_request_invalidates_whatever_its_method_path_and_answer_but_an_error() {
    let api = grouped("\"group\"", "\"other\"");
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        let silent = Rule { path: "/silent".into(), realtime: false, ..Rule::default() };
        let only = Some(Vec::new());
        let nothing = Rule { path: "/only".into(), affects_only: only, ..Rule::default() };
        options.routes = vec![silent, nothing];
    });
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    let mut n = 0;
    for (line, status) in [
        ("POST /login", 302),
        ("POST /elsewhere", 303),
        ("PUT /elsewhere", 303),
        ("PATCH /elsewhere", 202),
        ("DELETE /elsewhere", 204),
        ("REPORT /elsewhere", 207),
        ("POST /silent", 201),
        ("PUT /only", 200),
    ] {
        n += 1;
        api.put("/a", json!({"n": n}));
        api.on(line, move |_, _| {
            Some(Reply::new(status, &json!({})).with("Cache-Group-Invalidation", "\"group\""))
        });
        let (method, path) = line.split_once(' ').unwrap();
        assert_eq!(pogo.write(method, path, &json!({})), status, "{line}");
        assert_eq!(socket.event(), update("/a", n), "{line}");
    }
}

#[test]
fn a_write_over_the_socket_invalidates_too() {
    let api = grouped("\"group\"", "\"other\"");
    let pogo = pogo(&api, 1);
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    api.put("/a", json!({"n": 1}));
    api.on("POST /elsewhere", |_, usual| {
        usual.map(|reply| reply.with("Cache-Group-Invalidation", "\"group\""))
    });
    socket.must(json!({"event": "create", "uri": "/elsewhere", "data": {}, "bind": false}));
    assert_eq!(socket.event(), update("/a", 1));
}

/// A view of `/a` that is polled, and what its polls are answered.
fn with_polls(answer: impl Fn(Reply) -> Reply + Send + 'static) -> (Api, Pogo, Socket) {
    let api = grouped("\"first\"", "\"b\"");
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        Operator::admit(options);
        options.hub.min_interval = Duration::ZERO;
        let poll = Some(Duration::from_millis(100));
        options.routes = vec![Rule { path: "/a".into(), poll, ..Rule::default() }];
    });
    let mut socket = Socket::open(&pogo);
    socket.bind("/a");
    socket.bind("/b");
    api.on("GET /a", move |_, usual| usual.map(&answer));
    let polls = api.seen("GET /a").len() + 2;
    api.wait_seen("GET /a", polls);
    (api, pogo, socket)
}

#[test]
fn a_poll_says_in_which_groups_its_view_is_from_now_on() {
    let (api, mut pogo, mut socket) = with_polls(|reply| reply.with("Cache-Groups", "\"second\""));
    let operator = Operator::of(&pogo);
    // No poll is to find the change before the group does.
    pogo.reload(|options| options.routes.clear());
    socket.see_through(&pogo);
    api.put("/a", json!({"n": 1}));
    operator.must("POST", "/changed", Some(&json!({"groups": ["first"]})));
    socket.see_through(&pogo);
    socket.assert_silent();
    operator.must("POST", "/changed", Some(&json!({"groups": ["second"]})));
    assert_eq!(socket.event(), update("/a", 1));
}

#[test]
fn an_answer_that_nothing_changed_may_say_in_which_groups_it_is_and_if_it_says_nothing_those_stay()
{
    for (named, group) in [(Some("\"second\""), "second"), (None, "first")] {
        let (api, pogo) = crate::harness::start(|options| {
            Operator::admit(options);
            options.hub.min_interval = Duration::ZERO;
        });
        api.put("/a", json!({"n": 0}));
        api.on("GET /a", move |seen, usual| match seen.header("if-none-match") {
            Some("\"0\"") => Some(match named {
                Some(groups) => Reply::empty(304).with("Cache-Groups", groups),
                None => Reply::empty(304),
            }),
            _ => usual.map(|reply| reply.with("ETag", "\"0\"").with("Cache-Groups", "\"first\"")),
        });
        let operator = Operator::of(&pogo);
        let mut socket = Socket::open(&pogo);
        socket.bind("/a");
        operator.must("POST", "/changed", Some(&json!({"uris": ["/a"]})));
        api.wait_gets("/a", 2);
        socket.see_through(&pogo);
        api.on("GET /a", |_, usual| usual);
        api.put("/a", json!({"n": 1}));
        operator.must("POST", "/changed", Some(&json!({"groups": [group]})));
        assert_eq!(socket.event(), update("/a", 1), "{named:?}");
    }
}

#[test]
fn a_poll_that_is_answered_with_an_invalidation_invalidates_nothing() {
    let (api, pogo, mut socket) =
        with_polls(|reply| reply.with("Cache-Group-Invalidation", "\"b\""));
    socket.see_through(&pogo);
    socket.assert_silent();
    api.wait_gets("/b", 1);
}
