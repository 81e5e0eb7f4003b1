//! What sends spans to a collector, on a thread of its own.
//!
//! Spans are sent in batches, one at a time. One that the collector does not take is sent once more
//! if it says that it could take it later, or cannot be reached; else, and then, it is dropped.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Bounds, Options, Span, Spans, otlp};
use crate::metrics;

/// How long a batch rests before it is sent once more, if the collector does not say.
const REST: Duration = Duration::from_secs(1);
/// How long it rests at most, whatever the collector says.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The most of an answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;
/// How often it is said that spans are dropped.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Sends what is put into its queue. Dropping it sends what is left, within [`Bounds::last`].
#[derive(Debug)]
pub struct Exporter {
    spans: Spans,
    stop: CancellationToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Exporter {
    pub fn start(options: &Options, metrics: &Arc<metrics::Node>) -> io::Result<Self> {
        let invalid =
            |text: String| io::Error::new(io::ErrorKind::InvalidInput, format!("traces: {text}"));
        let url = Url::parse(&options.endpoint).map_err(|error| invalid(error.to_string()))?;
        let has_password = !url.username().is_empty() || url.password().is_some();
        if !["http", "https"].contains(&url.scheme()) || has_password {
            return Err(invalid("a collector has an http or https URL without a password".into()));
        }
        // A redirect could lead from https to http, or turn a POST into a GET.
        let client = Client::builder()
            .timeout(options.bounds.patience)
            .pool_max_idle_per_host(1)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let (put, queue) = mpsc::channel(options.bounds.queue);
        let spans = Spans { queue: put, metrics: Arc::clone(metrics) };
        let stop = CancellationToken::new();
        let sender = Sender {
            url,
            client,
            service_name: options.service_name.clone(),
            metrics: Arc::clone(metrics),
            in_flight: 0,
            told: Told::default(),
        };
        let (bounds, stopped) = (options.bounds, stop.clone());
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(sender.run(queue, bounds, &stopped));
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
            Ok(())
        })?;
        Ok(Self { spans, stop, thread: Some(thread) })
    }

    /// Its queue.
    pub fn spans(&self) -> Spans {
        self.spans.clone()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::error!(%error, "spans could not be sent"),
            Some(Err(_)) => tracing::error!("what sends spans ended in a panic"),
            Some(Ok(Ok(()))) | None => (),
        }
    }
}

/// What the log says of spans that were dropped.
#[derive(Debug, Default)]
struct Told {
    /// How many it has told of.
    spans: u64,
    at: Option<Instant>,
    /// Why the last batch was.
    cause: Option<String>,
}

struct Sender {
    url: Url,
    client: Client,
    service_name: String,
    metrics: Arc<metrics::Node>,
    /// Spans of a batch of which it is not known yet what becomes of it.
    in_flight: usize,
    told: Told,
}

/// Why a batch was not taken.
struct Failure {
    cause: String,
    /// It may be sent once more, after that.
    rest: Option<Duration>,
}

impl Sender {
    async fn run(mut self, mut queue: Receiver<Span>, bounds: Bounds, stop: &CancellationToken) {
        let last = async {
            stop.cancelled().await;
            tokio::time::sleep(bounds.last).await;
        };
        tokio::select! {
            () = self.send_all(&mut queue, bounds, stop) => (),
            () = last => self.told.cause = Some("the server ended".into()),
        }
        queue.close();
        let mut left = std::mem::take(&mut self.in_flight);
        while queue.try_recv().is_ok() {
            left += 1;
        }
        self.metrics.spans.dropped(left as u64);
        self.told.at = None;
        self.tell();
    }

    /// Sends until it is to stop and there is nothing left.
    async fn send_all(
        &mut self,
        queue: &mut Receiver<Span>,
        bounds: Bounds,
        stop: &CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(bounds.batch);
        loop {
            let first = tokio::select! {
                biased;
                first = queue.recv() => first,
                () = stop.cancelled() => None,
            };
            let Some(first) = first else { return };
            batch.push(first);
            let fill = async {
                while batch.len() < bounds.batch {
                    let room = bounds.batch - batch.len();
                    if queue.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! {
                biased;
                () = fill => (),
                () = tokio::time::sleep(bounds.wait) => (),
                () = stop.cancelled() => (),
            }
            self.in_flight = batch.len();
            self.send(&batch).await;
            self.in_flight = 0;
            batch.clear();
            self.tell();
        }
    }

    async fn send(&mut self, batch: &[Span]) {
        let spans = batch.len() as u64;
        let sent = match otlp::request(batch, &self.service_name) {
            Ok(body) => self.post(body.into()).await,
            Err(error) => Err(error.to_string()),
        };
        let rejected = match sent {
            Ok(rejected) => rejected.min(spans),
            Err(cause) => {
                self.told.cause = Some(cause);
                spans
            }
        };
        self.metrics.spans.exported(spans - rejected);
        self.metrics.spans.dropped(rejected);
    }

    /// Gives the number of spans that the collector says it has not taken.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, String> {
        match self.post_once(body.clone()).await {
            Err(Failure { rest: Some(rest), .. }) => {
                tokio::time::sleep(rest).await;
                self.post_once(body).await
            }
            done => done,
        }
        .map_err(|failure| failure.cause)
    }

    async fn post_once(&self, body: bytes::Bytes) -> Result<u64, Failure> {
        let request = self.client.post(self.url.clone()).body(body);
        let sent = request.header(CONTENT_TYPE, "application/json").send().await;
        let answer = sent.map_err(|error| Failure {
            // One that has all the time there is and does not answer would not do so later.
            rest: (!error.is_timeout()).then_some(REST),
            cause: error.without_url().to_string(),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(rejected(answer).await);
        }
        let rest = may_come_again(status).then(|| rest_of(&answer));
        Err(Failure { cause: format!("the collector answered {status}"), rest })
    }

    /// Says how many were dropped since it was said last, unless that was a moment ago.
    fn tell(&mut self) {
        let lost = self.metrics.spans.lost();
        if lost == self.told.spans || self.told.at.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        let cause = self.told.cause.take();
        let cause = cause.as_deref().unwrap_or("more came than the collector took");
        tracing::warn!(spans = lost - self.told.spans, cause, "spans were dropped");
        self.told = Told { spans: lost, at: Some(Instant::now()), cause: None };
    }
}

/// As OTLP says.
fn may_come_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn rest_of(answer: &Response) -> Duration {
    let field = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = field.and_then(|text| text.parse().ok());
    seconds.map_or(REST, Duration::from_secs).min(LONGEST_REST)
}

/// What the collector says that it has not taken of a batch. One that says nothing that can be read
/// has taken all.
async fn rejected(mut answer: Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        if body.len() + part.len() > ANSWER_BYTES {
            return 0;
        }
        body.extend_from_slice(&part);
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let count = said.pointer("/partialSuccess/rejectedSpans");
    // 64 bits are a string in JSON, but not everybody knows.
    let number = count.and_then(|count| match count.as_str() {
        Some(text) => text.parse().ok(),
        None => count.as_u64(),
    });
    number.unwrap_or(0)
}
