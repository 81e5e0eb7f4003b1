//! What each client event does.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::calls::{Call, Verb};
use super::{MAX_STRIKES, Session};
use crate::gate::Action;
use crate::handlers;
use crate::hub::Unbound;
use crate::hub::items::Shows;
use crate::hub::mirror::{Ask, Binding, Owner, Purpose};
use crate::protocol::codec::Malformed;
use crate::protocol::{Close, ErrorCode, Message, Outgoing, Problem, Status};
use crate::uri::Uri;
use crate::view::items::Reading;
use crate::view::{Content, End, State, Verdict};

/// Messages over the rate, in a row, after which the socket is closed.
const MAX_OVER_RATE: u32 = 64;

impl Session {
    /// One message.
    pub(super) fn handle(&self, decoded: Result<Message, Malformed>) {
        self.sessions.hub.metrics().messages.add(1);
        let viewer = Rc::clone(&self.viewer.borrow());
        if let Err(problem) = self.pay(Action::Message, &viewer) {
            self.strikes.set(self.strikes.get() + 1);
            if self.strikes.get() > MAX_OVER_RATE {
                return self.close(&Close::RateLimited);
            }
            let id =
                decoded.as_ref().map_or_else(|bad| bad.id.as_deref(), |good| good.id.as_deref());
            return self.refuse(id, &problem);
        }
        match decoded {
            Ok(message) => {
                self.strikes.set(0);
                self.dispatch(message);
            }
            Err(malformed) => {
                self.strikes.set(self.strikes.get() + 1);
                self.refuse(malformed.id.as_deref(), &malformed.problem);
                if self.strikes.get() >= MAX_STRIKES {
                    self.abuse(&Close::Abuse);
                }
            }
        }
    }

    fn dispatch(&self, message: Message) {
        let open_to_all = matches!(message.event.as_str(), "ping" | "auth");
        if !open_to_all && self.must_authenticate() {
            let problem = Problem::new(ErrorCode::Unauthorized, "authenticate first");
            return self.refuse(message.id.as_deref(), &problem);
        }
        if let Some(message) = self.in_namespace(message) {
            self.heed(message);
        }
    }

    /// A message in the session's own namespace.
    pub(super) fn heed(&self, message: Message) {
        match (message.event.as_str(), message.channel.is_some(), message.uri.is_some()) {
            (
                "channel:subscribe"
                | "pogo:subscribe"
                | "channel:unsubscribe"
                | "pogo:unsubscribe"
                | "channel:presence",
                ..,
            ) => self.on_channel(message),
            // Before publishing: these two are open to all, and a token is for nobody else.
            ("ping", ..) => self.acknowledge(message.id.as_deref()),
            ("auth", ..) => self.auth(message),
            (event, ..) if handlers::is_reserved(event) => self.refuse_unknown(&message),
            (_, true, false) => self.on_channel(message),
            ("bind", ..) => self.bind(message),
            ("unbind", ..) => self.unbind(&message),
            ("index" | "show", ..) => self.rest(Verb::Read, message),
            ("create", ..) => self.rest(Verb::Create, message),
            ("update", ..) => self.rest(Verb::Update, message),
            ("delete", ..) => self.rest(Verb::Delete, message),
            (_, true, true) => self.on_channel(message),
            _ => self.custom(message),
        }
    }

    pub(super) fn refuse_unknown(&self, message: &Message) {
        let problem = Problem::new(ErrorCode::UnknownEvent, "there is no such event");
        self.refuse(message.id.as_deref(), &problem);
    }

    pub(super) fn refuse(&self, id: Option<&RawValue>, problem: &Problem) {
        self.send(&Outgoing {
            id,
            status: Some(Status::Error),
            error: Some(problem),
            ..Outgoing::default()
        });
    }

    /// A request without `id` gets no `ok`.
    pub(super) fn acknowledge(&self, id: Option<&RawValue>) {
        if id.is_some() {
            self.send(&Outgoing { id, status: Some(Status::Ok), ..Outgoing::default() });
        }
    }

    /// The message's URI and the spelling it came in; refused if there is none.
    fn uri_of(&self, message: &Message) -> Option<Uri> {
        let parsed = match message.uri.as_deref() {
            Some(text) => Uri::parse(text).map_err(|error| error.to_string()),
            None => Err("\"uri\" must be given".to_owned()),
        };
        parsed
            .map_err(|error| {
                let problem = Problem::new(ErrorCode::BadRequest, error);
                self.refuse(message.id.as_deref(), &problem);
            })
            .ok()
    }

    fn rest(&self, verb: Verb, message: Message) {
        if message.packed.is_some() && verb != Verb::Read {
            let text = "the API is sent JSON, in which binary has no form";
            let problem = Problem::new(ErrorCode::BadRequest, text);
            return self.refuse(message.id.as_deref(), &problem);
        }
        if let Some(uri) = self.uri_of(&message) {
            let viewer = Rc::clone(&self.viewer.borrow());
            self.call(Call { verb, uri, message, viewer });
        }
    }

    fn bind(&self, message: Message) {
        let Some(uri) = self.uri_of(&message) else { return };
        let shows = match (message.items, message.state.unwrap_or(true)) {
            (false, true) => Shows::State,
            (true, true) => Shows::StateAndItems,
            (true, false) => Shows::Items,
            (false, false) => {
                let text = "without the state there are only items: \"items\" must be true";
                let problem = Problem::new(ErrorCode::BadRequest, text);
                return self.refuse(message.id.as_deref(), &problem);
            }
        };
        let viewer = self.viewer();
        let paid = self.pay(Action::Bind, &viewer).and_then(|()| match viewer.credentials() {
            [] => Ok(()),
            _ => self.may_authenticate(),
        });
        if let Err(problem) = paid {
            return self.refuse(message.id.as_deref(), &problem);
        }
        let spelling = message.uri.as_deref().unwrap_or_default();
        let (binding, is_new) = match self.binding(uri, spelling) {
            Ok(found) => found,
            Err(problem) => return self.refuse(message.id.as_deref(), &problem),
        };
        let id = message.id.clone();
        // Who is to be told what changed must know of what.
        let version = message.version.or(message.delta.filter(|delta| *delta).map(|_| None));
        let (delta, ttl) = (message.delta, message.ttl);
        let ask = Ask { id: message.id, version, delta, ttl, shows };
        let purpose = Purpose::Bind(Box::new(ask));
        let hub = &self.sessions.hub;
        if let Err(unbound) = hub.wait(&binding, self.client(), purpose) {
            if is_new {
                hub.leave(&binding);
                self.drop_binding(&binding);
            }
            self.refuse(id.as_deref(), &unbound_problem(unbound));
        }
    }

    /// The session's binding to `uri`, made if there is none; true when it was made.
    pub(super) fn binding(&self, uri: Uri, spelling: &str) -> Result<(Rc<Binding>, bool), Problem> {
        let at = match self.find(&uri) {
            Ok(at) => return Ok((Rc::clone(&self.bindings.borrow()[at]), false)),
            Err(at) => at,
        };
        let bound = self.in_all(|session| session.bindings.borrow().len());
        if bound >= self.options().bindings {
            return Err(Problem::new(ErrorCode::LimitExceeded, "too many bindings on this socket"));
        }
        let spelling = (spelling != uri.as_str()).then(|| spelling.into());
        let owner: std::rc::Weak<dyn Owner> = self.me.clone();
        let hub = &self.sessions.hub;
        let binding = hub.binding(uri, spelling, owner).map_err(unbound_problem)?;
        self.bindings.borrow_mut().insert(at, Rc::clone(&binding));
        Ok((binding, true))
    }

    pub(super) fn answer_bind(&self, binding: &Rc<Binding>, ask: &Ask, verdict: &Verdict) {
        let id = ask.id.as_deref();
        match verdict {
            Verdict::Live { state, .. } => self.answer_good_bind(binding, ask, state),
            Verdict::Failed(problem) => {
                // Others may have asked since: the next answer is theirs.
                if !binding.is_wanted() {
                    self.sessions.hub.leave(binding);
                    self.drop_binding(binding);
                }
                self.watch_again(binding);
                self.refuse(id, problem);
            }
            Verdict::Ended(End::Refused(problem) | End::NotBindable(problem)) => {
                if problem.code == ErrorCode::Unauthorized
                    && !self.viewer.borrow().credentials().is_empty()
                {
                    self.bad_credential();
                }
                self.refuse(id, problem);
            }
        }
    }

    fn answer_good_bind(&self, binding: &Rc<Binding>, ask: &Ask, state: &State) {
        let id = ask.id.as_deref();
        let expires = self.begin_life(binding, ask.ttl).filter(|_| ask.ttl.is_some());
        if let Some(delta) = ask.delta {
            self.sessions.hub.set_delta(binding, delta);
        }
        let mut answer = Outgoing { id, status: Some(Status::Ok), expires, ..Outgoing::default() };
        if let Some(known) = &ask.version {
            binding.versioned.set(true);
            let is_known =
                known.as_deref() == Some(&*state.version) && binding.is_told_by_versions(ask.shows);
            // Where no answer will carry the state, the first event does.
            let is_shown = id.is_some() || is_known;
            binding.held.replace(is_shown.then(|| Arc::clone(&state.version)));
            let read = if is_shown { binding.all_read() } else { Reading::NOTHING };
            binding.show(ask.shows, read);
            answer.version = Some(&state.version);
            answer.data = match &state.content {
                _ if is_known => None,
                Content::Data(data) => Some(&*data.0),
                Content::Absent => Some(RawValue::NULL),
                Content::Unseen => None,
            };
        } else {
            // Without a version the client fetches for itself, or has already.
            binding.go_on(ask.shows, &state.version);
        }
        if id.is_some() {
            self.send(&answer);
        }
    }

    fn unbind(&self, message: &Message) {
        let Some(uri) = self.uri_of(message) else { return };
        if let Ok(at) = self.find(&uri) {
            let binding = Rc::clone(&self.bindings.borrow()[at]);
            self.sessions.hub.leave(&binding);
            self.drop_binding(&binding);
            let problem = Problem::new(ErrorCode::Conflict, "unbound before it was answered");
            self.refuse_waiting(&binding, &problem);
        }
        self.acknowledge(message.id.as_deref());
    }

    /// Answers the binds of a binding that is no more.
    pub(super) fn refuse_waiting(&self, binding: &Binding, problem: &Problem) {
        for purpose in binding.give_up() {
            if let Purpose::Bind(ask) = purpose {
                self.refuse(ask.id.as_deref(), problem);
            }
        }
    }
}

pub(super) fn unbound_problem(unbound: Unbound) -> Problem {
    match unbound {
        Unbound::NotRealtime => {
            Problem::new(ErrorCode::NotBindable, "this resource cannot be bound")
        }
        Unbound::Overloaded => Problem::new(ErrorCode::Unavailable, "too many binds are waiting"),
    }
}
