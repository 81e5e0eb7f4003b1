//! `index`, `show`, `create`, `update` and `delete` over the socket, and what the API sees of them.

use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket, Upstream, in_plain_json};

fn start() -> (Api, Pogo, Socket) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |_| ());
    let socket = Socket::open(&pogo);
    (api, pogo, socket)
}

#[test]
fn reads_give_what_a_get_answers() {
    let (api, _pogo, mut socket) = start();
    api.put("/posts/1", json!({"n": 1}));
    let answer = socket.must(json!({"event": "index", "uri": "/posts?page=1"}));
    assert_eq!(answer["data"], json!([{"n": 1}]));
    let answer = socket.must(json!({"event": "show", "uri": "/posts/1"}));
    assert_eq!(answer["data"], json!({"n": 1}));
    let seen = api.seen("GET /posts?page=1");
    assert_eq!(seen[0].header("content-length"), None);
    assert_eq!(seen[0].header("pogo-refetch"), None, "somebody did ask");
}

#[test]
fn data_of_a_read_is_not_sent() {
    let (api, _pogo, mut socket) = start();
    socket.must(json!({"event": "show", "uri": "/posts", "bind": false, "data": {"a": 1}}));
    let seen = api.seen("GET /posts").remove(0);
    assert_eq!((seen.header("content-length"), seen.header("content-type")), (None, None));
}

#[test]
fn the_location_of_what_was_created_becomes_its_uri() {
    let (api, pogo, mut socket) = start();
    let here = format!("http://{}/posts/9", pogo.address());
    for (location, uri) in [
        ("/posts/9", json!("/posts/9")),
        ("/posts/9?draft=1", json!("/posts/9?draft=1")),
        ("/posts/9#top", json!("/posts/9")),
        (here.as_str(), json!("/posts/9")),
        ("9", json!("/blog/9")),
        ("./posts/9", json!("/blog/posts/9")),
        ("../posts/9", json!("/posts/9")),
        ("posts/9/../8", json!("/blog/posts/8")),
        ("?id=9", json!("/blog/posts?id=9")),
        ("http://elsewhere.example/posts/9", json!("http://elsewhere.example/posts/9")),
        ("//elsewhere.example/posts/9", json!("//elsewhere.example/posts/9")),
        ("", json!(null)),
    ] {
        let header = location.to_owned();
        api.on("POST /blog/posts", move |_, _| {
            let reply = Reply::new(201, &json!({}));
            Some(if header.is_empty() { reply } else { reply.with("Location", &header) })
        });
        let create = json!({"event": "create", "uri": "/blog/posts?x=y", "bind": false, "data": 1});
        assert_eq!(socket.must(create)["uri"], uri, "{location}");
    }
}

#[test]
fn create_may_be_answered_by_see_other_or_by_nothing() {
    let (api, _pogo, mut socket) = start();
    api.on("POST /posts", |_, _| Some(Reply::empty(303).with("Location", "/posts/5")));
    let create = json!({"event": "create", "uri": "/posts", "data": {}, "bind": false});
    let answer = socket.must(create.clone());
    assert_eq!((&answer["uri"], &answer["data"]), (&json!("/posts/5"), &json!(null)));
    api.on("POST /posts", |_, _| Some(Reply::empty(204)));
    assert_eq!(socket.must(create)["data"], json!(null));
}

#[test]
fn update_is_put_unless_the_message_or_the_route_says_patch() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.routes.push(pogo::route::Rule {
            path: "/patched/{id}".into(),
            update_method: http::Method::PATCH,
            ..pogo::route::Rule::default()
        });
    });
    let mut socket = Socket::open(&pogo);
    for (uri, method, line) in [
        ("/posts/1", json!(null), "PUT /posts/1"),
        ("/posts/2", json!("PUT"), "PUT /posts/2"),
        ("/posts/3", json!("PATCH"), "PATCH /posts/3"),
        ("/patched/4", json!(null), "PATCH /patched/4"),
        ("/patched/5", json!("PUT"), "PUT /patched/5"),
    ] {
        let update = json!({"event": "update", "uri": uri, "method": method, "data": {"n": 1}});
        socket.must(update);
        let seen = api.seen(line);
        assert_eq!(seen.len(), 1, "{line}");
        assert_eq!(seen[0].body, json!({"n": 1}));
        assert_eq!(seen[0].header("content-type"), Some("application/json"));
        assert_eq!(seen[0].header("content-length"), Some("7"));
        assert_eq!(seen[0].header("transfer-encoding"), None);
    }
    for method in ["DELETE", "put", "", "PATCH "] {
        let update = json!({"event": "update", "uri": "/posts/6", "method": method});
        assert_eq!(socket.error(update), "bad_request");
    }
    assert_eq!(api.seen("DELETE").len() + api.seen("PUT /posts/6").len(), 0);
}

#[test]
fn an_update_gives_back_what_it_is_asked_for() {
    let (api, _pogo, mut socket) = start();
    let update = |returns: bool| json!({"event": "update", "uri": "/posts/1", "bind": false, "return": returns, "data": 7});
    assert_eq!(socket.must(update(true))["data"], json!(7));
    assert_eq!(socket.must(update(false)).get("data"), None);
    api.on("PUT /posts/1", |_, _| Some(Reply::empty(204)));
    assert_eq!(socket.must(update(true)).get("data"), None);
    // What nobody asked for need not be readable.
    api.on("PUT /posts/1", |_, _| {
        Some(Reply::new(200, &json!(0)).with("Content-Type", "application/pdf"))
    });
    socket.must(update(false));
    assert_eq!(socket.error(update(true)), "upstream_error");
}

#[test]
fn null_is_a_value_to_write() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut socket = Socket::open(&pogo);
    socket.send_text(r#"{"id":1,"event":"update","uri":"/a","data":null,"bind":false}"#);
    let (mut api, request) = upstream.request();
    assert_eq!(request.text(), "null");
    api.respond("");
    socket.answer(1);
    socket.send_text(r#"{"id":2,"event":"delete","uri":"/a"}"#);
    let request = api.message();
    assert_eq!((request.text(), request.one("content-type")), ("", None));
    api.respond("");
    socket.answer(2);
}

#[test]
fn a_refusal_of_the_api_keeps_its_status_and_its_words() {
    let (api, _pogo, mut socket) = start();
    for (status, code) in [
        (300, "upstream_error"),
        (302, "upstream_error"),
        (304, "upstream_error"),
        (400, "bad_request"),
        (401, "unauthorized"),
        (402, "bad_request"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "upstream_error"),
        (406, "bad_request"),
        (407, "unauthorized"),
        (408, "bad_request"),
        (409, "conflict"),
        (410, "not_found"),
        (412, "conflict"),
        (413, "too_large"),
        (415, "unprocessable"),
        (418, "bad_request"),
        (422, "unprocessable"),
        (428, "conflict"),
        (429, "rate_limited"),
        (500, "upstream_error"),
        (501, "upstream_error"),
        (502, "upstream_error"),
        (503, "unavailable"),
        (504, "upstream_timeout"),
        (507, "upstream_error"),
    ] {
        api.on("PUT /posts/1", move |_, _| {
            Some(Reply::new(status, &json!({"why": status})).with("Retry-After", "7"))
        });
        let answer = socket.ask(json!({"event": "update", "uri": "/posts/1", "data": {}}));
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["http_status"]), (&json!(code), &json!(status)));
        let words = if status == 304 { json!(null) } else { json!({"why": status}) };
        assert_eq!(error["data"], words, "{status}");
        assert_eq!(error["retry_after"], 7);
    }
    socket.assert_silent();
}

#[test]
fn a_refusal_in_text_is_text_and_one_in_bytes_is_left_out() {
    let (api, _pogo, mut socket) = start();
    for (media_type, data) in [
        ("text/plain; charset=utf-8", json!("\"no\"")),
        ("application/problem+json", json!("no")),
        ("application/octet-stream", json!(null)),
    ] {
        api.on("GET /a", move |_, _| {
            Some(Reply::new(403, &json!("no")).with("Content-Type", media_type))
        });
        let answer = socket.ask(json!({"event": "show", "uri": "/a"}));
        assert_eq!(answer["error"]["code"], "forbidden");
        assert_eq!(answer["error"]["data"], data, "{media_type}");
    }
}

#[test]
fn text_becomes_a_string_and_other_media_types_are_named() {
    let (api, _pogo, mut socket) = start();
    let mut show = |media_type: &'static str, body: &'static str| {
        api.on("GET /a", move |_, _| {
            let reply = Reply { body: body.into(), ..Reply::new(200, &json!(null)) };
            Some(reply.with("Content-Type", media_type))
        });
        socket.ask(json!({"event": "show", "uri": "/a", "bind": false}))
    };
    assert_eq!(show("text/plain", "a \"b\"\n\u{1}")["data"], json!("a \"b\"\n\u{1}"));
    assert_eq!(show("text/html; charset=utf-8", "<p>")["data"], json!("<p>"));
    assert_eq!(show("Application/JSON", "[1]")["data"], json!([1]));
    assert_eq!(show("application/vnd.api+json", "[1]")["data"], json!([1]));
    assert_eq!(show("application/json", "")["data"], json!(null));
    for media_type in ["image/png", "application/octet-stream", "application/xml"] {
        let answer = show(media_type, "\u{1}");
        assert_eq!(answer["error"]["code"], "upstream_error");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(media_type), "{message}");
        assert_eq!(answer["error"].get("http_status"), None);
    }
    for broken in ["{", "[1] 2", "nul"] {
        assert_eq!(show("application/json", broken)["error"]["code"], "upstream_error");
    }
}

#[test]
fn json_passes_byte_for_byte() {
    in_plain_json();
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let mut socket = Socket::open(&pogo);
    let data = r#"{"z":9007199254740993,"a": 1.10,"b":[1e300, "é\u00e9\/"],"z":-0}"#;
    socket.send_text(&format!(r#"{{"id":1,"event":"create","uri":"/a","data":{data}}}"#));
    let (mut api, request) = upstream.request();
    assert_eq!(request.text(), data);
    api.respond(data);
    socket.receive();
    let answer = socket.texts.pop().unwrap();
    assert_eq!(answer, format!(r#"{{"id":1,"status":"ok","data":{data}}}"#));
}

#[test]
fn the_sessions_own_credentials_are_used() {
    let (api, pogo, _socket) = start();
    let headers =
        [("authorization", "Bearer a"), ("cookie", "sid=1; b=2"), ("accept-language", "fi")];
    let mut socket = Socket::open_with(&pogo, &headers);
    socket.must(json!({"event": "create", "uri": "/posts", "data": {}, "bind": false}));
    let seen = api.seen("POST /posts").remove(0);
    for (name, value) in headers {
        assert_eq!(seen.header(name), Some(value));
    }
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("host"), Some(pogo.address().to_string().as_str()));
    for gone in ["upgrade", "sec-websocket-key", "sec-websocket-version", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    socket.must(json!({"event": "auth", "data": {"token": "b"}}));
    socket.must(json!({"event": "create", "uri": "/posts", "data": {}, "bind": false}));
    let seen = api.seen("POST /posts").remove(1);
    assert_eq!(seen.header("authorization"), Some("Bearer b"));
    assert_eq!(seen.header("cookie"), None, "a new credential replaces the old ones");
}

#[test]
fn calls_to_one_uri_are_made_one_after_the_other_in_order() {
    let (api, _pogo, mut socket) = start();
    api.hold("PUT /posts/1");
    for n in 1..=5 {
        let update = json!({"id": n, "event": "update", "uri": "/posts/1", "data": n});
        socket.send(&update);
    }
    socket.send(&json!({"id": 6, "event": "show", "uri": "/posts/%31", "bind": false}));
    api.wait_held();
    socket.must(json!({"event": "ping"}));
    assert_eq!(api.seen("").len(), 1);
    api.release();
    let answers: Vec<Value> = std::iter::repeat_with(|| socket.event())
        .filter(|message| message.get("id").is_some())
        .take(6)
        .collect();
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(answers[5]["data"], 5);
    let bodies: Vec<_> = api.seen("PUT").into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [1, 2, 3, 4, 5]);
}

#[test]
fn a_queued_call_is_made_as_who_asked_for_it() {
    let (api, pogo, _socket) = start();
    let mut socket = Socket::open_as(&pogo, "alice");
    api.put("/posts/1", json!({"n": 1}));
    api.hold("PUT /posts/1");
    for n in 1..=2 {
        socket.send(&json!({"event": "update", "uri": "/posts/1", "data": n, "bind": false}));
    }
    socket.must(json!({"event": "auth", "data": {"token": "bob"}}));
    socket.send(&json!({"id": 50, "event": "update", "uri": "/posts/1", "data": 3}));
    api.wait_held();
    api.release();
    socket.answer(50);
    let seen = api.seen("PUT /posts/1");
    let who: Vec<_> = seen.iter().map(|seen| seen.header("authorization").unwrap()).collect();
    assert_eq!(who, ["Bearer alice", "Bearer alice", "Bearer bob"]);
}

#[test]
fn a_slow_call_holds_up_no_other_and_too_many_are_refused() {
    let (api, _pogo, mut socket) = start();
    for _ in 1..=16 {
        api.hold("GET /slow/");
    }
    let show = |uri: String| json!({"event": "show", "uri": uri, "bind": false});
    for n in 1..=15 {
        let mut slow = show(format!("/slow/{n}"));
        slow["id"] = json!(100 + n);
        socket.send(&slow);
    }
    api.wait_seen("GET /slow/", 15);
    socket.must(show("/fast".into()));
    socket.must(json!({"event": "ping"}));
    let mut slow = show("/slow/16".into());
    slow["id"] = json!(116);
    socket.send(&slow);
    assert_eq!(socket.error(show("/fast".into())), "limit_exceeded");
    assert_eq!(api.seen("GET /fast").len(), 1);
    api.wait_seen("GET /slow/", 16);
    api.release();
    let mut ids: Vec<_> = (0..16).map(|_| socket.event()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (101..=116).collect::<Vec<_>>());
    socket.must(show("/fast".into()));
}
