//! The Per-Resource Events Protocol (draft-gupta-httpbis-per-resource-events): a GET with
//! `Accept-Events: "prep"` is answered with the representation and, in a second part, a notification
//! for each change. A notification says that there is a new state, not which: the client asks for it.
//!
//! What changed a view is not known to it, so `Method` says what the change amounts to: `PUT`, or
//! `DELETE` when the resource is gone. Several changes in a short time are one notification.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, response};

use super::Options;
use super::follow::Over;
use super::opening::First;
use super::stream::{Speech, begin_stream};
use super::wanted::{Ask, Held};
use crate::metrics::Way;
use crate::view::{Content, State};

const ACCEPT_EVENTS: HeaderName = HeaderName::from_static("accept-events");
const EVENTS: HeaderName = HeaderName::from_static("events");
/// A stream has to say when it will end.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Neither can be in a part: outside of JSON's strings there is no such line, and in them no line.
const MIXED: &str = "multipart/mixed; boundary=\"pogo-parts\"";
const DIGEST: &str = "multipart/digest; boundary=\"pogo-events\"";

pub(super) fn wanted(headers: &HeaderMap, options: &Options) -> Option<Ask> {
    let mut lines = headers.get_all(ACCEPT_EVENTS).iter();
    if !lines.any(|line| line.to_str().is_ok_and(accepts)) {
        return None;
    }
    let held = match Held::of_last_event_id(headers) {
        Held::Version(id) if id == "*" => Held::Anything,
        held => held,
    };
    let lifetime = options.max_lifetime.map_or(LIFETIME, |life| life.min(LIFETIME));
    Some(Ask { speech: Rc::new(Prep { lifetime }), way: Way::Prep, held, heartbeat: None })
}

/// Whether the list has `"prep"`, with notifications of the one kind that there is.
fn accepts(list: &str) -> bool {
    split(list, ',').iter().any(|member| {
        let mut parts = split(member, ';').into_iter().map(str::trim);
        parts.next() == Some("\"prep\"")
            && parts.all(|parameter| match parameter.split_once('=') {
                Some(("q", weight)) => weight.parse::<f32>().is_ok_and(|weight| weight > 0.0),
                Some(("accept", kinds)) => {
                    ["message/rfc822", "message/*", "*/*"].iter().any(|kind| kinds.contains(kind))
                }
                _ => true,
            })
    })
}

/// Splits where neither a string nor an inner list is (RFC 8941 §3).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ if c == separator && !quoted && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[derive(Debug)]
struct Prep {
    lifetime: Duration,
}

impl Speech for Prep {
    fn head(&self, head: &mut response::Parts, _version: Option<&str>) {
        begin_stream(&mut head.headers, MIXED, "Accept-Events, Last-Event-ID");
        let kinds = HeaderValue::from_static("\"prep\"; accept=\"message/rfc822\"");
        head.headers.insert(ACCEPT_EVENTS, kinds);
        let seconds = self.lifetime.as_secs();
        let events = format!("protocol=\"prep\", status=200, expires={seconds}");
        if let Ok(events) = events.parse() {
            head.headers.insert(EVENTS, events);
        }
    }

    fn first(&self, first: &First, is_held: bool) -> Bytes {
        let kind = first.parts.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
        let body = if is_held { "" } else { first.data.get() };
        // The delimiter goes ahead of its line end, which decides whether another part follows:
        // with it here the part before it is whole.
        let text = format!(
            "--pogo-parts\r\nContent-Type: {kind}\r\n\r\n{body}\r\n\
             --pogo-parts\r\nContent-Type: {DIGEST}\r\n\r\n--pogo-events"
        );
        text.into()
    }

    fn state(&self, state: &State) -> Bytes {
        let method = if self.ends_with(state) { "DELETE" } else { "PUT" };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let version = &state.version;
        let mut text =
            format!("\r\n\r\nMethod: {method}\r\nDate: {date}\r\nEvent-ID: {version}\r\n");
        if let Some(etag) = state.etag.as_ref().and_then(|etag| etag.to_str().ok()) {
            text.push_str(&format!("ETag: {etag}\r\n"));
        }
        text.push_str("\r\n\r\n--pogo-events");
        if self.ends_with(state) {
            text.push_str(END);
        }
        text.into()
    }

    fn heartbeat(&self) -> Option<Bytes> {
        None
    }

    fn last(&self, _over: Over, _return_after: Duration) -> Option<Bytes> {
        Some(Bytes::from_static(END.as_bytes()))
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(self.lifetime)
    }

    fn ends_with(&self, state: &State) -> bool {
        state.content == Content::Absent
    }
}

/// Closes both bodies, behind the delimiter of the inner one.
const END: &str = "--\r\n--pogo-parts--\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_accepts_notifications_if_it_names_them_and_their_kind() {
        for list in [
            "\"prep\"",
            " \"solid\" , \"prep\"",
            "\"prep\"; accept=\"message/rfc822\"",
            "\"prep\";accept=(\"text/turtle\" \"message/rfc822\";delta=\"a,b\");q=0.5",
            "\"a\\\"b,\";x=\"prep\", \"prep\";q=1.0",
        ] {
            assert!(accepts(list), "{list}");
        }
        for list in [
            "",
            "prep",
            "\"other\"",
            "\"prep\";q=0",
            "\"prep\";q=much",
            "\"prep\"; accept=\"text/turtle\"",
            "\"other\"; x=\",\\\"prep\\\",\"",
            "(\"prep\" \"other\")",
        ] {
            assert!(!accepts(list), "{list}");
        }
    }
}
