//! What is true at an API: for each schedule its items, and who may see what of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::USERS;
use super::place::{Side, Target};
use crate::harness::{Api, Reply, Seen};

pub(super) fn token(user: usize) -> String {
    format!("secret-of-user-{user}")
}

/// Stands in each answer of that API to that user, and in no other.
pub(super) fn canary(side: Side, user: usize) -> String {
    format!("canary-{side:?}-{user}-canary")
}

/// Nothing that is for others, or of another API than what this is about, may be in it.
#[track_caller]
pub(super) fn assert_only_for(user: usize, side: Option<Side>, text: &str) {
    for other in 0..USERS {
        for of in Side::ALL {
            let may_be_there = other == user && side == Some(of);
            let is_there = text.contains(&canary(of, other));
            assert!(may_be_there || !is_there, "user {user} received of {side:?}: {text}");
        }
    }
}

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

/// An API, with a truth for each schedule.
pub(super) struct Source {
    pub(super) api: Api,
    side: Side,
    truths: Arc<Mutex<HashMap<u64, Truth>>>,
}

impl Source {
    pub(super) fn start(side: Side) -> Self {
        let api = Api::start();
        let truths: Arc<Mutex<HashMap<u64, Truth>>> = Arc::default();
        let answering = Arc::clone(&truths);
        api.on("", move |seen, _| answer(&mut answering.lock().unwrap(), side, seen));
        Self { api, side, truths }
    }

    fn with<T>(&self, schedule: u64, look: impl FnOnce(&mut Truth) -> T) -> T {
        look(self.truths.lock().unwrap().entry(schedule).or_default())
    }

    /// What a GET is answered with when nothing fails.
    pub(super) fn get(&self, schedule: u64, user: usize, target: Target) -> (u16, Value) {
        self.with(schedule, |truth| truth.get(self.side, user, target))
    }

    /// The next GETs fail.
    pub(super) fn fail(&self, schedule: u64, gets: usize, reset: bool) {
        self.with(schedule, |truth| (truth.failing, truth.reset) = (gets, reset));
    }

    pub(super) fn forget(&self, schedule: u64) {
        self.truths.lock().unwrap().remove(&schedule);
    }
}

fn answer(truths: &mut HashMap<u64, Truth>, side: Side, seen: &Seen) -> Option<Reply> {
    let (schedule, target) = Target::of(&seen.target)?;
    let truth = truths.entry(schedule).or_default();
    if seen.method == "GET" {
        if truth.failing > 0 {
            truth.failing -= 1;
            return (!truth.reset).then(|| Reply::new(500, &json!({"oops": true})));
        }
        let token_of = seen.header("authorization")?.strip_prefix("Bearer ")?;
        let user = (0..USERS).find(|user| token(*user) == token_of)?;
        let (status, body) = truth.get(side, user, target);
        return Some(Reply::new(status, &body));
    }
    match (seen.method.as_str(), target) {
        ("PUT", Target::Item(item)) => {
            let value = seen.body["value"].as_u64()?;
            let hidden_from = seen.body["hidden_from"].as_u64().map(|user| user as usize);
            truth.items.insert(item, Item { value, hidden_from });
        }
        ("DELETE", Target::Item(item)) => {
            truth.items.remove(&item);
        }
        ("POST", Target::Collection) => {
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
    fn get(&self, side: Side, user: usize, target: Target) -> (u16, Value) {
        if self.locked_out.contains(&user) {
            return (if user == 0 { 401 } else { 403 }, json!({"detail": "no"}));
        }
        // Long enough for a patch to be worth its while.
        let long = "what all of them say and no patch has to say again ".repeat(3);
        let show = |number: &usize, item: &Item| json!({"item": number, "value": item.value, "for": canary(side, user), "long": long});
        let visible = |item: &Item| item.hidden_from != Some(user);
        let items = self.items.iter().filter(|(_, item)| visible(item));
        match target {
            Target::Collection => {
                let items: Vec<_> = items.map(|(number, item)| show(number, item)).collect();
                (200, json!({"for": canary(side, user), "items": items}))
            }
            Target::Digest => {
                let sum: u64 = items.map(|(number, item)| item.value << number).sum();
                (200, json!({"for": canary(side, user), "sum": sum}))
            }
            Target::Item(number) => match self.items.get(&number).filter(|item| visible(item)) {
                Some(item) => (200, show(&number, item)),
                None => (404, json!({"detail": "not found"})),
            },
        }
    }
}
