//! TLS at either end: nobody can tell but by the certificates.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use pogo::server::Options;
use pogo::upstream::Tls;
use rustls::ProtocolVersion;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    Api, Authority, Http2, Launch, PATIENCE, Pogo, Private, Process, Socket, Upstream, Wire, frame,
    reach,
};
use crate::load::one_that_does_not_read_gets_fewer_states;

/// A Pogo that speaks TLS, and where it is reached in the clear through somebody who does too.
fn private(
    upstream: SocketAddr,
    authority: &Authority,
    change: impl FnOnce(&mut Options),
) -> (Pogo, SocketAddr) {
    let pogo = Pogo::at(&upstream.to_string(), |options| {
        options.tls = Some(authority.issue("pogo", "localhost"));
        change(options);
    });
    let reached = reach(pogo.address(), &authority.client(&["http/1.1"]));
    (pogo, reached)
}

const GET: &str = "GET /posts HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ask(address: SocketAddr, request: &str) -> Wire {
    let mut wire = Wire::connect(address);
    wire.send(request);
    wire
}

/// A Pogo whose API speaks TLS, with a certificate of `api` for "localhost".
fn before_private(
    api: &Authority,
    upstream: SocketAddr,
    clients: Option<&Authority>,
    tls: Tls,
) -> Pogo {
    let address = api.serve("localhost", upstream, clients);
    Pogo::at(&format!("localhost:{}", address.port()), |options| {
        options.upstream.tls = Some(tls);
    })
}

fn trusting(authority: &Authority) -> Tls {
    Tls { ca_file: Some(authority.ca_file()), ..Tls::default() }
}

#[test]
fn requests_and_their_bodies_pass_and_the_api_is_told_of_https() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (_pogo, address) = private(upstream.address(), &authority, |_| ());
    let mut client = ask(address, GET);
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let large = "x".repeat(3 << 20);
    api.respond(&large);
    assert_eq!(client.message().text(), large);
    client.send(format!(
        "POST /posts HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    ));
    let request = api.message();
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(request.text(), large);
    api.respond("done");
    assert_eq!(client.message().text(), "done");
}

#[test]
fn a_trusted_proxys_word_on_how_its_client_came_still_counts() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (_pogo, address) = private(upstream.address(), &authority, |options| {
        options.gate.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let said = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n";
    for (request, proto) in [(said, "http"), (GET, "https")] {
        let mut client = ask(address, request);
        let (mut api, request) = upstream.request();
        assert_eq!(request.one("x-forwarded-proto").as_deref(), Some(proto));
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200);
    }
}

#[test]
fn a_client_and_pogo_agree_on_what_they_speak() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (pogo, _) = private(upstream.address(), &authority, |_| ());
    for (offered, agreed) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&[], None),
    ] {
        let client = Private::connect(pogo.address(), &authority.client(offered));
        assert_eq!(client.protocol(), agreed, "{offered:?}");
        assert_eq!(client.version(), ProtocolVersion::TLSv1_3);
    }
    let http2 = Http2::connect(reach(pogo.address(), &authority.client(&["h2"])));
    let request = Request::get("https://localhost/a").version(Version::HTTP_2);
    let answer = http2.ask(request.body(Full::<Bytes>::default()).unwrap());
    let (mut api, request) = upstream.request();
    assert_eq!(request.start, "GET /a HTTP/1.1");
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    let large = "x".repeat(1 << 20);
    api.respond(&large);
    assert_eq!(answer.join().unwrap().unwrap().0.body(), &large);
}

#[test]
fn a_socket_binds_and_hears_of_writes() {
    let (authority, api) = (Authority::new(), Api::start());
    let (_pogo, address) = private(api.address(), &authority, |options| options.workers = 2);
    let mut socket = Socket::try_open(address, "/", &[]).expect("a socket");
    socket.bind("/posts");
    // Larger than one record, in both directions.
    let text = "x".repeat(50_000);
    for n in 0..20 {
        let write = json!({"event": "create", "uri": "/posts", "data": {"n": n, "text": text}});
        let mut other = Socket::try_open(address, "/", &[]).expect("a socket");
        other.must(write);
        let event = socket.event();
        assert_eq!(event["event"], "update");
        let last = event["data"].as_array().unwrap().iter().find(|post| post["n"] == n);
        assert_eq!(last.unwrap()["text"], text);
    }
}

#[test]
fn what_came_together_is_all_heard() {
    let (authority, api) = (Authority::new(), Api::start());
    let (pogo, _) = private(api.address(), &authority, |_| ());
    let mut client = Private::connect(pogo.address(), &authority.client(&[]));
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let ping = |id: u8| frame(0x81, format!("{{\"id\": {id}, \"event\": \"ping\"}}").as_bytes());
    client.send_together(&[upgrade, &ping(1), &ping(2), &ping(3)]);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    (0..3).for_each(|_| assert!(client.until("}").contains("\"ok\"")));
    client.send_together(&[&ping(4), &ping(5), &ping(6)]);
    (0..3).for_each(|_| assert!(client.until("}").contains("\"ok\"")));
}

#[test]
fn a_socket_that_does_not_read_gets_fewer_states_and_the_latest() {
    let (authority, api) = (Authority::new(), Api::start());
    let (_pogo, address) = private(api.address(), &authority, |options| {
        options.hub.min_interval = Duration::ZERO;
    });
    let open = || Socket::try_open(address, "/", &[]).expect("a socket");
    one_that_does_not_read_gets_fewer_states(&api, 512 * 1024, open);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_dropped_and_a_slow_one_is_not() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    const PATIENCE_OF_POGO: Duration = Duration::from_secs(1);
    let (pogo, _) = private(upstream.address(), &authority, |options| {
        options.gateway.request_idle = PATIENCE_OF_POGO;
    });
    let connect = || {
        let mut client = Private::connect(pogo.address(), &authority.client(&[]));
        client.send(GET);
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        (client, api)
    };
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (_idle, mut api) = connect();
    while api.try_send(&chunk).is_ok() {}
    api.assert_closed();

    let (mut slow, mut api) = connect();
    slow.listen_little();
    let done = Arc::new(AtomicBool::new(false));
    let sending = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                api.send(&chunk);
            }
            api.send("0\r\n\r\n");
        }
    });
    // Longer than it may take nothing, and never so fast that it is not waited for.
    let begin = Instant::now();
    let mut bytes = vec![0; 16 * 1024];
    while begin.elapsed() < PATIENCE_OF_POGO * 2 {
        (0..16).for_each(|_| assert_ne!(slow.read(&mut bytes).unwrap(), 0));
        Private::connect(pogo.address(), &authority.client(&[]));
    }
    done.store(true, Ordering::Relaxed);
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let count = slow.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "the answer is cut off");
        end.drain(..end.len().saturating_sub(6));
        end.extend_from_slice(&bytes[..count]);
    }
    sending.join().unwrap();
}

#[test]
fn a_handshake_that_does_not_come_to_an_end_in_time_is_ended() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (pogo, _) = private(upstream.address(), &authority, |options| {
        options.gateway.header_read = Duration::from_millis(300);
    });
    pogo.connect().assert_closed();
    // The beginning of a record, and then nothing.
    pogo.ask("\x16\x03\x01\x02\0\x01").assert_closed();
    let mut agreed = Private::connect(pogo.address(), &authority.client(&[]));
    agreed.assert_closed();
    upstream.assert_untouched();
}

#[test]
fn http_in_the_clear_is_answered_and_goes_nowhere() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (pogo, _) = private(upstream.address(), &authority, |_| ());
    for request in [
        GET,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)),
        "G",
    ] {
        let mut wire = pogo.ask(request);
        let answer = wire.message();
        answer.assert_problem(400);
        assert!(answer.text().contains("TLS"));
        wire.assert_closed();
    }
    upstream.assert_untouched();
}

#[test]
fn a_failed_handshake_is_one_line_that_only_debugging_shows() {
    let authority = Authority::new();
    let pair = authority.issue("pogo", "localhost");
    let configuration = format!(
        "level = \"debug\"\n[tls]\ncertificate = {:?}\nkey = {:?}\n",
        pair.certificate, pair.key
    );
    let launch = Launch { configuration: &configuration, ..Launch::default() };
    let program = launch.before_url("http://127.0.0.1:1");
    let mut wire = program.connect();
    wire.send("\x16\x03\x01\0\x05hello");
    wire.rest();
    let line = program.line("connection ended");
    assert_eq!(line["level"], "DEBUG");
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with("the TLS handshake failed: "), "{error}");
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (pogo, _) = private(upstream.address(), &authority, |options| {
        options.gate.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        options.gate.proxy_protocol = true;
    });
    let config = authority.client(&[]);
    let mut client = Private::connect_after(
        "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n",
        pogo.address(),
        &config,
    );
    client.send(GET);
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    api.respond("hello");
    assert!(client.until("hello").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_disturbs_nobody() {
    let (authority, api) = (Authority::new(), Api::start());
    let (pogo, address) = private(api.address(), &authority, |_| ());
    let config = authority.client(&[]);
    let mut old = Private::connect(pogo.address(), &config);
    let mut socket = Socket::try_open(address, "/", &[]).expect("a socket");
    socket.bind("/posts");
    let renewed = authority.issue("pogo", "localhost");
    assert!(!old.was_shown(&renewed));
    let deadline = Instant::now() + PATIENCE;
    while !Private::connect(pogo.address(), &config).was_shown(&renewed) {
        assert!(Instant::now() < deadline, "the new certificate is not shown");
    }
    old.send(GET);
    assert!(old.until("]").starts_with("HTTP/1.1 200 "));
    socket.must(json!({"event": "create", "uri": "/posts", "data": {"n": 1}, "bind": false}));
    assert_eq!(socket.event()["data"], json!([{"n": 1}]));

    // A key of another certificate changes nothing, and says so; then the pair is whole again.
    let other = authority.issue("other", "localhost");
    std::fs::copy(&other.key, &renewed.key).unwrap();
    assert!(Private::connect(pogo.address(), &config).was_shown(&renewed));
    std::fs::copy(&other.certificate, &renewed.certificate).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !Private::connect(pogo.address(), &config).was_shown(&other) {
        assert!(Instant::now() < deadline, "the mended pair is not shown");
    }
}

#[test]
fn a_connection_that_has_rested_serves_on() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let (_pogo, address) = private(upstream.address(), &authority, |options| {
        options.gateway.rest_after = Duration::ZERO;
    });
    let mut client = ask(address, GET);
    let (mut api, _) = upstream.request();
    api.respond("first");
    assert_eq!(client.message().text(), "first");
    for number in 0..20 {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(5) {
            let mut other = ask(address, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(api.message().start.contains("/other"));
            api.respond("");
            assert_eq!(other.message().status(), 200);
        }
        // Longer than what is read first, so that some is decrypted and waits.
        let body = "x".repeat(number * 500);
        client.send(format!(
            "PUT /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let request = api.message();
        assert_eq!(request.start, format!("PUT /{number} HTTP/1.1"));
        assert_eq!(request.text(), body);
        api.respond(&body);
        let answer = client.message();
        assert_eq!((answer.text(), answer.one("connection")), (&*body, None));
    }
}

#[test]
fn the_api_is_spoken_to_over_tls_and_has_to_prove_itself() {
    let (authority, stranger, api) = (Authority::new(), Authority::new(), Api::start());
    let pogo = before_private(&authority, api.address(), None, trusting(&authority));
    for n in 1..4 {
        assert_eq!(pogo.write("POST", "/posts", &json!({"n": n})), 201);
    }
    let mut socket = Socket::open(&pogo);
    let bound = socket.must(json!({"event": "bind", "uri": "/posts", "version": null}));
    assert_eq!(bound["data"], json!([{"n": 1}, {"n": 2}, {"n": 3}]));
    let large = json!("x".repeat(3 << 20));
    assert_eq!(pogo.write("PUT", "/large", &large), 200);
    assert_eq!(pogo.get("/large").message().text(), large.to_string());

    let another = Tls { server_name: Some("api.example".into()), ..trusting(&authority) };
    for tls in [trusting(&stranger), another] {
        let before = api.seen("").len();
        let pogo = before_private(&authority, api.address(), None, tls);
        pogo.get("/posts").message().assert_problem(502);
        assert_eq!(api.seen("").len(), before);
    }
    let pogo = before_private(
        &authority,
        api.address(),
        None,
        Tls { server_name: Some("localhost".into()), ..trusting(&authority) },
    );
    assert_eq!(pogo.get("/posts").message().status(), 200);
}

/// A Pogo whose API is at `port` over TLS, on a machine that trusts `authority`.
fn on_a_machine_that_trusts(authority: &Authority, port: u16) -> Process {
    let variables: [(_, &Path); 1] = [("SSL_CERT_FILE", &authority.ca_file())];
    Launch { variables: &variables, ..Launch::default() }
        .before_url(&format!("https://localhost:{port}"))
}

#[test]
fn who_this_machine_trusts_is_trusted_and_nobody_else() {
    let (authority, stranger, api) = (Authority::new(), Authority::new(), Api::start());
    let port = authority.serve("localhost", api.address(), None).port();
    let pogo = on_a_machine_that_trusts(&authority, port);
    let mut client = pogo.connect();
    client.send(GET);
    assert_eq!(client.message().status(), 200);
    let pogo = on_a_machine_that_trusts(&stranger, port);
    let mut client = pogo.connect();
    client.send(GET);
    client.message().assert_problem(502);
    let cause = pogo.line("request failed")["cause"].clone();
    assert!(cause.as_str().unwrap().starts_with("invalid peer certificate: "), "{cause}");
    assert_eq!(api.seen("GET").len(), 1);
}

#[test]
fn the_watch_command_speaks_tls() {
    let (authority, api) = (Authority::new(), Api::start());
    let (pogo, _) = private(api.address(), &authority, |_| ());
    api.put("/posts/1", json!({"n": 1}));
    let url = format!("wss://localhost:{}", pogo.address().port());
    let mut child = Command::new(env!("CARGO_BIN_EXE_pogo"))
        .args(["watch", "/posts/1", "--url", &url])
        .env("SSL_CERT_FILE", authority.ca_file())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["data"], json!({"n": 1}), "{line}");
}

#[test]
fn an_api_that_asks_who_this_is_is_told() {
    let (authority, clients, api) = (Authority::new(), Authority::new(), Api::start());
    let client = Some(clients.issue("pogo", "pogo.internal"));
    let stranger = Some(authority.issue("stranger", "pogo.internal"));
    for (client, status) in [(client, 200), (stranger, 502), (None, 502)] {
        let tls = Tls { client, ..trusting(&authority) };
        let pogo = before_private(&authority, api.address(), Some(&clients), tls);
        assert_eq!(pogo.get("/posts").message().status(), status);
    }
    assert_eq!(api.seen("GET /posts").len(), 1);
}

#[test]
fn an_api_that_does_not_finish_its_handshake_is_not_waited_for() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let pogo = Pogo::with(&upstream, |options| {
        options.upstream.tls = Some(trusting(&authority));
        options.upstream.connect_timeout = Duration::from_millis(300);
    });
    let mut client = pogo.get("/");
    let mut api = upstream.accept();
    client.message().assert_problem(504);
    assert!(api.is_answered(), "a hello");
}

#[test]
fn an_answer_that_is_cut_off_under_tls_is_not_taken_for_whole() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let address = authority.serve_bluntly(upstream.address());
    let pogo = Pogo::at(&format!("localhost:{}", address.port()), |options| {
        options.upstream.tls = Some(trusting(&authority));
    });
    let mut client = pogo.get("/");
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\n\r\nhalf of it");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"half of it");
    drop(api);
    assert_eq!(client.rest(), b"", "no last chunk");
}

#[test]
fn a_websocket_of_the_api_passes_with_tls_at_both_ends() {
    let (authority, upstream) = (Authority::new(), Upstream::start());
    let address = authority.serve("localhost", upstream.address(), None);
    let port = address.port();
    let (_pogo, address) = private(address, &authority, |options| {
        options.upstream.origin = format!("localhost:{port}").parse().unwrap();
        options.upstream.tls = Some(trusting(&authority));
    });
    let mut client = ask(
        address,
        "GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nearly",
    );
    let mut api = upstream.accept();
    assert_eq!(api.head().one("upgrade").as_deref(), Some("websocket"));
    api.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome",
    );
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.exactly(7), b"welcome");
    assert_eq!(api.exactly(5), b"early");
    let large = vec![b'x'; 2 << 20];
    client.send(&large);
    assert_eq!(api.exactly(large.len()), large);
    api.send(&large);
    assert_eq!(client.exactly(large.len()), large);
    api.finish();
    client.assert_closed();
    drop(client);
    api.assert_closed();
}
