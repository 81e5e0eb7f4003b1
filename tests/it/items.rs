//! A client that binds a collection with `items` is told what becomes of its members, one by one,
//! as a GET of each with its own credentials answers.

use std::collections::BTreeMap;
use std::time::Duration;

use pogo::route::{ItemData, Items, Push, Rule, Visibility};
use pogo::server::Options;
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Seen, Socket, in_every_format, start, start_of_two};

fn quick(options: &mut Options) {
    options.hub.min_interval = Duration::ZERO;
}

fn embedded(options: &mut Options) {
    quick(options);
    let items = Items { data: ItemData::Embedded, ..Items::default() };
    options.routes = vec![Rule { path: "/posts".into(), items, ..Rule::default() }];
}

fn bind(uri: &str) -> Value {
    json!({"event": "bind", "uri": uri, "items": true, "state": false, "version": null})
}

fn item(event: &str, uri: &str, item: &str, data: Value) -> Value {
    json!({"event": event, "uri": uri, "item": item, "data": data})
}

fn gone(uri: &str, item: &str) -> Value {
    json!({"event": "delete", "uri": uri, "item": item})
}

fn post(n: u64) -> Value {
    json!({"id": n, "title": format!("post {n}"), "text": "long"})
}

fn delete(pogo: &Pogo, path: &str) {
    assert_eq!(pogo.write("DELETE", path, &json!(null)), 204);
}

/// Has the collection show of each member only what `shows` leaves of it.
fn abridge(
    api: &Api,
    uri: &'static str,
    shows: impl Fn(&Seen, Value) -> Option<Value> + Send + 'static,
) {
    api.on(&format!("GET {uri}"), move |seen, usual| {
        if seen.target != uri {
            return usual;
        }
        let list: Vec<Value> = serde_json::from_str(&usual?.body).unwrap();
        let list: Vec<_> = list.into_iter().filter_map(|member| shows(seen, member)).collect();
        Some(Reply::new(200, &json!(list)))
    });
}

fn only_ids(_seen: &Seen, member: Value) -> Option<Value> {
    Some(json!({"id": member["id"]}))
}

#[test]
fn a_member_is_told_as_a_get_of_its_own_uri_answers() {
    in_every_format(|| {
        let (api, pogo) = start(quick);
        api.put("/posts/1", post(1));
        abridge(&api, "/posts", only_ids);
        let mut socket = Socket::open(&pogo);
        assert_eq!(socket.must(bind("/posts"))["data"], json!([{"id": 1}]));
        pogo.write("PUT", "/posts/2", &post(2));
        assert_eq!(socket.event(), item("create", "/posts", "/posts/2", post(2)));
        // Of this the collection shows nothing.
        pogo.write("PATCH", "/posts/1", &json!({"text": "longer"}));
        let longer = json!({"id": 1, "title": "post 1", "text": "longer"});
        assert_eq!(socket.event(), item("update", "/posts", "/posts/1", longer));
        delete(&pogo, "/posts/2");
        assert_eq!(socket.event(), gone("/posts", "/posts/2"));
        socket.see_through(&pogo);
        socket.assert_silent();
        assert_eq!(api.seen("GET /posts/").len(), 2, "one for each that was shown");
    });
}

#[test]
fn what_is_written_below_a_member_is_of_it_and_what_it_names_in_affects() {
    let (api, pogo) = start(|options| {
        quick(options);
        let affects = vec!["/posts/{id}".into(), "/posts".into()];
        let path = "/likes/{id}".into();
        options.routes = vec![Rule { path, affects, ..Rule::default() }];
    });
    api.put("/posts/1", post(1));
    abridge(&api, "/posts", only_ids);
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts"));
    for (number, path) in ["/posts/1/comments/4", "/likes/1", "/posts/%31/"].iter().enumerate() {
        let now = json!({"id": 1, "number": number});
        api.put("/posts/1", now.clone());
        pogo.write("PUT", path, &now);
        assert_eq!(socket.event(), item("update", "/posts", "/posts/1", now), "{path}");
    }
    // And a write that changes nothing that is shown tells nobody.
    pogo.write("PUT", "/likes/1", &json!({}));
    api.wait_gets("/posts/1", 4);
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn the_new_state_comes_first_unless_it_is_not_wanted() {
    let (api, pogo) = start(quick);
    api.put("/posts/1", post(1));
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "bind", "uri": "/%70osts", "items": true}));
    pogo.write("PUT", "/posts/2", &post(2));
    let state = json!({"event": "update", "uri": "/%70osts", "data": [post(1), post(2)]});
    assert_eq!(socket.event(), state);
    assert_eq!(socket.event(), item("create", "/%70osts", "/posts/2", post(2)));
    // Binding again is one binding, of the kind that was asked for last.
    socket.must(json!({"event": "bind", "uri": "/posts"}));
    delete(&pogo, "/posts/2");
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/%70osts", "data": [post(1)]}));
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn who_enters_or_leaves_a_query_is_created_or_deleted() {
    let (api, pogo) = start(quick);
    let uri = "/posts?author=3";
    abridge(&api, uri, |_, member| (member["author"] == 3).then_some(member));
    api.put("/posts/1", json!({"id": 1, "author": 3}));
    api.put("/posts/2", json!({"id": 2, "author": 4}));
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.must(bind(uri))["data"], json!([{"id": 1, "author": 3}]));
    pogo.write("PATCH", "/posts/2", &json!({"author": 3}));
    assert_eq!(socket.event(), item("create", uri, "/posts/2", json!({"id": 2, "author": 3})));
    pogo.write("PATCH", "/posts/1", &json!({"author": 5}));
    assert_eq!(socket.event(), gone(uri, "/posts/1"));
    // Not theirs.
    pogo.write("PATCH", "/posts/1", &json!({"text": "?"}));
    socket.see_through(&pogo);
    socket.assert_silent();
    assert_eq!(api.seen("GET /posts/1").len(), 0);
}

#[test]
fn each_client_is_told_of_what_it_sees_as_it_sees_it() {
    let (api, pogo) = start_of_two(quick);
    let sees = |seen: &Seen, member: &Value| {
        let you = seen.header("authorization").unwrap_or_default().to_owned();
        (you == "Bearer alice" || member["private"] != true).then_some(you)
    };
    abridge(&api, "/posts", move |seen, member| {
        sees(seen, &member).map(|_| json!({"id": member["id"]}))
    });
    api.on("GET /posts/", move |seen, usual| {
        let mut member: Value = serde_json::from_str(&usual?.body).unwrap();
        let you = sees(seen, &member);
        member["you"] = json!(you);
        Some(Reply::new(if you.is_some() { 200 } else { 404 }, &member))
    });
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open_as(&pogo, "alice")).collect();
    sockets.extend((0..4).map(|_| Socket::open_as(&pogo, "bob")));
    sockets.iter_mut().for_each(|socket| drop(socket.must(bind("/posts"))));
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "private": true}));
    let secret = json!({"id": 1, "private": true, "you": "Bearer alice"});
    for socket in &mut sockets[..4] {
        assert_eq!(socket.event(), item("create", "/posts", "/posts/1", secret.clone()));
    }
    pogo.write("PUT", "/posts/2", &json!({"id": 2}));
    for (number, socket) in sockets.iter_mut().enumerate() {
        let you = if number < 4 { "Bearer alice" } else { "Bearer bob" };
        let data = json!({"id": 2, "you": you});
        assert_eq!(socket.event(), item("create", "/posts", "/posts/2", data));
        assert!(number < 4 || !socket.texts.concat().contains("alice"));
    }
    assert_eq!(api.seen("GET /posts/1").len(), 1, "one for all that see the same");
    // Bob's collection may have been on its way, so that what it showed already was written then.
    assert!((2..4).contains(&api.seen("GET /posts/2").len()));
    pogo.write("PATCH", "/posts/2", &json!({"private": true}));
    for socket in &mut sockets[4..] {
        assert_eq!(socket.event(), gone("/posts", "/posts/2"));
    }
    sockets[4].see_through(&pogo);
    sockets[4..].iter_mut().for_each(Socket::assert_silent);
}

#[test]
fn members_that_are_embedded_are_not_asked_for_and_versions_bring_back_where_one_was() {
    let (api, pogo) = start(embedded);
    api.put("/posts/1", post(1));
    let mut socket = Socket::open(&pogo);
    let first = socket.must(bind("/posts"))["version"].clone();
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 2}));
    let event = socket.event();
    let second = event["version"].clone();
    assert_eq!(event["data"], json!({"id": 1, "n": 2}));
    assert_ne!(first, second);
    let (one, two) = (json!({"id": 1, "n": 3}), json!({"id": 2}));
    abridge(&api, "/posts", move |_, member| {
        (member["id"] != 3)
            .then(|| if member["id"] == 1 { json!({"id": 1, "n": 3}) } else { member })
    });
    pogo.write("PUT", "/posts/2", &two);
    let (event, last) = (socket.event(), socket.event());
    assert_eq!(event, item("update", "/posts", "/posts/1", one.clone()), "more is to follow");
    assert_eq!(last["version"], socket.must(bind("/posts"))["version"]);
    assert_eq!(api.seen("GET /posts/").len(), 0);
    let mut back = Socket::open(&pogo);
    let mut with = |version: &Value| {
        let mut message = bind("/posts");
        message["version"] = version.clone();
        back.must(message).get("data").cloned()
    };
    assert_eq!(with(&last["version"]), None);
    assert_eq!(with(&second), Some(json!([one, two])));
    back.assert_silent();
}

/// Of members that are fetched, a version of the collection does not say how they are.
#[test]
fn who_returns_to_members_that_are_fetched_is_shown_all() {
    let (api, pogo) = start(quick);
    api.put("/posts/1", post(1));
    abridge(&api, "/posts", only_ids);
    let mut first = Socket::open(&pogo);
    let mut message = bind("/posts");
    message["version"] = first.must(message.clone())["version"].clone();
    let mut second = Socket::open(&pogo);
    assert_eq!(second.must(message.clone())["data"], json!([{"id": 1}]));
    message["state"] = json!(true);
    assert_eq!(second.must(message)["data"], json!([{"id": 1}]));
}

/// The frames of the others, which share a view with these, are not theirs.
#[test]
fn what_is_told_of_members_in_a_namespace_says_so() {
    let a = pogo::session::namespaces::Options::new(pogo::namespace::Name::new("/a").unwrap());
    for change in [quick as fn(&mut Options), embedded] {
        let (_api, pogo) = start(|options| {
            change(options);
            options.namespaces = vec![a.clone()];
        });
        let mut plain = Socket::open(&pogo);
        plain.must(bind("/posts"));
        let mut socket = Socket::open(&pogo);
        socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
        let mut there = bind("/posts");
        there["namespace"] = json!("/a");
        socket.must(there);
        pogo.write("PUT", "/posts/1", &post(1));
        let (elsewhere, event) = (plain.event(), socket.event());
        assert_eq!((elsewhere.get("namespace"), &event["namespace"]), (None, &json!("/a")));
        for told in [elsewhere, event] {
            assert_eq!((&told["item"], &told["data"]), (&json!("/posts/1"), &post(1)));
        }
    }
}

#[test]
fn who_was_told_of_members_alone_is_shown_the_state_when_it_asks_for_states() {
    let (api, pogo) = start(embedded);
    api.put("/posts/1", post(1));
    let mut socket = Socket::open(&pogo);
    let mut first = bind("/posts");
    first["delta"] = json!(true);
    socket.must(first);
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 2}));
    let version = socket.event()["version"].clone();
    socket.must(json!({"event": "bind", "uri": "/posts"}));
    let state = json!([{"id": 1, "n": 2}]);
    let update = json!({"event": "update", "uri": "/posts", "data": state, "version": version});
    assert_eq!(socket.event(), update);
    socket.assert_silent();
}

/// What a client that folds all it is told holds.
fn fold(holds: &mut BTreeMap<String, Value>, event: &Value) {
    match (event["event"].as_str().unwrap(), event["item"].as_str()) {
        ("create" | "update", Some(item)) => {
            holds.insert(item.to_owned(), event["data"].clone());
        }
        ("delete", Some(item)) => {
            holds.remove(item);
        }
        ("update", None) => {
            let list = event["data"].as_array().unwrap().iter();
            *holds = list.map(|it| (format!("/posts/{}", it["id"]), it.clone())).collect();
        }
        _ => panic!("{event}"),
    }
}

#[test]
fn a_slow_client_is_told_the_last_of_each_member() {
    const WRITES: u64 = 60;
    let (api, pogo) = start(quick);
    abridge(&api, "/posts", only_ids);
    abridge(&api, "/posts?n", |_, member| Some(member["n"].clone()));
    let mut slow = Socket::open(&pogo);
    slow.listen_little();
    slow.must(bind("/posts"));
    let mut other = Socket::open(&pogo);
    other.bind("/posts?n");
    let text = "x".repeat(200 << 10);
    api.on("GET /posts/", move |_, usual| {
        let usual = usual?;
        let body = usual.body.replace("long", &text);
        Some(Reply { body, ..usual })
    });
    for n in 0..WRITES {
        let uri = format!("/posts/{}", n % 3);
        pogo.write("PUT", &uri, &json!({"id": n % 3, "n": n, "text": "long"}));
        while !other.event()["data"].as_array().unwrap().contains(&json!(n)) {}
        api.wait_seen("GET /posts/", n as usize + 1);
    }
    delete(&pogo, "/posts/1");
    while other.event()["data"] != json!([WRITES - 3, WRITES - 1]) {}
    other.see_through(&pogo);
    let mut holds = BTreeMap::new();
    let is_right = |holds: &BTreeMap<String, Value>| {
        holds.keys().eq(["/posts/0", "/posts/2"])
            && holds["/posts/0"]["n"] == WRITES - 3
            && holds["/posts/2"]["n"] == WRITES - 1
    };
    let mut events = 0;
    while !is_right(&holds) {
        fold(&mut holds, &slow.event());
        events += 1;
    }
    slow.assert_silent();
    assert!(events < WRITES - 9, "{events} events of {WRITES} writes");
}

#[test]
fn what_is_not_there_or_comes_to_be_no_collection_is_told_whole() {
    let (api, pogo) = start(quick);
    let uri = "/users/7/posts";
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.must(bind(uri))["data"], json!(null));
    pogo.write("PUT", "/users/7/posts/1", &post(1));
    let whole = |data: Value| json!({"event": "update", "uri": uri, "data": data});
    let next = |socket: &mut Socket| {
        let mut event = socket.event();
        let version = event.as_object_mut().unwrap().remove("version");
        assert!(matches!(version, Some(Value::String(version)) if !version.is_empty()));
        event
    };
    assert_eq!(next(&mut socket), whole(json!([post(1)])));
    pogo.write("PUT", "/users/7/posts/2", &post(2));
    assert_eq!(socket.event(), item("create", uri, "/users/7/posts/2", post(2)));
    api.on("GET /users/7/posts", |_, _| Some(Reply::new(200, &json!({"moved": true}))));
    pogo.write("PUT", "/users/7/posts/2", &post(3));
    assert_eq!(next(&mut socket), whole(json!({"moved": true})));
    api.be_normal();
    delete(&pogo, "/users/7/posts/2");
    assert_eq!(next(&mut socket), whole(json!([post(1)])));
    delete(&pogo, "/users/7/posts/1");
    assert_eq!(next(&mut socket), json!({"event": "delete", "uri": uri}));
    socket.assert_silent();
}

#[test]
fn what_has_no_members_is_not_bound_with_items() {
    let (api, pogo) = start(|options| {
        quick(options);
        let rule = |path: &str| Rule { path: path.into(), ..Rule::default() };
        options.routes = vec![Rule { push: Push::Notify, ..rule("/told") }];
    });
    api.put("/posts/1", post(1));
    api.on("GET /names", |_, _| Some(Reply::new(200, &json!(["a", "b"]))));
    let mut socket = Socket::open(&pogo);
    for uri in ["/posts/1", "/names", "/told"] {
        assert_eq!(socket.error(bind(uri)), "not_bindable", "{uri}");
        pogo.write("PUT", uri, &post(2));
    }
    socket.see_through(&pogo);
    socket.assert_silent();
    // Who is bound already stays so.
    socket.bind("/posts/1");
    assert_eq!(socket.error(bind("/posts/1")), "not_bindable");
    pogo.write("PUT", "/posts/1", &post(3));
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1", "data": post(3)}));
    for message in [
        json!({"event": "bind", "uri": "/posts", "state": false}),
        json!({"event": "bind", "uri": "/posts", "items": 1}),
        json!({"event": "bind", "uri": "/posts", "items": true, "state": "no"}),
    ] {
        assert_eq!(socket.error(message), "bad_request");
    }
    socket.must(json!({"event": "bind", "uri": "/posts/1", "items": false, "state": true}));
}

#[test]
fn a_member_that_cannot_be_shown_is_told_of_without_data() {
    let (api, pogo) = start(|options| {
        quick(options);
        let rule = |path: &str| Rule { path: path.into(), ..Rule::default() };
        options.routes = vec![
            Rule { push: Push::Notify, ..rule("/posts/4") },
            Rule { realtime: false, ..rule("/posts/5") },
        ];
    });
    api.on("GET /posts/1", |_, _| Some(Reply::new(403, &json!({"secret": 1}))));
    api.on("GET /posts/2", |_, usual| usual.map(|usual| usual.with("Vary", "X-Tenant")));
    api.on("GET /posts/3", |_, _| Some(Reply::new(503, &json!({})).with("Retry-After", "60")));
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.must(bind("/posts"));
    for n in 1..5 {
        let uri = format!("/posts/{n}");
        pogo.write("PUT", &uri, &post(n));
        assert_eq!(socket.event(), json!({"event": "create", "uri": "/posts", "item": uri}));
    }
    // Nor is one asked for of a path that is not realtime, of which no write is announced.
    api.put("/posts/5", post(5));
    pogo.write("PUT", "/posts/6", &post(6));
    let created = json!({"event": "create", "uri": "/posts", "item": "/posts/5"});
    assert_eq!(socket.until(&created).len() + api.seen("GET /posts/5").len(), 0);
    assert_eq!(socket.event(), item("create", "/posts", "/posts/6", post(6)));
}

#[test]
fn a_public_collection_shows_no_viewers_member_and_a_public_member_needs_no_credential() {
    let (api, pogo) = start(|options| {
        quick(options);
        let public = |path: &str| Rule {
            path: path.into(),
            visibility: Visibility::Public,
            ..Rule::default()
        };
        options.routes = vec![public("/posts"), public("/mine/{id}")];
    });
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.must(bind("/posts"));
    pogo.write("PUT", "/posts/1", &post(1));
    assert_eq!(socket.event(), json!({"event": "create", "uri": "/posts", "item": "/posts/1"}));
    assert_eq!(api.seen("GET /posts/").len(), 0);
    socket.must(bind("/mine"));
    pogo.write("PUT", "/mine/1", &post(1));
    assert_eq!(socket.event(), item("create", "/mine", "/mine/1", post(1)));
    assert_eq!(api.seen("GET /mine/1")[0].header("authorization"), None);
    assert_eq!(api.seen("GET /mine")[0].header("authorization"), Some("Bearer alice"));
}

#[test]
fn an_api_that_fails_is_asked_for_a_member_again() {
    let (api, pogo) = start(quick);
    let mut left = 2;
    api.on("GET /posts/1", move |_, usual| match left {
        0 => usual,
        _ => {
            left -= 1;
            Some(Reply::new(500, &json!({})))
        }
    });
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts"));
    pogo.write("PUT", "/posts/1", &post(1));
    assert_eq!(socket.event(), item("create", "/posts", "/posts/1", post(1)));
}

/// The answer that is on the way may be of before the write.
#[test]
fn a_member_that_is_written_while_it_is_asked_for_is_asked_for_again() {
    let (api, pogo) = start(quick);
    abridge(&api, "/posts", only_ids);
    api.put("/posts/1", post(1));
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts"));
    api.hold("GET /posts/1");
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 1}));
    api.wait_held();
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 2}));
    socket.see_through(&pogo);
    api.release();
    socket.until(&item("update", "/posts", "/posts/1", json!({"id": 1, "n": 2})));
    socket.assert_silent();
    assert_eq!(api.seen("GET /posts/1").len(), 2);
}

/// The collection that still has it is of before the delete, and is asked for again.
#[test]
fn a_member_that_is_deleted_while_it_is_asked_for_is_told_of_once() {
    let (api, pogo) = start(|options| options.hub.min_interval = Duration::from_millis(300));
    api.put("/posts/1", post(1));
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts"));
    api.hold_with("GET /posts/1", Reply::new(404, &json!({})));
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 1}));
    api.wait_held();
    delete(&pogo, "/posts/1");
    socket.assert_silent();
    // The member's answer comes before the collection, which has it no more, is asked for again.
    api.release();
    assert_eq!(socket.event(), gone("/posts", "/posts/1"));
    socket.see_through(&pogo);
    socket.assert_silent();
}

#[test]
fn another_credential_begins_with_the_whole_state() {
    let (api, pogo) = start(quick);
    abridge(&api, "/posts", only_ids);
    api.put("/posts/1", post(1));
    // The other's view is older than what this client is told before it changes over.
    let mut bob = Socket::open_as(&pogo, "bob");
    bob.must(bind("/posts"));
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.must(json!({"event": "bind", "uri": "/posts", "items": true, "state": false}));
    let now = json!({"id": 1, "n": 1});
    pogo.write("PUT", "/posts/1", &now);
    assert_eq!(socket.event(), item("update", "/posts", "/posts/1", now));
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    let whole = json!({"event": "update", "uri": "/posts", "data": [{"id": 1}]});
    assert_eq!(socket.event(), whole);
    pogo.write("PUT", "/posts/2", &post(2));
    assert_eq!(socket.event(), item("create", "/posts", "/posts/2", post(2)));
    let seen = api.seen("GET /posts/2").pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer bob"));
}

#[test]
fn other_rules_begin_with_the_whole_state() {
    let (api, mut pogo) = start_of_two(quick);
    api.put("/posts/1", json!({"id": 1, "key": "a"}));
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "bind", "uri": "/posts", "items": true, "state": false}));
    let rule = |items: Items| vec![Rule { path: "/posts".into(), items, ..Rule::default() }];
    let keyed = Items { id: "/key".into(), data: ItemData::Embedded, ..Items::default() };
    pogo.reload(|options| options.routes = rule(keyed));
    let whole = |data: Value| json!({"event": "update", "uri": "/posts", "data": data});
    assert_eq!(socket.event(), whole(json!([{"id": 1, "key": "a"}])));
    pogo.write("PUT", "/posts/2", &json!({"id": 2, "key": "b"}));
    assert_eq!(socket.event(), item("create", "/posts", "/posts/b", json!({"id": 2, "key": "b"})));
    assert_eq!(api.seen("GET /posts/").len(), 0);
    pogo.reload(|options| options.routes = rule(Items { id: "/no".into(), ..Items::default() }));
    pogo.write("PUT", "/posts/3", &json!({"id": 3, "key": "c"}));
    let whole = whole(json!([{"id": 1, "key": "a"}, {"id": 2, "key": "b"}, {"id": 3, "key": "c"}]));
    socket.until(&whole);
    socket.assert_silent();
}

#[test]
fn members_are_asked_for_as_long_as_somebody_is_told_of_them() {
    let (api, pogo) = start(quick);
    api.put("/posts/1", post(1));
    let mut other = Socket::open(&pogo);
    other.bind("/posts");
    let mut socket = Socket::open(&pogo);
    socket.must(bind("/posts"));
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 1}));
    assert_eq!(socket.event()["data"]["n"], 1);
    assert_eq!(other.event()["data"][0]["n"], 1);
    socket.must(json!({"event": "unbind", "uri": "/posts"}));
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 2}));
    assert_eq!(other.event()["data"][0]["n"], 2);
    other.see_through(&pogo);
    assert_eq!(api.seen("GET /posts/1").len(), 1);
    socket.must(bind("/posts"));
    pogo.write("PUT", "/posts/1", &json!({"id": 1, "n": 3}));
    assert_eq!(socket.event()["data"]["n"], 3);
}

#[test]
fn many_members_at_once_are_told_whole() {
    let (api, pogo) = start(quick);
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "bind", "uri": "/posts", "items": true, "state": false}));
    (0..200).for_each(|n| api.put(&format!("/posts/{n:03}"), post(n)));
    pogo.write("PUT", "/posts/000", &post(0));
    let whole = json!((0..200).map(post).collect::<Vec<_>>());
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts", "data": whole}));
    socket.see_through(&pogo);
    socket.assert_silent();
    assert_eq!(api.seen("GET /posts/").len(), 0);
}
