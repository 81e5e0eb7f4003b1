//! Custom events: each is answered by the handler that its namespace has for it, beside the session's
//! other traffic, in order with the session's other events of the same name.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde_json::value::RawValue;

use super::Session;
use super::namespaces::Custom;
use crate::audience::Viewer;
use crate::body::RequestBody;
use crate::gate::Action;
use crate::handlers::{self, Act, Event};
use crate::hub::fetch;
use crate::namespace;
use crate::protocol::{ErrorCode, Message, Outgoing, Problem, Status};

impl Session {
    /// An event that is not one of Pogo's own and for no channel.
    pub(super) fn custom(&self, message: Message) {
        if self.sessions.services().handlers.of(&message.event).is_none() {
            return self.refuse_unknown(&message);
        }
        if message.packed.is_some() {
            let text = "a handler is sent JSON, in which binary has no form";
            let problem = Problem::new(ErrorCode::BadRequest, text);
            return self.refuse(message.id.as_deref(), &problem);
        }
        if !self.begin_call(message.id.as_deref()) {
            return;
        }
        let event: Arc<str> = message.event.as_str().into();
        let custom = Custom { message, viewer: Rc::clone(&self.viewer.borrow()) };
        let mut lanes = self.extra().lanes.borrow_mut();
        if let Some((_, lane)) = lanes.iter_mut().find(|(other, _)| *other == event) {
            return lane.push_back(custom);
        }
        lanes.push((Arc::clone(&event), VecDeque::new()));
        if let Some(me) = self.me.upgrade() {
            self.sessions.tasks.spawn_local(me.run_events(event, custom));
        }
    }

    async fn run_events(self: Rc<Self>, event: Arc<str>, mut custom: Custom) {
        loop {
            self.answer_event(&custom).await;
            self.end_call();
            let mut lanes = self.extra().lanes.borrow_mut();
            let Some(at) = lanes.iter().position(|(other, _)| *other == event) else { return };
            match lanes[at].1.pop_front() {
                Some(next) => custom = next,
                None => {
                    lanes.swap_remove(at);
                    return;
                }
            }
        }
    }

    async fn answer_event(&self, Custom { message, viewer }: &Custom) {
        let answer = self.handled(message, viewer).await;
        // What was done with one credential is not shown under the next.
        let is_stranger = !Rc::ptr_eq(viewer, &self.viewer.borrow());
        match answer {
            Err(problem) if is_stranger => {
                self.refuse(message.id.as_deref(), &Problem { data: None, ..problem });
            }
            Err(problem) => self.refuse(message.id.as_deref(), &problem),
            Ok(_) if message.id.is_none() => {}
            Ok(data) => self.send(&Outgoing {
                id: message.id.as_deref(),
                status: Some(Status::Ok),
                data: Some(&*data).filter(|data| data.get() != "null" && !is_stranger),
                ..Outgoing::default()
            }),
        }
    }

    async fn handled(&self, message: &Message, viewer: &Viewer) -> Result<Box<RawValue>, Problem> {
        let services = self.sessions.services();
        match services.handlers.of(&message.event) {
            // It was there when the message came.
            None => Err(Problem::new(ErrorCode::UnknownEvent, "there is no such event any more")),
            Some(Act::Forward(path)) => self.forward_event(path, message, viewer).await,
            Some(Act::Post { url, credentials }) => {
                let Some(hooks) = &services.hooks else {
                    return Err(Problem::new(
                        ErrorCode::Unavailable,
                        "the handler cannot be asked",
                    ));
                };
                self.pay(Action::Write, viewer)?;
                let mut headers = self.hook_fields(message);
                if *credentials {
                    for (name, value) in viewer.credentials() {
                        headers.append(name, value.clone());
                    }
                }
                let limit = self.sessions.hub.options().body_bytes;
                let body = text_of(message).to_owned();
                let posted = hooks.post(url, headers, body, limit).await?;
                judged(posted.status, &posted.headers, &posted.body)
            }
            Some(Act::Call(closure)) => {
                let namespace = self.namespace_text().to_owned();
                let event = Event::new(message.event.clone(), namespace, self.client.ip, self.id)
                    .saying(message.id.clone(), message.data.clone())
                    .of(viewer.credentials().to_vec(), self.authenticated.get());
                closure.run(event).await
            }
        }
    }

    /// As any request over the socket: with the session's credentials, paid for, and announced.
    async fn forward_event(
        &self,
        path: &str,
        message: &Message,
        viewer: &Viewer,
    ) -> Result<Box<RawValue>, Problem> {
        let body = text_of(message);
        let mut request = Request::new(RequestBody::Full(body.to_owned().into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|_| {
            tracing::error!(path, "a handler's path is none");
            Problem::new(ErrorCode::Unavailable, "the handler cannot be asked")
        })?;
        let headers = request.headers_mut();
        for (name, value) in viewer.request_fields() {
            headers.append(name, value.clone());
        }
        headers.extend(self.hook_fields(message));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let (head, body) = self.whole_answer(request, Action::Write, viewer, true).await?;
        judged(head.status, &head.headers, &body)
    }

    /// What the event is, for whoever answers it.
    fn hook_fields(&self, message: &Message) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let id = message.id.as_deref().map(RawValue::get);
        for (name, text) in [
            (handlers::EVENT, Some(message.event.as_str())),
            (handlers::NAMESPACE, Some(self.namespace_text())),
            (handlers::ID, id),
        ] {
            let value = text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers
    }

    fn namespace_text(&self) -> &str {
        self.namespace_name().map_or(namespace::DEFAULT, |name| name.as_str())
    }
}

fn text_of(message: &Message) -> &str {
    message.data.as_deref().map_or("null", RawValue::get)
}

fn judged(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Box<RawValue>, Problem> {
    let data = fetch::content(headers, body);
    if status.is_success() {
        return data;
    }
    let retry_after = fetch::retry_after(headers);
    Err(Problem { retry_after, ..Problem::of_upstream(status, data.ok()) })
}
