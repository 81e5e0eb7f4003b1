//! What channels keep, in namespaces: apart from each other, and one socket is one member.

use pogo::channel::{History, Rule, Who};
use pogo::namespace::Name;
use pogo::server::Options;
use pogo::session::namespaces;
use serde_json::{Value, json};

use crate::harness::{Reply, Socket, in_every_format, start_of_two};

fn with_lists(options: &mut Options) {
    let kept = Rule { presence: true, history: Some(History::default()), ..Rule::open() };
    let asked = Rule {
        pattern: "asked".into(),
        subscribe: Who::Ask,
        ask: Some("/may".into()),
        ..Rule::open()
    };
    let lists = Name::new("/lists").unwrap();
    options.namespaces = vec![namespaces::Options {
        channels: Some(vec![kept.clone(), asked]),
        ..namespaces::Options::new(lists)
    }];
    options.channels = vec![kept];
}

fn in_lists(mut message: Value) -> Value {
    message["namespace"] = json!("/lists");
    message
}

fn subscribe() -> Value {
    json!({"event": "channel:subscribe", "channel": "c", "presence": true, "since": null})
}

fn open(pogo: &crate::harness::Pogo) -> Socket {
    let mut socket = Socket::open(pogo);
    socket.must(json!({"event": "pogo:connect", "namespace": "/lists"}));
    socket
}

#[test]
fn a_channel_of_a_namespace_has_its_own_history_and_members() {
    in_every_format(|| {
        let (_api, pogo) = start_of_two(with_lists);
        let (mut one, mut two) = (open(&pogo), open(&pogo));
        let here = one.must(subscribe());
        let there = one.must(in_lists(subscribe()));
        assert_eq!(here["data"]["me"], there["data"]["me"]);
        assert_eq!((&here["count"], &there["count"]), (&json!(1), &json!(1)));
        two.must(in_lists(subscribe()));
        let came = one.event();
        assert_eq!((&came["namespace"], &came["count"]), (&json!("/lists"), &json!(2)));
        two.must(in_lists(json!({"event": "said", "channel": "c", "data": 1})));
        two.must(json!({"event": "said", "channel": "c", "data": 2}));
        let events = [one.event(), one.event()];
        let of = |name: Value| events.iter().find(|event| event["namespace"] == name).unwrap();
        assert_eq!(
            (&of(json!("/lists"))["data"], &of(Value::Null)["data"]),
            (&json!(1), &json!(2))
        );
        let mut late = open(&pogo);
        late.must(in_lists(json!({"event": "channel:subscribe", "channel": "c", "since": null})));
        let event = late.event();
        assert_eq!((&event["namespace"], &event["data"]), (&json!("/lists"), &json!(1)));
        late.assert_silent();
        assert_eq!(one.event()["event"], "channel:join");
        late.must(json!({"event": "pogo:disconnect", "namespace": "/lists"}));
        assert_eq!(one.event()["event"], "channel:leave");
        drop(two);
        let left = one.event();
        assert_eq!((&left["event"], &left["count"]), (&json!("channel:leave"), &json!(1)));
        one.assert_silent();
    });
}

#[test]
fn the_api_is_told_of_which_namespace_it_is_asked() {
    let (api, pogo) = start_of_two(with_lists);
    api.on("GET /may", |seen, _| {
        let is_good = seen.header("authorization") == Some("Bearer ann");
        Some(Reply::empty(if is_good { 204 } else { 403 }))
    });
    let mut socket = open(&pogo);
    let asked = in_lists(json!({"event": "channel:subscribe", "channel": "asked"}));
    assert_eq!(socket.error(asked.clone()), "forbidden");
    socket.must(json!({"event": "auth", "data": {"token": "ann"}}));
    socket.must(asked);
    // In its namespace, too, the session is judged by its other credential.
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    let left = json!({"event": "channel:unsubscribe", "channel": "asked", "reason": "forbidden"});
    assert_eq!(socket.event(), in_lists(left));
    let target = "/may?channel=asked&right=subscribe&namespace=%2Flists";
    assert!(api.seen("GET /may").iter().all(|seen| seen.target == target));
}

#[test]
fn other_rules_of_a_namespace_are_gone_by() {
    let (_api, mut pogo) = start_of_two(with_lists);
    let mut socket = open(&pogo);
    let offset = socket.must(in_lists(subscribe()))["offset"].clone();
    pogo.reload(|options| options.namespaces[0].channels = Some(vec![Rule::open()]));
    let who = in_lists(json!({"event": "channel:presence", "channel": "c"}));
    assert_eq!(socket.error(who.clone()), "bad_request");
    pogo.reload(with_lists);
    assert_eq!(socket.must(who)["count"], 1);
    let mut again = subscribe();
    again["since"] = offset;
    socket.must(in_lists(again));
    assert_eq!(socket.event(), in_lists(json!({"event": "channel:lost", "channel": "c"})));
}
