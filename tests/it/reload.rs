//! Other options for a server that runs: what requests, connections and operators see of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pogo::gate::auth::Secret;
use pogo::route::Rule;
use pogo::server::{Options, Refused};
use pogo::units::Rate;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    Api, Authority, Http2, Operator, PATIENCE, Pogo, Private, Socket, Upstream, Wire, start_of_two,
};

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

fn get(wire: &mut Wire) -> u16 {
    wire.send("GET /posts HTTP/1.1\r\nHost: api\r\n\r\n");
    wire.message().status()
}

fn post(wire: &mut Wire) -> u16 {
    wire.send("POST /posts HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\n{\"a\":12345");
    wire.message().status()
}

#[test]
fn a_connection_that_is_open_is_served_by_the_new_options() {
    let (api, mut pogo) = start_of_two(|_| ());
    let mut wire = pogo.connect();
    assert_eq!(post(&mut wire), 201);
    assert!(api.wait_seen("POST", 1)[0].header("via").unwrap().ends_with("pogo"));
    pogo.reload(|options| {
        options.gateway.body_bytes = 9;
        options.gateway.via = Some("other".into());
    });
    assert_eq!(get(&mut wire), 200);
    assert!(api.wait_seen("GET", 1)[0].header("via").unwrap().ends_with("other"));
    wire.send("POST /posts HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\n");
    wire.message().assert_problem(413);
    let mut wire = pogo.connect();
    pogo.reload(|options| options.gateway.header_bytes = 8 * 1024);
    let large = "x".repeat(9000);
    wire.send(format!("GET / HTTP/1.1\r\nHost: api\r\nA: {large}\r\n\r\n"));
    assert_eq!(wire.message().status(), 431, "a connection that begins reads by the new limits");
}

#[test]
fn who_may_come_in_changes_and_what_the_others_have_open_ends() {
    let (_api, mut pogo) = start_of_two(|options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        options.gate.proxy_protocol = true;
    });
    let (bad, good) = ("192.0.2.7", "192.0.2.8");
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open_for(&pogo, bad)).collect();
    let mut spared = Socket::open_for(&pogo, good);
    let (mut idle, mut other) = (pogo.connect_for(bad), pogo.connect_for(good));
    assert_eq!((get(&mut idle), get(&mut other)), (200, 200));
    pogo.reload(|options| options.gate.deny = vec![format!("{bad}/32").parse().unwrap()]);
    for socket in &mut sockets {
        assert_eq!(socket.closed().0, 4403);
    }
    idle.assert_closed();
    assert_eq!(get(&mut pogo.connect_for(bad)), 403);
    assert_eq!(get(&mut other), 200);
    spared.must(json!({"event": "ping"}));
    pogo.reload(|options| options.gate.deny.clear());
    assert_eq!(get(&mut pogo.connect_for(bad)), 200);
}

#[test]
fn bans_stay_and_so_does_what_was_spent_of_a_rate_that_is_the_same() {
    let (_api, mut pogo) = start_of_two(|options| {
        options.gate.rates.writes = rate("1/d");
        options.routes = vec![Rule { rate: rate("3/d"), path: "/posts".into(), ..Rule::default() }];
    });
    let mut wire = pogo.connect();
    assert_eq!(post(&mut wire), 201);
    pogo.reload(|options| options.gate.rates.http = rate("100/d"));
    assert_eq!(post(&mut wire), 429, "the budget of writes is spent");
    pogo.reload(|options| options.routes[0].autobind = false);
    assert_eq!([get(&mut wire), get(&mut wire), get(&mut wire)], [200, 200, 429]);
    pogo.reload(|options| options.gate.rates.writes = None);
    assert_eq!(post(&mut wire), 429, "the budget of the route is spent");
    pogo.reload(|options| options.routes[0].rate = None);
    assert_eq!(post(&mut wire), 201);
    let banned = "192.0.2.9".parse().unwrap();
    assert!(pogo.gate().ban(banned));
    pogo.reload(|options| options.gate.ban.lasts = Duration::from_secs(5));
    assert!(pogo.gate().admit(banned).is_err() && pogo.gate().bans().len() == 1);
}

#[test]
fn whose_word_is_believed_changes_on_connections_that_are_open() {
    let (api, mut pogo) = start_of_two(|_| ());
    let mut wire = pogo.connect();
    let mut forwarded_for = |path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"));
        assert_eq!(wire.message().status(), 200);
        api.wait_seen(&format!("GET {path}"), 1)[0].header("x-forwarded-for").unwrap().to_owned()
    };
    assert_eq!(forwarded_for("/1"), "127.0.0.1");
    pogo.reload(|options| options.gate.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    assert_eq!(forwarded_for("/2"), "192.0.2.1, 127.0.0.1");
    pogo.reload(|options| options.gate.trusted_proxies.clear());
    assert_eq!(forwarded_for("/3"), "127.0.0.1");
}

#[test]
fn pages_that_may_open_sockets_and_where_they_do_change() {
    let (_api, mut pogo) = start_of_two(|_| ());
    let page = [("origin", "https://app.example")];
    let open = |pogo: &Pogo, path| Socket::try_open(pogo.address(), path, &page).err();
    assert_eq!(open(&pogo, "/"), Some(403));
    pogo.reload(|options| options.gate.allowed_origins = vec!["https://app.example".into()]);
    assert_eq!(open(&pogo, "/"), None);
    pogo.reload(|options| {
        options.gateway.websocket_path = "/ws".into();
        options.session.path = "/ws".into();
    });
    assert_eq!(open(&pogo, "/ws"), None);
    assert!(open(&pogo, "/").is_some(), "it is the API's now");
}

#[test]
fn a_request_under_way_ends_at_the_old_upstream_and_the_next_goes_to_the_new_one() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let mut pogo = Pogo::with(&old, |options| options.workers = 1);
    let mut idle = pogo.get("/idle");
    let (mut kept, _) = old.request();
    kept.respond("");
    assert_eq!(idle.message().status(), 200);
    let mut busy = pogo.get("/busy");
    assert_eq!(kept.message().start, "GET /busy HTTP/1.1");
    let mut longer = pogo.get("/longer");
    let (mut other, _) = old.request();
    kept.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    busy.head();
    pogo.reload(|options| options.upstream.origin = new.address().to_string().parse().unwrap());
    let mut next = pogo.get("/next");
    let (mut api, request) = new.request();
    assert_eq!(request.start, "GET /next HTTP/1.1");
    api.respond("new");
    assert_eq!(next.message().text(), "new");
    kept.send("lf");
    assert_eq!(busy.exactly(4), b"half");
    // It is of no more use, though the old upstream is not done with.
    kept.assert_closed();
    other.respond("old");
    assert_eq!(longer.message().text(), "old");
}

#[test]
fn the_limit_of_connections_changes() {
    let (_api, mut pogo) = start_of_two(|_| ());
    let mut first = pogo.connect();
    assert_eq!(get(&mut first), 200);
    pogo.reload(|options| options.connections = 1);
    pogo.connect().assert_closed();
    assert_eq!(get(&mut first), 200, "who is in stays in");
    pogo.reload(|options| options.connections = 2);
    assert_eq!(get(&mut pogo.connect()), 200);
    pogo.reload(|options| options.connections_per_address = 1);
    pogo.connect().assert_closed();
}

#[test]
fn operators_need_the_new_token_and_see_the_new_routes() {
    let (_api, mut pogo) = start_of_two(Operator::admit);
    let operator = Operator::of(&pogo);
    assert_eq!(get(&mut pogo.connect()), 200);
    assert_eq!(operator.get("/routes")["routes"][0]["requests"], 1);
    pogo.reload(|options| {
        options.routes = vec![Rule { path: "/posts".into(), ..Rule::default() }];
        options.admin.as_mut().unwrap().hosts = vec!["pogo.internal".into()];
    });
    let ask = |host: &str, token: &str, path: &str| {
        operator.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
    };
    assert_eq!(ask("localhost", Operator::token(), "/routes").status(), 421);
    assert_eq!(get(&mut pogo.connect()), 200);
    let routes = ask("pogo.internal", Operator::token(), "/routes");
    let routes: Value = serde_json::from_slice(&routes.body).unwrap();
    let counted = |number: usize| {
        let route = &routes["routes"][number];
        (route["label"].as_str().unwrap().to_owned(), route["requests"].as_u64().unwrap())
    };
    assert_eq!([counted(0), counted(1)], [("/posts".into(), 1), ("default".into(), 1)]);
    pogo.reload(|options| {
        options.admin.as_mut().unwrap().token = Some(Secret::new("another token of operators"));
    });
    assert_eq!(ask("127.0.0.1", Operator::token(), "/routes").status(), 401);
    assert_eq!(ask("127.0.0.1", "another token of operators", "/routes").status(), 200);
}

#[test]
fn what_cannot_change_is_named_and_the_rest_changes() {
    let (_api, mut pogo) = start_of_two(Operator::admit);
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let reloaded = pogo.try_reload(|options| {
        options.listen = elsewhere;
        options.workers = 7;
        options.admin.as_mut().unwrap().listen = elsewhere;
        options.gateway.body_bytes = 9;
    });
    assert_eq!(reloaded.unwrap().restart_for, ["listen", "workers", "admin.listen"]);
    let mut wire = pogo.connect();
    wire.send("POST /posts HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\n");
    wire.message().assert_problem(413);
    // As long as it is wanted otherwise, it is said.
    let reloaded = pogo.try_reload(|options| options.admin = None).unwrap();
    assert_eq!(reloaded.restart_for, ["listen", "workers", "admin"]);
    assert_eq!(Operator::of(&pogo).get("/sessions")["sessions"], json!([]));
}

#[test]
fn bad_options_change_nothing_and_are_counted() {
    let (_api, mut pogo) = start_of_two(Operator::admit);
    let operator = Operator::of(&pogo);
    let began = operator.metric("pogo_reload_last_success_timestamp_seconds");
    assert!(began > 1.7e9);
    let mut wire = pogo.connect();
    type Bad = (&'static str, fn(&mut Options));
    let bad: [Bad; 5] = [
        ("origin", |options| options.gate.allowed_origins = vec!["app.example".into()]),
        ("route 2", |options| options.routes = vec![Rule::default(), Rule::default()]),
        ("token", |options| options.auth.lifetime = Duration::ZERO),
        ("deny", |options| options.gate.deny_file = Some("/nonexistent/deny".into())),
        ("key", |options| {
            let pair = |path: &str| path.into();
            options.tls = Some(pogo::tls::Pair { certificate: pair("/no/c"), key: pair("/no/k") });
        }),
    ];
    for (number, (name, make_bad)) in bad.into_iter().enumerate() {
        let refused = pogo.try_reload(|options| {
            options.gateway.body_bytes = 9;
            options.gate.deny = vec!["127.0.0.1/32".parse().unwrap()];
            options.connections = 1;
            make_bad(options);
        });
        assert!(matches!(refused, Err(Refused::Bad(_))), "{name}: {refused:?}");
        assert_eq!(post(&mut wire), 201, "{name}");
        assert_eq!(get(&mut pogo.connect()), 200, "{name}");
        let failed = operator.metric("pogo_reloads_total{outcome=\"failed\"}");
        assert_eq!(failed, (number + 1) as f64);
        assert_eq!(operator.metric("pogo_reload_last_failed"), 1.0);
    }
    pogo.reload(|_| ());
    assert_eq!(operator.metric("pogo_reload_last_failed"), 0.0);
    assert_eq!(operator.metric("pogo_reloads_total{outcome=\"done\"}"), 1.0);
}

#[test]
fn a_server_that_drains_is_not_reloaded() {
    let api = Api::start();
    api.put("/posts/1", json!(1));
    let options = |upstream: &Api| {
        let mut options = Options { workers: 1, ..Options::default() };
        options.listen = ([127, 0, 0, 1], 0).into();
        options.upstream.origin = upstream.address().to_string().parse().unwrap();
        options
    };
    let server = pogo::server::Server::start(options(&api)).unwrap();
    let reloader = server.reloader();
    assert_eq!(reloader.reload(options(&api)).unwrap().restart_for, [""; 0]);
    server.drain().unwrap();
    assert!(matches!(reloader.reload(options(&api)), Err(Refused::Draining)));
}

#[test]
fn a_server_that_has_just_begun_is_reloaded_as_any_other() {
    let api = Api::start();
    for number in 1..=20 {
        let options = |body_bytes| {
            let mut options = Options { workers: 4, ..Options::default() };
            options.listen = ([127, 0, 0, 1], 0).into();
            options.upstream.origin = api.address().to_string().parse().unwrap();
            options.gateway.body_bytes = body_bytes;
            options
        };
        let began = Instant::now();
        let server = pogo::server::Server::start(options(0)).unwrap();
        server.reload(options(number)).unwrap();
        // Not after having given up on a worker that is there.
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn tls_begins_and_its_files_and_the_deny_file_are_other_ones() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("a", "localhost"), authority.issue("b", "localhost"));
    let (_api, mut pogo) = start_of_two(|_| ());
    let mut plain = pogo.connect();
    assert_eq!(get(&mut plain), 200);
    let client = authority.client(&[]);
    for pair in [first, second] {
        pogo.reload(|options| options.tls = Some(pair.clone()));
        let mut private = Private::connect(pogo.address(), &client);
        private.send("GET /posts HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
        assert!(private.until("\r\n").contains(" 200 "));
        assert!(private.was_shown(&pair));
    }
    assert_eq!(get(&mut plain), 200, "what is open goes on as it is");
    let place = authority.ca_file().with_file_name("deny.txt");
    std::fs::write(&place, "192.0.2.1\n").unwrap();
    pogo.reload(|options| options.gate.deny_file = Some(place.clone()));
    let denied = "192.0.2.1".parse().unwrap();
    assert!(pogo.gate().admit(denied).is_err());
    // And it is followed.
    std::fs::write(&place, "192.0.2.22\n").unwrap();
    let end = Instant::now() + PATIENCE;
    while pogo.gate().admit(denied).is_err() {
        assert!(Instant::now() < end, "the file is not followed");
        std::thread::yield_now();
    }
}

#[test]
fn what_the_upstream_must_show_is_read_again() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let api = Api::start();
    let private = authority.serve("localhost", api.address(), None);
    let mut pogo = Pogo::at(&format!("localhost:{}", private.port()), |options| {
        let ca_file = Some(stranger.ca_file());
        options.upstream.tls = Some(pogo::upstream::Tls { ca_file, ..Default::default() });
    });
    assert_eq!(get(&mut pogo.connect()), 502);
    // The same name, and another content.
    std::fs::copy(authority.ca_file(), stranger.ca_file()).unwrap();
    pogo.reload(|_| ());
    assert_eq!(get(&mut pogo.connect()), 200);
}

/// Clients that ask over connections that stay open, and sockets that follow what is written.
#[test]
fn fifty_reloads_under_load_fail_no_request_and_lose_no_socket_and_no_binding() {
    const RELOADS: usize = 50;
    let (api, mut pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!(0));
    let (enough, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (enough, answered) = (Arc::clone(&enough), Arc::clone(&answered));
            let mut wire = pogo.connect();
            std::thread::spawn(move || {
                while !enough.load(Ordering::SeqCst) {
                    assert_eq!(get(&mut wire), 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut sockets: Vec<_> = (0..20).map(|_| Socket::open(&pogo)).collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/posts/1"));
    for number in 1..=RELOADS {
        let asked = answered.load(Ordering::SeqCst);
        pogo.reload(|options| {
            options.gateway.body_bytes = 1000 + number as u64;
            options.upstream.idle_timeout = Duration::from_secs(2 + number as u64 % 2);
            options.session.bindings = 1000 + number;
            options.hub.stale_after = Duration::from_secs(30 + number as u64);
            options.gate.rates.http = rate(&format!("{}/s", 1_000_000 + number));
            let path = format!("/other/{number}");
            options.routes = vec![Rule { path, realtime: false, ..Rule::default() }];
            let names = if number % 2 == 0 { vec![] } else { vec!["x-tenant"] };
            options.hub.credential_headers =
                names.into_iter().map(|n| n.parse().unwrap()).collect();
        });
        assert_eq!(pogo.write("PUT", "/posts/1", &json!(number)), 200);
        let end = Instant::now() + PATIENCE;
        while answered.load(Ordering::SeqCst) < asked + 4 {
            assert!(Instant::now() < end, "no request is answered");
            std::thread::yield_now();
        }
    }
    enough.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
    for socket in &mut sockets {
        socket.until(&json!({"event": "update", "uri": "/posts/1", "data": RELOADS}));
        let unbound = socket.error(json!({"event": "bind", "uri": format!("/other/{RELOADS}")}));
        assert_eq!(unbound, "not_bindable", "the last options hold");
    }
}

#[test]
fn so_is_a_connection_of_http_2_with_its_next_stream() {
    let (api, mut pogo) = start_of_two(|_| ());
    let client = Http2::connect(pogo.address());
    let vias = |path: &str| {
        let request = http::Request::get(format!("http://api{path}"));
        let request = request.version(http::Version::HTTP_2).body(Default::default()).unwrap();
        let (answer, _) = client.ask(request).join().unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        api.wait_seen(&format!("GET {path}"), 1)[0].header("via").unwrap().to_owned()
    };
    assert_eq!(vias("/a"), "2.0 pogo");
    pogo.reload(|options| options.gateway.via = Some("other".into()));
    assert_eq!(vias("/b"), "2.0 other");
}
