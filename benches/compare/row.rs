//! What is measured: the rows, and what of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::peer::Peer;

/// Sockets of each URI where there are many URIs.
const MEMBERS: usize = 10;
const BURST: usize = 20;

/// Something that servers are made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) load: Load,
    /// Pinned to no core: one worker against two.
    pub(crate) free: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Load {
    Requests(Requests),
    /// HTTP connections that have had one answer, and now nothing.
    Kept(usize),
    /// Sockets that are bound, and sent nothing.
    Idle(usize),
    Events(Shape),
    /// A large state, again and again, to sockets that take it compressed.
    Answers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Requests {
    Get,
    /// On one connection, so that none waits for another.
    Alone,
    Post,
    Connect,
    Http2,
    Large,
}

/// Who is bound to what, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// URIs that each socket is bound to.
    pub(crate) each: usize,
    pub(crate) sockets: usize,
    pub(crate) uris: usize,
    /// Writes that do not wait until the last one has arrived.
    pub(crate) burst: usize,
    /// Each has URIs of its own.
    pub(crate) writers: usize,
}

/// One figure of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum What {
    /// Microseconds of the server's CPU time for a request or a delivery.
    Cpu,
    /// The same for the fetch of what a write changed, and for a delivery without it.
    Refetch,
    Delivery,
    /// As [`What::Cpu`], for a body of 10 MB and in milliseconds.
    CpuOfBody,
    Median,
    P99,
    P999,
    /// Microseconds until a write is answered: to what nobody is bound to, and to what all are.
    UnwatchedAnswer,
    WatchedAnswer,
    /// Microseconds of CPU time for a write that no view can have been touched by.
    Untouching,
    /// Microseconds of CPU time to connect and bind; where a socket has many bindings, of each.
    Bind,
    /// Microseconds of CPU time, of each binding, when the sockets close.
    Release,
    /// Bytes of a connection, a socket or a binding.
    Memory,
    /// Milliseconds of CPU time in a second of nothing.
    IdleCpu,
    /// How often a worker wakes in a second of nothing.
    Wakes,
    /// Requests or deliveries in a second of wall-clock time.
    Rate,
}

impl Shape {
    pub(crate) fn one_uri(sockets: usize) -> Self {
        Self { each: 1, sockets, uris: 1, burst: 1, writers: 1 }
    }

    /// So many writes at once, to what all are bound to.
    pub(crate) fn burst(sockets: usize) -> Self {
        Self { burst: BURST, ..Self::one_uri(sockets) }
    }

    /// About so many bindings in all, ten sockets to each URI and at most a hundred URIs to each socket.
    pub(crate) fn many_bindings(count: usize) -> Self {
        let each = (count / MEMBERS).clamp(1, 100);
        let groups = (count / MEMBERS / each).max(1);
        Self { each, sockets: groups * MEMBERS, uris: groups * each, burst: 1, writers: 1 }
    }

    /// So many sockets, ten to each URI.
    pub(crate) fn mixed(sockets: usize, writers: usize) -> Self {
        let uris = sockets.div_ceil(MEMBERS);
        Self { each: 1, sockets: uris * MEMBERS, uris, burst: 1, writers: writers.min(uris) }
    }

    /// Each write is for a few of many.
    pub(crate) fn is_mixed(self) -> bool {
        self.each == 1 && self.uris > 1
    }

    /// How many sockets each URI has.
    pub(crate) fn bound(self) -> usize {
        self.bindings() / self.uris
    }

    pub(crate) fn bindings(self) -> usize {
        self.sockets * self.each
    }

    /// What writer number `index` writes, in turn.
    pub(crate) fn items_of_writer(self, index: usize) -> Vec<usize> {
        (index..self.uris).step_by(self.writers).collect()
    }

    /// What socket number `index` is bound to: neighbours to different things, so that what a write visits lies apart.
    pub(crate) fn items(self, index: usize) -> std::ops::Range<usize> {
        let first = index % (self.uris / self.each) * self.each;
        first..first + self.each
    }
}

impl Row {
    pub(crate) fn new(load: Load) -> Self {
        Self { load, free: false }
    }

    pub(crate) fn peers(self) -> Vec<Peer> {
        if self.free {
            return vec![Peer::Pogo, Peer::PogoTwo];
        }
        match self.load {
            Load::Requests(_) | Load::Kept(_) => {
                vec![Peer::Nginx, Peer::Haproxy, Peer::PassThrough, Peer::Pogo]
            }
            // The others bind a socket to one thing.
            Load::Events(shape) if shape.each > 1 => vec![Peer::Pogo],
            Load::Answers => vec![Peer::Pogo],
            Load::Events(_) | Load::Idle(_) => vec![Peer::Floor, Peer::Nchan, Peer::Pogo],
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load.fmt(f)?;
        if self.free { f.write_str(", pinned to no core") } else { Ok(()) }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(requests) => requests.fmt(f),
            Self::Kept(count) => write!(f, "{} idle HTTP connections", thousands(*count)),
            Self::Idle(count) => write!(f, "{} idle sockets", thousands(*count)),
            Self::Events(shape) if shape.burst > 1 => {
                write!(f, "{} events of 1 KB at once to {shape}", shape.burst)
            }
            Self::Events(shape) => write!(f, "event of 1 KB to {shape}"),
            Self::Answers => f.write_str("answer of 170 KB, compressed"),
        }
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET 1 KB, keep-alive",
            Self::Alone => "GET 1 KB, one connection",
            Self::Post => "POST 1 KB, keep-alive",
            Self::Connect => "GET 1 KB, new connection each",
            Self::Http2 => "GET 1 KB, HTTP/2, 32 streams",
            Self::Large => "GET 10 MB",
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sockets = thousands(self.sockets);
        match (self.each, self.uris) {
            (_, 1) => write!(f, "{sockets} sockets"),
            (1, _) if self.writers > 1 => {
                write!(f, "{} of {sockets} sockets, {} writers", self.bound(), self.writers)
            }
            (1, _) => write!(f, "{} of {sockets} sockets", self.bound()),
            _ => write!(f, "{} of {} bindings", self.bound(), thousands(self.bindings())),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU, µs",
            Self::Refetch => "fetch of what was written, CPU, µs",
            Self::Delivery => "CPU without that fetch, µs",
            Self::CpuOfBody => "CPU, ms",
            Self::Median => "p50, µs",
            Self::P99 => "p99, µs",
            Self::P999 => "p99.9, µs",
            Self::UnwatchedAnswer => "write answered, nobody bound, p50, µs",
            Self::WatchedAnswer => "write answered, p50, µs",
            Self::Untouching => "write that touches no view, CPU, µs",
            Self::Bind => "connect and bind, CPU, µs",
            Self::Release => "close, CPU, µs",
            Self::Memory => "bytes each",
            Self::IdleCpu => "CPU, ms/s",
            Self::Wakes => "wakes/s of a worker",
            Self::Rate => "per second",
        })
    }
}

/// 10000 as 10,000.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
