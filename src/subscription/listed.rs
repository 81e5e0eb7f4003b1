//! Subscriptions as operators see and end them: each is a session with one binding.

use std::rc::Rc;

use tokio::time::Instant;

use super::follow::{Follower, Over};
use super::{All, Subscriptions};
use crate::hub::mirror::Binding;
use crate::protocol::Reason;
use crate::session::orders::{Beside, BindingInfo, Page, SessionInfo, Which};

impl Beside for Subscriptions {
    fn sessions(&self, page: &Page) -> Vec<SessionInfo> {
        let mut infos: Vec<_> = self.of(page).iter().map(|(follower, _)| info(follower)).collect();
        infos.extend(self.branches().iter().flat_map(|branch| branch.sessions(page)));
        infos.sort_unstable_by_key(|info| info.id);
        infos.truncate(page.limit);
        infos
    }

    fn bindings(&self, page: &Page, uri: Option<&str>) -> Vec<BindingInfo> {
        let is_wanted = |binding: &Binding| uri.is_none_or(|uri| binding.uri.as_str() == uri);
        let wanted = self.of(page).into_iter().filter(|(_, binding)| is_wanted(binding));
        let mut infos: Vec<_> = wanted.map(|(it, binding)| self.binding(&it, &binding)).collect();
        infos.extend(self.branches().iter().flat_map(|branch| branch.bindings(page, uri)));
        infos.sort_unstable_by_key(|info| info.session);
        infos.truncate(page.limit);
        infos
    }

    fn end(&self, which: Which, comes_back: bool) -> usize {
        let over = match comes_back {
            true => Over::Left("operator"),
            false => Over::Unbound(Reason::Forbidden),
        };
        self.end_those(&|follower, _| {
            let is_meant = !follower.is_over() && which.means(follower.id, follower.client.ip);
            is_meant.then_some(over)
        })
    }
}

impl Subscriptions {
    fn of(&self, page: &Page) -> Vec<(Rc<Follower>, Rc<Binding>)> {
        let all: std::cell::Ref<'_, All> = self.all.borrow();
        let wanted = all.values().filter(|(follower, _)| {
            !follower.is_over()
                && follower.id > page.after
                && page.which.means(follower.id, follower.client.ip)
        });
        wanted.cloned().collect()
    }

    fn binding(&self, follower: &Follower, binding: &Binding) -> BindingInfo {
        BindingInfo {
            session: follower.id,
            client: follower.client.ip,
            namespace: self.namespace.as_ref().map(ToString::to_string),
            uri: binding.uri.as_str().to_owned(),
            version: binding.held.borrow().as_deref().map(str::to_owned),
            stale: binding.latest().is_some_and(|(_, stale)| stale),
            live: binding.live.get(),
        }
    }
}

fn info(follower: &Follower) -> SessionInfo {
    let now = Instant::now();
    let age_seconds = now.duration_since(follower.born).as_secs();
    let host = follower.host.as_ref().and_then(|host| host.to_str().ok());
    SessionInfo {
        id: follower.id,
        way: follower.way.name(),
        client: follower.client.ip,
        host: host.unwrap_or_default().to_owned(),
        age_seconds,
        // It has said all that it had to say.
        silent_seconds: age_seconds,
        authenticated: follower.expires.is_some(),
        has_credential: !follower.viewer.credentials().is_empty(),
        expires_in_seconds: follower.expires.map(|at| at.duration_since(now).as_secs()),
        bindings: 1,
        channels: 0,
        outbox_bytes: 0,
        requests_in_flight: 0,
    }
}
