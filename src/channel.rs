//! Channels: who may subscribe and publish, who is there, and what was said.

mod event;
mod history;
mod presence;
mod rooms;
mod rule;
mod verdicts;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use self::event::{Published, Said};
pub use self::history::{Gap, Replay};
pub use self::presence::{Here, Listed, Member};
pub use self::rooms::{Arrival, Found, Full, LISTED, Rooms};
pub use self::rule::{Denied, History, Overflow, Permit, Right, Rule, Who, permit};
pub use self::verdicts::Verdicts;

/// The subscribers on one worker, by channel and by session number.
#[derive(Debug)]
pub struct Members<M> {
    channels: RefCell<HashMap<Arc<str>, BTreeMap<u64, M>>>,
}

impl<M> Default for Members<M> {
    fn default() -> Self {
        Self { channels: RefCell::default() }
    }
}

impl<M: Clone> Members<M> {
    /// The member is made with the channel's name, which all who are on it share.
    pub fn join(&self, channel: &str, session: u64, make: impl FnOnce(Arc<str>) -> M) -> M {
        let mut channels = self.channels.borrow_mut();
        let name = match channels.get_key_value(channel) {
            Some((name, _)) => Arc::clone(name),
            None => channel.into(),
        };
        let member = make(Arc::clone(&name));
        channels.entry(name).or_default().insert(session, member.clone());
        member
    }

    /// The empty channel goes with its last member.
    pub fn leave(&self, channel: &str, session: u64) {
        let mut channels = self.channels.borrow_mut();
        if let Some(members) = channels.get_mut(channel) {
            members.remove(&session);
            if members.is_empty() {
                channels.remove(channel);
            }
        }
    }

    /// Everybody on the channel but `sender`.
    pub fn others(&self, channel: &str, sender: Option<u64>) -> Vec<M> {
        let channels = self.channels.borrow();
        let members = channels.get(channel).into_iter().flatten();
        members.filter(|(id, _)| Some(**id) != sender).map(|(_, member)| member.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_goes_with_its_last_member() {
        let members = Members::default();
        members.join("a", 1, |_| "one");
        members.join("a", 2, |_| "two");
        assert_eq!(members.others("a", Some(1)), ["two"]);
        members.leave("a", 1);
        members.leave("a", 2);
        assert!(members.channels.borrow().is_empty());
    }
}
