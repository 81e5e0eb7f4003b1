//! What passes, passes as it came.

use std::time::{Duration, SystemTime};

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

#[test]
fn what_is_for_client_and_api_to_understand_passes_as_it_is() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let fields = [
        "Range: bytes=0-1",
        "If-Range: \"1\"",
        "If-None-Match: W/\"1\", \"2\"",
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "Proxy-Authorization: Basic YTpi",
        "Accept-Encoding: br;q=1.0, *;q=0",
        "Priority: u=1",
    ];
    let lines = fields.join("\r\n");
    let mut client = pogo.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
    let (mut api, request) = upstream.request();
    for field in fields {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(request.one(name).as_deref(), Some(value));
    }
    for (status, fields, body) in [
        ("206 Partial Content", "Content-Range: bytes 0-1/9", "ok"),
        ("200 With A Range", "Content-Range: bytes 0-1/9", "ok"),
        ("416 Range Not Satisfiable", "Content-Range: bytes */9", ""),
        ("401 Who Are You", "WWW-Authenticate: Basic", ""),
        ("407 Proxy Authentication Required", "Proxy-Authenticate: Basic", ""),
        ("200 OK", "Server: api/1", ""),
        ("200 OK", "Date: Thu, 01 Jan 1970 00:00:00 GMT", ""),
        ("200 OK", "Content-Encoding: gzip", "never unpacked"),
        ("304 Not Modified", "ETag: W/\"1\"", ""),
        ("302 Found", "Location: http://127.0.0.1:1/elsewhere", ""),
        ("999 Beyond", "X-Odd: 1", "odd"),
    ] {
        let length = body.len();
        api.send(format!(
            "HTTP/1.1 {status}\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let answer = client.message();
        assert_eq!(answer.start, format!("HTTP/1.1 {status}"));
        let (name, value) = fields.split_once(": ").unwrap();
        assert_eq!(answer.one(name).as_deref(), Some(value));
        assert_eq!(answer.text(), body);
        assert_eq!(answer.one("server").is_some(), name == "Server");
        // RFC 9110 §6.6.1: one is added where there is none.
        let date = httpdate::parse_http_date(&answer.one("date").expect("a date")).unwrap();
        let age = SystemTime::now().duration_since(date).unwrap();
        assert!(name == "Date" || age < Duration::from_secs(10), "{age:?}");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        api.message();
    }
}

#[test]
fn without_a_name_there_is_no_via() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| options.gateway.via = None);
    let mut client = pogo.ask("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 before\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("via").as_deref(), Some("1.1 before"));
    api.respond("");
    assert_eq!(client.message().one("via"), None);
}
