//! What is counted: by each worker for itself, and summed when somebody asks.
//!
//! A counter is written by one thread and read by any, so that counting is a load and a store and
//! never waits for another core.

mod counter;
mod reloads;
mod routes;
mod spans;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::counter::Counter;
pub use self::reloads::Reloads;
pub use self::routes::Route;
use self::routes::{BOUNDS, CLASSES, METHODS};
pub use self::spans::Spans;
pub use self::text::Exposition;
use crate::rejection::Rejection;

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
        Subscriptions = "subscriptions",
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

labels! {
    /// How a view is followed over plain HTTP.
    Way {
        Sse = "sse",
        Braid = "braid",
        Prep = "prep",
        LongPoll = "long_poll",
    }
}

/// Codes that sockets are closed with; the last place is for those that nobody closed in order.
const CLOSES: [u16; 13] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 4400, 4401, 4403, 4408, 4429, 4503];

/// What one worker counts; alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub struct Worker {
    rejections: [Counter; Unserved::ALL.len()],
    upstream_failures: [Counter; UpstreamFailure::ALL.len()],
    refetches: [Counter; Refetch::ALL.len()],
    closes: [Counter; CLOSES.len() + 1],
    pub upstream_opened: Counter,
    pub upstream_shed: Counter,
    pub upstream_idle: Counter,
    pub upstream_busy: Counter,
    pub sessions: Counter,
    /// Those that are open, and all that were opened, by [`Way`].
    subscriptions: [Counter; Way::ALL.len()],
    subscribed: [Counter; Way::ALL.len()],
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
    fn new() -> Self {
        Self {
            rejections: Default::default(),
            upstream_failures: Default::default(),
            refetches: Default::default(),
            closes: Default::default(),
            upstream_opened: Counter::default(),
            upstream_shed: Counter::default(),
            upstream_idle: Counter::default(),
            upstream_busy: Counter::default(),
            sessions: Counter::default(),
            subscriptions: Default::default(),
            subscribed: Default::default(),
            bindings: Counter::default(),
            messages: Counter::default(),
            states: Counter::default(),
            channel_events: Counter::default(),
            channel_events_lost: Counter::default(),
            changes: Counter::default(),
        }
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

    pub fn subscribed(&self, way: Way) {
        self.subscriptions[way as usize].add(1);
        self.subscribed[way as usize].add(1);
    }

    pub fn unsubscribed(&self, way: Way) {
        self.subscriptions[way as usize].subtract(1);
    }

    /// A socket ended; without a code, when no close frame was sent or came.
    pub fn closed(&self, code: Option<u16>) {
        let place = CLOSES.iter().position(|known| Some(*known) == code);
        self.closes[place.unwrap_or(CLOSES.len())].add(1);
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
            Rejection::Crowded => Self::Subscriptions,
            Rejection::Internal => Self::Internal,
            Rejection::ClientGone => Self::ClientGone,
        }
    }
}

/// What all workers of a node count.
#[derive(Debug)]
pub struct Node {
    /// The present routes. Locked
    /// when they change and when somebody asks.
    routes: Mutex<Routes>,
    pub reloads: Reloads,
    pub spans: Spans,
    /// One for each worker, and one for what is done outside of all of them.
    workers: Box<[Worker]>,
}

/// Routes of one time. Of one API, they are in the order of their numbers, and the last is for all
/// other paths.
pub type Routes = Arc<[Arc<Route>]>;

/// How paths that no route's pattern matches are labelled. No pattern can be spelled like this.
pub const DEFAULT_ROUTE: &str = "default";

impl Node {
    pub fn new(workers: usize, patterns: impl IntoIterator<Item = String>) -> Self {
        let node = Self {
            routes: Mutex::new(Arc::new([])),
            reloads: Reloads::new(),
            spans: Spans::default(),
            workers: (0..=workers).map(|_| Worker::new()).collect(),
        };
        node.show(node.routes_of(None, patterns));
        node
    }

    fn present(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present routes.
    pub fn routes(&self) -> Routes {
        Arc::clone(&self.present())
    }

    /// Where the requests of these patterns, of the API of that namespace if it is not `/`, are
    /// counted: where they are counted now, if they are.
    pub fn routes_of(
        &self,
        namespace: Option<&str>,
        patterns: impl IntoIterator<Item = String>,
    ) -> Routes {
        let present = self.routes();
        let patterns = patterns.into_iter().chain([DEFAULT_ROUTE.to_owned()]);
        let routes = patterns.map(|pattern| {
            let is_it =
                |route: &&Arc<Route>| route.pattern == pattern && route.namespace() == namespace;
            let known = present.iter().find(is_it);
            // The one thread that is no worker answers no requests of clients.
            let workers = self.workers.len() - 1;
            let name = || namespace.map(str::to_owned);
            let new = || Arc::new(Route::new(name(), pattern.clone(), workers));
            known.map_or_else(new, Arc::clone)
        });
        routes.collect()
    }

    /// These are the routes now. What is counted of others is not shown any more.
    pub fn show(&self, routes: Routes) {
        *self.present() = routes;
    }

    /// The counters of worker `number`. Only its own thread may count with them.
    pub fn worker(&self, number: usize) -> &Worker {
        &self.workers[number.min(self.workers.len() - 1)]
    }

    /// Views that are followed over plain HTTP, on all workers.
    pub fn subscriptions(&self) -> u64 {
        let open = self.workers.iter().flat_map(|worker| &worker.subscriptions);
        open.map(Counter::get).sum()
    }

    /// The counters of the one thread that is no worker.
    pub fn outside(&self) -> &Worker {
        &self.workers[self.workers.len() - 1]
    }

    fn sum(&self, of: impl Fn(&Worker) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| of(worker).get()).sum()
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
        self.reloads.expose(out);
        self.spans.expose(out);
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.counter("pogo_requests", "HTTP requests that were answered, by Pogo or the upstream.");
        let routes = self.routes();
        for route in routes.iter() {
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let count = route.sum(|requests| &requests.answered[m][c]);
                    if count > 0 {
                        let mut labels = route.labels();
                        labels.extend([("method", *method), ("code_class", *class)]);
                        out.sample(&labels, count);
                    }
                }
            }
        }
        out.histogram(
            "pogo_request_duration_seconds",
            "From the head of a request to the head of its answer.",
        );
        for route in routes.iter() {
            let counts: Vec<_> = (0..=BOUNDS.len())
                .map(|bucket| route.sum(|requests| &requests.taken[bucket]))
                .collect();
            if counts.iter().any(|count| *count > 0) {
                let sum = route.sum(|requests| &requests.microseconds);
                out.distribution(&route.labels(), &BOUNDS, &counts, sum);
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
        out.counter(
            "pogo_upstream_connections_shed",
            "Connections to the upstream taken from slow clients because others waited.",
        );
        out.sample(&[], self.sum(|worker| &worker.upstream_shed));
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
        out.gauge("pogo_subscriptions", "Views that are followed over plain HTTP.");
        for way in Way::ALL {
            let count = self.sum(|worker| &worker.subscriptions[*way as usize]);
            out.sample(&[("way", way.name())], count);
        }
        out.counter("pogo_subscriptions_opened", "Views that were begun to be followed so.");
        for way in Way::ALL {
            let count = self.sum(|worker| &worker.subscribed[*way as usize]);
            out.sample(&[("way", way.name())], count);
        }
        out.counter("pogo_messages", "Messages of clients over sockets.");
        out.sample(&[], self.sum(|worker| &worker.messages));
        out.counter("pogo_deliveries", "Events given to sockets and subscriptions.");
        out.sample(&[("kind", "state")], self.sum(|worker| &worker.states));
        out.sample(&[("kind", "channel")], self.sum(|worker| &worker.channel_events));
        out.counter("pogo_channel_events_lost", "Channel events dropped for slow sockets.");
        out.sample(&[], self.sum(|worker| &worker.channel_events_lost));
    }

    fn expose_views(&self, out: &mut Exposition) {
        out.gauge("pogo_bindings", "Bindings of sockets and subscriptions to URIs.");
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
    use std::time::Duration;

    use http::Method;

    use super::*;

    #[test]
    fn what_workers_count_is_summed_and_labelled() {
        let node = Node::new(2, ["/posts/{id}".to_owned()]);
        let routes = node.routes();
        routes[0].answered(0, &Method::GET, 200, Duration::from_micros(400));
        routes[0].answered(1, &Method::GET, 204, Duration::from_micros(501));
        routes[1].answered(1, &Method::from_bytes(b"MKCOL").unwrap(), 502, Duration::MAX);
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
        assert_eq!(routes[0].requests(), 2);
    }

    #[test]
    fn a_pattern_goes_on_being_counted_when_the_routes_change() {
        let node = Node::new(1, ["/a".to_owned(), "/b".to_owned()]);
        let before = node.routes();
        before.iter().for_each(|route| route.answered(0, &Method::GET, 200, Duration::ZERO));
        let elsewhere = node.routes_of(Some("/a"), ["/b".to_owned()]);
        assert_eq!(elsewhere.iter().map(|route| route.requests()).sum::<u64>(), 0);
        let after = node.routes_of(None, ["/c".to_owned(), "/b".to_owned()]);
        node.show(Arc::clone(&after));
        let counts: Vec<_> = after.iter().map(|route| (route.label(), route.requests())).collect();
        assert_eq!(counts, [("/c", 0), ("/b", 1), (DEFAULT_ROUTE, 1)]);
        // Of a request that began before.
        before[1].answered(0, &Method::GET, 200, Duration::ZERO);
        assert_eq!(node.routes()[1].requests(), 2);
    }

    #[test]
    fn the_labels_of_an_enum_stand_at_its_numbers() {
        for (place, reason) in Unserved::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
