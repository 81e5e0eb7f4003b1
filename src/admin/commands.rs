//! What the API's side makes known: that something changed elsewhere, and events for channels.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::answer::{Answer, Refusal};
use super::{Desk, Subject};
use crate::channel::Said;
use crate::handlers::is_reserved;
use crate::hub::outlook::Place;
use crate::namespace;

/// URIs and groups in one announcement.
const MOST_CHANGES: usize = 1000;
/// Longest event and channel, as on the socket.
const LONGEST_NAME: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    namespace: Option<String>,
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    namespace: Option<String>,
    channel: String,
    event: String,
    data: Option<Box<RawValue>>,
}

impl Desk {
    /// Each URI, of the namespace's API, counts as written: as by a PUT that went through this server
    /// and succeeded. The groups together are one change.
    pub(super) fn changed(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let Changed { namespace, uris, groups } = read(body)?;
        if !(1..=MOST_CHANGES).contains(&(uris.len() + groups.len())) {
            let text = format!("uris and groups have from 1 to {MOST_CHANGES} entries together");
            return Err(Refusal::unprocessable(text));
        }
        if let Some(bad) = uris.iter().find(|uri| !uri.starts_with('/') || uri.contains('#')) {
            let shown: String = bad.chars().take(100).collect();
            let text = format!("{shown:?} is not a path, with or without a query");
            return Err(Refusal::unprocessable(text));
        }
        let subject = self.subject();
        let place = place(&subject, namespace.as_deref())?;
        let mut changed = uris.iter().filter(|uri| place.written(uri)).count() as u64;
        let grouped = groups.len() as u64;
        if grouped > 0 {
            place.groups_changed(groups.into_iter().map(Arc::from));
            changed += 1;
        }
        self.reach.metrics.outside().changes.add(changed);
        tracing::debug!(changed, "an operator announced changes");
        // Routes with `realtime = false` announce nothing.
        let ignored = uris.len() as u64 + u64::from(grouped > 0) - changed;
        Ok(Answer::json(&json!({"changed": changed, "ignored": ignored})))
    }

    /// The rules of channels bind clients, not operators.
    pub(super) fn publish(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let Publish { namespace, channel, event, data } = read(body)?;
        for (field, name) in [("channel", &channel), ("event", &event)] {
            if name.is_empty() || name.len() > LONGEST_NAME {
                let text = format!("{field} has from 1 to {LONGEST_NAME} bytes");
                return Err(Refusal::unprocessable(text));
            }
        }
        if is_reserved(&event) || matches!(&*event, "ping" | "auth") {
            return Err(Refusal::unprocessable(format!("{event:?} is an event of Pogo's own")));
        }
        if !namespace::is_sayable(&channel) {
            return Err(Refusal::unprocessable("no channel begins with U+0000"));
        }
        let subject = self.subject();
        let place = place(&subject, namespace.as_deref())?;
        tracing::debug!(namespace = %place.name, %channel, event, "an operator published");
        place.publish(&channel, Said { name: event, data, packed: None });
        Ok(Answer::json(&json!({"status": "published"})))
    }
}

/// The namespace of that name; without one, `/`.
fn place<'s>(subject: &'s Subject, name: Option<&str>) -> Result<&'s Place, Refusal> {
    let name = name.unwrap_or(namespace::DEFAULT);
    let found = subject.places.iter().find(|place| place.name.as_str() == name);
    found.ok_or_else(|| {
        let shown: String = name.chars().take(100).collect();
        Refusal::unprocessable(format!("there is no namespace {shown:?}"))
    })
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if error.is_data() { Refusal::unprocessable(text) } else { Refusal::bad_request(text) }
    })
}
