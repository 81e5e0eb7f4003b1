//! Who is on one channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// One socket on a channel, as the others are shown it.
#[derive(Debug, Serialize)]
pub struct Member {
    #[serde(skip)]
    pub session: u64,
    /// Made for the socket, and means nothing else.
    #[serde(serialize_with = "as_text")]
    pub id: Arc<str>,
    /// What the client says of itself: nobody has checked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// What its token, which was checked, says of it.
    #[serde(rename = "sub", serialize_with = "as_text_if_any")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
}

impl Member {
    pub(super) fn bytes(&self) -> usize {
        let data = self.data.as_ref().map_or(0, |data| data.get().len());
        data + self.id.len() + self.subject.as_ref().map_or(0, |subject| subject.len())
    }

    fn shows_the_same(&self, other: &Self) -> bool {
        let data = |member: &Self| member.data.as_ref().map(|data| data.get().to_owned());
        self.id == other.id && self.subject == other.subject && data(self) == data(other)
    }
}

/// Who came first is first.
#[derive(Debug, Default)]
pub(super) struct Presence {
    places: HashMap<u64, u64>,
    members: BTreeMap<u64, Arc<Member>>,
}

impl Presence {
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// Who is shown now for the session, if it is there.
    pub(super) fn of(&self, session: u64) -> Option<&Arc<Member>> {
        self.members.get(self.places.get(&session)?)
    }

    /// One that is there already is shown as this from now on, and keeps its place. Whether that is
    /// anything new.
    pub(super) fn join(&mut self, member: &Arc<Member>, place: u64) -> bool {
        let place = *self.places.entry(member.session).or_insert(place);
        let before = self.members.insert(place, Arc::clone(member));
        before.is_none_or(|before| !before.shows_the_same(member))
    }

    pub(super) fn leave(&mut self, session: u64) -> Option<Arc<Member>> {
        self.members.remove(&self.places.remove(&session)?)
    }

    pub(super) fn first(&self, limit: usize) -> Vec<Arc<Member>> {
        self.members.values().take(limit).cloned().collect()
    }
}

/// Who is there, as far as it is listed.
#[derive(Debug)]
pub struct Here {
    pub members: Vec<Arc<Member>>,
    pub count: u64,
}

/// What an answer that lists the members carries.
#[derive(Serialize)]
pub struct Listed<'a> {
    pub me: &'a str,
    pub members: Vec<&'a Member>,
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn as_text_if_any<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(to)
}
