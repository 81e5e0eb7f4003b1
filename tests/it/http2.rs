//! HTTP/2 before Pogo, HTTP/1.1 behind it.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;

use crate::harness::{Http2, Pogo, Upstream};

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://api.example{path}")).version(Version::HTTP_2)
}

fn nothing() -> Full<Bytes> {
    Full::new(Bytes::new())
}

#[test]
fn a_request_arrives_as_http_1_1_for_the_clients_authority() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let answer = client.ask(get("/a%2Fb?x=1").body(nothing()).unwrap());
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /a%2Fb?x=1 HTTP/1.1");
    assert_eq!(request.one("host").as_deref(), Some("api.example"));
    assert_eq!(request.one("x-forwarded-host").as_deref(), Some("api.example"));
    assert_eq!(request.one("via").as_deref(), Some("2.0 pogo"));
    assert_eq!(request.one("transfer-encoding"), None);
    api.send(
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello",
    );
    let (answer, _) = answer.join().unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-a"], "1");
    assert!(!answer.headers().contains_key("keep-alive"));
    assert_eq!(answer.body(), "hello");
}

#[test]
fn split_cookies_are_joined() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let request = get("/").header("cookie", "a=1").header("cookie", "b=2").body(nothing());
    let _answer = client.ask(request.unwrap());
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("cookie").as_deref(), Some("a=1; b=2"));
    api.respond("");
}

#[test]
fn a_host_that_differs_from_the_authority_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let answer = client.ask(get("/").header("host", "evil.example").body(nothing()).unwrap());
    assert_eq!(answer.join().unwrap().unwrap().0.status(), 400);
    upstream.assert_untouched();
}

#[test]
fn a_body_without_a_length_reaches_the_upstream_in_chunks() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let request = Request::post("http://a/").version(Version::HTTP_2);
    let answer = client.ask(request.body(Full::new(Bytes::from_static(b"abc"))).unwrap());
    let (mut api, request) = upstream.request();
    assert_eq!(request.text(), "abc");
    api.respond("ok");
    assert_eq!(answer.join().unwrap().unwrap().0.body(), "ok");
}

#[test]
fn trailers_pass() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let answer = client.ask(get("/grpc").header("te", "trailers").body(nothing()).unwrap());
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("te").as_deref(), Some("trailers"));
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n");
    api.send("2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n");
    let (answer, trailers) = answer.join().unwrap().unwrap();
    assert_eq!(answer.body(), "ok");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn an_answer_that_breaks_off_does_not_end_well() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let answer = client.ask(get("/").body(nothing()).unwrap());
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    drop(api);
    assert!(answer.join().unwrap().is_err());
}

#[test]
fn requests_of_one_connection_run_side_by_side() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let first = client.ask(get("/first").body(nothing()).unwrap());
    let (mut first_api, _) = upstream.request();
    let second = client.ask(get("/second").body(nothing()).unwrap());
    let (mut second_api, _) = upstream.request();
    second_api.respond("second");
    assert_eq!(second.join().unwrap().unwrap().0.body(), "second");
    first_api.respond("first");
    assert_eq!(first.join().unwrap().unwrap().0.body(), "first");
}

#[test]
fn a_read_that_is_given_up_is_cancelled_upstream() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let give_up = client.ask_in_vain(get("/slow").body(nothing()).unwrap());
    let (mut api, _) = upstream.request();
    drop(give_up);
    api.assert_closed();
}

#[test]
fn a_drain_lets_what_is_under_way_finish() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::before(&upstream);
    let client = Http2::connect(pogo.address());
    let answer = client.ask(get("/busy").body(nothing()).unwrap());
    let (mut api, _) = upstream.request();
    let draining = pogo.drain();
    api.respond("done");
    assert_eq!(answer.join().unwrap().unwrap().0.body(), "done");
    draining.join().unwrap().unwrap();
}
