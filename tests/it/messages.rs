//! What a client may say, and what becomes of one that says something else.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, Pogo, Socket, Upstream, frame, in_plain_json};

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |_| ());
    (api, pogo)
}

/// The answer to these words, which are refused.
fn refusal(socket: &mut Socket, text: &str) -> Value {
    socket.send_text(text);
    let answer = socket.receive();
    assert_eq!(answer["status"], "error", "{text}: {answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    answer
}

#[test]
fn what_cannot_be_read_is_answered_and_the_socket_goes_on() {
    in_plain_json();
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    for text in [
        "",
        "not JSON",
        "[]",
        "null",
        "7",
        "\"ping\"",
        "{",
        "{}",
        "{\"event\":\"ping\"} {}",
        "{\"event\":\"ping\",\"event\":\"ping\"}",
        "{\"event\":null}",
        "{\"event\":7}",
        "{\"event\":\"\"}",
        "{\"event\":\"ping\",\"id\":1.5}",
        "{\"event\":\"ping\",\"id\":{}}",
        "{\"event\":\"ping\",\"id\":true}",
        "{\"event\":\"ping\",\"uri\":[]}",
        "{\"event\":\"ping\",\"channel\":1}",
        "{\"event\":\"ping\",\"channel\":\"\"}",
        "{\"event\":\"ping\",\"bind\":\"no\"}",
        "{\"event\":\"ping\",\"return\":1}",
        "{\"event\":\"ping\",\"method\":1}",
        "{\"event\":\"ping\",\"version\":1}",
        "{\"event\":\"ping\",\"namespace\":1}",
        "\u{feff}{\"event\":\"ping\"}",
    ] {
        let answer = refusal(&mut socket, text);
        assert_eq!(answer["error"]["code"], "bad_request", "{text}");
        assert_eq!(answer.get("id"), None, "{text}");
    }
    let deep = format!("{{\"event\":\"ping\",\"data\":{}", "[".repeat(60_000));
    assert_eq!(refusal(&mut socket, &deep)["error"]["code"], "bad_request");
    let long = "e".repeat(257);
    for text in [
        json!({"event": long}),
        json!({"event": "e", "channel": long}),
        json!({"event": "ping", "id": long}),
    ] {
        assert_eq!(refusal(&mut socket, &text.to_string())["error"]["code"], "bad_request");
    }
    socket.assert_silent();
}

#[test]
fn ids_are_echoed_as_they_were_written_also_by_errors() {
    in_plain_json();
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    for id in ["0", "-7", "123456789012345678901234567890", r#""a\u00e9\"""#, "\"\""] {
        socket.send_text(&format!("{{\"event\":\"ping\",\"id\":{id}}}"));
        socket.receive();
        assert_eq!(socket.texts.pop().unwrap(), format!("{{\"id\":{id},\"status\":\"ok\"}}"));
        socket.send_text(&format!("{{\"id\":{id},\"event\":\"bind\",\"uri\":7}}"));
        assert_eq!(socket.receive()["error"]["message"], "\"uri\" must be a string");
        assert!(socket.texts.pop().unwrap().starts_with(&format!("{{\"id\":{id},")));
    }
}

#[test]
fn without_an_id_there_is_no_ok_and_an_error_all_the_same() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    for request in [
        json!({"event": "ping"}),
        json!({"event": "ping", "id": null}),
        json!({"event": "unbind", "uri": "/posts/1"}),
        json!({"event": "channel:subscribe", "channel": "c"}),
        json!({"event": "hello", "channel": "c"}),
        json!({"event": "channel:unsubscribe", "channel": "c"}),
    ] {
        socket.send(&request);
        socket.assert_silent();
    }
    let answer = refusal(&mut socket, r#"{"event":"show","uri":"/posts/2"}"#);
    assert_eq!(answer["error"]["code"], "not_found");
    assert_eq!(answer.get("id"), None);
    let answer = refusal(&mut socket, r#"{"event":"auth","data":{}}"#);
    assert_eq!(answer["error"]["code"], "bad_request");
    assert_eq!(answer.get("id"), None);
}

#[test]
fn events_that_nobody_knows_are_unknown() {
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    for event in ["dance", "Bind", "bind ", "update:all", "channel:join", "auth:expired"] {
        assert_eq!(socket.error(json!({"event": event, "uri": "/posts"})), "unknown_event");
    }
    // What Pogo says itself, no client may say to others.
    let mut other = Socket::open(&pogo);
    other.must(json!({"event": "channel:subscribe", "channel": "c"}));
    for event in ["channel:lost", "channel:subscrbe", "pogo:conect", "auth:expired"] {
        assert_eq!(socket.error(json!({"event": event, "channel": "c"})), "unknown_event");
    }
    socket.must(json!({"event": "pogo:connect", "channel": "c"}));
    other.assert_silent();
    assert_eq!(socket.error(json!({"event": "ping", "namespace": "/a"})), "not_found");
    socket.must(json!({"event": "ping", "namespace": "/", "a field": "of later releases"}));
}

#[test]
fn a_ping_and_a_token_go_to_no_channel() {
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    let mut other = Socket::open(&pogo);
    other.must(json!({"event": "channel:subscribe", "channel": "c"}));
    socket.must(json!({"event": "ping", "channel": "c"}));
    socket.must(json!({"event": "auth", "channel": "c", "data": {"token": "secret"}}));
    other.assert_silent();
}

#[test]
fn a_uri_that_names_no_resource_here_is_refused_for_every_event() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    let long = format!("/{}", "a".repeat(60 << 10));
    for uri in [
        "",
        "posts",
        "*",
        "?a=b",
        "http://elsewhere.example/posts",
        "//elsewhere.example/posts",
        "/\\elsewhere.example",
        "/posts//1",
        "/posts/../users",
        "/posts/./1",
        "/posts/..",
        "/%2e%2e/users",
        "/posts/%2E",
        "/posts/%2",
        "/posts/%zz",
        "/posts#1",
        "/posts/é",
        "/posts/\u{1}",
        "/posts/a b",
        "/posts/1\r\nX-Evil: 1",
        "/posts/\u{7f}",
        "/\u{0}",
        long.as_str(),
    ] {
        for event in ["bind", "unbind", "index", "show", "create", "update", "delete"] {
            let answer = socket.ask(json!({"event": event, "uri": uri}));
            assert_eq!(answer["error"]["code"], "bad_request", "{event} {uri:.40} {answer}");
        }
    }
    for event in ["bind", "unbind", "index", "show", "create", "update", "delete"] {
        assert_eq!(socket.error(json!({"event": event})), "bad_request");
    }
    assert!(api.seen("").is_empty(), "{:?}", api.seen(""));
}

#[test]
fn an_encoded_slash_stays_in_its_segment() {
    let (api, pogo) = start();
    api.put("/posts/a%2Fb", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(json!({"event": "show", "uri": "/posts/a%2fb"}));
    assert_eq!(answer["data"], json!({"n": 1}));
    assert!(api.seen("GET /posts/a/b").is_empty());
}

#[test]
fn spellings_of_one_uri_are_one_binding_that_keeps_its_first_name() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.bind("/%70osts/1");
    socket.bind("/posts/%31");
    socket.must(json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}}));
    let event = socket.event();
    assert_eq!(event, json!({"event": "update", "uri": "/%70osts/1", "data": {"n": 2}}));
    socket.must(json!({"event": "unbind", "uri": "/posts/1"}));
    socket.must(json!({"event": "update", "uri": "/posts/1", "bind": false, "data": {"n": 3}}));
    socket.assert_silent();
}

#[test]
fn frames_that_break_the_rules_close_the_socket_with_the_standard_code_and_no_other() {
    in_plain_json();
    let (_api, pogo) = start();
    let mut bystander = Socket::open(&pogo);
    let huge = vec![b'x'; (64 << 10) + 1];
    for (what, bytes, code) in [
        ("binary", frame(0x82, b"{}"), 1003),
        ("not UTF-8", frame(0x81, b"{\"event\":\"\xff\"}"), 1007),
        ("not UTF-8 over two frames", [frame(0x01, b"\xc3"), frame(0x80, b"(")].concat(), 1007),
        ("unmasked", b"\x81\x02{}".to_vec(), 1002),
        ("reserved bit", frame(0xc1, b"{}"), 1002),
        ("unknown opcode", frame(0x83, b"{}"), 1002),
        ("nothing to continue", frame(0x80, b"{}"), 1002),
        ("interrupted", [frame(0x01, b"{"), frame(0x81, b"{}")].concat(), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
        ("huge", frame(0x81, &huge), 1009),
        (
            "huge in two",
            [frame(0x01, &huge[..40_000]), frame(0x80, &huge[..40_000])].concat(),
            1009,
        ),
        ("said to be huge", b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(), 1009),
        ("bad close", frame(0x88, b"\x03"), 1002),
        ("close with no code that is sent", frame(0x88, &1005_u16.to_be_bytes()), 1002),
    ] {
        let mut socket = Socket::open(&pogo);
        socket.send_bytes(&bytes);
        assert_eq!(socket.close_frame().0, code, "{what}");
        bystander.assert_silent();
    }
}

#[test]
fn after_a_frame_that_cannot_be_followed_nothing_more_is_kept_or_done() {
    let (api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.send_bytes(b"\x81\x02{}");
    assert_eq!(socket.close_frame().0, 1002);
    socket.send_frame(0x81, br#"{"event":"show","uri":"/posts"}"#);
    socket.assert_ended();
    assert!(api.seen("").is_empty());
}

#[test]
fn a_message_may_come_in_pieces_with_pings_between() {
    in_plain_json();
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.send_frame(0x01, b"{\"id\":1,\"ev");
    socket.send_frame(0x89, b"still there?");
    socket.send_frame(0x00, b"ent\":\"pi");
    socket.send_frame(0x80, b"ng\"}");
    assert_eq!(socket.receive(), json!({"id": 1, "status": "ok"}));
    let whole = frame(0x81, br#"{"id":2,"event":"ping"}"#);
    for byte in whole {
        socket.send_bytes(&[byte]);
    }
    assert_eq!(socket.receive(), json!({"id": 2, "status": "ok"}));
}

#[test]
fn as_large_as_allowed_is_allowed() {
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    let mut text = r#"{"id":1,"event":"ping"}"#.to_owned();
    text.push_str(&" ".repeat((64 << 10) - text.len()));
    socket.send_text(&text);
    assert_eq!(socket.receive(), json!({"id": 1, "status": "ok"}));
}

#[test]
fn a_ping_frame_is_answered_with_what_it_carried() {
    let (_api, pogo) = start();
    let mut socket = Socket::open(&pogo);
    socket.send_raw(Message::Ping("how are you".into()));
    assert_eq!(socket.frame(), Message::Pong("how are you".into()));
}

#[test]
fn who_only_sends_nonsense_is_closed_and_nobody_else() {
    let (_api, pogo) = start();
    let mut bystander = Socket::open(&pogo);
    let mut socket = Socket::open(&pogo);
    for _ in 0..63 {
        refusal(&mut socket, "nonsense");
    }
    socket.must(json!({"event": "ping"}));
    for _ in 0..64 {
        refusal(&mut socket, "nonsense");
    }
    assert_eq!(socket.closed(), (4400, "too many malformed messages".into()));
    bystander.assert_silent();
}

#[test]
fn a_handshake_negotiates_the_subprotocol() {
    let (_api, pogo) = start();
    for (offered, chosen) in [
        (None, None),
        (Some("pogo.v1.json"), Some("pogo.v1.json")),
        (Some("chat, pogo.v1.json"), Some("pogo.v1.json")),
        (Some("chat"), None),
    ] {
        let offer = offered.map_or(String::new(), |it| format!("Sec-WebSocket-Protocol: {it}\r\n"));
        let mut wire = pogo.ask(&handshake("GET", "/", &offer));
        let answer = wire.head();
        assert_eq!(answer.start, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(answer.one("sec-websocket-protocol").as_deref(), chosen, "{offered:?}");
        assert_eq!(
            answer.one("sec-websocket-accept").as_deref(),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(answer.one("sec-websocket-extensions"), None);
        wire.send(frame(0x81, br#"{"id":1,"event":"ping"}"#));
        assert_eq!(wire.exactly(24), b"\x81\x16{\"id\":1,\"status\":\"ok\"}");
    }
}

#[test]
fn a_message_that_came_with_the_handshake_is_not_lost() {
    let (_api, pogo) = start();
    let mut wire = pogo.connect();
    let message = frame(0x81, br#"{"id":1,"event":"ping"}"#);
    wire.send([handshake("GET", "/", "").into_bytes(), message].concat());
    assert_eq!(wire.head().status(), 101);
    assert_eq!(wire.exactly(24), b"\x81\x16{\"id\":1,\"status\":\"ok\"}");
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let (api, pogo) = start();
    let good = handshake("GET", "/", "");
    for (request, status) in [
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400),
        (handshake("GET", "/", "Content-Length: 3\r\n") + "abc", 400),
        (handshake("GET", "/", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        (handshake("GET", "/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
    ] {
        let answer = pogo.ask(&request).message();
        answer.assert_problem(status);
        if status == 426 {
            assert_eq!(answer.one("sec-websocket-version").as_deref(), Some("13"));
            assert_eq!(answer.one("upgrade").as_deref(), Some("websocket"));
        }
    }
    assert!(api.seen("").is_empty());
}

#[test]
fn elsewhere_and_by_other_methods_the_api_is_asked() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.websocket_path = "/realtime".into();
    });
    let mut client = pogo.ask(&handshake("GET", "/", ""));
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET / HTTP/1.1");
    assert_eq!(request.one("upgrade").as_deref(), Some("websocket"));
    api.respond("no sockets here");
    assert_eq!(client.message().text(), "no sockets here");
    let mut client = pogo.ask(&handshake("POST", "/realtime", "Content-Length: 0\r\n"));
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "POST /realtime HTTP/1.1");
    assert_eq!(request.one("upgrade"), None);
    api.respond("posted");
    assert_eq!(client.message().text(), "posted");
    assert_eq!(pogo.ask(&handshake("GET", "/realtime", "")).head().status(), 101);
    assert_eq!(pogo.ask(&handshake("GET", "/realtime?a=b", "")).head().status(), 101);
}

fn handshake(method: &str, path: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}
