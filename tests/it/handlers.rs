//! Handlers: who answers the events that are nobody else's.

use std::time::Duration;

use pogo::handlers::{Act, MOST_POSTS, Rule};
use pogo::namespace::Name;
use pogo::server::Options;
use pogo::session::namespaces;
use serde_json::{Value, json};

use crate::harness::{Api, Nowhere, Pogo, Reply, Socket, in_every_format, start, start_of_two};

fn forward(event: &str, path: &str) -> Rule {
    Rule { event: event.into(), act: Act::Forward(path.into()) }
}

fn post(event: &str, url: String, credentials: bool) -> Rule {
    Rule { event: event.into(), act: Act::Post { url, credentials } }
}

fn namespace(name: &str, handlers: Vec<Rule>) -> namespaces::Options {
    namespaces::Options { handlers, ..namespaces::Options::new(Name::new(name).unwrap()) }
}

fn with(handlers: Vec<Rule>) -> impl FnOnce(&mut Options) {
    move |options| options.namespaces = vec![namespace("/", handlers)]
}

fn track(data: Value) -> Value {
    json!({"event": "track", "data": data})
}

#[test]
fn an_event_is_posted_to_the_api_and_its_reply_is_the_answer() {
    in_every_format(|| {
        let (api, pogo) = start(with(vec![forward("track", "/hooks/track?x=1")]));
        api.on("POST /hooks/track", |seen, _| {
            Some(Reply::new(200, &json!({"got": seen.body, "by": seen.header("authorization")})))
        });
        let mut socket = Socket::open_as(&pogo, "ann");
        let answer = socket.must(track(json!({"page": "/"})));
        assert_eq!(answer["data"], json!({"got": {"page": "/"}, "by": "Bearer ann"}));
        assert_eq!(answer.as_object().unwrap().len(), 3, "{answer}");
        let seen = api.seen("POST /hooks/track?x=1").remove(0);
        for (name, value) in [
            ("pogo-event", "track"),
            ("pogo-namespace", "/"),
            ("pogo-id", "1"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
        // Without `data` it is null, without an `id` nothing is answered.
        socket.send(&json!({"event": "track"}));
        let seen = api.wait_seen("POST /hooks/track", 2).remove(1);
        assert_eq!((&seen.body, seen.header("content-length")), (&Value::Null, Some("4")));
        socket.assert_silent();
        for event in ["tracks", "other"] {
            assert_eq!(socket.error(json!({"event": event})), "unknown_event");
        }
    });
}

#[test]
fn what_the_api_says_against_it_is_an_error_as_for_any_request() {
    let (api, pogo) = start(with(vec![forward("track", "/hooks/track")]));
    let mut socket = Socket::open(&pogo);
    for (status, code) in [
        (400, "bad_request"),
        (401, "unauthorized"),
        (404, "not_found"),
        (302, "upstream_error"),
        (422, "unprocessable"),
        (500, "upstream_error"),
    ] {
        api.on("POST /hooks/track", move |_, _| Some(Reply::new(status, &json!({"s": status}))));
        let answer = socket.ask(track(json!(1)));
        assert_eq!(answer["error"]["code"], code, "{status}: {answer}");
        assert_eq!(answer["error"]["data"], json!({"s": status}));
    }
    api.on("POST /hooks/track", |_, _| {
        Some(Reply::empty(200).with("Content-Type", "image/png"))
            .map(|reply| Reply { body: "x".into(), ..reply })
    });
    assert_eq!(socket.error(track(json!(1))), "upstream_error");
    api.on("POST /hooks/track", |_, _| Some(Reply::empty(204)));
    let answer = socket.must(track(json!(1)));
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
}

#[test]
fn what_a_hook_changes_is_announced_as_of_any_write() {
    let (api, pogo) = start_of_two(with(vec![forward("like", "/posts/1/likes")]));
    api.put("/posts/1", json!(0));
    let writer = api.clone();
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    api.on("POST /posts/1/likes", move |_, _| None.or(Some(Reply::empty(204))));
    writer.put("/posts/1", json!(1));
    socket.must(json!({"event": "like"}));
    assert_eq!(socket.event()["data"], 1);
}

#[test]
fn namespaces_have_handlers_of_their_own() {
    let (api, pogo) = start_of_two(|options| {
        options.namespaces = vec![
            namespace("/", vec![forward("track", "/hooks/0")]),
            namespace("/a", vec![forward("track", "/hooks/a")]),
            namespace("/b", vec![]),
        ];
    });
    let mut socket = Socket::open(&pogo);
    for space in ["/a", "/b"] {
        socket.must(json!({"event": "pogo:connect", "namespace": space}));
    }
    socket.must(track(json!(1)));
    socket.must(json!({"event": "track", "namespace": "/a"}));
    let other = json!({"event": "track", "namespace": "/b"});
    assert_eq!(socket.error(other), "unknown_event");
    assert_eq!((api.seen("POST /hooks/0").len(), api.seen("POST /hooks/a").len()), (1, 1));
    assert_eq!(api.seen("POST /hooks/a")[0].header("pogo-namespace"), Some("/a"));
    // A channel's event is the channel's.
    socket.must(json!({"event": "track", "channel": "c"}));
    assert_eq!(api.seen("POST").len(), 2);
}

#[test]
fn events_of_one_name_are_handled_one_after_the_other_and_count_as_requests() {
    let handlers = vec![forward("a", "/hooks/a"), forward("b", "/hooks/b")];
    let (api, pogo) = start(|options| {
        with(handlers)(options);
        options.session.requests_in_flight = 3;
    });
    let mut socket = Socket::open(&pogo);
    api.hold("POST /hooks/a");
    for id in [101, 102] {
        socket.send(&json!({"id": id, "event": "a", "data": id}));
    }
    api.wait_held();
    socket.must(json!({"event": "b"}));
    socket.send(&json!({"id": 103, "event": "a", "data": 103}));
    assert_eq!(socket.error(json!({"event": "b"})), "limit_exceeded");
    assert_eq!(api.seen("POST /hooks/a").len(), 1);
    api.release();
    for id in [101, 102, 103] {
        assert_eq!(socket.answer(id)["status"], "ok");
    }
    let order: Vec<_> = api.seen("POST /hooks/a").into_iter().map(|seen| seen.body).collect();
    assert_eq!(order, [json!(101), json!(102), json!(103)]);
    socket.must(json!({"event": "b"}));
}

#[test]
fn another_service_answers_and_is_given_credentials_only_if_it_is_said() {
    let service = Api::start();
    let url = |path: &str| format!("http://{}{path}", service.address());
    let handlers = vec![
        post("with", url("/with"), true),
        post("without", url("/without"), false),
        post("moved", url("/moved"), false),
        post("large", url("/large"), false),
    ];
    let (api, pogo) = start(|options| {
        with(handlers)(options);
        options.hub.body_bytes = 1000;
    });
    service.on("POST /moved", |_, _| Some(Reply::empty(307).with("Location", "/without")));
    service.on("POST /large", |_, _| Some(Reply::new(200, &json!("x".repeat(1000)))));
    let mut socket =
        Socket::open_with(&pogo, &[("authorization", "Bearer ann"), ("cookie", "a=b")]);
    for event in ["with", "without"] {
        let answer = socket.must(json!({"event": event, "data": [event]}));
        assert_eq!(answer["data"], json!([event]));
    }
    let seen = service.seen("POST /with").remove(0);
    assert_eq!(seen.header("pogo-event"), Some("with"));
    let with = |name| seen.header(name).map(str::to_owned);
    assert_eq!(
        (with("authorization"), with("cookie")),
        (Some("Bearer ann".into()), Some("a=b".into()))
    );
    let seen = service.seen("POST /without").remove(0);
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (None, None));
    // Its redirects are not followed.
    assert_eq!(socket.error(json!({"event": "moved"})), "upstream_error");
    assert_eq!(service.seen("POST /without").len(), 1);
    assert_eq!(socket.error(json!({"event": "large"})), "upstream_error");
    assert!(api.seen("POST").is_empty());
}

#[test]
fn so_many_events_ask_other_services_at_one_time_and_no_more() {
    let service = Api::start();
    let url = format!("http://{}/slow", service.address());
    let event = |number: usize| format!("e{number}");
    let (_api, pogo) = start(|options| {
        with((0..=MOST_POSTS).map(|number| post(&event(number), url.clone(), false)).collect())(
            options,
        );
        options.session.requests_in_flight = MOST_POSTS + 1;
    });
    (0..MOST_POSTS).for_each(|_| service.hold("POST /slow"));
    let mut socket = Socket::open(&pogo);
    for number in 0..MOST_POSTS {
        socket.send(&json!({"id": number, "event": event(number)}));
    }
    service.wait_seen("POST /slow", MOST_POSTS);
    assert_eq!(socket.error(json!({"event": event(MOST_POSTS)})), "unavailable");
    service.release();
    for _ in 0..MOST_POSTS {
        assert_eq!(socket.receive()["status"], "ok");
    }
    socket.must(json!({"event": event(MOST_POSTS)}));
}

#[test]
fn a_handler_that_cannot_be_asked_or_takes_too_long_is_an_error_and_the_socket_goes_on() {
    let nowhere = Nowhere::new();
    let silent = Api::start();
    silent.hold("POST /");
    let handlers = vec![
        post("nobody", format!("http://{}/", nowhere.address()), false),
        post("silent", format!("http://{}/", silent.address()), false),
        forward("slow", "/slow"),
    ];
    let (api, pogo) = start(|options| {
        with(handlers)(options);
        options.upstream.response_timeout = Duration::from_millis(50);
    });
    api.hold("POST /slow");
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.error(json!({"event": "nobody"})), "upstream_error");
    assert_eq!(socket.error(json!({"event": "silent"})), "upstream_timeout");
    assert_eq!(silent.seen("POST /").len(), 1, "it is not asked again");
    assert_eq!(socket.error(json!({"event": "slow"})), "upstream_timeout");
    socket.must(json!({"event": "ping"}));
    let down = Pogo::at(&nowhere.address().to_string(), with(vec![forward("a", "/a")]));
    assert_eq!(Socket::open(&down).error(json!({"event": "a"})), "upstream_error");
    api.release();
    silent.release();
}

#[test]
fn a_drain_waits_for_the_answer_of_a_handler() {
    let (api, mut pogo) = start(|options| {
        options.namespaces = vec![namespace("/a", vec![forward("track", "/hooks/track")])];
    });
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
    api.hold("POST /hooks/track");
    socket.send(&json!({"id": 100, "event": "track", "namespace": "/a", "data": 7}));
    // Even in a namespace that was left meanwhile.
    api.wait_held();
    socket.must(json!({"event": "pogo:disconnect", "namespace": "/a"}));
    let mut other = Socket::open(&pogo);
    let drained = pogo.drain();
    // It is told to leave at once: the drain has begun.
    assert_eq!(other.closed().0, 1001);
    api.release();
    assert_eq!(socket.answer(100)["data"], 7);
    assert_eq!(socket.closed().0, 1001);
    drained.join().unwrap().unwrap();
}

#[test]
fn handlers_are_reloaded() {
    let (api, mut pogo) = start_of_two(with(vec![forward("a", "/old")]));
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "a"}));
    pogo.reload(with(vec![forward("b", "/new")]));
    assert_eq!(socket.error(json!({"event": "a"})), "unknown_event");
    socket.must(json!({"event": "b"}));
    assert_eq!((api.seen("POST /old").len(), api.seen("POST /new").len()), (1, 1));
    // What is not good changes nothing.
    let bad = pogo.try_reload(with(vec![forward("bind", "/x")])).unwrap_err().to_string();
    assert!(bad.contains("namespace /, handler 1"), "{bad}");
    socket.must(json!({"event": "b"}));
}

#[test]
fn binary_has_no_form_in_what_a_handler_is_sent() {
    let (api, pogo) = start(with(vec![forward("track", "/hooks/track")]));
    let mut socket = Socket::open_in(&pogo, pogo::protocol::Format::MsgPack, "ann");
    let message = b"\x83\xa2id\x01\xa5event\xa5track\xa4data\xc4\x01\xff";
    socket.send_raw(tokio_tungstenite::tungstenite::Message::binary(&message[..]));
    assert_eq!(socket.answer(1)["error"]["code"], "bad_request");
    assert!(api.seen("POST").is_empty());
}
