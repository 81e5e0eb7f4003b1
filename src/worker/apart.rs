//! Namespaces with views of their own, because they have an API of their own or see that of `/` by
//! routes of their own: what all workers have of each, and what one worker has.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::settings::{Settings, invalid};
use crate::access::Counted;
use crate::exchange::{Exchange, Outlooks};
use crate::gate::auth::{self, Authenticator};
use crate::gateway;
use crate::hub::mail::Mailbox;
use crate::hub::outlook::Outlook;
use crate::hub::{self, Hub};
use crate::metrics;
use crate::namespace::Name;
use crate::route::{Routes, Rule};
use crate::server::Options;
use crate::session::Sessions;
use crate::session::namespaces;
use crate::subscription::Subscriptions;
use crate::upstream::{self, Secure, Upstream};

/// How long the views of a namespace that is gone are kept in order: until every worker has left them.
const LINGER: Duration = Duration::from_secs(60);

/// An API of a namespace's own, and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
struct Api {
    upstream: upstream::Options,
    secure: Option<Secure>,
}

impl Api {
    fn new(upstream: &upstream::Options) -> io::Result<Self> {
        let secure = Secure::new(upstream).map_err(invalid)?;
        Ok(Self { upstream: upstream.clone(), secure })
    }

    fn is(&self, other: &Self) -> bool {
        self.upstream.origin == other.upstream.origin && self.secure == other.secure
    }
}

/// The routes of one namespace, and its views.
#[derive(Debug)]
pub(crate) struct Apart {
    /// None is that of `/`.
    api: Option<Api>,
    pub(crate) routes: Arc<Routes>,
    /// One for each worker; the same ones as long as it is the same API.
    mail: Arc<[Mailbox]>,
    node: hub::Node,
    credential_headers: Vec<HeaderName>,
    /// Of its own API.
    authenticator: Option<Arc<Authenticator>>,
    /// Where the requests to its own API are counted.
    counted: Option<metrics::Routes>,
}

impl Apart {
    /// None for a namespace that has the views of `/`.
    pub(super) fn new(
        own: &namespaces::Options,
        options: &Options,
        before: Option<&Self>,
        shared: &Shared,
    ) -> io::Result<Option<Self>> {
        if own.upstream.is_none() && own.routes.is_empty() {
            return Ok(None);
        }
        let api = own.upstream.as_ref().map(Api::new).transpose()?;
        let headers = &options.hub.credential_headers;
        // Views of another API are others: whoever is in the namespace has to join it again. Those of
        // the API of `/` begin again when those of `/` do.
        let known = before.filter(|before| match (&before.api, &api) {
            (Some(before_it), Some(api)) => {
                before_it.is(api) && before.credential_headers == *headers
            }
            (None, None) => true,
            _ => false,
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
        let authenticator = api.as_ref().map(|_| Authenticator::new(&auth::Options::default()));
        let patterns = own.routes.iter().map(|rule| rule.path.clone());
        let counted =
            api.as_ref().map(|_| shared.metrics.routes_of(Some(own.name.as_str()), patterns));
        Ok(Some(Self {
            api,
            routes,
            mail,
            node,
            credential_headers: headers.clone(),
            authenticator: authenticator.transpose().map_err(invalid)?.map(Arc::new),
            counted,
        }))
    }

    /// Whether its API is its own.
    pub(crate) fn has_api(&self) -> bool {
        self.api.is_some()
    }

    pub(super) fn counted(&self) -> Option<Counted> {
        let places = self.counted.clone()?;
        Some(Counted { routes: Arc::clone(&self.routes), places })
    }

    /// Its views, as they are spoken to from outside.
    pub(super) fn outlook(&self) -> Outlook {
        let (node, mail) = (self.node.clone(), Arc::clone(&self.mail));
        Outlook { node, mail, routes: Arc::clone(&self.routes) }
    }

    /// Its views are of an API that they were not of before.
    pub(super) fn begin_again(&self) {
        self.node.begin_again(&self.mail);
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
    /// To the resources of its own API.
    pub(super) subscriptions: Option<Rc<Subscriptions>>,
    api: Option<Api>,
    mail: Arc<[Mailbox]>,
    upstream: Rc<Upstream>,
    /// Reads the hub's mail.
    reader: Rc<JoinHandle<()>>,
}

/// What a worker has that its branches use.
pub(super) struct Trunk<'w> {
    pub(super) number: usize,
    pub(super) upstream: &'w Rc<Upstream>,
    pub(super) hub: &'w Rc<Hub>,
    pub(super) exchange: &'w Rc<Exchange>,
    pub(super) sessions: &'w Rc<Sessions>,
    pub(super) subscriptions: &'w Rc<Subscriptions>,
    /// Of the API of `/`.
    pub(super) outlooks: &'w Outlooks,
    pub(super) tasks: &'w TaskTracker,
}

impl Settings {
    /// The branches of a worker; those that it had go on with what they know.
    pub(super) fn branches(&self, before: &[Rc<Branch>], trunk: &Trunk<'_>) -> Vec<Rc<Branch>> {
        let all = self.spaces.apart().map(|(name, apart)| self.branch(name, apart, before, trunk));
        let all: Vec<_> = all.map(Rc::new).collect();
        let mut outlooks = Vec::new();
        for (_, apart) in self.spaces.apart().filter(|(_, apart)| !apart.has_api()) {
            let mut of_it = all.iter().filter(|branch| Arc::ptr_eq(&branch.mail, &apart.mail));
            outlooks.extend(of_it.next().map(|it| (Rc::clone(&it.hub), Arc::clone(&apart.routes))));
        }
        if !outlooks.is_empty() {
            outlooks.push((Rc::clone(trunk.hub), Arc::clone(&self.routes)));
        }
        trunk.outlooks.replace(outlooks);
        let of_branches = all.iter().filter_map(|branch| branch.subscriptions.clone());
        trunk.subscriptions.branch(of_branches.collect());
        all
    }

    fn branch(
        &self,
        name: &Name,
        apart: &Apart,
        before: &[Rc<Branch>],
        trunk: &Trunk<'_>,
    ) -> Branch {
        let known = before.iter().find(|known| Arc::ptr_eq(&known.mail, &apart.mail));
        let upstream = match (&apart.api, known) {
            (None, _) => Rc::clone(trunk.upstream),
            (Some(_), Some(known)) if known.api == apart.api => Rc::clone(&known.upstream),
            (Some(Api { upstream, secure }), _) => {
                Rc::new(Upstream::new(upstream.clone(), secure.clone(), apart.mail.len()))
            }
        };
        let views = hub::Settings { routes: Arc::clone(&apart.routes), ..self.views(&upstream) };
        let (hub, reader) = match known {
            Some(known) => {
                known.hub.adopt(views);
                (Rc::clone(&known.hub), Rc::clone(&known.reader))
            }
            None => {
                let (mail, node) = (Arc::clone(&apart.mail), apart.node.clone());
                let hub = Hub::new(trunk.number, mail, views, node);
                let sessions = Rc::clone(trunk.sessions);
                let subscriptions = Rc::clone(trunk.subscriptions);
                let reading = Rc::clone(&hub).run(move |news| {
                    subscriptions.tell(&news);
                    sessions.tell(news);
                });
                (hub, Rc::new(tokio::task::spawn_local(reading)))
            }
        };
        let outlooks = match apart.has_api() {
            true => Outlooks::default(),
            false => Rc::clone(trunk.outlooks),
        };
        let exchange = Rc::new(Exchange::new(
            Rc::clone(&upstream),
            Rc::clone(&hub),
            Arc::clone(&apart.routes),
            self.via(),
            Arc::clone(apart.authenticator.as_ref().unwrap_or(&self.authenticator)),
            outlooks,
            trunk.tasks.clone(),
        ));
        let following = |known: Option<&Rc<Subscriptions>>| {
            let services = self.subscriptions(&exchange, trunk.exchange);
            let Some(known) = known else {
                return trunk.subscriptions.of_namespace(name.clone(), Rc::clone(&hub), services);
            };
            known.adopt(services);
            Rc::clone(known)
        };
        let known = known.and_then(|known| known.subscriptions.as_ref());
        let subscriptions = apart.has_api().then(|| following(known));
        let (api, mail) = (apart.api.clone(), Arc::clone(&apart.mail));
        Branch { name: name.clone(), hub, exchange, subscriptions, api, mail, upstream, reader }
    }
}

impl Branch {
    /// What goes to its API and to no other, if it has one.
    pub(super) fn own_upstream(&self) -> Option<&Rc<Upstream>> {
        self.api.as_ref().map(|_| &self.upstream)
    }

    /// Another takes its place, or none: what is under way here ends here.
    pub(super) fn give_way(&self, successors: &[Rc<Self>]) {
        let goes_on = |same: &dyn Fn(&Self) -> bool| successors.iter().any(|next| same(next));
        if let Some(upstream) = self.own_upstream()
            && !goes_on(&|next| Rc::ptr_eq(&next.upstream, upstream))
        {
            upstream.retire();
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

/// Where the gateway sends what is below the path of a namespace: of two that fit, to the longer.
pub(super) fn for_gateway(branches: &[Rc<Branch>]) -> Vec<gateway::Branch> {
    let mut all: Vec<_> = branches
        .iter()
        .filter_map(|branch| {
            Some(gateway::Branch {
                name: branch.name.clone(),
                exchange: Rc::clone(&branch.exchange),
                subscriptions: Rc::clone(branch.subscriptions.as_ref()?),
            })
        })
        .collect();
    all.sort_by_key(|branch| std::cmp::Reverse(branch.name.as_str().len()));
    all
}
