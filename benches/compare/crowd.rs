//! The bound sockets of one measurement: what they have been sent, and what they should have been.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::row::Shape;
use crate::socket::{Dialect, Received, Socket};
use crate::times::Times;

/// Handshakes under way at once, where nothing speaks against it.
pub(crate) const OPENING: usize = 64;
/// What is not delivered by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What must not happen; one of these fails the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Failed(String),
    Lost(u64),
    Repeated(u64),
    Reordered(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::Lost(count) => write!(f, "{count} events lost"),
            Self::Repeated(count) => write!(f, "{count} events came twice"),
            Self::Reordered(count) => write!(f, "{count} events came after a later one"),
        }
    }
}

/// The sockets, each with a task that reads what it is sent.
pub(crate) struct Crowd {
    shared: Rc<Shared>,
    _readers: JoinSet<io::Result<()>>,
}

struct Shared {
    shape: Shape,
    /// By item.
    awaited: Vec<Awaited>,
    /// How long each took to arrive.
    delays: RefCell<Times>,
    skipped: Cell<u64>,
    repeated: Cell<u64>,
    reordered: Cell<u64>,
    scratch: RefCell<Vec<u8>>,
}

/// The last write of an item.
struct Awaited {
    /// 0 before the first.
    number: Cell<u64>,
    since: Cell<Instant>,
    /// How many sockets have it.
    arrived: Cell<usize>,
    everywhere: Notify,
}

impl Crowd {
    /// Opens the sockets, so many at once, and binds each to its URIs.
    pub(crate) async fn gather(
        server: SocketAddr,
        shape: Shape,
        dialect: Dialect,
        at_once: usize,
    ) -> io::Result<Self> {
        let shared = Rc::new(Shared::new(shape));
        let mut opening = JoinSet::new();
        let permits = Rc::new(Semaphore::new(at_once));
        for index in 0..shape.sockets {
            let permits = permits.clone();
            opening.spawn_local(async move {
                let _permit = permits.acquire().await.map_err(io::Error::other)?;
                let bind = Socket::bind(server, index, shape.items(index), dialect);
                Ok((index, timeout(PATIENCE, bind).await??))
            });
        }
        let mut readers = JoinSet::new();
        while let Some(opened) = opening.join_next().await {
            let opened: io::Result<(usize, Socket)> = opened.map_err(io::Error::other)?;
            let (index, socket) = opened?;
            readers.spawn_local(shared.clone().follow(shape.items(index), socket));
        }
        Ok(Self { shared, _readers: readers })
    }

    /// From now on the item has this number.
    pub(crate) fn expect(&self, item: usize, number: u64) {
        let awaited = &self.shared.awaited[item];
        awaited.number.set(number);
        awaited.since.set(Instant::now());
        awaited.arrived.set(0);
    }

    /// Waits until all who are bound to the item hold its last number; `false` when that does not come.
    pub(crate) async fn is_complete(&self, item: usize) -> bool {
        let awaited = &self.shared.awaited[item];
        let complete = async {
            while awaited.arrived.get() < self.shared.shape.bound() {
                awaited.everywhere.notified().await;
            }
        };
        timeout(PATIENCE, complete).await.is_ok()
    }

    /// How long the deliveries took since the last time this was asked.
    pub(crate) fn delays(&self) -> Times {
        self.shared.delays.take()
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        let written = self.shared.awaited.iter().filter(|awaited| awaited.number.get() > 0);
        let missing: usize =
            written.map(|awaited| self.shared.shape.bound() - awaited.arrived.get()).sum();
        let lost = self.shared.skipped.get() + missing as u64;
        let (repeated, reordered) = (self.shared.repeated.get(), self.shared.reordered.get());
        let mut faults = Vec::new();
        faults.extend((lost > 0).then_some(Fault::Lost(lost)));
        faults.extend((repeated > 0).then_some(Fault::Repeated(repeated)));
        faults.extend((reordered > 0).then_some(Fault::Reordered(reordered)));
        faults
    }
}

impl Shared {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            awaited: (0..shape.uris).map(|_| Awaited::new()).collect(),
            delays: RefCell::default(),
            skipped: Cell::default(),
            repeated: Cell::default(),
            reordered: Cell::default(),
            scratch: RefCell::new(vec![0; 64 * 1024]),
        }
    }

    /// Reads one socket until it closes.
    async fn follow(self: Rc<Self>, items: Range<usize>, mut socket: Socket) -> io::Result<()> {
        let mut held = vec![0; items.len()];
        loop {
            socket.readable().await?;
            let pings = socket.take(&mut self.scratch.borrow_mut(), |received| {
                let Received::Update(item, number) = received else { return };
                let Some(held) = held.get_mut(item.wrapping_sub(items.start)) else { return };
                self.judge(*held, (item, number));
                *held = number.max(*held);
            })?;
            socket.answer(pings).await?;
        }
    }

    /// A socket sees every number of its item in turn. Only of writes that do not wait for one another (a burst) may it miss some: a
    /// binding is to a state, not to its history.
    fn judge(&self, held: u64, (item, number): (usize, u64)) {
        let count = |counter: &Cell<u64>, by| counter.set(counter.get() + by);
        match number.cmp(&held) {
            Ordering::Less => return count(&self.reordered, 1),
            Ordering::Equal => return count(&self.repeated, 1),
            Ordering::Greater if self.shape.burst > 1 => {}
            Ordering::Greater => count(&self.skipped, number - held - 1),
        }
        let awaited = &self.awaited[item];
        if number == awaited.number.get() {
            awaited.arrived.set(awaited.arrived.get() + 1);
            self.delays.borrow_mut().add(awaited.since.get().elapsed());
            if awaited.arrived.get() == self.shape.bound() {
                awaited.everywhere.notify_one();
            }
        }
    }
}

impl Awaited {
    fn new() -> Self {
        Self {
            number: Cell::default(),
            since: Cell::new(Instant::now()),
            arrived: Cell::default(),
            everywhere: Notify::new(),
        }
    }
}

pub(crate) fn uri(item: usize) -> String {
    format!("/items/{item}")
}
