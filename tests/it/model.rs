//! The two invariants, against random schedules: writers, viewers with eyes of their own, hidden
//! items, revocations, credentials that change, bindings that end by themselves, clients that return
//! with what they last held, and an API that answers slowly, out of order, or not at all. Sockets speak
//! any of the formats, compressed or not, and are told patches, states or what became of members;
//! others follow over plain HTTP, in each of the ways that there are.
//!
//! Convergence: when everything has come to rest, each client holds exactly what a GET with its
//! credential answers. Non-interference: every byte that a session received was in an answer to
//! its own credential; each user's answers carry a canary that no other session and no log line
//! may contain. And what is told of a binding is told while there is one.

mod follower;
mod talk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use pogo::protocol::Format;
use pogo::route::{ItemData, Items, Rule};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::follower::{Follower, Way};
use self::talk::{Manner, Talk};
use crate::harness::{Api, PATIENCE, Pogo, Reply, Seen, Wire};

const USERS: usize = 3;
const ITEMS: usize = 3;
const CLIENTS: usize = 4;
const FOLLOWERS: usize = 2;

/// How each client speaks, and how each follower follows.
type Manners = ([Manner; CLIENTS], [Way; FOLLOWERS]);

/// What a client can bind: the collection, or one of the items.
const TARGETS: usize = ITEMS + 1;

#[derive(Debug, Clone)]
enum Step {
    Write {
        item: usize,
        hidden_from: Option<usize>,
        by_socket: bool,
    },
    /// As `Write`, but its answer comes only later.
    SlowWrite {
        item: usize,
    },
    Delete {
        item: usize,
    },
    /// A user may see nothing any more, or again; a write to what all else lies below.
    Access {
        user: usize,
        allowed: bool,
    },
    Bind {
        client: usize,
        target: usize,
        /// For a second.
        ttl: bool,
    },
    Show {
        client: usize,
        target: usize,
    },
    /// The collection, and what becomes of its members.
    BindItems {
        client: usize,
        state: bool,
    },
    Unbind {
        client: usize,
        target: usize,
    },
    /// Leaves without a word and returns with the versions it holds.
    Reconnect {
        client: usize,
    },
    Auth {
        client: usize,
        user: usize,
    },
    /// The next GET of the target is answered late, with what was true when it came.
    SlowGet {
        target: usize,
    },
    /// The next GETs fail.
    Fail {
        gets: usize,
        reset: bool,
    },
    /// Lets every late answer go.
    Release,
    /// Reads what has come.
    Read {
        client: usize,
    },
    /// A client over plain HTTP turns to this, or comes back to it.
    Follow {
        follower: usize,
        target: usize,
    },
    /// It reads what has come, and comes back if it was sent away.
    Look {
        follower: usize,
    },
}

fn manners() -> impl Strategy<Value = Manners> {
    let format = || prop::sample::select(&Format::ALL[..]);
    let manner = || {
        (format(), any::<bool>(), any::<bool>()).prop_map(|(format, delta, deflate)| Manner {
            format,
            delta,
            deflate,
        })
    };
    let way = || prop::sample::select(&Way::ALL[..]);
    ([(); CLIENTS].map(|()| manner()), [(); FOLLOWERS].map(|()| way()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, user) = (0..CLIENTS, 0..USERS);
    let (item, target) = (0..ITEMS, 0..TARGETS);
    let step = prop_oneof![
        6 => (item.clone(), proptest::option::weighted(0.3, user.clone()), any::<bool>())
            .prop_map(|(item, hidden_from, by_socket)| Step::Write { item, hidden_from, by_socket }),
        2 => item.clone().prop_map(|item| Step::SlowWrite { item }),
        2 => item.prop_map(|item| Step::Delete { item }),
        1 => (user.clone(), any::<bool>()).prop_map(|(user, allowed)| Step::Access { user, allowed }),
        6 => (client.clone(), target.clone(), proptest::bool::weighted(0.2))
            .prop_map(|(client, target, ttl)| Step::Bind { client, target, ttl }),
        3 => (client.clone(), any::<bool>()).prop_map(|(client, state)| Step::BindItems { client, state }),
        3 => (client.clone(), target.clone()).prop_map(|(client, target)| Step::Show { client, target }),
        1 => (client.clone(), target.clone()).prop_map(|(client, target)| Step::Unbind { client, target }),
        2 => client.clone().prop_map(|client| Step::Reconnect { client }),
        2 => (client.clone(), user).prop_map(|(client, user)| Step::Auth { client, user }),
        3 => target.clone().prop_map(|target| Step::SlowGet { target }),
        3 => (0..FOLLOWERS, target).prop_map(|(follower, target)| Step::Follow { follower, target }),
        2 => (0..FOLLOWERS).prop_map(|follower| Step::Look { follower }),
        1 => (1..3_usize, any::<bool>()).prop_map(|(gets, reset)| Step::Fail { gets, reset }),
        3 => Just(Step::Release),
        2 => client.prop_map(|client| Step::Read { client }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The API's truth for one schedule.
#[derive(Debug, Default)]
struct Truth {
    items: BTreeMap<usize, Item>,
    locked_out: BTreeSet<usize>,
    failing: usize,
    reset: bool,
}

#[derive(Debug)]
struct Item {
    value: u64,
    hidden_from: Option<usize>,
}

type Truths = Arc<Mutex<HashMap<u64, Truth>>>;

/// One API and three Pogos of two workers serve all schedules, each below a path of its own. The second
/// takes members from what stands in the collection, and the others ask for them; with the third
/// bindings to items end by themselves all the time.
struct World {
    api: Api,
    pogos: [Pogo; 3],
    truths: Truths,
    schedules: AtomicU64,
}

/// How many patches there were, messages that came compressed, bindings that ended by themselves, and
/// pieces of news over plain HTTP.
static PATCHES: AtomicU64 = AtomicU64::new(0);
static COMPRESSED: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static NEWS: AtomicU64 = AtomicU64::new(0);

static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

#[derive(Clone)]
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    fn new() -> Self {
        let api = Api::start();
        let truths = Truths::default();
        let answering = Arc::clone(&truths);
        api.on("", move |seen, _| answer(&answering, seen));
        let kinds = [
            (ItemData::Fetched, None),
            (ItemData::Embedded, None),
            (ItemData::Fetched, Some(Duration::from_millis(15))),
        ];
        let pogos = kinds.map(|(data, ttl)| {
            Pogo::at(&api.address().to_string(), |options| {
                options.workers = 2;
                options.hub.min_interval = Duration::from_millis(5);
                options.session.compression = true;
                options.session.compress_from = 64;
                let items = Items { id: "/item".into(), data, ..Items::default() };
                let path = "/{schedule}/items".into();
                let collection = Rule { path, items, ..Rule::default() };
                let path = "/{schedule}/items/{item}".into();
                options.routes = vec![collection, Rule { path, ttl, ..Rule::default() }];
            })
        });
        Self { api, pogos, truths, schedules: AtomicU64::new(0) }
    }

    fn pogo(&self, schedule: u64) -> &Pogo {
        &self.pogos[schedule as usize % 3]
    }
}

fn token(user: usize) -> String {
    format!("secret-of-user-{user}")
}

fn canary(user: usize) -> String {
    format!("canary-{user}-canary")
}

/// `/s<schedule>`, `/s<schedule>/items`, `/s<schedule>/items/<item>`.
fn answer(truths: &Truths, seen: &Seen) -> Option<Reply> {
    let mut truths = truths.lock().unwrap();
    let mut parts = seen.target.trim_start_matches("/s").splitn(3, '/');
    let schedule = parts.next()?.parse().ok()?;
    let truth = truths.entry(schedule).or_default();
    let item = parts.nth(1).and_then(|item| item.parse::<usize>().ok());
    if seen.method == "GET" {
        if truth.failing > 0 {
            truth.failing -= 1;
            return (!truth.reset).then(|| Reply::new(500, &json!({"oops": true})));
        }
        let token_of = seen.header("authorization")?.strip_prefix("Bearer ")?;
        let user = (0..USERS).find(|user| token(*user) == token_of)?;
        let (status, body) = truth.get(user, item);
        return Some(Reply::new(status, &body));
    }
    match (seen.method.as_str(), item) {
        ("PUT", Some(item)) => {
            let value = seen.body["value"].as_u64()?;
            let hidden_from = seen.body["hidden_from"].as_u64().map(|user| user as usize);
            truth.items.insert(item, Item { value, hidden_from });
        }
        ("DELETE", Some(item)) => {
            truth.items.remove(&item);
        }
        ("POST", None) => {
            let user = seen.body["user"].as_u64()? as usize;
            if seen.body["allowed"] == true {
                truth.locked_out.remove(&user);
            } else {
                truth.locked_out.insert(user);
            }
        }
        _ => return Some(Reply::empty(405)),
    }
    Some(Reply::empty(204))
}

impl Truth {
    fn get(&self, user: usize, item: Option<usize>) -> (u16, Value) {
        if self.locked_out.contains(&user) {
            return (if user == 0 { 401 } else { 403 }, json!({"detail": "no"}));
        }
        // Long enough for a patch to be worth its while.
        let long = "what all of them say and no patch has to say again ".repeat(3);
        let show = |number: &usize, item: &Item| json!({"item": number, "value": item.value, "for": canary(user), "long": long});
        let visible = |item: &Item| item.hidden_from != Some(user);
        match item {
            None => {
                let items = self.items.iter().filter(|(_, item)| visible(item));
                (
                    200,
                    json!({"for": canary(user), "items": items.map(|(n, i)| show(n, i)).collect::<Vec<_>>()}),
                )
            }
            Some(number) => match self.items.get(&number).filter(|item| visible(item)) {
                Some(item) => (200, show(&number, item)),
                None => (404, json!({"detail": "not found"})),
            },
        }
    }
}

/// What a client knows of one of its bindings.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    data: Option<Value>,
    version: Option<String>,
}

/// What a request that has no answer yet was.
#[derive(Clone, Copy)]
enum Pending {
    Bind(usize),
    Show(usize),
    Unbind(usize),
    Auth(usize),
    Other,
}

struct Client {
    socket: Talk,
    manner: Manner,
    user: usize,
    /// The user that `auth` was sent for and not answered yet.
    next_user: Option<usize>,
    pending: HashMap<u64, Pending>,
    ids: u64,
    bound: BTreeMap<usize, Held>,
    /// It is told of the collection's members, and perhaps of its states.
    items: Option<bool>,
    /// What it held on its previous socket and asked to bind again.
    returning: BTreeMap<usize, Held>,
}

struct Run<'w> {
    world: &'w World,
    schedule: u64,
    clients: Vec<Client>,
    followers: Vec<Follower>,
    values: u64,
    /// Writes that were sent and whose answers have not been read.
    writes: Vec<Wire>,
}

impl Run<'_> {
    fn uri(&self, target: usize) -> String {
        uri(self.schedule, target)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { item, hidden_from, by_socket } => {
                self.values += 1;
                let body = json!({"value": self.values, "hidden_from": hidden_from});
                if by_socket {
                    let uri = self.uri(item + 1);
                    let message =
                        json!({"event": "update", "uri": uri, "data": body, "bind": false});
                    self.clients[0].request(message, Pending::Other);
                } else {
                    self.write("PUT", item, &body);
                }
            }
            Step::SlowWrite { item } => {
                self.values += 1;
                let body = json!({"value": self.values});
                self.world.api.hold(&format!("PUT {}", self.uri(item + 1)));
                self.write("PUT", item, &body);
            }
            Step::Delete { item } => self.write("DELETE", item, &json!(null)),
            Step::Access { user, allowed } => {
                let body = json!({"user": user, "allowed": allowed}).to_string();
                self.send_write("POST", &format!("/s{}", self.schedule), &body);
            }
            Step::BindItems { client, state } => {
                let message = json!({
                    "event": "bind", "uri": self.uri(0), "version": null, "items": true, "state": state,
                });
                self.clients[client].items = Some(state);
                self.clients[client].request(message, Pending::Bind(0));
            }
            Step::Bind { client, target, ttl } => {
                let uri = self.uri(target);
                self.clients[client].bind(target, &uri, ttl);
            }
            Step::Show { client, target } => {
                let message = json!({"event": "show", "uri": self.uri(target)});
                self.clients[client].request(message, Pending::Show(target));
            }
            Step::Unbind { client, target } => {
                let client = &mut self.clients[client];
                // Its answers first, so that what was asked before does not bind again.
                if client.pending.is_empty() {
                    let message = json!({"event": "unbind", "uri": uri(self.schedule, target)});
                    client.request(message, Pending::Unbind(target));
                    client.read(self.schedule);
                }
            }
            Step::Reconnect { client } => self.reconnect(client),
            Step::Auth { client, user } => {
                let client = &mut self.clients[client];
                client.next_user = Some(user);
                let message = json!({"event": "auth", "data": {"token": token(user)}});
                client.request(message, Pending::Auth(user));
                client.read(self.schedule);
            }
            Step::SlowGet { target } => self.world.api.hold(&format!("GET {}", self.uri(target))),
            Step::Fail { gets, reset } => {
                let mut truths = self.world.truths.lock().unwrap();
                let truth = truths.entry(self.schedule).or_default();
                (truth.failing, truth.reset) = (gets, reset);
            }
            Step::Release => self.world.api.release(),
            Step::Read { client } => self.clients[client].read(self.schedule),
            Step::Follow { follower, target } => {
                let path = self.uri(target);
                self.followers[follower].follow(self.world.pogo(self.schedule), path);
            }
            Step::Look { follower } => self.look(follower),
        }
    }

    fn write(&mut self, method: &str, item: usize, body: &Value) {
        let path = self.uri(item + 1);
        self.send_write(method, &path, &body.to_string());
    }

    fn send_write(&mut self, method: &str, path: &str, body: &str) {
        self.writes.push(self.world.pogo(self.schedule).ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )));
    }

    fn look(&mut self, follower: usize) {
        let follower = &mut self.followers[follower];
        follower.look();
        follower.come_back(self.world.pogo(self.schedule));
        check_canaries(follower);
    }

    fn reconnect(&mut self, client: usize) {
        let schedule = self.schedule;
        let old = &mut self.clients[client];
        old.read(schedule);
        let user = old.next_user.unwrap_or(old.user);
        let held = std::mem::take(&mut old.bound);
        let mut new = Client::open(self.world.pogo(schedule), old.manner, user);
        for (target, held) in held {
            let version = json!(held.version);
            let mut message = json!({"event": "bind", "uri": uri(schedule, target), "version": version, "delta": new.manner.delta});
            if let Some(state) = old.items.filter(|_| target == 0) {
                message["items"] = json!(true);
                message["state"] = json!(state);
                new.items = old.items;
            }
            new.request(message, Pending::Bind(target));
            new.returning.insert(target, held);
        }
        self.clients[client] = new;
    }

    /// Everything is let go, answered and read.
    fn come_to_rest(&mut self) -> Result<(), TestCaseError> {
        let schedule = self.schedule;
        if let Some(truth) = self.world.truths.lock().unwrap().get_mut(&schedule) {
            truth.failing = 0;
        }
        let begin = Instant::now();
        loop {
            self.world.api.be_calm();
            self.world.api.release();
            self.writes.retain_mut(|wire| !wire.has_answer());
            self.clients.iter_mut().for_each(|client| client.read(schedule));
            let answered = self.writes.is_empty()
                && self.clients.iter().all(|client| client.pending.is_empty());
            let differing = self.differing();
            if answered && differing.is_empty() {
                return self.followers_come_to_rest();
            }
            if begin.elapsed() > PATIENCE {
                return Err(TestCaseError::fail(format!(
                    "not at rest: {} writes unanswered, {:?}",
                    self.writes.len(),
                    differing
                )));
            }
            std::thread::yield_now();
        }
    }

    /// When nothing more is written: each knows what there is.
    fn followers_come_to_rest(&mut self) -> Result<(), TestCaseError> {
        for follower in &mut self.followers {
            let Some(target) = (0..TARGETS).find(|it| follower.follows(&uri(self.schedule, *it)))
            else {
                continue;
            };
            let truths = self.world.truths.lock().unwrap();
            let (status, body) = truths[&self.schedule].get(follower.user, target.checked_sub(1));
            drop(truths);
            let outcome = follower.come_to(self.world.pogo(self.schedule), status, &body);
            check_canaries(follower);
            NEWS.fetch_add(follower.news, Ordering::Relaxed);
            outcome.map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    /// Every client that does not hold what a GET with its credential answers.
    fn differing(&self) -> Vec<String> {
        let truths = self.world.truths.lock().unwrap();
        let nothing = Truth::default();
        let truth = truths.get(&self.schedule).unwrap_or(&nothing);
        let mut differing = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            for (target, held) in &client.bound {
                let (status, body) = truth.get(client.user, target.checked_sub(1));
                let right = match status {
                    200 => held.data.as_ref() == Some(&body),
                    404 => held.data.is_none(),
                    _ => false,
                };
                if !right {
                    differing.push(format!(
                        "client {number} (user {}) holds {held:?} of target {target}, not {status} {body}",
                        client.user
                    ));
                }
            }
        }
        differing
    }
}

fn uri(schedule: u64, target: usize) -> String {
    match target {
        0 => format!("/s{schedule}/items"),
        item => format!("/s{schedule}/items/{}", item - 1),
    }
}

fn check_canaries(follower: &mut Follower) {
    for user in (0..USERS).filter(|user| *user != follower.user) {
        let text = &follower.text;
        assert!(!text.contains(&canary(user)), "user {} received {text}", follower.user);
    }
    follower.text.clear();
}

impl Client {
    fn open(pogo: &Pogo, manner: Manner, user: usize) -> Self {
        Self {
            manner,
            socket: Talk::open(pogo, manner, &token(user)),
            user,
            next_user: None,
            pending: HashMap::new(),
            ids: 0,
            bound: BTreeMap::new(),
            items: None,
            returning: BTreeMap::new(),
        }
    }

    /// Asks for the state, perhaps for a second.
    fn bind(&mut self, target: usize, uri: &str, ttl: bool) {
        if target == 0 {
            self.items = None;
        }
        let delta = self.manner.delta;
        let mut message = json!({"event": "bind", "uri": uri, "version": null, "delta": delta});
        if ttl {
            message["ttl"] = json!(1);
        }
        self.request(message, Pending::Bind(target));
    }

    fn request(&mut self, mut message: Value, pending: Pending) {
        self.ids += 1;
        message["id"] = json!(self.ids);
        self.pending.insert(self.ids, pending);
        self.socket.send(&message);
    }

    /// Takes in everything that was sent up to the answer to a ping.
    fn read(&mut self, schedule: u64) {
        self.ids += 1;
        let ping = self.ids;
        self.socket.send(&json!({"id": ping, "event": "ping"}));
        loop {
            let (message, text, compressed) = self.socket.receive();
            COMPRESSED.fetch_add(u64::from(compressed), Ordering::Relaxed);
            if message["id"] == json!(ping) {
                return;
            }
            self.take(schedule, &message);
            // Nothing of another user may be in what has just come.
            for user in (0..USERS).filter(|user| *user != self.user) {
                assert!(!text.contains(&canary(user)), "user {} received {text}", self.user);
            }
        }
    }

    fn take(&mut self, schedule: u64, message: &Value) {
        if let Some(id) = message["id"].as_u64() {
            let pending = self.pending.remove(&id).expect("an answer to a request");
            return self.take_answer(pending, message);
        }
        let target = (0..TARGETS).find(|target| message["uri"] == json!(uri(schedule, *target)));
        let Some(target) = target else { return };
        let is_asked = |pending: &Pending| matches!(pending, Pending::Bind(it) | Pending::Show(it) if *it == target);
        let is_bound = self.bound.contains_key(&target) || self.pending.values().any(is_asked);
        // A bind that was refused may have ended the binding already.
        let is_in_order = is_bound || message["event"] == "unbind";
        assert!(is_in_order, "told of what is not bound: {message}");
        let version = message["version"].as_str().map(str::to_owned);
        if let Some(item) = message["item"].as_str() {
            return self.take_item(schedule, item, message, version);
        }
        match message["event"].as_str().expect("an event") {
            "update" => {
                let data = Some(message["data"].clone());
                self.bound.insert(target, Held { data, version });
            }
            "patch" => {
                assert!(self.manner.delta, "{message}");
                let held = self.bound.get_mut(&target).expect("a binding");
                assert_eq!(message["from"].as_str(), held.version.as_deref(), "{message}");
                let patch: json_patch::Patch =
                    serde_json::from_value(message["patch"].clone()).expect("a patch");
                let data = held.data.as_mut().expect("something to patch");
                json_patch::patch(data, &patch).expect("a patch that fits");
                held.version = version;
                PATCHES.fetch_add(1, Ordering::Relaxed);
            }
            "delete" => {
                self.bound.insert(target, Held { data: None, version });
            }
            "unbind" => {
                ENDED.fetch_add(u64::from(message["reason"] == "ttl"), Ordering::Relaxed);
                self.bound.remove(&target);
            }
            "stale" | "fresh" => {}
            other => panic!("unexpected event {other}"),
        }
    }

    /// Folds what is told of a member into the collection.
    fn take_item(&mut self, schedule: u64, item: &str, event: &Value, version: Option<String>) {
        let number = item.rsplit('/').next().and_then(|number| number.parse::<u64>().ok());
        // Told before the answer to an unbind.
        let Some(held) = self.bound.get_mut(&0) else { return };
        let list = held.data.as_mut().and_then(|data| data["items"].as_array_mut());
        let list = list.expect("it has items");
        list.retain(|member| member["item"].as_u64() != number);
        if let Some(data) = event.get("data") {
            let at = list.partition_point(|member| member["item"].as_u64() < number);
            list.insert(at, data.clone());
        }
        held.version = version;
        if event["event"] != "delete" && event.get("data").is_none() {
            // It could not be asked for: the client begins anew.
            let message = json!({
                "event": "bind", "uri": uri(schedule, 0), "version": null, "items": true,
            });
            self.items = Some(true);
            self.request(message, Pending::Bind(0));
        }
    }

    fn take_answer(&mut self, pending: Pending, message: &Value) {
        let is_good = message["status"] == "ok";
        match pending {
            Pending::Bind(target) if is_good => {
                let version = message["version"].as_str().map(str::to_owned);
                match message.get("data") {
                    Some(Value::Null) => {
                        self.bound.insert(target, Held { data: None, version });
                    }
                    Some(data) => {
                        self.bound.insert(target, Held { data: Some(data.clone()), version });
                    }
                    // What the client holds is still right.
                    None => {
                        let held = self.returning.get(&target).or(self.bound.get(&target));
                        let held = held.expect("a version was sent").clone();
                        assert_eq!(held.version, version);
                        self.bound.insert(target, held);
                    }
                }
            }
            Pending::Show(target) if is_good => {
                let version = self.bound.get(&target).and_then(|held| held.version.clone());
                // A `show` of what is bound already binds nothing, and may be older than the last
                // event; what a client holds of a binding is what the events say.
                self.bound
                    .entry(target)
                    .or_insert(Held { data: Some(message["data"].clone()), version });
            }
            // Refused, or the API failed: a client that was bound before still is.
            Pending::Bind(target) if message["error"]["http_status"] != 500 => {
                let code = message["error"]["code"].as_str().unwrap_or_default();
                if matches!(code, "unauthorized" | "forbidden") {
                    self.bound.remove(&target);
                }
            }
            Pending::Unbind(target) => {
                assert!(is_good, "{message}");
                self.bound.remove(&target);
            }
            Pending::Auth(user) => {
                assert!(is_good, "{message}");
                (self.user, self.next_user) = (user, None);
            }
            Pending::Bind(_) | Pending::Show(_) | Pending::Other => {}
        }
    }
}

fn run(world: &World, (manners, ways): &Manners, steps: &[Step]) -> Result<(), TestCaseError> {
    let schedule = world.schedules.fetch_add(1, Ordering::SeqCst);
    world.truths.lock().unwrap().insert(schedule, Truth::default());
    let clients = manners.iter().enumerate();
    let clients =
        clients.map(|(client, manner)| Client::open(world.pogo(schedule), *manner, client % USERS));
    let clients = clients.collect();
    let followers = ways.iter().enumerate().map(|(number, way)| {
        let user = number % USERS;
        Follower::new(*way, user, &token(user))
    });
    let followers = followers.collect();
    let mut run = Run { world, schedule, clients, followers, values: 0, writes: Vec::new() };
    for step in steps {
        run.step(step);
    }
    let outcome = run.come_to_rest();
    world.truths.lock().unwrap().remove(&schedule);
    outcome
}

#[test]
fn whatever_happens_clients_converge_and_see_nothing_of_each_other() {
    let writer = || LogLines;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    let world = World::new();
    let config = ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    if let Err(failure) =
        runner.run(&(manners(), steps()), |(manners, steps)| run(&world, &manners, &steps))
    {
        panic!("{failure}");
    }
    let counts = [&PATCHES, &COMPRESSED, &ENDED, &NEWS].map(|count| count.load(Ordering::Relaxed));
    assert!(!counts.contains(&0), "patches, compressed, ended, news: {counts:?}");
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    assert!(log.contains("socket"), "the log was read: {log}");
    for user in 0..USERS {
        assert!(!log.contains(&canary(user)) && !log.contains(&token(user)));
    }
}
