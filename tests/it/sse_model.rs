//! Convergence and non-interference of streams, against random schedules: whatever was written,
//! hidden, answered slowly or out of order, in the end each client holds what a GET of its own is
//! answered with, and never saw what was another's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Api, Events, Pogo, Reply, Seen};

const USERS: usize = 2;
const CLIENTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Write {
        hidden_from: Option<usize>,
    },
    /// The next GET is answered late, with what was true when it came.
    SlowGet,
    Release,
    /// Leaves without a word and returns with the last id.
    Return {
        client: usize,
    },
    /// The next GETs fail.
    Fail {
        gets: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::option::weighted(0.4, 0..USERS).prop_map(|hidden_from| Step::Write { hidden_from }),
        2 => Just(Step::SlowGet),
        3 => Just(Step::Release),
        3 => (0..CLIENTS).prop_map(|client| Step::Return { client }),
        1 => (1..3_usize).prop_map(|gets| Step::Fail { gets }),
    ];
    proptest::collection::vec(step, 1..25)
}

#[derive(Debug, Default)]
struct Truth {
    value: u64,
    hidden_from: Option<usize>,
    failing: usize,
}

type Truths = Arc<Mutex<BTreeMap<u64, Truth>>>;

struct World {
    api: Api,
    pogo: Pogo,
    truths: Truths,
    schedules: AtomicU64,
}

fn canary(user: usize) -> String {
    format!("canary-{user}-canary")
}

fn shown(user: usize, truth: &Truth) -> Value {
    let value = (truth.hidden_from != Some(user)).then_some(truth.value);
    json!({"for": canary(user), "value": value})
}

fn answer(truths: &Truths, seen: &Seen) -> Option<Reply> {
    let mut truths = truths.lock().unwrap();
    let truth = truths.entry(seen.target.trim_start_matches('/').parse().ok()?).or_default();
    if seen.method == "PUT" {
        truth.value = seen.body["value"].as_u64()?;
        truth.hidden_from = seen.body["hidden_from"].as_u64().map(|user| user as usize);
        return Some(Reply::empty(204));
    }
    if truth.failing > 0 {
        truth.failing -= 1;
        return Some(Reply::empty(500));
    }
    let user = seen.header("authorization")?.strip_prefix("Bearer ")?.parse().ok()?;
    Some(Reply::new(200, &shown(user, truth)))
}

struct Client {
    user: usize,
    /// None while the API does not let it in.
    events: Option<Events>,
    last_id: String,
    held: Option<Value>,
}

impl Client {
    fn connect(&mut self, pogo: &Pogo, path: &str) {
        let token = format!("Bearer {}", self.user);
        let fields = [("Authorization", &*token), ("Last-Event-ID", &*self.last_id)];
        let mut wire = pogo.connect();
        wire.send(Events::request("HEAD", path, &fields));
        // Failures come one at a time and are used up by asking.
        self.events = (wire.message().status() == 200)
            .then(|| pogo.connect())
            .and_then(|wire| Events::try_open_on(wire, path, &fields));
    }

    /// Reads until the state is `wanted`, coming back as often as it is sent away.
    fn come_to(&mut self, pogo: &Pogo, path: &str, wanted: &Value) {
        loop {
            let Some(events) = &mut self.events else {
                self.connect(pogo, path);
                continue;
            };
            if self.held.as_ref() == Some(wanted) {
                return;
            }
            match events.try_event() {
                Some(event) => {
                    if event.name == "update" {
                        self.held = Some(event.json());
                    }
                    self.last_id = event.id;
                    for other in (0..USERS).filter(|other| *other != self.user) {
                        assert!(!events.text.contains(&canary(other)), "{}", events.text);
                    }
                }
                None => self.events = None,
            }
        }
    }
}

fn run(world: &World, steps: &[Step]) {
    let schedule = world.schedules.fetch_add(1, Ordering::SeqCst);
    let path = format!("/{schedule}");
    world.truths.lock().unwrap().insert(schedule, Truth::default());
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|client| Client {
            user: client % USERS,
            events: None,
            last_id: String::new(),
            held: None,
        })
        .collect();
    clients.iter_mut().for_each(|client| client.connect(&world.pogo, &path));
    let (mut value, mut held) = (0, false);
    for step in steps {
        match *step {
            Step::Write { hidden_from } => {
                value += 1;
                let body = json!({"value": value, "hidden_from": hidden_from});
                assert_eq!(world.pogo.write("PUT", &path, &body), 204);
            }
            Step::SlowGet => {
                world.api.hold(&format!("GET {path}"));
                held = true;
            }
            Step::Release => world.api.release(),
            // It would wait for an answer that is held back.
            Step::Return { client } if !held => clients[client].connect(&world.pogo, &path),
            Step::Return { .. } => {}
            Step::Fail { gets } => {
                world.truths.lock().unwrap().get_mut(&schedule).unwrap().failing = gets;
            }
        }
    }
    world.api.be_calm();
    world.api.release();
    world.truths.lock().unwrap().get_mut(&schedule).unwrap().failing = 0;
    for client in &mut clients {
        let wanted = shown(client.user, &world.truths.lock().unwrap()[&schedule]);
        client.come_to(&world.pogo, &path, &wanted);
    }
}

#[test]
fn streams_converge_and_show_nobody_what_is_anothers() {
    let api = Api::start();
    let truths = Truths::default();
    let answering = Arc::clone(&truths);
    api.on("", move |seen, _| answer(&answering, seen));
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.workers = 2;
        options.hub.min_interval = std::time::Duration::from_millis(5);
    });
    let world = World { api, pogo, truths, schedules: AtomicU64::new(0) };
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    proptest!(config, |(steps in steps())| run(&world, &steps));
}
