//! Braid-HTTP (draft-toomim-httpbis-braid-http-04): a GET with `Subscribe` is answered 209, and each
//! update has a head and a length of its own. Whole states are sent, no patches; a version is a name
//! of content, as an ETag is, so no `Parents` are claimed.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};
use hyper::ext::ReasonPhrase;

use super::follow::Over;
use super::opening::First;
use super::stream::{Speech, begin_stream};
use super::wanted::{Ask, Held};
use crate::metrics::Way;
use crate::view::{Content, State, Text};

const SUBSCRIBE: HeaderName = HeaderName::from_static("subscribe");
const HEARTBEATS: HeaderName = HeaderName::from_static("heartbeats");
const CURRENT_VERSION: HeaderName = HeaderName::from_static("current-version");
/// A client that wants to hear more often than that hears as often as that.
const LEAST_HEARTBEAT: f64 = 1.0;
const LONGEST_HEARTBEAT: f64 = 3600.0;

pub(super) fn wanted(headers: &HeaderMap) -> Option<Ask> {
    let subscribe = headers.get(SUBSCRIBE)?;
    // §2.5: a GET of one version asks for no other.
    if headers.contains_key("version")
        || ["?0", "false"].map(str::as_bytes).contains(&subscribe.as_bytes())
    {
        return None;
    }
    let heartbeat = headers.get(HEARTBEATS).and_then(heartbeat);
    let speech = Braid { subscribe: subscribe.clone(), heartbeat };
    Some(Ask { speech: Rc::new(speech), way: Way::Braid, held: held(headers), heartbeat })
}

/// `5s`, as the reference implementation has it.
fn heartbeat(value: &HeaderValue) -> Option<Duration> {
    let seconds: f64 = value.to_str().ok()?.trim().trim_end_matches('s').parse().ok()?;
    seconds
        .is_finite()
        .then(|| Duration::from_secs_f64(seconds.clamp(LEAST_HEARTBEAT, LONGEST_HEARTBEAT)))
}

/// §4.3: the last known version. Of several, none is a whole state's.
fn held(headers: &HeaderMap) -> Held {
    let parents = headers.get("parents").and_then(|parents| parents.to_str().ok());
    let ids = parents.and_then(|text| serde_json::from_str(&format!("[{text}]")).ok());
    let mut ids: Vec<String> = ids.unwrap_or_default();
    match (ids.pop(), ids.is_empty()) {
        (Some(id), true) => Held::Version(id),
        _ => Held::Nothing,
    }
}

#[derive(Debug)]
struct Braid {
    subscribe: HeaderValue,
    heartbeat: Option<Duration>,
}

impl Speech for Braid {
    fn head(&self, head: &mut response::Parts, version: Option<&str>) {
        begin_stream(&mut head.headers, "application/http-history", "Subscribe, Parents");
        head.headers.remove(header::ETAG);
        head.headers.remove(header::LAST_MODIFIED);
        if let Ok(status) = StatusCode::from_u16(209) {
            head.status = status;
            head.extensions.insert(ReasonPhrase::from_static(b"Multiresponse"));
        }
        head.headers.insert(SUBSCRIBE, self.subscribe.clone());
        let version = version.and_then(|version| HeaderValue::try_from(quoted(version)).ok());
        if let Some(version) = version {
            head.headers.insert(CURRENT_VERSION, version);
        }
        let told =
            self.heartbeat.and_then(|every| format!("{}s", every.as_secs_f64()).parse().ok());
        if let Some(every) = told {
            head.headers.insert(HEARTBEATS, every);
        }
    }

    fn first(&self, first: &First, is_held: bool) -> Bytes {
        match is_held {
            true => Bytes::from_static(b"\r\n"),
            false => update("200 OK", &first.version, Some(first.data.get())),
        }
    }

    fn state(&self, state: &State) -> Bytes {
        state.texts.get(Text::Update, || match &state.content {
            Content::Data(data) => update("200 OK", &state.version, Some(data.0.get())),
            Content::Absent => update("404 Not Found", &state.version, None),
            // It has changed; the client asks for what it is now.
            Content::Unseen => update("205 Reset Content", &state.version, None),
        })
    }

    fn heartbeat(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b"\r\n"))
    }

    fn last(&self, _over: Over, _return_after: Duration) -> Option<Bytes> {
        None
    }
}

/// §4.2: a head, a body of the length that it says, and a line between it and the next.
fn update(status: &str, version: &str, json: Option<&str>) -> Bytes {
    let body = json.unwrap_or_default();
    let media_type = if json.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let version = quoted(version);
    let head = format!(
        "HTTP {status}\r\nVersion: {version}\r\n{media_type}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut update = BytesMut::with_capacity(head.len() + body.len() + 4);
    update.put_slice(head.as_bytes());
    update.put_slice(body.as_bytes());
    update.put_slice(b"\r\n\r\n");
    update.freeze()
}

/// A string of structured fields (RFC 8941 §3.3.3). A version is of visible characters, so JSON's
/// way is the same.
fn quoted(version: &str) -> String {
    serde_json::Value::from(version).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Option<Ask> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        wanted(&headers)
    }

    #[test]
    fn subscribe_asks_for_it_unless_it_says_no_or_one_version_is_meant() {
        for value in ["", "true", "?1", "keep-alive"] {
            assert!(asked(&[("subscribe", value)]).is_some(), "{value:?}");
        }
        assert!(asked(&[("subscribe", "?0")]).is_none());
        assert!(asked(&[("subscribe", "true"), ("version", "\"a\"")]).is_none());
        assert!(asked(&[("parents", "\"a\"")]).is_none());
    }

    #[test]
    fn one_parent_is_what_the_client_holds() {
        for (parents, held) in [
            ("\"a\"", Held::Version("a".into())),
            (r#""a\"b\\c""#, Held::Version(r#"a"b\c"#.into())),
            ("\"a\", \"b\"", Held::Nothing),
            ("", Held::Nothing),
            ("a", Held::Nothing),
            ("\"a", Held::Nothing),
        ] {
            let ask = asked(&[("subscribe", ""), ("parents", parents)]).unwrap();
            assert_eq!(ask.held, held, "{parents}");
        }
    }

    #[test]
    fn heartbeats_are_as_often_as_is_wanted_within_bounds() {
        for (text, seconds) in [
            ("5s", Some(5.0)),
            ("2.5", Some(2.5)),
            ("0.01s", Some(LEAST_HEARTBEAT)),
            ("1e300s", Some(LONGEST_HEARTBEAT)),
            ("-3s", Some(LEAST_HEARTBEAT)),
            ("often", None),
            ("NaN", None),
            ("inf", None),
        ] {
            let ask = asked(&[("subscribe", ""), ("heartbeats", text)]).unwrap();
            assert_eq!(ask.heartbeat.map(|every| every.as_secs_f64()), seconds, "{text}");
        }
    }
}
