//! What serves all schedules: two APIs, and three Pogos of two workers before them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pogo::namespace::Name;
use pogo::route::{ItemData, Items, Rule};
use pogo::session::namespaces;

use super::place::{Side, Space};
use super::truth::Source;
use crate::harness::Pogo;

/// How the routes of a namespace take the members of a collection, from what stands in it or by asking
/// for them; and how long bindings to items last, so that some end by themselves all the time.
type Kind = (ItemData, Option<Duration>);

const KINDS: [Kind; 3] = [
    (ItemData::Fetched, None),
    (ItemData::Embedded, None),
    (ItemData::Fetched, Some(Duration::from_millis(15))),
];

pub(super) struct World {
    common: Source,
    apart: Source,
    pogos: [Pogo; 3],
    /// How many there were; each is below a path of its own.
    pub(super) schedules: AtomicU64,
}

impl World {
    pub(super) fn new() -> Self {
        let (common, apart) = (Source::start(Side::Common), Source::start(Side::Apart));
        let pogos = [0, 1, 2].map(|first| {
            Pogo::at(&common.api.address().to_string(), |options| {
                options.workers = 2;
                options.hub.min_interval = Duration::from_millis(5);
                options.session.compression = true;
                options.session.compress_from = 64;
                // Each namespace with routes of its own is of another kind.
                let kind = |nth: usize| KINDS[(first + nth) % KINDS.len()];
                options.routes = rules(kind(0), &[]);
                let routed = rules(kind(1), &["/{schedule}/digest"]);
                let origin = apart.api.address().to_string().parse().unwrap();
                let upstream = pogo::upstream::Options { origin, ..Default::default() };
                options.namespaces = vec![
                    namespace(Space::Shared),
                    namespaces::Options { routes: routed, ..namespace(Space::Routed) },
                    namespaces::Options {
                        routes: rules(kind(2), &[]),
                        upstream: Some(upstream),
                        ..namespace(Space::Apart)
                    },
                ];
            })
        });
        Self { common, apart, pogos, schedules: AtomicU64::new(0) }
    }

    pub(super) fn pogo(&self, schedule: u64) -> &Pogo {
        &self.pogos[schedule as usize % 3]
    }

    pub(super) fn source(&self, side: Side) -> &Source {
        match side {
            Side::Common => &self.common,
            Side::Apart => &self.apart,
        }
    }

    pub(super) fn sources(&self) -> [&Source; 2] {
        Side::ALL.map(|side| self.source(side))
    }
}

fn namespace(space: Space) -> namespaces::Options {
    namespaces::Options::new(Name::new(space.name()).unwrap())
}

fn rules((data, ttl): Kind, affected_by_items: &[&str]) -> Vec<Rule> {
    let items = Items { id: "/item".into(), data, ..Items::default() };
    let affects = affected_by_items.iter().map(|&uri| uri.to_owned()).collect();
    let collection = Rule { path: "/{schedule}/items".into(), items, ..Rule::default() };
    let path = "/{schedule}/items/{item}".into();
    vec![collection, Rule { path, ttl, affects, ..Rule::default() }]
}
