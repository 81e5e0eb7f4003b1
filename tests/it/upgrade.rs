//! A WebSocket of the API itself passes through, once the upstream has agreed, and nothing else.

use crate::harness::{Pogo, Upstream};

const UPGRADE: &str = "GET /live HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn bytes_pass_both_ways_once_the_upstream_has_agreed() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(&format!("{UPGRADE}early"));
    let mut api = upstream.accept();
    let request = api.head();
    assert_eq!(request.one("upgrade").as_deref(), Some("websocket"));
    assert_eq!(request.one("connection").as_deref(), Some("Upgrade"));
    assert_eq!(request.one("sec-websocket-extensions").as_deref(), Some("permessage-deflate"));
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    api.assert_quiet();
    api.send(format!("{SWITCH}welcome"));
    let answer = client.head();
    assert_eq!(answer.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(answer.one("upgrade").as_deref(), Some("websocket"));
    assert_eq!(answer.one("connection").as_deref(), Some("Upgrade"));
    assert_eq!(answer.one("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.exactly(7), b"welcome");
    assert_eq!(api.exactly(5), b"early");
    client.send("ping");
    assert_eq!(api.exactly(4), b"ping");
    api.send("pong");
    assert_eq!(client.exactly(4), b"pong");
    api.finish();
    client.assert_closed();
    drop(client);
    api.assert_closed();
}

#[test]
fn a_second_request_is_not_tunnelled_when_the_upstream_declines() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let smuggled = "TRACE /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = pogo.ask(&format!("{UPGRADE}{smuggled}"));
    let mut api = upstream.accept();
    api.head();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(client.message().text(), "no");
    client.message().assert_problem(405);
    api.assert_closed();
}

#[test]
fn the_upstream_cannot_switch_to_another_protocol() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(UPGRADE);
    let mut api = upstream.accept();
    api.head();
    api.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n");
    client.message().assert_problem(502);
}

#[test]
fn the_upstream_cannot_switch_unasked() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send(SWITCH);
    client.message().assert_problem(502);
}

#[test]
fn no_other_upgrade_is_forwarded() {
    for (version, upgrade) in [("1.1", "h2c"), ("1.1", "TLS/1.0"), ("1.0", "websocket")] {
        let upstream = Upstream::start();
        let pogo = Pogo::before(&upstream);
        let mut client = pogo.ask(&format!(
            "GET /live HTTP/{version}\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        let (mut api, request) = upstream.request();
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(request.one(gone), None, "{gone}");
        }
        api.respond("plain");
        assert_eq!(client.message().text(), "plain");
    }
}
