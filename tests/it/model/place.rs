//! Where something is bound: which resource, and in which namespace.

use serde_json::Value;

use super::ITEMS;

/// A namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Root,
    /// Has the API of `/`, and its routes, and so its views.
    Shared,
    /// Has the API of `/` and sees it by routes of its own, so that its views are its own.
    Routed,
    /// Has an API of its own, which plain HTTP reaches below its name.
    Apart,
}

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Common,
    Apart,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Common, Self::Apart];
}

impl Space {
    pub(super) const ALL: [Self; 4] = [Self::Root, Self::Shared, Self::Routed, Self::Apart];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Shared => "/shared",
            Self::Routed => "/routed",
            Self::Apart => "/apart",
        }
    }

    /// Whose resources it shows.
    pub(super) fn side(self) -> Side {
        match self {
            Self::Apart => Side::Apart,
            _ => Side::Common,
        }
    }

    /// The one that its resources are seen in over plain HTTP.
    pub(super) fn over_http(self) -> Self {
        match self {
            Self::Apart => Self::Apart,
            _ => Self::Root,
        }
    }

    /// A path of its API, as plain HTTP has it.
    pub(super) fn path(self, uri: &str) -> String {
        match self {
            Self::Apart => format!("{}{uri}", self.name()),
            _ => uri.to_owned(),
        }
    }
}

/// A resource: each schedule has these of its own at both APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Collection,
    Item(usize),
    /// What the items come to. That they touch it only the routes of [`Space::Routed`] know.
    Digest,
}

impl Target {
    pub(super) fn uri(self, schedule: u64) -> String {
        match self {
            Self::Collection => format!("/s{schedule}/items"),
            Self::Item(item) => format!("/s{schedule}/items/{item}"),
            Self::Digest => format!("/s{schedule}/digest"),
        }
    }

    /// Of `/s<schedule>` itself, the collection.
    pub(super) fn of(uri: &str) -> Option<(u64, Self)> {
        let mut parts = uri.strip_prefix("/s")?.split('/');
        let schedule = parts.next()?.parse().ok()?;
        let target = match (parts.next(), parts.next()) {
            (None, _) | (Some("items"), None) => Self::Collection,
            (Some("items"), Some(item)) => Self::Item(item.parse().ok()?),
            (Some("digest"), None) => Self::Digest,
            _ => return None,
        };
        Some((schedule, target))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) space: Space,
    pub(super) target: Target,
}

impl Place {
    /// Where nobody would be told of the digest, the collection is meant.
    pub(super) fn new(space: Space, target: Target) -> Self {
        match (space, target) {
            (Space::Routed, _) | (_, Target::Collection | Target::Item(_)) => {
                Self { space, target }
            }
            (_, Target::Digest) => Self::collection(space),
        }
    }

    pub(super) fn collection(space: Space) -> Self {
        Self { space, target: Target::Collection }
    }

    /// What an event is about.
    pub(super) fn of(event: &Value, schedule: u64) -> Option<Self> {
        let (of, target) = Target::of(event["uri"].as_str()?)?;
        assert_eq!(of, schedule, "{event}");
        let name = event["namespace"].as_str().unwrap_or(Space::Root.name());
        let space = Space::ALL.into_iter().find(|space| space.name() == name);
        let space = space.expect("a namespace that there is");
        assert!(space != Space::Root || event["namespace"].is_null(), "{event}");
        assert!(!matches!(target, Target::Item(item) if item >= ITEMS), "{event}");
        Some(Self { space, target })
    }

    /// In its namespace.
    pub(super) fn uri(self, schedule: u64) -> String {
        self.target.uri(schedule)
    }

    /// Over plain HTTP.
    pub(super) fn path(self, schedule: u64) -> String {
        self.space.path(&self.uri(schedule))
    }
}
