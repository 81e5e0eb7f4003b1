//! Who is on a channel: those who are there now, and those who come and go.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use pogo::channel::Rule;
use pogo::gate::auth::{Jwt, Secret};
use pogo::server::Options;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Pogo, Socket, in_every_format, start, start_of_two};

fn shown(options: &mut Options) {
    options.channels = vec![
        Rule { pattern: "plain".into(), ..Rule::open() },
        Rule { presence: true, ..Rule::open() },
    ];
}

fn join(data: impl Into<Value>) -> Value {
    json!({"event": "channel:subscribe", "channel": "c", "presence": true, "data": data.into()})
}

fn who() -> Value {
    json!({"event": "channel:presence", "channel": "c"})
}

fn leave() -> Value {
    json!({"event": "channel:unsubscribe", "channel": "c"})
}

/// The data of the members in an answer, as they are listed, and how many there are.
fn listed(answer: &Value) -> (Vec<Value>, u64) {
    let members = answer["data"]["members"].as_array().expect("a list");
    let data = members.iter().map(|member| member["data"].clone()).collect();
    (data, answer["count"].as_u64().expect("a number"))
}

fn event(name: &str, member: &Value, count: u64) -> Value {
    json!({"event": name, "channel": "c", "data": member, "count": count})
}

#[test]
fn who_comes_is_told_who_is_there_and_the_others_that_it_came() {
    in_every_format(|| {
        let (_api, pogo) = start_of_two(shown);
        let (mut ann, mut bob) = (Socket::open(&pogo), Socket::open(&pogo));
        let answer = ann.must(join(json!({"name": "ann"})));
        assert_eq!(listed(&answer), (vec![json!({"name": "ann"})], 1));
        assert_eq!(answer["data"]["members"][0]["id"], answer["data"]["me"]);
        let answer = bob.must(join("bob"));
        assert_eq!(listed(&answer), (vec![json!({"name": "ann"}), json!("bob")], 2));
        let me = answer["data"]["members"][1].clone();
        assert_eq!(me, json!({"id": answer["data"]["me"], "data": "bob"}));
        assert_eq!(ann.event(), event("channel:join", &me, 2));
        bob.must(leave());
        assert_eq!(ann.event(), event("channel:leave", &me, 1));
        // One who says nothing of itself is there all the same, and so is one that asks nothing.
        let mut quiet = Socket::open(&pogo);
        let answer = quiet.must(json!({"event": "channel:subscribe", "channel": "c"}));
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        let came = ann.event();
        assert_eq!((&came["event"], &came["count"]), (&json!("channel:join"), &json!(2)));
        assert_eq!(came["data"].as_object().unwrap().len(), 1, "{came}");
        drop(quiet);
        assert_eq!(ann.event(), event("channel:leave", &came["data"], 1));
        bob.assert_silent();
    });
}

#[test]
fn who_did_not_ask_is_told_of_nobody() {
    let (_api, pogo) = start_of_two(shown);
    let (mut quiet, mut other) = (Socket::open(&pogo), Socket::open(&pogo));
    quiet.must(json!({"event": "channel:subscribe", "channel": "c"}));
    other.must(join(1));
    other.must(json!({"event": "hello", "channel": "c"}));
    assert_eq!(quiet.event()["event"], "hello");
    other.must(leave());
    let answer = quiet.must(who());
    assert_eq!(listed(&answer), (vec![Value::Null], 1));
    quiet.assert_silent();
}

#[test]
fn two_sockets_of_one_client_are_two_members_and_each_has_one_name_on_all_channels() {
    let (_api, pogo) = start_of_two(shown);
    let (mut one, mut two) = (Socket::open_as(&pogo, "ann"), Socket::open_as(&pogo, "ann"));
    let first = one.must(join("ann"))["data"]["me"].clone();
    let answer = two.must(join("ann"));
    assert_ne!(answer["data"]["me"], first);
    assert_eq!(listed(&answer).1, 2);
    let mut elsewhere = join("ann");
    elsewhere["channel"] = json!("d");
    assert_eq!(one.must(elsewhere)["data"]["me"], first);
}

#[test]
fn what_is_said_again_is_shown_again_and_the_same_is_not() {
    let (_api, pogo) = start_of_two(shown);
    let (mut ann, mut bob) = (Socket::open(&pogo), Socket::open(&pogo));
    ann.must(join("ann"));
    let id = bob.must(join("bob"))["data"]["me"].clone();
    ann.event();
    bob.must(join("bob"));
    bob.must(join("bob, away"));
    let away = json!({"id": id, "data": "bob, away"});
    assert_eq!(ann.event(), event("channel:join", &away, 2));
    assert_eq!(listed(&ann.must(who())).0, [json!("ann"), json!("bob, away")]);
    ann.assert_silent();
    bob.assert_silent();
}

#[test]
fn who_may_not_know_is_not_told() {
    let (_api, pogo) = start(shown);
    let mut socket = Socket::open(&pogo);
    assert_eq!(socket.error(who()), "forbidden");
    let mut plain = join(1);
    plain["channel"] = json!("plain");
    assert_eq!(socket.error(plain), "bad_request");
    socket.must(json!({"event": "channel:subscribe", "channel": "plain"}));
    assert_eq!(
        socket.error(json!({"event": "channel:presence", "channel": "plain"})),
        "bad_request"
    );
    assert_eq!(socket.error(json!({"event": "channel:presence"})), "bad_request");
    assert_eq!(socket.error(join("x".repeat(1024))), "too_large");
    socket.must(join("x".repeat(1022)));
}

#[test]
fn of_many_only_the_first_are_listed_and_all_are_counted() {
    let (_api, pogo) = start_of_two(shown);
    let mut sockets: Vec<_> = (0..103).map(|_| Socket::open(&pogo)).collect();
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.must(json!({"event": "channel:subscribe", "channel": "c", "data": n}));
    }
    let (members, count) = listed(&sockets[0].must(who()));
    assert_eq!((members, count), ((0..100).map(Value::from).collect(), 103));
}

fn token(subject: &str) -> String {
    let claims = json!({"sub": subject, "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

const SECRET: &str = "a secret that is long enough for it";

#[test]
fn a_checked_token_says_who_somebody_is_where_the_rule_lets_it() {
    let (_api, pogo) = start_of_two(|options| {
        options.auth.jwt = Some(Jwt { secret: Some(Secret::new(SECRET)), ..Jwt::default() });
        options.channels = vec![
            Rule { presence: true, presence_subject: true, pattern: "c".into(), ..Rule::open() },
            Rule { presence: true, ..Rule::open() },
        ];
    });
    let mut ann = Socket::open_as(&pogo, &token("ann"));
    let mut bob = Socket::open(&pogo);
    ann.must(join(1));
    bob.must(join(2));
    assert_eq!(ann.event()["data"].get("sub"), None);
    bob.must(json!({"event": "auth", "data": {"token": token("bob")}}));
    let again = ann.event();
    assert_eq!((&again["event"], &again["data"]["sub"]), (&json!("channel:join"), &json!("bob")));
    let answer = bob.must(who());
    let subjects: Vec<_> =
        answer["data"]["members"].as_array().unwrap().iter().map(|it| it["sub"].clone()).collect();
    assert_eq!(subjects, ["ann", "bob"]);
    let mut elsewhere = join(1);
    elsewhere["channel"] = json!("d");
    assert_eq!(ann.must(elsewhere)["data"]["members"][0].get("sub"), None);
}

#[test]
fn other_rules_show_those_who_are_there_and_hide_them() {
    let (_api, mut pogo) = start_of_two(|options| options.channels = vec![Rule::open()]);
    let (mut ann, mut bob) = (Socket::open(&pogo), Socket::open(&pogo));
    for socket in [&mut ann, &mut bob] {
        socket.must(json!({"event": "channel:subscribe", "channel": "c"}));
    }
    pogo.reload(shown);
    assert_eq!(listed(&ann.must(who())).1, 2);
    pogo.reload(|options| options.channels = vec![Rule::open()]);
    assert_eq!(ann.error(who()), "bad_request");
    bob.must(json!({"event": "hello", "channel": "c"}));
    assert_eq!(ann.event()["event"], "hello");
}

/// What is done in the presence test, by which client.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize, u8),
    Leave(usize),
    /// The connection goes without a word.
    Die(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..4_usize;
    let step = prop_oneof![
        3 => (who.clone(), 0..3_u8).prop_map(|(at, data)| Step::Join(at, data)),
        1 => who.clone().prop_map(Step::Leave),
        1 => who.prop_map(Step::Die),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What one client believes of who is there.
#[derive(Default)]
struct Believed(BTreeMap<String, Value>);

impl Believed {
    fn read(&mut self, event: &Value) {
        let (id, member) = (event["data"]["id"].as_str().unwrap(), &event["data"]["data"]);
        match event["event"].as_str().unwrap() {
            "channel:join" => drop(self.0.insert(id.to_owned(), member.clone())),
            _ => assert!(self.0.remove(id).is_some(), "who leaves was there: {event}"),
        }
        assert_eq!(event["count"], self.0.len(), "{event}");
    }

    fn is(&self, wanted: &[Value]) -> bool {
        let (mut data, mut wanted) =
            (self.0.values().collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
        data.sort_by_key(|data| data.to_string());
        wanted.sort_by_key(|data| data.to_string());
        data == wanted
    }

    fn start(answer: &Value) -> Self {
        let members = answer["data"]["members"].as_array().unwrap();
        let entry = |it: &Value| (it["id"].as_str().unwrap().to_owned(), it["data"].clone());
        Self(members.iter().map(entry).collect())
    }
}

fn play(pogo: &Pogo, steps: &[Step]) {
    let mut clients: Vec<_> = (0..4).map(|_| (Socket::open(pogo), None)).collect();
    let mut watcher = Socket::open(pogo);
    let mut believed = Believed::start(&watcher.must(join("watcher")));
    for step in steps {
        match *step {
            // Nobody is waited for, so that all of it meets on the workers as it may.
            Step::Join(at, data) => {
                clients[at].0.send(&join(data));
                clients[at].1 = Some(data);
            }
            Step::Leave(at) => {
                clients[at].0.send(&leave());
                clients[at].1 = None;
            }
            Step::Die(at) => clients[at] = (Socket::open(pogo), None),
        }
    }
    let mut wanted: Vec<Value> =
        clients.iter().filter_map(|(_, data)| *data).map(Value::from).collect();
    wanted.push(json!("watcher"));
    // Those that died may be found dead later than others do what they do.
    clients.iter_mut().for_each(|(socket, _)| drop(socket.must(json!({"event": "ping"}))));
    while !believed.is(&wanted) {
        believed.read(&watcher.event());
    }
    let mut late = Socket::open(pogo);
    let mut fresh = Believed::start(&late.must(join("late")));
    wanted.push(json!("late"));
    while !fresh.is(&wanted) {
        fresh.read(&late.event());
    }
}

#[test]
fn whoever_comes_and_goes_all_agree_in_the_end_on_who_is_there() {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&steps(), |steps| {
        let (_api, pogo) = start_of_two(shown);
        play(&pogo, &steps);
        Ok(())
    });
    outcome.unwrap();
}
