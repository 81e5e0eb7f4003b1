//! What passes, passes as it came.

use crate::harness::{Pogo, Upstream};

#[test]
fn a_request_and_its_answer_pass_with_the_names_as_they_were_written() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(
        "POST /posts?draft=1 HTTP/1.1\r\nHost: api.example\r\nX-CamelCase: 1\r\n\
         Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    );
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "POST /posts?draft=1 HTTP/1.1");
    assert_eq!(request.text(), "hello");
    assert!(request.headers.contains(&("X-CamelCase".into(), b"1".to_vec())), "{request:?}");
    assert_eq!(request.one("host").as_deref(), Some("api.example"));
    assert_eq!(request.one("via").as_deref(), Some("1.1 pogo"));
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(request.one("x-forwarded-host").as_deref(), Some("api.example"));
    api.send(
        "HTTP/1.1 201 Made For You\r\nX-Camel: 2\r\nETag: \"1\"\r\nContent-Length: 2\r\n\r\nok",
    );
    let answer = client.message();
    assert_eq!(answer.start, "HTTP/1.1 201 Made For You");
    assert!(answer.headers.contains(&("X-Camel".into(), b"2".to_vec())), "{answer:?}");
    assert_eq!(answer.one("etag").as_deref(), Some("\"1\""));
    assert_eq!(answer.text(), "ok");
}

#[test]
fn both_connections_are_kept_for_the_next_request() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/1");
    let (mut api, _) = upstream.request();
    api.respond("one");
    assert_eq!(client.message().text(), "one");
    for number in 2..10 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(api.message().start, format!("GET /{number} HTTP/1.1"));
        api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(client.message().text(), "abc");
    }
    upstream.assert_untouched();
}
