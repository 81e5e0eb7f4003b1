//! What the example API keeps and what each caller may see and change of it. No HTTP, no clock.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use serde::{Deserialize, Serialize};

/// Everything lives in memory, so everything has a bound.
const USERS: usize = 100;
const ITEMS: usize = 1_000;
/// The oldest token ends when one more is given out.
const TOKENS: usize = 1_000;
const TEXT_CHARACTERS: usize = 200;

/// Who asks: a signed-in user, or nobody in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer(Option<(u64, String)>);

impl Viewer {
    pub(crate) const ANONYMOUS: Self = Self(None);

    pub(crate) fn id(&self) -> Result<u64, Fault> {
        self.0.as_ref().map(|(id, _)| *id).ok_or(Fault::Unauthorized)
    }

    fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, name)| name.as_str())
    }

    fn is(&self, id: u64) -> bool {
        matches!(self.0, Some((own, _)) if own == id)
    }
}

/// Why a call was refused; `api.rs` gives each its status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BadRequest(String),
    Unauthorized,
    Forbidden(&'static str),
    NotFound,
    MethodNotAllowed(&'static str),
    Conflict(&'static str),
    PreconditionFailed,
    TooLarge,
    Unprocessable(&'static str),
}

struct User {
    name: String,
    mood: String,
    email: String,
}

struct Item {
    title: String,
    done: bool,
    private: bool,
    /// `None`: made by an anonymous caller, so everybody may change it.
    owner: Option<String>,
}

/// A user as one viewer sees them: the address only as its owner.
#[derive(Debug, Serialize)]
pub(crate) struct UserSeen {
    id: u64,
    name: String,
    mood: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// An item as one viewer sees it.
#[derive(Debug, Serialize)]
pub(crate) struct ItemSeen {
    id: u64,
    title: String,
    done: bool,
    private: bool,
    owner: Option<String>,
    /// May this viewer change it?
    editable: bool,
}

/// What a client may say of a user; other fields are ignored.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct UserDraft {
    name: Option<String>,
    mood: Option<String>,
    email: Option<String>,
}

/// What a client may say of an item; other fields are ignored, so that a whole item can be sent back.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ItemDraft {
    title: Option<String>,
    done: Option<bool>,
    private: Option<bool>,
}

/// The whole state of the example.
pub(crate) struct Store {
    users: BTreeMap<u64, User>,
    items: BTreeMap<u64, Item>,
    tokens: VecDeque<(String, u64)>,
    next_user: u64,
    next_item: u64,
    issued: u64,
    /// Keyed afresh in each run: the tokens of one run mean nothing to the next.
    mint: RandomState,
}

impl Store {
    /// Three users, of whom two have well-known tokens, and five items, of which two are private.
    pub(crate) fn with_examples() -> Self {
        let mut store = Self {
            users: BTreeMap::new(),
            items: BTreeMap::new(),
            tokens: VecDeque::new(),
            next_user: 1,
            next_item: 1,
            issued: 0,
            mint: RandomState::new(),
        };
        for (name, mood) in [("alice", "curious"), ("bob", "busy"), ("carol", "away")] {
            let email = format!("{name}@example.com");
            store.insert_user(User { name: name.into(), mood: mood.into(), email });
        }
        for (token, user) in [("alice-token", 1), ("bob-token", 2)] {
            store.tokens.push_back((token.into(), user));
        }
        for (title, private, owner) in [
            ("Water the plants", false, None),
            ("Book the train", false, Some("alice")),
            ("Present for Bob", true, Some("alice")),
            ("Return the books", false, Some("bob")),
            ("Surprise party", true, Some("bob")),
        ] {
            let owner = owner.map(String::from);
            store.insert_item(Item { title: title.into(), done: false, private, owner });
        }
        store
    }

    pub(crate) fn viewer(&self, token: &str) -> Result<Viewer, Fault> {
        let id = self.tokens.iter().find(|(known, _)| known == token).map(|(_, id)| *id);
        let user = id.and_then(|id| Some((id, self.users.get(&id)?.name.clone())));
        user.map(|user| Viewer(Some(user))).ok_or(Fault::Unauthorized)
    }

    /// A token for a name; there are no passwords in this example.
    pub(crate) fn login(&mut self, draft: &UserDraft) -> Result<(String, UserSeen), Fault> {
        let name = draft.name.as_deref().ok_or(Fault::Unprocessable("name is missing"))?;
        let known = self.users.iter().find(|(_, user)| user.name == name);
        let id = *known.ok_or(Fault::Unprocessable("no user has this name"))?.0;
        let half = |half: u8| self.mint.hash_one((half, self.issued));
        let token = format!("{:016x}{:016x}", half(0), half(1));
        self.issued += 1;
        if self.tokens.len() == TOKENS {
            self.tokens.pop_front();
        }
        self.tokens.push_back((token.clone(), id));
        let seen = self.user(&Viewer(Some((id, name.into()))), id)?;
        Ok((token, seen))
    }

    pub(crate) fn logout(&mut self, token: &str) {
        self.tokens.retain(|(known, _)| known != token);
    }

    pub(crate) fn users(&self, viewer: &Viewer) -> Vec<UserSeen> {
        self.users.iter().map(|(id, user)| user.seen(*id, viewer)).collect()
    }

    pub(crate) fn user(&self, viewer: &Viewer, id: u64) -> Result<UserSeen, Fault> {
        Ok(self.users.get(&id).ok_or(Fault::NotFound)?.seen(id, viewer))
    }

    pub(crate) fn create_user(&mut self, draft: UserDraft) -> Result<u64, Fault> {
        let name = text(draft.name)?.ok_or(Fault::Unprocessable("name is missing"))?;
        if !is_name(&name) {
            return Err(Fault::Unprocessable("a name has 1 to 32 letters, digits, - or _"));
        }
        if self.users.values().any(|user| user.name == name) {
            return Err(Fault::Conflict("this name is taken"));
        }
        if self.users.len() == USERS {
            return Err(Fault::Conflict("this example keeps at most 100 users"));
        }
        let mood = text(draft.mood)?.unwrap_or_default();
        let email = text(draft.email)?.unwrap_or_default();
        Ok(self.insert_user(User { name, mood, email }))
    }

    /// `whole`: what the draft does not say goes back to nothing (PUT), or stays as it is (PATCH).
    pub(crate) fn change_user(
        &mut self,
        viewer: &Viewer,
        id: u64,
        draft: UserDraft,
        whole: bool,
    ) -> Result<UserSeen, Fault> {
        let user = self.users.get_mut(&id).ok_or(Fault::NotFound)?;
        own_account(viewer, id)?;
        if draft.name.is_some_and(|name| name != user.name) {
            return Err(Fault::Unprocessable("a name cannot be changed"));
        }
        let blank = || whole.then(String::new);
        let (mood, email) = (text(draft.mood)?, text(draft.email)?);
        user.mood = mood.or_else(blank).unwrap_or_else(|| user.mood.clone());
        user.email = email.or_else(blank).unwrap_or_else(|| user.email.clone());
        Ok(user.seen(id, viewer))
    }

    /// A user leaves with their tokens. Their items go first, each by its own name, so that whoever
    /// watches one hears of it.
    pub(crate) fn delete_user(&mut self, viewer: &Viewer, id: u64) -> Result<(), Fault> {
        let name = self.users.get(&id).ok_or(Fault::NotFound)?.name.clone();
        own_account(viewer, id)?;
        if self.items.values().any(|item| item.owner.as_deref() == Some(name.as_str())) {
            return Err(Fault::Conflict("delete your items first"));
        }
        self.users.remove(&id);
        self.tokens.retain(|(_, user)| *user != id);
        Ok(())
    }

    pub(crate) fn items(&self, viewer: &Viewer, owner: Option<&str>) -> Vec<ItemSeen> {
        let asked = |item: &Item| owner.is_none() || item.owner.as_deref() == owner;
        let visible = self.items.iter().filter(|(_, item)| item.visible(viewer) && asked(item));
        visible.map(|(id, item)| item.seen(*id, viewer)).collect()
    }

    pub(crate) fn item(&self, viewer: &Viewer, id: u64) -> Result<ItemSeen, Fault> {
        let item = self.items.get(&id).filter(|item| item.visible(viewer));
        Ok(item.ok_or(Fault::NotFound)?.seen(id, viewer))
    }

    pub(crate) fn create_item(&mut self, viewer: &Viewer, draft: ItemDraft) -> Result<u64, Fault> {
        if self.items.len() == ITEMS {
            return Err(Fault::Conflict("this example keeps at most 1,000 items; delete some"));
        }
        let mut item = Item {
            title: String::new(),
            done: false,
            private: false,
            owner: viewer.name().map(String::from),
        };
        item.apply(draft, true)?;
        Ok(self.insert_item(item))
    }

    /// `whole` as in [`Store::change_user`].
    pub(crate) fn change_item(
        &mut self,
        viewer: &Viewer,
        id: u64,
        draft: ItemDraft,
        whole: bool,
    ) -> Result<ItemSeen, Fault> {
        let item = self.editable(viewer, id)?;
        item.apply(draft, whole)?;
        Ok(item.seen(id, viewer))
    }

    pub(crate) fn delete_item(&mut self, viewer: &Viewer, id: u64) -> Result<(), Fault> {
        self.editable(viewer, id)?;
        self.items.remove(&id);
        Ok(())
    }

    fn editable(&mut self, viewer: &Viewer, id: u64) -> Result<&mut Item, Fault> {
        let item = self.items.get_mut(&id).filter(|item| item.visible(viewer));
        let item = item.ok_or(Fault::NotFound)?;
        if item.editable(viewer) {
            return Ok(item);
        }
        Err(if viewer.0.is_none() {
            Fault::Unauthorized
        } else {
            Fault::Forbidden("not your item")
        })
    }

    fn insert_user(&mut self, user: User) -> u64 {
        let id = self.next_user;
        self.next_user += 1;
        self.users.insert(id, user);
        id
    }

    fn insert_item(&mut self, item: Item) -> u64 {
        let id = self.next_item;
        self.next_item += 1;
        self.items.insert(id, item);
        id
    }
}

impl User {
    fn seen(&self, id: u64, viewer: &Viewer) -> UserSeen {
        let email = viewer.is(id).then(|| self.email.clone());
        UserSeen { id, name: self.name.clone(), mood: self.mood.clone(), email }
    }
}

impl Item {
    fn visible(&self, viewer: &Viewer) -> bool {
        !self.private || self.owner.as_deref() == viewer.name()
    }

    fn editable(&self, viewer: &Viewer) -> bool {
        self.owner.is_none() || self.owner.as_deref() == viewer.name()
    }

    fn seen(&self, id: u64, viewer: &Viewer) -> ItemSeen {
        ItemSeen {
            id,
            title: self.title.clone(),
            done: self.done,
            private: self.private,
            owner: self.owner.clone(),
            editable: self.editable(viewer),
        }
    }

    /// All or nothing: a refused draft changes no field.
    fn apply(&mut self, draft: ItemDraft, whole: bool) -> Result<(), Fault> {
        let title = text(draft.title)?;
        if title.as_deref() == Some("") || (whole && title.is_none()) {
            return Err(Fault::Unprocessable("title is missing"));
        }
        let private = draft.private.unwrap_or(!whole && self.private);
        if private && self.owner.is_none() {
            return Err(Fault::Unprocessable("sign in to keep an item private"));
        }
        self.title = title.unwrap_or_else(|| self.title.clone());
        self.done = draft.done.unwrap_or(!whole && self.done);
        self.private = private;
        Ok(())
    }
}

fn own_account(viewer: &Viewer, id: u64) -> Result<(), Fault> {
    if viewer.id()? == id { Ok(()) } else { Err(Fault::Forbidden("not your account")) }
}

/// Names stand in queries (`/items?owner=alice`) as they are.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

fn text(given: Option<String>) -> Result<Option<String>, Fault> {
    let Some(given) = given else { return Ok(None) };
    if given.chars().count() > TEXT_CHARACTERS {
        return Err(Fault::Unprocessable("a text is over 200 characters"));
    }
    Ok(Some(given.trim().to_owned()))
}
