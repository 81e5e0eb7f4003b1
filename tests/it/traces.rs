//! Spans of requests: what a collector is told of them, what the API sees, and that a collector costs
//! nobody but itself.

use std::net::SocketAddr;
use std::time::Duration;

use pogo::route::Rule;
use pogo::server::Options;
use pogo::traces::{self, Bounds};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    Api, Launch, Message, Nowhere, Operator, PATIENCE, Pogo, Reply, Socket, Upstream, Wire,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Spans are sent as soon as there are so many.
fn export(options: &mut Options, collector: SocketAddr, batch: usize) {
    let endpoint = format!("http://{collector}/v1/traces");
    let bounds = Bounds { batch, wait: Duration::from_secs(3600), ..Bounds::default() };
    options.traces = Some(traces::Options { endpoint, service_name: "shop".into(), bounds });
    let path = |path: &str| Rule { path: path.into(), ..Rule::default() };
    options.routes = vec![path("/posts/{id}")];
    Operator::admit(options);
}

/// Takes what comes next, and says so.
fn take(collector: &Upstream) -> Vec<Value> {
    let (mut wire, posted) = collector.request();
    answer(&mut wire, "200 OK", "{}");
    spans(&posted)
}

/// The only answer on its connection.
fn answer(wire: &mut Wire, start: &str, body: &str) {
    let length = body.len();
    wire.send(format!(
        "HTTP/1.1 {start}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
}

fn spans(posted: &Message) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&posted.body).unwrap();
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute<'s>(span: &'s Value, key: &str) -> Option<&'s Value> {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|attribute| attribute["key"] == key).map(|found| &found["value"])
}

#[track_caller]
fn assert_end(span: &Value, by: &str, at: &str, reason: &str) {
    for (key, text) in [("by", by), ("at", at), ("reason", reason)] {
        let found = attribute(span, &format!("pogo.end.{key}"));
        assert_eq!(found, Some(&json!({"stringValue": text})), "{span}");
    }
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Trace and span of the one field that a request has.
fn parent(request: &Message) -> (String, String) {
    let field = request.one("traceparent").expect("a traceparent");
    let parts: Vec<_> = field.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{field}");
    assert_eq!((parts[1].len(), parts[2].len()), (32, 16), "{field}");
    (parts[1].into(), parts[2].into())
}

/// Waits for a metric, which another thread counts.
#[track_caller]
fn wait_for(operator: &Operator, metric: &str, value: f64) {
    let end = Instant::now() + PATIENCE;
    while operator.metric(metric) != value {
        assert!(Instant::now() < end, "{metric} is {}", operator.metric(metric));
    }
}

const EXPORTED: &str = "pogo_spans_exported_total";
const DROPPED: &str = "pogo_spans_dropped_total";

#[test]
fn a_collector_is_told_of_a_request_and_the_api_sees_it_come_from_that_span() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let pogo = Pogo::with(&upstream, |options| export(options, collector.address(), 1));
    let mut client = pogo.ask(&get(
        "/posts/1?token=hidden",
        &format!(
            "traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\n\
             Authorization: Bearer hidden\r\nCookie: sid=hidden\r\n"
        ),
    ));
    let (mut api, request) = upstream.request();
    api.respond("whole");
    assert_eq!(client.message().text(), "whole");
    let (trace, own) = parent(&request);
    assert_eq!((&*trace, request.one("tracestate").as_deref()), (TRACE, Some("vendor=1")));
    assert_ne!(own, PARENT);
    let mut wire = collector.accept();
    let posted = wire.message();
    wire.respond("{}");
    assert_eq!(posted.start, "POST /v1/traces HTTP/1.1");
    assert_eq!(posted.one("content-type").as_deref(), Some("application/json"));
    assert!(!posted.text().contains("hidden") && !posted.text().contains("/posts/1"));
    let body: Value = serde_json::from_slice(&posted.body).unwrap();
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    let name = json!([{"key": "service.name", "value": {"stringValue": "shop"}}]);
    assert_eq!((resource, spans(&posted).len()), (&name, 1));
    let span = &spans(&posted)[0];
    let ids = ["traceId", "spanId", "parentSpanId", "traceState"].map(|key| span[key].clone());
    assert_eq!(ids, [json!(TRACE), json!(own), json!(PARENT), json!("vendor=1")]);
    assert_eq!((&span["name"], &span["kind"]), (&json!("GET /posts/{id}"), &json!(2)));
    let code = attribute(span, "http.response.status_code");
    assert_eq!(code, Some(&json!({"intValue": "200"})));
    for (key, text) in [("http.request.method", "GET"), ("http.route", "/posts/{id}")] {
        assert_eq!(attribute(span, key), Some(&json!({"stringValue": text})));
    }
    assert_end(span, "none", "end", "ok");
    assert_eq!(span.get("status"), None);
    let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (began, ended) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
    assert!(began < ended && u128::from(ended) < now.as_nanos(), "{span}");
    assert!(now.as_nanos() - u128::from(began) < 60_000_000_000, "{span}");
    wait_for(&Operator::of(&pogo), EXPORTED, 1.0);
}

#[test]
fn a_request_of_no_trace_or_of_a_malformed_one_begins_one() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let pogo = Pogo::with(&upstream, |options| export(options, collector.address(), 1));
    let mut seen = Vec::new();
    let good = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let twice = good.repeat(2) + "tracestate: vendor=1\r\n";
    let short = format!("Traceparent: 00-{TRACE}-{}-01\r\ntracestate: vendor=1\r\n", &PARENT[1..]);
    for fields in ["", "tracestate: vendor=1\r\n", &twice, &short] {
        let mut client = pogo.ask(&get("/else", fields));
        let (mut api, request) = upstream.request();
        answer(&mut api, "200 OK", "");
        assert_eq!(client.message().status(), 200);
        let (trace, own) = parent(&request);
        assert_eq!(request.one("tracestate"), None, "{fields}");
        let span = &take(&collector)[0];
        assert_eq!((&span["traceId"], &span["spanId"]), (&json!(trace), &json!(own)));
        assert_eq!((span.get("parentSpanId"), span.get("traceState")), (None, None));
        // No pattern matches.
        assert_eq!((&span["name"], attribute(span, "http.route")), (&json!("GET"), None));
        assert!(trace != TRACE && !seen.contains(&trace) && !seen.contains(&own));
        seen.extend([trace, own]);
    }
}

#[test]
fn a_trace_that_is_not_recorded_passes_and_is_not_exported() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let pogo = Pogo::with(&upstream, |options| export(options, collector.address(), 1));
    for flags in ["00", "01"] {
        let sent = format!("00-{TRACE}-{PARENT}-{flags}");
        let mut client = pogo.ask(&get("/posts/1", &format!("traceparent: {sent}\r\n")));
        let (mut api, request) = upstream.request();
        answer(&mut api, "200 OK", "");
        assert_eq!(client.message().status(), 200);
        assert_eq!(request.one("traceparent") == Some(sent), flags == "00");
    }
    // What comes first is the second.
    let spans = take(&collector);
    assert_eq!((spans.len(), &spans[0]["traceId"]), (1, &json!(TRACE)));
    let operator = Operator::of(&pogo);
    wait_for(&operator, EXPORTED, 1.0);
    assert_eq!(operator.metric(DROPPED), 0.0);
}

#[test]
fn without_a_collector_what_a_client_says_of_its_trace_passes_as_it_is() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    for sent in [format!("00-{TRACE}-{PARENT}-01"), "anything".into()] {
        let fields = format!("traceparent: {sent}\r\ntracestate: a=1\r\n");
        let mut client = pogo.ask(&get("/posts/1", &fields));
        let (mut api, request) = upstream.request();
        answer(&mut api, "200 OK", "");
        assert_eq!(client.message().status(), 200);
        assert_eq!(request.one("traceparent"), Some(sent));
        assert_eq!(request.one("tracestate").as_deref(), Some("a=1"));
    }
    let mut client = pogo.ask(&get("/posts/1", ""));
    let (mut api, request) = upstream.request();
    api.respond("");
    client.message();
    assert_eq!(request.one("traceparent"), None);
}

#[test]
fn a_span_says_how_it_ended_whoever_ended_it() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let pogo = Pogo::with(&upstream, |options| {
        export(options, collector.address(), 1);
        options.upstream.response_timeout = Duration::from_millis(200);
    });
    let failed = |span: &Value, error: &str| {
        assert_eq!(span["status"], json!({"code": 2}), "{span}");
        assert_eq!(attribute(span, "error.type"), Some(&json!({"stringValue": error})));
    };
    // The API says that it has failed,
    let mut client = pogo.ask(&get("/posts/1", ""));
    let (mut api, _) = upstream.request();
    answer(&mut api, "503 No", "");
    assert_eq!(client.message().status(), 503);
    let span = &take(&collector)[0];
    assert_end(span, "none", "end", "ok");
    failed(span, "503");
    // does not answer,
    let mut client = pogo.ask(&get("/posts/1", ""));
    let api = upstream.request();
    assert_eq!(client.message().status(), 504);
    drop(api);
    let span = &take(&collector)[0];
    assert_end(span, "upstream", "answer", "upstream_timeout");
    failed(span, "upstream_timeout");
    // or breaks off;
    let mut client = pogo.ask(&get("/posts/1", ""));
    let (mut api, _) = upstream.request();
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    client.head();
    client.exactly(4);
    drop(api);
    client.rest();
    let span = &take(&collector)[0];
    assert_end(span, "upstream", "body", "upstream_reset");
    failed(span, "upstream_reset");
    // the client leaves,
    let client = pogo.ask(&get("/posts/1", ""));
    let api = upstream.request();
    drop(client);
    let span = &take(&collector)[0];
    assert_end(span, "client", "answer", "client_gone");
    failed(span, "client_gone");
    assert_eq!(attribute(span, "http.response.status_code"), None);
    drop(api);
    // or asks for what there is not: that is its mistake, not the server's.
    let mut client = pogo.ask("TRACE /posts/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().status(), 405);
    let span = &take(&collector)[0];
    assert_end(span, "pogo", "request", "method_not_allowed");
    assert_eq!(span.get("status"), None);
    // What a client makes up is not repeated.
    let mut client = pogo.ask("FETCH /posts/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut api, _) = upstream.request();
    api.respond("");
    assert_eq!(client.message().status(), 200);
    let span = &take(&collector)[0];
    let method = attribute(span, "http.request.method");
    assert_eq!(method, Some(&json!({"stringValue": "_OTHER"})));
    assert_eq!(span["name"], "HTTP /posts/{id}");
}

#[test]
fn who_leaves_a_stream_has_broken_nothing_off() {
    let (api, collector) = (Api::start(), Upstream::start());
    api.put("/posts/1", json!({"n": 0}));
    let pogo =
        Pogo::at(&api.address().to_string(), |options| export(options, collector.address(), 1));
    let mut client = pogo.ask(&get("/posts/1", "Accept: text/event-stream\r\n"));
    assert_eq!(client.head().status(), 200);
    client.chunk();
    drop(client);
    let spans = take(&collector);
    assert_end(&spans[0], "client", "body", "client_gone");
    assert_eq!(spans[0].get("status"), None);
}

#[test]
fn the_fetch_that_follows_a_write_comes_from_the_span_of_the_write() {
    let (api, collector) = (Api::start(), Upstream::start());
    api.put("/posts/1", json!({"n": 0}));
    let pogo =
        Pogo::at(&api.address().to_string(), |options| export(options, collector.address(), 2));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PUT", "/posts/1", &json!({"n": 1})), 200);
    assert_eq!(socket.event()["data"], json!({"n": 1}));
    // That of the handshake, and that of the write; what Pogo asks by itself has none.
    let spans = take(&collector);
    assert_eq!(attribute(&spans[0], "http.response.status_code").unwrap()["intValue"], "101");
    let (trace, own) = (&spans[1]["traceId"], &spans[1]["spanId"]);
    assert_eq!(spans[1]["name"], "PUT /posts/{id}");
    let put = format!("00-{}-{}-01", trace.as_str().unwrap(), own.as_str().unwrap());
    let seen = |what: &str| api.seen(what).pop().unwrap().header("traceparent").map(str::to_owned);
    assert_eq!(seen("PUT /posts/1").as_ref(), Some(&put));
    assert_eq!(seen("GET /posts/1"), Some(put));
}

#[test]
fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let (api, collector) = (Api::start(), Upstream::start());
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        export(options, collector.address(), 2);
        let bounds = &mut options.traces.as_mut().unwrap().bounds;
        // It is waited for longer than this test lasts; so is whoever waits for it.
        bounds.patience = Duration::from_secs(3600);
        (bounds.queue, bounds.last) = (4, Duration::from_millis(50));
    });
    let mut client = pogo.connect();
    let mut ask = |count: usize| {
        for _ in 0..count {
            client.send(get("/posts/1", ""));
            assert_eq!(client.message().status(), 404);
        }
    };
    ask(2);
    let (_hanging, posted) = collector.request();
    assert_eq!(spans(&posted).len(), 2);
    let operator = Operator::of(&pogo);
    assert_eq!(operator.metric(DROPPED), 0.0);
    ask(20);
    assert_eq!(operator.metric(DROPPED), 16.0);
    assert_eq!(operator.metric(EXPORTED), 0.0);
    // Nor does the end wait for it.
    drop(pogo);
}

#[test]
fn a_collector_that_fails_or_is_away_costs_what_it_was_sent_and_is_tried_again() {
    let (api, place) = (Api::start(), Nowhere::new());
    let address = place.address();
    let pogo = Pogo::at(&api.address().to_string(), |options| export(options, address, 1));
    let operator = Operator::of(&pogo);
    let ask = || assert_eq!(pogo.get("/posts/1").message().status(), 404);
    ask();
    wait_for(&operator, DROPPED, 1.0);
    let collector = place.listen();
    socket2::SockRef::from(&collector).set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut wire = Wire::new(collector.accept().unwrap().0);
        let posted = wire.message();
        (wire, posted)
    };
    let mut lost = 1.0;
    for start in ["500 Broken", "404 Not Here", "302 Found\r\nLocation: http://127.0.0.1:1/"] {
        ask();
        answer(&mut next().0, start, "");
        lost += 1.0;
        wait_for(&operator, DROPPED, lost);
    }
    // What it may take later it is sent once more, and only once.
    let later = "503 Later\r\nRetry-After: 0";
    ask();
    let (mut wire, first) = next();
    answer(&mut wire, later, "");
    let (mut wire, second) = next();
    assert_eq!(second.body, first.body);
    answer(&mut wire, "200 OK", "{}");
    wait_for(&operator, EXPORTED, 1.0);
    ask();
    answer(&mut next().0, later, "");
    answer(&mut next().0, later, "");
    wait_for(&operator, DROPPED, 5.0);
    // What it says that it has not taken is lost, too; and what it says without end is not read.
    ask();
    let rejects = r#"{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "no"}}"#;
    answer(&mut next().0, "200 OK", rejects);
    wait_for(&operator, DROPPED, 6.0);
    ask();
    let (mut wire, _) = next();
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while wire.try_send(&chunk).is_ok() {}
    wait_for(&operator, EXPORTED, 2.0);
}

#[test]
fn what_is_left_at_the_end_is_sent() {
    let (api, collector) = (Api::start(), Upstream::start());
    let mut pogo = Pogo::at(&api.address().to_string(), |options| {
        export(options, collector.address(), 2);
        options.traces.as_mut().unwrap().bounds.last = Duration::from_secs(60);
    });
    for _ in 0..5 {
        assert_eq!(pogo.get("/posts/1").message().status(), 404);
    }
    let (mut wire, posted) = collector.request();
    let address = pogo.address();
    let drained = pogo.drain();
    // Nobody serves any more.
    while std::net::TcpStream::connect(address).is_ok() {}
    answer(&mut wire, "200 OK", "{}");
    let counts = [spans(&posted).len(), take(&collector).len(), take(&collector).len()];
    assert_eq!(counts, [2, 2, 1]);
    drained.join().unwrap().unwrap();
}

#[test]
fn what_the_file_says_holds_from_the_start_and_the_log_names_the_trace() {
    let (api, collector) = (Api::start(), Upstream::start());
    let endpoint = format!("http://{}/v1/traces", collector.address());
    let configuration = format!("[traces]\nendpoint = \"{endpoint}\"");
    let launch = Launch { configuration: &configuration, access_log: true, ..Launch::default() };
    let program = launch.before(api.address());
    assert_eq!(program.ask("POST", "/posts", "{}").message().status(), 201);
    let line = program.line("request");
    let (mut wire, posted) = collector.request();
    wire.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    assert!(posted.text().contains(r#"{"key":"service.name","value":{"stringValue":"pogo"}}"#));
    assert_eq!(line["trace_id"], spans(&posted)[0]["traceId"]);
    let line = program.line("spans were dropped");
    assert_eq!((&line["level"], &line["spans"]), (&json!("WARN"), &json!(1)), "{line}");
    assert!(line["cause"].as_str().unwrap().contains("500"), "{line}");
}

#[test]
fn another_collector_needs_a_restart() {
    let (api, collector) = (Api::start(), Upstream::start());
    api.on("GET /posts/1", |_, _| Some(Reply::new(200, &json!(1))));
    let mut pogo =
        Pogo::at(&api.address().to_string(), |options| export(options, collector.address(), 1));
    let reloaded = pogo.try_reload(|options| {
        options.traces = None;
        options.routes.clear();
    });
    assert_eq!(reloaded.unwrap().restart_for, ["traces.endpoint"]);
    // The rest is taken, and spans go where they went.
    assert_eq!(pogo.get("/posts/1").message().status(), 200);
    let spans = take(&collector);
    assert_eq!(spans[0]["name"], "GET");
}
