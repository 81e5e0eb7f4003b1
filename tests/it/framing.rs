//! Where a message ends: the same place for all three parties, or nowhere (RFC 9112 §6).

use crate::harness::{Message, Pogo, Upstream, Wire};

/// What a client of Pogo gets for `answer`.
fn answered(answer: &str) -> (Wire, Message) {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send(answer);
    api.finish();
    let message = client.message();
    (client, message)
}

#[test]
fn an_answer_with_two_lengths_is_as_long_as_its_chunks() {
    for order in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
    ] {
        let (_, answer) =
            answered(&format!("HTTP/1.1 200 OK\r\n{order}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(answer.text(), "hello");
        assert_eq!(answer.one("content-length"), None);
    }
}

#[test]
fn of_equal_lengths_of_an_answer_one_goes_on() {
    for lengths in ["5, 5", "5\r\nContent-Length: 5", "5 , 5\r\nContent-Length: 5"] {
        let (_, answer) =
            answered(&format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\nhello"));
        assert_eq!(answer.one("content-length").as_deref(), Some("5"));
        assert_eq!(answer.text(), "hello");
    }
    for lengths in ["5, 6", "5\r\nContent-Length: 6", "-5", "+5", "5a"] {
        let (_, answer) =
            answered(&format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\nhello"));
        answer.assert_problem(502);
    }
}

#[test]
fn a_connection_on_which_two_lengths_were_declared_serves_nobody_else() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n");
    api.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.message().text(), "hello");
    api.assert_closed();
}

#[test]
fn an_answer_in_an_unknown_coding_is_no_answer() {
    let (_, answer) = answered(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    answer.assert_problem(502);
}

#[test]
fn an_answer_that_breaks_off_does_not_end_well() {
    let (mut client, _) = {
        let upstream = Upstream::start();
        let pogo = Pogo::before(&upstream);
        let mut client = pogo.get("/");
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        drop(api);
        let head = client.head();
        assert_eq!(head.one("content-length").as_deref(), Some("10"));
        assert_eq!(client.rest(), b"hello");
        (client, pogo)
    };
    client.assert_closed();
}

#[test]
fn a_chunked_answer_that_breaks_off_has_no_last_chunk() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    drop(api);
    client.head();
    assert_eq!(client.rest(), b"5\r\nhello\r\n");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let (_, answer) = answered("HTTP/1.1 200 OK\r\n\r\nhello");
    assert_eq!(answer.text(), "hello");
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(client.message().one("content-length").as_deref(), Some("10"));
    for status in ["204 No Content", "304 Not Modified"] {
        client.send("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(api.message().start, "GET /b HTTP/1.1");
        api.send(format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\n\r\n"));
        let answer = client.message();
        assert_eq!(answer.start, format!("HTTP/1.1 {status}"));
        assert_eq!(answer.one("etag").as_deref(), Some("\"1\""));
    }
    client.send("GET /c HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(api.message().start, "GET /c HTTP/1.1");
    api.respond("last");
    assert_eq!(client.message().text(), "last");
}

#[test]
fn the_body_of_a_get_reaches_the_upstream() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (method, body) in
        [("GET", chunked), ("GET", "Content-Length: 3\r\n\r\nabc"), ("DELETE", chunked)]
    {
        let mut client = pogo.ask(&format!("{method} /search HTTP/1.1\r\nHost: a\r\n{body}"));
        let (mut api, request) = upstream.request();
        assert_eq!(request.text(), "abc");
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200);
    }
}

#[test]
fn a_write_without_a_body_says_so() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let _client = pogo.ask("POST /go HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(upstream.request().1.one("content-length").as_deref(), Some("0"));
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    for (framing, status) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        ("transfer-encoding: chunked\r\ncontent-length: 3", 400),
        ("Content-Length: 3\r\nContent-Length: 4", 400),
        ("Content-Length: 3, 3", 400),
        ("Content-Length: +3", 400),
        ("Content-Length: 18446744073709551616", 400),
        ("Transfer-Encoding: identity", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
    ] {
        let upstream = Upstream::start();
        let pogo = Pogo::before(&upstream);
        let mut client =
            pogo.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n"));
        assert_eq!(client.message().status(), status, "{framing}");
        client.assert_closed();
        upstream.assert_untouched();
    }
}

#[test]
fn a_malformed_chunk_is_the_clients_fault() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for chunk in ["zz\r\n", "0x3\r\nabc\r\n", "3\nabc\r\n", "3\r\nabcdef\r\n"] {
        let mut client = pogo.ask(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        ));
        client.message().assert_problem(400);
        client.assert_closed();
        let mut api = upstream.accept();
        let seen = String::from_utf8(api.rest()).unwrap();
        assert!(!seen.ends_with("0\r\n\r\n"), "the upstream takes it for whole: {seen}");
    }
}

#[test]
fn a_client_that_leaves_amid_its_body_does_not_complete_it() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client =
        pogo.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut api = upstream.accept();
    api.head();
    assert_eq!(api.chunk().unwrap(), b"abc");
    drop(client);
    api.assert_closed();
}

/// RFC 9112 §5.2: the one reader that may still be sent such lines makes one of them.
#[test]
fn a_folded_line_of_an_answer_is_one_line() {
    let (_, answer) =
        answered("HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\n\tc\r\nContent-Length: 2\r\n\r\nok");
    let folded = answer.one("x-folded").unwrap();
    assert_eq!(folded.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(!folded.contains(['\r', '\n']), "{folded:?}");
    assert_eq!(answer.text(), "ok");
}
