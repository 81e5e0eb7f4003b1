//! The line of each request: who ended it, when, and what it took; and never a credential.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::{Api, Launch, Nowhere, Process, Reply, Socket, Upstream, Wire, in_plain_json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn start(upstream: SocketAddr, configuration: &str) -> Process {
    Launch { configuration, access_log: true, ..Launch::default() }.before(upstream)
}

fn ask(program: &Process, request: &str) -> Wire {
    let mut wire = program.connect();
    wire.send(request);
    wire
}

#[track_caller]
fn assert_end(line: &Value, by: &str, at: &str, reason: &str) {
    let end = (&line["ended_by"], &line["ended_at"], &line["reason"]);
    assert_eq!(end, (&json!(by), &json!(at), &json!(reason)), "{line}");
}

#[test]
fn a_line_says_what_was_answered_and_what_it_took() {
    let api = Api::start();
    api.put("/posts/1", json!({"title": "twenty-two"}));
    let program = start(api.address(), "[[route]]\npath = \"/posts/{id}\"");
    let mut wire = ask(
        &program,
        &format!(
            "GET /posts/1?token=hidden HTTP/1.1\r\nHost: a\r\nCookie: sid=hidden\r\n\
             Authorization: Bearer hidden\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\
             tracestate: vendor=1\r\n\r\n"
        ),
    );
    let answer = wire.message();
    let line = program.line("request");
    assert_end(&line, "none", "end", "ok");
    assert_eq!(line["target"], "pogo::access");
    assert_eq!((&line["method"], &line["path"]), (&json!("GET"), &json!("/posts/1")));
    assert_eq!((&line["route"], &line["status"]), (&json!("/posts/{id}"), &json!(200)));
    assert_eq!(line["bytes"], answer.body.len());
    assert_eq!((&line["client"], &line["trace_id"]), (&json!("127.0.0.1"), &json!(TRACE)));
    let (whole, upstream) = (line["duration_ms"].as_f64(), line["upstream_ms"].as_f64());
    assert!(upstream.unwrap() > 0.0 && whole.unwrap() >= upstream.unwrap(), "{line}");
    assert!(!line.to_string().contains("hidden"), "{line}");
    // Whoever reads the API's traces finds the same one.
    let seen = &api.seen("GET /posts/1")[0];
    assert_eq!(seen.header("traceparent").unwrap(), format!("00-{TRACE}-b7ad6b7169203331-01"));
    assert_eq!(seen.header("tracestate").unwrap(), "vendor=1");
}

#[test]
fn bodies_of_every_framing_are_counted_and_end_well() {
    let upstream = Upstream::start();
    let program = start(upstream.address(), "");
    for (answer, bytes) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            5,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", 4),
        ("HTTP/1.1 204 No Content\r\n\r\n", 0),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", 10),
    ] {
        let mut client = ask(&program, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (mut api, _) = upstream.request();
        api.send(answer);
        drop(api);
        client.rest();
        let line = program.line("request");
        assert_end(&line, "none", "end", "ok");
        assert_eq!(line["bytes"], bytes, "{answer}");
    }
    let mut client = ask(&program, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    client.rest();
    let line = program.line("request");
    assert_end(&line, "none", "end", "ok");
    assert_eq!(line["bytes"], 0);
}

#[test]
fn who_ended_it_is_told_from_how_it_went() {
    let upstream = Upstream::start();
    let program = start(upstream.address(), "[timeouts]\nupstream_response = \"200ms\"");
    let get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    // The client leaves before the answer,
    let client = ask(&program, get);
    let (api, _) = upstream.request();
    drop(client);
    let line = program.line("request");
    assert_end(&line, "client", "answer", "client_gone");
    assert_eq!(line.get("status"), None);
    drop(api);
    // and amid it;
    let mut client = ask(&program, get);
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    client.head();
    client.exactly(4);
    drop(client);
    let line = program.line("request");
    assert_end(&line, "client", "body", "client_gone");
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(4)));
    // the upstream breaks off amid the answer,
    let mut client = ask(&program, get);
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    client.head();
    client.exactly(4);
    drop(api);
    client.rest();
    assert_end(&program.line("request"), "upstream", "body", "upstream_reset");
    // before it,
    let mut client = ask(&program, get);
    drop(upstream.request());
    assert_eq!(client.message().status(), 502);
    assert_end(&program.line("request"), "upstream", "answer", "upstream_broken");
    // or takes too long;
    let mut client = ask(&program, get);
    let _api = upstream.request();
    assert_eq!(client.message().status(), 504);
    assert_end(&program.line("request"), "upstream", "answer", "upstream_timeout");
    // or Pogo refuses.
    let mut client = ask(&program, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().status(), 405);
    let line = program.line("request");
    assert_end(&line, "pogo", "request", "method_not_allowed");
    assert_eq!(line.get("upstream_ms"), None);
}

#[test]
fn an_answer_that_was_broken_off_for_others_says_so() {
    let upstream = Upstream::start();
    let configuration = "[limits]\nupstream_connections = 1\n[timeouts]\nslow_client = \"100ms\"";
    let launch = Launch { configuration, access_log: true, workers: 1, ..Launch::default() };
    let program = launch.before(upstream.address());
    let mut slow = ask(&program, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut api, _) = upstream.request();
    let giver = std::thread::spawn(move || {
        api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while api.try_send(&chunk).is_ok() {}
    });
    let mut other = ask(&program, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut api, _) = upstream.request();
    api.respond("served");
    assert_eq!(other.message().text(), "served");
    giver.join().unwrap();
    let line = program.line("request");
    assert_eq!(line["path"], "/other");
    slow.rest();
    assert_end(&program.line("request"), "pogo", "body", "slow_client");
}

#[test]
fn an_upstream_that_is_not_there_a_rate_and_a_drain_that_ends_are_told() {
    let nowhere = Nowhere::new();
    let program = start(nowhere.address(), "[gate.rate]\nhttp = \"1/m\"");
    let mut client = ask(&program, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().status(), 502);
    assert_end(&program.line("request"), "upstream", "connect", "upstream_unreachable");
    let mut client = ask(&program, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().status(), 429);
    assert_end(&program.line("request"), "pogo", "request", "rate_limited");
    let upstream = Upstream::start();
    let mut program = start(upstream.address(), "[timeouts]\ndrain = \"100ms\"");
    let mut client = ask(&program, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _api = upstream.request();
    program.signal("-TERM");
    client.assert_closed();
    let (log, code) = program.ended();
    let line = log.iter().find(|line| line["message"] == "request").expect("a line");
    assert_end(line, "pogo", "answer", "drain_deadline");
    assert_eq!(code, Some(0));
}

#[test]
fn a_socket_has_a_line_when_it_ends() {
    in_plain_json();
    let api = Api::start();
    api.on("GET /", |_, _| Some(Reply::new(200, &json!({}))));
    let mut program = start(api.address(), "");
    let open = || Socket::try_open(program.address(), "/", &[("authorization", "Bearer hidden")]);
    let mut left = open().unwrap();
    let opened = program.line("request");
    assert_eq!(opened["status"], 101, "{opened}");
    left.close();
    left.assert_ended();
    let line = program.line("socket");
    assert_eq!((&line["ended_by"], &line["code"]), (&json!("client"), &json!(1000)), "{line}");
    let mut abusive = open().unwrap();
    abusive.send_raw(tokio_tungstenite::tungstenite::Message::binary(vec![1]));
    assert_eq!(abusive.closed().0, 1003);
    let line = program.line("socket");
    assert_eq!((&line["ended_by"], &line["code"]), (&json!("pogo"), &json!(1003)), "{line}");
    drop(open().unwrap());
    let line = program.line("socket");
    assert_eq!((&line["ended_by"], line.get("code")), (&json!("client"), None), "{line}");
    program.signal("-TERM");
    let (log, _) = program.ended();
    assert!(log.iter().all(|line| !line.to_string().contains("hidden")));
}
