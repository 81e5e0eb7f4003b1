//! The namespaces that a socket has joined.
//!
//! In each it is a *part*: a session of its own, with its own bindings, channels and rules, that has no
//! connection and queues what it sends to the socket's outbox. So what is said of sessions
//! elsewhere holds in every namespace. A socket that never leaves `/` has no parts and no memory
//! for any; what is counted of a socket is counted over all its parts.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Session;
use super::beginning::Beginning;
use super::outbox::Outbox;
use super::registry::Sessions;
use crate::audience::Viewer;
use crate::channel;
use crate::handlers;
use crate::hub::Unbound;
use crate::namespace::{self, Name};
use crate::protocol::{ErrorCode, Format, Message, Outgoing, Problem, Reason, codec};
use crate::route;
use crate::units::Rate;
use crate::upstream;

/// One `[[namespace]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Of `/` there may be handlers and nothing else: the rest is said elsewhere.
    pub name: Name,
    /// Its channels' rules; none are those of `/`.
    pub channels: Option<Vec<channel::Rule>>,
    pub handlers: Vec<handlers::Rule>,
    /// Messages of one address in it, besides what all messages may be.
    pub messages: Option<Rate>,
    /// The API that it is of; none is that of `/`.
    pub upstream: Option<upstream::Options>,
    /// None are those of `/` where it has the API of `/`; with any, its views are its own.
    pub routes: Vec<route::Rule>,
}

impl Options {
    /// A namespace that has nothing of its own.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            channels: None,
            handlers: Vec::new(),
            messages: None,
            upstream: None,
            routes: Vec::new(),
        }
    }
}

/// A namespace on one worker.
#[derive(Clone)]
pub struct Namespace {
    pub name: Rc<Name>,
    /// What its parts use, and those that are in its channels.
    pub sessions: Rc<Sessions>,
}

/// Where a session's messages are queued.
#[allow(clippy::large_enum_variant, reason = "the large one is what nearly every session has")]
pub(super) enum Outlet {
    Own(Outbox),
    /// Of a part, the socket's.
    Of(Rc<Session>),
}

impl Deref for Outlet {
    type Target = Outbox;

    #[inline]
    fn deref(&self) -> &Outbox {
        match self {
            Self::Own(outbox) => outbox,
            Self::Of(socket) => &socket.outbox,
        }
    }
}

/// A custom event, and who the session was when it came.
pub(super) struct Custom {
    pub(super) message: Message,
    pub(super) viewer: Rc<Viewer>,
}

/// What only sessions have that use namespaces or handlers.
#[derive(Default)]
pub(super) struct Extra {
    /// Of a part.
    name: Option<Rc<Name>>,
    /// Of a socket: what its messages mean that name no namespace, if not `/`.
    home: OnceCell<Rc<Name>>,
    parts: RefCell<Vec<Rc<Session>>>,
    /// Events that wait for their handler, by name; of one name one after the other.
    pub(super) lanes: RefCell<Vec<(Arc<str>, VecDeque<Custom>)>>,
}

impl Session {
    pub(super) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    /// The namespace that this is a part in; none is `/`.
    pub(super) fn namespace_name(&self) -> Option<&Rc<Name>> {
        self.extra.get().and_then(|extra| extra.name.as_ref())
    }

    /// Events say in which namespace they are; answers need not.
    pub(super) fn encode(&self, message: &Outgoing<'_>, format: Format) -> Bytes {
        match self.namespace_name().filter(|_| message.event.is_some()) {
            None => codec::encode(message, format),
            Some(name) => {
                let namespace = Some(name.as_str());
                codec::encode(&Outgoing { namespace, ..message.clone() }, format)
            }
        }
    }

    /// The session that has the connection.
    #[inline]
    pub(super) fn socket(&self) -> &Session {
        match &self.outbox {
            Outlet::Own(_) => self,
            Outlet::Of(socket) => socket,
        }
    }

    /// The socket's parts in other namespaces than `/`.
    pub(super) fn parts(&self) -> Vec<Rc<Session>> {
        let extra = self.socket().extra.get();
        extra.map(|extra| extra.parts.borrow().clone()).unwrap_or_default()
    }

    /// Over all namespaces of the socket.
    pub(super) fn in_all(&self, count: impl Fn(&Session) -> usize) -> usize {
        let of_parts: usize = self.parts().iter().map(|part| count(part)).sum();
        count(self.socket()) + of_parts
    }

    fn part_in(&self, name: &str) -> Option<Rc<Session>> {
        let parts = self.extra.get()?.parts.borrow();
        let found = parts
            .iter()
            .find(|part| part.namespace_name().is_some_and(|namespace| namespace.as_str() == name));
        found.cloned()
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        let services = self.sessions.services();
        services.namespaces.iter().find(|namespace| namespace.name.as_str() == name).cloned()
    }

    /// Opened at the path of this namespace: what names none is said in it.
    pub(super) fn settle_in(&self, home: &str) {
        // It was there when the handshake was answered; if it is gone now, messages are told so.
        let known = self.namespace(home);
        let name = known.as_ref().map(|namespace| Rc::clone(&namespace.name));
        let name = name.or_else(|| Name::new(home).ok().map(Rc::new));
        if let Some(name) = name {
            self.extra().home.get_or_init(|| name);
        }
        if let Some(namespace) = known {
            self.join(&namespace);
        }
    }

    /// Gives the message back if it is for `/`; else it is done with in its namespace.
    pub(super) fn in_namespace(&self, mut message: Message) -> Option<Message> {
        let home = self.extra.get().and_then(|extra| extra.home.get());
        let is_of_pogo = message.event.starts_with("pogo:");
        if message.namespace.is_none() && home.is_none() && !is_of_pogo {
            return Some(message);
        }
        // The socket's, in whatever namespace they are said.
        if matches!(message.event.as_str(), "ping" | "auth") {
            let name = message.namespace.as_deref().unwrap_or(namespace::DEFAULT);
            if name == namespace::DEFAULT || self.namespace(name).is_some() {
                return Some(message);
            }
            self.refuse(message.id.as_deref(), &self.absence(name));
            return None;
        }
        let home = home.map_or(namespace::DEFAULT, |home| home.as_str());
        let name = message.namespace.take().unwrap_or_else(|| home.to_owned());
        match message.event.as_str() {
            "pogo:connect" => self.connect(&name, &message),
            "pogo:disconnect" => self.disconnect(&name, &message),
            _ if name == namespace::DEFAULT => return Some(message),
            _ => match self.part_in(&name) {
                Some(part) => part.take_part(message),
                None => self.refuse(message.id.as_deref(), &self.absence(&name)),
            },
        }
        None
    }

    /// Why a message in a namespace cannot be taken.
    fn absence(&self, name: &str) -> Problem {
        match self.namespace(name) {
            Some(_) => {
                let text = "this namespace was not joined; send \"pogo:connect\" first";
                Problem::new(ErrorCode::Conflict, text)
            }
            None => Problem::new(ErrorCode::NotFound, "there is no such namespace"),
        }
    }

    fn connect(&self, name: &str, message: &Message) {
        if name != namespace::DEFAULT && self.part_in(name).is_none() {
            let Some(namespace) = self.namespace(name) else {
                return self.refuse(message.id.as_deref(), &self.absence(name));
            };
            self.join(&namespace);
        }
        self.acknowledge(message.id.as_deref());
    }

    fn disconnect(&self, name: &str, message: &Message) {
        if name == namespace::DEFAULT {
            let text = "every socket is in \"/\"; close it to leave";
            let problem = Problem::new(ErrorCode::BadRequest, text);
            return self.refuse(message.id.as_deref(), &problem);
        }
        match self.part_in(name) {
            Some(part) => self.leave_part(&part, None),
            None if self.namespace(name).is_none() => {
                return self.refuse(message.id.as_deref(), &self.absence(name));
            }
            None => {}
        }
        self.acknowledge(message.id.as_deref());
    }

    fn join(&self, namespace: &Namespace) {
        let Some(socket) = self.me.upgrade() else { return };
        let part = Session::begin(Beginning {
            id: self.id,
            sessions: Rc::clone(&namespace.sessions),
            connection: None,
            client: self.client.clone(),
            host: self.host.clone(),
            outbox: Outlet::Of(socket),
            extra: OnceCell::from(Box::new(Extra {
                name: Some(Rc::clone(&namespace.name)),
                ..Extra::default()
            })),
            viewer: Rc::clone(&self.viewer.borrow()),
            authenticated: self.authenticated.get(),
        });
        self.extra().parts.borrow_mut().push(part);
    }

    /// Ends all that the part has, and tells the client of each for which reason if there is one.
    /// Requests that are under way are answered; they bind nothing any more.
    fn leave_part(&self, part: &Rc<Session>, reason: Option<Reason>) {
        part.closing.set(Some(Instant::now()));
        let bindings = part.bindings.borrow().clone();
        for binding in bindings {
            match reason {
                Some(reason) => part.end_binding(&binding, Unbound::NotRealtime, reason),
                None => {
                    part.sessions.hub.leave(&binding);
                    part.drop_binding(&binding);
                    let text = "the namespace was left before it was answered";
                    part.refuse_waiting(&binding, &Problem::new(ErrorCode::Conflict, text));
                }
            }
        }
        for subscription in part.channels.take() {
            let channel = &*subscription.channel;
            part.depart(&subscription);
            self.outbox.forget_channel(channel);
            if reason.is_some() {
                let event = Some("channel:unsubscribe");
                let channel = Some(channel);
                self.send(&Outgoing { event, channel, reason, ..Outgoing::default() });
            }
        }
        if reason.is_some() {
            let event = Some("pogo:disconnect");
            let namespace = part.namespace_name().map(|name| name.as_str());
            self.send(&Outgoing { event, namespace, reason, ..Outgoing::default() });
        }
        self.extra().parts.borrow_mut().retain(|other| !Rc::ptr_eq(other, part));
    }

    /// What holds was replaced: parts are looked at again, and those whose namespace is gone end.
    pub(super) fn review_parts(&self) {
        for part in self.parts() {
            let services = self.sessions.services();
            let mut namespaces = services.namespaces.iter();
            if namespaces.any(|namespace| Rc::ptr_eq(&namespace.sessions, &part.sessions)) {
                part.review_bindings();
                part.review_channels();
                part.go_by_other_rules();
                part.plan_recheck();
            } else {
                self.leave_part(&part, Some(Reason::Forbidden));
            }
        }
    }

    /// When the first binding of any namespace ends.
    pub(super) fn first_end_of_all(&self) -> Option<Instant> {
        let parts = self.parts();
        let of_parts = parts.iter().filter_map(|part| part.first_end());
        of_parts.chain(self.first_end()).min()
    }

    /// The socket is closing.
    pub(super) fn release_parts(&self) {
        let Some(extra) = self.extra.get() else { return };
        for part in extra.parts.take() {
            part.closing.set(Some(Instant::now()));
            part.release();
        }
    }

    /// A message in this part's namespace.
    fn take_part(&self, mut message: Message) {
        if let Some(problem) = self.over_the_namespace() {
            return self.refuse(message.id.as_deref(), &problem);
        }
        if let (Some(channel), Some(name)) = (&message.channel, self.namespace_name()) {
            message.channel = Some(name.channel(channel));
        }
        self.heed(message);
    }

    fn over_the_namespace(&self) -> Option<Problem> {
        let services = self.sessions.services();
        let limiter = services.messages.as_ref()?;
        let key = crate::gate::rate::Key::of_address(self.client.ip);
        let wait = limiter.spend(key).err()?;
        Some(self.over_rate(wait, "too many messages in this namespace"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_knows_of_no_namespace_is_no_larger_for_them() {
        assert!(size_of::<Outlet>() <= 19 * size_of::<usize>(), "{}", size_of::<Outlet>());
        assert_eq!(size_of::<OnceCell<Box<Extra>>>(), size_of::<usize>());
    }
}
