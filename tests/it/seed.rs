//! The tables that Pogo began with, word for word.

use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, in_every_format};

fn start() -> (Api, Pogo, Socket) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.workers = 2);
    api.put("/posts/1234", json!({"title": "First", "body": "…"}));
    let socket = Socket::open(&pogo);
    (api, pogo, socket)
}

/// Sends the words as they stand; the answer is exactly this.
fn says(socket: &mut Socket, request: &str, response: &Value) {
    socket.send_text(request);
    assert_eq!(socket.receive(), *response, "{request}");
}

fn ok() -> Value {
    json!({"id": 1, "status": "ok"})
}

#[test]
fn a_channel_is_subscribed_and_an_event_sent_and_not_echoed() {
    in_every_format(|| {
        let (_api, pogo, mut sender) = start();
        let mut other = Socket::open(&pogo);
        let subscribe = r#"{"event": "channel:subscribe", "channel": "/courses/23423423"}"#;
        let unsubscribe = r#"{"event": "channel:unsubscribe", "channel": "/courses/23423423"}"#;
        let some_event =
            r#"{"event": "someEvent", "channel": "/courses/23423423", "data": {"test": ""}}"#;
        for socket in [&mut sender, &mut other] {
            socket.send_text(subscribe);
            socket.assert_silent();
        }
        sender.send_text(some_event);
        assert_eq!(
            other.event(),
            json!({"event": "someEvent", "channel": "/courses/23423423", "data": {"test": ""}})
        );
        sender.assert_silent();
        other.send_text(unsubscribe);
        other.assert_silent();
        sender.send_text(some_event);
        sender.assert_silent();
        other.assert_silent();
    });
}

#[test]
fn auth_is_answered_with_when_it_expires() {
    in_every_format(|| {
        let api = Api::start();
        let pogo = Pogo::at(&api.address().to_string(), |options| {
            options.auth.verify = Some("/me".into());
            options.auth.expires_pointer = Some("/expires".into());
        });
        api.on("GET /me", |_, _| Some(Reply::new(200, &json!({"expires": 4_000_000_000_u64}))));
        let mut socket = Socket::open(&pogo);
        socket.send_text(r#"{"id": 1, "event": "auth", "data": {"token": "7879…"}}"#);
        let refused = socket.receive();
        assert_eq!(refused["error"]["code"], "unauthorized", "an ellipsis is no part of a token");
        // Ten years is the longest that Pogo promises.
        socket.send_text(r#"{"id": 1, "event": "auth", "data": {"token": "7879"}}"#);
        let mut answer = socket.receive();
        let expires = answer["data"]["expires"].take().as_u64().unwrap();
        assert!(expires > 1_400_382_523 && expires < 4_000_000_000, "{expires}");
        assert_eq!(answer, json!({"id": 1, "status": "ok", "data": {"expires": null}}));
    });
}

#[test]
fn bind_is_answered_and_from_then_on_brings_updates_until_unbind() {
    in_every_format(|| {
        let (_api, _pogo, mut socket) = start();
        says(&mut socket, r#"{"id": 1, "event": "bind", "uri": "/posts/1234"}"#, &ok());
        let update = r#"{"id": 1, "event": "update", "uri": "/posts/1234", "data": {"title": "Post title"}}"#;
        says(&mut socket, update, &ok());
        assert_eq!(
            socket.event(),
            json!({"event": "update", "uri": "/posts/1234", "data": {"title": "Post title"}})
        );
        says(&mut socket, r#"{"id": 1, "event": "unbind", "uri": "/posts/1234"}"#, &ok());
        socket.assert_silent();
    });
}

#[test]
fn index_and_show_are_answered_with_data() {
    in_every_format(|| {
        let (_api, _pogo, mut socket) = start();
        let post = json!({"title": "First", "body": "…"});
        let answer = json!({"id": 1, "status": "ok", "data": [post]});
        says(&mut socket, r#"{"id": 1, "event": "index", "uri": "/posts"}"#, &answer);
        let answer = json!({"id": 1, "status": "ok", "data": post});
        says(&mut socket, r#"{"id": 1, "event": "show", "uri": "/posts/1234"}"#, &answer);
        socket.assert_silent();
    });
}

#[test]
fn create_is_answered_with_data() {
    in_every_format(|| {
        let (api, _pogo, mut socket) = start();
        api.on("POST /posts", |seen, _| Some(Reply::new(201, &seen.body)));
        let create =
            r#"{"id": 1, "event": "create", "uri": "/posts", "data": {"title": "Post title"}}"#;
        let answer = json!({"id": 1, "status": "ok", "data": {"title": "Post title"}});
        says(&mut socket, create, &answer);
        socket.assert_silent();
    });
}

#[test]
fn update_and_delete_are_answered_without_data() {
    in_every_format(|| {
        let (api, _pogo, mut socket) = start();
        socket.bind("/posts/1234");
        let update = r#"{"id": 1, "event": "update", "uri": "/posts/1234", "data": {"title": "Post title"}}"#;
        says(&mut socket, update, &ok());
        assert_eq!(socket.event()["data"], json!({"title": "Post title"}));
        let delete =
            r#"{"id": 1, "event": "delete", "uri": "/posts/1234", "data": {"why": "old"}}"#;
        says(&mut socket, delete, &ok());
        assert_eq!(api.seen("DELETE /posts/1234")[0].body, json!({"why": "old"}));
        assert_eq!(socket.event(), json!({"event": "delete", "uri": "/posts/1234"}));
        socket.assert_silent();
    });
}
