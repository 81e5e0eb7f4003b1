//! What a session does on channels, in the order in which it says so.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Session;
use super::membership::Subscription;
use crate::channel::{
    self, Arrival, Denied, Found, Gap, Listed, Permit, Published, Right, Rule, Said,
};
use crate::protocol::{ErrorCode, Message, Outgoing, Problem, Status};

/// What a member may say of itself, in bytes.
const MEMBER_BYTES: usize = 1024;

impl Session {
    /// Does what the message says as soon as it may; after what was to be done on its channel before.
    pub(super) fn on_channel(&self, message: Message) {
        let Some(channel) = message.channel.as_deref() else {
            let problem = Problem::new(ErrorCode::BadRequest, "\"channel\" must be given");
            return self.refuse(message.id.as_deref(), &problem);
        };
        let waits = self.channels.has_lane(channel);
        if !waits && let Some(answer) = self.answer_at_hand(&message) {
            return match answer {
                Ok(()) => self.act(message),
                Err(problem) => self.refuse(message.id.as_deref(), &problem),
            };
        }
        if !self.begin_call(message.id.as_deref()) {
            return;
        }
        let channel = channel.to_owned();
        if waits {
            return self.channels.queue(&channel, message);
        }
        let Some(me) = self.me.upgrade() else { return };
        self.channels.open_lane(&channel);
        self.sessions.tasks.spawn_local(async move {
            let mut next = Some(message);
            while let Some(message) = next {
                me.settle(message).await;
                next = me.channels.next(&channel);
                me.end_call();
            }
        });
    }

    /// Asks as often as the answer is for another credential than the session's.
    async fn settle(&self, message: Message) {
        loop {
            let viewer = Rc::clone(&self.viewer.borrow());
            let answer = match self.answer_at_hand(&message) {
                Some(answer) => answer,
                None => self.ask_for(&message).await,
            };
            match answer {
                _ if self.closing.get().is_some() => {}
                _ if !Rc::ptr_eq(&viewer, &self.viewer.borrow()) => continue,
                Ok(()) => self.act(message),
                Err(problem) => self.refuse(message.id.as_deref(), &problem),
            }
            return;
        }
    }

    /// What the rules say, or the upstream has said lately.
    fn answer_at_hand(&self, message: &Message) -> Option<Result<(), Problem>> {
        let Some(right) = right_of(message) else { return Some(Ok(())) };
        let services = self.sessions.services();
        let rule = Rule::of(&services.channels, message.channel.as_deref().unwrap_or_default());
        Some(match channel::permit(rule, right, self.authenticated.get()) {
            Ok(Permit::Yes) => Ok(()),
            Ok(Permit::Ask) => return self.known_answer(message),
            Err(Denied::Unauthenticated) => {
                let text = "this channel asks for authentication";
                Err(Problem::new(ErrorCode::Unauthorized, text))
            }
            Err(Denied::Forbidden) => {
                Err(Problem::new(ErrorCode::Forbidden, "this channel does not allow that"))
            }
        })
    }

    fn act(&self, message: Message) {
        match message.event.as_str() {
            "channel:subscribe" | "pogo:subscribe" => self.subscribe(&message),
            "channel:unsubscribe" | "pogo:unsubscribe" => self.unsubscribe(&message),
            "channel:presence" => self.tell_who_is_there(&message),
            _ => self.publish(message),
        }
    }

    fn subscribe(&self, message: &Message) {
        let services = self.sessions.services();
        let name = message.channel.as_deref().unwrap_or_default();
        let rule = Rule::of(&services.channels, name);
        let known = self.channels.find(name);
        let room = self.options().channels;
        let refused = match rule {
            _ if known.is_none() && self.in_all(|session| session.channels.count()) >= room => {
                Some(Problem::new(ErrorCode::LimitExceeded, "too many channels on this socket"))
            }
            Some(rule) if rule.presence => unfit_to_be_shown(message),
            _ if message.presence => Some(Problem::new(ErrorCode::BadRequest, NO_PRESENCE)),
            _ => None,
        };
        if let Some(problem) = refused {
            return self.refuse(message.id.as_deref(), &problem);
        }
        let Some(me) = self.me.upgrade() else { return };
        let found = match rule.filter(|rule| rule.keeps_order()) {
            Some(rule) => match self.arrive(rule, message) {
                Ok(found) => Some(found),
                Err(problem) => return self.refuse(message.id.as_deref(), &problem),
            },
            None => None,
        };
        // From here to the end nothing else happens on this worker, so whatever is heard of what
        // comes after the place where the session arrived is heard by it.
        let is_new = known.is_none();
        let subscription = known.unwrap_or_else(|| {
            let join = |name| Rc::new(Subscription::new(name, me));
            let subscription = self.sessions.members.join(name, self.id, join);
            self.channels.add(Rc::clone(&subscription));
            subscription
        });
        subscription.go_by(rule);
        subscription.withheld.set(false);
        subscription.is_shown.set(rule.is_some_and(|rule| rule.presence));
        self.plan_recheck();
        if let Some(found) = &found {
            if is_new || found.missed.is_some() {
                subscription.from.set(found.place);
            }
            if message.presence {
                subscription.watches.set(Some(found.place));
            }
        }
        self.answer_subscribe(message, &subscription, found.as_ref());
    }

    fn arrive(&self, rule: &Rule, message: &Message) -> Result<Found, Problem> {
        let data = message.data.as_deref().filter(|data| data.get() != "null");
        let arrival = Arrival {
            channel: message.channel.as_deref().unwrap_or_default(),
            member: rule.presence.then(|| self.as_member(rule, data)),
            since: message.since.as_ref().map(Option::as_deref),
            history: rule.history.as_ref(),
        };
        self.sessions.hub.arrive(arrival).map_err(|channel::Full| {
            Problem::new(ErrorCode::Unavailable, "too much is told of who is there")
        })
    }

    fn answer_subscribe(
        &self,
        message: &Message,
        subscription: &Subscription,
        found: Option<&Found>,
    ) {
        let missed = found.and_then(|found| found.missed.as_ref());
        if message.id.is_some() {
            let here = found.filter(|_| message.presence).map(|found| &found.here);
            let listed = here.and_then(|here| self.listed(&here.members));
            self.send(&Outgoing {
                id: message.id.as_deref(),
                status: Some(Status::Ok),
                data: listed.as_deref(),
                offset: missed.and_then(|(_, offset)| offset.as_deref()),
                count: here.map(|here| here.count),
                ..Outgoing::default()
            });
        }
        let gap = match missed {
            Some((replay, _)) => replay.gap,
            // Nothing is kept, so nobody can say what came after what the client knows.
            None if matches!(message.since, Some(Some(_))) => Gap::Unknown,
            None => return,
        };
        self.outbox.forget_channel(&subscription.channel);
        let lost = Outgoing {
            event: Some("channel:lost"),
            channel: Some(&subscription.channel),
            ..Outgoing::default()
        };
        match gap {
            Gap::None => {}
            Gap::Of(count) => self.send(&Outgoing { count: Some(count), ..lost }),
            Gap::Unknown => self.send(&lost),
        }
        // What is replayed is not bounded by the outbox but by the history, and shared by all to
        // whom it is: a session that has much of it unsent is not read.
        for published in missed.iter().flat_map(|(replay, _)| &replay.events) {
            self.push(published.frame(self.outbox.dialect));
            self.sessions.hub.metrics().channel_events.add(1);
        }
    }

    fn listed(&self, members: &[Arc<channel::Member>]) -> Option<Box<RawValue>> {
        let me = self.member_id();
        serde_json::value::to_raw_value(&Listed {
            me: &me,
            members: members.iter().map(|member| &**member).collect(),
        })
        .ok()
    }

    fn unsubscribe(&self, message: &Message) {
        self.leave_channel(message.channel.as_deref().unwrap_or_default());
        self.acknowledge(message.id.as_deref());
    }

    /// Nothing of the channel follows.
    pub(super) fn leave_channel(&self, channel: &str) {
        let Some(subscription) = self.channels.remove(channel) else { return };
        self.depart(&subscription);
        self.outbox.forget_channel(channel);
    }

    /// Has the others know that the session is not on this channel any more.
    pub(super) fn depart(&self, subscription: &Subscription) {
        self.sessions.members.leave(&subscription.channel, self.id);
        if subscription.is_shown.replace(false) {
            self.sessions.hub.depart(&subscription.channel, self.id);
        }
    }

    fn tell_who_is_there(&self, message: &Message) {
        let name = message.channel.as_deref().unwrap_or_default();
        let problem = match self.channels.find(name) {
            Some(subscription) if subscription.withheld.get() => {
                Problem::new(ErrorCode::Forbidden, "nobody knows whether this may be told")
            }
            None => Problem::new(ErrorCode::Forbidden, "only subscribers are told who is there"),
            Some(subscription) if !subscription.is_shown.get() => {
                Problem::new(ErrorCode::BadRequest, NO_PRESENCE)
            }
            Some(subscription) => {
                let (place, here) = self.sessions.hub.here(name);
                if subscription.watches.get().is_some() {
                    subscription.watches.set(Some(place));
                }
                return self.send(&Outgoing {
                    id: message.id.as_deref(),
                    status: Some(Status::Ok),
                    data: self.listed(&here.members).as_deref(),
                    count: Some(here.count),
                    ..Outgoing::default()
                });
            }
        };
        self.refuse(message.id.as_deref(), &problem);
    }

    fn publish(&self, message: Message) {
        let services = self.sessions.services();
        let channel: Arc<str> = message.channel.as_deref().unwrap_or_default().into();
        let rule = Rule::of(&services.channels, &channel);
        let but = Some(self.id).filter(|_| !rule.is_some_and(|rule| rule.echo));
        let said = Said { name: message.event, data: message.data, packed: message.packed };
        match rule.filter(|rule| rule.keeps_order()) {
            Some(rule) => {
                self.sessions.hub.publish_in_order(&channel, said, but, rule.history.as_ref());
            }
            None => self.sessions.publish(&Published::new(channel, said, but)),
        }
        self.acknowledge(message.id.as_deref());
    }

    /// The session as the others on a channel are shown it.
    pub(super) fn as_member(&self, rule: &Rule, data: Option<&RawValue>) -> channel::Member {
        channel::Member {
            session: self.id,
            id: self.member_id(),
            data: data.map(ToOwned::to_owned),
            subject: self.socket().channels.subject().filter(|_| rule.presence_subject),
        }
    }

    fn member_id(&self) -> Arc<str> {
        let socket = self.socket();
        socket.channels.id(|| socket.sessions.name_for(socket.id))
    }

    /// The session's verified subject is another, or none; those who are shown it are told.
    pub(super) fn set_subject(&self, subject: Option<&str>) {
        if !self.channels.set_subject(subject) {
            return;
        }
        self.show_subject();
        self.parts().iter().for_each(|part| part.show_subject());
    }

    fn show_subject(&self) {
        let services = self.sessions.services();
        for subscription in self.channels.all() {
            let rule = Rule::of(&services.channels, &subscription.channel);
            let rule = rule.filter(|rule| rule.presence_subject && subscription.is_shown.get());
            if rule.is_some() {
                self.sessions.hub.set_subject(
                    &subscription.channel,
                    self.id,
                    self.socket().channels.subject(),
                );
            }
        }
    }
}

const NO_PRESENCE: &str = "this channel does not tell who is there";

fn unfit_to_be_shown(message: &Message) -> Option<Problem> {
    if message.packed.is_some() {
        let text = "what a member says of itself is JSON, in which binary has no form";
        return Some(Problem::new(ErrorCode::BadRequest, text));
    }
    let bytes = message.data.as_ref().map_or(0, |data| data.get().len());
    (bytes > MEMBER_BYTES).then(|| {
        let text = format!("what a member says of itself has at most {MEMBER_BYTES} bytes");
        Problem::new(ErrorCode::TooLarge, text)
    })
}

/// What the message needs; to leave, and to ask who is there, a session needs nothing.
pub(super) fn right_of(message: &Message) -> Option<Right> {
    match message.event.as_str() {
        "channel:subscribe" | "pogo:subscribe" => Some(Right::Subscribe),
        "channel:unsubscribe" | "pogo:unsubscribe" | "channel:presence" => None,
        _ => Some(Right::Publish),
    }
}
