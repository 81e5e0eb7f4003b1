//! The members of a collection: where each stands in its JSON, and which URI it has.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::route::Items;
use crate::uri::Uri;

/// Members that are told apart; a collection of more is one whose members are not known.
const MAX_MEMBERS: usize = 10_000;

/// A collection as its members' URIs are made from it.
#[derive(Debug, Clone, Copy)]
pub struct Collection<'a> {
    pub uri: &'a Uri,
    /// Under which name it was asked for: links to another lead elsewhere.
    pub host: Option<&'a str>,
    pub rule: &'a Items,
}

/// A member, and where it stands in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) uri: Uri,
    pub(super) place: Range<usize>,
}

impl Collection<'_> {
    /// Every member in `json`; `None` if it is not a list of members that can be told apart.
    pub(super) fn members(&self, json: &str) -> Option<Vec<Found>> {
        let whole: &RawValue = serde_json::from_str(json).ok()?;
        let list = self.rule.at.iter().find_map(|pointer| array(pointed(whole, pointer)?))?;
        if list.len() > MAX_MEMBERS {
            return None;
        }
        list.into_iter().map(|member| self.found(json, member)).collect()
    }

    fn found(&self, json: &str, member: &RawValue) -> Option<Found> {
        let uri = match &self.rule.uri {
            Some(pointer) => self.linked(&text(pointed(member, pointer)?)?)?,
            None => {
                let id = segment(&text(pointed(member, &self.rule.id)?)?);
                let path = self.uri.path();
                let path = path.strip_suffix('/').unwrap_or(path);
                Uri::parse(&format!("{path}/{id}")).ok()?
            }
        };
        let text = member.get();
        let start = (text.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
        Some(Found { uri, place: start..start + text.len() })
    }

    /// The URI in a link that names no host, or this one.
    fn linked(&self, link: &str) -> Option<Uri> {
        let link = link.split('#').next().unwrap_or_default();
        let path = match link.split_once("://") {
            Some(("http" | "https", rest)) => {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(at);
                self.host.filter(|host| host.eq_ignore_ascii_case(authority))?;
                path
            }
            _ => link,
        };
        Uri::parse(path).ok()
    }
}

fn array(json: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json.get()).ok()
}

/// A string, or an integer as it is written.
fn text(json: &RawValue) -> Option<String> {
    let text = json.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    serde_json::from_str(text).ok()
}

/// An id as one segment of a path: whatever it is, it leads to nothing but a member.
fn segment(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Where a JSON pointer leads; through objects only.
fn pointed<'a>(json: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    pointer.split('/').skip(1).try_fold(json, |json, token| {
        let key = token.replace("~1", "/").replace("~0", "~");
        let mut deserializer = serde_json::Deserializer::from_str(json.get());
        deserializer.deserialize_map(ValueOf(&key)).ok()?
    })
}

/// Takes the value of one key out of an object.
struct ValueOf<'k>(&'k str);

impl<'de> Visitor<'de> for ValueOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsKey(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(uri: &str, json: &str, rule: &Items) -> Option<Vec<(String, String)>> {
        let uri = Uri::parse(uri).unwrap();
        let collection = Collection { uri: &uri, host: Some("api.example:81"), rule };
        let found = collection.members(json)?;
        let shown = |found: Found| (found.uri.to_string(), json[found.place].to_owned());
        Some(found.into_iter().map(shown).collect())
    }

    fn uris(uri: &str, json: &str, rule: &Items) -> Option<Vec<String>> {
        Some(members(uri, json, rule)?.into_iter().map(|(uri, _)| uri).collect())
    }

    #[test]
    fn members_are_found_at_the_top_or_where_the_route_says() {
        let rule = Items::default();
        let there = [("/posts/1".to_owned(), r#"{ "id": 1 }"#.to_owned())];
        for json in [
            r#"[ { "id": 1 } ]"#,
            r#"{"total":1,"items":[{ "id": 1 }]}"#,
            r#"{"data":[{ "id": 1 }],"results":[]}"#,
            r#"{"items":{},"results":[{ "id": 1 }]}"#,
        ] {
            assert_eq!(members("/posts?page=2", json, &rule).unwrap(), there, "{json}");
        }
        let deep = Items { at: vec!["/_embedded/a~1b".into()], ..rule };
        let json = r#"{"_embedded":{"a/b":[{ "id": 1 }]}}"#;
        assert_eq!(members("/posts/", json, &deep).unwrap(), there);
        assert_eq!(members("/posts", "[]", &deep), None);
    }

    #[test]
    fn what_is_no_list_of_members_with_a_name_has_none() {
        let rule = Items::default();
        for json in [
            "1",
            "null",
            r#""a""#,
            r#"{"id":1}"#,
            "[1]",
            r#"[{"name":"a"}]"#,
            r#"[{"id":1},{"id":null}]"#,
            r#"[{"id":1.5}]"#,
            r#"[{"id":[]}]"#,
            r#"[{"id":""},{"id":"."}]"#,
            r#"[{"id":".."}]"#,
            r#"{"data":{"items":[]}}"#,
        ] {
            assert_eq!(members("/posts", json, &rule), None, "{json}");
        }
        let many = |count| format!("[{}]", vec![r#"{"id":1}"#; count].join(","));
        assert_eq!(members("/posts", &many(MAX_MEMBERS), &rule).unwrap().len(), MAX_MEMBERS);
        assert_eq!(members("/posts", &many(MAX_MEMBERS + 1), &rule), None);
    }

    #[test]
    fn an_id_leads_to_nothing_but_a_member() {
        let rule = Items { id: "/meta/key".into(), ..Items::default() };
        for (id, uri) in [
            ("-7", "/posts/-7"),
            ("\"a b\"", "/posts/a%20b"),
            ("\"../admin\"", "/posts/..%2Fadmin"),
            ("\"/admin\"", "/posts/%2Fadmin"),
            ("\"7?x=1#y%2F\"", "/posts/7%3Fx=1%23y%252F"),
            ("\"\\u00e9\"", "/posts/%C3%A9"),
            ("\"a;b\"", "/posts/a%3Bb"),
        ] {
            let json = format!(r#"[{{"id":0,"meta":{{"key":{id}}}}}]"#);
            assert_eq!(uris("/posts", &json, &rule).unwrap(), [uri], "{id}");
        }
    }

    #[test]
    fn a_link_leads_where_it_says_on_this_host() {
        let rule = Items { uri: Some("/self".into()), ..Items::default() };
        for (link, uri) in [
            ("/articles/7", Some("/articles/7")),
            ("/articles?id=7#top", Some("/articles?id=7")),
            ("http://api.example:81/articles/7", Some("/articles/7")),
            ("https://API.example:81/a", Some("/a")),
            ("https://api.example/a", None),
            ("https://elsewhere.example/a", None),
            ("//api.example:81/a", None),
            ("ftp://api.example:81/a", None),
            ("a/7", None),
            ("", None),
        ] {
            let json = format!(r#"[{{"id":1,"self":"{link}"}}]"#);
            let expected = uri.map(|uri| vec![uri.to_owned()]);
            assert_eq!(uris("/feed", &json, &rule), expected, "{link}");
        }
        assert_eq!(uris("/feed", r#"[{"id":1}]"#, &rule), None);
    }

    proptest! {
        #[test]
        fn any_id_is_one_segment_of_its_own(ids in proptest::collection::hash_set("\\PC{1,9}", 1..9)) {
            let list: Vec<_> = ids.iter().map(|id| serde_json::json!({"id": id})).collect();
            let json = serde_json::to_string(&list).unwrap();
            if let Some(found) = uris("/a/b", &json, &Items::default()) {
                let distinct: std::collections::HashSet<_> = found.iter().collect();
                prop_assert_eq!(distinct.len(), ids.len());
                for uri in &found {
                    prop_assert_eq!(uri.matches('/').count(), 3, "{}", uri);
                }
            } else {
                prop_assert!(ids.iter().any(|id| id == "." || id == ".."));
            }
        }
    }
}
