//! Channels: who hears, who may, and what happens to who does not listen.

use pogo::channel::{Overflow, Rule, Who};
use serde_json::{Value, json};

use crate::harness::{Operator, Reply, Socket, in_plain_json, start_of_two};

fn subscribe(channel: &str) -> Value {
    json!({"event": "channel:subscribe", "channel": channel})
}

fn hello(channel: &str, data: Value) -> Value {
    json!({"event": "hello", "channel": channel, "data": data})
}

#[test]
fn every_other_subscriber_hears_on_whichever_worker() {
    let (_api, pogo) = start_of_two(|_| ());
    let mut sockets: Vec<_> = (0..24).map(|_| Socket::open(&pogo)).collect();
    let mut stranger = Socket::open(&pogo);
    for socket in &mut sockets {
        socket.must(subscribe("news"));
    }
    sockets[0].must(hello("news", json!([1, {"a": null}])));
    for socket in &mut sockets[1..] {
        assert_eq!(socket.event(), hello("news", json!([1, {"a": null}])));
        socket.assert_silent();
    }
    sockets[0].assert_silent();
    stranger.must(hello("news", json!("from outside")));
    for socket in &mut sockets {
        assert_eq!(socket.event(), hello("news", json!("from outside")));
    }
    stranger.assert_silent();
}

#[test]
fn an_event_is_passed_on_as_it_was_and_without_what_is_the_senders() {
    in_plain_json();
    let (_api, pogo) = start_of_two(|options| options.workers = 1);
    let mut sender = Socket::open(&pogo);
    let mut other = Socket::open(&pogo);
    other.must(subscribe("c"));
    let data = r#"{"z":9007199254740993,"a": 1.10,"é":"\u00e9"}"#;
    sender.send_text(&format!(
        r#"{{"id":7,"data":{data},"event":"update","channel":"c","version":"v","x":1}}"#
    ));
    other.event();
    let text = format!(r#"{{"event":"update","channel":"c","data":{data}}}"#);
    assert_eq!(other.texts.pop().unwrap(), text);
    sender.send_text(r#"{"event":"bare","channel":"c"}"#);
    sender.send_text(r#"{"event":"null","channel":"c","data":null}"#);
    assert_eq!(other.event(), json!({"event": "bare", "channel": "c"}));
    assert_eq!(other.event(), json!({"event": "null", "channel": "c", "data": null}));
}

#[test]
fn events_of_one_sender_keep_their_order_and_channels_do_not_mix() {
    let (_api, pogo) = start_of_two(|_| ());
    let mut sender = Socket::open(&pogo);
    let mut others: Vec<_> = (0..6).map(|_| Socket::open(&pogo)).collect();
    for socket in &mut others {
        socket.must(subscribe("a"));
    }
    for n in 0..100 {
        sender.send(&hello(if n % 2 == 0 { "a" } else { "b" }, json!(n)));
    }
    for socket in &mut others {
        for n in (0..100).step_by(2) {
            assert_eq!(socket.event(), hello("a", json!(n)));
        }
        socket.assert_silent();
    }
}

#[test]
fn who_unsubscribes_hears_no_more() {
    let (_api, pogo) = start_of_two(|_| ());
    let mut sender = Socket::open(&pogo);
    let mut socket = Socket::open(&pogo);
    for (join, leave) in
        [("channel:subscribe", "channel:unsubscribe"), ("pogo:subscribe", "pogo:unsubscribe")]
    {
        // Twice is once.
        for event in [join, join] {
            socket.must(json!({"event": event, "channel": "c"}));
        }
        sender.must(hello("c", json!(1)));
        assert_eq!(socket.event(), hello("c", json!(1)));
        socket.must(json!({"event": leave, "channel": "c"}));
        sender.must(hello("c", json!(2)));
        sender.assert_silent();
        socket.assert_silent();
        socket.must(json!({"event": leave, "channel": "c"}));
        for event in [join, leave] {
            assert_eq!(socket.error(json!({"event": event})), "bad_request");
        }
    }
}

#[test]
fn rules_say_who_may_subscribe_and_publish() {
    let rule = |pattern: &str, subscribe, publish| Rule {
        pattern: pattern.into(),
        subscribe,
        publish,
        ..Rule::open()
    };
    let (api, pogo) = start_of_two(|options| {
        options.channels = vec![
            rule("/news/internal", Who::Nobody, Who::Nobody),
            rule("/news/*", Who::Anyone, Who::Authenticated),
            rule("/staff/*", Who::Authenticated, Who::Authenticated),
            rule("/drop", Who::Nobody, Who::Anyone),
        ];
        options.auth.verify = Some("/verify".into());
    });
    api.on("GET /verify", |seen, _| {
        let good = seen.header("authorization") == Some("Bearer good");
        Some(Reply::empty(if good { 204 } else { 401 }))
    });
    let cases = [
        ("/news/internal", "forbidden", "forbidden", "forbidden", "forbidden"),
        ("/news/today", "ok", "unauthorized", "ok", "ok"),
        ("/staff/1", "unauthorized", "unauthorized", "ok", "ok"),
        ("/drop", "forbidden", "ok", "forbidden", "ok"),
        ("/dropped", "forbidden", "forbidden", "forbidden", "forbidden"),
        ("/NEWS/today", "forbidden", "forbidden", "forbidden", "forbidden"),
    ];
    let mut anyone = Socket::open(&pogo);
    let mut impostor = Socket::open_as(&pogo, "bad");
    let mut by_handshake = Socket::open_as(&pogo, "good");
    let mut by_auth = Socket::open(&pogo);
    by_auth.must(json!({"event": "auth", "data": {"token": "good"}}));
    let outcome = |socket: &mut Socket, request: Value| {
        let answer = socket.ask(request);
        answer["error"]["code"].as_str().unwrap_or("ok").to_owned()
    };
    for (channel, joins, speaks, member_joins, member_speaks) in cases {
        for socket in [&mut anyone, &mut impostor] {
            assert_eq!(outcome(socket, subscribe(channel)), joins, "{channel}");
            assert_eq!(outcome(socket, hello(channel, json!(1))), speaks, "{channel}");
        }
        for socket in [&mut by_auth, &mut by_handshake] {
            assert_eq!(outcome(socket, subscribe(channel)), member_joins, "{channel}");
            assert_eq!(outcome(socket, hello(channel, json!(1))), member_speaks, "{channel}");
        }
    }
}

#[test]
fn a_socket_is_on_so_many_channels_and_no_more() {
    let (_api, pogo) = start_of_two(|options| options.session.channels = 3);
    let mut socket = Socket::open(&pogo);
    let mut other = Socket::open(&pogo);
    for channel in ["a", "b", "c", "a"] {
        socket.must(subscribe(channel));
    }
    assert_eq!(socket.error(subscribe("d")), "limit_exceeded");
    other.must(hello("d", json!(1)));
    other.assert_silent();
    socket.assert_silent();
    socket.must(json!({"event": "channel:unsubscribe", "channel": "a"}));
    socket.must(subscribe("d"));
}

/// Reads until all that was sent has come or is told as lost; what came keeps its order.
fn received_and_lost(socket: &mut Socket, sent: u64) -> (u64, u64) {
    let (mut received, mut lost) = (0, 0);
    while received + lost < sent {
        let event = socket.event();
        if event["event"] == "channel:lost" {
            assert_eq!(event["channel"], "c");
            assert_eq!(event.as_object().unwrap().len(), 3, "{event}");
            lost += event["count"].as_u64().unwrap();
            continue;
        }
        let n = event["data"]["n"].as_u64().unwrap();
        // What is missing before it was told before it.
        assert_eq!(n, received + lost, "{event}");
        received += 1;
    }
    (received, lost)
}

#[test]
fn who_does_not_listen_is_told_how_much_was_lost() {
    let (_api, pogo) = start_of_two(|_| ());
    let mut deaf: Vec<_> = (0..4).map(|_| Socket::open(&pogo)).collect();
    for socket in &mut deaf {
        socket.listen_little();
        socket.must(subscribe("c"));
    }
    let mut sender = Socket::open(&pogo);
    let padding = "x".repeat(30_000);
    // More than the kernel holds of what Pogo writes.
    const SENT: u64 = 500;
    for n in 0..SENT {
        sender.send(&hello("c", json!({"n": n, "padding": padding})));
    }
    sender.must(json!({"event": "ping"}));
    for mut socket in deaf {
        let (received, lost) = received_and_lost(&mut socket, SENT);
        assert!(lost > 0 && received > 0, "{received} {lost}");
        assert_eq!(received + lost, SENT);
        socket.assert_silent();
    }
}

#[test]
fn who_is_slow_holds_nobody_up() {
    let (_api, pogo) = start_of_two(|options| options.workers = 1);
    let mut deaf = Socket::open(&pogo);
    let mut quick = Socket::open(&pogo);
    let mut sender = Socket::open(&pogo);
    deaf.listen_little();
    for socket in [&mut deaf, &mut quick] {
        socket.must(subscribe("c"));
    }
    let padding = "x".repeat(30_000);
    for n in 0..500 {
        sender.must(hello("c", json!({"n": n, "padding": padding})));
        assert_eq!(quick.event()["data"]["n"], n);
    }
    drop(deaf);
    quick.assert_silent();
}

#[test]
fn who_does_not_take_what_it_must_not_miss_is_closed_and_may_come_back() {
    let (_api, pogo) = start_of_two(|options| {
        options.channels = vec![Rule { overflow: Overflow::Close, ..Rule::open() }];
        Operator::admit(options);
    });
    let (operator, mut sender) = (Operator::of(&pogo), Socket::open(&pogo));
    let mut deaf = Socket::open(&pogo);
    deaf.listen_little();
    deaf.must(subscribe("c"));
    let padding = "x".repeat(30_000);
    while operator.metric("pogo_channel_events_lost_total") == 0.0 {
        sender.must(hello("c", json!(padding)));
    }
    let (code, reason) = deaf.close_frame();
    assert_eq!(code, 4503);
    let seconds = reason.strip_prefix("overloaded; retry_after=").expect("a time to come back");
    assert!((1..=10).contains(&seconds.parse::<u64>().unwrap()), "{reason}");
}
