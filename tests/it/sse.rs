//! A view at the resource's own URI, as server-sent events.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use pogo::route::{Push, Rule, Visibility};
use serde_json::{Value, json};

use crate::harness::{Events, Pogo, Reply, Socket, Upstream, start, start_of_two};

fn put(pogo: &Pogo, path: &str, value: &Value) {
    assert_eq!(pogo.write("PUT", path, value), 200);
}

#[test]
fn a_get_that_accepts_events_is_answered_with_the_state_and_what_becomes_of_it() {
    let (api, pogo) = start_of_two(|_| ());
    api.put("/posts/1234", json!({"title": "First"}));
    let mut events = Events::open(&pogo, "/posts/1234");
    assert_eq!(events.event().said(), ("update", json!({"title": "First"})));
    put(&pogo, "/posts/1234", &json!({"title": "Second"}));
    let second = events.event();
    assert_eq!(second.said(), ("update", json!({"title": "Second"})));
    assert_eq!(pogo.write("DELETE", "/posts/1234", &json!(null)), 204);
    assert_eq!(events.event().said(), ("delete", json!(null)));
    put(&pogo, "/posts/1234", &json!({"title": "Second"}));
    let again = events.event();
    assert_eq!(again, second, "an equal state has an equal id");
    let mut socket = Socket::open(&pogo);
    let bound = socket.must(json!({"event": "bind", "uri": "/posts/1234", "version": null}));
    assert_eq!(bound["version"], json!(again.id), "an id is the version of protocol.md");
}

#[test]
fn collections_and_queries_are_followed_as_items_are() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let mut all = Events::open(&pogo, "/posts");
    let mut some = Events::open(&pogo, "/posts?owner=me");
    assert_eq!(all.event().json(), json!([{"n": 1}]));
    assert_eq!(some.event().json(), json!([{"n": 1}]));
    assert_eq!(pogo.write("POST", "/posts", &json!({"n": 2})), 201);
    for events in [&mut all, &mut some] {
        assert_eq!(events.event().json().as_array().unwrap().len(), 1);
    }
}

#[test]
fn the_head_is_the_apis_but_for_what_is_about_its_one_body() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |_, _| {
        let reply = Reply::new(200, &json!({"n": 1}));
        let reply = reply.with("Access-Control-Allow-Origin", "https://page.example");
        let reply = reply.with("ETag", "\"v7\"").with("Cache-Control", "max-age=60");
        Some(reply.with("Vary", "Origin").with("Set-Cookie", "a=1").with("X-Of-Api", "yes"))
    });
    let mut events = Events::open(&pogo, "/posts/1");
    let head = events.head.clone();
    for (name, value) in [
        ("content-type", Some("text/event-stream")),
        ("cache-control", Some("no-store")),
        ("x-accel-buffering", Some("no")),
        ("access-control-allow-origin", Some("https://page.example")),
        ("set-cookie", Some("a=1")),
        ("x-of-api", Some("yes")),
        ("content-length", None),
        ("etag", None),
    ] {
        assert_eq!(head.one(name).as_deref(), value, "{name}");
    }
    assert_eq!(head.all("vary"), ["Origin", "Accept"]);
    assert_eq!(events.event().id, "v7");
    assert_eq!(events.retry(), Some(2000));
    let seen = &api.seen("GET /posts/1")[0];
    assert_eq!(seen.header("accept"), Some("text/event-stream"), "it is forwarded as it is");
    assert_eq!(seen.header("pogo-refetch"), None);
}

#[test]
fn json_of_several_lines_arrives_whole() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |_, _| {
        let mut reply = Reply::new(200, &json!(null));
        reply.body = "\r\n{\r\n  \"text\": \"a\\nb\",\n\n\t\"n\": [1,\r2]\n}\n".into();
        Some(reply)
    });
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().json(), json!({"text": "a\nb", "n": [1, 2]}));
}

#[test]
fn a_stream_of_the_apis_own_passes_to_the_byte() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut client = pogo.ask(&Events::request(
        "GET",
        "/news",
        &[("Accept-Encoding", "gzip"), ("Last-Event-ID", "41")],
    ));
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("last-event-id").as_deref(), Some("41"));
    api.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let head = client.head();
    assert_eq!(head.one("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(head.one("x-accel-buffering"), None);
    for part in ["id: 42\nda", "ta: {\"n\": 1}\r\n\r\n", ": what\r", "\nretry: 1\n\n"] {
        api.send(format!("{:x}\r\n{part}\r\n", part.len()));
        assert_eq!(client.chunk().unwrap(), part.as_bytes());
    }
    api.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    // The API is not asked for a view of it.
    upstream.assert_untouched();
}

#[test]
fn what_is_no_state_passes_as_it_is() {
    let (api, pogo) = start(|options| {
        options.routes = vec![Rule { path: "/private".into(), realtime: false, ..Rule::default() }];
        options.hub.body_bytes = 1000;
    });
    let json = |status| Reply::new(status, &json!({"n": 1}));
    let large = json!("x".repeat(2000));
    let cases = [
        ("/missing", json(404)),
        ("/broken", json(500)),
        ("/refused", json(401)),
        ("/accepted", json(202)),
        ("/partial", json(206).with("Content-Range", "bytes 0-6/20")),
        ("/page", json(200).with("Content-Type", "text/html")),
        ("/packed", json(200).with("Content-Encoding", "gzip")),
        ("/bad", Reply { body: "{".into(), ..json(200) }),
        ("/empty", Reply::empty(204)),
        ("/private", json(200)),
        ("/large", Reply::new(200, &large)),
    ];
    for (path, reply) in cases {
        let answer = reply.clone();
        api.on(&format!("GET {path}"), move |_, _| Some(answer.clone()));
        let answer = pogo.ask(&Events::request("GET", path, &[])).message();
        assert_eq!((answer.status(), answer.text()), (reply.status, &*reply.body), "{path}");
        for (name, value) in reply.headers {
            assert_eq!(answer.one(&name), Some(value), "{path}");
        }
        assert_eq!(api.seen(&format!("GET {path}")).len(), 1, "{path}: no view is fetched");
    }
    // Only requests that ask for it are told more than one state, and only reads do.
    api.put("/posts/1", json!(1));
    assert_eq!(pogo.get("/posts/1").message().text(), "1");
    let write = Events::request("PUT", "/posts/1", &[("Content-Length", "1")]) + "2";
    assert_eq!(pogo.ask(&write).message().text(), "2");
}

#[test]
fn an_answer_that_turns_out_to_be_too_large_passes_too() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| options.hub.body_bytes = 10);
    let mut client = pogo.ask(&Events::request("GET", "/large", &[]));
    let (mut api, _) = upstream.request();
    let chunks = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         f\r\n\"0123456789012\"\r\n0\r\n\r\n";
    api.send(chunks);
    let (mut api, request) = upstream.request();
    assert_eq!(request.one("accept").as_deref(), Some("text/event-stream"));
    api.send(chunks);
    let answer = client.message();
    assert_eq!(answer.one("content-type").as_deref(), Some("application/json"));
    assert_eq!(answer.text(), "\"0123456789012\"");
}

#[test]
fn an_api_that_has_no_events_to_offer_is_asked_for_its_json() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    api.on("GET /posts/1", |seen, usual| match seen.header("accept") {
        Some("text/event-stream") => Some(Reply::empty(406)),
        _ => usual,
    });
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().json(), json!({"n": 1}));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(events.event().json(), json!({"n": 2}));
    let seen = api.seen("GET /posts/1");
    let accepts: Vec<_> = seen.iter().map(|seen| seen.header("accept").unwrap()).collect();
    assert_eq!(accepts[..2], ["text/event-stream", "application/json, */*;q=0.1"]);
    // An API that has nothing to offer at all says so to the client.
    api.on("GET /none", |_, _| Some(Reply::empty(406)));
    assert_eq!(pogo.ask(&Events::request("GET", "/none", &[])).message().status(), 406);
}

#[test]
fn an_api_that_packs_its_answers_is_asked_not_to() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    api.on("GET /posts/1", |seen, usual| match seen.header("accept-encoding") {
        None | Some("identity") => usual,
        Some(_) => Some(Reply { body: "packed".into(), ..usual? }.with("Content-Encoding", "br")),
    });
    let mut events =
        Events::open_with(&pogo, "/posts/1", &[("Accept-Encoding", "gzip, deflate, br, zstd")]);
    assert_eq!(events.event().json(), json!({"n": 1}));
}

#[test]
fn who_returns_with_the_latest_is_not_told_it_again() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/posts/1");
    events.event();
    let first = events.last_id().to_owned();
    let again = |id: &str| Events::open_with(&pogo, "/posts/1", &[("Last-Event-ID", id)]);
    let mut same = again(&first);
    assert_eq!(same.comment(), "this is the latest");
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(same.event().json(), json!(2));
    let mut late = again(&first);
    assert_eq!(late.event().json(), json!(2));
    let mut stranger = again("of another server");
    assert_eq!(stranger.event().json(), json!(2));
}

#[test]
fn a_write_between_the_first_answer_and_the_view_is_not_missed() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    api.hold("GET /posts/1");
    let mut client = pogo.ask(&Events::request("GET", "/posts/1", &[]));
    api.wait_held();
    put(&pogo, "/posts/1", &json!(2));
    api.release();
    // The answer to the client is older than the write, and the view's is not.
    assert_eq!(client.head().status(), 200);
    let first = String::from_utf8(client.chunk().unwrap()).unwrap();
    assert!(first.ends_with("\ndata: 1\n\n"), "{first}");
    let then = String::from_utf8(client.chunk().unwrap()).unwrap();
    assert!(then.ends_with("\ndata: 2\n\n"), "{then}");
}

#[test]
fn each_sees_what_its_own_credential_may_see() {
    let (api, pogo) = start_of_two(|_| ());
    api.on("GET /posts/1", |seen, usual| {
        let who = seen.header("authorization")?.to_owned();
        let mut body: Value = serde_json::from_str(&usual?.body).unwrap();
        if body["hidden_from"] == json!(who) {
            return Some(Reply::new(404, &json!({"error": "not found"})));
        }
        body["for"] = json!(who);
        Some(Reply::new(200, &body))
    });
    api.put("/posts/1", json!({"n": 1}));
    let mut alice = Events::open_as(&pogo, "/posts/1", "alice");
    let mut bob = Events::open_as(&pogo, "/posts/1", "bob");
    assert_eq!(alice.event().json(), json!({"n": 1, "for": "Bearer alice"}));
    assert_eq!(bob.event().json(), json!({"n": 1, "for": "Bearer bob"}));
    put(&pogo, "/posts/1", &json!({"n": 2, "hidden_from": "Bearer bob"}));
    assert_eq!(alice.event().json()["n"], 2);
    assert_eq!(bob.event().said(), ("delete", json!(null)));
    put(&pogo, "/posts/1", &json!({"n": 3}));
    assert_eq!(alice.event().json()["n"], 3);
    assert_eq!(bob.event().json()["n"], 3);
    assert!(!alice.text.contains("\"for\":\"Bearer bob") && !bob.text.contains("alice"));
    assert!(!bob.text.contains("\"n\":2"));
}

#[test]
fn streams_and_sockets_with_the_same_eyes_are_one_fetch() {
    let (api, pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!(1));
    let host = pogo.address().to_string();
    let fields = [("Host", &*host), ("Authorization", "Bearer me")];
    let mut streams: Vec<_> =
        (0..8).map(|_| Events::open_with(&pogo, "/posts/1", &fields)).collect();
    for events in &mut streams {
        events.event();
    }
    let mut socket = Socket::open_as(&pogo, "me");
    socket.bind("/posts/1");
    let before = api.seen("GET /posts/1").len();
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(socket.event()["data"], 2);
    for events in &mut streams {
        assert_eq!(events.event().json(), json!(2));
    }
    assert_eq!(api.seen("GET /posts/1").len(), before + 1);
    let seen = api.seen("GET /posts/1").pop().unwrap();
    assert_eq!(seen.header("accept"), Some("application/json, */*;q=0.1"));
    assert_eq!(seen.header("last-event-id"), None);
}

#[test]
fn a_public_route_is_one_view_for_all_who_follow_it() {
    let (api, pogo) = start(|options| {
        let path = "/posts/{id}".into();
        options.routes = vec![Rule { path, visibility: Visibility::Public, ..Rule::default() }];
    });
    api.put("/posts/1", json!(1));
    let mut streams = ["a", "b"].map(|token| Events::open_as(&pogo, "/posts/1", token));
    for events in &mut streams {
        events.event();
    }
    // Both have been registered, and the view was fetched for each.
    api.wait_seen("GET /posts/1", 3);
    let before = api.seen("GET /posts/1").len();
    put(&pogo, "/posts/1", &json!(2));
    for events in &mut streams {
        assert_eq!(events.event().json(), json!(2));
    }
    let after = api.seen("GET /posts/1");
    assert!(after.len() <= before + 2, "{after:?}");
    assert_eq!(after.last().unwrap().header("authorization"), None);
}

#[test]
fn what_is_only_announced_is_a_change_without_a_state() {
    let (api, pogo) = start(|options| {
        options.routes =
            vec![Rule { path: "/posts/{id}".into(), push: Push::Notify, ..Rule::default() }];
    });
    api.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().said(), ("update", json!(1)));
    // Whether something happened since is not known, so it is said that it may have.
    assert_eq!(events.event().said(), ("change", json!(null)));
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(events.event().said(), ("change", json!(null)));
}

#[test]
fn a_client_that_does_not_read_gets_fewer_states_and_the_latest() {
    const WRITES: u64 = 32;
    let (api, pogo) = start(|options| options.hub.min_interval = Duration::ZERO);
    let state = |n: u64| json!({"n": n, "ballast": "x".repeat(512 * 1024)});
    api.put("/posts/1", state(0));
    let (mut slow, mut quick) = (Events::open(&pogo, "/posts/1"), Events::open(&pogo, "/posts/1"));
    assert_eq!(quick.event().json()["n"], 0);
    for n in 1..=WRITES {
        api.put("/posts/1", state(n));
        put(&pogo, "/posts/1/touched", &json!(n));
        assert_eq!(quick.event().json()["n"], n, "nobody waits for the slow one");
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&WRITES) {
        seen.push(slow.event().json()["n"].as_u64().unwrap());
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!((seen.len() as u64) < WRITES * 3 / 4, "nothing was left out: {seen:?}");
}

#[test]
fn while_the_truth_is_unknown_the_client_is_told() {
    let (api, pogo) = start(|options| {
        options.hub.min_interval = Duration::ZERO;
        options.hub.stale_after = Duration::from_millis(150);
    });
    api.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/posts/1");
    let first = events.event();
    api.wait_gets("/posts/1", 2);
    api.on("GET /posts/1", |_, _| Some(Reply::empty(500)));
    put(&pogo, "/posts/1", &json!(1));
    let stale = events.event();
    assert_eq!(stale.said(), ("stale", json!(null)));
    assert_eq!(stale.id, first.id, "what is held is still held");
    api.be_normal();
    assert_eq!(events.event().said(), ("fresh", json!(null)));
    api.on("GET /posts/1", |_, _| Some(Reply::empty(500)));
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(events.event().said(), ("stale", json!(null)));
    api.be_normal();
    assert_eq!(events.event().said(), ("update", json!(2)));
}

#[test]
fn who_was_slow_is_told_with_the_latest_that_it_may_be_old() {
    const WRITES: u64 = 24;
    let (api, pogo) = start(|options| {
        options.hub.min_interval = Duration::ZERO;
        options.hub.stale_after = Duration::from_millis(500);
    });
    let state = |n: u64| json!({"n": n, "ballast": "x".repeat(512 * 1024)});
    api.put("/posts/1", state(0));
    let (mut slow, mut quick) = (Events::open(&pogo, "/posts/1"), Events::open(&pogo, "/posts/1"));
    for n in 1..=WRITES {
        api.put("/posts/1", state(n));
        put(&pogo, "/posts/1/touched", &json!(n));
        while quick.event().json()["n"] != n {}
    }
    api.on("GET /posts/1", |_, _| Some(Reply::empty(500)));
    put(&pogo, "/posts/1/touched", &json!("again"));
    while quick.event().name != "stale" {}
    // Both at once, and the state first.
    let mut last = None;
    while last != Some(json!(WRITES)) {
        last = slow.event().json().get("n").cloned().or(last);
    }
    assert_eq!(slow.event().said(), ("stale", json!(null)));
}

#[test]
fn a_quiet_stream_says_that_it_is_there() {
    let (api, pogo) = start(|options| options.subscription.heartbeat = Duration::from_millis(30));
    api.put("/posts/1", json!(1));
    let mut events = Events::open(&pogo, "/posts/1");
    assert_eq!(events.event().json(), json!(1));
    for _ in 0..3 {
        assert_eq!(events.comment(), "");
    }
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(events.event().json(), json!(2));
}

#[test]
fn a_head_is_answered_like_its_get() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut wire = pogo.ask(&Events::request("HEAD", "/posts/1", &[]));
    let head = wire.message();
    assert_eq!(head.status(), 200);
    assert_eq!(head.one("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(head.one("content-length"), None);
    // The connection goes on.
    wire.send("GET /posts/1 HTTP/1.1\r\nHost: api\r\n\r\n");
    assert_eq!(wire.message().text(), "1");
    assert_eq!(api.seen("GET /posts/1").len(), 1, "nobody follows it");
    assert_eq!(api.seen("HEAD /posts/1").len(), 1);
    let missing = pogo.ask(&Events::request("HEAD", "/posts/9", &[])).message();
    assert_eq!(missing.status(), 404);
}

#[test]
fn http_2_carries_it_beside_other_streams() {
    let (api, mut pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let client = crate::harness::Http2::connect(pogo.address());
    let get = |accept: &str| {
        let request = Request::get("http://api/posts/1").version(http::Version::HTTP_2);
        request.header("accept", accept).body(Full::default()).unwrap()
    };
    let events = client.ask(get("text/event-stream"));
    api.wait_gets("/posts/1", 2);
    put(&pogo, "/posts/1", &json!(2));
    let (plain, _) = client.ask(get("*/*")).join().unwrap().unwrap();
    assert_eq!(plain.body(), "2");
    api.wait_gets("/posts/1", 4);
    let draining = pogo.drain();
    let (answer, _) = events.join().unwrap().unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.contains("data: 1\n\n"), "{text}");
    assert!(text.contains("come back"), "{text}");
    draining.join().unwrap().unwrap();
}

#[test]
fn curl_reads_it() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let (api, mut pogo) = start(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let url = format!("http://{}/posts/1", pogo.address());
    let mut curl = Command::new("curl");
    curl.args(["-sN", "-H", "Accept: text/event-stream", &url]).stdout(Stdio::piped());
    let Ok(mut curl) = curl.spawn() else {
        eprintln!("there is no curl on this machine");
        return;
    };
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |wanted: &str| lines.any(|line| line == wanted);
    assert!(until("data: {\"n\":1}"));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert!(until("data: {\"n\":2}"));
    let draining = pogo.drain();
    assert!(until(": come back"));
    assert!(curl.wait().unwrap().success(), "it ended as a body should");
    draining.join().unwrap().unwrap();
}
