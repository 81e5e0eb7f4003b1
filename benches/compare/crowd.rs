//! The bound sockets of one measurement: what they have been sent, and what they should have been.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::options::Shape;
use crate::socket::{Received, Socket};

/// Handshakes under way at once.
const OPENING: usize = 64;
/// What is not delivered by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

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

#[derive(Default)]
struct Shared {
    shape: Shape,
    /// Which URI was written, and the number it has since.
    newest: Cell<(usize, u64)>,
    /// How many sockets have that.
    arrived: Cell<u64>,
    everywhere: Notify,
    skipped: Cell<u64>,
    repeated: Cell<u64>,
    reordered: Cell<u64>,
    scratch: RefCell<Vec<u8>>,
}

impl Crowd {
    /// Opens the sockets and binds each to its URI, in turn.
    pub(crate) async fn gather(server: SocketAddr, shape: Shape) -> io::Result<Self> {
        let scratch = RefCell::new(vec![0; 64 * 1024]);
        let shared = Rc::new(Shared { shape, scratch, ..Shared::default() });
        let mut opening = JoinSet::new();
        let permits = Rc::new(Semaphore::new(OPENING));
        for index in 0..shape.sockets {
            let permits = permits.clone();
            let item = index % shape.uris;
            opening.spawn_local(async move {
                let _permit = permits.acquire().await.map_err(io::Error::other)?;
                let socket = timeout(PATIENCE, Socket::bind(server, index, &uri(item))).await??;
                io::Result::Ok((item, socket))
            });
        }
        let mut readers = JoinSet::new();
        while let Some(opened) = opening.join_next().await {
            let (item, socket) = opened.map_err(io::Error::other)??;
            readers.spawn_local(shared.clone().follow(item, socket));
        }
        Ok(Self { shared, _readers: readers })
    }

    /// From now on the item has this number.
    pub(crate) fn expect(&self, item: usize, number: u64) {
        self.shared.newest.set((item, number));
        self.shared.arrived.set(0);
    }

    /// Waits until all who are bound to the last item hold its last number; `false` when that does not come.
    pub(crate) async fn is_complete(&self) -> bool {
        let complete = async {
            while self.shared.arrived.get() < self.shared.shape.bound() {
                self.shared.everywhere.notified().await;
            }
        };
        timeout(PATIENCE, complete).await.is_ok()
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        let missing = self.shared.shape.bound() - self.shared.arrived.get();
        let lost = self.shared.skipped.get() + missing;
        let (repeated, reordered) = (self.shared.repeated.get(), self.shared.reordered.get());
        let mut faults = Vec::new();
        faults.extend((lost > 0).then_some(Fault::Lost(lost)));
        faults.extend((repeated > 0).then_some(Fault::Repeated(repeated)));
        faults.extend((reordered > 0).then_some(Fault::Reordered(reordered)));
        faults
    }
}

impl Shared {
    /// Reads one socket until it closes.
    async fn follow(self: Rc<Self>, item: usize, mut socket: Socket) -> io::Result<()> {
        let mut held = 0;
        loop {
            socket.readable().await?;
            let pings = socket.take(&mut self.scratch.borrow_mut(), |received| {
                if let Received::Update(number) = received {
                    self.judge(held, (item, number));
                    held = held.max(number);
                }
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
        if (item, number) == self.newest.get() {
            count(&self.arrived, 1);
            if self.arrived.get() == self.shape.bound() {
                self.everywhere.notify_one();
            }
        }
    }
}

pub(crate) fn uri(item: usize) -> String {
    format!("/items/{item}")
}
