//! What a view was, for members that are told what changed and not what is.
//!
//! There is one as long as such a member is there. It keeps the texts of the last few states, and of
//! each, once somebody needs it, the patch that makes the present state of it: found once, encoded
//! once for each format, shared by all members of the view on this worker.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::protocol::Encoded;
use crate::view::delta::{self, diff};
use crate::view::{Content, Data, State};

/// Bytes of earlier states that one view remembers.
const MOST_BYTES: usize = 2 * delta::LONGEST;

/// What makes the present state of an earlier one.
#[derive(Debug)]
pub struct Patch {
    /// RFC 6902.
    pub operations: Box<RawValue>,
    /// The `patch` frame; empty in a format in which the whole state takes no more room.
    pub frames: Encoded,
}

#[derive(Debug)]
pub(super) struct History {
    /// How many states are remembered.
    most: usize,
    /// How many members want patches.
    pub(super) followers: usize,
    /// The latest is the last.
    earlier: VecDeque<Earlier>,
    bytes: usize,
}

#[derive(Debug)]
struct Earlier {
    version: Arc<str>,
    text: Box<str>,
    /// To the present state, and if that takes less room.
    patch: OnceCell<Option<Rc<Patch>>>,
}

impl History {
    pub(super) fn new(most: usize) -> Self {
        Self { most, followers: 0, earlier: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
        self.shrink();
    }

    /// The state was this one until now.
    pub(super) fn remember(&mut self, state: &State) {
        for earlier in &mut self.earlier {
            earlier.patch.take();
        }
        let Content::Data(Data(text)) = &state.content else { return };
        let before = self.earlier.iter().position(|earlier| earlier.version == state.version);
        if let Some(before) = before.and_then(|at| self.earlier.remove(at)) {
            self.bytes -= before.text.len();
            if *before.text != *text.get() {
                // One version, two states: nobody can know which of them a client holds.
                return;
            }
        }
        if text.get().len() > delta::LONGEST {
            return;
        }
        self.bytes += text.get().len();
        self.earlier.push_back(Earlier {
            version: Arc::clone(&state.version),
            text: text.get().into(),
            patch: OnceCell::new(),
        });
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.earlier.len() > self.most || self.bytes > MOST_BYTES {
            let Some(oldest) = self.earlier.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }

    /// What makes `state`, the present one, of the version `from`; `None` if that is not remembered
    /// or takes more room than the state.
    pub(super) fn patch(&self, from: &str, state: &State) -> Option<Rc<Patch>> {
        let Content::Data(Data(text)) = &state.content else { return None };
        let earlier = self.earlier.iter().find(|earlier| *earlier.version == *from)?;
        let made = earlier.patch.get_or_init(|| {
            let operations = diff(&earlier.text, text.get())?;
            Some(Rc::new(Patch { operations, frames: Encoded::default() }))
        });
        made.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(version: &str, n: usize) -> State {
        sized(version, n, 200)
    }

    fn sized(version: &str, n: usize, bytes: usize) -> State {
        let text = format!("{{\"n\":{n},\"ballast\":\"{}\"}}", "x".repeat(bytes));
        State::new(version.into(), Content::Data(Data(RawValue::from_string(text).unwrap())))
    }

    fn operations(history: &History, from: &str, state: &State) -> Option<String> {
        history.patch(from, state).map(|patch| patch.operations.get().to_owned())
    }

    #[test]
    fn there_is_a_patch_from_each_of_the_last_states_and_it_is_made_once() {
        let mut history = History::new(3);
        (0..5).for_each(|n| history.remember(&state(&n.to_string(), n)));
        let present = state("5", 5);
        for from in ["2", "3", "4"] {
            let operations = operations(&history, from, &present).unwrap();
            assert_eq!(operations, r#"[{"op":"replace","path":"/n","value":5}]"#);
            let [one, other] = [(); 2].map(|()| history.patch(from, &present).unwrap());
            assert!(Rc::ptr_eq(&one, &other));
        }
        for from in ["0", "1", "5", "unknown"] {
            assert_eq!(operations(&history, from, &present), None, "{from}");
        }
        history.set_most(1);
        assert_eq!(operations(&history, "3", &present), None);
        history.remember(&present);
        let next = operations(&history, "5", &state("6", 6)).unwrap();
        assert_eq!(next, r#"[{"op":"replace","path":"/n","value":6}]"#);
        history.set_most(0);
        assert!(history.patch("5", &state("6", 6)).is_none());
    }

    #[test]
    fn a_patch_leads_to_the_state_that_is_present_now() {
        let mut history = History::new(3);
        history.remember(&state("0", 0));
        history.patch("0", &state("1", 1)).unwrap();
        history.remember(&state("1", 1));
        let operations = operations(&history, "0", &state("2", 2)).unwrap();
        assert_eq!(operations, r#"[{"op":"replace","path":"/n","value":2}]"#);
    }

    #[test]
    fn what_is_gone_or_not_shown_is_neither_the_beginning_nor_the_end_of_a_patch() {
        let mut history = History::new(3);
        for content in [Content::Absent, Content::Unseen] {
            let other = State::new("other".into(), content);
            history.remember(&state("0", 0));
            assert!(history.patch("0", &other).is_none());
            history.remember(&other);
            assert!(history.patch("other", &state("1", 1)).is_none());
            assert!(history.patch("0", &state("1", 1)).is_some(), "but one may come back to it");
        }
    }

    #[test]
    fn a_version_that_meant_two_states_is_the_beginning_of_none() {
        let mut history = History::new(5);
        for (version, n) in [("a", 0), ("b", 1), ("a", 0), ("c", 2)] {
            history.remember(&state(version, n));
        }
        assert!(history.patch("a", &state("d", 3)).is_some(), "there and back is no harm");
        history.remember(&state("a", 4));
        assert!(history.patch("a", &state("d", 3)).is_none());
        assert!(history.patch("b", &state("d", 3)).is_some());
    }

    #[test]
    fn it_remembers_so_many_bytes_and_no_more() {
        let mut history = History::new(100);
        for n in 0..100 {
            history.remember(&sized(&n.to_string(), n, 100_000));
            let held: usize = history.earlier.iter().map(|earlier| earlier.text.len()).sum();
            assert_eq!(history.bytes, held);
            assert!(held <= MOST_BYTES);
        }
        assert_eq!(history.earlier.len(), MOST_BYTES / 100_100);
        history.remember(&sized("huge", 0, delta::LONGEST));
        assert!(history.earlier.iter().all(|earlier| &*earlier.version != "huge"));
    }
}
