//! JSON and MsgPack, with keys in full and in one character: who speaks what, and that nothing is
//! lost between them.

use pogo::protocol::Format;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, Operator, Pogo, Reply, Socket};

const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;

fn start() -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| options.workers = 2);
    (api, pogo)
}

fn everyone(pogo: &Pogo) -> Vec<Socket> {
    Format::ALL.iter().map(|format| Socket::open_in(pogo, *format, "somebody")).collect()
}

fn subscribe(socket: &mut Socket) {
    socket.must(json!({"event": "channel:subscribe", "channel": "c"}));
}

/// The payload of the next frame, which must be of the format's kind.
fn payload(socket: &mut Socket) -> Vec<u8> {
    match socket.frame() {
        Message::Text(text) if !socket.format().is_binary() => text.as_bytes().to_vec(),
        Message::Binary(bytes) if socket.format().is_binary() => bytes.to_vec(),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn the_first_of_the_clients_formats_that_is_configured_is_spoken() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.session.formats = vec![Format::Json, Format::MsgPackCompact];
    });
    let pong = |format: Option<&str>| match format {
        Some("pogo.v1.msgpack.compact") => &b"\x82\x09\x82\xa1i\x01\xa1s\xa2ok"[..],
        _ => b"\x81\x16{\"id\":1,\"status\":\"ok\"}",
    };
    for (offered, chosen) in [
        ("pogo.v1.msgpack.compact, pogo.v1.json", Some("pogo.v1.msgpack.compact")),
        ("pogo.v1.json,pogo.v1.msgpack.compact", Some("pogo.v1.json")),
        ("pogo.v1.msgpack\r\nSec-WebSocket-Protocol: pogo.v1.json", Some("pogo.v1.json")),
        ("chat, pogo.v1.msgpack.compact", Some("pogo.v1.msgpack.compact")),
        // Known and not configured, or known to nobody.
        ("pogo.v1.msgpack", None),
        ("pogo.v1.json.compact, pogo.v2.json, POGO.V1.JSON", None),
    ] {
        let mut wire = pogo.ask(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {offered}\r\n\r\n"
        ));
        let answer = wire.head();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.one("sec-websocket-protocol").as_deref(), chosen, "{offered}");
        let ping = match chosen {
            Some("pogo.v1.msgpack.compact") => {
                crate::harness::frame(BINARY, b"\x82\xa1i\x01\xa1e\xa4ping")
            }
            _ => crate::harness::frame(TEXT, br#"{"id":1,"event":"ping"}"#),
        };
        wire.send(ping);
        let expected = pong(chosen);
        assert_eq!(wire.exactly(expected.len()), expected, "{offered}");
    }
}

#[test]
fn frames_of_the_other_kind_close_the_socket_and_no_other() {
    let (_api, pogo) = start();
    let mut bystanders = everyone(&pogo);
    for mut socket in everyone(&pogo) {
        let wrong = if socket.format().is_binary() { TEXT } else { BINARY };
        // Also in the first of several.
        socket.send_frame(wrong & 0x0f, b"{");
        let (code, reason) = socket.closed();
        assert_eq!(code, 1003);
        assert!(reason.contains("frames"), "{reason}");
    }
    bystanders.iter_mut().for_each(Socket::assert_silent);
}

#[test]
fn messages_in_binary_frames_have_the_same_limits_and_come_in_pieces() {
    let (_api, pogo) = start();
    let mut socket = Socket::open_in(&pogo, Format::MsgPack, "somebody");
    socket.send_frame(0x02, b"\x82\xa2id\x01\xa5ev");
    socket.send_frame(0x89, b"p");
    socket.send_frame(0x80, b"ent\xa4ping");
    assert_eq!(socket.receive(), json!({"id": 1, "status": "ok"}));
    // 64 KiB to the byte; what is unknown is ignored.
    let filler = (64 << 10) - (1 + 6 + 5 + 3 + 1 + 2 + 3);
    let mut message = b"\x83\xa5event\xa4ping\xa2id\x02\xa1z\xda".to_vec();
    message.extend(u16::try_from(filler).unwrap().to_be_bytes());
    message.resize(64 << 10, b'x');
    socket.send_frame(BINARY, &message);
    assert_eq!(socket.receive(), json!({"id": 2, "status": "ok"}));
    message.push(b'x');
    socket.send_frame(BINARY, &message);
    assert_eq!(socket.close_frame().0, 1009);
}

#[test]
fn what_is_not_msgpack_is_answered_and_costs_the_client_its_patience() {
    let (_api, pogo) = start();
    let mut socket = Socket::open_in(&pogo, Format::MsgPack, "somebody");
    let whole: &[u8] = b"\x82\xa2id\x05\xa5event\xa4ping";
    for (what, bytes, id) in [
        ("nothing", &b""[..], Value::Null),
        ("cut off", &whole[..9], Value::Null),
        ("followed", &[whole, b"\xc0"].concat(), Value::Null),
        ("a list", b"\x91\x01", Value::Null),
        ("JSON", br#"{"id":1,"event":"ping"}"#, Value::Null),
        ("declared", b"\x81\xa4data\xdf\xff\xff\xff\xff", Value::Null),
        ("no str", b"\x81\x01\x02", Value::Null),
        ("not UTF-8", b"\x81\xa5event\xa1\xff", Value::Null),
        ("deep", &[&b"\x81\xa4data"[..], &[0x91; 200], &[0]].concat(), Value::Null),
        ("twice", b"\x83\xa2id\x05\xa5event\xa4ping\xa5event\xa4ping", Value::Null),
        ("twice below", b"\x82\xa2id\x05\xa4data\x82\xa1a\x01\xa1a\x01", json!(5)),
        ("a timestamp", b"\x82\xa2id\x05\xa4data\xd6\xff\x00\x00\x00\x01", json!(5)),
        ("NaN", b"\x82\xa2id\x05\xa4data\xca\x7f\xc0\x00\x00", json!(5)),
        ("binary elsewhere", b"\x82\xa2id\x05\xa5event\xc4\x04ping", json!(5)),
        ("a bad field", b"\x83\xa2id\x05\xa5event\xa4bind\xa3uri\x07", json!(5)),
        ("a float for an id", b"\x82\xa2id\xca\x3f\x80\x00\x00\xa5event\xa4ping", Value::Null),
    ] {
        socket.send_frame(BINARY, bytes);
        let answer = socket.receive();
        assert_eq!(answer["error"]["code"], "bad_request", "{what}: {answer}");
        assert_eq!(answer["id"], id, "{what}: {answer}");
    }
    socket.assert_silent();
    for _ in 0..64 {
        socket.send_frame(BINARY, b"\xc1");
    }
    assert_eq!(socket.closed().0, 4400);
}

#[test]
fn one_write_reaches_each_in_its_own_format_with_every_number_and_letter() {
    let (api, pogo) = start();
    let state = r#"{ "max":18446744073709551615,"min":-9223372036854775808,"odd":9007199254740993,
        "float":1.0,"tenth":0.1,"tiny":5e-324,"zero":-0.0,"e":"\u00e9\n","id":{"event":"i"},"list":[[],{}] }"#;
    let exact: Value = serde_json::from_str(state).unwrap();
    api.on("GET /numbers", move |_, _| {
        let mut reply = Reply::new(200, &Value::Null);
        reply.body = state.to_owned();
        Some(reply)
    });
    for socket in &mut everyone(&pogo) {
        let answer = socket.must(json!({"event": "bind", "uri": "/numbers", "version": null}));
        assert_eq!(answer["data"], exact, "{:?}", socket.format());
        assert!(answer["data"]["float"].is_f64() && answer["data"]["zero"].is_f64());
    }
    // And towards the API.
    for socket in &mut everyone(&pogo) {
        let uri = format!("/written/{}", socket.format().subprotocol());
        socket.must(json!({"event": "update", "uri": uri, "data": exact, "bind": false}));
        let written = &api.seen(&format!("PUT {uri}"))[0].body;
        assert_eq!(*written, exact);
        assert!(written["float"].is_f64());
    }
}

#[test]
fn a_change_reaches_members_of_all_formats_on_all_workers() {
    let (api, pogo) = start();
    api.put("/posts/1", json!({"n": 0}));
    let mut sockets: Vec<_> = (0..4).flat_map(|_| everyone(&pogo)).collect();
    for socket in &mut sockets {
        socket.bind("/posts/1");
    }
    for n in 1..4 {
        assert_eq!(pogo.write("PUT", "/posts/1", &json!({"n": n})), 200);
        for socket in &mut sockets {
            let event = json!({"event": "update", "uri": "/posts/1", "data": {"n": n}});
            assert_eq!(socket.event(), event);
        }
    }
    assert_eq!(pogo.write("DELETE", "/posts/1", &Value::Null), 204);
    for socket in &mut sockets {
        assert_eq!(socket.event(), json!({"event": "delete", "uri": "/posts/1"}));
        socket.assert_silent();
    }
    // One fetch for each state, whatever its readers speak, and those of the binds.
    assert!(api.seen("GET /posts/1").len() < sockets.len() + 8);
}

#[test]
fn any_json_of_an_api_has_a_form_in_msgpack() {
    let (api, pogo) = start();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let body =
        format!(r#"{{"half":"a\ud83d!","huge":1e400,"big":18446744073709551616,"deep":{deep}}}"#);
    api.on("GET /odd", move |_, _| {
        let mut reply = Reply::new(200, &Value::Null);
        reply.body = body.clone();
        Some(reply)
    });
    let mut socket = Socket::open_in(&pogo, Format::MsgPackCompact, "somebody");
    socket.send(&json!({"id": 1, "event": "show", "uri": "/odd"}));
    let expected = [
        &b"\x83\xa1i\x01\xa1s\xa2ok\xa1d\x84\xa4half\xa5a\xef\xbf\xbd!"[..],
        b"\xa4huge\xcb\x7f\xf0\0\0\0\0\0\0\xa3big\xcb\x43\xf0\0\0\0\0\0\0\xa4deep",
        &[0x91; 999],
        b"\x90",
    ]
    .concat();
    assert_eq!(payload(&mut socket), expected);
}

#[test]
fn binary_in_a_channels_event_stays_binary_for_those_who_can_read_it() {
    let (_api, pogo) = start();
    let mut listeners: Vec<_> = (0..3).flat_map(|_| everyone(&pogo)).collect();
    listeners.iter_mut().for_each(subscribe);
    let mut sender = Socket::open_in(&pogo, Format::MsgPack, "somebody");
    // A float of 32 bits, too: whoever reads MsgPack gets what was sent, to the byte.
    let data = b"\x82\xa1k\xc4\x02\xfb\xff\xa1e\xca\x3f\x80\x00\x00";
    sender.send_frame(BINARY, &[&b"\x83\xa5event\xa1a\xa7channel\xa1c\xa4data"[..], data].concat());
    for socket in &mut listeners {
        let expected = match socket.format() {
            Format::Json => br#"{"event":"a","channel":"c","data":{"k":"+/8=","e":1.0}}"#.to_vec(),
            Format::JsonCompact => br#"{"e":"a","c":"c","d":{"k":"+/8=","e":1.0}}"#.to_vec(),
            Format::MsgPack => [&b"\x83\xa5event\xa1a\xa7channel\xa1c\xa4data"[..], data].concat(),
            Format::MsgPackCompact => [&b"\x83\xa1e\xa1a\xa1c\xa1c\xa1d"[..], data].concat(),
        };
        assert_eq!(payload(socket), expected, "{:?}", socket.format());
    }
}

#[test]
fn binary_for_an_api_that_speaks_json_is_refused_and_nothing_is_sent() {
    let (api, pogo) = start();
    let mut socket = Socket::open_in(&pogo, Format::MsgPack, "somebody");
    for event in ["create", "update", "delete"] {
        let mut message = b"\x84\xa2id\x07\xa5event\xa6".to_vec();
        message.extend(event.as_bytes());
        message.extend(b"\xa3uri\xa2/a\xa4data\xc4\x01\xff");
        socket.send_frame(BINARY, &message);
        let answer = socket.receive();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!("bad_request")));
        assert!(answer["error"]["message"].as_str().unwrap().contains("binary"), "{answer}");
    }
    socket.send_frame(BINARY, b"\x83\xa2id\x08\xa5event\xa4auth\xa4data\x81\xa5token\xc4\x01\xff");
    assert_eq!(socket.receive()["error"]["code"], "bad_request");
    socket.assert_silent();
    assert!(api.seen("").is_empty());
}

#[test]
fn operators_and_clients_publish_to_every_format() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), Operator::admit);
    let mut sockets = everyone(&pogo);
    sockets.iter_mut().for_each(subscribe);
    let data = json!({"id": 1, "i": 2, "data": {"d": 9_007_199_254_740_993_u64}});
    let event = json!({"event": "hello", "channel": "c", "data": data});
    Operator::of(&pogo).must("POST", "/publish", Some(&event));
    for socket in &mut sockets {
        assert_eq!(socket.event(), event, "{:?}", socket.format());
    }
    for sender in 0..sockets.len() {
        sockets[sender].must(event.clone());
        for (_, socket) in sockets.iter_mut().enumerate().filter(|(other, _)| *other != sender) {
            assert_eq!(socket.event(), event, "{:?}", socket.format());
        }
        sockets[sender].assert_silent();
    }
}
