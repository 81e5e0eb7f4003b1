//! Plain channels: who may subscribe and publish, and who is subscribed on this worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Who may do something on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Anyone,
    /// Sessions whose credential was checked and found good.
    Authenticated,
    Nobody,
}

/// One `[[channel]]`: of those whose pattern fits, the most specific decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A name, or the beginning of names and `*`.
    pub pattern: String,
    pub subscribe: Who,
    pub publish: Who,
}

impl Rule {
    /// Anyone may do anything on any channel.
    pub fn open() -> Self {
        Self { pattern: "*".into(), subscribe: Who::Anyone, publish: Who::Anyone }
    }

    /// A name beats a beginning, and a longer beginning a shorter one.
    fn specificity(&self) -> (bool, usize) {
        (!self.pattern.ends_with('*'), self.pattern.len())
    }

    pub fn fits(&self, channel: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(beginning) => channel.starts_with(beginning),
            None => channel == self.pattern,
        }
    }
}

/// What is wanted of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Subscribe,
    Publish,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Unauthenticated,
    Forbidden,
}

/// Without a rule that fits, nobody may.
pub fn permit(
    rules: &[Rule],
    channel: &str,
    right: Right,
    authenticated: bool,
) -> Result<(), Denied> {
    let fitting = rules.iter().filter(|rule| rule.fits(channel));
    let rule = fitting.max_by_key(|rule| rule.specificity());
    let who = rule.map_or(Who::Nobody, |rule| match right {
        Right::Subscribe => rule.subscribe,
        Right::Publish => rule.publish,
    });
    match who {
        Who::Anyone => Ok(()),
        Who::Authenticated if authenticated => Ok(()),
        Who::Authenticated => Err(Denied::Unauthenticated),
        Who::Nobody => Err(Denied::Forbidden),
    }
}

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
    /// Gives the channel's name, shared by all who are on it.
    pub fn join(&self, channel: &str, session: u64, member: M) -> Arc<str> {
        let mut channels = self.channels.borrow_mut();
        let name = match channels.get_key_value(channel) {
            Some((name, _)) => Arc::clone(name),
            None => channel.into(),
        };
        channels.entry(Arc::clone(&name)).or_default().insert(session, member);
        name
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
    fn the_most_specific_rule_that_fits_decides_and_none_means_no() {
        let rule = |pattern: &str, subscribe, publish| Rule {
            pattern: pattern.into(),
            subscribe,
            publish,
        };
        let rules = [
            rule("/news/*", Who::Anyone, Who::Authenticated),
            rule("/news/secret", Who::Authenticated, Who::Nobody),
        ];
        let may = |channel, right, authenticated| permit(&rules, channel, right, authenticated);
        assert_eq!(may("/news/a", Right::Subscribe, false), Ok(()));
        assert_eq!(may("/news/a", Right::Publish, false), Err(Denied::Unauthenticated));
        assert_eq!(may("/news/a", Right::Publish, true), Ok(()));
        assert_eq!(may("/news/secret", Right::Subscribe, false), Err(Denied::Unauthenticated));
        assert_eq!(may("/news/secret", Right::Publish, true), Err(Denied::Forbidden));
        assert_eq!(may("/other", Right::Subscribe, true), Err(Denied::Forbidden));
    }

    #[test]
    fn a_channel_goes_with_its_last_member() {
        let members = Members::default();
        members.join("a", 1, "one");
        members.join("a", 2, "two");
        assert_eq!(members.others("a", Some(1)), ["two"]);
        members.leave("a", 1);
        members.leave("a", 2);
        assert!(members.channels.borrow().is_empty());
    }
}
