//! One socket's life: what comes in, what it is bound to, when it ends.
//!
//! A session is one small task that waits for its socket, and state that the worker's other tasks
//! reach through `Rc`. It never waits for anything else: calls to the upstream run beside it, and
//! what it owes is written by the worker's flusher, once per turn for every socket.

mod asks;
mod beginning;
mod calls;
mod channels;
mod credential;
#[doc(hidden)] // Public for the fuzzers alone.
pub mod deflate;
mod ending;
#[doc(hidden)] // Public for the fuzzers alone.
pub mod frames;
mod gate;
mod handled;
pub mod handshake;
#[doc(hidden)] // Public for the fuzzers alone.
pub mod inflate;
mod items;
mod lifetime;
mod membership;
pub mod namespaces;
mod options;
pub mod orders;
mod outbox;
mod owner;
mod registry;
mod requests;
mod review;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use self::beginning::Opening;
use self::calls::Calls;
use self::frames::{Frames, Received};
use self::membership::Channels;
use self::namespaces::{Extra, Outlet};
pub use self::options::Options;
pub use self::registry::{Services, Sessions};
use crate::audience::Viewer;
use crate::connections::Slot;
use crate::headers::ClientAddress;
use crate::hub::mirror::Binding;
use crate::protocol::{Close, Outgoing, codec};
use crate::transport::Transport;

pub(crate) struct Session {
    id: u64,
    sessions: Rc<Sessions>,
    /// Given back when the socket is over, though calls to the upstream may still run.
    connection: RefCell<Option<Connection>>,
    client: ClientAddress,
    host: String,
    frames: RefCell<Frames>,
    outbox: Outlet,
    extra: OnceCell<Box<Extra>>,
    viewer: RefCell<Rc<Viewer>>,
    /// The credential was checked and found good.
    authenticated: Cell<bool>,
    expires: Cell<Option<Instant>>,
    /// A credential is being checked: what follows it must be done with it.
    paused: Cell<bool>,
    /// How many tasks judge the credential by what was reloaded.
    judging: Cell<usize>,
    /// Sorted by URI.
    bindings: RefCell<Vec<Rc<Binding>>>,
    /// Bindings may be among them that end by themselves.
    has_ends: Cell<bool>,
    channels: Channels,
    calls: Calls,
    /// Malformed messages since the last good one.
    strikes: Cell<u32>,
    born: Instant,
    heard: Cell<Instant>,
    pinged: Cell<Option<Instant>>,
    /// The entry of the worker's timers that counts.
    wakes_at: Cell<Option<Instant>>,
    closing: Cell<Option<Instant>>,
    /// Closes with this `retry_after` once no call runs any more.
    leaving: Cell<Option<u64>>,
    over: Cell<bool>,
    /// The code of the close frame that began the end, and whether this side sent it.
    parted: Cell<Option<(u16, bool)>>,
    waker: RefCell<Option<Waker>>,
    me: Weak<Session>,
}

/// The connection and its place among all.
struct Connection {
    stream: Transport,
    _slot: Slot,
}

enum Turn {
    Readable,
    Writable,
    Over,
}

/// Malformed messages in a row after which a client is taken to mean harm.
const MAX_STRIKES: u32 = 64;
/// How long a client that must authenticate may take.
const AUTH_GRACE: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close frame (RFC 6455 §7.1.1).
const CLOSE_GRACE: Duration = Duration::from_secs(2);

impl Session {
    /// Serves the socket until it is over.
    async fn serve(self: Rc<Self>, read_ahead: Bytes) {
        self.frames.borrow_mut().push(&read_ahead);
        drop(read_ahead);
        self.receive();
        loop {
            match std::future::poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Readable => self.read(),
                Turn::Writable => self.flush(),
                Turn::Over => break,
            }
        }
        // Whatever a call that still runs brings is for nobody, and binds nothing.
        self.closing.set(Some(Instant::now()));
        self.release();
        if let Some(mut connection) = self.connection.take() {
            connection.stream.say_goodbye();
        }
        self.sessions.forget(self.id);
        self.note_end();
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.over.get() {
            return Poll::Ready(Turn::Over);
        }
        let connection = self.connection.borrow();
        let Some(Connection { stream, .. }) = connection.as_ref() else {
            return Poll::Ready(Turn::Over);
        };
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.outbox.blocked.get() && stream.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Turn::Writable);
        }
        if self.reads() && stream.poll_read_ready(cx).is_ready() {
            return Poll::Ready(Turn::Readable);
        }
        Poll::Pending
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// A client that does not take its answers, or whose credential is being checked, is not read;
    /// nor is one that is to leave.
    fn reads(&self) -> bool {
        self.closing.get().is_some()
            || (!self.paused.get()
                && self.leaving.get().is_none()
                && self.outbox.bytes() < self.options().outbox_bytes)
    }

    fn options(&self) -> Rc<Options> {
        Rc::clone(&self.sessions.services().options)
    }

    fn read(&self) {
        match self.sessions.with_scratch(|scratch| {
            let mut connection = self.connection.borrow_mut();
            let Some(Connection { stream, .. }) = connection.as_mut() else { return Ok(0) };
            let count = stream.try_read(scratch)?;
            self.frames.borrow_mut().push(&scratch[..count]);
            Ok(count)
        }) {
            Ok(0) => self.over.set(true),
            Ok(_) => {
                self.heard.set(Instant::now());
                self.pinged.set(None);
                self.receive();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.over.set(true),
        }
    }

    /// Handles the messages that have come whole.
    fn receive(&self) {
        while self.reads() && !self.over.get() {
            let next = {
                let limit = self.options().message_bytes;
                let mut inflater = self.sessions.inflater.borrow_mut();
                self.frames.borrow_mut().next(limit, &mut inflater)
            };
            match next {
                Ok(None) => break,
                Ok(Some(Received::Close(code))) => {
                    self.answer_close(code);
                    break;
                }
                // Only the peer's close frame is waited for.
                Ok(Some(_)) if self.closing.get().is_some() => {}
                Ok(Some(Received::Text(text))) => {
                    self.handle(codec::decode(&text, self.outbox.format()));
                }
                Ok(Some(Received::Binary(bytes))) => {
                    self.handle(codec::decode_binary(&bytes, self.outbox.format()));
                }
                Ok(Some(Received::Ping(payload))) => self.push(codec::pong(&payload)),
                Ok(Some(Received::Pong)) => {}
                Err(close) => {
                    self.abuse(&close);
                    break;
                }
            }
        }
    }

    /// Goes on with what was read while the session was paused.
    fn resume(&self) {
        self.paused.set(false);
        self.receive();
        self.wake();
    }

    fn answer_close(&self, code: u16) {
        if self.closing.get().is_none() {
            self.parted.set(Some((code, false)));
            self.release();
            self.closing.set(Some(Instant::now()));
            self.outbox.push(codec::close_with(code, ""));
            self.flush();
        }
        // The handshake is complete on both sides; the server closes first (RFC 6455 §7.1.1).
        self.over.set(true);
        self.wake();
    }

    /// Starts to close: nothing but the close frame follows.
    pub(crate) fn close(&self, close: &Close) {
        if let Outlet::Of(socket) = &self.outbox {
            return socket.close(close);
        }
        if self.closing.get().is_some() {
            return;
        }
        tracing::debug!(session = self.id, code = close.code(), reason = %close.reason(), "socket closed");
        self.parted.set(Some((close.code(), true)));
        self.release();
        self.closing.set(Some(Instant::now() + CLOSE_GRACE));
        self.outbox.push(codec::close_with(close.code(), &close.reason()));
        self.owe_flush();
        self.sessions.arm(self);
        self.wake();
    }

    /// Whether this side closes because it cannot make sense of what came.
    fn fails(&self) -> bool {
        matches!(self.parted.get(), Some((1002 | 1003 | 1007 | 1009, true)))
    }

    /// Takes no more requests, and closes when those that were taken are answered.
    pub(crate) fn leave(&self, retry_after: u64) {
        self.leaving.set(Some(retry_after));
        self.leave_if_done();
    }

    fn leave_if_done(&self) {
        let socket = self.socket();
        if let Some(retry_after) = socket.leaving.get().filter(|_| socket.calls.is_done()) {
            socket.close(&Close::GoingAway { retry_after: Some(retry_after) });
        }
    }

    /// Leaves every view and channel.
    fn release(&self) {
        self.release_parts();
        self.bindings.take().iter().for_each(|binding| self.sessions.hub.leave(binding));
        self.channels.take().iter().for_each(|subscription| self.depart(subscription));
        self.outbox.clear();
    }

    fn send(&self, message: &Outgoing<'_>) {
        let dialect = self.outbox.dialect;
        self.push(dialect.pack(self.encode(message, dialect.format())));
    }

    fn push(&self, frame: Bytes) {
        if self.socket().closing.get().is_none() {
            self.outbox.push(frame);
            self.owe_flush();
        }
    }

    /// Has the worker's flusher write what is queued, when this turn is over.
    fn owe_flush(&self) {
        if !self.outbox.blocked.get()
            && !self.outbox.owed.replace(true)
            && let Some(me) = self.socket().me.upgrade()
        {
            Rc::clone(&me.sessions).owe(me);
        }
    }

    fn flush(&self) {
        self.outbox.owed.set(false);
        match self.connection.borrow_mut().as_mut().map(|it| self.outbox.flush(&mut it.stream)) {
            Some(Ok(())) => {
                self.sessions.hub.metrics().states.add(self.outbox.shown.take());
            }
            Some(Err(_)) => self.over.set(true),
            None => return,
        }
        if self.outbox.blocked.get() || self.over.get() {
            self.wake();
        } else if self.fails() {
            // Its close frame may be one that cannot be read, and so be waited for in vain: that this
            // side is done tells it to end the connection (RFC 6455 §7.1.7).
            if let Some(connection) = self.connection.borrow_mut().as_mut() {
                connection.stream.finish();
            }
        } else if !self.frames.borrow().is_idle() {
            // Messages that were held back while the outbox was full.
            self.receive();
            self.wake();
        }
    }

    /// When something is due that nobody but the clock brings.
    fn next_deadline(&self) -> Instant {
        if let Some(at) = self.closing.get() {
            return at;
        }
        let options = self.options();
        let silence = match self.pinged.get() {
            Some(at) => at + options.pong_timeout,
            None => self.heard.get() + options.ping_interval,
        };
        let lifetime = options.max_lifetime.map(|life| self.born + life);
        let grace = self.must_authenticate().then_some(self.born + AUTH_GRACE);
        let others = [self.expires.get(), self.first_end_of_all(), self.first_recheck()];
        others.into_iter().chain([lifetime, grace]).flatten().fold(silence, Instant::min)
    }

    /// Does what is due at `now`.
    fn on_time(&self, now: Instant) {
        if let Some(at) = self.closing.get() {
            if at <= now {
                self.over.set(true);
                self.wake();
            }
            return;
        }
        let options = self.options();
        if options.max_lifetime.is_some_and(|life| self.born + life <= now) {
            return self.close(&Close::GoingAway { retry_after: None });
        }
        if self.expires.get().is_some_and(|at| at <= now) {
            self.expire();
        }
        self.recheck_channels(now);
        self.end_what_is_over(now);
        self.parts().iter().for_each(|part| part.end_what_is_over(now));
        let is_judged = self.paused.get() || self.judging.get() > 0;
        if self.must_authenticate() && self.born + AUTH_GRACE <= now && !is_judged {
            return self.close(&Close::Unauthorized("authenticate first"));
        }
        match self.pinged.get() {
            Some(at) if at + options.pong_timeout <= now => self.close(&Close::NoPong),
            None if self.heard.get() + options.ping_interval <= now => {
                self.pinged.set(Some(now));
                self.push(codec::ping());
            }
            Some(_) | None => {}
        }
    }
}
