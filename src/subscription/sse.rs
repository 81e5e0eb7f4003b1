//! Server-sent events (HTML, §9.2): what a browser's `EventSource` reads, and `curl -N`.
//!
//! An event's `id` is the version, so that a client that returns says by itself what it holds.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header, response};

use super::follow::Over;
use super::opening::First;
use super::stream::{Speech, begin_stream};
use super::wanted::{Ask, Held};
use crate::headers;
use crate::metrics::Way;
use crate::view::{Content, State, Text};

/// How long a client waits that lost the connection; a drain says another time.
const RETURN_AFTER: Duration = Duration::from_secs(2);

pub(super) fn wanted(headers: &HeaderMap) -> Option<Ask> {
    let accept = headers.get_all(header::ACCEPT).iter();
    let members = accept.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let (mut stream, mut state) = (0.0_f32, 0.0_f32);
    for member in members {
        if headers::is_event_stream(member) {
            stream = stream.max(weight(member));
        } else if is_json(member) {
            state = state.max(weight(member));
        }
    }
    let held = Held::of_last_event_id(headers);
    let ask = Ask { speech: Rc::new(Sse), way: Way::Sse, held, heartbeat: None };
    // Who would rather have the state alone gets that.
    (stream > 0.0 && stream >= state).then_some(ask)
}

/// RFC 9110 §12.4.2.
fn weight(member: &[u8]) -> f32 {
    let mut parameters = member.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let weight = parameters.find_map(|it| it.strip_prefix(b"q=").or(it.strip_prefix(b"Q=")));
    weight.map_or(1.0, |weight| {
        std::str::from_utf8(weight).ok().and_then(|weight| weight.parse().ok()).unwrap_or(0.0)
    })
}

fn is_json(member: &[u8]) -> bool {
    let essence = member.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || essence.ends_with(b"+json")
}

#[derive(Debug)]
struct Sse;

impl Speech for Sse {
    fn head(&self, head: &mut response::Parts, _version: Option<&str>) {
        begin_stream(&mut head.headers, "text/event-stream", "Accept");
        head.headers.remove(header::ETAG);
        head.headers.remove(header::LAST_MODIFIED);
    }

    fn first(&self, first: &First, is_held: bool) -> Bytes {
        let mut text = format!("retry: {}\n\n", RETURN_AFTER.as_millis());
        match is_held {
            true => text.push_str(": this is the latest\n\n"),
            false => event(&mut text, "update", Some(&first.version), first.data.get()),
        }
        text.into()
    }

    fn state(&self, state: &State) -> Bytes {
        state.texts.get(Text::Event, || {
            let mut text = String::new();
            let (name, data) = match &state.content {
                Content::Data(data) => ("update", data.0.get()),
                Content::Absent => ("delete", "null"),
                Content::Unseen => ("change", "null"),
            };
            event(&mut text, name, Some(&state.version), data);
            text.into()
        })
    }

    fn staleness(&self, stale: bool) -> Option<Bytes> {
        let mut text = String::new();
        event(&mut text, if stale { "stale" } else { "fresh" }, None, "null");
        Some(text.into())
    }

    fn heartbeat(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b":\n\n"))
    }

    fn last(&self, over: Over, return_after: Duration) -> Option<Bytes> {
        let mut text = String::new();
        match over {
            Over::Unbound(reason) => {
                let data = format!("{{\"reason\":\"{}\"}}", reason.name());
                event(&mut text, "unbind", None, &data);
            }
            Over::Left(_) => {
                text = format!("retry: {}\n: come back\n\n", return_after.as_millis());
            }
        }
        Some(text.into())
    }
}

/// An event without data would be dropped by its reader, so `null` stands for none.
fn event(text: &mut String, name: &str, id: Option<&str>, data: &str) {
    if let Some(id) = id {
        text.push_str("id: ");
        text.push_str(id);
        text.push('\n');
    }
    text.push_str("event: ");
    text.push_str(name);
    text.push('\n');
    // In JSON a line can end between two tokens only, where it means nothing.
    for line in data.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_wanted_that_is_accepted_as_much_as_json() {
        let is_wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wanted(&headers).is_some()
        };
        for accept in [
            "text/event-stream",
            "TEXT/Event-Stream",
            "application/json, text/event-stream",
            "application/hal+json;q=0.4, text/event-stream;q=0.5, application/json; q=0.1",
            "text/event-stream ; charset=utf-8,*/*",
            "text/html, text/event-stream;q=0.1",
        ] {
            assert!(is_wanted(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "text/*",
            "text/event-streams",
            "application/json",
            "",
            "text/event-stream;q=0",
            "text/event-stream; q=much",
            "application/json, text/event-stream;q=0.9",
        ] {
            assert!(!is_wanted(accept), "{accept}");
        }
    }

    #[test]
    fn json_of_several_lines_is_several_lines_of_data() {
        let mut text = String::new();
        event(&mut text, "update", Some("v1"), "{\r\n  \"a\": 1,\n\n  \"b\": 2\r}");
        assert_eq!(
            text,
            "id: v1\nevent: update\ndata: {\ndata:   \"a\": 1,\ndata:   \"b\": 2\ndata: }\n\n"
        );
    }
}
