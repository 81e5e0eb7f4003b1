//! One worker's connections to the upstream.
//!
//! A connection has no task of its own: whoever awaits its answer drives it, so that a request
//! costs no wake-up of another task and dropping the answer closes the connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::client::conn::http1::{self, SendRequest};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::message::{Message, stand_in};
use super::response::ResponseBody;
use super::wire::Wire;
use crate::alarm::Alarm;
use crate::body::RequestBody;
use crate::head::Heads;
use crate::holds::Holds;
use crate::spelling::Spelling;
use crate::transport::Transport;

/// How many requests may wait for each connection that there may be.
const WAITING_PER_CONNECTION: usize = 8;

/// How often those who wait look for a client that holds a connection and does not use it.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Pool {
    /// The one that was used last is at the back, and is the next to be used.
    idle: RefCell<VecDeque<Live>>,
    free: Semaphore,
    limit: usize,
    waiting: Cell<usize>,
    waiting_limit: usize,
    idle_timeout: Duration,
    /// No connection is kept any more.
    retired: Cell<bool>,
    /// Those whose client has had to be waited for, and for how long it may be while others wait.
    pub(super) holds: Rc<Holds>,
    slow_client: Duration,
    looked: Cell<Option<Instant>>,
    /// Connections that were given up since they were last counted.
    pub(super) shed: Cell<u64>,
}

/// All connections are taken, and stay so.
#[derive(Debug)]
pub(super) struct Full;

impl Pool {
    pub(super) fn new(
        connections: usize,
        idle_timeout: Duration,
        slow_client: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            free: Semaphore::new(connections),
            limit: connections,
            waiting: Cell::new(0),
            waiting_limit: connections.saturating_mul(WAITING_PER_CONNECTION),
            idle_timeout,
            retired: Cell::new(false),
            holds: Rc::default(),
            slow_client,
            looked: Cell::new(None),
            shed: Cell::new(0),
        })
    }

    /// The right to use one connection, if there is one.
    pub(super) fn try_permit(self: &Rc<Self>) -> Option<Permit> {
        self.free.try_acquire().ok()?.forget();
        Some(Permit(Rc::clone(self)))
    }

    /// The same, waited for no longer than `patience`.
    pub(super) async fn wait(self: &Rc<Self>, patience: Duration) -> Result<Permit, Full> {
        if self.waiting.get() >= self.waiting_limit {
            return Err(Full);
        }
        let _queued = Queued::join(&self.waiting);
        match tokio::time::timeout(patience, self.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) | Err(_) => return Err(Full),
        }
        Ok(Permit(Rc::clone(self)))
    }

    async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        let mut acquiring = std::pin::pin!(self.free.acquire());
        loop {
            match tokio::time::timeout(LOOK, acquiring.as_mut()).await {
                Ok(acquired) => return acquired,
                Err(_) => self.shed(),
            }
        }
    }

    /// Frees as many connections as there are requests that wait for one, where it is their clients
    /// who keep them busy.
    fn shed(&self) {
        let now = Instant::now();
        if self.looked.get().is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        self.looked.set(Some(now));
        let count = self.holds.shed(self.waiting.get(), self.slow_client, now);
        if count > 0 {
            self.shed.set(self.shed.get() + count as u64);
            tracing::warn!(
                count,
                "requests wait for connections to the API: slow clients lose theirs"
            );
        }
    }

    /// The connection that was used last, unless it has been idle too long.
    pub(super) fn take(&self, now: Instant) -> Option<Live> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut live) = idle.pop_back() {
            if now.saturating_duration_since(live.used) >= self.idle_timeout {
                // What is below it was used earlier still, or so little later that it is no loss.
                idle.clear();
                return None;
            }
            if !live.sender.is_closed() {
                live.used = now;
                return Some(live);
            }
        }
        None
    }

    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub(super) fn busy(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }

    /// Closes what has been idle too long and what the upstream has closed.
    pub(super) fn sweep(&self) {
        self.idle.borrow_mut().retain_mut(|live| {
            live.drive(&mut Context::from_waker(Waker::noop()));
            live.used.elapsed() < self.idle_timeout && live.is_reusable()
        });
    }
}

/// Keeps count of who waits, however the wait ends.
struct Queued<'a>(&'a Cell<usize>);

impl<'a> Queued<'a> {
    fn join(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The right to use one connection.
#[derive(Debug)]
pub(super) struct Permit(Rc<Pool>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
    }
}

/// An open connection and whoever uses it; dropping it in the middle of an answer closes it.
#[derive(Debug)]
pub(super) struct Lease {
    live: Live,
    permit: Permit,
}

impl Lease {
    pub(super) fn new(live: Live, permit: Permit) -> Self {
        Self { live, permit }
    }

    /// Drives the connection until `polled` has what only the connection can give it.
    pub(super) fn until<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.live.until(cx, polled)
    }

    pub(super) fn holds(&self) -> Rc<Holds> {
        Rc::clone(&self.permit.0.holds)
    }

    /// Gives the connection back if another request may follow on it.
    pub(super) fn release(self) {
        let Self { mut live, permit } = self;
        if !live.is_reusable() {
            // The connection has yet to notice that the answer is over.
            live.drive(&mut Context::from_waker(Waker::noop()));
        }
        if live.is_reusable() && !permit.0.retired.get() {
            permit.0.idle.borrow_mut().push_back(live);
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Live {
    sender: SendRequest<RequestBody>,
    heads: Arc<Heads>,
    spelling: Arc<Spelling>,
    /// None once it has ended: a request that hyper still holds is given back when it is dropped.
    connection: Option<Box<http1::Connection<Wire, RequestBody>>>,
    /// What it leaves, once it has ended: the socket, and what had come on it.
    left: Option<Box<http1::Parts<Wire>>>,
    /// When it was last given a request.
    used: Instant,
    /// For its answers.
    pub(super) alarm: Alarm,
}

/// Why a request got no answer on a connection.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: hyper::Error,
    /// The request, if none of it was written.
    pub(super) unwritten: Option<Request<RequestBody>>,
}

impl Live {
    pub(super) async fn handshake(
        builder: &http1::Builder,
        stream: Transport,
    ) -> hyper::Result<Self> {
        let wire = Wire::new(stream);
        let (heads, spelling) = (wire.heads(), wire.spelling());
        let (sender, connection) = builder.handshake(wire).await?;
        Ok(Self {
            sender,
            heads,
            spelling,
            connection: Some(Box::new(connection)),
            left: None,
            used: Instant::now(),
            alarm: Alarm::default(),
        })
    }

    /// Sends one request and drives the connection until the head of its answer is here.
    pub(super) async fn send(
        &mut self,
        message: Message,
    ) -> Result<Box<Response<ResponseBody>>, Box<Broken>> {
        self.heads.expect();
        let request = match message {
            Message::New { mut request, kept } => {
                self.spelling.of_next(request.extensions_mut().remove());
                if kept {
                    self.spelling.keep_next();
                }
                request
            }
            Message::Again { method, bytes } => {
                self.spelling.repeat_instead_of_next(bytes);
                stand_in(method)
            }
        };
        self.write(request).await
    }

    /// What was sent last, if it was to be kept.
    pub(super) fn kept(&self) -> Option<Bytes> {
        self.spelling.kept()
    }

    /// Reads an answer that had more fields than hyper takes without memory of its own for them,
    /// with a builder that has it. What was sent is not sent again: the socket swallows a request
    /// that only stands for it. Nothing else may be sent on the connection afterwards.
    pub(super) async fn read_again(
        &mut self,
        builder: &http1::Builder,
        method: Method,
    ) -> Result<Box<Response<ResponseBody>>, Box<Broken>> {
        let nothing = |error| Box::new(Broken { error, unwritten: None });
        if let Some(left) = self.left.take() {
            let wire = left.io.read_again(left.read_buf);
            let (sender, connection) = builder.handshake(wire).await.map_err(nothing)?;
            self.sender = sender;
            self.connection = Some(Box::new(connection));
        }
        self.write(stand_in(method)).await
    }

    async fn write(
        &mut self,
        request: Box<Request<RequestBody>>,
    ) -> Result<Box<Response<ResponseBody>>, Box<Broken>> {
        let answer = self.sender.try_send_request(*request);
        let mut answer = std::pin::pin!(answer);
        let mut begun = false;
        // Boxed at once, because what follows would move it a dozen times.
        let mut boxed = |cx: &mut Context<'_>| match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(answer)) => {
                Poll::Ready(Ok(Box::new(answer.map(ResponseBody::arriving))))
            }
            Poll::Ready(Err(mut failed)) => Poll::Ready(Err(Box::new(Broken {
                unwritten: failed.take_message(),
                error: failed.into_error(),
            }))),
            Poll::Pending => Poll::Pending,
        };
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut begun, true) {
                // Nothing can have come yet.
                self.drive(cx);
                return boxed(&mut Context::from_waker(Waker::noop()));
            }
            self.until(cx, &mut boxed)
        })
        .await
    }

    /// Drives the connection until `polled` has what only the connection can give it.
    ///
    /// What it gives it says by waking whoever asked for it, and who asked is here, with it in hand:
    /// so it is first driven in a way that wakes nobody, which spares every request a turn of its
    /// task. Only once nothing has come of that is it told whom to wake.
    pub(super) fn until<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut polled: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let unheard = &mut Context::from_waker(Waker::noop());
        self.drive(unheard);
        if let Poll::Ready(given) = polled(unheard) {
            return Poll::Ready(given);
        }
        self.drive(cx);
        polled(unheard)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            // How it ended shows in the answer, or in its body.
            && self.heads.turn(|| Pin::new(connection).poll(cx)).is_ready()
            && let Some(connection) = self.connection.take()
        {
            self.left = Some(Box::new(connection.into_parts()));
        }
    }

    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// After a failure: whether the upstream had begun to answer.
    pub(super) fn heard(&self) -> bool {
        self.left.as_ref().is_some_and(|left| !left.read_buf.is_empty())
    }

    fn is_reusable(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}
