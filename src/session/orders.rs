//! What an operator asks of the clients of one worker: of its sockets, and of what is beside them. Orders come through a bounded channel, from
//! a thread of their own, and are carried out between two turns of the worker.

use std::net::IpAddr;
use std::rc::Rc;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Session, Sessions};
use crate::protocol::Close;

/// Orders that wait for one worker; at the bound the operator is told to come back.
pub const MAX_ORDERS: usize = 16;

/// Where a worker's orders are given.
pub type Orders = mpsc::Sender<Order>;

#[derive(Debug)]
pub enum Order {
    /// Shows that the worker still turns.
    Answer(oneshot::Sender<()>),
    Sessions(Page, oneshot::Sender<Vec<SessionInfo>>),
    /// The bindings of whole sessions, so that there may be more of them than the page's limit.
    Bindings(Page, Option<String>, oneshot::Sender<Vec<BindingInfo>>),
    /// Closes those sessions; answers how many there were.
    End(Which, Close, oneshot::Sender<usize>),
}

/// A part of a list that is ordered by session.
#[derive(Debug, Clone)]
pub struct Page {
    pub which: Which,
    /// Only sessions with a greater number.
    pub after: u64,
    pub limit: usize,
}

impl Page {
    /// What of it there is room for beside the first `count`.
    fn after_these(&self, count: usize) -> Option<Self> {
        let limit = self.limit.checked_sub(count).filter(|limit| *limit > 0)?;
        Some(Self { limit, ..self.clone() })
    }
}

/// Which sessions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    One(u64),
    OfAddress(IpAddr),
}

impl Which {
    pub fn means(self, id: u64, client: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => id == one,
            Self::OfAddress(ip) => client == ip,
        }
    }
}

/// Clients of the same worker that have no socket and are told of all the same. Their numbers are
/// greater than those of its sockets.
pub trait Beside {
    fn sessions(&self, page: &Page) -> Vec<SessionInfo>;
    fn bindings(&self, page: &Page, uri: Option<&str>) -> Vec<BindingInfo>;
    /// Ends those; how many there were. `comes_back`: they may begin again.
    fn end(&self, which: Which, comes_back: bool) -> usize;
}

/// A session as operators see it; numbers of sessions are too large for JSON's.
#[derive(Debug, Serialize)]
pub struct SessionInfo {
    #[serde(serialize_with = "as_text")]
    pub id: u64,
    /// `socket`, or how a view is followed over plain HTTP.
    pub way: &'static str,
    pub client: IpAddr,
    pub host: String,
    pub age_seconds: u64,
    pub silent_seconds: u64,
    /// The credential was checked by Pogo and found good.
    pub authenticated: bool,
    /// It carries some credential, whether good or not.
    pub has_credential: bool,
    pub expires_in_seconds: Option<u64>,
    pub bindings: usize,
    pub channels: usize,
    pub outbox_bytes: usize,
    pub requests_in_flight: usize,
}

#[derive(Debug, Serialize)]
pub struct BindingInfo {
    #[serde(serialize_with = "as_text")]
    pub session: u64,
    pub client: IpAddr,
    /// The namespace that it was made in, if not `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub uri: String,
    /// The version that the client holds.
    pub version: Option<String>,
    pub stale: bool,
    /// The upstream let the client have it; until then it is waited for.
    pub live: bool,
}

fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

impl Sessions {
    /// Carries out what operators order, for ever.
    pub async fn obey(self: Rc<Self>, mut orders: mpsc::Receiver<Order>, beside: Rc<dyn Beside>) {
        while let Some(order) = orders.recv().await {
            self.carry_out(order, &*beside);
        }
    }

    fn carry_out(&self, order: Order, beside: &dyn Beside) {
        // Who asked may have gone meanwhile: then nobody needs the answer.
        match order {
            Order::Answer(reply) => reply.send(()).unwrap_or(()),
            Order::Sessions(page, reply) => {
                let sessions = self.page(&page);
                let infos = sessions.iter().take(page.limit).map(|session| session.info());
                let mut infos: Vec<_> = infos.collect();
                if let Some(rest) = page.after_these(infos.len()) {
                    infos.extend(beside.sessions(&rest));
                }
                reply.send(infos).unwrap_or(());
            }
            Order::Bindings(page, uri, reply) => {
                let mut found = Vec::new();
                for session in self.page(&page) {
                    if found.len() >= page.limit {
                        break;
                    }
                    found.extend(session.binding_infos(uri.as_deref()));
                    for part in session.parts() {
                        found.extend(part.binding_infos(uri.as_deref()));
                    }
                }
                if let Some(rest) = page.after_these(found.len()) {
                    found.extend(beside.bindings(&rest, uri.as_deref()));
                }
                reply.send(found).unwrap_or(());
            }
            Order::End(which, close, reply) => {
                let sessions = self.page(&Page { which, after: 0, limit: usize::MAX });
                sessions.iter().for_each(|session| session.close(&close));
                let comes_back = matches!(close, Close::GoingAway { .. });
                let ended = sessions.len() + beside.end(which, comes_back);
                reply.send(ended).unwrap_or(());
            }
        }
    }

    /// The sessions of a page, those that follow included, by number.
    fn page(&self, page: &Page) -> Vec<Rc<Session>> {
        let is_wanted = |session: &&Rc<Session>| {
            session.closing.get().is_none()
                && session.id > page.after
                && page.which.means(session.id, session.client.ip)
        };
        let mut sessions: Vec<_> = self.all.borrow().values().filter(is_wanted).cloned().collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
    }
}

impl Session {
    fn info(&self) -> SessionInfo {
        let now = Instant::now();
        SessionInfo {
            id: self.id,
            way: "socket",
            client: self.client.ip,
            host: self.host.clone(),
            age_seconds: now.duration_since(self.born).as_secs(),
            silent_seconds: now.duration_since(self.heard.get()).as_secs(),
            authenticated: self.authenticated.get(),
            has_credential: !self.viewer.borrow().credentials().is_empty(),
            expires_in_seconds: self.expires.get().map(|at| at.duration_since(now).as_secs()),
            bindings: self.in_all(|session| session.bindings.borrow().len()),
            channels: self.in_all(|session| session.channels.count()),
            outbox_bytes: self.outbox.bytes(),
            requests_in_flight: self.calls.in_flight(),
        }
    }

    fn binding_infos(&self, uri: Option<&str>) -> Vec<BindingInfo> {
        let bindings = self.bindings.borrow();
        let wanted =
            bindings.iter().filter(|binding| uri.is_none_or(|uri| binding.uri.as_str() == uri));
        wanted
            .map(|binding| BindingInfo {
                session: self.id,
                client: self.client.ip,
                namespace: self.namespace_name().map(ToString::to_string),
                uri: binding.uri.as_str().to_owned(),
                version: binding.held.borrow().as_deref().map(str::to_owned),
                stale: binding.latest().is_some_and(|(_, stale)| stale),
                live: binding.live.get(),
            })
            .collect()
    }
}
