//! Who is refused again and again is kept out for some time.

use std::time::Duration;

use pogo::gate::Offence;
use pogo::server::Options;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Api, Message, PATIENCE, Pogo, Reply, Socket, in_plain_json};

const GET: &str = "GET /posts HTTP/1.1\r\nHost: api\r\n\r\n";

/// A Pogo behind a balancer on this machine, whose clients bring three offences and are banned.
fn start(change: impl FnOnce(&mut Options)) -> (Api, Pogo) {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.gate.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        options.gate.proxy_protocol = true;
        options.gate.ban.after = Some("2/d".parse().unwrap());
        change(options);
    });
    (api, pogo)
}

fn ask(pogo: &Pogo, client: &str, request: &str) -> Message {
    let mut wire = pogo.connect_for(client);
    wire.send(request);
    wire.message()
}

fn over_rate(options: &mut Options) {
    options.gate.rates.writes = Some("1/d".parse().unwrap());
}

/// Asks too often until the next time would be too much.
fn nearly_ban(pogo: &Pogo, client: &str) {
    let write = "DELETE /posts/1 HTTP/1.1\r\nHost: api\r\n\r\n";
    ask(pogo, client, write);
    for _ in 0..2 {
        ask(pogo, client, write).assert_problem(429);
    }
}

/// Does it once more.
fn ban(pogo: &Pogo, client: &str) {
    ask(pogo, client, "DELETE /posts/1 HTTP/1.1\r\nHost: api\r\n\r\n").assert_problem(429);
}

#[test]
fn a_ban_ends_what_the_address_has_open_and_refuses_what_it_tries() {
    let (_api, pogo) = start(|options| {
        over_rate(options);
        options.workers = 2;
    });
    let (bad, good) = ("192.0.2.7", "192.0.2.8");
    nearly_ban(&pogo, bad);
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open_for(&pogo, bad)).collect();
    let mut spared = Socket::open_for(&pogo, good);
    let mut idle = pogo.connect_for(bad);
    idle.send(GET);
    assert_eq!(idle.message().status(), 200);
    ban(&pogo, bad);
    for socket in &mut sockets {
        let (code, reason) = socket.closed();
        assert_eq!(code, 4403);
        let wait = reason.strip_prefix("this address is banned; retry_after=").unwrap();
        assert!((500..=600).contains(&wait.parse().unwrap()), "{reason}");
    }
    idle.assert_closed();
    let refused = ask(&pogo, bad, GET);
    refused.assert_problem(403);
    let wait: u64 = refused.one("retry-after").unwrap().parse().unwrap();
    assert!((500..=600).contains(&wait), "{wait}");
    assert_eq!(refused.one("connection").as_deref(), Some("close"));
    let stream = pogo.connect_for(bad).into_stream();
    assert_eq!(Socket::try_open_on(stream, "/", &[]).err(), Some(403));
    spared.must(json!({"event": "ping"}));
    assert_eq!(ask(&pogo, good, GET).status(), 200);
}

#[test]
fn a_ban_is_seen_and_can_be_lifted() {
    let (_api, pogo) = start(over_rate);
    assert!(pogo.gate().bans().is_empty());
    for client in ["192.0.2.7", "192.0.2.9"] {
        nearly_ban(&pogo, client);
        ban(&pogo, client);
    }
    let bans = pogo.gate().bans();
    let networks: Vec<_> = bans.iter().map(|ban| ban.network.to_string()).collect();
    assert_eq!(networks, ["192.0.2.7/32", "192.0.2.9/32"]);
    assert!(bans.iter().all(|ban| ban.cause == Offence::OverRate));
    assert!(bans.iter().all(|ban| ban.left > Duration::from_secs(500)));
    assert!(!pogo.gate().lift("192.0.2.8/32".parse().unwrap()));
    assert!(pogo.gate().lift("192.0.2.7/32".parse().unwrap()));
    assert_eq!(ask(&pogo, "192.0.2.7", GET).status(), 200);
    ask(&pogo, "192.0.2.9", GET).assert_problem(403);
    assert_eq!(pogo.gate().bans().len(), 1);
}

#[test]
fn a_ban_ends_by_itself() {
    let (_api, pogo) = start(|options| {
        over_rate(options);
        options.gate.ban.lasts = Duration::from_millis(300);
    });
    nearly_ban(&pogo, "192.0.2.7");
    let banned = Instant::now();
    ban(&pogo, "192.0.2.7");
    // Trying does not prolong it.
    while ask(&pogo, "192.0.2.7", GET).status() != 200 {
        assert!(banned.elapsed() < PATIENCE, "still banned");
    }
    assert!(banned.elapsed() >= Duration::from_millis(300));
    assert!(pogo.gate().bans().is_empty());
}

#[test]
fn bad_credentials_and_malformed_requests_and_messages_are_offences_too() {
    in_plain_json();
    let (api, pogo) = start(|_| ());
    api.on("GET /posts", |_, _| Some(Reply::empty(401)));
    let token = "GET /posts HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer bad\r\n\r\n";
    let two_lengths = "POST /posts HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\n\
                       Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (client, request, status, cause) in [
        ("192.0.2.1", token, 401, Offence::BadCredential),
        ("192.0.2.2", two_lengths, 400, Offence::Malformed),
    ] {
        for _ in 0..3 {
            assert_eq!(ask(&pogo, client, request).status(), status);
        }
        ask(&pogo, client, request).assert_problem(403);
        let ban = *pogo.gate().bans().last().unwrap();
        assert_eq!((ban.network.addr(), ban.cause), (client.parse().unwrap(), cause));
    }
    for _ in 0..3 {
        let mut socket = Socket::open_for(&pogo, "192.0.2.3");
        socket.send_frame(0x82, b"binary");
        assert_eq!(socket.closed().0, 1003);
    }
    ask(&pogo, "192.0.2.3", GET).assert_problem(403);
}

#[test]
fn a_bad_token_on_a_socket_is_an_offence_and_its_ban_ends_the_socket() {
    let (api, pogo) = start(|options| options.auth.verify = Some("/me".into()));
    api.on("GET /me", |_, _| Some(Reply::empty(401)));
    let mut socket = Socket::open_for(&pogo, "192.0.2.7");
    for _ in 0..3 {
        let auth = json!({"event": "auth", "data": {"token": "bad"}});
        assert_eq!(socket.error(auth), "unauthorized");
    }
    assert_eq!(socket.closed().0, 4403);
}

#[test]
fn who_is_exempt_or_a_trusted_proxy_is_refused_and_not_banned() {
    let (_api, pogo) = start(|options| {
        over_rate(options);
        options.gate.ban.exempt = vec!["192.0.2.0/24".parse().unwrap()];
    });
    for client in ["192.0.2.7", "127.0.0.1"] {
        nearly_ban(&pogo, client);
        for _ in 0..5 {
            ban(&pogo, client);
        }
        assert_eq!(ask(&pogo, client, GET).status(), 200);
    }
    assert!(pogo.gate().bans().is_empty());
}
