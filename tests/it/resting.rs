//! A connection on which nothing is asked rests: it holds no buffers, and nobody can tell.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Pogo, Upstream, Wire};

/// Between any two requests the connections rest.
fn at_once(upstream: &Upstream) -> Pogo {
    Pogo::with(upstream, |options| options.gateway.rest_after = Duration::ZERO)
}

/// Long enough for a timer that is due, filled with another client's requests.
fn a_while(pogo: &Pogo, upstream: &Upstream) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(5) {
        let mut other = pogo.get("/other");
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(other.message().status(), 200);
    }
}

fn answer(api: &mut Wire, target: &str) {
    assert_eq!(api.message().start.split(' ').nth(1), Some(target));
    api.respond(target);
}

#[test]
fn a_connection_that_has_rested_serves_on() {
    let upstream = Upstream::start();
    let pogo = at_once(&upstream);
    let mut client = pogo.get("/0");
    let (mut api, _) = upstream.request();
    api.respond("/0");
    assert_eq!(client.message().text(), "/0");
    for number in 1..20 {
        // The only connection to the API that is kept is the one of this client.
        let mut held = pogo.get("/held");
        assert!(api.message().start.contains("/held"));
        a_while(&pogo, &upstream);
        api.respond("");
        assert_eq!(held.message().status(), 200);
        let target = format!("/{number}");
        let body = if number % 2 == 0 { "" } else { "abc" };
        let head =
            format!("PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
        // In two parts, so that it also rests amid a head.
        client.send(&head);
        client.assert_quiet();
        client.send(format!("\r\n{body}"));
        answer(&mut api, &target);
        let got = client.message();
        assert_eq!((got.text(), got.one("connection")), (&*target, None));
    }
}

#[test]
fn requests_that_came_together_are_all_answered() {
    let upstream = Upstream::start();
    let pogo = at_once(&upstream);
    let mut client = pogo.connect();
    for _ in 0..5 {
        a_while(&pogo, &upstream);
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        for target in ["/a", "/b"] {
            let (mut api, request) = upstream.request();
            assert_eq!(request.start, format!("GET {target} HTTP/1.1"));
            api.send(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{target}"
            ));
            assert_eq!(client.message().text(), target);
        }
    }
}

#[test]
fn who_waits_for_an_answer_does_not_rest() {
    let upstream = Upstream::start();
    let pogo = at_once(&upstream);
    let mut client = pogo.get("/slow");
    let (mut api, _) = upstream.request();
    a_while(&pogo, &upstream);
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let head = client.head();
    assert_eq!(head.one("connection"), None);
    assert_eq!(client.chunk().unwrap(), b"a");
    a_while(&pogo, &upstream);
    api.send("1\r\nb\r\n0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"b");
    assert_eq!(client.chunk(), None);
    assert!(client.trailers().is_empty());
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    answer(&mut api, "/next");
    assert_eq!(client.message().text(), "/next");
}

#[test]
fn a_resting_connection_is_closed_by_a_drain_and_when_it_is_silent_too_long() {
    let upstream = Upstream::start();
    let mut pogo = at_once(&upstream);
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    let (mut held, _) = (pogo.get("/held"), api.message());
    a_while(&pogo, &upstream);
    api.respond("");
    assert_eq!(held.message().status(), 200);
    let drained = pogo.drain();
    client.assert_closed();
    drained.join().unwrap().unwrap();

    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.rest_after = Duration::from_millis(10);
        options.gateway.header_read = Duration::from_millis(200);
    });
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.assert_closed();
}

#[test]
fn whatever_the_last_answer_was_silence_after_it_is_not_waited_for_longer() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.rest_after = Duration::from_millis(10);
        options.gateway.header_read = Duration::from_millis(200);
    });
    for (answer, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200),
        ("nonsense\r\n\r\n", 502),
    ] {
        let mut client = pogo.get("/");
        let (mut api, _) = upstream.request();
        api.send(answer);
        drop(api);
        assert_eq!(client.message().status(), status);
        client.assert_closed();
    }
    let mut client = pogo.connect();
    client.send("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().status(), 405);
    client.assert_closed();
}

#[test]
fn a_head_after_trailers_is_a_head_and_silence_after_them_is_silence() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gateway.header_read = Duration::from_millis(200);
    });
    let mut client = pogo.connect();
    client.send(
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n\
         1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
    );
    let (mut api, posted) = upstream.request();
    assert_eq!((posted.text(), posted.trailers.len()), ("a", 1));
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.send("GET /b HTTP/1.1\r\nHost: a\r\nx-SPELLED: 1\r\n\r\n");
    assert!(api.message().headers.iter().any(|(name, _)| name == "x-SPELLED"));
    api.respond("");
    assert_eq!(client.message().status(), 200);
    client.assert_closed();
}
