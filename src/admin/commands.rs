//! What the API's side makes known: that something changed elsewhere, and events for channels.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::Desk;
use super::answer::{Answer, Refusal};
use crate::change;
use crate::channel::Said;
use crate::handlers::is_reserved;

/// URIs and groups in one announcement.
const MOST_CHANGES: usize = 1000;
/// Longest event and channel, as on the socket.
const LONGEST_NAME: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    channel: String,
    event: String,
    data: Option<Box<RawValue>>,
}

impl Desk {
    /// Each URI counts as written: as by a PUT that went through this server and succeeded. The
    /// groups together are one change.
    pub(super) fn changed(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let Changed { uris, groups } = read(body)?;
        if !(1..=MOST_CHANGES).contains(&(uris.len() + groups.len())) {
            let text = format!("uris and groups have from 1 to {MOST_CHANGES} entries together");
            return Err(Refusal::unprocessable(text));
        }
        if let Some(bad) = uris.iter().find(|uri| !uri.starts_with('/') || uri.contains('#')) {
            let shown: String = bad.chars().take(100).collect();
            let text = format!("{shown:?} is not a path, with or without a query");
            return Err(Refusal::unprocessable(text));
        }
        let (nothing, subject) = (HeaderMap::new(), self.subject());
        let routes = &subject.routes;
        let changes = uris.iter().filter_map(|uri| {
            change::touched(&Method::PUT, uri, Some(StatusCode::OK), &nothing, routes)
        });
        let grouped = groups.len() as u64;
        let of_groups =
            (grouped > 0).then(|| change::Change::of_groups(groups.into_iter().map(Arc::from)));
        let mut changed = 0_u64;
        for change in changes.chain(of_groups) {
            self.reach.hubs.changed(&self.reach.mail, change);
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
        let Publish { channel, event, data } = read(body)?;
        for (field, name) in [("channel", &channel), ("event", &event)] {
            if name.is_empty() || name.len() > LONGEST_NAME {
                let text = format!("{field} has from 1 to {LONGEST_NAME} bytes");
                return Err(Refusal::unprocessable(text));
            }
        }
        if is_reserved(&event) || matches!(&*event, "ping" | "auth") {
            return Err(Refusal::unprocessable(format!("{event:?} is an event of Pogo's own")));
        }
        tracing::debug!(%channel, event, "an operator published");
        let (channel, said) = (channel.into(), Said { name: event, data, packed: None });
        let (hubs, rules) = (&self.reach.hubs, &self.subject().channels);
        hubs.publish(&self.reach.mail, rules, &channel, said);
        Ok(Answer::json(&json!({"status": "published"})))
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if error.is_data() { Refusal::unprocessable(text) } else { Refusal::bad_request(text) }
    })
}
