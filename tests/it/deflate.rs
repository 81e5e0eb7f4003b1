//! permessage-deflate (RFC 7692): who gets compressed messages and who sends them, what is agreed
//! on, and what closes the socket. The cases of Autobahn (12 and 13), as far as there is something
//! to answer, are among them.

use flate2::Compression;
use pogo::protocol::Format;
use pogo::server::Options;
use serde_json::{Value, json};

use crate::harness::{
    Api, Deflating, Operator, Pogo, Reply, Socket, deflated, start, start_of_two,
};

const OFFER: &[&str] = &["permessage-deflate; client_max_window_bits"];
const SMALL: &[&str] = &["permessage-deflate; server_max_window_bits=12"];
const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// `websocket.message_bytes`.
const LIMIT: usize = 64 * 1024;
const RSV1: u8 = 0x40;
const PING: &[u8] = br#"{"id":1,"event":"ping"}"#;

fn on(options: &mut Options) {
    options.session.compression = true;
}

fn open(pogo: &Pogo, offers: &[&str]) -> Deflating {
    Deflating::open(pogo, Format::Json, offers)
}

/// What has patterns.
fn large(number: u64) -> Value {
    (0..100).map(|at| json!({"id": at, "title": "Water the plants", "n": number})).collect()
}

/// Letters without a pattern.
fn noise(length: usize) -> String {
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 26) as u8)
    };
    (0..length).map(|_| letter()).map(|letter| if letter == '\\' { 'z' } else { letter }).collect()
}

fn assert_answers(socket: &mut Deflating, name: &str) {
    assert_eq!(socket.receive().message, json!({"id": 1, "status": "ok"}), "{name}");
}

#[test]
fn the_first_offer_that_can_be_taken_is_answered_and_no_offer_fails_the_handshake() {
    let (_api, pogo) = start(on);
    let small = format!("{BOTH}; server_max_window_bits=12");
    let full = format!("{BOTH}; server_max_window_bits=15");
    for (offers, answer) in [
        (&["permessage-deflate"][..], Some(BOTH)),
        (OFFER, Some(BOTH)),
        (SMALL, Some(&small)),
        // Autobahn 13.2 to 13.7.
        (&["permessage-deflate; client_no_context_takeover; client_max_window_bits"], Some(BOTH)),
        (&["permessage-deflate; server_max_window_bits=9; client_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits=15"], Some(&full)),
        (
            &["permessage-deflate; server_no_context_takeover; server_max_window_bits=9, \
               permessage-deflate; server_max_window_bits=13, permessage-deflate"],
            Some(&small),
        ),
        (&["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], Some(BOTH)),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&["permessage-deflate; unknown=1, x-other; \"what"], None),
        (&["x-webkit-deflate-frame"], None),
        (&["=;,;=\"", "permessage-deflate"], None),
        (&[], None),
    ] {
        let mut socket = open(&pogo, offers);
        assert_eq!(socket.answer.as_deref(), answer, "{offers:?}");
        socket.send_frame(0x81, PING);
        assert_answers(&mut socket, "and is spoken");
    }
    let (_api, off) = start(|_| ());
    let mut socket = open(&off, OFFER);
    assert_eq!(socket.answer, None, "it is off by default");
    socket.send_frame(0x81 | RSV1, &deflated(PING, Compression::default()));
    assert_eq!(socket.closed(), 1002);
}

#[test]
fn a_state_reaches_each_as_it_was_agreed_with_it() {
    let (api, pogo) = start_of_two(on);
    api.put("/posts", large(0));
    let formats = Format::ALL.into_iter();
    let each = formats.flat_map(|format| [&[][..], SMALL, OFFER].map(|offers| (format, offers)));
    let mut sockets: Vec<_> =
        each.map(|(format, offers)| Deflating::open(&pogo, format, offers)).collect();
    for socket in &mut sockets {
        // Its answer is of this socket alone.
        let bind = json!({"id": 1, "event": "bind", "uri": "/posts", "version": null});
        socket.send_frame(socket.whole(), &socket.encode(&bind));
        let came = socket.receive();
        assert_eq!(came.message["data"], large(0));
        assert_eq!(came.compressed, socket.answer.is_some());
    }
    for n in 1..4 {
        assert_eq!(pogo.write("PUT", "/posts", &large(n)), 200);
        let mut sizes = Vec::new();
        for socket in &mut sockets {
            let came = socket.receive();
            assert_eq!(
                (&came.message["event"], &came.message["data"]),
                (&json!("update"), &large(n))
            );
            assert_eq!(came.compressed, socket.answer.is_some());
            sizes.push(came.bytes);
        }
        for sizes in sizes.chunks(3) {
            assert!(sizes[1] < sizes[0] / 5 && sizes[2] < sizes[0] / 5, "{sizes:?}");
        }
    }
    // What is small goes as it is.
    assert_eq!(pogo.write("PUT", "/posts", &json!({"n": 4})), 200);
    for socket in &mut sockets {
        let came = socket.receive();
        assert_eq!((&came.message["data"], came.compressed), (&json!({"n": 4}), false));
    }
}

#[test]
fn nobody_is_sent_what_looks_back_further_than_it_can() {
    let (api, pogo) = start(on);
    // The second half repeats the first, 6000 bytes before it.
    let text = json!(noise(6000).repeat(2));
    api.put("/text", text.clone());
    let bytes = |offers| {
        let mut socket = open(&pogo, offers);
        let came = socket.must(json!({"event": "show", "uri": "/text", "bind": false}));
        assert_eq!((&came.message["data"], came.compressed), (&text, true));
        came.bytes
    };
    let (full, small) = (bytes(OFFER), bytes(SMALL));
    assert!(full < 6000 && small > 8000, "{full} and {small}");
}

#[test]
fn events_of_channels_are_compressed_for_those_who_agreed() {
    let (_api, pogo) = start_of_two(|options| {
        Operator::admit(options);
        on(options);
        options.session.compress_from = 3000;
    });
    let each = Format::ALL
        .into_iter()
        .flat_map(|format| [(format, SMALL), (format, OFFER), (format, &[])]);
    let mut sockets: Vec<_> =
        each.map(|(format, offers)| Deflating::open(&pogo, format, offers)).collect();
    for socket in &mut sockets {
        let subscribe = json!({"id": 1, "event": "channel:subscribe", "channel": "c"});
        socket.send_frame(socket.whole(), &socket.encode(&subscribe));
        assert_answers(socket, "subscribed");
    }
    for (data, is_large) in
        [(large(1), true), (json!("x".repeat(2000)), false), (json!(noise(9)), false)]
    {
        let event = json!({"event": "hello", "channel": "c", "data": data});
        Operator::of(&pogo).must("POST", "/publish", Some(&event));
        for socket in &mut sockets {
            let came = socket.receive();
            assert_eq!(came.message, event);
            assert_eq!(came.compressed, is_large && socket.answer.is_some());
        }
    }
}

#[test]
fn what_would_get_no_smaller_goes_as_it_is() {
    let (api, pogo) = start(|options| {
        on(options);
        options.session.compress_from = 0;
    });
    api.put("/short", json!("\u{1}\u{2}"));
    let mut socket = open(&pogo, OFFER);
    let came = socket.must(json!({"event": "ping"}));
    assert!(!came.compressed);
    // As soon as it does, it is.
    api.put("/long", json!("x".repeat(60)));
    assert!(socket.must(json!({"event": "show", "uri": "/long", "bind": false})).compressed);
}

#[test]
fn messages_of_clients_are_read_compressed_in_every_format() {
    let (api, pogo) = start(on);
    for format in Format::ALL {
        let mut socket = Deflating::open(&pogo, format, OFFER);
        let uri = format!("/written/{}", format.subprotocol());
        socket.must(json!({"event": "update", "uri": uri, "data": large(7), "bind": false}));
        assert_eq!(api.seen(&format!("PUT {uri}"))[0].body, large(7));
        // One that is not compressed is as good, between two that are.
        let ping = socket.encode(&json!({"id": 1, "event": "ping"}));
        socket.send_frame(socket.whole(), &ping);
        assert_answers(&mut socket, "plain");
        socket.send_compressed(&ping);
        assert_answers(&mut socket, "compressed");
    }
}

#[test]
fn a_compressed_message_comes_in_pieces_and_in_any_kind_of_blocks() {
    let (_api, pogo) = start(on);
    let mut socket = open(&pogo, OFFER);
    let ping = |length: usize| {
        let mut text = PING.to_vec();
        text.resize(length.max(text.len()), b' ');
        text
    };
    // Autobahn 12.1 and 12.2: of these sizes, in one frame and in pieces of these.
    for length in [16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, LIMIT] {
        let bytes = deflated(&ping(length), Compression::default());
        for piece in [0, 1, 7, 256, 1024].into_iter().filter(|piece| bytes.len() / 200 <= *piece) {
            if piece == 0 {
                socket.send_frame(0x81 | RSV1, &bytes);
            } else {
                socket.send_frame(0x01 | RSV1, b"");
                for part in bytes.chunks(piece) {
                    socket.send_frame(0x00, part);
                    socket.send_frame(0x8a, b"between");
                }
                socket.send_frame(0x80, b"");
            }
            assert_answers(&mut socket, &format!("{length} in {piece}"));
        }
    }
    // Without a pattern, it is longer compressed than it may be plain.
    let most = format!(r#"{{"id":1,"event":"ping","x":"{}"}}"#, noise(LIMIT - 30));
    assert_eq!(most.len(), LIMIT);
    let stored = deflated(most.as_bytes(), Compression::none());
    assert!(stored.len() > LIMIT);
    socket.send_frame(0x81 | RSV1, &stored);
    assert_answers(&mut socket, "stored");
    // Blocks that say that they are the last (RFC 7692 §7.2.3.4), and after one of them more.
    let stored = |last: u8, text: &[u8]| {
        let length = u16::try_from(text.len()).unwrap();
        [&[last][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat()
    };
    let (begin, end) = PING.split_at(9);
    for (name, bytes) in [
        ("a last block", [stored(1, PING), vec![0]].concat()),
        ("a last block and nothing after it", stored(1, PING)),
        ("a last block amid it", [stored(1, begin), stored(1, end), vec![0]].concat()),
        ("another after it", [stored(1, begin), stored(0, end), vec![0]].concat()),
        ("blocks of nothing", [stored(0, b"").repeat(100), stored(0, PING), vec![0]].concat()),
    ] {
        socket.send_frame(0x81 | RSV1, &bytes);
        assert_answers(&mut socket, name);
    }
    // A message of nothing (§7.2.3.6) is none that can be understood, and the socket stays.
    socket.send_frame(0x81 | RSV1, &[0]);
    assert_eq!(socket.receive().message["error"]["code"], "bad_request");
    socket.send_compressed(PING);
    assert_answers(&mut socket, "after all that");
}

#[test]
fn the_bit_is_for_the_first_frame_of_a_message_and_for_nothing_else() {
    let (_api, pogo) = start(on);
    let bytes = deflated(PING, Compression::default());
    let (begin, end) = bytes.split_at(5);
    for (name, frames) in [
        ("a continuation", &[(0x01 | RSV1, begin), (0x80 | RSV1, end)][..]),
        ("a continuation of what is plain", &[(0x01, &PING[..5]), (0x80 | RSV1, end)]),
        ("nothing to continue", &[(0x80 | RSV1, end)]),
        ("a ping", &[(0x89 | RSV1, b"")]),
        ("a pong", &[(0x8a | RSV1, b"")]),
        ("a close", &[(0x88 | RSV1, b"\x03\xe8")]),
        ("a ping amid it", &[(0x01 | RSV1, begin), (0x89 | RSV1, b"")]),
        ("another message amid it", &[(0x01 | RSV1, begin), (0x81 | RSV1, &bytes)]),
        ("the second bit", &[(0x81 | RSV1 | 0x20, &bytes)]),
        ("the third bit", &[(0x81 | 0x10, PING)]),
    ] {
        let mut socket = open(&pogo, OFFER);
        for (first, payload) in frames {
            socket.send_frame(*first, payload);
        }
        assert_eq!(socket.closed(), 1002, "{name}");
    }
}

#[test]
fn what_is_no_compressed_message_closes_the_socket_and_no_other() {
    let (_api, pogo) = start(on);
    let mut bystander = open(&pogo, OFFER);
    let whole = deflated(PING, Compression::default());
    for (name, bytes, code) in [
        ("not deflate", &b"{\"event\":\"ping\"}"[..], 1007),
        ("nothing at all", b"", 1007),
        ("cut off", &whole[..whole.len() - 4], 1007),
        ("followed", &[&whole[..], b"\xff\xff"].concat(), 1007),
        ("not UTF-8", &deflated(b"{\"event\":\"\xff\"}", Compression::default()), 1007),
    ] {
        let mut socket = open(&pogo, OFFER);
        socket.send_frame(0x81 | RSV1, bytes);
        assert_eq!(socket.closed(), code, "{name}");
        bystander.must(json!({"event": "ping"}));
    }
    let mut socket = open(&pogo, OFFER);
    socket.send_frame(0x82 | RSV1, &whole);
    assert_eq!(socket.closed(), 1003, "of the other kind");
}

#[test]
fn a_bomb_closes_the_socket_and_the_next_message_of_another_is_read() {
    let (_api, pogo) = start(on);
    let mut bystander = open(&pogo, OFFER);
    let mut over = PING.to_vec();
    over.resize(LIMIT + 1, b' ');
    // A thousand times as large as it looks.
    let bomb = deflated(&vec![b' '; 4 << 20], Compression::default());
    assert!(bomb.len() < LIMIT);
    for bytes in [deflated(&over, Compression::default()), bomb.clone()] {
        let mut whole = open(&pogo, OFFER);
        whole.send_frame(0x81 | RSV1, &bytes);
        assert_eq!(whole.closed(), 1009);
        let mut pieces = open(&pogo, OFFER);
        pieces.send_frame(0x01 | RSV1, &bytes[..20]);
        pieces.send_frame(0x80, &bytes[20..]);
        assert_eq!(pieces.closed(), 1009);
        bystander.must(json!({"event": "ping"}));
    }
    // One that is too large before it is looked into is not kept.
    let mut long = open(&pogo, OFFER);
    long.send_frame(0x01 | RSV1, &bomb[..1000]);
    long.send_frame(0x00, &vec![0; LIMIT / 8 + LIMIT]);
    assert_eq!(long.closed(), 1009);
}

#[test]
fn a_socket_keeps_what_was_agreed_and_the_next_is_of_the_new_settings() {
    let (api, mut pogo) = start(on);
    api.on("GET /large", |_, _| Some(Reply::new(200, &large(1))));
    let show = |socket: &mut Deflating| {
        let show = json!({"id": 1, "event": "show", "uri": "/large", "bind": false});
        socket.send_frame(0x81, &socket.encode(&show));
        socket.receive().compressed
    };
    let mut before = open(&pogo, OFFER);
    pogo.reload(|options| options.session.compress_from = 1 << 20);
    let mut larger = open(&pogo, OFFER);
    pogo.reload(|options| options.session.compression = false);
    let mut after = open(&pogo, OFFER);
    assert_eq!((after.answer.as_deref(), &larger.answer), (None, &before.answer));
    assert_eq!([&mut before, &mut larger, &mut after].map(show), [true, false, false]);
    before.must(json!({"event": "ping"}));
}

#[test]
fn sockets_that_offer_nothing_are_sent_nothing_compressed() {
    let (api, pogo) = start(on);
    api.put("/posts", large(0));
    // This client fails at a reserved bit.
    let mut plain = Socket::open(&pogo);
    plain.bind("/posts");
    let mut deflating = open(&pogo, OFFER);
    deflating.must(json!({"event": "bind", "uri": "/posts"}));
    assert_eq!(pogo.write("PUT", "/posts", &large(1)), 200);
    assert!(deflating.receive().compressed);
    assert_eq!(plain.event()["data"], large(1));
    let mut socket = open(&pogo, &[]);
    socket.send_frame(0x81 | RSV1, &deflated(PING, Compression::default()));
    assert_eq!(socket.closed(), 1002);
}

#[test]
fn a_client_that_does_not_read_gets_the_latest_compressed() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), on);
    api.put("/posts", large(0));
    let mut socket = open(&pogo, OFFER);
    socket.must(json!({"event": "bind", "uri": "/%70osts"}));
    let mut other = Socket::open(&pogo);
    for n in 1..20 {
        assert_eq!(pogo.write("PUT", "/posts", &large(n)), 200);
    }
    other.see_through(&pogo);
    let mut last = socket.receive();
    while last.message["data"] != large(19) {
        last = socket.receive();
    }
    // In the client's own spelling, which is for it alone.
    assert_eq!((&last.message["uri"], last.compressed), (&json!("/%70osts"), true));
}
