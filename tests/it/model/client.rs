//! A client on a socket: what it has asked for, and what it holds of each of its bindings.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::place::{Place, Space};
use super::talk::{Manner, Talk};
use super::truth::{assert_only_for, token};
use super::{COMPRESSED, ENDED, PATCHES, ROOMS, TOLD};
use crate::harness::Pogo;

/// What a client knows of one of its bindings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) data: Option<Value>,
    version: Option<String>,
}

/// What a request that has no answer yet was.
#[derive(Clone, Copy)]
enum Pending {
    Bind(Place),
    Show(Place),
    Unbind(Place),
    Join,
    Leave(Space),
    Auth(usize),
    Write,
}

impl Pending {
    fn place(self) -> Option<Place> {
        match self {
            Self::Bind(place) | Self::Show(place) | Self::Unbind(place) => Some(place),
            Self::Join | Self::Leave(_) | Self::Auth(_) | Self::Write => None,
        }
    }
}

pub(super) struct Client {
    schedule: u64,
    socket: Talk,
    manner: Manner,
    /// It has joined both.
    rooms: [Space; ROOMS],
    pub(super) user: usize,
    /// The user that `auth` was sent for and not answered yet.
    next_user: Option<usize>,
    pending: HashMap<u64, Pending>,
    ids: u64,
    pub(super) bound: BTreeMap<Place, Held>,
    /// Where it is told of the collection's members, and whether of its states too.
    items: BTreeMap<Space, bool>,
    /// What it held on its previous socket and asked to bind again.
    returning: BTreeMap<Place, Held>,
}

impl Client {
    pub(super) fn open(
        pogo: &Pogo,
        schedule: u64,
        manner: Manner,
        rooms: [Space; ROOMS],
        user: usize,
    ) -> Self {
        let home = rooms[manner.home];
        let mut client = Self {
            schedule,
            socket: Talk::open(pogo, home.name(), manner, &token(user)),
            manner,
            rooms,
            user,
            next_user: None,
            pending: HashMap::new(),
            ids: 0,
            bound: BTreeMap::new(),
            items: BTreeMap::new(),
            returning: BTreeMap::new(),
        };
        // It is in its home already, and may say so again.
        for room in rooms {
            client.request(room, json!({"event": "pogo:connect"}), Pending::Join);
        }
        client
    }

    /// Leaves without a word and returns with the versions it holds.
    pub(super) fn reconnect(&mut self, pogo: &Pogo) {
        self.read();
        let user = self.next_user.unwrap_or(self.user);
        let mut new = Self::open(pogo, self.schedule, self.manner, self.rooms, user);
        for (place, held) in std::mem::take(&mut self.bound) {
            let uri = place.uri(self.schedule);
            let (version, delta) = (json!(held.version), self.manner.delta);
            let mut message =
                json!({"event": "bind", "uri": uri, "version": version, "delta": delta});
            let items = self.items.get(&place.space).copied();
            if let Some(state) = items.filter(|_| place == Place::collection(place.space)) {
                message["items"] = json!(true);
                message["state"] = json!(state);
                new.items.insert(place.space, state);
            }
            new.request(place.space, message, Pending::Bind(place));
            new.returning.insert(place, held);
        }
        *self = new;
    }

    /// Asks for the state, perhaps for a second.
    pub(super) fn bind(&mut self, place: Place, ttl: bool) {
        if place == Place::collection(place.space) {
            self.items.remove(&place.space);
        }
        let (uri, delta) = (place.uri(self.schedule), self.manner.delta);
        let mut message = json!({"event": "bind", "uri": uri, "version": null, "delta": delta});
        if ttl {
            message["ttl"] = json!(1);
        }
        self.request(place.space, message, Pending::Bind(place));
    }

    /// Asks for what becomes of the collection's members, and perhaps for its state.
    pub(super) fn bind_items(&mut self, space: Space, state: bool) {
        let place = Place::collection(space);
        let uri = place.uri(self.schedule);
        let message = json!({
            "event": "bind", "uri": uri, "version": null, "items": true, "state": state,
        });
        self.items.insert(space, state);
        self.request(space, message, Pending::Bind(place));
    }

    pub(super) fn show(&mut self, place: Place) {
        let message = json!({"event": "show", "uri": place.uri(self.schedule)});
        self.request(place.space, message, Pending::Show(place));
    }

    /// If nothing is being asked, so that what was asked before does not bind again.
    pub(super) fn unbind(&mut self, place: Place) {
        if self.is_answered() {
            let message = json!({"event": "unbind", "uri": place.uri(self.schedule)});
            self.request(place.space, message, Pending::Unbind(place));
            self.read();
        }
    }

    /// Nobody leaves `/`; elsewhere, as [`Client::unbind`].
    pub(super) fn rejoin(&mut self, space: Space) {
        self.read();
        if space != Space::Root && self.is_answered() {
            self.request(space, json!({"event": "pogo:disconnect"}), Pending::Leave(space));
            self.request(space, json!({"event": "pogo:connect"}), Pending::Join);
            self.read();
        }
    }

    pub(super) fn authenticate(&mut self, space: Space, user: usize) {
        self.next_user = Some(user);
        let message = json!({"event": "auth", "data": {"token": token(user)}});
        self.request(space, message, Pending::Auth(user));
        self.read();
    }

    pub(super) fn write(&mut self, place: Place, data: &Value) {
        let uri = place.uri(self.schedule);
        let message = json!({"event": "update", "uri": uri, "data": data, "bind": false});
        self.request(place.space, message, Pending::Write);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.pending.is_empty()
    }

    /// At home the namespace need not be named.
    fn request(&mut self, space: Space, mut message: Value, pending: Pending) {
        self.ids += 1;
        message["id"] = json!(self.ids);
        if space != self.rooms[self.manner.home] {
            message["namespace"] = json!(space.name());
        }
        self.pending.insert(self.ids, pending);
        self.socket.send(&message);
    }

    /// Takes in everything that was sent up to the answer to a ping.
    pub(super) fn read(&mut self) {
        self.ids += 1;
        let ping = self.ids;
        self.socket.send(&json!({"id": ping, "event": "ping"}));
        loop {
            let (message, text, compressed) = self.socket.receive();
            COMPRESSED.fetch_add(u64::from(compressed), Ordering::Relaxed);
            if message["id"] == json!(ping) {
                return;
            }
            let place = self.take(&message);
            assert_only_for(self.user, place.map(|place| place.space.side()), &text);
        }
    }

    /// What it is about, if it is about something.
    fn take(&mut self, message: &Value) -> Option<Place> {
        if let Some(id) = message["id"].as_u64() {
            let pending = self.pending.remove(&id).expect("an answer to a request");
            self.take_answer(pending, message);
            return pending.place();
        }
        let place = Place::of(message, self.schedule)?;
        TOLD[place.space as usize].fetch_add(1, Ordering::Relaxed);
        self.take_event(place, message);
        Some(place)
    }

    fn take_event(&mut self, place: Place, message: &Value) {
        let is_asked = |pending: &Pending| matches!(pending, Pending::Bind(it) | Pending::Show(it) if *it == place);
        let is_bound = self.bound.contains_key(&place) || self.pending.values().any(is_asked);
        // A bind that was refused may have ended the binding already.
        let is_in_order = is_bound || message["event"] == "unbind";
        assert!(is_in_order, "told of what is not bound: {message}");
        let version = message["version"].as_str().map(str::to_owned);
        if let Some(item) = message["item"].as_str() {
            return self.take_item(place, item, message, version);
        }
        match message["event"].as_str().expect("an event") {
            "update" => {
                let data = Some(message["data"].clone());
                self.bound.insert(place, Held { data, version });
            }
            "patch" => {
                assert!(self.manner.delta, "{message}");
                let held = self.bound.get_mut(&place).expect("a binding");
                assert_eq!(message["from"].as_str(), held.version.as_deref(), "{message}");
                let patch: json_patch::Patch =
                    serde_json::from_value(message["patch"].clone()).expect("a patch");
                let data = held.data.as_mut().expect("something to patch");
                json_patch::patch(data, &patch).expect("a patch that fits");
                held.version = version;
                PATCHES.fetch_add(1, Ordering::Relaxed);
            }
            "delete" => {
                self.bound.insert(place, Held { data: None, version });
            }
            "unbind" => {
                ENDED.fetch_add(u64::from(message["reason"] == "ttl"), Ordering::Relaxed);
                self.bound.remove(&place);
            }
            "stale" | "fresh" => {}
            other => panic!("unexpected event {other}"),
        }
    }

    /// Folds what is told of a member into the collection.
    fn take_item(&mut self, place: Place, item: &str, event: &Value, version: Option<String>) {
        let number = item.rsplit('/').next().and_then(|number| number.parse::<u64>().ok());
        // Told before the answer to an unbind.
        let Some(held) = self.bound.get_mut(&place) else { return };
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
            self.bind_items(place.space, true);
        }
    }

    fn take_answer(&mut self, pending: Pending, message: &Value) {
        let is_good = message["status"] == "ok";
        match pending {
            Pending::Bind(place) if is_good => {
                let version = message["version"].as_str().map(str::to_owned);
                match message.get("data") {
                    Some(Value::Null) => {
                        self.bound.insert(place, Held { data: None, version });
                    }
                    Some(data) => {
                        self.bound.insert(place, Held { data: Some(data.clone()), version });
                    }
                    // What the client holds is still right.
                    None => {
                        let held = self.returning.get(&place).or(self.bound.get(&place));
                        let held = held.expect("a version was sent").clone();
                        assert_eq!(held.version, version);
                        self.bound.insert(place, held);
                    }
                }
            }
            Pending::Show(place) if is_good => {
                let version = self.bound.get(&place).and_then(|held| held.version.clone());
                // A `show` of what is bound already binds nothing, and may be older than the last
                // event; what a client holds of a binding is what the events say.
                self.bound
                    .entry(place)
                    .or_insert(Held { data: Some(message["data"].clone()), version });
            }
            // Refused, or the API failed: a client that was bound before still is.
            Pending::Bind(place) if message["error"]["http_status"] != 500 => {
                let code = message["error"]["code"].as_str().unwrap_or_default();
                if matches!(code, "unauthorized" | "forbidden") {
                    self.bound.remove(&place);
                }
            }
            Pending::Unbind(place) => {
                assert!(is_good, "{message}");
                self.bound.remove(&place);
            }
            Pending::Leave(space) => {
                assert!(is_good, "{message}");
                self.bound.retain(|place, _| place.space != space);
                self.items.remove(&space);
            }
            Pending::Auth(user) => {
                assert!(is_good, "{message}");
                (self.user, self.next_user) = (user, None);
            }
            Pending::Join => assert!(is_good, "{message}"),
            Pending::Bind(_) | Pending::Show(_) | Pending::Write => {}
        }
    }
}
