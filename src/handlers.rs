//! Who answers custom events: a path of the API, another service, or a program that embeds Pogo.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::protocol::{ErrorCode, Problem};

/// Which event the request to a hook is about.
pub const EVENT: HeaderName = HeaderName::from_static("pogo-event");
/// In which namespace.
pub const NAMESPACE: HeaderName = HeaderName::from_static("pogo-namespace");
/// The message's `id`, as the client wrote it.
pub const ID: HeaderName = HeaderName::from_static("pogo-id");

/// Closures of the embedding program that run at one time; one more event is `unavailable`.
const MOST_AT_ONCE: usize = 1024;
/// Events that other services are asked about at one time, each on a connection of its own; one more is
/// `unavailable`.
pub const MOST_POSTS: usize = 256;

/// One `[[namespace.handler]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub event: String,
    pub act: Act,
}

/// What answers an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A POST to this path of the namespace's API.
    Forward(String),
    /// A POST to this URL, with the session's credentials or without.
    Post {
        url: String,
        credentials: bool,
    },
    Call(Closure),
}

/// Why a handler is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHandler {
    Event,
    Forward,
    Twice,
}

impl fmt::Display for BadHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => "this event is Pogo's own, or cannot stand in a header",
            Self::Forward => "a handler forwards to a path or to an http or https URL",
            Self::Twice => "this event has a handler already",
        })
    }
}

impl std::error::Error for BadHandler {}

/// The handlers of one namespace, found by event.
#[derive(Debug, Default)]
pub struct Handlers(Vec<Rule>);

/// Longest name of an event, as on the socket.
const LONGEST_EVENT: usize = 256;
/// Events that a socket answers itself.
const OWN: [&str; 9] =
    ["ping", "auth", "bind", "unbind", "index", "show", "create", "update", "delete"];

impl Handlers {
    /// Refuses events that no client could send to a handler, with the number of the rule.
    pub fn new(rules: &[Rule]) -> Result<Self, (usize, BadHandler)> {
        for (number, rule) in rules.iter().enumerate() {
            rule.check().map_err(|bad| (number, bad))?;
            if rules[..number].iter().any(|earlier| earlier.event == rule.event) {
                return Err((number, BadHandler::Twice));
            }
        }
        Ok(Self(rules.to_vec()))
    }

    pub fn of(&self, event: &str) -> Option<&Act> {
        self.0.iter().find(|rule| rule.event == event).map(|rule| &rule.act)
    }
}

impl Rule {
    /// Whether it can be what it says.
    pub fn check(&self) -> Result<(), BadHandler> {
        let event = self.event.as_str();
        let is_own = OWN.contains(&event) || is_reserved(event);
        let is_short = (1..=LONGEST_EVENT).contains(&event.len());
        if is_own || !is_short || HeaderValue::from_str(event).is_err() {
            return Err(BadHandler::Event);
        }
        let is_good = match &self.act {
            Act::Forward(path) => path.starts_with('/') && !path.starts_with("//"),
            Act::Post { url, .. } => reqwest::Url::parse(url).is_ok_and(|url| {
                ["http", "https"].contains(&url.scheme())
                    && url.username().is_empty()
                    && url.password().is_none()
            }),
            Act::Call(_) => true,
        };
        if is_good { Ok(()) } else { Err(BadHandler::Forward) }
    }
}

/// Names that Pogo itself speaks under; nobody else may, on any channel.
pub fn is_reserved(event: &str) -> bool {
    ["channel:", "pogo:", "auth:"].iter().any(|prefix| event.starts_with(prefix))
}

/// A custom event of a client, as a closure of the embedding program is given it.
#[derive(Clone)]
pub struct Event {
    pub name: String,
    /// `/`, or a path such as `/analytics`.
    pub namespace: String,
    /// As the client wrote it; without one nothing is answered but errors.
    pub id: Option<Box<RawValue>>,
    data: Option<Box<RawValue>>,
    /// The number of the socket.
    pub session: u64,
    pub client: IpAddr,
    /// Its credential was checked by Pogo and found good.
    pub authenticated: bool,
    credentials: Vec<(HeaderName, HeaderValue)>,
}

impl Event {
    pub(crate) fn new(name: String, namespace: String, client: IpAddr, session: u64) -> Self {
        let (id, data, credentials) = (None, None, Vec::new());
        Self { name, namespace, id, data, session, client, authenticated: false, credentials }
    }

    pub(crate) fn saying(self, id: Option<Box<RawValue>>, data: Option<Box<RawValue>>) -> Self {
        Self { id, data, ..self }
    }

    pub(crate) fn of(
        self,
        credentials: Vec<(HeaderName, HeaderValue)>,
        authenticated: bool,
    ) -> Self {
        Self { credentials, authenticated, ..self }
    }

    /// The message's `data`, `null` if it had none. What cannot be read so is the client's mistake.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        serde_json::from_str(self.text())
            .map_err(|error| HandlerError::new(ErrorCode::BadRequest, format!("\"data\": {error}")))
    }

    /// The message's `data` as it stands.
    pub fn text(&self) -> &str {
        self.data.as_deref().map_or("null", RawValue::get)
    }

    /// A credential of the session: `Authorization`, `Cookie`, or what the configuration names.
    pub fn credential(&self, name: &str) -> Option<&HeaderValue> {
        let mut fields = self.credentials.iter();
        fields.find(|(other, _)| other.as_str().eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Without the credentials.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, namespace, id, data, session, client, authenticated, credentials: _ } =
            self;
        f.debug_struct("Event")
            .field("name", name)
            .field("namespace", namespace)
            .field("id", id)
            .field("data", data)
            .field("session", session)
            .field("client", client)
            .field("authenticated", authenticated)
            .finish_non_exhaustive()
    }
}

/// What a closure answers when it cannot answer what was asked: an error with a code of the
/// protocol's.
#[derive(Debug, Clone)]
pub struct HandlerError(Problem);

impl HandlerError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Problem::new(code, message.into()))
    }

    /// With what the client finds in the error's `data`.
    pub fn with_data(self, data: &impl Serialize) -> Self {
        let data = serde_json::value::to_raw_value(data).ok();
        Self(Problem { data, ..self.0 })
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.name(), self.0.message)
    }
}

impl std::error::Error for HandlerError {}

type Answering = Pin<Box<dyn Future<Output = Result<Box<RawValue>, HandlerError>> + Send>>;

/// An async closure of the embedding program.
#[derive(Clone)]
pub struct Closure {
    call: Arc<dyn Fn(Event) -> Answering + Send + Sync>,
    runner: Runner,
}

/// Where closures run: not on the workers, and not too many.
#[derive(Debug, Clone)]
pub struct Runner {
    runtime: Handle,
    places: Arc<Semaphore>,
    /// The longest that one closure may take.
    patience: Duration,
}

impl Runner {
    pub fn new(runtime: Handle, patience: Duration) -> Self {
        Self { runtime, places: Arc::new(Semaphore::new(MOST_AT_ONCE)), patience }
    }
}

impl Closure {
    pub fn new<F, A, T>(runner: Runner, closure: F) -> Self
    where
        F: Fn(Event) -> A + Send + Sync + 'static,
        A: Future<Output = Result<T, HandlerError>> + Send + 'static,
        T: Serialize,
    {
        let call = move |event| -> Answering {
            let answer = closure(event);
            Box::pin(async move {
                let answer = answer.await?;
                serde_json::value::to_raw_value(&answer).map_err(|error| {
                    tracing::error!(%error, "what a handler answered is not JSON");
                    HandlerError(failed())
                })
            })
        };
        Self { call: Arc::new(call), runner }
    }

    /// Runs it for an event, on its own runtime. Dropping the future ends it.
    pub async fn run(&self, event: Event) -> Result<Box<RawValue>, Problem> {
        let Ok(place) = Arc::clone(&self.runner.places).try_acquire_owned() else {
            return Err(Problem::new(ErrorCode::Unavailable, "too many handlers run"));
        };
        let (call, name) = (Arc::clone(&self.call), event.name.clone());
        // Called inside the task, so that a panic before the first await is held by it too.
        let mut task = AbortOnDrop(self.runner.runtime.spawn(async move {
            let _place = place;
            call(event).await
        }));
        match tokio::time::timeout(self.runner.patience, &mut task.0).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.0),
            Ok(Err(error)) if error.is_panic() => {
                tracing::error!(event = name, "a handler panicked");
                Err(failed())
            }
            // Its runtime has ended.
            Ok(Err(_)) => Err(Problem::new(ErrorCode::Unavailable, "handlers do not run any more")),
            Err(_) => {
                tracing::warn!(event = name, "a handler did not answer in time");
                Err(Problem::new(ErrorCode::UpstreamTimeout, "the handler did not answer in time"))
            }
        }
    }
}

fn failed() -> Problem {
    Problem::new(ErrorCode::UpstreamError, "the handler failed")
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

/// The same closure, not one that does the same.
impl PartialEq for Closure {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.call, &other.call)
    }
}

/// What asks other services, for [`Act::Post`].
#[derive(Debug, Clone)]
pub struct Hooks {
    client: reqwest::Client,
    places: Arc<Semaphore>,
}

/// What another service answered.
pub struct Posted {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Hooks {
    /// Connections belong to the runtime that opened them, and each worker has its own, so none is kept;
    /// a redirect could lead from https to http, or turn a POST into a GET.
    pub fn new(connect: Duration, whole: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(connect)
            .timeout(whole)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()?;
        Ok(Self { client, places: Arc::new(Semaphore::new(MOST_POSTS)) })
    }

    /// Sends it once: nobody but the service knows whether a POST may be sent again.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
        limit: usize,
    ) -> Result<Posted, Problem> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Problem::new(ErrorCode::Unavailable, "too many handlers are asked"));
        };
        let wrong = |error: reqwest::Error| {
            let code = match error.is_timeout() {
                true => ErrorCode::UpstreamTimeout,
                false => ErrorCode::UpstreamError,
            };
            // Its place is the operator's matter, not the client's.
            let error = error.without_url();
            tracing::warn!(url, %error, "a handler could not be asked");
            Problem::new(code, "the handler could not be asked")
        };
        let request = self.client.post(url).headers(headers).body(body);
        let mut response = request.send().await.map_err(wrong)?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(wrong)? {
            if body.len() + part.len() > limit {
                let text = format!("the handler's answer is larger than {limit} bytes");
                return Err(Problem::new(ErrorCode::UpstreamError, text));
            }
            body.extend_from_slice(&part);
        }
        Ok(Posted { status: response.status(), headers: response.headers().clone(), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(event: &str, act: Act) -> Rule {
        Rule { event: event.into(), act }
    }

    fn refusal(rules: &[Rule]) -> Option<(usize, BadHandler)> {
        Handlers::new(rules).err()
    }

    #[test]
    fn a_handler_is_for_events_that_clients_can_send_and_pogo_does_not_answer() {
        let hook = || Act::Forward("/hook".into());
        assert_eq!(refusal(&[rule("track", hook()), rule("é t", hook())]), None);
        let long = "x".repeat(257);
        for event in
            ["", "bind", "ping", "auth", "create", "pogo:connect", "channel:x", "a\n", &long]
        {
            let refused = refusal(&[rule("good", hook()), rule(event, hook())]);
            assert_eq!(refused, Some((1, BadHandler::Event)), "{event:?}");
        }
        let twice = [rule("a", hook()), rule("b", hook()), rule("a", hook())];
        assert_eq!(refusal(&twice), Some((2, BadHandler::Twice)));
    }

    #[test]
    fn a_handler_forwards_to_a_path_or_a_url_without_a_password() {
        let post = |url: &str| Act::Post { url: url.into(), credentials: false };
        for good in [Act::Forward("/a?b".into()), post("http://a/b"), post("https://a")] {
            assert_eq!(refusal(&[rule("a", good)]), None);
        }
        for bad in [
            Act::Forward("a".into()),
            Act::Forward("//host/a".into()),
            post("ftp://a"),
            post("http://u:p@a/"),
            post("/a"),
        ] {
            assert_eq!(refusal(&[rule("a", bad)]), Some((0, BadHandler::Forward)));
        }
    }

    fn event() -> Event {
        let client = IpAddr::from([127, 0, 0, 1]);
        let secret = HeaderValue::from_static("Bearer hunter2");
        let data = serde_json::value::to_raw_value(&json!([1])).unwrap();
        Event::new("track".into(), "/".into(), client, 7)
            .saying(None, Some(data))
            .of(vec![(http::header::AUTHORIZATION, secret)], true)
    }

    #[test]
    fn an_event_shows_its_credentials_to_who_asks_by_name_and_to_no_log() {
        assert_eq!(event().credential("authorization").unwrap(), "Bearer hunter2");
        assert!(!format!("{:?}", event()).contains("hunter2"));
        assert_eq!(event().data::<Vec<u8>>().unwrap(), [1]);
        assert_eq!(event().data::<String>().unwrap_err().0.code, ErrorCode::BadRequest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closure_that_panics_or_takes_too_long_answers_an_error_and_gives_its_place_back() {
        let runner = Runner::new(Handle::current(), Duration::from_secs(3));
        let code = |answer: Result<Box<RawValue>, Problem>| answer.map_err(|problem| problem.code);
        let early = Closure::new(runner.clone(), |event: Event| {
            assert_eq!(event.name, "another");
            async { Ok(()) }
        });
        assert_eq!(code(early.run(event()).await).unwrap_err(), ErrorCode::UpstreamError);
        let never = Closure::new(runner.clone(), |_| std::future::pending::<Result<(), _>>());
        assert_eq!(code(never.run(event()).await).unwrap_err(), ErrorCode::UpstreamTimeout);
        tokio::task::yield_now().await;
        assert_eq!(runner.places.available_permits(), MOST_AT_ONCE);
        let good = Closure::new(runner.clone(), |event: Event| async move {
            Ok(json!({"session": event.session}))
        });
        assert_eq!(good.run(event()).await.unwrap().get(), r#"{"session":7}"#);
        let all = runner.places.acquire_many(MOST_AT_ONCE as u32).await.unwrap();
        assert_eq!(code(good.run(event()).await).unwrap_err(), ErrorCode::Unavailable);
        drop(all);
    }
}
