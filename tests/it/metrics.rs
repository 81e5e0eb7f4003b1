//! What is counted, as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};

use pogo::route::Rule;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Api, Operator, PATIENCE, Pogo, Reply, Socket};

/// A text format parser that forgives nothing: families have one HELP and one TYPE, in this order,
/// before their samples, stand together, and no series comes twice.
fn families(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut helped = String::new();
    let mut present = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            assert!(!families.contains_key(name), "{name} comes twice");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(name.starts_with("pogo_") || name.starts_with("process_"), "{line}");
            families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            present = name.to_owned();
        } else {
            let (id, value) = line.rsplit_once(' ').expect("a sample");
            assert!(series.insert(id.to_owned()), "{id} comes twice");
            let name = id.split('{').next().unwrap();
            let (kind, samples) = families.get_mut(&present).expect("a family");
            let suffixes: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            let own = suffixes.iter().any(|suffix| name == format!("{present}{suffix}"));
            assert!(own, "{line} stands under {present}");
            labels(id);
            samples.push((id.to_owned(), value.parse().expect("a number")));
        }
    }
    families
}

fn labels(id: &str) {
    let Some((_, rest)) = id.split_once('{') else { return };
    let inside = rest.strip_suffix('}').expect("a closing brace");
    let mut names = BTreeSet::new();
    for pair in inside.split("\",") {
        let (name, value) = pair.split_once("=\"").expect("name and value");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{id}");
        assert!(names.insert(name), "{id}");
        assert!(!value.trim_end_matches('"').contains('"'), "{id}");
    }
}

fn pogo(api: &Api) -> Pogo {
    Pogo::at(&api.address().to_string(), |options| {
        Operator::admit(options);
        options.workers = 2;
        let path = |path: &str| Rule { path: path.into(), ..Rule::default() };
        options.routes = vec![path("/posts/{id}"), path("/odd/{name}/\"quoted\"")];
    })
}

#[test]
fn the_exposition_holds_to_the_format() {
    let api = Api::start();
    let pogo = pogo(&api);
    for path in ["/posts/1", "/posts/2", "/odd/x/%22quoted%22", "/else"] {
        pogo.get(path).message();
    }
    let operator = Operator::of(&pogo);
    let answer = operator.ask("GET", "/metrics", None);
    let media_type = answer.one("content-type").unwrap();
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
    let families = families(answer.text());
    for name in [
        "pogo_requests_total",
        "pogo_request_duration_seconds",
        "pogo_upstream_connections",
        "pogo_views",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(families[name].1.iter().any(|(_, value)| *value >= 0.0), "{name}");
    }
    let (_, buckets) = &families["pogo_request_duration_seconds"];
    let of_posts: Vec<_> = buckets
        .iter()
        .filter(|(id, _)| id.contains("_bucket{route=\"/posts/{id}\""))
        .map(|(_, count)| *count)
        .collect();
    assert_eq!(of_posts.len(), 15);
    assert!(of_posts.is_sorted());
    assert_eq!(of_posts.last(), Some(&2.0));
    let documented = include_str!("../../docs/operations.md");
    for name in families.keys() {
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/operations.md");
    }
}

#[test]
fn requests_are_told_apart_by_pattern_and_never_by_path() {
    let api = Api::start();
    api.put("/posts/1", json!({}));
    api.put("/posts/2", json!({}));
    api.on("GET /posts/9", |_, _| Some(Reply::empty(500)));
    let pogo = pogo(&api);
    for path in ["/posts/1", "/posts/2?token=secret", "/posts/9", "/a/secret/path"] {
        pogo.get(path).message();
    }
    assert_eq!(pogo.write("PUT", "/posts/1", &json!({})), 200);
    let mut strange = pogo.ask("FETCH /posts/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(strange.message().status(), 405);
    let operator = Operator::of(&pogo);
    for (labels, count) in [
        ("route=\"/posts/{id}\",method=\"GET\",code_class=\"2xx\"", 2.0),
        ("route=\"/posts/{id}\",method=\"GET\",code_class=\"5xx\"", 1.0),
        ("route=\"/posts/{id}\",method=\"PUT\",code_class=\"2xx\"", 1.0),
        ("route=\"/posts/{id}\",method=\"other\",code_class=\"4xx\"", 1.0),
        ("route=\"default\",method=\"GET\",code_class=\"4xx\"", 1.0),
    ] {
        assert_eq!(operator.metric(&format!("pogo_requests_total{{{labels}}}")), count, "{labels}");
    }
    assert!(!operator.metrics().contains("secret"));
    assert_eq!(operator.metric("pogo_changes_total"), 1.0);
}

#[test]
fn sockets_views_and_deliveries_are_counted_and_forgotten() {
    let api = Api::start();
    api.put("/posts/1", json!({"n": 0}));
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut sockets: Vec<_> = (0..5).map(|_| Socket::open(&pogo)).collect();
    for socket in &mut sockets {
        socket.bind("/posts/1");
        socket.must(json!({"event": "channel:subscribe", "channel": "news"}));
    }
    let gauges = |sessions: f64, bindings: f64, views: f64| {
        let wanted = [sessions, bindings, views];
        let end = Instant::now() + PATIENCE;
        // What leaves a view of another worker's is counted when that worker hears of it.
        while ["pogo_sessions", "pogo_bindings", "pogo_views"].map(|it| operator.metric(it))
            != wanted
        {
            assert!(Instant::now() < end, "{}", operator.metrics());
        }
    };
    gauges(5.0, 5.0, 1.0);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!({"n": 1})), 200);
    let update = json!({"event": "update", "uri": "/posts/1", "data": {"n": 1}});
    for socket in &mut sockets {
        assert_eq!(socket.until(&update).len(), 0);
    }
    sockets[0].must(json!({"event": "hello", "channel": "news"}));
    for socket in &mut sockets[1..] {
        assert_eq!(socket.event()["event"], "hello");
        // The counter is raised when the write has returned; a round trip is later than that.
        socket.must(json!({"event": "ping"}));
    }
    sockets[0].must(json!({"event": "ping"}));
    assert_eq!(operator.metric("pogo_deliveries_total{kind=\"state\"}"), 5.0);
    assert_eq!(operator.metric("pogo_deliveries_total{kind=\"channel\"}"), 4.0);
    assert_eq!(operator.metric("pogo_messages_total"), 16.0);
    assert!(operator.metric("pogo_refetches_total{outcome=\"state\"}") >= 2.0);
    for mut socket in sockets.drain(1..) {
        socket.close();
        socket.assert_ended();
    }
    sockets[0].must(json!({"event": "unbind", "uri": "/posts/1"}));
    gauges(1.0, 0.0, 0.0);
    assert_eq!(operator.metric("pogo_sessions_closed_total{code=\"1000\"}"), 4.0);
    assert_eq!(operator.metric("pogo_sessions_closed_total{code=\"none\"}"), 0.0);
}

#[test]
fn what_pogo_does_not_serve_is_counted_by_reason() {
    let api = Api::start();
    api.on("GET /reset", |_, _| None);
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    assert_eq!(pogo.get("/reset").message().status(), 502);
    let mut trace = pogo.ask("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(trace.message().status(), 405);
    assert_eq!(operator.metric("pogo_rejections_total{reason=\"upstream_broken\"}"), 1.0);
    assert_eq!(operator.metric("pogo_rejections_total{reason=\"method_not_allowed\"}"), 1.0);
    assert_eq!(operator.metric("pogo_upstream_failures_total{kind=\"reset\"}"), 1.0);
    let upstream = operator.metric("pogo_upstream_connections_opened_total");
    assert!(upstream >= 0.0);
}
