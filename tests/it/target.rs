//! Which targets pass, and that their bytes do.

use crate::harness::{Pogo, Upstream};

#[test]
fn the_bytes_of_a_target_are_not_touched() {
    for target in [
        "/a%2Fb/../c//d/./e?x=%20+&y",
        "/a%2Fb/../c//d?x=%20+&y=[1]|",
        "/?",
        "/%zz",
        "//evil/x",
        "/;p=1",
        "/a?b?c",
    ] {
        let upstream = Upstream::start();
        let pogo = Pogo::before(&upstream);
        let mut client = pogo.get(target);
        let (mut api, request) = upstream.request();
        assert_eq!(request.start, format!("GET {target} HTTP/1.1"));
        api.respond("");
        assert_eq!(client.message().status(), 200);
    }
}

#[test]
fn bytes_that_no_target_may_hold_are_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for target in [&b"/<"[..], b"/>", b"/`", b"/\xff", b"/a?\"", b"/a?<", b"/a?>"] {
        let mut client = pogo.connect();
        client.send([b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert_eq!(client.message().status(), 400, "{}", target.escape_ascii());
    }
    upstream.assert_untouched();
    let mut client = pogo.get("/a?b#c");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /a?b HTTP/1.1");
    api.respond("");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn the_options_of_the_server_as_a_whole_pass_as_a_star() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "OPTIONS * HTTP/1.1");
    api.send("HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n");
    assert_eq!(client.message().one("allow").as_deref(), Some("GET"));
}

#[test]
fn nobody_is_connected_to_anywhere_and_nothing_is_echoed() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for request in [
        format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", upstream.address()),
        "TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: secret\r\n\r\n".into(),
    ] {
        let mut client = pogo.ask(&request);
        let answer = client.message();
        answer.assert_problem(405);
        let allowed = answer.one("allow").unwrap();
        assert!(allowed.contains("GET") && !allowed.contains("TRACE"), "{allowed}");
        assert!(!answer.text().contains("secret"));
    }
    upstream.assert_untouched();
}

#[test]
fn a_target_that_is_neither_a_path_nor_a_url_is_refused() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for target in ["*", "a.example", "a.example:80"] {
        let mut client = pogo.get(target);
        client.message().assert_problem(400);
    }
    upstream.assert_untouched();
}

#[test]
fn any_method_passes() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for method in ["PROPFIND", "QUERY", "purge", "M-SEARCH"] {
        let mut client = pogo.ask(&format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
        let (mut api, request) = upstream.request();
        assert_eq!(request.start, format!("{method} /x HTTP/1.1"));
        api.send("HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(client.message().start, "HTTP/1.1 299 ");
    }
}
