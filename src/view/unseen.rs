//! The states of a view whose content is not shown: members are told that it changed, and fetch for
//! themselves.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::HeaderValue;

use super::state::{Content, State};
use crate::audience::Vary;

#[derive(Debug)]
pub(super) struct Unseen {
    /// Tells the versions of unseen states from those of any other view, this one's earlier lives
    /// included: a client that returns with one of those must not be taken to be up to date.
    series: u64,
    announced: u64,
    /// The version of the content that members were last told of and that was looked at. What a poll
    /// finds is compared with it; what was announced unseen since then is told once more.
    known: Option<Arc<str>>,
}

impl Default for Unseen {
    fn default() -> Self {
        Self { series: RandomState::new().hash_one(0), announced: 0, known: None }
    }
}

impl Unseen {
    /// After a change whose result nobody but the members can see.
    pub(super) fn announced(&mut self, old: Option<&State>) -> State {
        let vary = old.map(|old| old.vary.clone()).unwrap_or_default();
        let validators = old.map(|old| (old.etag.clone(), old.last_modified.clone()));
        self.next(vary, validators.unwrap_or_default())
    }

    /// After a fetch that met a change, or (`polled`) that looks whether there was one.
    pub(super) fn fetched(
        &mut self,
        old: Option<&State>,
        new: State,
        changed: bool,
        polled: bool,
    ) -> State {
        // What was shown until now is what members hold.
        let shown = old.filter(|old| old.content != Content::Unseen);
        let known = shown.map(|old| &old.version).or(self.known.as_ref());
        let differs = polled && known.is_some_and(|known| *known != new.version);
        match old {
            Some(old) if !changed && !differs => {
                let same = known.is_some_and(|known| *known == new.version);
                let (etag, last_modified) = match same {
                    true => (new.etag, new.last_modified),
                    // A poll is to see the difference, too.
                    false => (old.etag.clone(), old.last_modified.clone()),
                };
                let unseen = State::new(Arc::clone(&old.version), Content::Unseen);
                self.known = Some(known.map_or(new.version, Arc::clone));
                State { vary: new.vary, etag, last_modified, ..unseen }
            }
            _ => {
                self.known = Some(new.version);
                self.next(new.vary, (new.etag, new.last_modified))
            }
        }
    }

    fn next(
        &mut self,
        vary: Vary,
        (etag, last_modified): (Option<HeaderValue>, Option<HeaderValue>),
    ) -> State {
        self.announced += 1;
        let version = format!("unseen-{:016x}-{}", self.series, self.announced);
        State { vary, etag, last_modified, ..State::new(version.into(), Content::Unseen) }
    }
}
