//! What is noted of each request: counters, the access log with who ended it and when, and its span.
//!
//! With neither an admin listener nor `log.access` nor `traces` nothing is noted, and no clock is
//! read.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::metrics::{self, Unserved};
use crate::namespace::Name;
use crate::rejection::Rejection;
use crate::route::Routes;
use crate::trace::Trace;
use crate::traces::{Place, Span, Spans};
use crate::upstream::ResponseBody;

/// What the access log's lines are logged as, so that a filter can tell them from the others.
pub const ACCESS_LOG: &str = "pogo::access";

/// The routes of an API, and where the requests of those are counted.
#[derive(Debug, Clone)]
pub struct Counted {
    pub routes: Arc<Routes>,
    pub places: metrics::Routes,
}

impl Counted {
    fn of(&self, path: &str) -> &Arc<metrics::Route> {
        &self.places[self.routes.number(path).min(self.places.len() - 1)]
    }
}

/// What requests are told apart by.
#[derive(Debug, Clone)]
pub struct Sorts {
    pub whole: Counted,
    /// Of the APIs of namespaces, that with the longest name first.
    pub branches: Vec<(Name, Counted)>,
}

impl Sorts {
    fn of(&self, path: &str) -> &Arc<metrics::Route> {
        let mut branches = self.branches.iter();
        let below = branches.find_map(|(name, counted)| Some(counted.of(name.below(path)?)));
        below.unwrap_or_else(|| self.whole.of(path))
    }
}

/// One worker's notes.
#[derive(Debug)]
pub struct Access {
    metrics: Arc<metrics::Node>,
    worker: usize,
    sorts: Sorts,
    counts: bool,
    logs: bool,
    spans: Option<Spans>,
    /// There is a log, or a collector of spans.
    lines: bool,
    /// What ends from now on is ended by this server.
    cut: Rc<Cell<bool>>,
}

impl Access {
    /// `counts` says that somebody reads the counters of requests; `spans`, where spans go.
    pub fn new(
        metrics: Arc<metrics::Node>,
        worker: usize,
        sorts: Sorts,
        counts: bool,
        spans: Option<Spans>,
    ) -> Rc<Self> {
        let logs = tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO);
        let lines = logs || spans.is_some();
        Rc::new(Self { metrics, worker, sorts, counts, logs, spans, lines, cut: Rc::default() })
    }

    /// Notes for other routes, with the log as it is now. What was begun is noted as it was begun.
    pub fn succeed(&self, sorts: Sorts) -> Rc<Self> {
        let logs = tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO);
        let (metrics, cut) = (Arc::clone(&self.metrics), Rc::clone(&self.cut));
        let (worker, counts, spans) = (self.worker, self.counts, self.spans.clone());
        let lines = logs || spans.is_some();
        Rc::new(Self { metrics, worker, sorts, counts, logs, spans, lines, cut })
    }

    fn route(&self, target: &Uri) -> &Arc<metrics::Route> {
        self.sorts.of(target.path())
    }

    pub fn logs(&self) -> bool {
        self.logs
    }

    /// The deadline of a drain has passed: who is still here is cut off.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    pub fn metrics(&self) -> &metrics::Worker {
        self.metrics.worker(self.worker)
    }

    /// A request begins.
    pub fn begin(&self) -> Option<Instant> {
        (self.counts || self.lines).then(Instant::now)
    }

    /// Its line, if there is a log or a span of it; `client` is asked for only then. With a span,
    /// the API will find that in `headers` as what the request comes from.
    pub fn line(
        self: &Rc<Self>,
        began: Option<Instant>,
        method: &Method,
        target: &Uri,
        headers: &mut HeaderMap,
        client: impl FnOnce(&HeaderMap) -> IpAddr,
    ) -> Option<Box<Line>> {
        let began = began.filter(|_| self.lines)?;
        let place = self.spans.as_ref().and_then(|_| Place::enter(headers, began));
        if !self.logs && place.is_none() {
            return None;
        }
        Some(Box::new(Line {
            access: Rc::clone(self),
            method: method.clone(),
            target: target.clone(),
            client: client(headers),
            trace: if self.logs { Trace::of(headers) } else { None },
            place,
            goes_on: false,
            began,
            asked: None,
            upstream: None,
            status: 0,
            bytes: 0,
            end: None,
        }))
    }

    /// The head of the answer is here.
    pub fn answered(
        &self,
        began: Option<Instant>,
        method: &Method,
        target: &Uri,
        status: StatusCode,
        line: Option<&mut Line>,
    ) {
        let status = status.as_u16();
        if let Some(began) = began.filter(|_| self.counts) {
            self.route(target).answered(self.worker, method, status, began.elapsed());
        }
        if let Some(line) = line {
            line.answered(status);
        }
    }
}

/// Who ended a request, when, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub by: &'static str,
    pub at: &'static str,
    pub reason: &'static str,
}

const OK: End = End { by: "none", at: "end", reason: "ok" };

impl From<&Rejection> for End {
    fn from(rejection: &Rejection) -> Self {
        let (by, at) = match rejection {
            Rejection::SlowBody | Rejection::ClientGone => ("client", "request"),
            Rejection::UpstreamUnreachable(_) | Rejection::UpstreamTimeout("connecting") => {
                ("upstream", "connect")
            }
            Rejection::UpstreamTimeout(_) | Rejection::UpstreamBroken(_) => ("upstream", "answer"),
            Rejection::Busy => ("pogo", "queue"),
            Rejection::Internal => ("pogo", "answer"),
            _ => ("pogo", "request"),
        };
        Self { by, at, reason: Unserved::from(rejection).name() }
    }
}

/// What the log and the collector will be told of a request. They are when the request is over,
/// however that comes.
#[derive(Debug)]
pub struct Line {
    access: Rc<Access>,
    method: Method,
    target: Uri,
    client: IpAddr,
    trace: Option<Trace>,
    /// Of its span, if it has one.
    place: Option<Place>,
    /// Its answer goes on until somebody ends it.
    goes_on: bool,
    began: Instant,
    /// When the upstream was asked.
    asked: Option<Instant>,
    /// What it took to the head of its answer.
    upstream: Option<Duration>,
    status: u16,
    bytes: u64,
    end: Option<End>,
}

impl Line {
    /// The upstream is asked now.
    pub fn ask(&mut self) {
        self.asked = Some(Instant::now());
    }

    pub fn refused(&mut self, rejection: &Rejection) {
        self.end = Some(End::from(rejection));
    }

    fn answered(&mut self, status: u16) {
        self.status = status;
        self.upstream = self.asked.map(|asked| asked.elapsed());
    }

    fn log(&self, route: &metrics::Route, end: End) {
        tracing::info!(
            target: ACCESS_LOG,
            method = %self.method,
            // Never the query: APIs take tokens there.
            path = self.target.path(),
            route = route.label(),
            namespace = route.namespace(),
            status = (self.status > 0).then_some(self.status),
            bytes = self.bytes,
            duration_ms = milliseconds(self.began.elapsed()),
            upstream_ms = self.upstream.map(milliseconds),
            client = %self.client,
            ended_by = end.by,
            ended_at = end.at,
            reason = end.reason,
            trace_id = self.trace.as_ref().map(Trace::id),
            "request"
        );
    }

    fn span(&self, place: Place, route: &Arc<metrics::Route>, end: End) -> Span {
        let is_cut_off = match end.reason {
            // Who has heard enough of a stream leaves it.
            "client_gone" => !self.goes_on,
            "upstream_reset" | "slow_client" | "drain_deadline" => true,
            _ => false,
        };
        Span {
            place,
            method: Span::method(&self.method),
            route: Arc::clone(route),
            status: self.status,
            took: self.began.elapsed(),
            ended_by: end.by,
            ended_at: end.at,
            reason: end.reason,
            is_cut_off,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let at = if self.status == 0 { "answer" } else { "body" };
        let end = self.end.unwrap_or(match self.access.cut.get() {
            true => End { by: "pogo", at, reason: "drain_deadline" },
            false => End { by: "client", at, reason: "client_gone" },
        });
        let route = self.access.route(&self.target);
        if self.access.logs {
            self.log(route, end);
        }
        let place = self.place.take();
        if let (Some(spans), Some(place)) = (&self.access.spans, place) {
            spans.give(self.span(place, route, end));
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

/// The body of an answer, and the line that is written when it is over.
#[derive(Debug)]
pub struct Body {
    inner: ResponseBody,
    line: Option<Box<Line>>,
}

impl Body {
    pub fn new(inner: ResponseBody, line: Option<Box<Line>>) -> Self {
        let mut this = Self { inner, line };
        match (&this.inner, &mut this.line) {
            // What is here whole is given away as it is.
            (ResponseBody::Full(bytes), Some(line)) => {
                if line.method != Method::HEAD {
                    line.bytes = bytes.len() as u64;
                }
                this.over(OK);
            }
            (ResponseBody::Made(_), Some(line)) => line.goes_on = true,
            _ => (),
        }
        this.notice_end();
        this
    }

    /// Writes the line; what was noted of the end before stays.
    fn over(&mut self, end: End) {
        if let Some(mut line) = self.line.take() {
            line.end.get_or_insert(end);
        }
    }

    /// Nobody polls a body that says that it is at its end.
    fn notice_end(&mut self) {
        if hyper::body::Body::is_end_stream(&self.inner) {
            self.over(OK);
        }
    }

    fn note(&mut self, polled: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        match polled {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Some(line) = &mut self.line {
                    line.bytes += bytes as u64;
                }
                self.notice_end();
            }
            Some(Err(_)) if self.inner.is_given_up() => {
                self.over(End { by: "pogo", at: "body", reason: "slow_client" });
            }
            Some(Err(_)) => {
                self.over(End { by: "upstream", at: "body", reason: "upstream_reset" });
            }
            None => self.over(match self.inner.why_over() {
                Some(reason) => End { by: "pogo", at: "body", reason },
                None => OK,
            }),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if self.line.is_some()
            && let Poll::Ready(polled) = &polled
        {
            self.note(polled.as_ref());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
