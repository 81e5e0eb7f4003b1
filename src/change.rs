//! Which URIs an exchange may have touched. Pure: a method, a target, an outcome, the route.
//!
//! Over-approximating is deliberate: a view that is marked dirty without need costs one conditional
//! GET and tells nobody anything; a view that is missed leaves its clients old.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use crate::groups;
use crate::route::{Route, Routes};
use crate::trace::Trace;
use crate::uri::{PathKey, Uri};

/// What one write may have touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub touches: Vec<Touch>,
    /// When to ask again, after the first time, for upstreams whose reads lag behind their writes.
    pub settle: Vec<Duration>,
    /// The URI whose views are left alone, because their new state follows by another way.
    pub spared: Option<Uri>,
    /// Of the write, for the fetches that follow it.
    pub trace: Option<Arc<Trace>>,
}

impl Change {
    pub fn of_everything(settle: Vec<Duration>) -> Self {
        let touches = vec![Touch::Family(PathKey::of("/"))];
        Self { touches, settle, spared: None, trace: None }
    }

    /// Something elsewhere, of which only the groups are known.
    pub fn of_groups(groups: impl IntoIterator<Item = Arc<str>>) -> Self {
        let touches = groups.into_iter().map(Touch::Group).collect();
        Self { touches, settle: Vec::new(), spared: None, trace: None }
    }

    /// Whether the path is one that was written, not one above, below or beside it.
    pub fn names(&self, path: &PathKey) -> bool {
        self.touches.iter().any(|touch| *touch == Touch::Family(path.clone()))
    }

    pub fn touches(&self, path: &PathKey) -> bool {
        self.touches.iter().any(|touch| match touch {
            Touch::Path(touched) => touched == path,
            Touch::Family(touched) => touched == path || touched.is_related_to(path),
            // A view that is opened is fetched after the change.
            Touch::Group(_) => false,
        })
    }
}

/// A part of the URI space. Query variants of every path are included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// The path, everything above it and everything below it.
    Family(PathKey),
    /// The path alone.
    Path(PathKey),
    /// Whatever the API has said to be in the group.
    Group(Arc<str>),
}

/// After a `202 Accepted` the work is done later; nothing says when (RFC 9110 §15.3.3). The same
/// holds for a write whose answer did not come: the upstream may still be at it.
const ACCEPTED_SETTLE: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(2), Duration::from_secs(10)];

/// What a request with `method` to `target` touched, given the `status` it was answered with.
///
/// `None` as the status is an unknown outcome (reset, time-out): it may have happened.
pub fn touched(
    method: &Method,
    target: &str,
    status: Option<StatusCode>,
    headers: &HeaderMap,
    routes: &Routes,
) -> Option<Change> {
    if !is_write(method) {
        return None;
    }
    let route = routes.of(target);
    let mut touches = Vec::new();
    if route.rule.realtime && may_have_happened(method, status) {
        touches = touched_by_path(target, headers, &route);
    }
    // Named by the API itself, which knows; whatever the path's rule is (RFC 9875 §3).
    if status.is_some_and(|status| status.as_u16() < 400) {
        let groups = groups::listed(headers, &groups::INVALIDATION);
        touches.extend(groups.into_iter().map(Touch::Group));
    }
    if touches.is_empty() {
        return None;
    }
    let mut settle = route.rule.settle.clone();
    let may_still_happen = matches!(
        status,
        None | Some(StatusCode::ACCEPTED | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
    );
    if may_still_happen && settle.is_empty() {
        settle = ACCEPTED_SETTLE.to_vec();
    }
    Some(Change { touches, settle, spared: None, trace: None })
}

/// What a write touches by where it went and what its answer names.
fn touched_by_path(target: &str, headers: &HeaderMap, route: &Route<'_>) -> Vec<Touch> {
    if let Some(only) = route.affects_only() {
        return only.iter().map(|uri| Touch::Path(PathKey::of(uri))).collect();
    }
    let mut touches = Vec::new();
    let target_key = PathKey::of(target);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        for value in headers.get_all(name) {
            let text = std::str::from_utf8(value.as_bytes()).ok();
            let named = text.map(|uri| resolve(uri, target));
            if let Some(key) = named.filter(|key| *key != target_key) {
                touches.push(Touch::Family(key));
            }
        }
    }
    touches.push(Touch::Family(target_key));
    touches.extend(route.affects().iter().map(|uri| Touch::Path(PathKey::of(uri))));
    touches
}

/// Everything but the safe methods (RFC 9110 §9.2.1) may change state; unknown methods too.
pub fn is_write(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
    )
}

fn may_have_happened(method: &Method, status: Option<StatusCode>) -> bool {
    match status {
        None => true,
        Some(status) if status.is_success() || status.is_server_error() => true,
        Some(status) => status == StatusCode::SEE_OTHER && *method == Method::POST,
    }
}

/// A reference relative to the target (RFC 3986 §5.2), as far as its path key goes.
fn resolve(reference: &str, target: &str) -> PathKey {
    if reference.starts_with('/') || reference.contains("://") {
        let reference = reference
            .strip_prefix("//")
            .map_or(reference, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
        return PathKey::of(reference);
    }
    let path = target.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
    PathKey::of(&format!("{folder}{reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Rule;

    fn family(path: &str) -> Touch {
        Touch::Family(PathKey::of(path))
    }

    fn touches(method: &str, target: &str, status: u16, location: Option<&str>) -> Vec<Touch> {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(header::LOCATION, location.parse().unwrap());
        }
        let status = (status != 0).then(|| StatusCode::from_u16(status).unwrap());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        touched(&method, target, status, &headers, &Routes::default())
            .map_or_else(Vec::new, |change| change.touches)
    }

    #[test]
    fn a_write_is_an_unsafe_method_that_succeeded_or_may_have() {
        for (method, status) in [
            ("POST", 201),
            ("PUT", 204),
            ("PATCH", 200),
            ("DELETE", 204),
            ("POST", 303),
            ("POST", 207),
            ("PUT", 500),
            ("PUT", 504),
            ("PUT", 0),
            ("MKCOL", 201),
        ] {
            assert!(!touches(method, "/posts/1", status, None).is_empty(), "{method} {status}");
        }
        for (method, status) in [
            ("GET", 200),
            ("HEAD", 200),
            ("OPTIONS", 204),
            ("PUT", 400),
            ("PUT", 404),
            ("DELETE", 403),
            ("PUT", 303),
            ("POST", 302),
            ("PUT", 412),
        ] {
            assert!(touches(method, "/posts/1", status, None).is_empty(), "{method} {status}");
        }
    }

    #[test]
    fn what_changes_everything_touches_every_path() {
        let change = Change::of_everything(Vec::new());
        for path in ["/", "/posts", "/users/7/posts", "/%00", "/é"] {
            assert!(change.touches(&PathKey::of(path)), "{path}");
        }
    }

    #[test]
    fn location_is_touched_whatever_its_form() {
        for location in [
            "/posts/7",
            "http://api/posts/7",
            "https://api:1/posts/7?x=1",
            "//api/posts/7",
            "posts/7",
        ] {
            assert_eq!(
                touches("POST", "/posts?draft=1", 201, Some(location)),
                [family("/posts/7"), family("/posts")],
                "{location}"
            );
        }
    }

    #[test]
    fn a_route_adds_replaces_or_silences() {
        let rule = |path: &str| Rule { path: path.into(), ..Rule::default() };
        let routes = Routes::new(vec![
            Rule { affects: vec!["/users/{id}/feed".into()], ..rule("/users/{id}/posts/{post}") },
            Rule { affects_only: Some(vec!["/stats".into()]), ..rule("/events") },
            Rule { realtime: false, ..rule("/metrics") },
        ])
        .unwrap();
        let of = |target: &str| {
            touched(&Method::PUT, target, Some(StatusCode::OK), &HeaderMap::new(), &routes)
                .map(|change| change.touches)
        };
        assert_eq!(
            of("/users/7/posts/3").unwrap(),
            [family("/users/7/posts/3"), Touch::Path(PathKey::of("/users/7/feed"))]
        );
        assert_eq!(of("/events").unwrap(), [Touch::Path(PathKey::of("/stats"))]);
        assert_eq!(of("/metrics"), None);
    }

    #[test]
    fn accepted_work_is_asked_for_again() {
        let change = touched(
            &Method::POST,
            "/jobs",
            Some(StatusCode::ACCEPTED),
            &HeaderMap::new(),
            &Routes::default(),
        );
        assert_eq!(change.unwrap().settle, ACCEPTED_SETTLE);
    }
}
