//! Patterns of paths: what is wrong with one, and what it names.

use super::Check;
use crate::config::sections::Route;

impl Check<'_> {
    pub(super) fn bad_pattern(
        &self,
        section: &str,
        routes: &[Route],
        path: &str,
        error: &matchit::InsertError,
    ) -> String {
        let matchit::InsertError::Conflict { with } = error else {
            return format!("{path:?} is not a path pattern: {error}");
        };
        let line = routes
            .iter()
            .position(|route| route.path == *with)
            .and_then(|at| self.document.line(&format!("{section}.{at}.path")));
        let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        format!("{path:?} and {with:?}{place} match the same paths; expected one rule for each")
    }
}

/// Names in braces: `/users/{id}/files/{*rest}` has `id` and `rest`. Doubled braces are literal.
pub(super) fn parameters(pattern: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        if let Some(literal) = inside.strip_prefix('{') {
            rest = literal;
            continue;
        }
        let Some(close) = inside.find('}') else { break };
        let name = &inside[..close];
        names.push(name.strip_prefix('*').unwrap_or(name));
        rest = &inside[close + 1..];
    }
    names
}
