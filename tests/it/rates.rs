//! How often each thing may be done, by an address and by a credential.

use pogo::gate::Rates;
use pogo::server::Options;
use pogo::units::Rate;
use serde_json::{Value, json};

use crate::harness::{Api, Message, Pogo, Reply, Socket};

/// A Pogo that believes what is said to it from this machine about who asks.
fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        change(options);
    });
    (api, pogo)
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

/// `line` is `"GET /posts"`.
fn ask(pogo: &Pogo, line: &str, client: &str, token: &str) -> Message {
    let mut wire = pogo.ask(&format!(
        "{line} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    ));
    wire.message()
}

/// A request without a credential.
fn ask_bare(pogo: &Pogo, line: &str, client: &str) -> Message {
    let fields = format!("Host: a\r\nX-Forwarded-For: {client}\r\nContent-Length: 0");
    pogo.ask(&format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n")).message()
}

fn open(pogo: &Pogo, client: &str, token: &str) -> Result<Socket, u16> {
    let token = format!("Bearer {token}");
    let fields = [("x-forwarded-for", client), ("authorization", &token)];
    Socket::try_open(pogo.address(), "/", &fields)
}

fn assert_over_rate(answer: &Value) {
    assert_eq!(answer["error"]["code"], "rate_limited", "{answer}");
    assert!(answer["error"]["retry_after"].as_u64().unwrap() > 3_000, "{answer}");
}

#[test]
fn writes_have_a_rate_of_their_own_over_http_and_sockets() {
    let (api, pogo) = start(|options| options.gate.rates.writes = rate("1/h burst 2"));
    let mut socket = open(&pogo, "192.0.2.1", "a").ok().unwrap();
    socket.must(json!({"event": "create", "uri": "/posts", "data": 1}));
    assert_eq!(ask(&pogo, "DELETE /posts/1", "192.0.2.1", "a").status(), 204);
    ask(&pogo, "PUT /posts/1", "192.0.2.1", "b").assert_problem(429);
    assert_over_rate(&socket.ask(json!({"event": "update", "uri": "/posts/1", "data": 2})));
    // Reading is free, and so is whoever else writes.
    socket.must(json!({"event": "index", "uri": "/posts"}));
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.1", "a").status(), 200);
    assert_eq!(ask(&pogo, "PUT /posts/1", "192.0.2.2", "a").status(), 200);
    assert_eq!(api.seen("PUT").len(), 1);
}

#[test]
fn sockets_are_opened_at_a_rate_of_their_own() {
    let (_api, pogo) = start(|options| options.gate.rates.connects = rate("1/h burst 2"));
    let _kept = [(); 2].map(|()| open(&pogo, "192.0.2.1", "a").ok().unwrap());
    assert_eq!(open(&pogo, "192.0.2.1", "a").err(), Some(429));
    // One that would pass through to the upstream, too.
    let fields = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(Socket::try_open(pogo.address(), "/live", &fields).err(), Some(429));
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.1", "a").status(), 200);
    assert_eq!(open(&pogo, "192.0.2.2", "a").err(), None);
}

#[test]
fn binds_have_a_rate_of_their_own() {
    let (api, pogo) = start(|options| options.gate.rates.binds = rate("1/h burst 2"));
    let bind = |n: u32| json!({"event": "bind", "uri": format!("/posts?page={n}")});
    let [mut one, mut two] = [(); 2].map(|()| open(&pogo, "192.0.2.1", "a").ok().unwrap());
    one.must(bind(1));
    two.must(bind(2));
    assert_over_rate(&one.ask(bind(3)));
    assert_over_rate(&two.ask(bind(3)));
    assert!(api.seen("GET /posts?page=3").is_empty());
    one.must(json!({"event": "show", "uri": "/posts", "bind": false}));
    open(&pogo, "192.0.2.2", "a").ok().unwrap().must(bind(3));
}

#[test]
fn a_credential_has_a_budget_wherever_it_is_used_from() {
    let (_api, pogo) = start(|options| {
        options.gate.credential_rates =
            Rates { http: rate("1/h burst 3"), writes: rate("1/h"), ..Rates::default() };
    });
    assert_eq!(ask(&pogo, "PUT /posts/1", "192.0.2.1", "a").status(), 200);
    ask(&pogo, "PUT /posts/1", "192.0.2.2", "a").assert_problem(429);
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.3", "a").status(), 200);
    ask(&pogo, "GET /posts", "192.0.2.4", "a").assert_problem(429);
    // Somebody else at the same address is another matter, and so is nobody in particular.
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.1", "b").status(), 200);
    for _ in 0..5 {
        assert_eq!(ask_bare(&pogo, "PUT /posts/1", "192.0.2.1").status(), 200);
    }
}

#[test]
fn a_credential_pays_for_its_sockets_whoever_it_is_at_the_time() {
    let (_api, pogo) = start(|options| {
        options.gate.credential_rates =
            Rates { writes: rate("1/h"), binds: rate("1/h"), ..Rates::default() };
    });
    let bind = |n: u32| json!({"event": "bind", "uri": format!("/posts?page={n}")});
    let write = json!({"event": "update", "uri": "/posts/1", "data": 1});
    let mut socket = open(&pogo, "192.0.2.1", "a").ok().unwrap();
    socket.must(bind(1));
    assert_over_rate(&socket.ask(bind(2)));
    assert_eq!(ask(&pogo, "PUT /posts/1", "192.0.2.2", "a").status(), 200);
    assert_over_rate(&socket.ask(write.clone()));
    socket.must(json!({"event": "auth", "data": {"token": "b"}}));
    socket.must(bind(2));
    socket.must(write);
}

#[test]
fn answers_tell_what_is_left_of_every_budget() {
    let (api, pogo) = start(|options| {
        options.gate.rates =
            Rates { http: rate("2/s burst 1000"), writes: rate("1/h burst 2"), ..Rates::default() };
        options.gate.credential_rates.http = rate("60/m");
        let path = "/posts/{id}".into();
        options.routes =
            vec![pogo::route::Rule { path, rate: rate("1/h burst 9"), ..Default::default() }];
    });
    let answer = ask(&pogo, "GET /posts", "192.0.2.1", "a");
    let policy = "\"http\";q=1000;w=500, \"credential-http\";q=60;w=60";
    assert_eq!(answer.one("ratelimit-policy").as_deref(), Some(policy));
    let limit = "\"http\";r=999;t=1, \"credential-http\";r=59;t=1";
    assert_eq!(answer.one("ratelimit").as_deref(), Some(limit));
    // An upstream may have limits of its own.
    api.on("PUT", |_, reply| reply.map(|reply| reply.with("RateLimit", "\"api\";r=3")));
    let answer = ask_bare(&pogo, "PUT /posts/1", "192.0.2.2");
    let policy = "\"http\";q=1000;w=500, \"writes\";q=2;w=7200, \"route\";q=9;w=32400";
    assert_eq!(answer.one("ratelimit-policy").as_deref(), Some(policy));
    let limit = "\"http\";r=999;t=1, \"writes\";r=1;t=3600, \"route\";r=8;t=3600";
    assert_eq!(answer.all("ratelimit"), ["\"api\";r=3", limit]);
    ask_bare(&pogo, "PUT /posts", "192.0.2.2");
    let refused = ask_bare(&pogo, "PUT /posts", "192.0.2.2");
    refused.assert_problem(429);
    let wait = refused.one("retry-after").unwrap();
    let limit = refused.one("ratelimit").unwrap();
    assert!(limit.ends_with(&format!("\"writes\";r=0;t={wait}")), "{limit} and {wait}");
}

#[test]
fn without_a_rate_nothing_is_told() {
    let (_api, pogo) = start(|_| ());
    let answer = ask(&pogo, "GET /posts", "192.0.2.1", "a");
    assert_eq!((answer.one("ratelimit"), answer.one("ratelimit-policy")), (None, None));
}

/// Where the token `good` is, and no other.
fn only_good(api: &Api) {
    for line in ["GET /me", "GET /posts", "POST /login"] {
        api.on(line, |seen, reply| match seen.header("authorization") {
            Some("Bearer good") => reply,
            _ => Some(Reply::empty(401)),
        });
    }
}

#[test]
fn tokens_that_fail_on_a_socket_are_no_longer_tried_after_so_many() {
    let (api, pogo) = start(|options| {
        options.gate.auth_failures = rate("1/h burst 2");
        options.auth.verify = Some("/me".into());
    });
    only_good(&api);
    let auth = |token: &str| json!({"event": "auth", "data": {"token": token}});
    let open = |client| Socket::open_with(&pogo, &[("x-forwarded-for", client)]);
    let mut socket = open("192.0.2.1");
    for token in ["good", "bad", "good", "worse"] {
        let good = token == "good";
        assert_eq!(socket.ask(auth(token))["status"] == "ok", good);
    }
    for token in ["good", "bad"] {
        assert_over_rate(&socket.ask(auth(token)));
        assert_over_rate(&open("192.0.2.1").ask(auth(token)));
    }
    assert_eq!(api.seen("GET /me").len(), 4);
    open("192.0.2.2").must(auth("good"));
}

#[test]
fn a_bad_credential_of_a_handshake_or_a_bind_counts_as_a_failure() {
    let (api, pogo) = start(|options| {
        options.gate.auth_failures = rate("1/h burst 2");
        options.auth.verify = Some("/me".into());
    });
    only_good(&api);
    let mut socket = open(&pogo, "192.0.2.1", "bad").ok().unwrap();
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts"})), "unauthorized");
    assert_over_rate(&socket.ask(json!({"event": "bind", "uri": "/posts"})));
    assert_eq!(open(&pogo, "192.0.2.1", "good").err(), Some(429));
}

#[test]
fn logins_and_tokens_that_the_api_refuses_are_counted_over_http_and_reads_without_any_are_not() {
    let (api, pogo) = start(|options| options.gate.auth_failures = rate("1/h burst 2"));
    only_good(&api);
    for _ in 0..5 {
        assert_eq!(ask_bare(&pogo, "GET /posts", "192.0.2.1").status(), 401);
        assert_eq!(ask(&pogo, "GET /posts", "192.0.2.1", "good").status(), 200);
    }
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.1", "bad").status(), 401);
    assert_eq!(ask_bare(&pogo, "POST /login", "192.0.2.1").status(), 401);
    let before = api.seen("").len();
    ask(&pogo, "GET /posts", "192.0.2.1", "good").assert_problem(429);
    ask_bare(&pogo, "POST /login", "192.0.2.1").assert_problem(429);
    assert_eq!(api.seen("").len(), before);
    assert_eq!(ask_bare(&pogo, "GET /posts", "192.0.2.1").status(), 401);
    assert_eq!(ask(&pogo, "GET /posts", "192.0.2.2", "good").status(), 200);
}

#[test]
fn an_ipv6_network_has_one_budget_and_a_mapped_address_that_of_its_ipv4() {
    let (_api, pogo) = start(|options| options.gate.rates.http = rate("1/h"));
    for (first, second) in [("2001:db8::1", "2001:db8::2"), ("192.0.2.1", "::ffff:192.0.2.1")] {
        assert_eq!(ask(&pogo, "GET /posts", first, "a").status(), 200);
        ask(&pogo, "GET /posts", second, "a").assert_problem(429);
    }
    assert_eq!(ask(&pogo, "GET /posts", "2001:db8:0:1::1", "a").status(), 200);
}
