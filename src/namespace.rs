//! Names of namespaces, and of the channels in them.
//!
//! Channels of different namespaces are different channels. Inside Pogo a channel of a namespace
//! other than `/` has a name that no client can say: it begins with U+0000, the namespace and U+0000
//! again. So everything that tells channels apart by their names tells these apart too, and where
//! a message leaves Pogo the two names in it become two fields again.

use std::fmt;

/// The namespace that every socket is in.
pub const DEFAULT: &str = "/";
/// Longest name, in bytes.
const LONGEST: usize = 128;
/// No name that a client gives begins with it.
const MARK: char = '\0';

/// The name of a namespace: `/`, or a path such as `/analytics`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// Not the name of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a namespace is a path such as \"/analytics\"")
    }
}

impl std::error::Error for BadName {}

/// `/`.
impl Default for Name {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl Name {
    /// Its segments are of characters that need no encoding in a path, because sockets are opened
    /// there.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
        let is_segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
        let path = text.strip_prefix('/').ok_or(BadName)?;
        match text.len() <= LONGEST && (path.is_empty() || path.split('/').all(is_segment)) {
            true => Ok(Self(text.into())),
            false => Err(BadName),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT
    }

    /// What Pogo calls that channel of this namespace.
    pub fn channel(&self, channel: &str) -> String {
        match self.is_default() {
            true => channel.to_owned(),
            false => format!("{MARK}{self}{MARK}{channel}"),
        }
    }

    /// What is below this namespace's path: of `/analytics/x` `/x`, and of `/analytics` `/`.
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.as_str())?;
        match rest.as_bytes().first() {
            None => Some("/"),
            Some(b'/') => Some(rest),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a client, or an operator, may call a channel so.
pub fn is_sayable(channel: &str) -> bool {
    !channel.starts_with(MARK)
}

/// The namespace of a channel, if it is not `/`, and what it is called there.
pub fn of_channel(channel: &str) -> (Option<&str>, &str) {
    let marked = channel.strip_prefix(MARK).and_then(|rest| rest.split_once(MARK));
    marked.map_or((None, channel), |(namespace, channel)| (Some(namespace), channel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_a_path_that_needs_no_encoding() {
        for good in ["/", "/a", "/analytics", "/a/b-c_1.~", "/..."] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for bad in ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/é", "/a b", "/a?b", &long] {
            assert_eq!(Name::new(bad), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn what_is_below_a_name_begins_at_the_end_of_a_segment() {
        let name = Name::new("/a/b").unwrap();
        for (path, below) in [
            ("/a/b", Some("/")),
            ("/a/b/", Some("/")),
            ("/a/b/c", Some("/c")),
            ("/a/bc", None),
            ("/a", None),
            ("/", None),
        ] {
            assert_eq!(name.below(path), below, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_channel_has_its_own_name_in_each_namespace(
            one in "[/a\\x00]{1,6}", other in "[/a\\x00]{1,6}",
        ) {
            let names = ["/", "/a", "/a/a"].map(|name| Name::new(name).unwrap());
            prop_assume!(is_sayable(&one) && is_sayable(&other));
            for (at, name) in names.iter().enumerate() {
                let called = name.channel(&one);
                let namespace = (at > 0).then_some(name.as_str());
                prop_assert_eq!(of_channel(&called), (namespace, &*one));
                prop_assert_eq!(is_sayable(&called), at == 0);
                for (at_other, name) in names.iter().enumerate() {
                    let same = at == at_other && one == other;
                    prop_assert_eq!(called == name.channel(&other), same);
                }
            }
        }
    }
}
