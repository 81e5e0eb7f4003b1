//! Cache groups: what an API says to belong together is fetched again together.

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
