//! The cases of the Autobahn test suite (1 to 7, and the limits of 9), against Pogo's own endpoint.
//! That speaks JSON and does not echo: a `ping` is what is sent, and its answer what comes back.

use std::io::Read;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, Pogo, Socket, frame, in_plain_json};

/// `websocket.message_bytes`.
const LIMIT: usize = 64 * 1024;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const BEGIN: u8 = 0x01;
const GO_ON: u8 = 0x00;
const END: u8 = 0x80;

fn start() -> Pogo {
    Pogo::at(&Api::start().address().to_string(), |options| options.session.pong_timeout *= 10)
}

/// A `ping` of so many bytes.
fn ping(length: usize) -> Vec<u8> {
    let mut text = br#"{"id":1,"event":"ping"}"#.to_vec();
    text.resize(length.max(text.len()), b' ');
    text
}

fn cut(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at)
}

/// Sends bytes as they stand, and a message that is answered if the socket is still open.
fn assert_open(pogo: &Pogo, name: &str, bytes: &[u8], answers: usize) {
    let mut socket = Socket::open(pogo);
    socket.send_bytes(bytes);
    for _ in 0..answers {
        assert_eq!(socket.receive(), json!({"id": 1, "status": "ok"}), "{name}");
    }
    assert_eq!(socket.ask(json!({"event": "ping"}))["status"], "ok", "{name}");
}

fn assert_closes(pogo: &Pogo, name: &str, bytes: &[u8], code: u16) {
    let mut socket = Socket::open(pogo);
    socket.send_bytes(bytes);
    assert_eq!(socket.close_frame().0, code, "{name}");
}

#[test]
fn messages_of_any_length_are_read_and_of_another_kind_are_not() {
    in_plain_json();
    let pogo = start();
    for length in [23, 125, 126, 127, 128, 255, 65_535, LIMIT] {
        assert_open(&pogo, &format!("1.1 {length}"), &frame(TEXT, &ping(length)), 1);
    }
    for length in [0, 125, 126, 65_535] {
        assert_closes(&pogo, &format!("1.2 {length}"), &frame(BINARY, &ping(length)), 1003);
    }
    assert_closes(&pogo, "9.1", &frame(TEXT, &ping(LIMIT + 1)), 1009);
    let (begin, end) = (ping(LIMIT), b" ");
    let bytes = [frame(BEGIN, &begin), frame(END, end)].concat();
    assert_closes(&pogo, "9.3", &bytes, 1009);
    // One byte at a time, and one byte in each frame.
    let mut socket = Socket::open(&pogo);
    for byte in frame(TEXT, &ping(23)) {
        socket.send_bytes(&[byte]);
    }
    assert_eq!(socket.receive()["status"], "ok");
    let bytes: Vec<u8> = ping(23).iter().flat_map(|byte| frame(GO_ON, &[*byte])).collect();
    let bytes = [frame(BEGIN, b""), bytes, frame(END, b"")].concat();
    assert_open(&pogo, "9.4", &bytes, 1);
}

#[test]
fn pings_are_answered_with_what_they_carry() {
    let pogo = start();
    for payload in [vec![], b"hello".to_vec(), vec![0, 0xff, 0xfe], vec![b'x'; 125]] {
        let mut socket = Socket::open(&pogo);
        for byte in frame(PING, &payload) {
            socket.send_bytes(&[byte]);
        }
        assert_eq!(socket.frame(), Message::Pong(payload.into()), "2.1 to 2.6");
    }
    assert_closes(&pogo, "2.5", &frame(PING, &[b'x'; 126]), 1002);
    assert_open(&pogo, "2.7", &frame(PONG, b""), 0);
    assert_open(&pogo, "2.8", &frame(PONG, b"unasked"), 0);
    let mut socket = Socket::open(&pogo);
    socket.send_bytes(&[frame(PONG, b"unasked"), frame(PING, b"asked")].concat());
    assert_eq!(socket.frame(), Message::Pong(b"asked".to_vec().into()), "2.9");
    let mut socket = Socket::open(&pogo);
    let pings: Vec<Vec<u8>> = (0..10).map(|number| frame(PING, &[number])).collect();
    socket.send_bytes(&pings.concat());
    for number in 0..10 {
        assert_eq!(socket.frame(), Message::Pong(vec![number].into()), "2.10");
    }
}

#[test]
fn reserved_bits_and_codes_close_the_socket() {
    in_plain_json();
    let pogo = start();
    for bits in 1..8 {
        for first in [TEXT, BINARY, PING, PONG, CLOSE, BEGIN] {
            let bytes = frame(first | bits << 4, &ping(23));
            assert_closes(&pogo, &format!("3 {bits} {first:#x}"), &bytes, 1002);
        }
    }
    for code in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_closes(&pogo, &format!("4 {code}"), &frame(0x80 | code, b""), 1002);
        let bytes = [frame(TEXT, &ping(23)), frame(0x80 | code, b"x"), frame(PING, b"")].concat();
        assert_closes(&pogo, &format!("4 {code}"), &bytes, 1002);
    }
    let mut unmasked = frame(TEXT, b"");
    unmasked[1] = 0;
    assert_closes(&pogo, "a frame without a mask", &unmasked[..2], 1002);
}

#[test]
fn messages_come_in_pieces_and_nothing_else_does() {
    in_plain_json();
    let pogo = start();
    let whole = ping(23);
    let (one, two) = cut(&whole, 9);
    let (two, three) = cut(two, 5);
    let pieces = |between: &[u8]| {
        [&frame(BEGIN, one), between, &frame(GO_ON, two), between, &frame(END, three)].concat()
    };
    assert_open(&pogo, "5.3", &pieces(b""), 1);
    assert_open(&pogo, "5.4", &pieces(&frame(PONG, b"between")), 1);
    let mut socket = Socket::open(&pogo);
    socket.send_bytes(&pieces(&frame(PING, b"between")));
    for _ in 0..2 {
        assert_eq!(socket.frame(), Message::Pong(b"between".to_vec().into()), "5.6");
    }
    assert_eq!(socket.receive()["status"], "ok", "5.6");
    for (name, bytes) in [
        ("5.1", [frame(0x09, one), frame(END, two)].concat()),
        ("5.2", [frame(0x0a, one), frame(END, two)].concat()),
        ("5.9", [frame(END, one), frame(TEXT, &whole)].concat()),
        ("5.10", frame(END, one)),
        ("5.12", frame(GO_ON, one)),
        ("5.15", [pieces(b""), frame(GO_ON, one)].concat()),
        ("5.16", [frame(GO_ON, one), frame(BEGIN, one), frame(END, two)].concat()),
        ("5.18", [frame(BEGIN, one), frame(TEXT, two)].concat()),
        ("a beginning in a beginning", [frame(BEGIN, one), frame(BEGIN, one)].concat()),
        ("a fragmented close", frame(0x08, b"")),
    ] {
        assert_closes(&pogo, name, &bytes, 1002);
    }
}

#[test]
fn a_text_is_utf_8_or_closes_the_socket() {
    in_plain_json();
    let pogo = start();
    for valid in [
        "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}",
        "\0",
        "\u{80}",
        "\u{800}",
        "\u{10000}",
        "\u{7f}",
        "\u{7ff}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{fffe}",
    ] {
        // An `id` comes back as it was; a control is no JSON, and the socket goes on.
        let text = format!(r#"{{"id":"{valid}","event":"ping"}}"#);
        let mut socket = Socket::open(&pogo);
        // Each byte in a frame of its own: characters are cut.
        let bytes: Vec<u8> = text.bytes().flat_map(|byte| frame(GO_ON, &[byte])).collect();
        socket.send_bytes(&[frame(BEGIN, b""), bytes, frame(END, b"")].concat());
        let answer = socket.receive();
        if valid != "\0" {
            assert_eq!(answer, json!({"id": valid, "status": "ok"}), "6.2 to 6.23");
        }
        assert_eq!(socket.ask(json!({"event": "ping"}))["status"], "ok");
    }
    let invalid: [&[u8]; 24] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\xc0\x20",
        b"\xe0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xc2",
        b"\xfe",
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xed\xa0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ];
    for bytes in invalid {
        assert_closes(&pogo, &format!("6 {bytes:02x?}"), &frame(TEXT, bytes), 1007);
        let (one, two) = cut(bytes, bytes.len() / 2);
        let bytes = [frame(BEGIN, one), frame(END, two)].concat();
        assert_closes(&pogo, &format!("6 {bytes:02x?}"), &bytes, 1007);
    }
}

#[test]
fn what_is_no_text_closes_the_socket_before_the_message_has_come() {
    in_plain_json();
    let pogo = start();
    let good = "κόσμε".as_bytes();
    for bad in [&b"\xf4\x90"[..], b"\xed\xa0", b"\xff"] {
        let text = [good, bad, good].concat();
        let part = [frame(BEGIN, good), frame(GO_ON, bad)].concat();
        assert_closes(&pogo, &format!("6.4.1 and 6.4.2 {bad:02x?}"), &part, 1007);
        let whole = frame(TEXT, &text);
        let part = &whole[..whole.len() - good.len()];
        assert_closes(&pogo, &format!("6.4.3 and 6.4.4 {bad:02x?}"), part, 1007);
    }
}

#[test]
fn a_close_is_answered_and_is_the_end() {
    in_plain_json();
    let pogo = start();
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        let payload = [&code.to_be_bytes()[..], b"reason"].concat();
        assert_closes(&pogo, &format!("7.7 {code}"), &frame(CLOSE, &payload), code);
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        let name = format!("7.9, 7.13 {code}");
        assert_closes(&pogo, &name, &frame(CLOSE, &code.to_be_bytes()), 1002);
    }
    let long = [&1000_u16.to_be_bytes()[..], &[b'x'; 123]].concat();
    let too_long = [&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat();
    let (one, two) = (frame(CLOSE, &1000_u16.to_be_bytes()), frame(TEXT, &ping(23)));
    for (name, bytes, code) in [
        ("7.1.1", [two.clone(), one.clone()].concat(), 1000),
        ("7.1.2", [one.clone(), one.clone()].concat(), 1000),
        ("7.1.3", [one.clone(), frame(PING, b"")].concat(), 1000),
        ("7.1.4", [one.clone(), two.clone()].concat(), 1000),
        ("7.1.5", [frame(BEGIN, b"{"), one.clone(), frame(END, b"}")].concat(), 1000),
        ("7.1.6", [one, vec![b'x'; 256 * 1024]].concat(), 1000),
        ("7.3.1", frame(CLOSE, b""), 1000),
        ("7.3.2", frame(CLOSE, b"a"), 1002),
        ("7.3.5", frame(CLOSE, &long), 1000),
        ("7.3.6", frame(CLOSE, &too_long), 1002),
        ("7.5.1", frame(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80"), 1007),
    ] {
        let mut socket = Socket::open(&pogo);
        // It may not listen to the end.
        socket.try_send_bytes(&bytes);
        assert_eq!(socket.close_frame().0, code, "{name}");
        if code == 1000 {
            socket.assert_ended();
        }
    }
}

/// It cannot know that its own close frame would not be understood.
#[test]
fn after_an_error_a_client_is_told_that_nothing_more_comes() {
    const GRACE: Duration = Duration::from_secs(2);
    let pogo = start();
    let taken = (0..3).map(|_| {
        let mut socket = Socket::open(&pogo);
        socket.send_bytes(&frame(0xc1, b"x"));
        assert_eq!(socket.close_frame().0, 1002);
        let begin = Instant::now();
        let rest = socket.stream().read(&mut [0; 16]).expect("an end, and not a reset");
        assert_eq!(rest, 0);
        begin.elapsed()
    });
    // Without being told it would be over at the end of the time in which the client may answer.
    assert!(taken.min().unwrap() < GRACE);
}
