//! What is counted of the requests of each route.

use std::time::Duration;

use http::Method;

use super::Counter;

/// Bounds of the latency histogram, in microseconds.
pub(super) const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
pub(super) const METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The requests of one route, as each worker counts them. Who counts for a pattern goes on to
/// count in the same place when the routes change.
#[derive(Debug)]
pub struct Route {
    /// The one with the API that they are sent to, if that is not `/`.
    pub(super) namespace: Option<String>,
    pub(super) pattern: String,
    workers: Box<[Requests]>,
}

impl Route {
    pub(super) fn new(namespace: Option<String>, pattern: String, workers: usize) -> Self {
        Self { namespace, pattern, workers: (0..workers).map(|_| Requests::default()).collect() }
    }

    /// What the route is called in labels.
    pub fn label(&self) -> &str {
        &self.pattern
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// How it is told from all others.
    pub(super) fn labels(&self) -> Vec<(&'static str, &str)> {
        let namespace = self.namespace().map(|name| ("namespace", name));
        std::iter::once(("route", self.label())).chain(namespace).collect()
    }

    /// A request was answered with `status` after `taken` by worker `number`. Only its own thread
    /// may say so.
    pub fn answered(&self, number: usize, method: &Method, status: u16, taken: Duration) {
        let Some(requests) = self.workers.get(number) else { return };
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        requests.answered[number_of(method)][class].add(1);
        let microseconds = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound);
        requests.taken[bucket.unwrap_or(BOUNDS.len())].add(1);
        requests.microseconds.add(microseconds);
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        (0..=BOUNDS.len()).map(|bucket| self.sum(|requests| &requests.taken[bucket])).sum()
    }

    pub(super) fn sum(&self, of: impl Fn(&Requests) -> &Counter) -> u64 {
        self.workers.iter().map(|requests| of(requests).get()).sum()
    }
}

/// The requests of one route; as far from another worker's as a worker itself.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Requests {
    pub(super) answered: [[Counter; CLASSES.len()]; METHODS.len()],
    /// By the first bound that is not below; the last is for those beyond all.
    pub(super) taken: [Counter; BOUNDS.len() + 1],
    pub(super) microseconds: Counter,
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
