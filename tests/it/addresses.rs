//! Who may come in, and whose address it is.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use pogo::gate::forwarded::Field;
use pogo::server::Options;
use pogo::units::Rate;
use serde_json::json;

use crate::harness::{Api, Http2, Launch, Message, Pogo, Socket, Wire};

const GET: &str = "GET /posts HTTP/1.1\r\nHost: api\r\n\r\n";

/// A Pogo that believes what is said to it from this machine.
fn behind_a_proxy(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        change(options);
    });
    (api, pogo)
}

/// The same, where the proxy says for whom it forwards in a PROXY header.
fn behind_a_balancer(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    behind_a_proxy(|options| {
        options.gate.proxy_protocol = true;
        change(options);
    })
}

fn answer(mut wire: Wire, request: &str) -> Message {
    wire.send(request);
    wire.message()
}

/// Whom the API was told that the last request came from.
fn told(api: &Api) -> String {
    let seen = api.seen("GET /posts");
    seen.last().expect("a request").header("x-forwarded-for").unwrap().to_owned()
}

/// A deny list that goes with the test.
struct List(PathBuf);

impl List {
    fn new(test: &str) -> Self {
        let list = Self(std::env::temp_dir().join(format!("pogo-{test}-{}", std::process::id())));
        list.write("");
        list
    }

    fn write(&self, text: &str) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, &self.0).unwrap();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn a_line_more_in_the_deny_file_ends_what_the_address_has_open_and_nothing_else() {
    let list = List::new("line-more");
    let (api, pogo) = behind_a_balancer(|options| {
        options.gate.deny_file = Some(list.0.clone());
        options.workers = 2;
    });
    let (bad, good) = ("192.0.2.7", "198.51.100.1");
    let mut kept: Vec<_> = [bad, good].map(|client| pogo.connect_for(client)).into();
    for wire in &mut kept {
        wire.send(GET);
        assert_eq!(wire.message().status(), 200);
    }
    let mut waiting = pogo.connect_for(bad);
    api.hold("GET /held");
    waiting.send("GET /held HTTP/1.1\r\nHost: api\r\n\r\n");
    api.wait_held();
    let http2 = Http2::connect_after(pogo.address(), &version_2(1));
    api.hold("GET /http2");
    let stream = http2.ask(Request::get("http://api/http2").body(Full::default()).unwrap());
    api.wait_seen("GET /http2", 1);
    let mut sockets: Vec<_> = [bad, bad, good].map(|client| Socket::open_for(&pogo, client)).into();
    sockets.iter_mut().for_each(|socket| socket.bind("/posts/1"));
    list.write("# who abused us\n192.0.2.0/24\n");
    for mut socket in sockets.drain(..2) {
        assert_eq!(socket.closed(), (4403, "this address is denied".into()));
    }
    kept[0].assert_closed();
    waiting.assert_closed();
    stream.join().unwrap().expect_err("an answer to whom is denied");
    answer(pogo.connect_for(bad), GET).assert_problem(403);
    let stream = pogo.connect_for("192.0.2.200").into_stream();
    assert_eq!(Socket::try_open_on(stream, "/", &[]).err(), Some(403));
    kept[1].send(GET);
    assert_eq!(kept[1].message().status(), 200);
    sockets[0].must(json!({"event": "ping"}));
    // And in again, once it is taken out.
    list.write("");
    let let_in = || answer(pogo.connect_for(bad), GET).status() == 200;
    assert!((0..10_000).any(|_| let_in()), "still denied");
    api.release();
}

#[test]
fn the_connection_of_a_trusted_proxy_stays_though_one_of_its_clients_is_shut_out() {
    let list = List::new("shared");
    let (_api, pogo) = behind_a_proxy(|options| options.gate.deny_file = Some(list.0.clone()));
    let mut shared = pogo.connect();
    let mut status = |client: &str| {
        let fields = format!("Host: api\r\nX-Forwarded-For: {client}");
        shared.send(format!("GET /posts HTTP/1.1\r\n{fields}\r\n\r\n"));
        shared.message().status()
    };
    assert_eq!((status("192.0.2.7"), status("198.51.100.1")), (200, 200));
    let open = |client| Socket::open_with(&pogo, &[("x-forwarded-for", client)]);
    let (mut denied, mut other) = (open("192.0.2.7"), open("198.51.100.1"));
    // Not even when the proxy's own address, as who asks something itself, is denied.
    list.write("192.0.2.7\n127.0.0.0/8\n");
    assert_eq!(denied.closed().0, 4403);
    assert_eq!((status("192.0.2.7"), status("198.51.100.1")), (403, 200));
    other.must(json!({"event": "ping"}));
}

#[test]
fn a_tunnel_of_an_address_that_is_denied_ends() {
    let list = List::new("tunnel");
    let upstream = crate::harness::Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        options.gate.deny_file = Some(list.0.clone());
    });
    let mut client = pogo
        .ask("GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut api = upstream.accept();
    api.head();
    api.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nopen",
    );
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.exactly(4), b"open");
    list.write("127.0.0.1\n");
    client.assert_closed();
    api.assert_closed();
}

#[test]
fn a_bad_line_of_the_deny_file_is_logged_with_its_number_and_the_last_list_holds() {
    let api = Api::start();
    let pogo = Launch {
        configuration: "[gate]\ndeny_file = \"deny\"",
        files: &[("deny", "127.0.0.1\n")],
        ..Launch::default()
    };
    let pogo = pogo.before(api.address());
    answer(pogo.connect(), GET).assert_problem(403);
    std::fs::write(pogo.folder().join("deny"), "# nobody\n10.0.0.0/8\n10.0.0.1/8\n").unwrap();
    let logged = pogo.line("the deny list was not taken; the last one holds");
    assert_eq!(logged["level"], "ERROR");
    let error = logged["error"].as_str().unwrap();
    assert!(error.starts_with("line 3: \"10.0.0.1/8\""), "{error}");
    answer(pogo.connect(), GET).assert_problem(403);
    std::fs::write(pogo.folder().join("deny"), "10.0.0.0/8\n").unwrap();
    pogo.line("the deny list changed");
    assert_eq!(answer(pogo.connect(), GET).status(), 200);
}

#[test]
fn a_hundred_thousand_lines_deny_each_of_theirs() {
    let list = List::new("hundred-thousand");
    let text: String = (0..100_000_u32)
        .map(|n| format!("10.{}.{}.{}\n", n >> 15, n >> 7 & 255, n << 1 & 255))
        .collect();
    list.write(&text);
    let (_api, pogo) = behind_a_balancer(|options| {
        options.gate.deny_file = Some(list.0.clone());
    });
    for (client, status) in [
        ("10.0.0.0", 403),
        ("10.0.0.1", 200),
        ("10.1.77.2", 403),
        ("10.3.13.62", 403),
        ("10.3.13.64", 200),
    ] {
        assert_eq!(answer(pogo.connect_for(client), GET).status(), status, "{client}");
    }
}

#[test]
fn a_proxy_that_writes_forwarded_is_believed_there_and_only_there() {
    let (api, pogo) = behind_a_proxy(|options| {
        options.gate.client_header = Field::Forwarded;
        options.gate.deny = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let ask = |fields: &str| {
        answer(pogo.connect(), &format!("GET /posts HTTP/1.1\r\nHost: api\r\n{fields}\r\n"))
    };
    ask("Forwarded: for=198.51.100.1, for=192.0.2.7;proto=https\r\n").assert_problem(403);
    ask("Forwarded: for=198.51.100.1\r\nForwarded: for=\"192.0.2.7:80\"\r\n").assert_problem(403);
    // What a client writes into the other field is nobody's word.
    let spoof = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.9, for=198.51.100.1\r\n";
    assert_eq!(ask(spoof).status(), 200);
    assert_eq!(told(&api), "198.51.100.1, 127.0.0.1");
    let seen = api.seen("GET /posts").pop().unwrap();
    assert_eq!(seen.header("forwarded"), Some("for=192.0.2.9, for=198.51.100.1"));
}

#[test]
fn a_proxy_that_writes_x_forwarded_for_passes_on_no_other_word_of_its_client() {
    let (api, pogo) = behind_a_proxy(|_| ());
    let request = "GET /posts HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 198.51.100.1\r\n\
                   Forwarded: for=192.0.2.7\r\n\r\n";
    assert_eq!(answer(pogo.connect(), request).status(), 200);
    assert_eq!(told(&api), "198.51.100.1, 127.0.0.1");
    assert_eq!(api.seen("GET /posts").pop().unwrap().header("forwarded"), None);
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY header of version 2 with a value that nobody knows after the addresses.
fn version_2(command: u8) -> Vec<u8> {
    let body = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80, 0xee, 0, 3, b'a', b'b', b'c'];
    let length = u8::try_from(body.len()).unwrap();
    [SIGNATURE, &[0x20 | command, 0x11, 0, length], &body].concat()
}

#[test]
fn a_proxy_header_says_who_the_client_is_and_takes_no_byte_of_the_request() {
    let (api, pogo) = behind_a_balancer(|_| ());
    let v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n".to_vec();
    for header in [v1, version_2(1)] {
        // In one piece, with two requests at once.
        let mut wire = pogo.connect();
        wire.send([&header[..], GET.as_bytes(), GET.as_bytes()].concat());
        for _ in 0..2 {
            assert_eq!(wire.message().status(), 200);
            assert_eq!(told(&api), "192.0.2.7");
        }
        // Byte by byte.
        let mut wire = pogo.connect();
        for byte in [&header[..], GET.as_bytes()].concat() {
            wire.send([byte]);
        }
        assert_eq!(wire.message().status(), 200);
        // Before a socket.
        let mut wire = pogo.connect();
        wire.send(&header);
        let mut socket = Socket::try_open_on(wire.into_stream(), "/", &[]).ok().unwrap();
        socket.bind("/posts");
        assert_eq!(told(&api), "192.0.2.7");
    }
    assert_eq!(api.seen("GET /posts").len(), 2 * 4);
}

#[test]
fn http2_may_follow_a_proxy_header() {
    let (api, pogo) = behind_a_balancer(|_| ());
    let http2 = Http2::connect_after(pogo.address(), &version_2(1));
    let request = Request::get("http://api/posts").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(http2.ask(request).join().unwrap().unwrap().0.status(), 200);
    assert_eq!(told(&api), "192.0.2.7");
}

#[test]
fn a_client_behind_a_balancer_cannot_name_itself_unless_it_is_a_trusted_proxy_too() {
    let (api, pogo) = behind_a_balancer(|options| {
        options.gate.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
    });
    let request = "GET /posts HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    assert_eq!(answer(pogo.connect_for("192.0.2.7"), request).status(), 200);
    assert_eq!(told(&api), "192.0.2.7");
    assert_eq!(answer(pogo.connect_for("10.0.0.1"), request).status(), 200);
    assert_eq!(told(&api), "203.0.113.9, 10.0.0.1");
    // Who it is the balancer does not know, so what it says of itself is not believed.
    for header in [&b"PROXY UNKNOWN\r\n"[..], &version_2(0)] {
        let mut wire = pogo.connect();
        wire.send(header);
        assert_eq!(answer(wire, request).status(), 200);
        assert_eq!(told(&api), "127.0.0.1");
    }
}

#[test]
fn what_is_no_proxy_header_ends_the_connection() {
    let (api, pogo) = behind_a_balancer(|_| ());
    for bytes in [
        GET.as_bytes(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 080\r\n",
        &[SIGNATURE, &[0x31]].concat(),
        &[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
        &[b'P'; 200],
    ] {
        let mut wire = pogo.connect();
        wire.send(bytes);
        wire.assert_closed();
    }
    assert!(api.seen("").is_empty());
}

#[test]
fn a_proxy_header_that_does_not_come_in_time_ends_the_connection() {
    let (_api, pogo) = behind_a_balancer(|options| {
        options.gateway.header_read = Duration::from_millis(200);
    });
    pogo.connect().assert_closed();
    let mut half = pogo.connect();
    half.send("PROXY TCP4 192.0.2.7 ");
    half.assert_closed();
}

#[test]
fn a_proxy_header_of_somebody_who_is_not_trusted_is_no_request() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.gate.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        options.gate.proxy_protocol = true;
    });
    let mut wire = pogo.connect_for("192.0.2.7");
    wire.send(GET);
    assert_eq!(wire.message().status(), 400);
    assert_eq!(answer(pogo.connect(), GET).status(), 200);
    assert_eq!(told(&api), "127.0.0.1");
}

#[test]
fn connections_through_a_balancer_count_for_their_client() {
    let (_api, pogo) = behind_a_balancer(|options| options.connections_per_address = 1);
    let mut first = Socket::open_for(&pogo, "192.0.2.7");
    pogo.connect_for("192.0.2.7").assert_closed();
    Socket::open_for(&pogo, "192.0.2.8").must(json!({"event": "ping"}));
    first.must(json!({"event": "ping"}));
    first.close();
    first.assert_ended();
    Socket::open_for(&pogo, "192.0.2.7").must(json!({"event": "ping"}));
}

#[test]
fn what_a_client_says_of_itself_opens_no_door_and_no_budget_and_stands_in_no_log() {
    let api = Api::start();
    let once = Rate {
        count: 1.try_into().unwrap(),
        per: Duration::from_secs(3600),
        burst: 1.try_into().unwrap(),
    };
    let ask = |pogo: &Pogo, client: &str| {
        let request = format!(
            "GET /posts HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: {client}\r\n\
             Forwarded: for={client}\r\nX-Real-IP: {client}\r\n\r\n"
        );
        answer(pogo.connect(), &request).status()
    };
    for field in [Field::XForwardedFor, Field::Forwarded] {
        let pogo = Pogo::at(&api.address().to_string(), |options| {
            options.gate.client_header = field;
            options.gate.rates.http = Some(once);
        });
        assert_eq!([ask(&pogo, "192.0.2.1"), ask(&pogo, "192.0.2.2")], [200, 429]);
        let pogo = Pogo::at(&api.address().to_string(), |options| {
            options.gate.client_header = field;
            options.gate.allow = vec!["192.0.2.0/24".parse().unwrap()];
        });
        assert_eq!(ask(&pogo, "192.0.2.1"), 403);
    }
    let pogo = Launch { access_log: true, ..Launch::default() }.before(api.address());
    let request = "GET /posts HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    assert_eq!(answer(pogo.connect(), request).status(), 200);
    assert_eq!(pogo.line("request")["client"], "127.0.0.1");
}
