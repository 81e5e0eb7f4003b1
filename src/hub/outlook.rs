//! What somebody outside says of an API or on a channel, to all who see it.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

use super::Node;
use super::mail::Mailbox;
use crate::change::{self, Change};
use crate::channel::{Rule, Said};
use crate::namespace::Name;
use crate::route::Routes;

/// The views of one API that go by one set of routes, on every worker.
#[derive(Debug, Clone)]
pub struct Outlook {
    pub node: Node,
    pub mail: Arc<[Mailbox]>,
    pub routes: Arc<Routes>,
}

impl Outlook {
    /// Announces what a good PUT of that URI touches by these routes, if that is anything.
    fn written(&self, uri: &str) -> bool {
        let (nothing, status) = (HeaderMap::new(), Some(StatusCode::OK));
        let change = change::touched(&Method::PUT, uri, status, &nothing, &self.routes);
        let touches = change.is_some();
        if let Some(change) = change {
            self.node.changed(&self.mail, change);
        }
        touches
    }

    /// How many there are.
    pub fn views(&self) -> usize {
        self.mail.iter().map(Mailbox::views).sum()
    }
}

/// A namespace, as it is spoken to from outside of the workers.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: Name,
    pub channels: Arc<[Rule]>,
    /// Those of its API: its own first.
    outlooks: Vec<Outlook>,
}

impl Place {
    /// `others` have the same API and other routes.
    pub fn new(name: Name, channels: Arc<[Rule]>, own: Outlook, others: Vec<Outlook>) -> Self {
        let outlooks = std::iter::once(own).chain(others).collect();
        Self { name, channels, outlooks }
    }

    pub fn shares_views_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own().mail, &other.own().mail)
    }

    pub fn own(&self) -> &Outlook {
        &self.outlooks[0]
    }

    /// That URI of its API has changed, as by a PUT that went through this server. False where the
    /// routes of all say that this touches nothing.
    pub fn written(&self, uri: &str) -> bool {
        self.outlooks.iter().fold(false, |told, outlook| outlook.written(uri) | told)
    }

    /// These groups of its API have changed together.
    pub fn groups_changed(&self, groups: impl IntoIterator<Item = Arc<str>>) {
        let change = Change::of_groups(groups);
        for outlook in &self.outlooks {
            outlook.node.changed(&outlook.mail, change.clone());
        }
    }

    /// Says something on a channel of it as nobody's client.
    pub fn publish(&self, channel: &str, said: Said) {
        let channel = Arc::from(self.name.channel(channel));
        let Outlook { node, mail, .. } = self.own();
        node.publish(mail, &self.channels, &channel, said);
    }
}
