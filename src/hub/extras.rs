//! What a mirror has that few have: what the state was, for members that want patches, and what is
//! to be told of the members of a collection.

use std::sync::Arc;

use super::history::History;
use super::mirror::Mirror;
use crate::view::items::Log;

/// One word in a mirror of which nobody wants more than states.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// There while a member wants patches.
    history: Option<History>,
    /// There while somebody is told of the members of the state.
    log: Option<Arc<Log>>,
}

impl Mirror {
    fn with_extras<T>(&self, use_them: impl FnOnce(&mut Extras) -> T) -> T {
        let mut extras = self.extras.take().unwrap_or_default();
        let outcome = use_them(&mut extras);
        let is_empty = extras.history.is_none() && extras.log.is_none();
        self.extras.set((!is_empty).then_some(extras));
        outcome
    }

    fn has_extras(&self) -> bool {
        let extras = self.extras.take();
        let has_some = extras.is_some();
        self.extras.set(extras);
        has_some
    }

    /// A member more wants patches; so many earlier states are remembered.
    pub(super) fn follow(&self, most: usize) {
        self.with_extras(|extras| {
            extras.history.get_or_insert_with(|| History::new(most)).followers += 1;
        });
    }

    pub(super) fn unfollow(&self) {
        self.with_extras(|extras| {
            if let Some(history) = &mut extras.history {
                history.followers -= 1;
            }
            extras.history.take_if(|history| history.followers == 0);
        });
    }

    pub(super) fn remember_at_most(&self, most: usize) {
        self.with_history(|history| history.set_most(most));
    }

    pub(super) fn with_history<T>(&self, use_it: impl FnOnce(&mut History) -> T) -> Option<T> {
        if !self.has_extras() {
            return None;
        }
        self.with_extras(|extras| extras.history.as_mut().map(use_it))
    }

    /// What is to be told of the members of the state.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        if !self.has_extras() {
            return None;
        }
        self.with_extras(|extras| extras.log.clone())
    }

    /// From now on this is; gives what was.
    pub(super) fn replace_log(&self, log: Option<Arc<Log>>) -> Option<Arc<Log>> {
        if log.is_none() && !self.has_extras() {
            return None;
        }
        self.with_extras(|extras| std::mem::replace(&mut extras.log, log))
    }
}
