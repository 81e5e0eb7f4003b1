//! Changes that do not pass through Pogo: found by polls, which have the manners of every fetch.

use std::time::{Duration, SystemTime};

use pogo::route::{Push, Rule};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Api, Pogo, Reply, Socket};

const OFTEN: Duration = Duration::from_millis(100);
const HARDLY: Duration = Duration::from_secs(3600);

fn polled(path: &str, poll: Duration) -> Rule {
    Rule { path: path.into(), poll: Some(poll), ..Rule::default() }
}

fn start(routes: Vec<Rule>) -> (Api, Pogo) {
    crate::harness::start(|options| {
        options.hub.min_interval = Duration::ZERO;
        options.routes = routes;
    })
}

fn update(uri: &str, data: Value) -> Value {
    json!({"event": "update", "uri": uri, "data": data})
}

/// Waits until three more polls of `uri` have come; what was polled as often has been asked for, too.
fn let_polls_pass(api: &Api, uri: &str) {
    let line = format!("GET {uri}");
    api.wait_seen(&line, api.seen(&line).len() + 3);
}

#[test]
fn a_change_that_did_not_pass_through_is_seen_by_the_next_poll_and_where_there_is_none_by_nobody() {
    let (api, pogo) = start(vec![polled("/jobs/{id}", OFTEN), polled("/slow", HARDLY)]);
    let mut sockets = [Socket::open_as(&pogo, "alice"), Socket::open_as(&pogo, "bob")];
    for socket in &mut sockets {
        for uri in ["/jobs/1", "/jobs/2", "/slow", "/posts/1"] {
            socket.bind(uri);
        }
    }
    for n in 1..=3 {
        for path in ["/jobs/1", "/slow", "/posts/1"] {
            api.put(path, json!(n));
        }
        for socket in &mut sockets {
            assert_eq!(socket.event(), update("/jobs/1", json!(n)));
        }
    }
    let_polls_pass(&api, "/jobs/1");
    for socket in &mut sockets {
        socket.assert_silent();
    }
    api.wait_gets("/slow", 2);
    api.wait_gets("/posts/1", 2);
}

#[test]
fn only_what_somebody_is_bound_to_is_polled_and_all_with_the_same_eyes_by_one_get() {
    let (api, pogo) = crate::harness::start_of_two(|options| {
        options.routes = vec![polled("/jobs/{id}", OFTEN), polled("/other/{id}", OFTEN / 2)];
    });
    let mut sockets: Vec<_> = (0..8).map(|_| Socket::open(&pogo)).collect();
    sockets.iter_mut().for_each(|socket| socket.bind("/jobs/1"));
    let mut other = Socket::open(&pogo);
    other.bind("/other/1");
    let (bound, polls) = (api.seen("GET /jobs/1").len(), 4);
    api.wait_seen("GET /jobs/1", bound + polls);
    let meanwhile = api.seen("GET /other/1").len();
    assert!(meanwhile >= polls, "eight viewers were polled one by one: {meanwhile}");
    for socket in &mut sockets {
        socket.must(json!({"event": "unbind", "uri": "/jobs/1"}));
    }
    // The last poll may have been on its way.
    let_polls_pass(&api, "/other/1");
    let before = api.seen("GET /jobs/1").len();
    (0..2).for_each(|_| let_polls_pass(&api, "/other/1"));
    assert_eq!(api.seen("GET /jobs/1").len(), before);
}

#[test]
fn a_poll_is_conditional_and_says_what_it_is() {
    let (api, pogo) = start(vec![polled("/jobs/{id}", OFTEN)]);
    api.put("/jobs/1", json!(1));
    api.on("GET /jobs/1", |seen, reply| match seen.header("if-none-match") {
        Some("\"one\"") => Some(Reply::empty(304)),
        _ => Some(reply?.with("ETag", "\"one\"")),
    });
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.bind("/jobs/1");
    for poll in api.wait_seen("GET /jobs/1", 4).drain(1..) {
        assert_eq!(poll.header("if-none-match"), Some("\"one\""));
        assert_eq!(poll.header("pogo-refetch"), Some("1"));
        assert_eq!(poll.header("authorization"), Some("Bearer alice"));
    }
    socket.assert_silent();
}

#[test]
fn a_poll_judges_a_credential_and_sees_that_something_is_gone() {
    let (api, pogo) = start(vec![polled("/jobs/{id}", OFTEN)]);
    api.put("/jobs/1", json!(1));
    let mut socket = Socket::open_as(&pogo, "alice");
    socket.bind("/jobs/1");
    api.on("GET /jobs/1", |_, _| Some(Reply::empty(404)));
    assert_eq!(socket.event(), json!({"event": "delete", "uri": "/jobs/1"}));
    api.on("GET /jobs/1", |_, _| Some(Reply::empty(403)));
    let over = json!({"event": "unbind", "uri": "/jobs/1", "reason": "forbidden"});
    assert_eq!(socket.event(), over);
}

#[test]
fn where_changes_are_only_announced_a_poll_announces_a_difference() {
    let notify = Rule { push: Push::Notify, ..polled("/jobs/{id}", OFTEN) };
    let (api, pogo) = start(vec![notify]);
    let mut socket = Socket::open(&pogo);
    socket.bind("/jobs/1");
    let_polls_pass(&api, "/jobs/1");
    socket.assert_silent();
    api.put("/jobs/1", json!(1));
    assert_eq!(socket.event(), json!({"event": "update", "uri": "/jobs/1"}));
    let_polls_pass(&api, "/jobs/1");
    socket.assert_silent();
}

#[test]
fn polls_begin_and_end_with_a_reload() {
    let (api, mut pogo) = start(vec![polled("/other", OFTEN)]);
    let mut socket = Socket::open(&pogo);
    socket.bind("/jobs/1");
    socket.bind("/other");
    api.put("/jobs/1", json!(1));
    pogo.reload(|options| options.routes.push(polled("/jobs/{id}", OFTEN)));
    assert_eq!(socket.event(), update("/jobs/1", json!(1)));
    pogo.reload(|options| options.routes.truncate(1));
    let_polls_pass(&api, "/other");
    let before = api.seen("GET /jobs/1").len();
    (0..2).for_each(|_| let_polls_pass(&api, "/other"));
    assert_eq!(api.seen("GET /jobs/1").len(), before);
    socket.assert_silent();
}

/// `Retry-After` with a date, the first that is at least `seconds` away.
fn date_in(seconds: u64) -> (String, SystemTime) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs() + seconds + 1);
    (httpdate::fmt_http_date(at), at)
}

#[test]
fn neither_polls_nor_writes_nor_settle_times_ask_before_the_api_said() {
    let settle = vec![OFTEN, 2 * OFTEN];
    let routes = vec![
        Rule { settle: settle.clone(), ..polled("/jobs/{id}", OFTEN) },
        Rule { settle, path: "/posts/{id}".into(), ..Rule::default() },
    ];
    let (api, pogo) = start(routes);
    let mut socket = Socket::open(&pogo);
    let (date, until) = date_in(1);
    let since = Instant::now();
    let mut uris = Vec::new();
    for (kind, status) in [("jobs", 429), ("jobs", 503), ("posts", 429), ("posts", 503)] {
        for (form, value) in [("seconds", "1".to_owned()), ("date", date.clone())] {
            let uri = format!("/{kind}/{status}-{form}");
            socket.bind(&uri);
            let mut refused = false;
            api.on(&format!("GET {uri}"), move |_, usual| {
                match std::mem::replace(&mut refused, true) {
                    false => Some(Reply::empty(status).with("Retry-After", &value)),
                    true => usual,
                }
            });
            if kind == "posts" {
                assert_eq!(pogo.write("PUT", &uri, &json!(0)), 200);
            }
            api.wait_seen(&format!("GET {uri}"), 2);
            assert_eq!(pogo.write("PUT", &uri, &json!(uri)), 200);
            uris.push((uri, form));
        }
    }
    let mut expected: Vec<_> = uris.iter().map(|(uri, _)| update(uri, json!(uri))).collect();
    while !expected.is_empty() {
        let event = socket.event();
        let at = expected.iter().position(|update| *update == event);
        expected.remove(at.unwrap_or_else(|| panic!("{event}")));
        let uri = event["uri"].as_str().unwrap();
        match uri.ends_with("date") {
            true => assert!(SystemTime::now() >= until, "{uri} was asked for too early"),
            false => assert!(since.elapsed() >= Duration::from_secs(1), "{uri}: too early"),
        }
    }
}
