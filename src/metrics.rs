//! What is counted: by each worker for itself, and summed when somebody asks.
//!
//! A counter is written by one thread and read by any, so that counting is a load and a store and
//! never waits for another core.

mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;

pub use self::text::Exposition;
use crate::rejection::Rejection;

/// A number that only its own worker changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    pub fn subtract(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An enum whose cases are the values of a label.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($case:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($case),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$case),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$case => $text),+ }
            }
        }
    };
}

labels! {
    /// Why a request or a connection was not served.
    Unserved {
        BadRequest = "bad_request",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        Banned = "banned",
        NotFound = "not_found",
        MethodNotAllowed = "method_not_allowed",
        SlowBody = "slow_body",
        TooLarge = "too_large",
        ExpectationFailed = "expectation_failed",
        UpgradeRequired = "upgrade_required",
        RateLimited = "rate_limited",
        UnknownTransferCoding = "unknown_transfer_coding",
        UpstreamUnreachable = "upstream_unreachable",
        UpstreamBroken = "upstream_broken",
        UpstreamTimeout = "upstream_timeout",
        Busy = "busy",
        Internal = "internal",
        ClientGone = "client_gone",
        Connections = "connections",
        ConnectionsPerAddress = "connections_per_address",
    }
}

labels! {
    /// Why the upstream gave no answer.
    UpstreamFailure {
        Connect = "connect",
        ConnectTimeout = "connect_timeout",
        ResponseTimeout = "response_timeout",
        Reset = "reset",
        Busy = "busy",
        BadResponse = "bad_response",
        RequestBody = "request_body",
    }
}

labels! {
    /// What a fetch for a view brought.
    Refetch {
        State = "state",
        NotModified = "not_modified",
        Refused = "refused",
        NotBindable = "not_bindable",
        Failed = "failed",
    }
}

/// Bounds of the latency histogram, in microseconds.
const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Codes that sockets are closed with; the last place is for those that nobody closed in order.
const CLOSES: [u16; 13] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 4400, 4401, 4403, 4408, 4429, 4503];

/// The requests of one route; as far from another worker's as a worker itself.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Requests {
    answered: [[Counter; CLASSES.len()]; METHODS.len()],
    /// By the first bound that is not below; the last is for those beyond all.
    taken: [Counter; BOUNDS.len() + 1],
    microseconds: Counter,
}

/// What one worker counts; alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub struct Worker {
    /// For each route, and one for paths without.
    requests: Box<[Requests]>,
    rejections: [Counter; Unserved::ALL.len()],
    upstream_failures: [Counter; UpstreamFailure::ALL.len()],
    refetches: [Counter; Refetch::ALL.len()],
    closes: [Counter; CLOSES.len() + 1],
    pub upstream_opened: Counter,
    pub upstream_idle: Counter,
    pub upstream_busy: Counter,
    pub sessions: Counter,
    pub bindings: Counter,
    /// Messages that clients sent over sockets.
    pub messages: Counter,
    /// States that sockets were given.
    pub states: Counter,
    /// Channel events that sockets were given.
    pub channel_events: Counter,
    pub channel_events_lost: Counter,
    pub changes: Counter,
}

impl Worker {
    fn new(routes: usize) -> Self {
        Self {
            requests: (0..=routes).map(|_| Requests::default()).collect(),
            rejections: Default::default(),
            upstream_failures: Default::default(),
            refetches: Default::default(),
            closes: Default::default(),
            upstream_opened: Counter::default(),
            upstream_idle: Counter::default(),
            upstream_busy: Counter::default(),
            sessions: Counter::default(),
            bindings: Counter::default(),
            messages: Counter::default(),
            states: Counter::default(),
            channel_events: Counter::default(),
            channel_events_lost: Counter::default(),
            changes: Counter::default(),
        }
    }

    /// A request of route number `route` was answered with `status` after `taken`.
    pub fn answered(&self, route: usize, method: &Method, status: u16, taken: Duration) {
        let Some(requests) = self.requests.get(route) else { return };
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        requests.answered[number_of(method)][class].add(1);
        let microseconds = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound);
        requests.taken[bucket.unwrap_or(BOUNDS.len())].add(1);
        requests.microseconds.add(microseconds);
    }

    pub fn rejected(&self, reason: Unserved) {
        self.rejections[reason as usize].add(1);
    }

    pub fn upstream_failed(&self, failure: UpstreamFailure) {
        self.upstream_failures[failure as usize].add(1);
    }

    pub fn refetched(&self, outcome: Refetch) {
        self.refetches[outcome as usize].add(1);
    }

    /// A socket ended; without a code, when no close frame was sent or came.
    pub fn closed(&self, code: Option<u16>) {
        let place = CLOSES.iter().position(|known| Some(*known) == code);
        self.closes[place.unwrap_or(CLOSES.len())].add(1);
    }
}

fn number_of(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => METHODS.len() - 1,
    }
}

impl From<&Rejection> for Unserved {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::BadRequest(_) => Self::BadRequest,
            Rejection::Unauthorized(_) => Self::Unauthorized,
            Rejection::Forbidden(_) => Self::Forbidden,
            Rejection::Banned { .. } => Self::Banned,
            Rejection::NotFound(_) => Self::NotFound,
            Rejection::MethodNotAllowed => Self::MethodNotAllowed,
            Rejection::SlowBody => Self::SlowBody,
            Rejection::TooLarge => Self::TooLarge,
            Rejection::ExpectationFailed => Self::ExpectationFailed,
            Rejection::UpgradeRequired => Self::UpgradeRequired,
            Rejection::RateLimited { .. } => Self::RateLimited,
            Rejection::UnknownTransferCoding => Self::UnknownTransferCoding,
            Rejection::UpstreamUnreachable(_) => Self::UpstreamUnreachable,
            Rejection::UpstreamBroken(_) => Self::UpstreamBroken,
            Rejection::UpstreamTimeout(_) => Self::UpstreamTimeout,
            Rejection::Busy => Self::Busy,
            Rejection::Internal => Self::Internal,
            Rejection::ClientGone => Self::ClientGone,
        }
    }
}

/// What all workers of a node count.
#[derive(Debug)]
pub struct Node {
    /// The patterns of the routes, in the order of their numbers; the last is for all other paths.
    routes: Vec<String>,
    /// One for each worker, and one for what is done outside of all of them.
    workers: Box<[Worker]>,
}

/// How paths that no route's pattern matches are labelled. No pattern can be spelled like this.
pub const DEFAULT_ROUTE: &str = "default";

impl Node {
    pub fn new(workers: usize, patterns: impl IntoIterator<Item = String>) -> Self {
        let mut routes: Vec<_> = patterns.into_iter().collect();
        let workers = (0..=workers).map(|_| Worker::new(routes.len())).collect();
        routes.push(DEFAULT_ROUTE.to_owned());
        Self { routes, workers }
    }

    /// The counters of worker `number`. Only its own thread may count with them.
    pub fn worker(&self, number: usize) -> &Worker {
        &self.workers[number.min(self.workers.len() - 1)]
    }

    /// The counters of the one thread that is no worker.
    pub fn outside(&self) -> &Worker {
        &self.workers[self.workers.len() - 1]
    }

    pub fn route(&self, number: usize) -> &str {
        self.routes.get(number).map_or(DEFAULT_ROUTE, String::as_str)
    }

    fn sum(&self, of: impl Fn(&Worker) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| of(worker).get()).sum()
    }

    /// How many requests of route number `route` were answered.
    pub fn requests(&self, route: usize) -> u64 {
        let taken = |bucket: usize| self.sum(|worker| &worker.requests[route].taken[bucket]);
        (0..=BOUNDS.len()).map(taken).sum()
    }

    /// Writes everything that is counted here.
    pub fn expose(&self, out: &mut Exposition) {
        self.expose_requests(out);
        out.counter("pogo_rejections", "Requests and connections that Pogo did not serve.");
        for reason in Unserved::ALL {
            let count = self.sum(|worker| &worker.rejections[*reason as usize]);
            out.sample(&[("reason", reason.name())], count);
        }
        self.expose_upstream(out);
        self.expose_sockets(out);
        self.expose_views(out);
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.counter("pogo_requests", "HTTP requests that were answered, by Pogo or the upstream.");
        for (number, route) in self.routes.iter().enumerate() {
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let count = self.sum(|worker| &worker.requests[number].answered[m][c]);
                    if count > 0 {
                        let labels =
                            [("route", route.as_str()), ("method", method), ("code_class", class)];
                        out.sample(&labels, count);
                    }
                }
            }
        }
        out.histogram(
            "pogo_request_duration_seconds",
            "From the head of a request to the head of its answer.",
        );
        for (number, route) in self.routes.iter().enumerate() {
            let counts: Vec<_> = (0..=BOUNDS.len())
                .map(|bucket| self.sum(|worker| &worker.requests[number].taken[bucket]))
                .collect();
            if counts.iter().any(|count| *count > 0) {
                let sum = self.sum(|worker| &worker.requests[number].microseconds);
                out.distribution(&[("route", route)], &BOUNDS, &counts, sum);
            }
        }
    }

    fn expose_upstream(&self, out: &mut Exposition) {
        out.counter("pogo_upstream_failures", "Requests that the upstream gave no answer to.");
        for kind in UpstreamFailure::ALL {
            let count = self.sum(|worker| &worker.upstream_failures[*kind as usize]);
            out.sample(&[("kind", kind.name())], count);
        }
        out.counter("pogo_upstream_connections_opened", "Connections made to the upstream.");
        out.sample(&[], self.sum(|worker| &worker.upstream_opened));
        out.gauge("pogo_upstream_connections", "Connections to the upstream.");
        out.sample(&[("state", "idle")], self.sum(|worker| &worker.upstream_idle));
        out.sample(&[("state", "busy")], self.sum(|worker| &worker.upstream_busy));
    }

    fn expose_sockets(&self, out: &mut Exposition) {
        out.gauge("pogo_sessions", "Open sockets.");
        out.sample(&[], self.sum(|worker| &worker.sessions));
        out.counter("pogo_sessions_closed", "Sockets that ended, by close code.");
        for (place, code) in CLOSES.iter().enumerate() {
            let count = self.sum(|worker| &worker.closes[place]);
            out.sample(&[("code", &code.to_string())], count);
        }
        out.sample(&[("code", "none")], self.sum(|worker| &worker.closes[CLOSES.len()]));
        out.counter("pogo_messages", "Messages of clients over sockets.");
        out.sample(&[], self.sum(|worker| &worker.messages));
        out.counter("pogo_deliveries", "Events given to sockets.");
        out.sample(&[("kind", "state")], self.sum(|worker| &worker.states));
        out.sample(&[("kind", "channel")], self.sum(|worker| &worker.channel_events));
        out.counter("pogo_channel_events_lost", "Channel events dropped for slow sockets.");
        out.sample(&[], self.sum(|worker| &worker.channel_events_lost));
    }

    fn expose_views(&self, out: &mut Exposition) {
        out.gauge("pogo_bindings", "Bindings of sockets to URIs.");
        out.sample(&[], self.sum(|worker| &worker.bindings));
        out.counter("pogo_changes", "Writes, and changes announced by operators.");
        out.sample(&[], self.sum(|worker| &worker.changes));
        out.counter("pogo_refetches", "Fetches for views.");
        for outcome in Refetch::ALL {
            let count = self.sum(|worker| &worker.refetches[*outcome as usize]);
            out.sample(&[("outcome", outcome.name())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_is_summed_and_labelled() {
        let node = Node::new(2, ["/posts/{id}".to_owned()]);
        node.worker(0).answered(0, &Method::GET, 200, Duration::from_micros(400));
        node.worker(1).answered(0, &Method::GET, 204, Duration::from_micros(501));
        node.worker(1).answered(1, &Method::from_bytes(b"MKCOL").unwrap(), 502, Duration::MAX);
        node.worker(0).rejected(Unserved::Busy);
        node.outside().changes.add(3);
        let mut out = Exposition::default();
        node.expose(&mut out);
        let text = out.finish();
        for line in [
            "pogo_requests_total{route=\"/posts/{id}\",method=\"GET\",code_class=\"2xx\"} 2",
            "pogo_requests_total{route=\"default\",method=\"other\",code_class=\"5xx\"} 1",
            "pogo_request_duration_seconds_bucket{route=\"/posts/{id}\",le=\"0.0005\"} 1",
            "pogo_request_duration_seconds_bucket{route=\"/posts/{id}\",le=\"0.001\"} 2",
            "pogo_request_duration_seconds_bucket{route=\"/posts/{id}\",le=\"+Inf\"} 2",
            "pogo_request_duration_seconds_sum{route=\"/posts/{id}\"} 0.000901",
            "pogo_request_duration_seconds_count{route=\"/posts/{id}\"} 2",
            "pogo_request_duration_seconds_bucket{route=\"default\",le=\"10\"} 0",
            "pogo_rejections_total{reason=\"busy\"} 1",
            "pogo_rejections_total{reason=\"internal\"} 0",
            "pogo_changes_total 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert_eq!(node.requests(0), 2);
    }

    #[test]
    fn the_labels_of_an_enum_stand_at_its_numbers() {
        for (place, reason) in Unserved::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
