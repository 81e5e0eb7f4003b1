//! What `docs/protocol.md` says of channels, of refused messages and of closed sockets.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, Pogo, Socket, in_plain_json};

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.workers = 2);
    (api, pogo)
}

#[test]
fn an_event_on_a_channel_reaches_the_others_and_not_its_sender() {
    let (_api, pogo) = start();
    let [mut one, mut two, mut three] = [(); 3].map(|()| Socket::open(&pogo));
    let channel = "/courses/23423423";
    one.must(json!({"event": "channel:subscribe", "channel": channel}));
    two.must(json!({"event": "pogo:subscribe", "channel": channel}));
    let event = json!({"event": "someEvent", "channel": channel, "data": {"test": ""}});
    one.must(event.clone());
    assert_eq!(two.event(), event);
    one.assert_silent();
    // Who publishes need not subscribe.
    three.send(&event);
    assert_eq!([one.event(), two.event()], [event.clone(), event.clone()]);
    three.assert_silent();
    two.must(json!({"event": "pogo:unsubscribe", "channel": channel}));
    three.must(event.clone());
    assert_eq!(one.event(), event);
    two.assert_silent();
}

#[test]
fn options_of_later_releases_are_refused_or_harmless() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let bind = |option: &str| json!({"event": "bind", "uri": "/posts/1", option: true});
    assert_eq!(socket.error(bind("ttl")), "bad_request");
    socket.must(bind("delta"));
    let elsewhere = json!({"event": "bind", "uri": "/posts/1", "namespace": "/analytics"});
    assert_eq!(socket.error(elsewhere), "not_found");
}

#[test]
fn one_binding_too_many_is_refused() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.session.bindings = 1);
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts");
    socket.bind("/posts");
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/users"})), "limit_exceeded");
    socket.must(json!({"event": "unbind", "uri": "/posts"}));
    socket.bind("/users");
}

#[test]
fn a_socket_that_breaks_the_rules_is_closed_with_a_code_that_says_which() {
    in_plain_json();
    let (_api, pogo) = start();
    let closed = |messages: &[Message]| {
        let mut socket = Socket::open(&pogo);
        for message in messages {
            socket.send_raw(message.clone());
        }
        socket.closed().0
    };
    assert_eq!(closed(&[Message::binary(vec![0])]), 1003);
    assert_eq!(closed(&[Message::text("x".repeat(64 * 1024 + 1))]), 1009);
    assert_eq!(closed(&vec![Message::text("[]"); 64]), 4400);
}

#[test]
fn a_page_of_another_site_opens_no_socket() {
    let (_api, pogo) = start();
    let open = |origin: &str| Socket::try_open(pogo.address(), "/", &[("origin", origin)]).err();
    assert_eq!(open("http://elsewhere.example"), Some(403));
    assert_eq!(open(&format!("http://{}", pogo.address())), None);
}

#[test]
fn a_session_that_must_authenticate_may_do_nothing_else_before() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.auth.required = true;
        options.auth.verify = Some("/me".into());
    });
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "ping"}));
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts"})), "unauthorized");
    let publish = json!({"event": "someEvent", "channel": "/courses/1"});
    assert_eq!(socket.error(publish), "unauthorized");
}
