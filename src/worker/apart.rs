//! Namespaces with an API of their own: what all workers have of each, and what one worker has.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::settings::{Settings, invalid};
use crate::exchange::Exchange;
use crate::gate::auth::{self, Authenticator};
use crate::hub::mail::Mailbox;
use crate::hub::{self, Hub};
use crate::namespace::Name;
use crate::route::{Routes, Rule};
use crate::server::Options;
use crate::session::Sessions;
use crate::session::namespaces;
use crate::upstream::{self, Secure, Upstream};

/// How long the views of a namespace that is gone are kept in order: until every worker has left them.
const LINGER: Duration = Duration::from_secs(60);

/// The API of one namespace, its routes and its views.
#[derive(Debug)]
pub(crate) struct Apart {
    upstream: upstream::Options,
    secure: Option<Secure>,
    pub(crate) routes: Arc<Routes>,
    /// One for each worker; the same ones as long as it is the same API.
    mail: Arc<[Mailbox]>,
    node: hub::Node,
    credential_headers: Vec<HeaderName>,
    authenticator: Arc<Authenticator>,
}

impl Apart {
    /// None for a namespace that has no API of its own.
    pub(super) fn new(
        own: &namespaces::Options,
        options: &Options,
        before: Option<&Self>,
        shared: &Shared,
    ) -> io::Result<Option<Self>> {
        let Some(upstream) = &own.upstream else {
            return match own.routes.is_empty() {
                true => Ok(None),
                false => {
                    Err(invalid("a namespace has routes of its own with an upstream of its own"))
                }
            };
        };
        let secure = Secure::new(upstream).map_err(invalid)?;
        let headers = &options.hub.credential_headers;
        // Views of another API are others: whoever is in the namespace has to join it again.
        let known = before.filter(|before| {
            before.upstream.origin == upstream.origin
                && before.secure == secure
                && before.credential_headers == *headers
        });
        let rules: Vec<Rule> = own.routes.clone();
        let bad = |(number, error): (usize, matchit::InsertError)| {
            invalid(format!("namespace {}, route {}: {error}", own.name, number + 1))
        };
        let routes = match known {
            Some(known) if known.routes.rules() == rules => Arc::clone(&known.routes),
            Some(known) => Arc::new(known.routes.succeed(rules).map_err(bad)?),
            None => Arc::new(Routes::new(rules).map_err(bad)?),
        };
        let (mail, node) = match known {
            Some(known) => (Arc::clone(&known.mail), known.node.clone()),
            None => {
                let mail = (0..shared.workers).map(|_| Mailbox::default()).collect();
                (mail, shared.hubs.apart())
            }
        };
        // A logout at this API is none at the one that checks credentials.
        let authenticator = Authenticator::new(&auth::Options::default()).map_err(invalid)?;
        Ok(Some(Self {
            upstream: upstream.clone(),
            secure,
            routes,
            mail,
            node,
            credential_headers: headers.clone(),
            authenticator: Arc::new(authenticator),
        }))
    }

    pub(crate) fn mail(&self) -> &Arc<[Mailbox]> {
        &self.mail
    }

    pub(crate) fn hubs(&self) -> &hub::Node {
        &self.node
    }

    pub(super) fn sweep(&self) {
        self.routes.sweep();
    }
}

/// The same on one worker.
pub(crate) struct Branch {
    pub(super) name: Name,
    pub(super) hub: Rc<Hub>,
    pub(super) exchange: Rc<Exchange>,
    apart: (upstream::Options, Option<Secure>, Arc<[Mailbox]>),
    pub(super) upstream: Rc<Upstream>,
    /// Reads the hub's mail.
    reader: Rc<JoinHandle<()>>,
}

impl Settings {
    /// The branches of a worker; those that it had go on with what they know.
    pub(super) fn branches(
        &self,
        before: &[Rc<Branch>],
        number: usize,
        sessions: &Rc<Sessions>,
        tasks: &TaskTracker,
    ) -> Vec<Rc<Branch>> {
        let branch = |(name, apart): (&Name, &Apart)| {
            let known = before.iter().find(|known| Arc::ptr_eq(&known.apart.2, &apart.mail));
            let asks_alike = |known: &&Rc<Branch>| {
                known.apart.0 == apart.upstream && known.apart.1 == apart.secure
            };
            let (options, secure) = (apart.upstream.clone(), apart.secure.clone());
            let upstream = match known.filter(asks_alike) {
                Some(known) => Rc::clone(&known.upstream),
                None => Rc::new(Upstream::new(options.clone(), secure.clone(), apart.mail.len())),
            };
            let views =
                hub::Settings { routes: Arc::clone(&apart.routes), ..self.views(&upstream) };
            let (hub, reader) = match known {
                Some(known) => {
                    known.hub.adopt(views);
                    (Rc::clone(&known.hub), Rc::clone(&known.reader))
                }
                None => {
                    let (mail, node) = (Arc::clone(&apart.mail), apart.node.clone());
                    let hub = Hub::new(number, mail, views, node);
                    let sessions = Rc::clone(sessions);
                    let reading = Rc::clone(&hub).run(move |news| sessions.tell(news));
                    (hub, Rc::new(tokio::task::spawn_local(reading)))
                }
            };
            let exchange = Rc::new(Exchange::new(
                Rc::clone(&upstream),
                Rc::clone(&hub),
                Arc::clone(&apart.routes),
                self.via(),
                Arc::clone(&apart.authenticator),
                tasks.clone(),
            ));
            let apart = (options, secure, Arc::clone(&apart.mail));
            Rc::new(Branch { name: name.clone(), hub, exchange, apart, upstream, reader })
        };
        self.spaces.apart().map(branch).collect()
    }
}

impl Branch {
    /// Another takes its place, or none: what is under way here ends here.
    pub(super) fn give_way(&self, successors: &[Rc<Self>]) {
        let goes_on = |same: &dyn Fn(&Self) -> bool| successors.iter().any(|next| same(next));
        if !goes_on(&|next| Rc::ptr_eq(&next.upstream, &self.upstream)) {
            self.upstream.retire();
        }
        if !goes_on(&|next| Rc::ptr_eq(&next.hub, &self.hub)) {
            let reader = Rc::clone(&self.reader);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LINGER).await;
                reader.abort();
            });
        }
    }
}
