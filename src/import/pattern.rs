//! A path template as a pattern that routes are found by.

use pogo::uri::tidy;

/// A pattern for a `[[route]]`, and what it does not say.
#[derive(Debug, PartialEq)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// Where the pattern fits more or fewer paths than the template.
    pub(super) notes: Vec<String>,
}

/// A part of a segment.
enum Part<'t> {
    Literal(&'t str),
    Parameter(&'t str),
}

/// The pattern of `prefix` and `template`; `long` are parameters that may hold slashes.
pub(super) fn of(prefix: &str, template: &str, long: &[String]) -> Pattern {
    let mut notes = Vec::new();
    let whole = format!("{prefix}{template}");
    let path = match whole.find(['?', '#']) {
        Some(at) => {
            notes.push(format!("{:?} is no part of a path", &whole[at..]));
            &whole[..at]
        }
        None => &whole[..],
    };
    let path = tidy(path);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let mut names: Vec<String> = Vec::new();
    let mut text = String::new();
    for (at, segment) in segments.iter().enumerate() {
        text.push('/');
        let parts = parts(segment);
        let parameters = parts.iter().filter(|part| matches!(part, Part::Parameter(_))).count();
        if let [Part::Parameter(written)] = parts[..] {
            let bare = written.trim_matches(['*', '+']);
            let is_long = bare != written || long.iter().any(|name| name == written);
            let name = fresh(bare, &mut names);
            let last = at + 1 == segments.len();
            if is_long && !last {
                notes.push(format!("{{{name}}} may hold slashes, and is taken for one segment"));
            }
            let star = if is_long && last { "*" } else { "" };
            text.push_str(&format!("{{{star}{name}}}"));
        } else if parameters > 1 {
            let joined: Vec<&str> = parts.iter().filter_map(Part::parameter).collect();
            let name = fresh(&joined.join("_"), &mut names);
            notes.push(format!("{segment:?} has several parameters: any segment fits here"));
            text.push_str(&format!("{{{name}}}"));
        } else {
            for part in &parts {
                match part {
                    Part::Literal(literal) => push_literal(&mut text, literal),
                    Part::Parameter(written) => {
                        let name = fresh(written.trim_matches(['*', '+']), &mut names);
                        text.push_str(&format!("{{{name}}}"));
                    }
                }
            }
        }
    }
    Pattern { text, notes }
}

impl<'t> Part<'t> {
    fn parameter(&self) -> Option<&'t str> {
        match self {
            Part::Parameter(name) => Some(name),
            Part::Literal(_) => None,
        }
    }
}

/// Braces that are not one pair around a name are letters like others.
fn parts(segment: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = segment;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        let Some(close) = inside.find('}') else { break };
        let name = &inside[..close];
        if name.is_empty() || name.contains('{') {
            // The next brace may be the one.
            let letters = open + 1 + name.find('{').unwrap_or(close + 1);
            parts.push(Part::Literal(&rest[..letters]));
            rest = &rest[letters..];
            continue;
        }
        if open > 0 {
            parts.push(Part::Literal(&rest[..open]));
        }
        parts.push(Part::Parameter(name));
        rest = &inside[close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// A name that a pattern may have, and that no other parameter of it has.
fn fresh(written: &str, names: &mut Vec<String>) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let mut name: String = written.chars().map(fit).take(64).collect();
    if name.is_empty() {
        name.push('p');
    }
    while names.contains(&name) {
        name.push('_');
    }
    names.push(name.clone());
    name
}

/// As it stands in a request (RFC 3986 §3.3), with braces doubled.
fn push_literal(text: &mut String, literal: &str) {
    for byte in literal.bytes() {
        match byte {
            b'{' => text.push_str("{{"),
            b'}' => text.push_str("}}"),
            b if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&b) => {
                text.push(char::from(b));
            }
            b => text.push_str(&format!("%{b:02X}")),
        }
    }
}
