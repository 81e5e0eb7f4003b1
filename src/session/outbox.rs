//! What one socket is owed: answers, channel events, and bindings whose latest state it lacks.
//!
//! Answers and channel events are queued; states are not. A binding is *ready* once, however often
//! its view changes, and its latest state becomes a frame only when the socket takes bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::items;
use crate::hub::mirror::Binding;
use crate::protocol::deflate::Dialect;
use crate::protocol::{Format, Outgoing, codec};
use crate::transport::Transport;
use crate::view::{Content, State};

/// Frames given to one system call.
const BATCH: usize = 32;
/// Bytes of states turned into frames ahead of the socket.
const AHEAD: usize = 64 * 1024;
/// Channel events that wait for one socket; past it they are counted and reported as lost.
const MAX_CHANNEL_EVENTS: u16 = 256;

#[derive(Default)]
pub(super) struct Outbox {
    pub(super) dialect: Dialect,
    queue: RefCell<VecDeque<Queued>>,
    bytes: Cell<usize>,
    channel_events: Cell<u16>,
    ready: RefCell<Ready>,
    lost: RefCell<Vec<(Arc<str>, u64)>>,
    /// States made into frames, and not counted yet.
    pub(super) shown: Cell<u64>,
    /// The socket takes nothing for now.
    pub(super) blocked: Cell<bool>,
    /// Queued at the worker's flusher.
    pub(super) owed: Cell<bool>,
}

/// Bindings whose latest state the client lacks, each once and in their order. The first needs no
/// memory: of most sockets there is never another.
#[derive(Default)]
struct Ready {
    first: Option<Rc<Binding>>,
    others: VecDeque<Rc<Binding>>,
}

impl Ready {
    fn push(&mut self, binding: Rc<Binding>) {
        if self.first.is_none() {
            self.first = Some(binding);
        } else {
            self.others.push_back(binding);
        }
    }

    fn pop(&mut self) -> Option<Rc<Binding>> {
        let next = std::mem::replace(&mut self.first, self.others.pop_front());
        if self.others.is_empty() && self.others.capacity() > 0 {
            self.others = VecDeque::new();
        }
        next
    }

    fn remove(&mut self, binding: &Rc<Binding>) {
        if self.first.as_ref().is_some_and(|first| Rc::ptr_eq(first, binding)) {
            self.pop();
        } else {
            self.others.retain(|other| !Rc::ptr_eq(other, binding));
        }
    }
}

struct Queued {
    frame: Bytes,
    of_channel: bool,
}

impl Outbox {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, ..Self::default() }
    }

    pub(super) fn format(&self) -> Format {
        self.dialect.format()
    }

    pub(super) fn push(&self, frame: Bytes) {
        self.enqueue(frame, false);
    }

    /// Queues a channel event, or counts it as lost and says no.
    pub(super) fn push_event(&self, channel: &Arc<str>, frame: Bytes, limit: usize) -> bool {
        let full = self.channel_events.get() >= MAX_CHANNEL_EVENTS
            || self.bytes.get() + frame.len() > limit;
        if full {
            self.lose(channel, 1);
            return false;
        }
        self.report_lost();
        self.channel_events.set(self.channel_events.get() + 1);
        self.enqueue(frame, true);
        true
    }

    /// The client is told of the gap before it hears the channel again.
    pub(super) fn lose(&self, channel: &Arc<str>, count: u64) {
        let mut lost = self.lost.borrow_mut();
        match lost.iter_mut().find(|(name, _)| name == channel) {
            Some((_, total)) => *total += count,
            None => lost.push((Arc::clone(channel), count)),
        }
    }

    pub(super) fn forget_channel(&self, channel: &str) {
        self.lost.borrow_mut().retain(|(name, _)| &**name != channel);
    }

    pub(super) fn mark_ready(&self, binding: &Rc<Binding>) {
        if !binding.ready.replace(true) {
            self.ready.borrow_mut().push(Rc::clone(binding));
        }
    }

    pub(super) fn forget(&self, binding: &Rc<Binding>) {
        if binding.ready.replace(false) {
            self.ready.borrow_mut().remove(binding);
        }
    }

    /// Drops everything that has not begun to be sent.
    pub(super) fn clear(&self) {
        self.ready.take();
        self.lost.borrow_mut().clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Writes until all is sent or the socket takes no more.
    pub(super) fn flush(&self, stream: &mut Transport) -> io::Result<()> {
        if self.flush_only(stream)? {
            return Ok(());
        }
        loop {
            self.fill();
            if self.queue.borrow().is_empty() {
                self.blocked.set(!stream.try_flush()?);
                *self.queue.borrow_mut() = VecDeque::new();
                return Ok(());
            }
            let written = {
                let queue = self.queue.borrow();
                if queue.len() == 1 {
                    stream.try_write(&queue[0].frame)
                } else {
                    let mut slices = [IoSlice::new(&[]); BATCH];
                    let count = queue.len().min(BATCH);
                    for (slice, queued) in slices.iter_mut().zip(queue.iter()) {
                        *slice = IoSlice::new(&queued.frame);
                    }
                    stream.try_write_vectored(&slices[..count])
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.set(true);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the one frame that is owed, if it is just one: most of what a fan-out sends goes this
    /// way, and past the queue. True when nothing is owed any more.
    fn flush_only(&self, stream: &mut Transport) -> io::Result<bool> {
        if !self.queue.borrow().is_empty() || !self.lost.borrow().is_empty() {
            return Ok(false);
        }
        let Some(binding) = self.ready.borrow_mut().pop() else { return Ok(false) };
        binding.ready.set(false);
        let (state, notice) = self.show(&binding);
        let (Some(frame), None) = (&state, &notice) else {
            state.into_iter().chain(notice).for_each(|frame| self.push(frame));
            return Ok(false);
        };
        match stream.try_write(frame) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                if count < frame.len() {
                    self.push(frame.slice(count..));
                    return Ok(false);
                }
                self.blocked.set(stream.holds_back());
                Ok(self.ready.borrow().first.is_none())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.push(frame.clone());
                self.blocked.set(true);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn enqueue(&self, frame: Bytes, of_channel: bool) {
        self.bytes.set(self.bytes.get() + frame.len());
        self.queue.borrow_mut().push_back(Queued { frame, of_channel });
    }

    fn sent(&self, mut count: usize) {
        let mut queue = self.queue.borrow_mut();
        self.bytes.set(self.bytes.get().saturating_sub(count));
        while let Some(front) = queue.front_mut() {
            if front.frame.len() > count {
                front.frame.advance(count);
                return;
            }
            count -= front.frame.len();
            if front.of_channel {
                self.channel_events.set(self.channel_events.get() - 1);
            }
            queue.pop_front();
        }
    }

    /// Turns ready bindings into frames, as far ahead as one write takes.
    fn fill(&self) {
        while self.queue.borrow().len() < BATCH && self.bytes.get() < AHEAD {
            let Some(binding) = self.ready.borrow_mut().pop() else { break };
            binding.ready.set(false);
            let (state, notice) = self.show(&binding);
            state.into_iter().chain(notice).for_each(|frame| self.push(frame));
        }
        if self.queue.borrow().is_empty() {
            self.report_lost();
        }
    }

    /// Makes the frames that a binding is owed, and counts them. One that is told of members is
    /// given its next frame, and is ready again as long as there are more.
    fn show(&self, binding: &Rc<Binding>) -> (Option<Bytes>, Option<Bytes>) {
        let (state, notice) = match binding.told() {
            None => frames_of(binding, self.dialect),
            Some(told) => {
                let (frame, notice, has_more) = items::frames_of(binding, told, self.dialect);
                if has_more {
                    self.mark_ready(binding);
                }
                (frame, notice)
            }
        };
        let count = u64::from(state.is_some()) + u64::from(notice.is_some());
        self.shown.set(self.shown.get() + count);
        (state, notice)
    }

    fn report_lost(&self) {
        for (channel, count) in self.lost.take() {
            let message = Outgoing {
                event: Some("channel:lost"),
                channel: Some(&channel),
                count: Some(count),
                ..Outgoing::default()
            };
            self.push(codec::encode(&message, self.format()));
        }
    }
}

/// What brings the client from what it holds to the latest, and what it has to know of that; nothing
/// when it is there.
fn frames_of(binding: &Binding, dialect: Dialect) -> (Option<Bytes>, Option<Bytes>) {
    let Some((state, stale)) = binding.latest().filter(|_| binding.live.get()) else {
        return (None, None);
    };
    let is_new = binding.held.borrow().as_deref() != Some(&*state.version);
    let frame = is_new.then(|| {
        let held = binding.held.replace(Some(Arc::clone(&state.version)));
        let patch = held.filter(|_| binding.takes_patches());
        let patch = patch.and_then(|from| patch_frame(&from, &state, binding, dialect));
        patch.unwrap_or_else(|| state_frame(&state, binding, dialect))
    });
    let event = match (binding.told_stale.replace(stale), stale) {
        (false, true) => "stale",
        (true, false) if !is_new => "fresh",
        _ => return (frame, None),
    };
    let notice = Outgoing {
        event: Some(event),
        uri: Some(binding.name()),
        namespace: namespace_of(binding),
        ..Outgoing::default()
    };
    (frame, Some(codec::encode(&notice, dialect.format())))
}

pub(super) fn state_frame(state: &State, binding: &Binding, dialect: Dialect) -> Bytes {
    let (versioned, format) = (binding.versioned.get(), dialect.format());
    match (&binding.spelling, &binding.namespace) {
        (None, None) => state.frames[usize::from(versioned)]
            .get(dialect, || encode_state(state, binding.name(), None, versioned, format)),
        (_, namespace) => {
            let namespace = namespace.as_ref().map(|name| name.as_str());
            dialect.pack(encode_state(state, binding.name(), namespace, versioned, format))
        }
    }
}

pub(super) fn namespace_of(binding: &Binding) -> Option<&str> {
    binding.namespace.as_ref().map(|name| name.as_str())
}

/// What makes the state of the one that the client holds, if that is known and takes less room before
/// either is compressed.
#[inline(never)]
fn patch_frame(from: &str, state: &State, binding: &Binding, dialect: Dialect) -> Option<Bytes> {
    let patch = binding.patch(from, state)?;
    let (plain, format) = (Dialect::plain(dialect.format()), dialect.format());
    let encode = |uri: &str, namespace: Option<&str>| {
        let message = Outgoing {
            event: Some("patch"),
            uri: Some(uri),
            namespace,
            patch: Some(&patch.operations),
            from: Some(from),
            version: Some(&state.version),
            ..Outgoing::default()
        };
        codec::encode(&message, format)
    };
    let uri = binding.uri.as_str();
    let shared = patch.frames.get(plain, || {
        let whole = state.frames[1].get(plain, || encode_state(state, uri, None, true, format));
        let frame = encode(uri, None);
        if frame.len() < whole.len() { frame } else { Bytes::new() }
    });
    let is_shorter = !shared.is_empty();
    is_shorter.then(|| match (&binding.spelling, namespace_of(binding)) {
        (None, None) => patch.frames.get(dialect, || shared),
        (_, namespace) => dialect.pack(encode(binding.name(), namespace)),
    })
}

/// Apart, so that what each delivery passes through stays small.
#[inline(never)]
fn encode_state(
    state: &State,
    uri: &str,
    namespace: Option<&str>,
    versioned: bool,
    format: Format,
) -> Bytes {
    let (event, data) = match &state.content {
        Content::Data(data) => ("update", Some(&*data.0)),
        Content::Absent => ("delete", None),
        Content::Unseen => ("update", None),
    };
    let version = versioned.then_some(&*state.version);
    let update = Outgoing {
        event: Some(event),
        uri: Some(uri),
        namespace,
        data,
        version,
        ..Outgoing::default()
    };
    codec::encode(&update, format)
}
