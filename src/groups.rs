//! Cache groups (RFC 9875): names under which an API says which of its answers belong together,
//! and which of them a write has changed.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// On an answer: the groups it is in.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// On an answer to an unsafe request: the groups whose answers have changed.
pub const INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Groups that are read from one answer, which is as many as a cache must bear (§2.1, §3).
pub const MOST: usize = 32;
/// Longest name of a group, in bytes; a cache must bear 32.
pub const LONGEST: usize = 128;

/// The groups in a field: a list of strings (RFC 9651 §3.1), whose parameters do not count. One
/// that is malformed is not there.
pub fn listed(headers: &HeaderMap, field: &HeaderName) -> Vec<Arc<str>> {
    let mut lines = headers.get_all(field).iter().peekable();
    if lines.peek().is_none() {
        return Vec::new();
    }
    let lines: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
    let mut groups = lines.and_then(|lines| list(&lines.join(","))).unwrap_or_default();
    groups.retain(|group| group.len() <= LONGEST);
    groups.truncate(MOST);
    groups
}

fn list(mut rest: &str) -> Option<Vec<Arc<str>>> {
    let mut members: Vec<Arc<str>> = Vec::new();
    rest = rest.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (member, after) = string(rest)?;
        if !members.iter().any(|other| **other == *member) {
            members.push(member.into());
        }
        rest = parameters(after)?.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t']);
            // A comma at the end has nothing after it.
            rest.chars().next()?;
        }
    }
    Some(members)
}

/// A string (RFC 9651 §3.3.3) and what comes after it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c @ ' '..='~' => value.push(c),
            _ => return None,
        }
    }
}

/// Skips the parameters of a member (RFC 9651 §3.1.2).
fn parameters(mut rest: &str) -> Option<&str> {
    while let Some(after) = rest.strip_prefix(';') {
        let key_end = |c: char| !(c.is_ascii_alphanumeric() || "_-.*".contains(c));
        let after = after.trim_start_matches(' ');
        let end = after.find(key_end).unwrap_or(after.len());
        rest = after.get(end..).filter(|_| end > 0)?;
        if let Some(value) = rest.strip_prefix('=') {
            rest = match value.starts_with('"') {
                true => string(value)?.1,
                false => &value[value.find([';', ',', ' ']).unwrap_or(value.len())..],
            };
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        let headers: HeaderMap =
            lines.iter().map(|line| (CACHE_GROUPS, line.parse().unwrap())).collect();
        listed(&headers, &CACHE_GROUPS).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_list_of_strings_is_read_over_all_its_lines() {
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&[""]), [""; 0]);
        assert_eq!(of(&["\"a\""]), ["a"]);
        assert_eq!(of(&["\"a\", \"b c\"", "\"d\\\"\\\\\""]), ["a", "b c", "d\"\\"]);
        assert_eq!(of(&["\"a\";x;y=1;z=\"q,\\\"\", \"b\"\t,\t\"a\""]), ["a", "b"]);
    }

    #[test]
    fn what_is_no_list_of_strings_is_not_there() {
        for bad in [
            "a",
            "\"a",
            "\"a\",",
            ",\"a\"",
            "\"a\" \"b\"",
            "\"a\", b",
            "\"\\a\"",
            "\"a\";",
            "(\"a\")",
            "\"é\"",
        ] {
            assert_eq!(of(&[bad]), [""; 0], "{bad}");
        }
        assert_eq!(of(&["\"a\"", "b"]), [""; 0]);
    }

    #[test]
    fn neither_many_nor_long_names_are_kept() {
        let many: Vec<_> = (0..100).map(|number| format!("\"{number}\"")).collect();
        assert_eq!(of(&[&many.join(", ")]).len(), MOST);
        assert_eq!(of(&[&format!("\"{}\", \"short\"", "x".repeat(LONGEST + 1))]), ["short"]);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_as_a_list_is_read_as_the_same(names in proptest::collection::vec("[ -~]{1,20}", 0..10)) {
            let quoted = |name: &String| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            let text = names.iter().map(quoted).collect::<Vec<_>>().join(" ,");
            let mut unique: Vec<String> = Vec::new();
            for name in names {
                if !unique.contains(&name) {
                    unique.push(name);
                }
            }
            proptest::prop_assert_eq!(of(&[&text]), unique);
        }
    }
}
