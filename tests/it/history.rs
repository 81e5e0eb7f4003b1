//! Channels that remember: what comes back to whom, in which order, and what is said of what does not.

use std::time::Duration;

use pogo::channel::{History, Rule};
use pogo::server::Options;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Operator, Pogo, Socket, in_every_format, start, start_of_two};

fn keeping(count: usize) -> impl Fn(&mut Options) {
    keeping_as(History { count, ..History::default() })
}

fn keeping_as(history: History) -> impl Fn(&mut Options) {
    move |options| {
        options.channels = vec![
            Rule { pattern: "plain".into(), ..Rule::open() },
            Rule { history: Some(history), ..Rule::open() },
        ];
    }
}

fn say(channel: &str, data: impl Into<Value>) -> Value {
    json!({"event": "said", "channel": channel, "data": data.into()})
}

fn since(offset: impl Into<Value>) -> Value {
    json!({"event": "channel:subscribe", "channel": "c", "since": offset.into()})
}

/// The data of an event that has an offset, and that offset.
fn heard(socket: &mut Socket) -> (Value, String) {
    let event = socket.event();
    assert_eq!((&event["event"], &event["channel"]), (&json!("said"), &json!("c")), "{event}");
    (event["data"].clone(), event["offset"].as_str().expect("an offset").to_owned())
}

fn number(offset: &str) -> u64 {
    offset.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[test]
fn who_comes_back_is_given_what_it_missed_and_then_what_comes() {
    in_every_format(|| {
        let (_api, pogo) = start_of_two(keeping(100));
        let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
        let answer = socket.must(since(Value::Null));
        let begin = answer["offset"].as_str().unwrap().to_owned();
        for n in 0..3 {
            sender.must(say("c", n));
            let (data, offset) = heard(&mut socket);
            assert_eq!((data, number(&offset)), (json!(n), number(&begin) + n + 1));
        }
        for (known, missed) in [(0, vec![0, 1, 2]), (1, vec![1, 2]), (3, vec![])] {
            let mut back = Socket::open(&pogo);
            let offset = begin
                .replace(&format!("-{}", number(&begin)), &format!("-{}", number(&begin) + known));
            let answer = back.must(since(offset));
            assert_eq!(number(answer["offset"].as_str().unwrap()), number(&begin) + 3);
            for n in missed {
                assert_eq!(heard(&mut back).0, n);
            }
            back.assert_silent();
        }
        let mut late = Socket::open(&pogo);
        late.must(json!({"event": "channel:subscribe", "channel": "c"}));
        late.assert_silent();
        sender.must(say("c", 3));
        assert_eq!(heard(&mut late).0, 3);
    });
}

#[test]
fn a_request_that_asks_for_nothing_kept_is_answered_with_nothing_more() {
    let (_api, pogo) = start(keeping(100));
    let mut socket = Socket::open(&pogo);
    for (request, fields) in [
        (json!({"event": "channel:subscribe", "channel": "c"}), 2),
        (since(Value::Null), 3),
        (json!({"event": "channel:subscribe", "channel": "plain"}), 2),
        (json!({"event": "channel:subscribe", "channel": "plain", "since": null}), 2),
    ] {
        let answer = socket.must(request.clone());
        assert_eq!(answer.as_object().unwrap().len(), fields, "{request}: {answer}");
    }
    socket.assert_silent();
    assert_eq!(socket.error(since(7)), "bad_request");
}

#[test]
fn a_gap_that_cannot_be_filled_is_said_before_what_is_left() {
    let (_api, pogo) = start_of_two(keeping(2));
    let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
    let begin = socket.must(since(Value::Null))["offset"].as_str().unwrap().to_owned();
    for n in 0..5 {
        sender.must(say("c", n));
    }
    let lost = json!({"event": "channel:lost", "channel": "c", "count": 3});
    let unknown = json!({"event": "channel:lost", "channel": "c"});
    let other_epoch = format!("0{begin}");
    let cases =
        [(begin.as_str(), lost), (&other_epoch, unknown.clone()), ("nonsense", unknown.clone())];
    for (offset, gap) in cases {
        let mut back = Socket::open(&pogo);
        back.must(since(offset));
        assert_eq!(back.event(), gap, "{offset}");
        assert_eq!((heard(&mut back).0, heard(&mut back).0), (json!(3), json!(4)));
        back.assert_silent();
    }
    // A channel that keeps nothing cannot say what there was; and nobody has missed what is new.
    let mut back = Socket::open(&pogo);
    back.must(json!({"event": "channel:subscribe", "channel": "plain", "since": begin}));
    assert_eq!(back.event()["event"], "channel:lost");
    // Without an id the gap is said all the same.
    back.send(&since("nonsense"));
    assert_eq!(back.event(), unknown);
}

#[test]
fn a_history_goes_with_its_time_and_its_numbers_go_on() {
    let ttl = Duration::from_millis(1);
    let (_api, pogo) = start_of_two(keeping_as(History { ttl, ..History::default() }));
    let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
    socket.must(since(Value::Null));
    sender.must(say("c", 1));
    let (_, first) = heard(&mut socket);
    // Each time until the time of what was said is over.
    loop {
        let mut late = Socket::open(&pogo);
        late.must(since(Value::Null));
        late.must(json!({"event": "ping"}));
        if late.take_events().is_empty() {
            break;
        }
    }
    sender.must(say("c", 2));
    assert!(number(&heard(&mut socket).1) > number(&first));
}

#[test]
fn all_histories_together_have_a_bound_and_what_gave_way_is_said() {
    let (_api, pogo) = start(|options| {
        keeping(100)(options);
        options.history_bytes = 4096;
    });
    let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
    socket.must(since(Value::Null));
    sender.must(say("c", "the first"));
    let (_, offset) = heard(&mut socket);
    for n in 0..20 {
        sender.must(say(&format!("other/{n}"), "x".repeat(500)));
    }
    let mut back = Socket::open(&pogo);
    back.must(since(offset));
    assert_eq!(back.event(), json!({"event": "channel:lost", "channel": "c"}));
    back.assert_silent();
}

#[test]
fn what_operators_say_is_kept_in_the_same_order() {
    let (_api, pogo) = start_of_two(|options| {
        keeping(100)(options);
        Operator::admit(options);
    });
    let operator = Operator::of(&pogo);
    let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
    socket.must(since(Value::Null));
    sender.must(say("c", 1));
    operator.must("POST", "/publish", Some(&say("c", 2)));
    sender.must(say("c", 3));
    let mut back = Socket::open(&pogo);
    back.must(since(Value::Null));
    for n in 1..=3 {
        assert_eq!(heard(&mut socket), heard(&mut back), "{n}");
    }
}

#[test]
fn a_rule_that_keeps_no_more_forgets_and_one_that_keeps_again_does_not_hide_it() {
    let (_api, mut pogo) = start_of_two(keeping(100));
    let (mut sender, mut socket) = (Socket::open(&pogo), Socket::open(&pogo));
    socket.must(since(Value::Null));
    sender.must(say("c", 1));
    let (_, offset) = heard(&mut socket);
    pogo.reload(|options| options.channels = vec![Rule::open()]);
    sender.must(say("c", 2));
    assert_eq!(socket.event(), say("c", 2));
    pogo.reload(keeping(100));
    sender.must(say("c", 3));
    assert_eq!(heard(&mut socket).0, 3);
    let mut back = Socket::open(&pogo);
    back.must(since(offset));
    assert_eq!(back.event(), json!({"event": "channel:lost", "channel": "c"}));
    assert_eq!(heard(&mut back).0, 3);
}

#[test]
fn with_echo_a_sender_hears_itself_and_as_often_as_others() {
    let (_api, pogo) = start_of_two(|options| {
        options.channels = vec![
            Rule { pattern: "plain".into(), echo: true, ..Rule::open() },
            Rule { echo: true, history: Some(History::default()), ..Rule::open() },
        ];
    });
    let (mut socket, mut stranger) = (Socket::open(&pogo), Socket::open(&pogo));
    for channel in ["plain", "c"] {
        socket.must(json!({"event": "channel:subscribe", "channel": channel}));
        socket.must(say(channel, 1));
        let event = socket.event();
        assert_eq!((&event["channel"], &event["data"]), (&json!(channel), &json!(1)));
        stranger.must(say(channel, 2));
        assert_eq!(socket.event()["data"], 2);
        socket.assert_silent();
        stranger.assert_silent();
    }
}

/// What is done in the history's test: by which of the senders, or to which of the readers.
#[derive(Debug, Clone)]
enum Step {
    Say(usize),
    /// The connection breaks, and the client comes back with what it knows.
    Return(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![4 => (0..3_usize).prop_map(Step::Say), 1 => (0..3_usize).prop_map(Step::Return)];
    proptest::collection::vec(step, 1..60)
}

/// One who reads: what it has, and how much of the rest it was told to be lost.
struct Reader {
    socket: Socket,
    offset: String,
    /// What was said, in its order; nothing where it was lost.
    known: Vec<Option<Value>>,
}

impl Reader {
    fn come(pogo: &Pogo) -> Self {
        let mut socket = Socket::open(pogo);
        let offset = socket.must(since(Value::Null))["offset"].as_str().unwrap().to_owned();
        Self { socket, offset, known: Vec::new() }
    }

    fn take(&mut self, event: &Value) {
        if event["event"] == "channel:lost" {
            // What was not kept is counted to the last.
            let lost = event["count"].as_u64().expect("a number") as usize;
            self.known.resize(self.known.len() + lost, None);
            return;
        }
        self.offset = event["offset"].as_str().unwrap().to_owned();
        self.known.push(Some(event["data"].clone()));
        assert_eq!(number(&self.offset), self.known.len() as u64, "in order, and each once");
    }

    /// Reads what has been sent so far, and comes back on a new connection.
    fn come_back(&mut self, pogo: &Pogo, reads_before: bool) {
        if reads_before {
            self.socket.must(json!({"event": "ping"}));
            for event in self.socket.take_events() {
                self.take(&event);
            }
        }
        self.socket = Socket::open(pogo);
        self.socket.must(since(self.offset.as_str()));
    }

    fn read_until(&mut self, count: usize) {
        while self.known.len() < count {
            let event = self.socket.event();
            self.take(&event);
        }
        self.socket.assert_silent();
        assert_eq!(self.known.len(), count);
    }
}

#[test]
fn replayed_and_live_together_are_everything_once_and_in_order() {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&(steps(), 1..12_usize, any::<bool>()), |(steps, kept, reads)| {
        let (_api, pogo) = start_of_two(keeping(kept));
        let mut senders: Vec<_> = (0..3).map(|_| Socket::open(&pogo)).collect();
        let mut readers: Vec<_> = (0..3).map(|_| Reader::come(&pogo)).collect();
        let mut count = 0;
        for step in steps {
            match step {
                // Not waited for: what is said and who comes back meet as they may.
                Step::Say(at) => {
                    senders[at].send(&say("c", count));
                    count += 1;
                }
                Step::Return(at) => readers[at].come_back(&pogo, reads),
            }
        }
        senders.iter_mut().for_each(|sender| drop(sender.must(json!({"event": "ping"}))));
        readers.iter_mut().for_each(|reader| reader.read_until(count));
        for at in 0..count {
            let mut heard: Vec<_> =
                readers.iter().filter_map(|reader| reader.known[at].as_ref()).collect();
            heard.dedup();
            prop_assert!(heard.len() <= 1, "all hear the same order: {heard:?} at {at}");
        }
        Ok(())
    });
    outcome.unwrap();
}
