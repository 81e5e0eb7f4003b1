//! Clients that are told what changed, and hold what the others hold.

use std::time::Duration;

use pogo::protocol::Format;
use pogo::route::{Push, Rule};
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, start};

/// What a client holds of one URI, folded from what it was sent.
struct Folded {
    data: Value,
    version: Value,
    /// How many patches it was sent.
    patches: usize,
}

impl Folded {
    fn bind(socket: &mut Socket, uri: &str) -> Self {
        let answer = socket.must(json!({"event": "bind", "uri": uri, "delta": true}));
        let (data, version) = (answer["data"].clone(), answer["version"].clone());
        assert!(version.is_string() && answer.get("data").is_some(), "{answer}");
        Self { data, version, patches: 0 }
    }

    fn take(&mut self, event: &Value) {
        match event["event"].as_str() {
            Some("update") => self.data = event["data"].clone(),
            Some("patch") => {
                assert_eq!(event["from"], self.version, "{event}");
                assert_eq!(event.get("data"), None);
                let patch: json_patch::Patch =
                    serde_json::from_value(event["patch"].clone()).unwrap();
                json_patch::patch(&mut self.data, &patch).unwrap();
                self.patches += 1;
            }
            Some("delete") => self.data = Value::Null,
            _ => panic!("{event}"),
        }
        assert!(event["version"].is_string() && event["version"] != self.version, "{event}");
        self.version = event["version"].clone();
    }

    /// Reads what comes until the client holds `wanted`.
    fn until(&mut self, socket: &mut Socket, wanted: &Value) {
        while self.data != *wanted {
            self.take(&socket.event());
        }
    }
}

fn item(n: u64) -> Value {
    json!({"n": n, "text": "which is not said again if all that differs is a number".repeat(4)})
}

fn put(pogo: &Pogo, uri: &str, value: &Value) {
    assert_eq!(pogo.write("PUT", uri, value), 200);
}

#[test]
fn a_change_comes_as_what_changed_and_names_what_it_is_of() {
    let (api, pogo) = start(|options| options.workers = 2);
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    let answer =
        socket.must(json!({"event": "bind", "uri": "/posts/1", "version": null, "delta": true}));
    assert_eq!(answer["data"], item(1));
    put(&pogo, "/posts/1", &item(2));
    let event = socket.event();
    let operations = json!([{"op": "replace", "path": "/n", "value": 2}]);
    let version = event["version"].clone();
    assert_eq!(
        event,
        json!({"event": "patch", "uri": "/posts/1", "patch": operations, "from": answer["version"], "version": version})
    );
    put(&pogo, "/posts/1", &item(3));
    let event = socket.event();
    assert_eq!((&event["event"], &event["from"]), (&json!("patch"), &version));
    socket.assert_silent();
}

#[test]
fn a_delta_without_a_version_asks_for_one_and_names_follow_the_clients_spelling() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    let mut held = Folded::bind(&mut socket, "/%70osts/1");
    put(&pogo, "/posts/1", &item(2));
    let event = socket.event();
    assert_eq!((&event["event"], &event["uri"]), (&json!("patch"), &json!("/%70osts/1")));
    held.take(&event);
    assert_eq!(held.data, item(2));
}

#[test]
fn who_did_not_ask_for_deltas_or_asks_no_more_gets_states() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut delta = Socket::open(&pogo);
    let mut held = Folded::bind(&mut delta, "/posts/1");
    // For its sake the view goes on remembering.
    let mut stays = Socket::open(&pogo);
    Folded::bind(&mut stays, "/posts/1");
    let mut plain = Socket::open(&pogo);
    plain.bind("/posts/1");
    let mut versioned = Socket::open(&pogo);
    versioned.must(json!({"event": "bind", "uri": "/posts/1", "version": null, "delta": false}));
    put(&pogo, "/posts/1", &item(2));
    assert_eq!(plain.event(), json!({"event": "update", "uri": "/posts/1", "data": item(2)}));
    assert_eq!(versioned.event()["data"], item(2));
    held.until(&mut delta, &item(2));
    assert_eq!(held.patches, 1);
    // A bind that does not speak of deltas leaves them as they are.
    delta.must(json!({"event": "bind", "uri": "/posts/1"}));
    put(&pogo, "/posts/1", &item(3));
    held.until(&mut delta, &item(3));
    assert_eq!(held.patches, 2);
    delta.must(json!({"event": "bind", "uri": "/posts/1", "delta": false}));
    put(&pogo, "/posts/1", &item(4));
    held.until(&mut delta, &item(4));
    assert_eq!(held.patches, 2);
}

#[test]
fn the_whole_state_comes_where_it_takes_less_room() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!([1, 2, 3]));
    let mut socket = Socket::open(&pogo);
    let mut held = Folded::bind(&mut socket, "/posts/1");
    // A little change of a little state, then of one that is longer than the patch but not than
    // that and what it is of; much change of a large one; another kind of value.
    let large = |from: u64| json!((from..from + 400).collect::<Vec<_>>());
    let short = |n: u64| json!({"n": n, "text": "x".repeat(50)});
    let states =
        [json!([1, 2, 4]), short(1), short(2), large(0), large(7_000), json!("text"), json!(null)];
    for state in states {
        put(&pogo, "/posts/1", &state);
        let event = socket.event();
        assert_eq!((&event["event"], &event["data"]), (&json!("update"), &state));
        held.take(&event);
    }
    assert_eq!(held.patches, 0);
}

#[test]
fn what_is_gone_and_comes_back_comes_whole() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    let mut held = Folded::bind(&mut socket, "/posts/1");
    assert_eq!(pogo.write("DELETE", "/posts/1", &Value::Null), 204);
    let event = socket.event();
    assert_eq!(event["event"], "delete");
    held.take(&event);
    put(&pogo, "/posts/1", &item(1));
    let event = socket.event();
    assert_eq!((&event["event"], &event["data"]), (&json!("update"), &item(1)));
    held.take(&event);
    put(&pogo, "/posts/1", &item(2));
    held.until(&mut socket, &item(2));
    assert_eq!(held.patches, 1);
}

#[test]
fn a_route_that_shows_nothing_sends_no_patches() {
    let (api, pogo) = start(|options| {
        options.routes =
            vec![Rule { path: "/posts/{id}".into(), push: Push::Notify, ..Rule::default() }];
    });
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "bind", "uri": "/posts/1", "delta": true}));
    assert!(answer["version"].is_string() && answer.get("data").is_none(), "{answer}");
    put(&pogo, "/posts/1", &item(2));
    let event = socket.event();
    assert_eq!(
        (&event["event"], event.get("data"), event.get("patch")),
        (&json!("update"), None, None)
    );
}

#[test]
fn who_returns_is_answered_with_data_and_goes_on_with_patches() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut stays = Socket::open(&pogo);
    let mut leaves = Socket::open(&pogo);
    let mut held = Folded::bind(&mut stays, "/posts/1");
    let version = Folded::bind(&mut leaves, "/posts/1").version;
    drop(leaves);
    let again = json!({"event": "bind", "uri": "/posts/1", "version": version, "delta": true});
    let mut returns = Socket::open(&pogo);
    let answer = returns.must(again.clone());
    assert_eq!((&answer["version"], answer.get("data")), (&version, None));
    put(&pogo, "/posts/1", &item(2));
    held.until(&mut stays, &item(2));
    let event = returns.event();
    assert_eq!((&event["event"], &event["from"]), (&json!("patch"), &version));
    // The version is remembered, and the answer carries the state all the same.
    let mut late = Socket::open(&pogo);
    let answer = late.must(again);
    assert_eq!((&answer["data"], answer.get("patch")), (&item(2), None));
    put(&pogo, "/posts/1", &item(3));
    let event = late.event();
    assert_eq!((&event["event"], &event["from"]), (&json!("patch"), &answer["version"]));
}

#[test]
fn a_bind_that_gets_no_answer_is_brought_the_state_before_any_patch() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    // So far nothing was shown.
    socket.bind("/posts/1");
    socket.send(&json!({"event": "bind", "uri": "/posts/1", "delta": true}));
    let event = socket.event();
    assert_eq!((&event["event"], &event["data"]), (&json!("update"), &item(1)));
    put(&pogo, "/posts/1", &item(2));
    let next = socket.event();
    assert_eq!((&next["event"], &next["from"]), (&json!("patch"), &event["version"]));
}

#[test]
fn a_request_that_shows_another_state_makes_the_next_event_a_whole_one() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", item(1));
    let mut socket = Socket::open(&pogo);
    let mut held = Folded::bind(&mut socket, "/posts/1");
    // The client takes this for the latest, or does not: it is told which is.
    api.put("/posts/1", item(2));
    let answer = socket.must(json!({"event": "show", "uri": "/posts/1"}));
    assert_eq!(answer["data"], item(2));
    let event = socket.event();
    assert_eq!((&event["event"], &event["data"]), (&json!("update"), &item(2)));
    held.take(&event);
}

#[test]
fn another_credential_begins_with_the_whole_state_unless_it_sees_the_same() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |seen, reply| {
        let mut state: Value = serde_json::from_str(&reply?.body).unwrap();
        if seen.header("authorization") == Some("Bearer bob") {
            state["for"] = json!("bob");
        }
        // One tag for what two users see differently.
        let tag = format!("\"{}\"", state["n"]);
        Some(Reply::new(200, &state).with("ETag", &tag))
    });
    api.put("/posts/1", item(1));
    let mut socket = Socket::open_as(&pogo, "alice");
    let mut held = Folded::bind(&mut socket, "/posts/1");
    socket.must(json!({"event": "auth", "data": {"token": "carol"}}));
    // She has to have been shown what she holds before there is something else.
    api.wait_gets("/posts/1", 2);
    put(&pogo, "/posts/1", &item(2));
    let event = socket.event();
    assert_eq!(event["event"], "patch", "{event}");
    held.take(&event);
    assert_eq!(held.data, item(2));
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    let event = socket.event();
    assert_eq!((&event["event"], &event["data"]["for"]), (&json!("update"), &json!("bob")));
    put(&pogo, "/posts/1", &item(3));
    let event = socket.event();
    assert_eq!(event["patch"], json!([{"op": "replace", "path": "/n", "value": 3}]));
}

#[test]
fn all_formats_get_the_same_patch_and_no_number_is_lost() {
    let (api, pogo) = start(|options| options.workers = 2);
    let number = |n: &str| format!("{{\"huge\":{n},\"ballast\":\"{}\"}}", "x".repeat(200));
    let answering = |api: &Api, text: String| {
        api.on("GET /numbers", move |_, _| {
            Some(Reply { body: text.clone(), ..Reply::new(200, &Value::Null) })
        });
    };
    answering(&api, number("1"));
    let mut sockets: Vec<_> = (0..3)
        .flat_map(|_| Format::ALL.map(|format| Socket::open_in(&pogo, format, "somebody")))
        .map(|mut socket| (Folded::bind(&mut socket, "/numbers"), socket))
        .collect();
    for text in ["1.0", "-0.0", "18446744073709551615", "12345678901234567890123", "0.10", "1E2"] {
        answering(&api, number(text));
        put(&pogo, "/numbers", &json!(text));
        for (held, socket) in &mut sockets {
            socket.texts.clear();
            let event = socket.event();
            assert_eq!(event["event"], "patch", "{event}");
            if socket.format() == Format::Json {
                let said = format!(r#""patch":[{{"op":"replace","path":"/huge","value":{text}}}]"#);
                assert!(socket.texts[0].contains(&said), "{:?}", socket.texts);
            }
            held.take(&event);
            let exact: Value = serde_json::from_str(&number(text)).unwrap();
            assert_eq!(held.data, exact, "{:?} {text}", socket.format());
        }
    }
    // One fetch for each state.
    assert!(api.seen("GET /numbers").len() <= sockets.len() + 6 + 2);
}

/// The next event that is not of a channel.
fn event_of_a_binding(socket: &mut Socket) -> Value {
    loop {
        let event = socket.event();
        if event.get("channel").is_none() {
            return event;
        }
    }
}

/// A socket that reads nothing until it is behind by many states.
#[test]
fn a_slow_client_comes_to_the_latest_with_one_patch_of_what_it_holds() {
    for (history, event) in [(16, "patch"), (8, "update")] {
        let (api, pogo) = start(|options| {
            options.workers = 1;
            options.hub.min_interval = Duration::ZERO;
            options.hub.history = history;
        });
        api.put("/posts/1", item(0));
        let (mut slow, mut quick) = (Socket::open(&pogo), Socket::open(&pogo));
        slow.listen_little();
        slow.must(json!({"event": "channel:subscribe", "channel": "c"}));
        let mut held = Folded::bind(&mut slow, "/posts/1");
        let mut quicks = Folded::bind(&mut quick, "/posts/1");
        let padding = "x".repeat(60_000);
        for _ in 0..150 {
            quick.must(json!({"event": "hello", "channel": "c", "data": padding}));
        }
        for n in 1..=12 {
            api.put("/posts/1", item(n));
            quick.must(
                json!({"event": "update", "uri": "/posts/1/touched", "bind": false, "data": n}),
            );
            quicks.until(&mut quick, &item(n));
        }
        assert_eq!(quicks.patches, 12);
        let told = event_of_a_binding(&mut slow);
        assert_eq!(told["event"], event, "{told}");
        held.take(&told);
        assert_eq!(held.data, item(12));
        put(&pogo, "/posts/1", &item(13));
        held.take(&event_of_a_binding(&mut slow));
        assert_eq!(held.data, item(13));
    }
}

#[test]
fn a_version_that_is_not_remembered_any_more_leads_to_the_whole_state() {
    for (history, is_patch) in [(1, true), (0, false)] {
        let (api, mut pogo) = start(|options| options.hub.history = history);
        api.put("/posts/1", item(1));
        let mut socket = Socket::open(&pogo);
        let mut held = Folded::bind(&mut socket, "/posts/1");
        put(&pogo, "/posts/1", &item(2));
        held.until(&mut socket, &item(2));
        assert_eq!(held.patches == 1, is_patch);
        // Reloaded, the other way round.
        held.patches = 0;
        pogo.reload(|options| options.hub.history = 1 - history);
        put(&pogo, "/posts/1", &item(3));
        held.until(&mut socket, &item(3));
        assert_eq!(held.patches == 0, is_patch);
    }
}

#[test]
fn a_collection_is_told_what_came_first_and_what_went() {
    let (api, pogo) = start(|_| ());
    let post = |n: u64| json!({"id": n, "title": format!("title of {n}"), "text": "t".repeat(100)});
    (1..30).for_each(|n| api.put(&format!("/posts/{:03}", n), post(n)));
    let mut socket = Socket::open(&pogo);
    let mut held = Folded::bind(&mut socket, "/posts");
    put(&pogo, "/posts/000", &post(99));
    let event = socket.event();
    assert_eq!(event["patch"], json!([{"op": "add", "path": "/0", "value": post(99)}]));
    held.take(&event);
    assert_eq!(pogo.write("DELETE", "/posts/015", &Value::Null), 204);
    let event = socket.event();
    assert_eq!(event["patch"], json!([{"op": "remove", "path": "/15"}]));
    held.take(&event);
    let all = socket.must(json!({"event": "index", "uri": "/posts", "bind": false}));
    assert_eq!(held.data, all["data"]);
}

#[test]
fn only_true_and_false_are_deltas() {
    let (_api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    for delta in [json!(1), json!("true"), json!({})] {
        let bind = json!({"event": "bind", "uri": "/posts", "delta": delta});
        assert_eq!(socket.error(bind), "bad_request");
    }
    let answer = socket.must(json!({"event": "bind", "uri": "/posts", "delta": null}));
    assert_eq!(answer.get("version"), None);
}
