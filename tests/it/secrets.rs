//! What is a credential stands in no line of the log, at its most talkative: however it came, and
//! whatever went wrong with it.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use serde_json::json;

use crate::harness::{Api, Http2, Launch, Process, Reply, Socket, Wire};

/// Every credential begins with it.
const SECRET: &str = "sesame";
const FIELDS: &str = "Authorization: Bearer sesame-1\r\nCookie: sid=sesame-2\r\n\
    Proxy-Authorization: Basic sesame-3";

fn over_http(pogo: &Process) {
    for (line, more) in [
        ("GET /posts?token=sesame-4 HTTP/1.1", "Host: api"),
        ("PUT /posts/1?token=sesame-4 HTTP/1.1", "Host: api\r\nContent-Length: 0"),
        // Refused here, broken there, and no request at all.
        ("GET /posts HTTP/1.1", "Host: a b"),
        ("TRACE /?token=sesame-4 HTTP/1.1", "Host: api"),
        ("GET /breaks?token=sesame-4 HTTP/1.1", "Host: api"),
        ("GET /posts HTTP/1.1", "Host: api\r\nContent-Length: sesame-5"),
        ("GET /posts HTTP/1.1", "Host: api\r\nAuthorization sesame-5"),
        ("GET sesame-6 HTTP/1.1", "Host: api"),
    ] {
        let mut wire = pogo.connect();
        wire.send(format!("{line}\r\n{FIELDS}\r\n{more}\r\n\r\n"));
        assert!(wire.is_answered(), "{line} {more}");
    }
    let request = Request::get("http://api/posts?token=sesame-4").version(Version::HTTP_2);
    let request = request.header("authorization", "Bearer sesame-1").header("cookie", "a=sesame-2");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let answer = Http2::connect(pogo.address()).ask(request).join().unwrap().unwrap();
    assert_eq!(answer.0.status(), 200);
}

fn over_a_socket(pogo: &Process) {
    let fields = [("authorization", "Bearer sesame-1"), ("cookie", "sid=sesame-2")];
    let mut socket = Socket::try_open(pogo.address(), "/?token=sesame-4", &fields).unwrap();
    socket.bind("/posts?token=sesame-4");
    for token in ["sesame-7", "sesame-refused"] {
        socket.send(&json!({"id": 1, "event": "auth", "data": {"token": token}}));
        assert_eq!(socket.receive()["id"], 1);
    }
    socket.send(&json!({"id": 2, "event": "show", "uri": "/breaks?token=sesame-4"}));
    assert_eq!(socket.receive()["id"], 2);
    socket.send_text(r#"{"event": "auth", "data": {"token": "sesame-8""#);
    assert_eq!(socket.receive()["status"], "error");
    socket.send(&json!({"id": 3, "event": "sesame-9", "uri": "/posts"}));
    assert_eq!(socket.receive()["status"], "error");
    socket.close();
}

fn as_operators(pogo: &Process, admin: std::net::SocketAddr) {
    for token in ["sesame-of-the-operators", "sesame-of-somebody-else"] {
        for line in ["GET /sessions?token=sesame-4", "DELETE /sessions/1", "POST /changed"] {
            let mut wire = Wire::connect(admin);
            wire.send(format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: 0\r\n\r\n"
            ));
            assert!(wire.is_answered(), "{line}");
        }
    }
    assert_eq!(pogo.ask("GET", "/posts", "").message().status(), 200);
}

#[test]
fn no_credential_stands_in_the_log_however_it_came_and_whatever_went_wrong() {
    let api = Api::start();
    api.put("/posts/1", json!({"n": 1}));
    api.on("GET /me", |seen, _| {
        let refused = seen.header("authorization").is_none_or(|token| token.contains("refused"));
        Some(Reply::empty(if refused { 401 } else { 204 }))
    });
    api.on("GET /breaks", |_, _| None);
    let configuration = "level = \"trace\"\n[auth]\nverify = \"/me\"\n\
        logout = [\"PUT /posts/1\"]\n[gate.rate]\nauth_failures = \"100/s\"\n\
        [admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n";
    let files = [("token", "sesame-of-the-operators\n")];
    let launch = Launch { configuration, workers: 1, files: &files, ..Launch::default() };
    let mut pogo = Launch { access_log: true, ..launch }.before(api.address());
    let admin = pogo.address_of("operators are listened to");
    over_http(&pogo);
    over_a_socket(&pogo);
    as_operators(&pogo, admin);
    pogo.signal("-TERM");
    let (lines, code) = pogo.ended();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line["level"] == "TRACE" || line["level"] == "DEBUG"));
    assert!(lines.iter().any(|line| line["path"] == "/breaks"), "the log was read");
    for line in lines {
        assert!(!line.to_string().contains(SECRET), "{line}");
    }
}
