//! What operators see and do, and that nobody else does.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use pogo::admin;
use pogo::route::Rule;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Api, Operator, PATIENCE, Pogo, Socket, Upstream, Wire};

fn pogo(api: &Api) -> Pogo {
    Pogo::at(&api.address().to_string(), |options| {
        Operator::admit(options);
        options.workers = 3;
        let silent = Rule { path: "/silent".into(), realtime: false, ..Rule::default() };
        let users =
            Rule { path: "/users/{id}".into(), affects: vec!["/feed".into()], ..Rule::default() };
        options.routes = vec![silent, users];
    })
}

#[test]
fn nothing_but_probes_is_served_without_the_token() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, Operator::admit);
    let operator = Operator::of(&pogo);
    let ask = |line: &str, fields: &str| {
        operator.raw(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
    };
    for line in ["GET /healthz", "GET /readyz", "HEAD /healthz"] {
        assert_eq!(ask(line, "").status(), 200, "{line}");
    }
    for line in
        ["GET /metrics", "GET /sessions", "GET /routes", "DELETE /sessions?all=true", "GET /no"]
    {
        for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eA==\r\n"] {
            let answer = ask(line, fields);
            assert_eq!(answer.status(), 401, "{line} {fields}");
            assert_eq!(answer.one("www-authenticate").as_deref(), Some("Bearer"));
            assert_eq!(answer.one("content-type").as_deref(), Some("application/problem+json"));
        }
    }
    let answer = ask("POST /publish", "Content-Type: application/json\r\nContent-Length: 0\r\n");
    assert_eq!(answer.status(), 401);
}

/// An operator's listener that waits for nobody long.
fn impatient(upstream: &Upstream) -> Pogo {
    Pogo::with(upstream, |options| {
        Operator::admit(options);
        let (head, request, connection) = (1000, 300, 300);
        let [head, request, connection] = [head, request, connection].map(Duration::from_millis);
        if let Some(admin) = &mut options.admin {
            admin.patience = admin::Patience { head, request, connection };
        }
    })
}

#[test]
fn an_operator_who_begins_and_does_not_go_on_is_let_go() {
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    for begun in ["", "GET /healthz HTTP/1.1\r\nHost: local"] {
        let mut wire = Wire::connect(pogo.admin());
        wire.send(begun);
        wire.assert_closed();
    }
    let mut wire = Wire::connect(pogo.admin());
    wire.send(format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{",
        Operator::token()
    ));
    assert_eq!(wire.message().status(), 503);
}

#[test]
fn an_operator_who_takes_no_answers_holds_no_place_for_ever() {
    const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let upstream = Upstream::start();
    let pogo = impatient(&upstream);
    let mut wire = Wire::connect(pogo.admin());
    let refused = loop {
        if let Err(error) = wire.try_send(GET) {
            break error.kind();
        }
    };
    assert!(matches!(refused, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{refused}");
}

#[test]
fn a_page_of_another_name_is_refused_whatever_it_asks_for() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, Operator::admit);
    let operator = Operator::of(&pogo);
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9180", 200),
        ("[::1]", 200),
        ("rebound.example", 421),
        ("localhost.rebound.example:9180", 421),
    ] {
        let token = Operator::token();
        for path in ["/healthz", "/metrics", "/sessions"] {
            let answer = operator.raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            ));
            assert_eq!(answer.status(), status, "{host} {path}");
        }
    }
}

#[test]
fn without_a_token_there_are_probes_and_metrics_and_no_commands() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.admin = Some(admin::Options { listen, ..admin::Options::default() });
    });
    let operator = Operator::of(&pogo);
    for (line, status) in [
        ("GET /healthz", 200),
        ("GET /metrics", 200),
        ("GET /sessions", 403),
        ("DELETE /sessions?all=true", 403),
        ("POST /changed", 403),
        ("GET /no", 404),
    ] {
        let answer = operator.raw(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(answer.status(), status, "{line}");
    }
}

#[test]
fn mistakes_are_told_as_problems() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, Operator::admit);
    let operator = Operator::of(&pogo);
    for (method, target, body, status) in [
        ("PUT", "/sessions", None, 405),
        ("GET", "/changed", None, 405),
        ("POST", "/healthz", None, 405),
        ("GET", "/sessions/", None, 405),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/sessions", None, 400),
        ("DELETE", "/sessions?all=true&client=::1", None, 400),
        ("DELETE", "/sessions/x", None, 400),
        ("DELETE", "/sessions/7", None, 404),
        ("GET", "/sessions?limit=0", None, 400),
        ("GET", "/sessions?limit=1001", None, 400),
        ("GET", "/sessions?client=host", None, 400),
        ("GET", "/sessions?clients=::1", None, 400),
        ("GET", "/bindings?uri=posts", None, 400),
        ("POST", "/changed", Some(json!({})), 422),
        ("POST", "/changed", Some(json!({"uris": []})), 422),
        ("POST", "/changed", Some(json!({"uris": ["posts"]})), 422),
        ("POST", "/changed", Some(json!({"uris": ["/a"], "urls": []})), 422),
        ("POST", "/changed", Some(json!({"uris": vec!["/a"; 1001]})), 422),
        ("POST", "/publish", Some(json!({"channel": "a", "event": "ping"})), 422),
        ("POST", "/publish", Some(json!({"channel": "a", "event": "pogo:x"})), 422),
        ("POST", "/publish", Some(json!({"channel": "", "event": "a"})), 422),
        ("POST", "/publish", Some(json!({"channel": "a".repeat(70_000), "event": "a"})), 413),
    ] {
        let answer = operator.ask(method, target, body.as_ref());
        assert_eq!(answer.status(), status, "{method} {target} {}", answer.text());
        assert_eq!(answer.one("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    let token = Operator::token();
    let plain = operator.raw(&format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
    ));
    assert_eq!(plain.status(), 415);
}

#[test]
fn sessions_are_listed_page_by_page_and_without_their_credentials() {
    let api = Api::start();
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut sockets: Vec<_> = (0..12).map(|_| Socket::open_as(&pogo, "alices-secret")).collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        for uri in 0..number % 3 {
            socket.bind(&format!("/posts?page={uri}"));
        }
        socket.must(json!({"event": "channel:subscribe", "channel": "news"}));
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = operator.get(&format!("/sessions?limit=5{after}"));
        assert!(!page.to_string().contains("alices-secret"));
        for session in page["sessions"].as_array().unwrap() {
            assert_eq!(session["client"], "127.0.0.1");
            assert_eq!(
                (&session["channels"], &session["has_credential"]),
                (&json!(1), &json!(true))
            );
            seen.push((
                session["id"].as_str().unwrap().to_owned(),
                session["bindings"].as_u64().unwrap(),
            ));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 12);
    let bindings: u64 = seen.iter().map(|(_, count)| count).sum();
    assert_eq!(bindings, 12);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 12);
    assert_eq!(operator.get("/sessions?client=127.0.0.2")["sessions"], json!([]));
    let of_page = operator.get("/bindings?uri=/posts%3Fpage%3D1");
    assert_eq!(of_page["bindings"].as_array().unwrap().len(), 4, "{of_page}");
    let all = operator.get("/bindings");
    assert_eq!(all["bindings"].as_array().unwrap().len(), 12);
    let binding = &all["bindings"][0];
    assert_eq!((&binding["live"], &binding["stale"]), (&json!(true), &json!(false)));
    assert!(binding["uri"].as_str().unwrap().starts_with("/posts?page="));
    let session = binding["session"].as_str().unwrap();
    let own = operator.get(&format!("/bindings?session={session}"));
    assert!(own["bindings"].as_array().unwrap().iter().all(|it| it["session"] == session));
}

#[test]
fn an_operator_ends_one_session_or_all_of_an_address() {
    let api = Api::start();
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut one = Socket::open(&pogo);
    one.bind("/posts");
    let listed = operator.get("/sessions");
    let id = listed["sessions"][0]["id"].as_str().unwrap().to_owned();
    let ended = operator.must("DELETE", &format!("/sessions/{id}"), None);
    assert_eq!(ended, json!({"ended": 1}));
    assert_eq!(one.closed(), (4403, "ended by the operator".into()));
    let mut many: Vec<_> = (0..8).map(|_| Socket::open(&pogo)).collect();
    for socket in &mut many {
        socket.must(json!({"event": "ping"}));
    }
    let other = operator.must("DELETE", "/sessions?client=192.0.2.1", None);
    assert_eq!(other, json!({"ended": 0}));
    let ended = operator.must("DELETE", "/sessions?client=127.0.0.1&reconnect=true", None);
    assert_eq!(ended, json!({"ended": 8}));
    for mut socket in many {
        assert_eq!(socket.closed(), (1001, "going away; retry_after=1".into()));
    }
    let mut last = Socket::open(&pogo);
    last.must(json!({"event": "ping"}));
    assert_eq!(operator.must("DELETE", "/sessions?all=true", None), json!({"ended": 1}));
    assert_eq!(last.closed().0, 4403);
}

#[test]
fn an_operator_bans_an_address_and_lifts_the_ban() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        Operator::admit(options);
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        options.gate.proxy_protocol = true;
    });
    let operator = Operator::of(&pogo);
    let status = |client: &str| {
        let mut wire = pogo.connect_for(client);
        wire.send("GET /posts HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.message().status()
    };
    let mut bad = Socket::open_for(&pogo, "192.0.2.7");
    let mut good = Socket::open_for(&pogo, "192.0.2.8");
    bad.must(json!({"event": "ping"}));
    let address = json!({"address": "192.0.2.7"});
    assert_eq!(operator.must("POST", "/bans", Some(&address)), json!({"banned": true}));
    assert_eq!(operator.must("POST", "/bans", Some(&address)), json!({"banned": false}));
    assert_eq!(bad.closed().0, 4403);
    assert_eq!((status("192.0.2.7"), status("192.0.2.8")), (403, 200));
    assert_eq!(operator.metric("pogo_rejections_total{reason=\"banned\"}"), 1.0);
    let listed = operator.get("/bans?address=192.0.2.7");
    let ban = &listed["bans"][0];
    assert_eq!((&ban["network"], &listed["total"]), (&json!("192.0.2.7/32"), &json!(1)));
    assert_eq!(ban["cause"], "an operator's word");
    assert!((590..=600).contains(&ban["left_seconds"].as_u64().unwrap()), "{ban}");
    assert_eq!(operator.get("/bans?address=192.0.2.8")["bans"], json!([]));
    assert_eq!(operator.must("DELETE", "/bans/192.0.2.0/24", None), json!({"lifted": true}));
    assert_eq!(operator.ask("DELETE", "/bans/192.0.2.7", None).status(), 404);
    assert_eq!(status("192.0.2.7"), 200);
    good.assert_silent();
    let proxy = operator.ask("POST", "/bans", Some(&json!({"address": "127.0.0.1"})));
    assert_eq!(proxy.status(), 422);
    for (method, target, status) in [
        ("DELETE", "/bans/host", 400),
        ("DELETE", "/bans/192.0.2.7/33", 400),
        ("PUT", "/bans", 405),
    ] {
        assert_eq!(operator.ask(method, target, None).status(), status, "{method} {target}");
    }
}

#[test]
fn what_changed_elsewhere_is_fetched_again() {
    let api = Api::start();
    api.put("/posts/1", json!({"n": 1}));
    api.put("/users/7", json!({"n": 1}));
    api.put("/feed", json!({"n": 1}));
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut socket = Socket::open(&pogo);
    for uri in ["/posts/1", "/users/7", "/feed"] {
        socket.bind(uri);
    }
    let update = |uri: &str, n: u64| json!({"event": "update", "uri": uri, "data": {"n": n}});
    // Behind Pogo's back:
    api.put("/posts/1", json!({"n": 2}));
    api.put("/feed", json!({"n": 2}));
    socket.assert_silent();
    let uris = json!({"uris": ["/posts/1?any=1", "/silent"]});
    let changed = operator.must("POST", "/changed", Some(&uris));
    assert_eq!(changed, json!({"changed": 1, "ignored": 1}));
    assert_eq!(socket.event(), update("/posts/1", 2));
    // What the route says that a write touches:
    api.put("/users/7", json!({"n": 2}));
    operator.must("POST", "/changed", Some(&json!({"uris": ["/users/7"]})));
    let mut events = [socket.event(), socket.event()];
    events.sort_by_key(|event| event["uri"].as_str().unwrap().to_owned());
    assert_eq!(events, [update("/feed", 2), update("/users/7", 2)]);
    assert_eq!(operator.metric("pogo_changes_total"), 2.0);
}

#[test]
fn an_operator_publishes_to_subscribers_on_every_worker() {
    let api = Api::start();
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut sockets: Vec<_> = (0..9).map(|_| Socket::open(&pogo)).collect();
    let mut stranger = Socket::open(&pogo);
    for socket in &mut sockets {
        socket.must(json!({"event": "channel:subscribe", "channel": "/courses/1"}));
    }
    let event = json!({"event": "grade", "channel": "/courses/1", "data": {"of": [1, 2]}});
    operator.must("POST", "/publish", Some(&event));
    operator.must("POST", "/publish", Some(&json!({"event": "done", "channel": "/courses/1"})));
    for socket in &mut sockets {
        assert_eq!(socket.event(), event);
        assert_eq!(socket.event(), json!({"event": "done", "channel": "/courses/1"}));
    }
    stranger.assert_silent();
}

#[test]
fn routes_are_listed_with_what_they_say_and_how_often_they_were_asked() {
    let api = Api::start();
    api.put("/users/7", json!({}));
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    pogo.get("/users/7").message();
    pogo.get("/users/8").message();
    pogo.get("/elsewhere").message();
    let listed = operator.get("/routes");
    let [silent, users, implied] = &listed["routes"].as_array().unwrap()[..] else {
        panic!("{listed}")
    };
    assert_eq!((&silent["path"], &silent["realtime"]), (&json!("/silent"), &json!(false)));
    assert_eq!((&users["affects"], &users["requests"]), (&json!(["/feed"]), &json!(2)));
    assert_eq!((&users["visibility"], &users["push"]), (&json!("viewer"), &json!("state")));
    assert_eq!((&implied["path"], &implied["requests"]), (&Value::Null, &json!(1)));
    assert_eq!(implied["label"], "default");
}

#[test]
fn more_operators_than_there_is_room_for_are_turned_away_until_one_leaves() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, Operator::admit);
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut there: Vec<_> = (0..32).map(|_| Wire::connect(pogo.admin())).collect();
    for operator in &mut there {
        operator.send(ask);
        assert_eq!(operator.message().status(), 200);
    }
    Wire::connect(pogo.admin()).assert_closed();
    there.pop();
    let end = Instant::now() + PATIENCE;
    loop {
        let mut next = Wire::connect(pogo.admin());
        if next.try_send(ask).is_ok() && next.is_answered() {
            break;
        }
        assert!(Instant::now() < end, "nobody is let in");
    }
}

/// The commands that the documentation shows are typed as they stand.
#[test]
fn every_command_of_the_documentation_works() {
    let api = Api::start();
    let pogo = pogo(&api);
    let operator = Operator::of(&pogo);
    let mut socket = Socket::open(&pogo);
    socket.must(json!({"event": "ping"}));
    let page = include_str!("../../docs/operations.md");
    let section = page.split("\n## Operators\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut typed = 0;
    for line in section.lines().filter(|line| line.starts_with("curl ")) {
        let (method, target, body) = curl(line);
        let answer = operator.ask(&method, &target, body.as_ref());
        // The session of the example may be another one here.
        let of_one = target.starts_with("/sessions/") || target.starts_with("/bans/");
        assert_eq!(answer.status(), if of_one { answer.status() } else { 200 }, "{line}");
        assert!([200, 404].contains(&answer.status()), "{line}");
        typed += 1;
    }
    assert!(typed >= 10, "{typed}");
    let listed: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| line.split(['`', '?']).next().unwrap())
        .collect();
    for line in listed {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.replace("ADDRESS", "ID");
        let shown = path.trim_end_matches("ID");
        assert!(section.contains(&format!("$POGO{shown}")), "no command shows {line}");
        let status = operator.ask(method, &path.replace("ID", "1"), None).status();
        assert!(![404, 405].contains(&status) || path.ends_with("ID"), "{line}: {status}");
    }
}

/// What a line of the documentation asks for.
fn curl(line: &str) -> (String, String, Option<Value>) {
    let (mut method, mut target, mut body) = ("GET".to_owned(), None, None);
    let mut rest = line.strip_prefix("curl ").unwrap().trim();
    let mut option = "";
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (word, after) = match quote {
            Some(quote) => rest[1..].split_once(quote).unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        rest = after.trim_start();
        match (option, word) {
            ("", "-H" | "-X" | "--json") => option = word,
            ("-H", field) => {
                assert_eq!(field, "Authorization: Bearer $TOKEN");
                option = "";
            }
            ("-X", word) => (method, option) = (word.to_owned(), ""),
            ("--json", json) => {
                method = "POST".to_owned();
                body = Some(serde_json::from_str(json).unwrap());
                option = "";
            }
            (_, url) => target = Some(url.strip_prefix("$POGO").unwrap().to_owned()),
        }
    }
    (method, target.unwrap(), body)
}
