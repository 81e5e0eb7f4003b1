//! Who follows a view over plain HTTP is listed, and ended, as sockets are.

use serde_json::{Value, json};

use crate::harness::{Api, Events, Operator, Pogo, Socket, Wire, start_of_two};

fn pogo() -> (Api, Pogo, Operator) {
    let (api, pogo) = start_of_two(Operator::admit);
    api.put("/posts/1", json!(1));
    let operator = Operator::of(&pogo);
    (api, pogo, operator)
}

fn ask(pogo: &Pogo, fields: &str) -> Wire {
    pogo.ask(&format!("GET /posts/1 HTTP/1.1\r\nHost: api\r\n{fields}\r\n\r\n"))
}

fn ids(listed: &Value) -> Vec<String> {
    let sessions = listed["sessions"].as_array().unwrap().iter();
    sessions.map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn subscriptions_are_listed_among_the_sessions_page_by_page() {
    let (api, pogo, operator) = pogo();
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(&pogo)).collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/posts/1"));
    let mut all = [ask(&pogo, "Subscribe: ?1"), ask(&pogo, "Accept-Events: \"prep\"")];
    all.iter_mut().for_each(|wire| drop(wire.head()));
    let tag = ask(&pogo, "Prefer: wait=20").message().one("etag").unwrap();
    let before = api.seen("GET /posts/1").len();
    let mut waits = ask(&pogo, &format!("Prefer: wait=20\r\nIf-None-Match: {tag}"));
    // The answer that is held back, and the first look at the view.
    api.wait_seen("GET /posts/1", before + 1);
    waits.assert_quiet();
    let _events = Events::open_as(&pogo, "/posts/1", "hunter2");
    let listed = operator.get("/sessions");
    assert!(!listed.to_string().contains("hunter2"), "{listed}");
    let sessions = listed["sessions"].as_array().unwrap();
    let mut ways: Vec<_> = sessions.iter().map(|it| it["way"].as_str().unwrap()).collect();
    ways.sort_unstable();
    let sockets = ["socket"; 4];
    assert_eq!(ways, [&["braid", "long_poll", "prep"][..], &sockets, &["sse"]].concat());
    let sse = sessions.iter().find(|it| it["way"] == "sse").unwrap();
    for (key, value) in [
        ("client", json!("127.0.0.1")),
        ("host", json!("api")),
        ("has_credential", json!(true)),
        ("authenticated", json!(false)),
        ("bindings", json!(1)),
        ("channels", json!(0)),
    ] {
        assert_eq!(sse[key], value, "{key}");
    }
    // Pages of any size have each once.
    for limit in 1..=9 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = operator.get(&format!("/sessions?limit={limit}{after}"));
            assert!(ids(&page).len() <= limit, "by {limit}: {page}");
            seen.extend(ids(&page));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((seen.len(), count), (8, 8), "by {limit}");
    }
    let bindings = operator.get("/bindings?uri=/posts/1");
    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 8, "{bindings}");
    let id = sse["id"].as_str().unwrap();
    let own = operator.get(&format!("/bindings?session={id}"));
    let own = own["bindings"].as_array().unwrap();
    assert_eq!((own.len(), &own[0]["uri"]), (1, &json!("/posts/1")));
    assert_eq!(operator.get("/sessions?client=192.0.2.1")["sessions"], json!([]));
    assert_eq!(operator.get("/bindings?uri=/posts/2")["bindings"], json!([]));
}

#[test]
fn an_operator_ends_a_subscription_as_a_socket() {
    let (_api, pogo, operator) = pogo();
    let mut one = Events::open(&pogo, "/posts/1");
    one.event();
    let id = ids(&operator.get("/sessions")).remove(0);
    let mut other = Events::open(&pogo, "/posts/1");
    other.event();
    let ended = operator.must("DELETE", &format!("/sessions/{id}"), None);
    assert_eq!(ended, json!({"ended": 1}));
    assert_eq!(one.event().said(), ("unbind", json!({"reason": "forbidden"})));
    one.assert_ended();
    let ended = operator.must("DELETE", "/sessions?client=192.0.2.1", None);
    assert_eq!(ended, json!({"ended": 0}));
    // Who may come back is told when.
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "ping"}));
    let ended = operator.must("DELETE", "/sessions?client=127.0.0.1&reconnect=true", None);
    assert_eq!(ended, json!({"ended": 2}));
    other.assert_ended();
    other.assert_told_to_return();
    assert_eq!(socket.closed().0, 1001);
    assert_eq!(operator.must("DELETE", "/sessions?all=true", None), json!({"ended": 0}));
}

#[test]
fn what_is_followed_in_a_namespace_is_listed_with_it_and_ended() {
    let other = Api::start();
    other.put("/posts/1", json!(2));
    let (_api, pogo) = start_of_two(|options| {
        Operator::admit(options);
        let name = pogo::namespace::Name::new("/a").unwrap();
        let origin = other.address().to_string().parse().unwrap();
        let upstream = Some(pogo::upstream::Options { origin, ..Default::default() });
        let own = pogo::session::namespaces::Options::new(name);
        options.namespaces = vec![pogo::session::namespaces::Options { upstream, ..own }];
    });
    let operator = Operator::of(&pogo);
    let mut events = Events::open(&pogo, "/a/posts/1");
    events.event();
    let listed = operator.get("/bindings");
    let binding = &listed["bindings"][0];
    assert_eq!((&binding["namespace"], &binding["uri"]), (&json!("/a"), &json!("/posts/1")));
    let id = binding["session"].as_str().unwrap();
    assert_eq!(ids(&operator.get("/sessions")), [id]);
    assert_eq!(operator.must("DELETE", "/sessions?all=true", None), json!({"ended": 1}));
    assert_eq!(events.event().name, "unbind");
    events.assert_ended();
}
