//! The namespaces as settings have them, and as one worker has them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::Shared;
use super::apart::{Apart, Branch};
use super::settings::{Settings, invalid};
use crate::access::Counted;
use crate::admin;
use crate::channel;
use crate::gate::rate::Limiter;
use crate::handlers::{BadHandler, Handlers};
use crate::hub::outlook::{Outlook, Place};
use crate::namespace::Name;
use crate::server::Options;
use crate::session::namespaces::{self, Namespace};
use crate::session::{Services, Sessions};

/// A namespace other than `/`, on every worker.
#[derive(Debug)]
pub(crate) struct Space {
    name: Name,
    /// As Pogo calls its channels.
    channels: Arc<[channel::Rule]>,
    handlers: Arc<Handlers>,
    messages: Option<Arc<Limiter>>,
    /// What it has of its own to ask, or its own way to see what is asked.
    apart: Option<Apart>,
}

/// What namespaces have.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    all: Vec<Space>,
    /// Of `/`.
    pub(super) handlers: Arc<Handlers>,
}

impl Spaces {
    /// Those that take the place of `before`, if there were any: what is the same keeps what was
    /// spent of it.
    pub(super) fn new(
        options: &Options,
        before: Option<&Self>,
        shared: &Shared,
    ) -> io::Result<Self> {
        let mut spaces = Self::default();
        for own in &options.namespaces {
            let name = &own.name;
            let handlers = Handlers::new(&own.handlers).map_err(|bad| bad_handler(name, bad))?;
            if name.is_default() {
                if *own
                    != (namespaces::Options {
                        handlers: own.handlers.clone(),
                        ..namespaces::Options::new(name.clone())
                    })
                {
                    return Err(invalid(
                        "namespace \"/\" has handlers of its own and nothing else",
                    ));
                }
                spaces.handlers = Arc::new(handlers);
                continue;
            }
            if spaces.all.iter().any(|space| space.name == *name) {
                return Err(invalid(format!("namespace {name} is there twice")));
            }
            let rules = own.channels.as_ref().unwrap_or(&options.channels);
            let channels = rules
                .iter()
                .map(|rule| channel::Rule { pattern: name.channel(&rule.pattern), ..rule.clone() });
            let known = before.and_then(|before| before.all.iter().find(|it| it.name == *name));
            let known_apart = known.and_then(|known| known.apart.as_ref());
            let apart = Apart::new(own, options, known_apart, shared)?;
            let limiter = known.and_then(|known| known.messages.as_ref());
            spaces.all.push(Space {
                name: name.clone(),
                channels: channels.collect(),
                handlers: Arc::new(handlers),
                messages: own.messages.map(|rate| Limiter::succeed(limiter, rate)),
                apart,
            });
        }
        Ok(spaces)
    }

    /// Those that have views of their own.
    pub(super) fn apart(&self) -> impl Iterator<Item = (&Name, &Apart)> {
        self.all.iter().filter_map(|space| Some((&space.name, space.apart.as_ref()?)))
    }

    /// Where the requests to APIs of namespaces are counted, that with the longest name first.
    pub(super) fn counted(&self) -> Vec<(Name, Counted)> {
        let counted = |(name, apart): (&Name, &Apart)| Some((name.clone(), apart.counted()?));
        let mut all: Vec<_> = self.apart().filter_map(counted).collect();
        all.sort_by_key(|(name, _)| std::cmp::Reverse(name.as_str().len()));
        all
    }

    /// Forgets budgets that are full again.
    pub(super) fn sweep(&self) {
        self.apart().for_each(|(_, apart)| apart.sweep());
        self.all.iter().filter_map(|space| space.messages.as_ref()).for_each(|it| it.sweep());
    }
}

fn bad_handler(name: &Name, (number, bad): (usize, BadHandler)) -> io::Error {
    invalid(format!("namespace {name}, handler {}: {bad}", number + 1))
}

impl Settings {
    /// The namespaces as they are spoken to from outside, `/` before all others.
    pub(crate) fn places(&self, shared: &Shared) -> Vec<Place> {
        let whole = Outlook {
            node: shared.hubs.clone(),
            mail: Arc::clone(&shared.mail),
            routes: Arc::clone(&self.routes),
        };
        // All that are of the API of `/`.
        let mut common = vec![whole.clone()];
        let of_it = self.spaces.apart().filter(|(_, apart)| !apart.has_api());
        common.extend(of_it.map(|(_, apart)| apart.outlook()));
        let place = |name: &Name, channels: &Arc<[channel::Rule]>, apart: Option<&Apart>| {
            let own = apart.map_or_else(|| whole.clone(), Apart::outlook);
            let others = match apart.is_some_and(Apart::has_api) {
                true => Vec::new(),
                false => {
                    let is_other = |it: &&Outlook| !Arc::ptr_eq(&it.mail, &own.mail);
                    common.iter().filter(is_other).cloned().collect()
                }
            };
            Place::new(name.clone(), Arc::clone(channels), own, others)
        };
        let first = place(&Name::default(), &self.channels, None);
        let spaces = self.spaces.all.iter();
        let spaces = spaces.map(|it| place(&it.name, &it.channels, it.apart.as_ref()));
        std::iter::once(first).chain(spaces).collect()
    }

    /// The routes of `/` and of the namespaces that have some, as operators are shown them.
    pub(crate) fn tables(&self) -> Vec<admin::Table> {
        let routes = Arc::clone(&self.routes);
        let counted = Some(Arc::clone(&self.counted));
        let first = admin::Table { namespace: Name::default(), routes, counted };
        let table = |(name, apart): (&Name, &Apart)| admin::Table {
            namespace: name.clone(),
            routes: Arc::clone(&apart.routes),
            counted: apart.counted().map(|counted| counted.places),
        };
        std::iter::once(first).chain(self.spaces.apart().map(table)).collect()
    }

    /// What the sockets of a worker use, `services` in `/`. Those of namespaces that there were go
    /// on with what they know.
    pub(super) fn with_namespaces(
        &self,
        services: Services,
        sessions: &Sessions,
        branches: &[Rc<Branch>],
    ) -> Services {
        let before = sessions.namespaces();
        let namespaces = self.spaces.all.iter().map(|space| {
            let branch = branches.iter().find(|branch| branch.name == space.name);
            let hub = branch.map_or_else(|| sessions.hub(), |branch| Rc::clone(&branch.hub));
            let exchange = branch.map_or(&services.exchange, |branch| &branch.exchange);
            let routes = space.apart.as_ref().map_or(&services.routes, |apart| &apart.routes);
            let own = Services {
                exchange: Rc::clone(exchange),
                routes: Arc::clone(routes),
                channels: Arc::clone(&space.channels),
                handlers: Arc::clone(&space.handlers),
                messages: space.messages.clone(),
                ..services.clone()
            };
            let is_known = |namespace: &&Namespace| {
                *namespace.name == space.name && Rc::ptr_eq(&namespace.sessions.hub(), &hub)
            };
            match before.iter().find(is_known) {
                Some(namespace) => {
                    namespace.sessions.succeed(own);
                    namespace.clone()
                }
                None => Namespace {
                    name: Rc::new(space.name.clone()),
                    sessions: sessions.of_namespace(hub, own),
                },
            }
        });
        let namespaces = namespaces.collect();
        Services { namespaces, ..services }
    }
}
