//! How the members of a collection are found in its JSON, and what they are shown as.

use serde::{Deserialize, Serialize};

/// Of one route, for bindings that ask for `items`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// JSON pointers (RFC 6901); the first that leads to an array leads to the members.
    pub at: Vec<String>,
    /// A JSON pointer in a member: its URI is the collection's path, a slash and this.
    pub id: String,
    /// A JSON pointer in a member to its URI, for members that are not below their collection.
    pub uri: Option<String>,
    pub data: ItemData,
}

/// What a member is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemData {
    /// What a GET of its own URI answers.
    #[default]
    Fetched,
    /// What stands in the collection.
    Embedded,
}

impl Default for Items {
    fn default() -> Self {
        Self { at: Self::places(), id: Self::key(), uri: None, data: ItemData::default() }
    }
}

impl Items {
    /// Where the members are, if nothing is said.
    pub fn places() -> Vec<String> {
        ["", "/items", "/data", "/results"].map(str::to_owned).to_vec()
    }

    /// What a member is called, if nothing is said.
    pub fn key() -> String {
        "/id".into()
    }
}
