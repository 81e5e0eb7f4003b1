//! What operators say of namespaces, and are told of them.

use pogo::channel::{History, Rule as Channel};
use pogo::route::Rule;
use pogo::server::Options;
use pogo::session::namespaces;
use serde_json::{Value, json};

use crate::harness::{Api, Operator, Pogo, Socket, apart, namespace, start, start_of_two};

fn with(api: &Api) -> impl FnOnce(&mut Options) + use<> {
    let own = apart("/a", api);
    move |options| {
        Operator::admit(options);
        options.namespaces = vec![own];
    }
}

fn at(pogo: &Pogo, path: &str) -> Socket {
    Socket::try_open(pogo.address(), path, &[]).expect("the handshake succeeds")
}

#[test]
fn an_operator_says_what_changed_at_the_api_of_a_namespace() {
    let other = Api::start();
    let (api, pogo) = start_of_two(|options| {
        with(&other)(options);
        // Another that has the first API, and routes of its own.
        let feeds =
            Rule { path: "/posts/{id}".into(), affects: vec!["/feed".into()], ..Rule::default() };
        let silent = Rule { path: "/silent".into(), realtime: false, ..Rule::default() };
        let routes = vec![feeds, silent];
        options.namespaces.push(namespaces::Options { routes, ..namespace("/c") });
        options.routes = vec![Rule { path: "/silent".into(), realtime: false, ..Rule::default() }];
    });
    let operator = Operator::of(&pogo);
    let mut socket = Socket::open(&pogo);
    for uri in ["/posts/1", "/feed"] {
        api.put(uri, json!(1));
        other.put(uri, json!(1));
        for name in ["/a", "/c"] {
            socket.must(json!({"event": "pogo:connect", "namespace": name}));
            socket.must(json!({"event": "bind", "uri": uri, "namespace": name}));
        }
    }
    api.put("/posts/1", json!(2));
    api.put("/feed", json!(2));
    other.put("/posts/1", json!(3));
    let changed = |body: Value| operator.must("POST", "/changed", Some(&body))["changed"].clone();
    assert_eq!(changed(json!({"namespace": "/a", "uris": ["/posts/1"]})), 1);
    let update = |uri: &str, name: &str, data: u64| json!({"event": "update", "uri": uri, "namespace": name, "data": data});
    assert_eq!(socket.event(), update("/posts/1", "/a", 3));
    socket.assert_silent();
    // The API of all, in whichever of its namespaces that is said, by the routes of each.
    for (round, name) in [(2, json!("/c")), (4, json!("/")), (5, Value::Null)] {
        api.put("/posts/1", json!(round));
        api.put("/feed", json!(round));
        assert_eq!(changed(json!({"namespace": name, "uris": ["/posts/1", "/silent"]})), 1);
        let mut events = [socket.event(), socket.event()];
        events.sort_by_key(|event| event["uri"].to_string());
        assert_eq!(events, [update("/feed", "/c", round), update("/posts/1", "/c", round)]);
    }
    other.put("/posts/1", json!(6));
    assert_eq!(changed(json!({"namespace": "/a", "uris": [], "groups": ["any"]})), 1);
    assert_eq!(operator.metric("pogo_changes_total"), 5.0);
    let nowhere = json!({"namespace": "/b", "uris": ["/posts/1"]});
    assert_eq!(operator.ask("POST", "/changed", Some(&nowhere)).status(), 422);
    socket.assert_silent();
}

#[test]
fn an_operator_publishes_into_a_namespace() {
    let other = Api::start();
    let (_api, pogo) = start_of_two(|options| {
        with(&other)(options);
        options.namespaces.push(namespace("/c"));
        let kept = Channel { history: Some(History::default()), ..Channel::open() };
        options.namespaces[1].channels = Some(vec![kept]);
    });
    let operator = Operator::of(&pogo);
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(&pogo)).collect();
    let subscribe =
        |name: &str| json!({"event": "channel:subscribe", "channel": "news", "namespace": name});
    let event =
        |name: &str| json!({"event": "said", "channel": "news", "namespace": name, "data": name});
    for socket in &mut sockets {
        for name in ["/a", "/c"] {
            socket.must(json!({"event": "pogo:connect", "namespace": name}));
            socket.must(subscribe(name));
        }
        socket.must(subscribe("/"));
    }
    for name in ["/a", "/c"] {
        operator.must("POST", "/publish", Some(&event(name)));
        for socket in &mut sockets {
            let mut heard = socket.event();
            heard.as_object_mut().unwrap().remove("offset");
            assert_eq!(heard, event(name));
        }
    }
    operator.must(
        "POST",
        "/publish",
        Some(&json!({"event": "said", "channel": "news", "namespace": "/"})),
    );
    for socket in &mut sockets {
        assert_eq!(socket.event(), json!({"event": "said", "channel": "news"}));
        socket.assert_silent();
    }
    // It is kept by the rules of the namespace.
    let mut late = at(&pogo, "/c");
    late.must(json!({"event": "channel:subscribe", "channel": "news", "since": null}));
    assert_eq!(late.event()["data"], "/c");
    for bad in [
        json!({"event": "said", "channel": "news", "namespace": "/b"}),
        // As Pogo itself calls it.
        json!({"event": "said", "channel": "\0/c\0news"}),
    ] {
        assert_eq!(operator.ask("POST", "/publish", Some(&bad)).status(), 422, "{bad}");
    }
}

#[test]
fn what_is_at_the_api_of_a_namespace_is_counted_and_listed_by_its_routes() {
    let (other, deeper) = (Api::start(), Api::start());
    let route = |path: &str| Rule { path: path.into(), ..Rule::default() };
    let (api, mut pogo) = start(|options| {
        with(&other)(options);
        options.routes = vec![route("/posts/{id}")];
        options.namespaces[0].routes = vec![route("/posts/{id}"), route("/x")];
        options.namespaces.push(apart("/a/b", &deeper));
        let lens = namespaces::Options { routes: vec![route("/x")], ..namespace("/c") };
        options.namespaces.push(lens);
        options.namespaces.push(namespace("/d"));
    });
    for api in [&api, &other, &deeper] {
        api.put("/posts/1", json!(1));
    }
    let operator = Operator::of(&pogo);
    for path in ["/posts/1", "/a/posts/1", "/a/posts/1", "/a/y/1", "/a/b/posts/1", "/c/x"] {
        pogo.get(path).message();
    }
    let requests = |operator: &Operator, labels: &str, class: &str| {
        let series =
            format!("pogo_requests_total{{{labels},method=\"GET\",code_class=\"{class}\"}}");
        operator.metric(&series)
    };
    for (labels, class, count) in [
        ("route=\"/posts/{id}\"", "2xx", 1.0),
        ("route=\"/posts/{id}\",namespace=\"/a\"", "2xx", 2.0),
        ("route=\"default\",namespace=\"/a\"", "4xx", 1.0),
        ("route=\"default\",namespace=\"/a/b\"", "2xx", 1.0),
        ("route=\"default\"", "4xx", 1.0),
    ] {
        assert_eq!(requests(&operator, labels, class), count, "{labels}");
    }
    let listed = operator.get("/routes");
    let rows: Vec<_> = listed["routes"].as_array().unwrap().iter().collect();
    let row = |namespace: Value, path: Value| {
        let mut found = rows.iter().filter(|it| it["namespace"] == namespace && it["path"] == path);
        let first = found.next().unwrap_or_else(|| panic!("{namespace} {path}: {listed}"));
        assert!(found.next().is_none(), "{listed}");
        first["requests"].clone()
    };
    assert_eq!(row(Value::Null, json!("/posts/{id}")), 1);
    assert_eq!(row(json!("/a"), json!("/posts/{id}")), 2);
    assert_eq!(row(json!("/a"), Value::Null), 1);
    assert_eq!(row(json!("/a/b"), Value::Null), 1);
    assert_eq!(row(json!("/c"), json!("/x")), Value::Null, "nothing is asked there but on sockets");
    // Views of every API, and those of namespaces that share one once.
    let mut socket = Socket::open(&pogo);
    for name in ["/", "/a", "/c", "/d"] {
        socket.must(json!({"event": "pogo:connect", "namespace": name}));
        socket.must(json!({"event": "bind", "uri": "/posts/1", "namespace": name}));
    }
    assert_eq!(operator.metric("pogo_views"), 3.0);
    assert_eq!(operator.metric("pogo_bindings"), 4.0);
    // A reload goes on counting.
    pogo.reload(|options| options.namespaces[0].routes.truncate(1));
    pogo.get("/a/posts/1").message();
    assert_eq!(requests(&operator, "route=\"/posts/{id}\",namespace=\"/a\"", "2xx"), 3.0);
}
