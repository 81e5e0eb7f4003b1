//! One schedule as it runs, and how it comes to rest.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::Client;
use super::follower::Follower;
use super::place::{Place, Space, Target};
use super::step::Step;
use super::truth::{assert_only_for, token};
use super::world::World;
use super::{ENDED, NEWS, ROOMS, Setting, USERS};
use crate::harness::{PATIENCE, Wire};

/// How many bindings are waited for, over all schedules.
const ENDS: u64 = 4;

pub(super) struct Schedule<'w> {
    world: &'w World,
    number: u64,
    /// The namespaces that play a part; perhaps it is twice the same.
    rooms: [Space; ROOMS],
    clients: Vec<Client>,
    /// With what each follows.
    followers: Vec<(Follower, Option<Place>)>,
    values: u64,
    /// Writes that were sent and whose answers have not been read.
    writes: Vec<Wire>,
}

impl<'w> Schedule<'w> {
    pub(super) fn new(world: &'w World, setting: &Setting) -> Self {
        let number = world.schedules.fetch_add(1, Ordering::SeqCst);
        let (pogo, rooms) = (world.pogo(number), setting.rooms);
        let clients = setting.manners.iter().enumerate();
        let clients = clients
            .map(|(client, manner)| Client::open(pogo, number, *manner, rooms, client % USERS));
        let followers = setting.ways.iter().enumerate().map(|(follower, way)| {
            let user = follower % USERS;
            (Follower::new(*way, user, &token(user)), None)
        });
        Self {
            world,
            number,
            rooms,
            clients: clients.collect(),
            followers: followers.collect(),
            values: 0,
            writes: Vec::new(),
        }
    }

    fn place(&self, room: usize, target: Target) -> Place {
        Place::new(self.rooms[room], target)
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { room, item, hidden_from, by_socket } => {
                self.values += 1;
                let body = json!({"value": self.values, "hidden_from": hidden_from});
                if by_socket {
                    let place = self.place(room, Target::Item(item));
                    self.clients[0].write(place, &body);
                } else {
                    self.write("PUT", room, item, &body);
                }
            }
            Step::SlowWrite { room, item } => {
                self.values += 1;
                let body = json!({"value": self.values});
                self.hold("PUT", self.place(room, Target::Item(item)));
                self.write("PUT", room, item, &body);
            }
            Step::Delete { room, item } => self.write("DELETE", room, item, &json!(null)),
            Step::Access { room, user, allowed } => {
                let body = json!({"user": user, "allowed": allowed});
                let path = self.rooms[room].path(&format!("/s{}", self.number));
                self.send_write("POST", &path, &body);
            }
            Step::Bind { client, room, target, ttl } => {
                let place = self.place(room, target);
                self.clients[client].bind(place, ttl);
            }
            Step::BindItems { client, room, state } => {
                self.clients[client].bind_items(self.rooms[room], state);
            }
            Step::Show { client, room, target } => {
                let place = self.place(room, target);
                self.clients[client].show(place);
            }
            Step::Unbind { client, room, target } => {
                let place = self.place(room, target);
                self.clients[client].unbind(place);
            }
            Step::Rejoin { client, room } => self.clients[client].rejoin(self.rooms[room]),
            Step::Reconnect { client } => {
                self.clients[client].reconnect(self.world.pogo(self.number));
            }
            Step::Auth { client, room, user } => {
                self.clients[client].authenticate(self.rooms[room], user);
            }
            Step::SlowGet { room, target } => self.hold("GET", self.place(room, target)),
            Step::Fail { room, gets, reset } => {
                self.world.source(self.rooms[room].side()).fail(self.number, gets, reset);
            }
            Step::Release => {
                self.world.sources().iter().for_each(|source| source.api.release());
            }
            Step::Read { client } => self.clients[client].read(),
            Step::Follow { follower, room, target } => {
                let place = Place::new(self.rooms[room].over_http(), target);
                let (follower, follows) = &mut self.followers[follower];
                *follows = Some(place);
                follower.follow(self.world.pogo(self.number), place.path(self.number));
            }
            Step::Look { follower } => self.look(follower),
        }
    }

    fn hold(&self, method: &str, place: Place) {
        let api = &self.world.source(place.space.side()).api;
        api.hold(&format!("{method} {}", place.uri(self.number)));
    }

    fn write(&mut self, method: &str, room: usize, item: usize, body: &Value) {
        let path = self.place(room, Target::Item(item)).path(self.number);
        self.send_write(method, &path, body);
    }

    fn send_write(&mut self, method: &str, path: &str, body: &Value) {
        let body = body.to_string();
        self.writes.push(self.world.pogo(self.number).ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )));
    }

    fn look(&mut self, follower: usize) {
        let (follower, follows) = &mut self.followers[follower];
        follower.look();
        follower.come_back(self.world.pogo(self.number));
        check_canaries(follower, *follows);
    }

    /// When nothing more is written, everybody holds what is true, and may bind what a GET shows.
    pub(super) fn come_to_rest(&mut self) -> Result<(), TestCaseError> {
        for source in self.world.sources() {
            source.fail(self.number, 0, false);
        }
        self.rest()?;
        let places = self.rooms.map(Place::collection);
        for client in &mut self.clients {
            places.iter().for_each(|place| client.bind(*place, false));
        }
        self.rest()?;
        for (client, place) in self.clients.iter().flat_map(|it| places.map(|place| (it, place))) {
            let source = self.world.source(place.space.side());
            let (status, _) = source.get(self.number, client.user, place.target);
            let is_right = client.bound.contains_key(&place) == (status == 200);
            prop_assert!(is_right, "user {}: {status}, {place:?}", client.user);
        }
        self.followers_come_to_rest()?;
        self.outlast_a_binding()
    }

    /// A schedule is mostly over before a binding of one second has ended by itself. The first ones wait
    /// for one, so that it is seen on a machine of any speed.
    fn outlast_a_binding(&mut self) -> Result<(), TestCaseError> {
        let (place, client) = (Place::collection(self.rooms[0]), &mut self.clients[0]);
        if ENDED.load(Ordering::Relaxed) >= ENDS || !client.bound.contains_key(&place) {
            return Ok(());
        }
        client.bind(place, true);
        let begin = Instant::now();
        while !client.is_answered() || client.bound.contains_key(&place) {
            prop_assert!(begin.elapsed() < PATIENCE, "a binding of a second goes on");
            client.read();
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Everything is let go, answered and read, until nobody holds anything else than there is.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        let begin = Instant::now();
        loop {
            for source in self.world.sources() {
                source.api.be_calm();
                source.api.release();
            }
            self.writes.retain_mut(|wire| !wire.has_answer());
            self.clients.iter_mut().for_each(Client::read);
            let answered = self.writes.is_empty() && self.clients.iter().all(Client::is_answered);
            let differing = self.differing();
            if answered && differing.is_empty() {
                return Ok(());
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

    /// Each knows what there is.
    fn followers_come_to_rest(&mut self) -> Result<(), TestCaseError> {
        for (follower, follows) in &mut self.followers {
            let Some(place) = *follows else { continue };
            let source = self.world.source(place.space.side());
            let (status, body) = source.get(self.number, follower.user, place.target);
            let outcome = follower.come_to(self.world.pogo(self.number), status, &body);
            check_canaries(follower, *follows);
            NEWS.fetch_add(follower.news, Ordering::Relaxed);
            outcome.map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    /// Every client that does not hold what a GET with its credential answers.
    fn differing(&self) -> Vec<String> {
        let mut differing = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            for (place, held) in &client.bound {
                let source = self.world.source(place.space.side());
                let (status, body) = source.get(self.number, client.user, place.target);
                let right = match status {
                    200 => held.data.as_ref() == Some(&body),
                    404 => held.data.is_none(),
                    _ => false,
                };
                if !right {
                    differing.push(format!(
                        "client {number} (user {}) holds {held:?} of {place:?}, not {status} {body}",
                        client.user
                    ));
                }
            }
        }
        differing
    }
}

impl Drop for Schedule<'_> {
    fn drop(&mut self) {
        self.world.sources().iter().for_each(|source| source.forget(self.number));
    }
}

fn check_canaries(follower: &mut Follower, follows: Option<Place>) {
    let side = follows.map(|place| place.space.side());
    assert_only_for(follower.user, side, &follower.text);
    follower.text.clear();
}
