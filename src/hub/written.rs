//! A write's own answer as the new state, on public routes that say so: it saves the fetch.
//!
//! An answer says what was true when the write was done, which may be long before it arrives. It
//! is taken only when nothing else that shares its first path segment was changed on this node
//! between the beginning of the write and the end of its answer, and only by views of exactly its
//! URI and host that neither fetch nor want to, nor did since the write began: what such a fetch
//! saw may be newer. Otherwise it counts as any change, and the views are fetched.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::{Options, fetch};
use crate::audience::Vary;
use crate::change::{Change, Touch};
use crate::uri::{PathKey, Uri};
use crate::view::{Content, Data, State};

/// Counters that writes share by the hash of their first path segment.
const SLOTS: usize = 256;

/// How many changes there were on this node, by first path segment.
#[derive(Debug)]
pub struct Writes {
    slots: [AtomicU64; SLOTS],
}

impl Default for Writes {
    fn default() -> Self {
        Self { slots: [const { AtomicU64::new(0) }; SLOTS] }
    }
}

/// A write under way whose answer may become a state.
#[derive(Debug)]
pub struct Expectation {
    uri: Uri,
    path: PathKey,
    /// One upstream may serve several, and says so in no `Vary`.
    host: Option<HeaderValue>,
    began: Instant,
    settle: Vec<Duration>,
    /// What the path's counter must show for nothing else to have changed.
    count: u64,
}

/// A state that a write was answered with.
#[derive(Debug)]
pub struct Written {
    pub(super) uri: Uri,
    pub(super) host: Option<HeaderValue>,
    pub(super) began: Instant,
    settle: Vec<Duration>,
    state: State,
}

impl Writes {
    /// Counts a change. Comes before it is posted, so that an answer that is taken after the
    /// change was posted finds it counted.
    pub(super) fn note(&self, change: &Change) {
        for touch in &change.touches {
            match segment(touch) {
                // Everything lies below the root.
                b"" => self.slots.iter().for_each(count_up),
                segment => count_up(&self.slots[slot(segment)]),
            }
        }
    }

    pub(super) fn expect(&self, uri: Uri, host: Option<HeaderValue>) -> Expectation {
        let path = uri.key();
        let count = self.now(&path);
        Expectation { uri, path, host, began: Instant::now(), settle: Vec::new(), count }
    }

    /// Whether nothing came between; from here on the write's own `change` is no disturbance.
    pub(super) fn allow(&self, expectation: &mut Expectation, change: &Change) -> bool {
        let undisturbed = self.undisturbed(expectation);
        let own = change.touches.iter().filter(|touch| {
            let segment = segment(touch);
            segment.is_empty() || slot(segment) == slot(expectation.path.head())
        });
        expectation.count += own.count() as u64;
        expectation.settle.clone_from(&change.settle);
        undisturbed
    }

    pub(super) fn undisturbed(&self, expectation: &Expectation) -> bool {
        self.now(&expectation.path) == expectation.count
    }

    fn now(&self, path: &PathKey) -> u64 {
        self.slots[slot(path.head())].load(Ordering::SeqCst)
    }
}

fn count_up(slot: &AtomicU64) {
    slot.fetch_add(1, Ordering::SeqCst);
}

fn segment(touch: &Touch) -> &[u8] {
    match touch {
        Touch::Family(path) | Touch::Path(path) => path.head(),
        // It may have members anywhere.
        Touch::Group(_) => b"",
    }
}

fn slot(segment: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    segment.hash(&mut hasher);
    usize::try_from(hasher.finish() % SLOTS as u64).unwrap_or(0)
}

impl Expectation {
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The change that the write is when its answer shows no state.
    pub fn as_change(&self) -> Change {
        change_of(&self.path, &self.settle)
    }

    /// The state in an answer, if it is one that a GET could have been answered with.
    pub fn read(&self, headers: &HeaderMap, body: &[u8], options: &Options) -> Option<Written> {
        // Text says how it went ("updated"), and nothing says nothing.
        if body.is_empty() || !fetch::is_json(headers) || self.is_about_another(headers) {
            return None;
        }
        let state = fetch::success(headers, body, options).ok()?;
        // Two viewers may get two answers: only a fetch tells which is whose.
        if state.vary != Vary::default() || headers.contains_key(http::header::VARY) {
            return None;
        }
        let (uri, host, settle) = (self.uri.clone(), self.host.clone(), self.settle.clone());
        Some(Written { uri, host, began: self.began, settle, state })
    }

    /// Whether the content is the representation of another resource (RFC 9110 §8.7).
    fn is_about_another(&self, headers: &HeaderMap) -> bool {
        let mut locations = headers.get_all(header::CONTENT_LOCATION).iter();
        !locations.all(|location| location.as_bytes() == self.uri.as_str().as_bytes())
    }
}

impl Written {
    pub(super) fn settle(&self) -> &[Duration] {
        &self.settle
    }

    pub(super) fn as_change(&self) -> Change {
        change_of(&self.uri.key(), &self.settle)
    }

    /// One for each view, which has frames of its own.
    pub(super) fn state(&self) -> State {
        let content = match &self.state.content {
            Content::Data(Data(json)) => Content::Data(Data(json.clone())),
            Content::Absent => Content::Absent,
            Content::Unseen => Content::Unseen,
        };
        State {
            etag: self.state.etag.clone(),
            last_modified: self.state.last_modified.clone(),
            ..State::new(self.state.version.clone(), content)
        }
    }
}

fn change_of(path: &PathKey, settle: &[Duration]) -> Change {
    let touches = vec![Touch::Path(path.clone())];
    Change { touches, settle: settle.to_vec(), spared: None, trace: None }
}
