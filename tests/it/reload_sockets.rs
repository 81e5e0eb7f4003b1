//! Other options for a server that runs: what becomes of open sockets and their bindings.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use pogo::channel::{self, Who};
use pogo::gate::auth::{Jwt, Secret};
use pogo::route::{Push, Rule, Visibility};
use pogo::server::Options;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Api, PATIENCE, Pogo, Reply, Socket, start_of_two};

const FIRST: &str = "the first secret, which is long enough";
const SECOND: &str = "the second secret, which is long enough";

fn checked_with(secret: &str) -> Option<Jwt> {
    Some(Jwt { secret: Some(Secret::new(secret)), ..Jwt::default() })
}

fn token(secret: &str) -> String {
    let claims = json!({"sub": "ann", "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

fn point_to(api: &Api) -> impl FnOnce(&mut Options) + use<> {
    let origin = api.address().to_string().parse().unwrap();
    move |options| options.upstream.origin = origin
}

/// An API that gives everything the same strong tag, and believes it.
fn tagged(value: u64) -> Api {
    let api = Api::start();
    api.put("/posts/1", json!(value));
    api.on("GET /posts/1", |seen, usual| match seen.header("if-none-match") {
        Some(_) => Some(Reply::empty(304).with("ETag", "\"tag\"")),
        None => usual.map(|usual| usual.with("ETag", "\"tag\"")),
    });
    api
}

#[test]
fn views_are_of_the_new_upstream_even_where_its_tags_are_those_of_the_old_one() {
    let (old, new) = (tagged(1), tagged(2));
    let mut pogo = Pogo::at(&old.address().to_string(), |options| options.workers = 2);
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(&pogo)).collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/posts/1"));
    pogo.reload(point_to(&new));
    for socket in &mut sockets {
        assert_eq!(socket.event(), update("/posts/1", json!(2)));
        socket.assert_silent();
    }
    assert!(new.seen("GET /posts/1").iter().all(|seen| seen.header("if-none-match").is_none()));
}

#[test]
fn an_old_upstream_that_hangs_holds_up_no_view() {
    let (old, new) = (Api::start(), Api::start());
    old.put("/posts/1", json!(1));
    new.put("/posts/1", json!(2));
    old.hold("GET /posts/1");
    let mut pogo = Pogo::at(&old.address().to_string(), |_| ());
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 1, "event": "bind", "uri": "/posts/1", "version": null}));
    old.wait_held();
    pogo.reload(point_to(&new));
    assert_eq!(socket.answer(1)["data"], 2);
    old.release();
    socket.assert_silent();
}

#[test]
fn nothing_is_fetched_again_for_other_times_and_limits() {
    let (api, mut pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    pogo.reload(|options| {
        options.upstream.idle_timeout = Duration::from_secs(1);
        options.hub.min_interval = Duration::from_millis(1);
        options.hub.stale_after = Duration::from_secs(9);
        options.hub.refetch_concurrency = 1;
        options.session.bindings = 9;
        options.gate.rates.http = Some("1000/s".parse().unwrap());
        options.routes = vec![Rule { path: "/other".into(), ..Rule::default() }];
    });
    socket.see_through(&pogo);
    api.wait_gets("/posts/1", 1);
    socket.assert_silent();
}

#[test]
fn a_binding_that_the_new_routes_do_not_allow_ends_and_one_that_others_share_moves() {
    let (api, mut pogo) = start_of_two(|_| ());
    api.put("/secret/1", json!(1));
    api.put("/shared/1", json!(1));
    api.on("GET /shared/1", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    let mut ann = Socket::open_as(&pogo, "ann");
    let mut bob = Socket::open_as(&pogo, "bob");
    for socket in [&mut ann, &mut bob] {
        socket.bind("/secret/1");
        socket.bind("/shared/1");
    }
    pogo.reload(|options| {
        let secret = Rule { path: "/secret/{id}".into(), realtime: false, ..Rule::default() };
        let visibility = Visibility::Public;
        let shared = Rule { path: "/shared/{id}".into(), visibility, ..Rule::default() };
        options.routes = vec![secret, shared];
    });
    for socket in [&mut ann, &mut bob] {
        let unbound = json!({"event": "unbind", "uri": "/secret/1", "reason": "forbidden"});
        let mut events = [socket.event(), socket.event()];
        events.sort_by_key(|event| event["event"].as_str().map(str::to_owned));
        assert_eq!(events, [unbound, update("/shared/1", json!(null))]);
        assert_eq!(socket.error(json!({"event": "bind", "uri": "/secret/1"})), "not_bindable");
    }
    assert_eq!(pogo.write("PUT", "/secret/1", &json!(2)), 200);
    ann.see_through(&pogo);
    ann.assert_silent();
    // And back: each sees its own.
    pogo.reload(|options| options.routes.clear());
    assert_eq!(ann.event(), update("/shared/1", json!("Bearer ann")));
    assert_eq!(bob.event(), update("/shared/1", json!("Bearer bob")));
}

#[test]
fn what_was_only_announced_is_shown_once_it_is_to_be_shown() {
    let (api, mut pogo) = start_of_two(|options| {
        options.routes = vec![Rule { push: Push::Notify, ..Rule::default() }];
    });
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open(&pogo);
    socket.bind("/posts/1");
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(2)), 200);
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1"}));
    pogo.reload(|options| options.routes[0].push = Push::State);
    assert_eq!(socket.event(), update("/posts/1", json!(2)));
    pogo.reload(|options| options.routes[0].push = Push::Notify);
    assert_eq!(pogo.write("PUT", "/posts/1", &json!(3)), 200);
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1"}));
}

#[test]
fn open_sockets_have_the_new_bounds_and_times() {
    let (_api, mut pogo) = start_of_two(|_| ());
    let (mut talker, mut binder, mut old) =
        (Socket::open(&pogo), Socket::open(&pogo), Socket::open(&pogo));
    binder.bind("/posts/1");
    pogo.reload(|options| {
        options.session.message_bytes = 100;
        options.session.bindings = 1;
    });
    binder.must(json!({"event": "bind", "uri": "/posts/1"}));
    assert_eq!(binder.error(json!({"event": "bind", "uri": "/posts/2"})), "limit_exceeded");
    talker.send(&json!({"event": "ping", "data": "x".repeat(200)}));
    assert_eq!(talker.closed().0, 1009);
    pogo.reload(|options| options.session.ping_interval = Duration::from_millis(1));
    assert!(binder.frame().is_ping());
    pogo.reload(|options| options.session.max_lifetime = Some(Duration::from_millis(1)));
    assert_eq!(old.closed().0, 1001);
}

#[test]
fn a_view_is_judged_as_often_as_it_is_to_be_now() {
    let (api, mut pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!(1));
    let mut socket = Socket::open_as(&pogo, "ann");
    socket.bind("/posts/1");
    pogo.reload(|options| options.hub.recheck = Some(Duration::from_millis(20)));
    api.wait_seen("GET /posts/1", 3);
    socket.assert_silent();
}

#[test]
fn a_header_that_tells_viewers_apart_from_now_on_does_so_for_bindings_that_there_are() {
    let (api, mut pogo) = start_of_two(|_| ());
    api.on("GET /mine/1", |seen, _| Some(Reply::new(200, &json!(seen.header("x-tenant")))));
    let mut sockets: Vec<_> =
        ["a", "b"].map(|tenant| Socket::open_with(&pogo, &[("x-tenant", tenant)])).into();
    sockets.iter_mut().for_each(|socket| socket.bind("/mine/1"));
    pogo.reload(|options| options.hub.credential_headers = vec!["x-tenant".parse().unwrap()]);
    assert_eq!(sockets[0].event(), update("/mine/1", json!("a")));
    assert_eq!(sockets[1].event(), update("/mine/1", json!("b")));
    pogo.reload(|options| options.hub.credential_headers.clear());
    for socket in &mut sockets {
        assert_eq!(socket.event(), update("/mine/1", json!(null)));
    }
}

#[test]
fn a_token_that_is_not_good_any_more_has_expired_and_a_good_one_has_not() {
    let (api, mut pogo) = start_of_two(|options| options.auth.jwt = checked_with(FIRST));
    api.put("/posts/1", json!(1));
    let (first, second) = (token(FIRST), token(SECOND));
    let mut stays = Socket::open_as(&pogo, &first);
    let mut expires = Socket::open_as(&pogo, &first);
    let mut with_auth = Socket::open(&pogo);
    with_auth.must(json!({"event": "auth", "data": {"token": first}}));
    // The same way to check, so nobody is asked again.
    pogo.reload(|options| options.auth.lifetime = Duration::from_secs(60));
    pogo.reload(|options| options.auth.jwt = checked_with(SECOND));
    for socket in [&mut expires, &mut with_auth, &mut stays] {
        assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    }
    stays.must(json!({"event": "auth", "data": {"token": second}}));
    assert_eq!(expires.error(json!({"event": "auth", "data": {"token": first}})), "unauthorized");
    pogo.reload(|options| options.auth.required = true);
    assert_eq!(expires.closed().0, 4401);
    stays.must(json!({"event": "ping"}));
    stays.assert_silent();
    // Who comes now has the time that everybody has, whatever else is reloaded meanwhile.
    let mut newcomer = Socket::open(&pogo);
    pogo.reload(|options| options.session.bindings = 9);
    newcomer.must(json!({"event": "ping"}));
}

#[test]
fn who_is_checked_for_the_first_time_is_let_in_if_it_is_good() {
    let (_api, mut pogo) = start_of_two(|_| ());
    let mut good = Socket::open_as(&pogo, &token(FIRST));
    let mut bad = Socket::open_as(&pogo, &token(SECOND));
    let mut nobody = Socket::open(&pogo);
    let authenticated = channel::Rule {
        pattern: "news".into(),
        subscribe: Who::Authenticated,
        publish: Who::Nobody,
        ..channel::Rule::open()
    };
    pogo.reload(|options| {
        options.auth.jwt = checked_with(FIRST);
        options.channels = vec![authenticated];
    });
    let subscribe = json!({"event": "channel:subscribe", "channel": "news"});
    for socket in [&mut bad, &mut nobody] {
        assert_eq!(socket.error(subscribe.clone()), "unauthorized");
    }
    // The check runs beside what is asked.
    let end = Instant::now() + PATIENCE;
    while good.ask(subscribe.clone())["status"] != "ok" {
        assert!(Instant::now() < end, "its token is not found good");
    }
}

#[test]
fn who_may_not_hear_a_channel_any_more_leaves_it_and_is_told() {
    let (_api, mut pogo) = start_of_two(|_| ());
    let (mut listener, mut speaker) = (Socket::open(&pogo), Socket::open(&pogo));
    for channel in ["news", "staff"] {
        listener.must(json!({"event": "channel:subscribe", "channel": channel}));
    }
    pogo.reload(|options| {
        let publish = Who::Anyone;
        options.channels = vec![
            channel::Rule {
                pattern: "*".into(),
                subscribe: Who::Anyone,
                publish,
                ..channel::Rule::open()
            },
            channel::Rule {
                pattern: "staff".into(),
                subscribe: Who::Nobody,
                publish,
                ..channel::Rule::open()
            },
        ];
    });
    let left = json!({"event": "channel:unsubscribe", "channel": "staff", "reason": "forbidden"});
    assert_eq!(listener.event(), left);
    speaker.must(json!({"event": "hello", "channel": "staff"}));
    speaker.must(json!({"event": "hello", "channel": "news"}));
    assert_eq!(listener.event(), json!({"event": "hello", "channel": "news"}));
    listener.assert_silent();
}
