//! A response that goes on: the present state, and each one that the client is owed when it takes
//! bytes. Each way of saying so is a [`Speech`].

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, response};
use tokio::time::Instant;

use super::follow::{Follow, Notice, Over};
use super::opening::First;
use crate::alarm::Alarm;
use crate::protocol::Reason;
use crate::upstream::Source;
use crate::view::State;

/// How a stream of states is written.
pub(super) trait Speech: fmt::Debug {
    /// Makes the head of the API's answer that of a stream, which begins at `version` unless that
    /// is unknown.
    fn head(&self, head: &mut response::Parts, version: Option<&str>);
    /// What comes before all news. `is_held`: the client has the state already.
    fn first(&self, first: &First, is_held: bool) -> Bytes;
    fn state(&self, state: &State) -> Bytes;
    /// That what was shown may be old, or is the latest after all; none has no words for it.
    fn staleness(&self, _stale: bool) -> Option<Bytes> {
        None
    }
    /// None has no words that say nothing.
    fn heartbeat(&self) -> Option<Bytes>;
    /// What ends a stream that the client may open again after that time, if at all.
    fn last(&self, over: Over, return_after: Duration) -> Option<Bytes>;
    /// How long it may take at most.
    fn lifetime(&self) -> Option<Duration> {
        None
    }
    /// The state after which nothing follows; the end is in it.
    fn ends_with(&self, _state: &State) -> bool {
        false
    }
}

/// How long a stream lives, and how often it says that it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) heartbeat: Duration,
    /// When its time is over.
    pub(super) lives_until: Option<Instant>,
    /// When the client's credential is.
    pub(super) expires: Option<Instant>,
}

/// The body of the response.
pub(super) struct Stream {
    /// None at the end.
    follow: Option<Follow>,
    speech: Rc<dyn Speech>,
    first: Option<Bytes>,
    times: Times,
    spoke: Instant,
    alarm: Alarm,
    why_over: Option<&'static str>,
}

impl Stream {
    pub(super) fn new(follow: Follow, speech: Rc<dyn Speech>, first: Bytes, times: Times) -> Self {
        Self {
            follow: Some(follow),
            speech,
            first: Some(first),
            times,
            spoke: Instant::now(),
            alarm: Alarm::default(),
            why_over: None,
        }
    }

    fn tell(&mut self, notice: Notice) -> Option<Bytes> {
        match notice {
            Notice::State(state) => {
                if self.speech.ends_with(&state) {
                    self.follow = None;
                }
                Some(self.speech.state(&state))
            }
            Notice::Stale => self.speech.staleness(true),
            Notice::Fresh => self.speech.staleness(false),
            Notice::Over(over) => {
                self.why_over = Some(over.name());
                let return_after = self.follow.take()?.return_after();
                self.speech.last(over, return_after)
            }
        }
    }

    /// Does what is due, after the next deadline.
    fn on_time(&self, follow: &Follow, now: Instant) -> Option<Bytes> {
        let Times { lives_until, expires, .. } = self.times;
        if expires.is_some_and(|at| at <= now) {
            follow.end(Over::Unbound(Reason::Expired));
        } else if lives_until.is_some_and(|at| at <= now) {
            follow.end(Over::Left("lifetime"));
        } else {
            return self.speech.heartbeat();
        }
        None
    }
}

impl Source for Stream {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut part = self.first.take();
        while part.is_none() {
            let Some(follow) = &self.follow else { return Poll::Ready(None) };
            if let Poll::Ready(notice) = follow.poll(cx) {
                part = self.tell(notice);
                continue;
            }
            let Times { heartbeat, lives_until, expires } = self.times;
            let ends = lives_until.into_iter().chain(expires);
            let deadline = ends.fold(self.spoke + heartbeat, Instant::min);
            ready!(self.alarm.poll(deadline, cx));
            self.spoke = Instant::now();
            part = self.on_time(follow, self.spoke);
        }
        self.spoke = Instant::now();
        Poll::Ready(part)
    }

    fn why_over(&self) -> Option<&'static str> {
        self.why_over
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("speech", &self.speech).finish_non_exhaustive()
    }
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Takes from a head what is about the one body that it came with, or about storing it.
pub(super) fn begin_stream(headers: &mut HeaderMap, media_type: &'static str, vary: &'static str) {
    const OF_ONE_BODY: [&str; 13] = [
        "accept-ranges",
        "age",
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "digest",
        "expires",
        "pragma",
        "repr-digest",
        "trailer",
    ];
    for name in OF_ONE_BODY {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    // nginx would hold events back until it has a buffer full of them.
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.append(header::VARY, HeaderValue::from_static(vary));
}
