//! The streams of one HTTP/2 connection: whether there are any, and whether the client takes what
//! it asked for. HTTP/2 has a window of its own for each stream, so that a client that keeps one
//! shut stalls no socket; and its connection is never between two requests, so that nothing else
//! notices that it has none.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// How many streams a connection has, and since when none.
#[derive(Debug)]
pub struct Streams {
    open: Cell<usize>,
    none_since: Cell<Instant>,
}

impl Streams {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), none_since: Cell::new(Instant::now()) })
    }

    pub fn begin(self: &Rc<Self>) -> Stream {
        self.open.set(self.open.get() + 1);
        Stream(Rc::clone(self))
    }

    /// Begins the wait for a stream anew.
    pub fn wait_again(&self) {
        self.none_since.set(Instant::now());
    }

    /// Ready when there has been no stream for so long.
    pub async fn idle_for(&self, patience: Duration) {
        loop {
            let since = if self.open.get() == 0 { self.none_since.get() } else { Instant::now() };
            if since.elapsed() >= patience {
                return;
            }
            tokio::time::sleep_until(since + patience).await;
        }
    }
}

/// One stream, until it is dropped.
#[derive(Debug)]
pub struct Stream(Rc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.none_since.set(Instant::now());
        }
    }
}

tokio::task_local! {
    static TURN: Rc<Turn>;
}

/// Whose turn it is: the upstream's, to send more, or the client's, to take what was sent.
#[derive(Debug, Default)]
struct Turn {
    clients: Cell<bool>,
    /// Frames so far, to tell one wait from the next.
    frames: Cell<u64>,
}

/// Carries a stream out, or drops it when its client has taken nothing for `patience`.
pub async fn attend<F: Future>(stream: F, patience: Duration) {
    let turn = Rc::<Turn>::default();
    let stalled = turn.stalled(patience);
    tokio::select! {
        // The stream is polled first: whose turn it is is known only after it.
        biased;
        _ = TURN.scope(Rc::clone(&turn), stream) => (),
        () = stalled => tracing::debug!("the client takes nothing of an answer"),
    }
}

impl Turn {
    fn give(&self) {
        self.clients.set(true);
        self.frames.set(self.frames.get() + 1);
    }

    /// Ready when it has been the client's turn for so long. Needs to be polled after each poll of
    /// the stream, and then by its own timer.
    fn stalled(self: &Rc<Self>, patience: Duration) -> impl Future<Output = ()> + use<> {
        let turn = Rc::clone(self);
        let wait: RefCell<Option<(u64, Pin<Box<Sleep>>)>> = RefCell::default();
        poll_fn(move |cx| {
            let mut wait = wait.borrow_mut();
            if !turn.clients.get() {
                *wait = None;
                return Poll::Pending;
            }
            let frame = turn.frames.get();
            if wait.as_ref().is_none_or(|(waits_for, _)| *waits_for != frame) {
                *wait = Some((frame, Box::pin(tokio::time::sleep(patience))));
            }
            if let Some((_, timer)) = &mut *wait {
                ready!(timer.as_mut().poll(cx));
            }
            Poll::Ready(())
        })
    }
}

/// The body of an answer, which tells whose turn it is.
#[derive(Debug)]
pub struct Taken<B> {
    body: B,
    turn: Option<Rc<Turn>>,
    _stream: Stream,
}

impl<B> Taken<B> {
    pub fn new(body: B, stream: Stream) -> Self {
        Self { body, turn: TURN.try_with(Rc::clone).ok(), _stream: stream }
    }
}

impl<B: Body + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(turn) = &self.turn {
            match polled {
                Poll::Ready(Some(Ok(_))) => turn.give(),
                Poll::Ready(_) | Poll::Pending => turn.clients.set(false),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
