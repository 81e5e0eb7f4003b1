//! A resource's name: the canonical form that clients bind to, and the path key by which a write
//! finds what it may have touched.
//!
//! The two differ on purpose. A [`Uri`] is exact (RFC 3986 §6.2.2: unreserved characters decoded,
//! hexadecimal in upper case, nothing merged), because it is what gets fetched. A [`PathKey`] is
//! coarse (everything decoded, dot segments and empty segments resolved, parameters and a trailing
//! slash dropped), because a write whose path *may* mean the same resource must find its views:
//! finding one too many costs a GET, missing one leaves a client old.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Longest URI that may be bound, in bytes.
pub const MAX_URI: usize = 8 * 1024;

/// The canonical origin-form (RFC 9112 §3.2.1) of a resource's URI: path and query.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uri(Arc<str>);

/// Why a text is not a URI that can be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriError {
    Empty,
    TooLong,
    NotOriginForm,
    Fragment,
    Character(u8),
    Escape,
    EmptySegment,
    DotSegment,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "uri is empty"),
            Self::TooLong => write!(f, "uri is longer than {MAX_URI} bytes"),
            Self::NotOriginForm => {
                write!(f, "uri must start with one '/' and name no scheme and no host")
            }
            Self::Fragment => write!(f, "uri must not have a fragment ('#')"),
            Self::Character(b) => {
                write!(f, "uri has the byte 0x{b:02x}, which must be percent-encoded")
            }
            Self::Escape => write!(f, "uri has a '%' that is not followed by two hex digits"),
            Self::EmptySegment => write!(f, "uri has an empty path segment ('//')"),
            Self::DotSegment => write!(f, "uri has a '.' or '..' segment"),
        }
    }
}

impl std::error::Error for UriError {}

impl Uri {
    /// Reads what a client wrote. Two spellings of one resource give equal values.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        match text.as_bytes() {
            [] => return Err(UriError::Empty),
            [b'/', b'/', ..] => return Err(UriError::NotOriginForm),
            [b'/', ..] => {}
            _ => return Err(UriError::NotOriginForm),
        }
        if text.len() > MAX_URI {
            return Err(UriError::TooLong);
        }
        let canonical = canonicalise(text.as_bytes())?;
        let path = canonical.split('?').next().unwrap_or_default();
        let mut segments = path[1..].split('/').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "" if segments.peek().is_some() => return Err(UriError::EmptySegment),
                "." | ".." => return Err(UriError::DotSegment),
                _ => {}
            }
        }
        Ok(Self(canonical.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }

    pub fn key(&self) -> PathKey {
        PathKey::of(self.path())
    }
}

impl Hash for Uri {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn canonicalise(bytes: &[u8]) -> Result<String, UriError> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match *first {
            b'%' => {
                let [high, low, tail @ ..] = rest else { return Err(UriError::Escape) };
                let decoded = hex_pair(*high, *low).ok_or(UriError::Escape)?;
                rest = tail;
                if is_unreserved(decoded) {
                    out.push(char::from(decoded));
                } else {
                    out.push('%');
                    out.push(char::from(high.to_ascii_uppercase()));
                    out.push(char::from(low.to_ascii_uppercase()));
                }
            }
            b'#' => return Err(UriError::Fragment),
            b if is_allowed(b) => out.push(char::from(b)),
            b => return Err(UriError::Character(b)),
        }
    }
    Ok(out)
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 `pchar`, `/`, `?`, and the brackets that APIs use in queries (`filter[author]=3`).
fn is_allowed(b: u8) -> bool {
    is_unreserved(b) || b"/?:@!$&'()*+,;=[]{}|".contains(&b)
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// A request path with its needless spellings undone: unreserved characters decoded, empty and dot
/// segments resolved. What separates segments and what does not stays as it is.
pub fn tidy(path: &str) -> Cow<'_, str> {
    if !["%", "//", "/."].iter().any(|oddity| path.contains(oddity)) {
        return Cow::Borrowed(path);
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        decoded.push_str(before);
        let byte = match after.as_bytes() {
            [_, high, low, ..] => hex_pair(*high, *low).filter(|byte| is_unreserved(*byte)),
            _ => None,
        };
        match byte {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                decoded.push('%');
                rest = &after[1..];
            }
        }
    }
    decoded.push_str(rest);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// A path as an upstream may understand it: every segment decoded and preceded by `/`; the root is
/// empty. Ordered so that a resource's descendants are one range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey(Box<[u8]>);

impl PathKey {
    /// Reads the path of any request target; nothing is refused. An absolute-form target, a query
    /// and a fragment are cut off.
    pub fn of(target: &str) -> Self {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let path = match path.split_once("://") {
            Some((_, rest)) if !path.starts_with('/') => {
                rest.find('/').map_or("", |at| &rest[at..])
            }
            _ => path,
        };
        let decoded = decode(path.as_bytes());
        let mut key: Vec<u8> = Vec::with_capacity(decoded.len());
        for segment in decoded.split(|b| *b == b'/') {
            let segment = segment.split(|b| *b == b';').next().unwrap_or_default();
            match segment {
                b"" | b"." => {}
                b".." => key.truncate(key.iter().rposition(|b| *b == b'/').unwrap_or(0)),
                name => {
                    key.push(b'/');
                    key.extend_from_slice(name);
                }
            }
        }
        Self(key.into())
    }

    /// The first segment; a resource's ancestors (but the root) and descendants share it.
    pub fn head(&self) -> &[u8] {
        self.0.split(|b| *b == b'/').nth(1).unwrap_or_default()
    }

    /// The resources that this one lies below, nearest first; the root is the last.
    pub fn ancestors(&self) -> impl Iterator<Item = PathKey> + '_ {
        let mut end = self.0.len();
        std::iter::from_fn(move || {
            let slash = self.0[..end].iter().rposition(|b| *b == b'/')?;
            end = slash;
            Some(PathKey(self.0[..slash].into()))
        })
    }

    /// Whether one of the two lies below the other.
    pub fn is_related_to(&self, other: &Self) -> bool {
        let below = |low: &Self, high: &Self| {
            low.0.strip_prefix(&*high.0).is_some_and(|rest| rest.starts_with(b"/"))
        };
        below(self, other) || below(other, self)
    }

    /// The range of keys below this one: from the first value, up to but without the second.
    pub fn descendants(&self) -> (PathKey, PathKey) {
        let with = |last: u8| PathKey([&self.0[..], &[last]].concat().into());
        (with(b'/'), with(b'/' + 1))
    }
}

/// For matching and for people; bytes that are not UTF-8 are replaced.
impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => f.write_str("/"),
            path => f.write_str(&String::from_utf8_lossy(path)),
        }
    }
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (*first, tail) {
            (b'%', [high, low, after @ ..]) => match hex_pair(*high, *low) {
                Some(byte) => {
                    out.push(byte);
                    rest = after;
                }
                None => out.push(b'%'),
            },
            (byte, _) => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_resource_are_one_uri() {
        for (written, canonical) in [
            ("/posts/1234", "/posts/1234"),
            ("/posts/%31234", "/posts/1234"),
            ("/posts/%7euser", "/posts/~user"),
            ("/a%2fb", "/a%2Fb"),
            ("/posts/", "/posts/"),
            ("/", "/"),
            ("/posts?author=3&page=2", "/posts?author=3&page=2"),
            ("/posts?q=%c3%a9", "/posts?q=%C3%A9"),
            ("/posts?path=//../x", "/posts?path=//../x"),
            ("/posts?filter[author]=3", "/posts?filter[author]=3"),
        ] {
            assert_eq!(Uri::parse(written).unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn what_is_not_a_resource_of_this_api_is_refused_with_its_reason() {
        let long = format!("/{}", "a".repeat(MAX_URI));
        for (written, reason) in [
            ("", UriError::Empty),
            ("posts", UriError::NotOriginForm),
            ("http://other/posts", UriError::NotOriginForm),
            ("//other/posts", UriError::NotOriginForm),
            ("/a//b", UriError::EmptySegment),
            ("/a/../b", UriError::DotSegment),
            ("/a/%2e%2E/b", UriError::DotSegment),
            ("/a/.", UriError::DotSegment),
            ("/a#b", UriError::Fragment),
            ("/a b", UriError::Character(b' ')),
            ("/a\r\nb", UriError::Character(b'\r')),
            ("/é", UriError::Character(0xc3)),
            ("/a\\b", UriError::Character(b'\\')),
            ("/%zz", UriError::Escape),
            ("/%2", UriError::Escape),
            (&long, UriError::TooLong),
        ] {
            assert_eq!(Uri::parse(written).unwrap_err(), reason, "{written:.20}");
        }
    }

    #[test]
    fn paths_that_an_upstream_may_take_for_one_have_one_key() {
        let key = PathKey::of("/posts/1");
        for other in [
            "/posts/1/",
            "//posts//1",
            "/posts/./1",
            "/x/../posts/1",
            "/posts%2f1",
            "/%70osts/1?a=b",
            "http://host/posts/1",
            "/posts;v=1/1",
            "/../posts/1",
        ] {
            assert_eq!(PathKey::of(other), key, "{other}");
        }
        assert_ne!(PathKey::of("/posts/10"), key);
        assert_eq!(PathKey::of("/%zz"), PathKey("/%zz".as_bytes().into()));
    }

    #[test]
    fn a_tidy_path_keeps_what_tells_segments_apart() {
        for (spelled, tidied) in [
            ("/users/7", "/users/7"),
            ("/users/", "/users/"),
            ("/", "/"),
            ("/%75sers//7/", "/users/7"),
            ("/x/../users/./7", "/users/7"),
            ("/../users", "/users"),
            ("/users/a%2Fb", "/users/a%2Fb"),
            ("/users/%", "/users/%"),
            ("/users/%é%7", "/users/%é%7"),
        ] {
            assert_eq!(tidy(spelled), tidied);
        }
    }

    #[test]
    fn ancestors_go_up_to_the_root() {
        let up: Vec<_> = PathKey::of("/users/7/posts").ancestors().collect();
        assert_eq!(up, [PathKey::of("/users/7"), PathKey::of("/users"), PathKey::of("/")]);
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(text in "/[ -~]{0,40}") {
            if let Ok(uri) = Uri::parse(&text) {
                let again = Uri::parse(uri.as_str()).unwrap();
                prop_assert_eq!(&again, &uri);
                prop_assert_eq!(again.key(), PathKey::of(&text));
            }
        }

        #[test]
        fn any_target_has_a_key(text in "\\PC{0,60}") {
            PathKey::of(&text);
        }

        #[test]
        fn descendants_are_exactly_the_paths_below(a in "(/[a-c0.]{1,2}){0,3}", b in "(/[a-c0.]{1,2}){0,4}") {
            let (ka, kb) = (PathKey::of(&a), PathKey::of(&b));
            let (from, to) = ka.descendants();
            let inside = kb >= from && kb < to;
            prop_assert_eq!(inside, kb.ancestors().any(|k| k == ka));
            let above = ka.ancestors().any(|k| k == kb);
            prop_assert_eq!(ka.is_related_to(&kb), inside || above);
        }
    }
}
