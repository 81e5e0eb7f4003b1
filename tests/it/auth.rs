//! Who a socket is, for how long, and what becomes of its bindings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pogo::gate::auth::{Jwt, Secret};
use pogo::server::Options;
use serde_json::{Value, json};

use crate::harness::{Api, Pogo, Reply, Socket};

const SECRET: &[u8] = b"a secret of the tests that is long enough";

fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), change);
    api.on("GET /me", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    (api, pogo)
}

/// A Pogo that checks JWTs that were signed with [`SECRET`].
fn start_with_jwt(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    start(|options| {
        let secret = Some(Secret::new(SECRET));
        options.auth.jwt = Some(Jwt { secret, ..Jwt::default() });
        change(options);
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

/// A token for `sub` that ends `seconds` from now.
fn token(sub: &str, seconds: u64) -> String {
    let claims = json!({"sub": sub, "exp": now() + seconds});
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), &claims)
}

fn auth(token: &str) -> Value {
    json!({"event": "auth", "data": {"token": token}})
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/jwt");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

fn put(pogo: &Pogo, path: &str, body: &Value) {
    let mut other = Socket::open_as(pogo, "writer");
    other.send(&json!({"id": 9, "event": "auth", "data": {"token": token("writer", 600)}}));
    other.answer(9);
    other.must(json!({"event": "update", "uri": path, "data": body, "bind": false}));
}

#[test]
fn without_a_check_the_token_is_passed_on_and_the_api_judges() {
    let (_api, pogo) = start(|options| options.auth.lifetime = Duration::from_secs(60));
    let mut socket = Socket::open(&pogo);
    let answer = socket.must(auth("any thing"));
    let expires = answer["data"]["expires"].as_u64().unwrap();
    assert!((now() + 55..=now() + 60).contains(&expires), "{answer}");
    assert_eq!(answer["data"].as_object().unwrap().len(), 1);
    assert_eq!(socket.must(json!({"event": "show", "uri": "/me"}))["data"], "Bearer any thing");
}

#[test]
fn a_token_is_a_string_of_visible_ascii() {
    let (api, pogo) = start(|_| ());
    let mut socket = Socket::open(&pogo);
    for data in [json!(null), json!({}), json!("token"), json!({"token": 7}), json!([])] {
        assert_eq!(socket.error(json!({"event": "auth", "data": data})), "bad_request");
    }
    assert_eq!(socket.error(json!({"event": "auth"})), "bad_request");
    for bad in ["", " a", "a ", "a\r\nX-Evil: 1", "é", "a\u{0}", &"t".repeat(20 << 10)] {
        assert_eq!(socket.error(auth(bad)), "unauthorized", "{bad:.20}");
    }
    assert!(api.seen("").is_empty());
}

#[test]
fn another_header_and_scheme_carry_the_token_if_so_configured() {
    let (api, pogo) = start(|options| {
        options.auth.header = http::HeaderName::from_static("x-api-key");
        options.auth.scheme = String::new();
        options.hub.credential_headers = vec![options.auth.header.clone()];
    });
    let mut socket = Socket::open_as(&pogo, "old");
    socket.must(auth("k3y"));
    socket.must(json!({"event": "show", "uri": "/me", "bind": false}));
    let seen = api.seen("GET /me").remove(0);
    assert_eq!(seen.header("x-api-key"), Some("k3y"));
    assert_eq!(seen.header("authorization"), None);
}

#[test]
fn the_api_verifies_a_token_and_may_say_when_it_ends() {
    let (api, pogo) = start(|options| {
        options.auth.verify = Some("/session?brief=1".into());
        options.auth.expires_pointer = Some("/token/exp".into());
    });
    let until = now() + 500;
    api.on("GET /session", move |seen, _| match seen.header("authorization") {
        Some("Bearer good") => Some(Reply::new(200, &json!({"token": {"exp": until}}))),
        Some("Bearer endless") => Some(Reply::empty(204)),
        Some("Bearer banned") => Some(Reply::empty(403)),
        Some("Bearer unclear") => Some(Reply::new(500, &json!({}))),
        Some("Bearer reset") => None,
        _ => Some(Reply::empty(401)),
    });
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.must(auth("good"))["data"], json!({"expires": until}));
    for (bad, code) in [
        ("bad", "unauthorized"),
        ("banned", "unauthorized"),
        ("unclear", "unavailable"),
        ("reset", "unavailable"),
    ] {
        assert_eq!(socket.error(auth(bad)), code);
        let me = socket.must(json!({"event": "show", "uri": "/me", "bind": false}));
        assert_eq!(me["data"], "Bearer good", "what was there before stays");
    }
    assert!(socket.must(auth("endless"))["data"]["expires"].as_u64().unwrap() > until);
    let seen = api.seen("GET /session?brief=1").remove(0);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("host"), Some(pogo.address().to_string().as_str()));
}

#[test]
fn a_jwt_is_checked_here() {
    let (api, pogo) = start_with_jwt(|_| ());
    let mut socket = Socket::open(&pogo);
    let good = token("alice", 100);
    assert_eq!(socket.must(auth(&good))["data"], json!({"expires": now() + 100}));
    let other = sign(
        Algorithm::HS256,
        &EncodingKey::from_secret(b"not the secret of these tests at all"),
        &json!({"sub": "alice", "exp": now() + 100}),
    );
    let ended = sign(
        Algorithm::HS256,
        &EncodingKey::from_secret(SECRET),
        &json!({"sub": "alice", "exp": now() - 1}),
    );
    let (head, _) = good.rsplit_once('.').unwrap();
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", head.split('.').nth(1).unwrap());
    for bad in [&other, &ended, &format!("{head}."), &unsigned, &"no JWT".to_owned()] {
        assert_eq!(socket.error(auth(bad)), "unauthorized", "{bad}");
    }
    assert!(api.seen("").is_empty());
}

#[test]
fn a_jwt_is_checked_with_a_public_key() {
    for (algorithm, public, private) in [
        (Algorithm::RS256, "rsa1.pub.pem", "rsa1.pem"),
        (Algorithm::ES256, "ec1.pub.pem", "ec1.pem"),
    ] {
        let pem = fixture(public);
        let (_api, pogo) = start(|options| {
            options.auth.jwt = Some(Jwt { public_key: Some(pem.clone()), ..Jwt::default() });
        });
        let key = |name: &str| match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&fixture(name)).unwrap(),
            _ => EncodingKey::from_ec_pem(&fixture(name)).unwrap(),
        };
        let claims = json!({"exp": now() + 100});
        let mut socket = Socket::open(&pogo);
        socket.must(auth(&sign(algorithm, &key(private), &claims)));
        let another = sign(algorithm, &key(&private.replace('1', "2")), &claims);
        assert_eq!(socket.error(auth(&another)), "unauthorized");
        // The public key is public: it must not be taken for a secret.
        let confused = sign(Algorithm::HS256, &EncodingKey::from_secret(&pem), &claims);
        assert_eq!(socket.error(auth(&confused)), "unauthorized");
    }
}

#[test]
fn a_jwt_is_checked_with_keys_that_the_issuer_publishes() {
    let issuer = Api::start();
    let key = EncodingKey::from_ec_pem(&fixture("ec1.pem")).unwrap();
    let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("one".into());
    let published = json!({"keys": [jwk]});
    issuer.on("GET /keys", move |_, _| Some(Reply::new(200, &published)));
    let (_api, pogo) = start(|options| {
        let jwks_url = Some(format!("http://{}/keys", issuer.address()));
        options.auth.jwt = Some(Jwt { jwks_url, ..Jwt::default() });
    });
    let signed = |kid: &str| {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &json!({"exp": now() + 100}), &key).unwrap()
    };
    for _ in 0..3 {
        let mut socket = Socket::open(&pogo);
        socket.must(auth(&signed("one")));
        assert_eq!(socket.error(auth(&signed("two"))), "unauthorized");
    }
    assert_eq!(issuer.seen("GET /keys").len(), 1);
}

#[test]
fn what_follows_an_auth_waits_for_it() {
    let (api, pogo) = start(|options| options.auth.verify = Some("/verify".into()));
    api.on("GET /verify", |_, _| Some(Reply::empty(204)));
    api.hold("GET /verify");
    let mut socket = Socket::open(&pogo);
    socket.send(&json!({"id": 1, "event": "show", "uri": "/me", "bind": false}));
    assert_eq!(socket.answer(1)["data"], json!(null));
    socket.send(&json!({"id": 2, "event": "auth", "data": {"token": "t"}}));
    socket.send(&json!({"id": 3, "event": "show", "uri": "/me", "bind": false}));
    api.wait_held();
    assert_eq!(api.seen("GET /me").len(), 1);
    // Other sockets do not wait.
    Socket::open(&pogo).must(json!({"event": "show", "uri": "/me", "bind": false}));
    api.be_normal();
    api.on("GET /me", |seen, _| Some(Reply::new(200, &json!(seen.header("authorization")))));
    api.release();
    let answer = socket.receive();
    assert_eq!(answer["id"], 2);
    assert_eq!(socket.answer(3)["data"], "Bearer t");
}

#[test]
fn the_same_user_goes_on_with_a_new_token_and_hears_nothing() {
    let (api, pogo) = start_with_jwt(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let mut socket = Socket::open(&pogo);
    socket.must(auth(&token("alice", 100)));
    socket.bind("/posts/1");
    let renewed = token("alice", 200);
    socket.must(auth(&renewed));
    let bearer = format!("Bearer {renewed}");
    let seen = api.wait_seen("GET /posts/1", 2);
    assert_eq!(seen[1].header("authorization"), Some(bearer.as_str()));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1", "data": {"n": 2}}));
    socket.assert_silent();
}

#[test]
fn another_user_is_shown_what_that_one_may_see() {
    let (api, pogo) = start(|_| ());
    for item in ["/mine", "/alices"] {
        api.on(&format!("GET {item}"), move |seen, _| match (seen.header("authorization"), item) {
            (who, "/mine") => Some(Reply::new(200, &json!(who))),
            (Some("Bearer alice"), _) => Some(Reply::new(200, &json!("secret"))),
            _ => Some(Reply::new(403, &json!({}))),
        });
    }
    let mut socket = Socket::open_as(&pogo, "alice");
    for item in ["/mine", "/alices"] {
        socket.bind(item);
    }
    socket.must(auth("bob"));
    let mut events = [socket.event(), socket.event()];
    events.sort_by_key(|event| event["uri"].to_string());
    assert_eq!(
        events,
        [
            json!({"event": "unbind", "uri": "/alices", "reason": "forbidden"}),
            json!({"event": "update", "uri": "/mine", "data": "Bearer bob"}),
        ]
    );
    socket.must(auth("alice"));
    assert_eq!(socket.event()["data"], "Bearer alice");
    socket.assert_silent();
}

#[test]
fn a_token_that_ends_is_told_and_every_binding_is_judged_without_it() {
    let (api, pogo) = start_with_jwt(|_| ());
    api.put("/public", json!({"n": 1}));
    api.on("GET /private", |seen, _| match seen.header("authorization") {
        Some(_) => Some(Reply::new(200, &json!({}))),
        None => Some(Reply::new(401, &json!({}))),
    });
    let mut socket = Socket::open(&pogo);
    socket.must(auth(&token("alice", 1)));
    socket.bind("/public");
    socket.bind("/private");
    assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    assert_eq!(socket.event(), json!({"event": "unbind", "uri": "/private", "reason": "expired"}));
    let me = socket.must(json!({"event": "show", "uri": "/me", "bind": false}));
    assert_eq!(me["data"], json!(null));
    put(&pogo, "/public", &json!({"n": 2}));
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/public", "data": {"n": 2}}));
    socket.must(auth(&token("alice", 100)));
    socket.bind("/private");
    socket.assert_silent();
}

#[test]
fn a_token_that_is_renewed_in_time_does_not_end() {
    let (_api, pogo) = start_with_jwt(|_| ());
    let mut short = Socket::open(&pogo);
    let mut renewed = Socket::open(&pogo);
    renewed.must(auth(&token("alice", 1)));
    renewed.must(auth(&token("alice", 100)));
    short.must(auth(&token("alice", 2)));
    assert_eq!(short.event(), json!({"event": "auth:expired"}));
    renewed.assert_silent();
}

#[test]
fn where_it_is_required_nothing_is_done_before_and_all_ends_after() {
    let (api, pogo) = start_with_jwt(|options| options.auth.required = true);
    let mut socket = Socket::open(&pogo);
    for request in [
        json!({"event": "bind", "uri": "/me"}),
        json!({"event": "show", "uri": "/me"}),
        json!({"event": "delete", "uri": "/me"}),
        json!({"event": "channel:subscribe", "channel": "c"}),
        json!({"event": "hello", "channel": "c"}),
        json!({"event": "dance"}),
    ] {
        assert_eq!(socket.error(request), "unauthorized");
    }
    let mut other = Socket::open(&pogo);
    other.must(auth(&token("bob", 100)));
    other.must(json!({"event": "channel:subscribe", "channel": "c"}));
    for event in ["ping", "auth"] {
        let data = json!({"token": "no token"});
        socket.ask(json!({"event": event, "channel": "c", "data": data}));
    }
    other.assert_silent();
    assert_eq!(socket.error(auth("no token")), "unauthorized");
    assert!(api.seen("").is_empty());
    socket.must(auth(&token("alice", 1)));
    socket.must(json!({"event": "show", "uri": "/me"}));
    assert_eq!(socket.event(), json!({"event": "auth:expired"}));
    assert_eq!(socket.closed(), (4401, "the credential has expired".into()));
    other.must(json!({"event": "show", "uri": "/me"}));
}

#[test]
fn the_credential_of_the_handshake_is_checked_likewise() {
    let (_api, pogo) = start_with_jwt(|options| options.auth.required = true);
    let mut good = Socket::open_as(&pogo, &token("alice", 2));
    good.must(json!({"event": "show", "uri": "/me", "bind": false}));
    for bad in ["Bearer no", "Bearer", "Basic YTpi"] {
        let mut socket = Socket::open_with(&pogo, &[("authorization", bad)]);
        assert_eq!(socket.error(json!({"event": "show", "uri": "/me"})), "unauthorized");
        socket.must(auth(&token("alice", 100)));
        socket.must(json!({"event": "show", "uri": "/me"}));
    }
    assert_eq!(good.event(), json!({"event": "auth:expired"}));
    assert_eq!(good.closed().0, 4401);
}

#[test]
fn the_upstream_is_asked_about_the_cookies_of_the_handshake() {
    let (api, pogo) = start(|options| {
        options.auth.verify = Some("/me".into());
        options.auth.required = true;
    });
    api.on("GET /me", |seen, _| {
        let good = seen.header("cookie") == Some("sid=good");
        Some(if good { Reply::new(200, &json!({})) } else { Reply::empty(401) })
    });
    let mut good = Socket::open_with(&pogo, &[("cookie", "sid=good")]);
    good.bind("/posts");
    let mut bad = Socket::open_with(&pogo, &[("cookie", "sid=bad")]);
    assert_eq!(bad.error(json!({"event": "bind", "uri": "/posts"})), "unauthorized");
    let mut none = Socket::open(&pogo);
    assert_eq!(none.error(json!({"event": "bind", "uri": "/posts"})), "unauthorized");
    assert_eq!(api.seen("GET /me").len(), 2);
}

#[test]
fn who_does_not_authenticate_in_time_is_closed() {
    let (_api, pogo) = start_with_jwt(|options| options.auth.required = true);
    let mut socket = Socket::open(&pogo);
    socket.stream().set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    assert_eq!(socket.closed(), (4401, "authenticate first".into()));
}
