//! Which trace a request belongs to (W3C Trace Context, level 1).
//!
//! The fields of a request pass as they came. What is here is for what Pogo does on its account:
//! its line in the access log, and the fetches that follow a write.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl Trace {
    /// None when the request names none, several, or one that is malformed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let parent = lines.next().filter(|_| lines.next().is_none())?;
        id(parent)?;
        // Several lines would have to be joined (§3.3.1.1): then the trace goes on without.
        let mut states = headers.get_all(TRACESTATE).iter();
        let state = states.next().filter(|_| states.next().is_none());
        Some(Self { parent: parent.clone(), state: state.cloned() })
    }

    pub fn id(&self) -> &str {
        id(&self.parent).unwrap_or_default()
    }

    /// Makes a request part of the trace.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// §3.2.2: version, trace, parent and flags, of which only the first two are looked at.
fn id(parent: &HeaderValue) -> Option<&str> {
    let mut parts = parent.to_str().ok()?.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let lower_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let good = version.len() == 2
        && version != "ff"
        && id.len() == 32
        && lower_hex(version)
        && lower_hex(id)
        && id.bytes().any(|b| b != b'0');
    good.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn only_a_well_formed_parent_names_a_trace() {
        let good = format!("00-{ID}-b7ad6b7169203331-01");
        let of = |text: &str| Trace::of(&headers(&[("traceparent", text)]));
        assert_eq!(of(&good).unwrap().id(), ID);
        for bad in [
            String::new(),
            format!("ff-{ID}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", ID.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", &ID[1..]),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            "Bearer secret".into(),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        assert_eq!(Trace::of(&headers(&[("traceparent", &good), ("traceparent", &good)])), None);
        assert_eq!(Trace::of(&headers(&[])), None);
    }

    #[test]
    fn a_request_is_marked_with_both_fields() {
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        let fields = headers(&[("traceparent", &parent), ("tracestate", "vendor=1")]);
        let mut marked = HeaderMap::new();
        Trace::of(&fields).unwrap().mark(&mut marked);
        assert_eq!(marked, fields);
    }
}
