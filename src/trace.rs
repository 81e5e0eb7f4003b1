//! Which trace a request belongs to (W3C Trace Context, level 1).
//!
//! The fields of a request pass as they came, unless Pogo has a span of its own in the trace. What is
//! here is for what it does on a request's account: its line in the access log, its span, and the
//! fetches that follow a write.

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

/// The span that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub trace: u128,
    pub span: u64,
    /// Somebody before has begun to record the trace.
    pub sampled: bool,
}

impl Parent {
    /// None as for [`Trace::of`], and when anything else of it is malformed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let parent = lines.next().filter(|_| lines.next().is_none())?;
        let trace = u128::from_str_radix(id(parent)?, 16).ok()?;
        let mut parts = parent.to_str().ok()?.split('-').skip(2);
        let (span, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // A later version may say more behind them.
        if parent.as_bytes().starts_with(b"00-") && parts.next().is_some() {
            return None;
        }
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// Makes this what a request comes from. Of flags only the one is known (§3.2.2.5).
    pub fn mark(&self, headers: &mut HeaderMap) {
        let Self { trace, span, sampled } = self;
        let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled));
        if let Ok(parent) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, parent);
        }
    }
}

/// What vendors say of the trace of a request, if it is one line of so many bytes at most.
pub fn state(headers: &HeaderMap, most: usize) -> Option<&str> {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.to_str().ok().filter(|text| text.len() <= most)
}

/// What was said of another trace says nothing of a new one (§3.3.1.1).
pub fn forget_state(headers: &mut HeaderMap) {
    headers.remove(TRACESTATE);
}

/// §3.2.2: version, trace, parent and flags, of which only the first two are looked at.
fn id(parent: &HeaderValue) -> Option<&str> {
    let mut parts = parent.to_str().ok()?.split('-');
    let (version, id) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
    (version != "ff" && id.bytes().any(|b| b != b'0')).then_some(id)
}

fn hex(text: &str, digits: usize) -> Option<&str> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then_some(text)
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
    fn only_a_well_formed_parent_is_gone_on_from() {
        let of = |text: &str| Parent::of(&headers(&[("traceparent", text)]));
        let trace = u128::from_str_radix(ID, 16).unwrap();
        let parent = |sampled| Some(Parent { trace, span: 0xb7ad_6b71_6920_3331, sampled });
        assert_eq!(of(&format!("00-{ID}-b7ad6b7169203331-01")), parent(true));
        assert_eq!(of(&format!("00-{ID}-b7ad6b7169203331-02")), parent(false));
        assert_eq!(of(&format!("01-{ID}-b7ad6b7169203331-03-more")), parent(true));
        for bad in [
            format!("00-{ID}"),
            format!("00-{ID}-b7ad6b7169203331"),
            format!("00-{ID}-b7ad6b7169203331-1"),
            format!("00-{ID}-b7ad6b7169203331-01-more"),
            format!("00-{ID}-B7AD6B7169203331-01"),
            format!("00-{ID}-+7ad6b7169203331-01"),
            format!("00-{ID}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        let mut marked = headers(&[("traceparent", "one"), ("traceparent", "two")]);
        parent(true).unwrap().mark(&mut marked);
        let text = format!("00-{ID}-b7ad6b7169203331-01");
        assert_eq!(marked, headers(&[("traceparent", &text)]));
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
