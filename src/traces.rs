//! Spans of requests, and who sends them to a collector.
//!
//! A worker puts the span of a request that is over into a bounded queue, and never waits: what
//! finds no place is counted and gone. One thread for the node takes from there, and sends what it
//! has as OTLP over HTTP, in JSON.

mod export;
mod otlp;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use http::{HeaderMap, Method};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::export::Exporter;
use crate::metrics;
use crate::trace::{self, Parent};

/// The longest `tracestate` that a span keeps: what everybody must be able to pass on (§3.3.1.5).
const STATE_BYTES: usize = 512;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the collector takes spans, an http or https URL.
    pub endpoint: String,
    pub service_name: String,
    pub bounds: Bounds,
}

/// What spans may take of memory and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Spans that wait to be sent.
    pub queue: usize,
    /// Spans that are sent together.
    pub batch: usize,
    /// How long a span waits for others that it is sent with.
    pub wait: Duration,
    /// For one request to the collector, to the end of its answer.
    pub patience: Duration,
    /// How long the end of the server waits for what is left to be sent.
    pub last: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            queue: 8192,
            batch: 512,
            wait: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            last: Duration::from_secs(2),
        }
    }
}

/// Where a span stands in its trace.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    /// Its own copy: a value of the head would hold the whole head.
    state: Option<Box<str>>,
    /// Since 1970.
    began: Duration,
}

impl Place {
    /// A request has begun. It is given a span in its client's trace, or in a new one, and the API
    /// will see it come from that span. None, and nothing changes, if its trace is not recorded.
    pub fn enter(headers: &mut HeaderMap, began: Instant) -> Option<Self> {
        let parent = Parent::of(headers);
        if parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let trace = match parent {
            Some(parent) => parent.trace,
            None => u128::from_ne_bytes(random()?),
        };
        let span = u64::from_ne_bytes(random()?);
        if parent.is_none() {
            trace::forget_state(headers);
        }
        Parent { trace, span, sampled: true }.mark(headers);
        let state = trace::state(headers, STATE_BYTES).map(Box::from);
        // By one clock from now on, so that no span ends before or after its time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = now.saturating_sub(began.elapsed());
        Some(Self { trace, span, parent: parent.map(|parent| parent.span), state, began })
    }
}

/// Bytes that nobody can guess, and that are not all zero.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    (bytes != [0; N]).then_some(bytes)
}

/// What a collector is told of a request that is over. Nothing in it is a client's own words but
/// `tracestate`, which is for collectors.
#[derive(Debug)]
pub struct Span {
    pub place: Place,
    pub method: &'static str,
    pub route: Arc<metrics::Route>,
    /// 0 when there was no answer.
    pub status: u16,
    pub took: Duration,
    pub ended_by: &'static str,
    pub ended_at: &'static str,
    pub reason: &'static str,
    /// It did not come to its own end.
    pub is_cut_off: bool,
}

/// How a method is called that clients may have made up.
const OTHER_METHOD: &str = "_OTHER";

impl Span {
    /// What a method is called: of those that clients make up there is no end.
    pub fn method(method: &Method) -> &'static str {
        const KNOWN: [&str; 9] =
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
        KNOWN.into_iter().find(|known| method == known).unwrap_or(OTHER_METHOD)
    }
}

/// Where workers put spans.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    metrics: Arc<metrics::Node>,
}

impl Spans {
    pub fn give(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans.dropped(1);
        }
    }
}
