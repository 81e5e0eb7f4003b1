//! A request's body on its way to the upstream: streamed, counted, and never waited for without end.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::head::Heads;
use crate::headers;
use crate::holds::{Hold, Holds};

/// The least average pace of a client's body over each window, in bytes per second: below it a
/// connection is being held open rather than used.
const LEAST_BYTES_PER_SECOND: u64 = 8;

/// How long a client that asked whether to send its body is left without an answer by the upstream:
/// some never give one, and clients do not wait for ever either (RFC 9110 §10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client did wrong while it sent a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The framing is broken.
    Malformed,
    /// More bytes than the limit.
    TooLarge,
    /// Fewer bytes than a client that means it would send.
    Slow,
    /// The client went away before the end.
    Aborted,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the request body is malformed",
            Self::TooLarge => "the request body is too large",
            Self::Slow => "the request body came too slowly",
            Self::Aborted => "the client went away",
        })
    }
}

impl std::error::Error for Fault {}

/// What a client's body is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes; 0 is no limit.
    pub bytes: u64,
    /// The window over which the least pace is measured.
    pub window: Duration,
}

/// How far a body has come, for whoever waits for the answer to it.
#[derive(Debug, Default)]
pub struct Progress {
    fault: Cell<Option<Fault>>,
    /// When the upstream last took a frame.
    taken: Cell<Option<Instant>>,
    /// The upstream wants more and the client has not sent it.
    awaits_client: Cell<bool>,
    /// The head of the answer is here.
    answered: Cell<bool>,
}

impl Progress {
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    pub(crate) fn answered(&self) {
        self.answered.set(true);
    }

    pub(crate) fn last_taken(&self) -> Option<Instant> {
        self.taken.get()
    }

    pub(crate) fn awaits_client(&self) -> bool {
        self.awaits_client.get()
    }
}

/// The body of a request to the upstream.
#[derive(Debug)]
pub enum RequestBody {
    Empty,
    Full(Bytes),
    Incoming(Upload),
}

impl RequestBody {
    /// Takes a client's body in, unless it has none.
    pub fn incoming(body: Incoming, limits: Limits, heads: &Arc<Heads>) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            Self::Incoming(Upload::new(body, limits, Arc::clone(heads)))
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(_) => false,
        }
    }

    /// Leaves the client's body alone until the returned handle is notified, or nobody has for a
    /// while; and for good once the answer is here. A client that asked first is thereby not told
    /// to send what nobody will read.
    pub(crate) fn hold(&mut self) -> Option<Arc<Notify>> {
        let Self::Incoming(upload) = self else {
            return None;
        };
        let asked_for = Arc::new(Notify::new());
        let asked = Arc::clone(&asked_for);
        upload.hold = Some(Box::pin(async move {
            // Told or not, the body is sent now.
            tokio::time::timeout(CONTINUE_TIMEOUT, asked.notified()).await.unwrap_or_default();
        }));
        Some(asked_for)
    }

    /// Its client is listed in `holds` once it has to be waited for.
    pub(crate) fn held_in(&mut self, holds: &Rc<Holds>) {
        if let Self::Incoming(upload) = self {
            upload.pace.holds = Some(Rc::clone(holds));
        }
    }

    pub(crate) fn progress(&self) -> Option<Rc<Progress>> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Incoming(upload) => Some(Rc::clone(&upload.progress)),
        }
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Incoming(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(upload) => upload.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(upload) => upload.inner.size_hint(),
        }
    }
}

/// A client's body as it arrives.
pub struct Upload {
    inner: Incoming,
    limits: Limits,
    total: u64,
    pace: Pace,
    progress: Rc<Progress>,
    /// Told when the last of the body has been read.
    heads: Arc<Heads>,
    hold: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Upload {
    fn new(inner: Incoming, limits: Limits, heads: Arc<Heads>) -> Self {
        Self {
            inner,
            limits,
            total: 0,
            pace: Pace::new(limits.window),
            progress: Rc::default(),
            heads,
            hold: None,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(hold) = &mut self.hold {
            if self.progress.answered.get() {
                return Poll::Pending;
            }
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.awaits_client.set(polled.is_pending());
        if polled.is_pending() {
            ready!(self.pace.poll_too_slow(cx));
            return self.fail(Fault::Slow);
        }
        self.progress.taken.set(Some(Instant::now()));
        match ready!(polled) {
            None => {
                self.heads.expect();
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(fault_of(&error)),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.pace.arrived(bytes);
                self.total += bytes;
                if self.limits.bytes > 0 && self.total > self.limits.bytes {
                    return self.fail(Fault::TooLarge);
                }
                if self.inner.is_end_stream() || frame.is_trailers() {
                    self.heads.expect();
                }
                Poll::Ready(Some(Ok(headers::only_lawful_trailers(frame))))
            }
        }
    }

    fn fail(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }
}

/// hyper reports broken framing as an `InvalidData`/`InvalidInput` cause; the end of the stream
/// and a reset as other kinds.
fn fault_of(error: &hyper::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{InvalidData, InvalidInput};
            return match io.kind() {
                InvalidData | InvalidInput => Fault::Malformed,
                _ => Fault::Aborted,
            };
        }
        cause = error.source();
    }
    Fault::Aborted
}

/// The clock of a slow body. It runs only while the client is waited for: the time that the
/// upstream takes is not the client's.
#[derive(Debug)]
struct Pace {
    window: Duration,
    holds: Option<Rc<Holds>>,
    /// What had arrived before it.
    bytes: u64,
    /// Made at the first wait: most bodies are there when they are asked for.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    hold: Rc<Hold>,
    given_up: Rc<GivenUp>,
    alarm: Alarm,
}

/// Others wait for the connection that this body goes out on, and its client is slow.
#[derive(Debug, Default)]
struct GivenUp {
    is: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Wait {
    fn new(holds: &Holds, bytes: u64) -> Self {
        let given_up = Rc::<GivenUp>::default();
        let told = Rc::clone(&given_up);
        let hold = holds.hold(move || {
            told.is.set(true);
            if let Some(waker) = told.waker.take() {
                waker.wake();
            }
        });
        hold.moved(bytes);
        Self { hold, given_up, alarm: Alarm::default() }
    }
}

impl Pace {
    fn new(window: Duration) -> Self {
        Self { window, holds: None, bytes: 0, wait: None }
    }

    fn arrived(&mut self, bytes: u64) {
        match &self.wait {
            Some(wait) => wait.hold.moved(bytes),
            None => self.bytes += bytes,
        }
    }

    /// Ready when a window has passed with too little in it, or when it was too little for those who
    /// wait.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { window, holds, bytes, wait } = self;
        let Wait { hold, given_up, alarm } = wait.get_or_insert_with(|| {
            Wait::new(&holds.take().unwrap_or_default(), std::mem::take(bytes))
        });
        loop {
            if given_up.is.get() {
                return Poll::Ready(());
            }
            hold.wait();
            if alarm.poll(hold.due(*window), cx).is_pending() {
                let mut waker = given_up.waker.borrow_mut();
                if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            let least = hold.waited().as_millis() as u64 * LEAST_BYTES_PER_SECOND / 1000;
            if hold.bytes() < least {
                return Poll::Ready(());
            }
            hold.begin_again();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn too_slow(pace: &mut Pace) {
        std::future::poll_fn(|cx| pace.poll_too_slow(cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_too_slow_after_one_window() {
        let begin = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(10));
        too_slow(&mut pace).await;
        assert_eq!(begin.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_the_least_pace_is_never_too_slow() {
        let mut pace = Pace::new(Duration::from_secs(10));
        for _ in 0..60 {
            let wait = tokio::time::timeout(Duration::from_secs(1), too_slow(&mut pace));
            assert!(wait.await.is_err());
            pace.arrived(2 * LEAST_BYTES_PER_SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_of_a_byte_a_second_is_too_slow() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let mut seconds = 0;
        while tokio::time::timeout(Duration::from_secs(1), too_slow(&mut pace)).await.is_err() {
            pace.arrived(1);
            seconds += 1;
            assert!(seconds < 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_the_upstream_takes_is_not_the_clients() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let wait = tokio::time::timeout(Duration::from_secs(1), too_slow(&mut pace));
        assert!(wait.await.is_err());
        pace.arrived(1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let wait = tokio::time::timeout(Duration::from_secs(8), too_slow(&mut pace));
        assert!(wait.await.is_err());
    }
}
