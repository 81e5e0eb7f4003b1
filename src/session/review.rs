//! What becomes of open sockets when what holds for them is replaced: their bindings, channels and
//! credentials are looked at again, and none is closed but for what the new rules do not allow.

use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;

use super::asks::Occasion;
use super::membership::Subscription;
use super::registry::Services;
use super::{Session, Sessions};
use crate::channel::{self, Arrival, Right, Rule, Who};
use crate::gate::auth::{AuthError, Verified};
use crate::hub::{Standing, Unbound};
use crate::namespace;
use crate::protocol::{Close, Reason};

/// How long a credential waits that nobody could judge, and how often.
const JUDGE_AGAIN: Duration = Duration::from_secs(5);
const MOST_TRIES: u32 = 12;

/// What is different.
struct Review {
    routes: bool,
    channels: bool,
    credential_headers: bool,
    /// A token that was good may not be good any more.
    tokens: bool,
    /// Only who is authenticated may stay.
    required: bool,
}

impl Sessions {
    /// Goes by other services from now on. The hub must have adopted the settings that belong to
    /// them.
    pub fn adopt(&self, services: Services) {
        let before = self.replace_services(services);
        let now = self.services();
        let tokens = !now.authenticator.agrees_with(&before.authenticator);
        let review = Review {
            routes: before.routes.rules() != now.routes.rules(),
            channels: before.channels != now.channels,
            credential_headers: before.credential_headers != now.credential_headers,
            tokens,
            required: now.auth_required && !before.auth_required,
        };
        self.forget_holed_histories();
        let sessions: Vec<_> = self.all.borrow().values().cloned().collect();
        sessions.iter().for_each(|session| session.review(&review));
    }

    /// As long as one worker keeps what another does not, what is kept has holes.
    fn forget_holed_histories(&self) {
        let namespaces = self.namespaces();
        let changed = |sessions: &Self| *sessions.rules_before() != *sessions.services().channels;
        if !changed(self) && !namespaces.iter().any(|namespace| changed(&namespace.sessions)) {
            return;
        }
        let keeps = |rules: &[Rule], channel: &str| {
            Rule::of(rules, channel).is_some_and(|rule| rule.history.is_some())
        };
        self.hub.keep_histories(|channel| {
            let sessions = match namespace::of_channel(channel).0 {
                None => Some(self),
                Some(name) => {
                    let found = namespaces.iter().find(|it| it.name.as_str() == name);
                    found.map(|namespace| &*namespace.sessions)
                }
            };
            sessions.is_some_and(|sessions| {
                keeps(&sessions.rules_before(), channel)
                    && keeps(&sessions.services().channels, channel)
            })
        });
    }
}

impl Session {
    fn review(&self, review: &Review) {
        if self.closing.get().is_some() {
            return;
        }
        if review.routes {
            self.review_bindings();
        }
        if review.credential_headers {
            let headers = &self.sessions.services().credential_headers;
            let viewer = self.viewer.borrow().with_credential_headers(headers);
            self.replace_viewer(viewer, Reason::Forbidden);
        }
        if review.tokens {
            self.judge_again(review.required);
        }
        if review.channels || review.tokens {
            self.review_channels();
        }
        if review.channels {
            self.go_by_other_rules();
        }
        self.review_parts();
        if review.required {
            self.close_if_it_must_authenticate();
        }
        self.plan_recheck();
        // Its time may be nearer than it was, and its messages may be read again.
        self.sessions.arm(self);
        self.receive();
        self.wake();
    }

    /// Who was let in without a credential that counts has no time to bring one: it has bound already.
    fn close_if_it_must_authenticate(&self) {
        let is_judged = self.paused.get() || self.judging.get() > 0;
        if self.must_authenticate() && !is_judged {
            self.close(&Close::Unauthorized("authenticate first"));
        }
    }

    pub(super) fn review_bindings(&self) {
        let bindings = self.bindings.borrow().clone();
        for binding in bindings {
            match self.sessions.hub.review(&binding) {
                Standing::Good => self.limit_life(&binding),
                Standing::Moved => {
                    self.limit_life(&binding);
                    self.rejudge(&binding, Reason::Forbidden);
                }
                Standing::NotRealtime => {
                    self.end_binding(&binding, Unbound::NotRealtime, Reason::Forbidden);
                }
            }
        }
    }

    /// Leaves the channels that the session may not subscribe to any more.
    pub(super) fn review_channels(&self) {
        let services = self.sessions.services();
        for subscription in self.channels.all() {
            let rule = Rule::of(&services.channels, &subscription.channel);
            if channel::permit(rule, Right::Subscribe, self.authenticated.get()).is_err() {
                self.end_subscription(&subscription.channel, Reason::Forbidden);
            }
        }
    }

    /// Goes by other rules on the channels that the session may stay on.
    pub(super) fn go_by_other_rules(&self) {
        let (before, services) = (self.sessions.rules_before(), self.sessions.services());
        for subscription in self.channels.all() {
            let channel = &subscription.channel;
            let (old, new) = (Rule::of(&before, channel), Rule::of(&services.channels, channel));
            if old == new {
                continue;
            }
            subscription.go_by(new);
            if let Some(rule) = new {
                self.show_or_hide(&subscription, rule);
            }
            let asks = |rule: &&Rule| rule.subscribe == Who::Ask;
            if let Some(new) = new.filter(asks)
                && !old.is_some_and(|old| old.asks_like(new, Right::Subscribe))
            {
                self.judge(Rc::clone(&subscription), Occasion::Over(Reason::Forbidden));
            }
        }
    }

    fn show_or_hide(&self, subscription: &Subscription, rule: &Rule) {
        let (hub, channel) = (&self.sessions.hub, &subscription.channel);
        match (subscription.is_shown.get(), rule.presence) {
            (false, true) => {
                let member = Some(self.as_member(rule, None));
                let arrival = Arrival { channel, member, since: None, history: None };
                // Where there is no room for it, it is there and not shown.
                subscription.is_shown.set(hub.arrive(arrival).is_ok());
            }
            (true, true) => {
                let subject = self.socket().channels.subject().filter(|_| rule.presence_subject);
                hub.set_subject(channel, self.id, subject);
            }
            (true, false) => {
                subscription.is_shown.set(false);
                subscription.watches.set(None);
                hub.depart(channel, self.id);
            }
            (false, false) => {}
        }
    }

    /// Has the credential checked by what checks credentials now. Until that is known, what was
    /// known counts.
    fn judge_again(&self, required: bool) {
        if !self.sessions.services().verifies {
            return self.set_authenticated(false);
        }
        if self.viewer.borrow().credentials().is_empty() {
            return self.conclude(&Ok(None));
        }
        let Some(me) = self.me.upgrade() else { return };
        self.judging.set(self.judging.get() + 1);
        self.sessions.tasks.spawn_local(async move {
            let judged = me.judged().await;
            me.judging.set(me.judging.get() - 1);
            if me.closing.get().is_none() {
                me.conclude(&judged);
                if required {
                    me.close_if_it_must_authenticate();
                }
                me.sessions.arm(&me);
            }
        });
    }

    async fn judged(&self) -> Result<Option<Verified>, AuthError> {
        let mut tries = 0;
        loop {
            let viewer = Rc::clone(&self.viewer.borrow());
            let mut headers = HeaderMap::new();
            for (name, value) in viewer.credentials() {
                headers.append(name, value.clone());
            }
            // The semaphore is never closed.
            let place = self.sessions.judges.acquire().await.ok();
            let judged = self.checked(&headers).await;
            drop(place);
            tries += 1;
            match judged {
                _ if self.closing.get().is_some() => return Ok(None),
                _ if self.viewer.borrow().credentials() != viewer.credentials() => {}
                Err(AuthError::Unavailable(_)) if tries < MOST_TRIES => {
                    tokio::time::sleep(JUDGE_AGAIN).await;
                }
                judged => return judged,
            }
        }
    }

    fn conclude(&self, judged: &Result<Option<Verified>, AuthError>) {
        match judged {
            Ok(Some(verified)) => self.authenticate(verified),
            Ok(None) | Err(_) if self.authenticated.get() => self.expire(),
            // As after a handshake with a credential that is refused: the upstream judges it.
            Ok(None) | Err(_) => {}
        }
    }
}
