//! Namespaces: joined and left, apart from each other, and all of one socket's.

use pogo::channel::{self, Who};
use pogo::protocol::Format;
use pogo::route::Rule;
use pogo::server::Options;
use pogo::session::namespaces;
use serde_json::{Value, json};

use crate::harness::{
    Api, Nowhere, Pogo, Reply, Socket, apart, in_every_format, namespace, start, start_of_two,
};

fn with(names: &[&str]) -> impl FnOnce(&mut Options) + use<> {
    let namespaces: Vec<_> = names.iter().map(|name| namespace(name)).collect();
    move |options| options.namespaces = namespaces
}

fn connect(name: &str) -> Value {
    json!({"event": "pogo:connect", "namespace": name})
}

fn at(pogo: &Pogo, path: &str) -> Socket {
    Socket::try_open(pogo.address(), path, &[]).expect("the handshake succeeds")
}

#[test]
fn a_namespace_is_joined_before_it_is_spoken_in_and_can_be_left() {
    in_every_format(|| {
        let (api, pogo) = start(with(&["/a", "/b"]));
        api.put("/posts/1", json!(1));
        let mut socket = Socket::open(&pogo);
        let bind = json!({"event": "bind", "uri": "/posts/1", "namespace": "/a"});
        assert_eq!(socket.error(bind.clone()), "conflict");
        // Twice is once.
        for _ in 0..2 {
            let answer = socket.must(connect("/a"));
            assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        }
        let answer = socket.must(bind.clone());
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
        let update = json!({"event": "update", "uri": "/posts/1", "namespace": "/a", "data": 2});
        assert_eq!(socket.event(), update);
        for _ in 0..2 {
            socket.must(json!({"event": "pogo:disconnect", "namespace": "/a"}));
        }
        assert_eq!(socket.error(bind), "conflict");
        assert_eq!(pogo.write("PUT", "/posts/1", &json!(3)), 200);
        socket.see_through(&pogo);
        socket.assert_silent();
        // Nobody is bound any more, so nothing is fetched.
        api.wait_gets("/posts/1", 2);
        for event in ["pogo:connect", "pogo:disconnect", "bind", "hello"] {
            let message = json!({"event": event, "namespace": "/c", "uri": "/posts/1"});
            assert_eq!(socket.error(message), "not_found", "{event}");
        }
    });
}

#[test]
fn every_socket_is_in_the_default_namespace_and_cannot_leave_it() {
    let (_api, pogo) = start(with(&["/a"]));
    for mut socket in [Socket::open(&pogo), at(&pogo, "/a")] {
        socket.must(json!({"event": "bind", "uri": "/posts", "namespace": "/"}));
        socket.must(connect("/"));
        let leave = json!({"event": "pogo:disconnect", "namespace": "/"});
        assert_eq!(socket.error(leave), "bad_request");
        assert_eq!(pogo.write("POST", "/posts", &json!(1)), 201);
        let event = socket.event();
        assert_eq!((&event["event"], &event["namespace"]), (&json!("update"), &Value::Null));
    }
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "pogo:connect"}));
    assert_eq!(socket.error(json!({"event": "pogo:disconnect"})), "bad_request");
    assert_eq!(socket.error(json!({"event": "pogo:other"})), "unknown_event");
}

#[test]
fn a_socket_that_is_opened_at_a_namespace_is_in_it_at_once() {
    let (api, pogo) = start(|options| {
        with(&["/a", "/a/b"])(options);
        options.gateway.websocket_path = "/live".into();
    });
    api.put("/posts/1", json!(1));
    let mut socket = at(&pogo, "/live/a");
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    let update = json!({"event": "update", "uri": "/posts/1", "namespace": "/a", "data": 2});
    assert_eq!(socket.event(), update);
    assert_eq!(at(&pogo, "/live/a/b").error(json!({"event": "x"})), "unknown_event");
    // These are the API's, which does not speak WebSocket.
    for path in ["/a", "/live/", "/live/c", "/livea", "/live/a/"] {
        assert!(Socket::try_open(pogo.address(), path, &[]).is_err(), "{path}");
    }
    // It can be left as any other.
    socket.must(json!({"event": "pogo:disconnect"}));
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "conflict");
    socket.must(json!({"event": "ping"}));
    socket.must(json!({"event": "pogo:connect"}));
    socket.bind("/posts/1");
}

#[test]
fn one_uri_in_two_namespaces_is_one_view_and_two_bindings() {
    let (api, pogo) = start_of_two(with(&["/a"]));
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    let versions = [json!("/"), json!("/a")].map(|namespace| {
        let bind =
            json!({"event": "bind", "uri": "/posts/1", "version": null, "namespace": namespace});
        socket.must(bind)["version"].clone()
    });
    assert_eq!(versions[0], versions[1]);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    let mut events = [socket.event(), socket.event()];
    events.sort_by_key(|event| event["namespace"].as_str().map(str::to_owned));
    assert_eq!(events.each_ref().map(|event| &event["namespace"]), [&json!(null), &json!("/a")]);
    assert_eq!(events[0]["version"], events[1]["version"]);
    socket.must(json!({"event": "unbind", "uri": "/posts/1"}));
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(3)), 200);
    assert_eq!(socket.event()["namespace"], "/a");
    socket.see_through(&pogo);
    socket.assert_silent();
    // Two binds, two writes, each fetched once for both.
    api.wait_gets("/posts/1", 4);
}

#[test]
fn channels_of_different_namespaces_do_not_meet() {
    let (_api, pogo) = start_of_two(with(&["/a", "/a/b"]));
    let subscribe = |namespace: &str| json!({"event": "channel:subscribe", "channel": "c", "namespace": namespace});
    let hello = |namespace: &str| json!({"event": "hello", "channel": "c", "namespace": namespace, "data": namespace});
    let mut sockets: Vec<_> = (0..6).map(|_| Socket::open(&pogo)).collect();
    let spaces = ["/", "/a", "/a/b"];
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.must(connect("/a"));
        socket.must(connect("/a/b"));
        socket.must(subscribe(spaces[number / 2]));
    }
    let mut speaker = Socket::open(&pogo);
    speaker.must(connect("/a"));
    speaker.must(connect("/a/b"));
    for space in spaces {
        speaker.must(hello(space));
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let mut heard = hello(spaces[number / 2]);
        if number / 2 == 0 {
            heard.as_object_mut().unwrap().remove("namespace");
        }
        assert_eq!(socket.event(), heard);
        socket.assert_silent();
    }
    // Nobody can say the name that Pogo itself gives to such a channel.
    for channel in ["\0/a\0c", "\0"] {
        let mut message = subscribe("/");
        message["channel"] = json!(channel);
        assert_eq!(speaker.error(message), "bad_request");
    }
    // Leaving the namespace leaves its channels.
    sockets[2].must(json!({"event": "pogo:disconnect", "namespace": "/a"}));
    speaker.must(hello("/a"));
    assert_eq!(sockets[3].event(), hello("/a"));
    sockets[2].assert_silent();
}

#[test]
fn a_namespace_has_its_own_rules_for_channels_or_those_of_all() {
    let rule = |pattern: &str, who| channel::Rule {
        pattern: pattern.into(),
        subscribe: who,
        publish: Who::Anyone,
        ..channel::Rule::open()
    };
    let (_api, pogo) = start_of_two(|options| {
        options.channels = vec![rule("news", Who::Anyone), rule("staff", Who::Nobody)];
        let own = Some(vec![rule("st*", Who::Anyone)]);
        options.namespaces =
            vec![namespace("/a"), namespaces::Options { channels: own, ..namespace("/b") }];
    });
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    socket.must(connect("/b"));
    for (space, channel, outcome) in [
        ("/", "news", "ok"),
        ("/", "staff", "forbidden"),
        ("/a", "news", "ok"),
        ("/a", "staff", "forbidden"),
        ("/b", "news", "forbidden"),
        ("/b", "staff", "ok"),
    ] {
        let answer = socket
            .ask(json!({"event": "channel:subscribe", "channel": channel, "namespace": space}));
        let code = answer["error"]["code"].as_str().unwrap_or("ok");
        assert_eq!(code, outcome, "{space} {channel}");
    }
}

#[test]
fn what_a_socket_may_have_is_counted_over_all_its_namespaces() {
    let (api, pogo) = start(|options| {
        with(&["/a"])(options);
        options.session.bindings = 2;
        options.session.channels = 2;
        options.session.requests_in_flight = 2;
    });
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    socket.bind("/posts/1");
    socket.must(json!({"event": "bind", "uri": "/posts/1", "namespace": "/a"}));
    for space in ["/", "/a"] {
        let bind = json!({"event": "bind", "uri": "/posts/2", "namespace": space});
        assert_eq!(socket.error(bind), "limit_exceeded");
    }
    for (space, channel) in [("/", "c"), ("/a", "c")] {
        socket.must(json!({"event": "channel:subscribe", "channel": channel, "namespace": space}));
    }
    let third = json!({"event": "channel:subscribe", "channel": "d", "namespace": "/a"});
    assert_eq!(socket.error(third), "limit_exceeded");
    for space in ["/", "/a"] {
        api.hold("GET /slow");
        socket.send(&json!({"event": "show", "uri": "/slow/1", "namespace": space, "bind": false}));
    }
    let show = json!({"event": "show", "uri": "/slow/2", "namespace": "/a", "bind": false});
    assert_eq!(socket.error(show), "limit_exceeded");
    api.wait_seen("GET /slow", 2);
    api.release();
}

#[test]
fn a_rate_of_a_namespace_is_of_its_messages_alone() {
    let (_api, pogo) = start(|options| {
        let messages = Some("2/h".parse().unwrap());
        options.namespaces =
            vec![namespaces::Options { messages, ..namespace("/a") }, namespace("/b")];
    });
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    socket.must(connect("/b"));
    let hello = |space| json!({"event": "hello", "channel": "c", "namespace": space});
    socket.must(hello("/a"));
    socket.must(hello("/a"));
    let answer = socket.ask(hello("/a"));
    assert_eq!(answer["error"]["code"], "rate_limited", "{answer}");
    assert!(answer["error"]["retry_after"].as_u64().unwrap() > 1000, "{answer}");
    socket.must(hello("/b"));
    socket.must(hello("/"));
}

#[test]
fn a_credential_is_the_sockets_in_every_namespace() {
    let (api, pogo) = start_of_two(|options| {
        with(&["/a"])(options);
        options.auth.verify = Some("/verify".into());
        options.channels = vec![channel::Rule {
            pattern: "*".into(),
            subscribe: Who::Authenticated,
            publish: Who::Nobody,
            ..channel::Rule::open()
        }];
    });
    api.on("GET /verify", |seen, _| {
        let good = seen.header("authorization").is_some_and(|it| it.starts_with("Bearer good"));
        Some(Reply::empty(if good { 204 } else { 401 }))
    });
    api.on("GET /mine", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    let bind = json!({"event": "bind", "uri": "/mine/1", "version": null, "namespace": "/a"});
    assert_eq!(socket.must(bind)["data"], json!(null));
    let subscribe = json!({"event": "channel:subscribe", "channel": "c", "namespace": "/a"});
    assert_eq!(socket.error(subscribe.clone()), "unauthorized");
    // Wherever it is said.
    socket.must(json!({"event": "auth", "data": {"token": "good 1"}, "namespace": "/a"}));
    let event = socket.event();
    assert_eq!((&event["namespace"], &event["data"]), (&json!("/a"), &json!("Bearer good 1")));
    socket.must(subscribe.clone());
    socket.must(json!({"event": "auth", "data": {"token": "good 2"}}));
    assert_eq!(socket.event()["data"], "Bearer good 2");
}

#[test]
fn who_must_authenticate_joins_nothing_before() {
    let (api, pogo) = start(|options| {
        with(&["/a"])(options);
        options.auth.verify = Some("/verify".into());
        options.auth.required = true;
    });
    api.put("/verify", json!(1));
    let mut socket = at(&pogo, "/a");
    assert_eq!(socket.error(connect("/a")), "unauthorized");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "unauthorized");
    socket.must(json!({"event": "auth", "data": {"token": "good"}}));
    socket.bind("/posts/1");
}

#[test]
fn a_namespace_that_goes_ends_what_was_in_it_and_one_that_comes_is_there() {
    let (api, mut pogo) = start_of_two(with(&["/a", "/b"]));
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    for space in ["/a", "/b"] {
        socket.must(connect(space));
        socket.must(json!({"event": "bind", "uri": "/posts/1", "namespace": space}));
        socket.must(json!({"event": "channel:subscribe", "channel": "c", "namespace": space}));
    }
    pogo.reload(with(&["/b", "/c"]));
    for event in [
        json!({"event": "unbind", "uri": "/posts/1", "namespace": "/a", "reason": "forbidden"}),
        json!({"event": "channel:unsubscribe", "channel": "c", "namespace": "/a", "reason": "forbidden"}),
        json!({"event": "pogo:disconnect", "namespace": "/a", "reason": "forbidden"}),
    ] {
        assert_eq!(socket.event(), event);
    }
    assert_eq!(socket.error(connect("/a")), "not_found");
    socket.must(connect("/c"));
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    let update = json!({"event": "update", "uri": "/posts/1", "namespace": "/b", "data": 2});
    assert_eq!(socket.event(), update);
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn routes_and_rules_that_are_reloaded_hold_in_every_namespace() {
    let (_api, mut pogo) = start_of_two(with(&["/a"]));
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    socket.must(json!({"event": "bind", "uri": "/secret/1", "namespace": "/a"}));
    socket.must(json!({"event": "channel:subscribe", "channel": "c", "namespace": "/a"}));
    pogo.reload(|options| {
        options.routes =
            vec![Rule { path: "/secret/{id}".into(), realtime: false, ..Rule::default() }];
        options.channels.clear();
    });
    assert_eq!(
        socket.event(),
        json!({"event": "unbind", "uri": "/secret/1", "namespace": "/a", "reason": "forbidden"})
    );
    assert_eq!(socket.event()["event"], "channel:unsubscribe");
    let bind = json!({"event": "bind", "uri": "/secret/1", "namespace": "/a"});
    assert_eq!(socket.error(bind), "not_bindable");
    socket.assert_silent();
}

#[test]
fn a_request_that_is_under_way_is_answered_though_its_namespace_was_left_and_binds_nothing() {
    let (api, pogo) = start(with(&["/a"]));
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    socket.must(connect("/a"));
    api.hold("GET /posts/1");
    socket.send(&json!({"id": 100, "event": "show", "uri": "/posts/1", "namespace": "/a"}));
    api.wait_held();
    socket.must(json!({"event": "pogo:disconnect", "namespace": "/a"}));
    api.release();
    assert_eq!(socket.answer(100)["data"], 1);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    socket.see_through(&pogo);
    socket.assert_silent();
    // And a bind is refused.
    socket.must(connect("/a"));
    api.hold("GET /posts/1");
    socket.send(&json!({"id": 101, "event": "bind", "uri": "/posts/1", "namespace": "/a"}));
    api.wait_held();
    socket.must(json!({"event": "pogo:disconnect", "namespace": "/a"}));
    let refused = socket.event();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(101), &json!("conflict")));
    api.release();
    socket.assert_silent();
}

#[test]
fn stale_and_lost_are_told_with_their_namespace() {
    let (api, pogo) = start(|options| {
        with(&["/a"])(options);
        options.hub.stale_after = std::time::Duration::from_millis(20);
        options.hub.min_interval = std::time::Duration::from_millis(5);
    });
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open_in(&pogo, Format::MsgPackCompact, "ann");
    socket.must(connect("/a"));
    socket.must(json!({"event": "bind", "uri": "/posts/1", "namespace": "/a"}));
    api.on("GET /posts/1", |_, _| Some(Reply::empty(500)));
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    let stale = json!({"event": "stale", "uri": "/posts/1", "namespace": "/a"});
    assert_eq!(socket.event(), stale);
}

#[test]
fn a_namespace_with_an_api_of_its_own_has_views_of_its_own() {
    let other = Api::start();
    let (api, pogo) = start_of_two(|options| options.namespaces = vec![apart("/a", &other)]);
    api.put("/posts/1", json!("of all"));
    other.put("/posts/1", json!("of its own"));
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open_as(&pogo, "ann")).collect();
    for socket in &mut sockets {
        socket.must(connect("/a"));
        let bind = |space: &str| json!({"event": "bind", "uri": "/posts/1", "version": null, "namespace": space});
        assert_eq!(socket.must(bind("/"))["data"], "of all");
        assert_eq!(socket.must(bind("/a"))["data"], "of its own");
    }
    assert_eq!(other.seen("GET /posts/1")[0].header("authorization"), Some("Bearer ann"));
    // By plain HTTP it has the paths below its name.
    for (path, space, data) in [("/a/posts/1", json!("/a"), 2), ("/posts/1", Value::Null, 3)] {
        assert_eq!(pogo.write("PUT", path, &json!(data)), 200);
        for socket in &mut sockets {
            let event = socket.event();
            assert_eq!((&event["namespace"], &event["data"]), (&space, &json!(data)));
        }
    }
    let show = json!({"event": "show", "uri": "/posts/1", "namespace": "/a", "bind": false});
    assert_eq!(sockets[0].must(show)["data"], 2);
    let update = json!({"event": "update", "uri": "/posts/1", "namespace": "/a", "data": 4});
    sockets[0].must(update);
    for socket in &mut sockets {
        assert_eq!(socket.event()["data"], 4);
    }
    sockets[0].see_through(&pogo);
    for socket in &mut sockets {
        socket.assert_silent();
    }
    assert_eq!(api.seen("PUT /posts/1").len(), 1);
    assert!(api.seen("PUT /a").is_empty());
}

#[test]
fn plain_requests_below_its_name_go_to_its_api_without_the_name() {
    let (other, deeper) = (Api::start(), Api::start());
    let (api, pogo) = start(|options| {
        options.namespaces = vec![apart("/a", &other), apart("/a/b", &deeper), namespace("/c")];
    });
    for (path, api, target) in [
        ("/a/x?y=/a/z", &other, "/x?y=/a/z"),
        ("/a", &other, "/"),
        ("/a?q", &other, "/?q"),
        ("/a/", &other, "/"),
        ("/a/b/x", &deeper, "/x"),
        ("/a/bc", &other, "/bc"),
        ("/ab/1", &api, "/ab/1"),
        ("/A/1", &api, "/A/1"),
        ("/c/1", &api, "/c/1"),
    ] {
        let line = format!("GET {target}");
        let before = api.seen(&line).len();
        pogo.get(path).message();
        assert_eq!(api.seen(&line).len(), before + 1, "{path}");
    }
    // Where the API says that something is, its client finds it.
    let created =
        pogo.ask("POST /a/posts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1").message();
    assert_eq!(created.one("location").as_deref(), Some("/a/posts/1"));
    other.on("GET /moved", |_, _| Some(Reply::empty(302).with("Location", "//x/y")));
    assert_eq!(pogo.get("/a/moved").message().one("location").as_deref(), Some("//x/y"));
}

#[test]
fn the_routes_and_hooks_of_a_namespace_are_of_its_api() {
    let other = Api::start();
    let (api, pogo) = start(|options| {
        let routes = vec![Rule { path: "/secret/{id}".into(), realtime: false, ..Rule::default() }];
        let act = pogo::handlers::Act::Forward("/hook".into());
        let handlers = vec![pogo::handlers::Rule { event: "track".into(), act }];
        options.namespaces = vec![namespaces::Options { routes, handlers, ..apart("/a", &other) }];
        options.routes = vec![Rule { path: "/b/{id}".into(), realtime: false, ..Rule::default() }];
    });
    let mut socket = at(&pogo, "/a");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/secret/1"})), "not_bindable");
    socket.bind("/b/1");
    assert_eq!(
        socket.error(json!({"event": "bind", "uri": "/b/1", "namespace": "/"})),
        "not_bindable"
    );
    socket.must(json!({"event": "bind", "uri": "/secret/1", "namespace": "/"}));
    socket.must(json!({"event": "track"}));
    assert_eq!((other.seen("POST /hook").len(), api.seen("POST").len()), (1, 0));
}

#[test]
fn who_is_in_a_namespace_that_gets_another_api_has_to_join_it_again() {
    let (old, new) = (Api::start(), Api::start());
    old.put("/posts/1", json!(1));
    new.put("/posts/1", json!(2));
    let (_api, mut pogo) = start_of_two(|options| options.namespaces = vec![apart("/a", &old)]);
    let mut socket = at(&pogo, "/a");
    socket.bind("/posts/1");
    // What stays keeps its bindings.
    pogo.reload(|options| options.namespaces.push(namespace("/b")));
    pogo.reload(|options| options.namespaces[0] = apart("/a", &new));
    assert_eq!(socket.event()["event"], "unbind");
    assert_eq!(socket.event()["event"], "pogo:disconnect");
    socket.must(connect("/a"));
    let bind = json!({"event": "bind", "uri": "/posts/1", "version": null});
    assert_eq!(socket.must(bind)["data"], 2);
    assert_eq!(pogo.write("PUT", "/a/posts/1", &json!(3)), 200);
    assert_eq!(socket.event()["data"], 3);
    assert!(old.seen("PUT").is_empty());
    pogo.reload(|options| options.namespaces.clear());
    assert_eq!(socket.event()["event"], "unbind");
    assert_eq!(socket.event()["event"], "pogo:disconnect");
    // The name is the first API's now.
    assert_eq!(pogo.write("PUT", "/a/posts/1", &json!(4)), 200);
    assert!(new.seen("PUT /posts/1").len() == 1);
}

#[test]
fn an_api_of_a_namespace_that_is_down_is_no_matter_of_others() {
    let nowhere = Nowhere::new();
    let (api, pogo) = start(|options| {
        let origin = nowhere.address().to_string().parse().unwrap();
        let upstream = Some(pogo::upstream::Options { origin, ..Default::default() });
        options.namespaces = vec![namespaces::Options { upstream, ..namespace("/a") }];
    });
    api.put("/posts/1", json!(1));
    let mut socket = at(&pogo, "/a");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "upstream_error");
    socket.must(json!({"event": "bind", "uri": "/posts/1", "namespace": "/"}));
    assert_eq!(pogo.get("/a/posts/1").message().status(), 502);
    assert_eq!(pogo.get("/posts/1").message().status(), 200);
}

#[test]
fn a_namespace_is_there_once_and_the_default_one_has_handlers_alone() {
    let (_api, mut pogo) = start(|_| ());
    for names in [&["/a", "/a"][..], &["/"]] {
        let refused = pogo.try_reload(|options| {
            with(names)(options);
            if names.len() == 1 {
                options.namespaces[0].channels = Some(Vec::new());
            }
        });
        assert!(refused.is_err(), "{names:?}");
    }
}

#[test]
fn what_a_bind_asks_for_holds_in_a_namespace_too() {
    let (api, pogo) = start(with(&["/a"]));
    let post = |n: u64| json!({"n": n, "text": "x".repeat(500)});
    api.put("/posts/1", post(1));
    let mut plain = Socket::open(&pogo);
    plain.must(json!({"event": "bind", "uri": "/posts/1", "version": null, "delta": true}));
    let mut socket = at(&pogo, "/a");
    socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null, "delta": true}));
    assert_eq!(pogo.write("PUT", "/posts/1", &post(2)), 200);
    for (socket, namespace) in [(&mut socket, json!("/a")), (&mut plain, Value::Null)] {
        let event = socket.event();
        assert_eq!((&event["event"], &event["namespace"]), (&json!("patch"), &namespace));
    }
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/1", "ttl": 1}));
    assert!(answer["expires"].is_u64(), "{answer}");
    let over = json!({"event": "unbind", "uri": "/posts/1", "namespace": "/a", "reason": "ttl"});
    assert_eq!(socket.event(), over);
    plain.assert_silent();
}

#[test]
fn a_socket_that_closes_leaves_what_it_had_in_every_namespace() {
    let (api, pogo) = start(with(&["/a"]));
    api.put("/posts/1", json!(1));
    let (mut socket, mut other) = (at(&pogo, "/a"), Socket::open(&pogo));
    socket.bind("/posts/1");
    socket.close();
    assert_eq!(socket.closed().0, 1000);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    other.see_through(&pogo);
    api.wait_gets("/posts/1", 1);
}
