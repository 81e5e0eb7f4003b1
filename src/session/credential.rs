//! Who a session is: its handshake's credential, the one that `auth` puts in its place, and its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Request, Response, header};
use tokio::time::Instant;

use super::Session;
use super::asks::Occasion;
use super::requests::unbound_problem;
use crate::audience::Viewer;
use crate::body::RequestBody;
use crate::gate::auth::{AuthError, Authenticator, Verified};
use crate::hub::Unbound;
use crate::hub::mirror::{Binding, Purpose};
use crate::protocol::{Close, ErrorCode, Message, Outgoing, Problem, Reason, Status};
use crate::rejection::Rejection;
use crate::upstream::ResponseBody;

impl Session {
    pub(super) fn must_authenticate(&self) -> bool {
        self.sessions.services().auth_required && !self.authenticated.get()
    }

    /// Checks the handshake's own credential, where Pogo checks credentials at all. Messages wait.
    pub(super) fn check_handshake(&self, headers: &HeaderMap) {
        let services = self.sessions.services();
        if !services.verifies || self.viewer.borrow().credentials().is_empty() {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        if self.may_authenticate().is_err() {
            // As if it had been refused: nobody asks the upstream for this client now.
            return;
        }
        let headers = headers.clone();
        self.paused.set(true);
        self.sessions.tasks.spawn_local(async move {
            match me.checked(&headers).await {
                Ok(Some(verified)) => me.authenticate(&verified),
                Ok(None) => {}
                Err(error) => {
                    if matches!(error, AuthError::Unauthorized(_)) {
                        me.bad_credential();
                    }
                    tracing::info!(session = me.id, %error, "handshake credential refused")
                }
            }
            me.resume();
        });
    }

    /// What the present authenticator says of these fields.
    pub(super) async fn checked(&self, headers: &HeaderMap) -> Result<Option<Verified>, AuthError> {
        self.still(async |authenticator| {
            authenticator.check_handshake(headers, async |request| self.ask(request).await).await
        })
        .await
    }

    /// What `check` comes to with the authenticator that holds when it is done: a token that was good
    /// for another may not be good any more.
    async fn still<T>(&self, check: impl AsyncFn(&Authenticator) -> T) -> T {
        loop {
            let authenticator = Arc::clone(&self.sessions.services().authenticator);
            let outcome = check(&authenticator).await;
            if Arc::ptr_eq(&authenticator, &self.sessions.services().authenticator) {
                return outcome;
            }
        }
    }

    /// `auth`: a new credential, on the same socket.
    pub(super) fn auth(&self, message: Message) {
        #[derive(serde::Deserialize)]
        struct Data {
            token: String,
        }
        // Binary is no token.
        let data = message.data.as_ref().filter(|_| message.packed.is_none());
        let data = data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
        let Some(Data { token }) = data else {
            let problem =
                Problem::new(ErrorCode::BadRequest, "\"data\" must be {\"token\": \"…\"}");
            return self.refuse(message.id.as_deref(), &problem);
        };
        if let Err(problem) = self.may_authenticate() {
            return self.refuse(message.id.as_deref(), &problem);
        }
        let Some(me) = self.me.upgrade() else { return };
        self.paused.set(true);
        self.sessions.tasks.spawn_local(async move {
            let credential = me.still(async |authenticator| {
                let verified =
                    authenticator.check(&token, async |request| me.ask(request).await).await?;
                let (name, value) = authenticator.credential(&token)?;
                Ok::<_, AuthError>((verified, name, value))
            });
            match credential.await {
                Ok((verified, name, value)) => {
                    let viewer = me.viewer.borrow().with_credential(name, value);
                    me.answer_auth(&message, &verified);
                    me.authenticate(&verified);
                    me.replace_viewer(viewer, Reason::Forbidden);
                }
                Err(error) => {
                    let code = match error {
                        AuthError::Unauthorized(_) => {
                            me.bad_credential();
                            ErrorCode::Unauthorized
                        }
                        AuthError::Unavailable(_) => ErrorCode::Unavailable,
                    };
                    me.refuse(message.id.as_deref(), &Problem::new(code, error.to_string()));
                }
            }
            me.resume();
        });
    }

    fn answer_auth(&self, message: &Message, verified: &Verified) {
        let Some(id) = message.id.as_deref() else { return };
        let data =
            serde_json::value::to_raw_value(&serde_json::json!({"expires": verified.expires}));
        self.send(&Outgoing {
            id: Some(id),
            status: Some(Status::Ok),
            data: data.ok().as_deref(),
            ..Outgoing::default()
        });
    }

    pub(super) fn authenticate(&self, verified: &Verified) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let left = Duration::from_secs(verified.ends).saturating_sub(now);
        self.set_authenticated(self.sessions.services().verifies);
        self.set_subject(verified.subject.as_deref());
        self.expires.set(Some(Instant::now() + left));
        self.sessions.arm(self);
    }

    /// The credential has ended: it is dropped, and every binding judged without it.
    pub(super) fn expire(&self) {
        self.expires.set(None);
        self.set_authenticated(false);
        self.set_subject(None);
        self.send(&Outgoing { event: Some("auth:expired"), ..Outgoing::default() });
        if self.sessions.services().auth_required {
            return self.close(&Close::Unauthorized("the credential has expired"));
        }
        self.review_channels();
        self.parts().iter().for_each(|part| part.review_channels());
        let viewer = self.viewer.borrow().without_credentials();
        self.replace_viewer(viewer, Reason::Expired);
    }

    /// Carries every binding over to the new credential. Nothing is shown until it was judged.
    pub(super) fn replace_viewer(&self, viewer: Viewer, reason: Reason) {
        if *self.viewer.borrow().as_ref() == viewer {
            return;
        }
        let viewer = Rc::new(viewer);
        self.see_as(&viewer, reason);
        self.parts().iter().for_each(|part| part.see_as(&viewer, reason));
    }

    fn see_as(&self, viewer: &Rc<Viewer>, reason: Reason) {
        self.viewer.replace(Rc::clone(viewer));
        let bindings = self.bindings.borrow().clone();
        for binding in bindings {
            self.rejudge(&binding, reason);
        }
        self.judge_channels(match reason {
            Reason::Expired => Occasion::Over(reason),
            Reason::Forbidden | Reason::Limit | Reason::Ttl => Occasion::OtherCredential,
        });
    }

    /// In all namespaces.
    pub(super) fn set_authenticated(&self, authenticated: bool) {
        self.authenticated.set(authenticated);
        self.parts().iter().for_each(|part| part.authenticated.set(authenticated));
    }

    /// Has a binding judged again; if it is refused, it ends with this reason.
    pub(super) fn rejudge(&self, binding: &Rc<Binding>, reason: Reason) {
        let hub = &self.sessions.hub;
        if hub.rejudge(binding, self.client.clone(), Purpose::Rejudge(reason)).is_err() {
            self.end_binding(binding, Unbound::Overloaded, Reason::Limit);
        }
    }

    /// Ends a binding, and tells the client so.
    pub(super) fn end_binding(&self, binding: &Rc<Binding>, why: Unbound, reason: Reason) {
        self.sessions.hub.leave(binding);
        self.drop_binding(binding);
        self.refuse_waiting(binding, &unbound_problem(why));
        self.send_unbind(binding, reason);
    }

    /// A request of the gate's to the upstream, as this client.
    async fn ask(&self, request: Request<()>) -> Result<Response<ResponseBody>, Asked> {
        let (mut parts, ()) = request.into_parts();
        if let Ok(host) = self.host.parse() {
            parts.headers.insert(header::HOST, host);
        }
        let request = Request::from_parts(parts, RequestBody::Empty);
        self.sessions.services().exchange.run(request, &self.client).await.map_err(Asked)
    }
}

/// Why the upstream could not be asked.
struct Asked(Rejection);

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.detail())
    }
}
