//! The views that this worker fetches, and who on which worker waits for them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::mail::{Delivery, Mailbox, Seat};
use crate::audience::ViewKey;
use crate::change::{Change, Touch};
use crate::headers::ClientAddress;
use crate::trace::Trace;
use crate::uri::{PathKey, Uri};
use crate::view::items::{Log, Table};
use crate::view::{Pace, Verdict, View};

/// Every view of this worker, found by key and by path.
#[derive(Default)]
pub(super) struct Home {
    views: RefCell<HashMap<Arc<ViewKey>, Rc<HomeView>>>,
    paths: RefCell<BTreeMap<PathKey, HashSet<Arc<ViewKey>>>>,
    /// Views by the groups that their last answer was in.
    groups: RefCell<HashMap<Arc<str>, HashSet<Arc<ViewKey>>>>,
    /// Views whose answer, and so whose groups, are on the way.
    fetching: RefCell<HashSet<Arc<ViewKey>>>,
    /// Changes that may not be visible yet, with the times at which to look, oldest first.
    unsettled: RefCell<VecDeque<(Instant, Arc<Change>)>>,
}

/// Changes that a worker remembers until they have settled; of more, the oldest is forgotten.
const MAX_UNSETTLED: usize = 1024;

/// One view and the workers whose members it serves.
pub(super) struct HomeView {
    pub(super) key: Arc<ViewKey>,
    pub(super) view: RefCell<View>,
    pub(super) pace: RefCell<Pace>,
    /// A member's address, for `X-Forwarded-For`.
    pub(super) client: RefCell<ClientAddress>,
    /// Whether a task drives the view at present.
    pub(super) driven: Cell<bool>,
    pub(super) bell: Notify,
    /// Of the last write that the next fetch follows.
    pub(super) trace: RefCell<Option<Arc<Trace>>>,
    /// Something else was written that may decide what this audience sees. Many APIs make their
    /// validators from when a resource was written, and not from who may see what of it: a 304 is
    /// believed again after an unconditional answer.
    pub(super) doubted: Cell<bool>,
    /// What the fetch under way will bring is of no more use.
    pub(super) abandoned: Cell<bool>,
    /// The groups that it is found by.
    groups: RefCell<Vec<Arc<str>>>,
    /// Its members, while somebody is told of them one by one.
    pub(super) items: RefCell<Option<Box<Table>>>,
    /// Tasks that ask for members.
    pub(super) askers: Cell<usize>,
    seats: RefCell<Vec<WorkerSeat>>,
}

struct WorkerSeat {
    worker: usize,
    /// Tickets not yet answered, with the number of the demand that each of them is.
    waiting: VecDeque<(u64, u64)>,
    covered: u64,
    items: bool,
}

impl Home {
    /// Registers a demand. Gives the view, to be driven.
    pub(super) fn take(
        &self,
        seat: Seat,
        mailbox: &Mailbox,
        pace: impl FnOnce(&ViewKey) -> Pace,
    ) -> Option<Rc<HomeView>> {
        let (key, worker, ticket, client, items) = match seat {
            Seat::Take { key, worker, ticket, client, items } => {
                (key, worker, ticket, client, items)
            }
            Seat::NoItems { key, worker } => {
                if let Some(view) = self.views.borrow().get(&key) {
                    view.tell_no_items(worker);
                }
                return None;
            }
            Seat::Leave { key, worker } => {
                self.leave(&key, worker, mailbox);
                return None;
            }
        };
        let view = Rc::clone(self.views.borrow_mut().entry(key).or_insert_with_key(|key| {
            mailbox.view_opened();
            self.paths.borrow_mut().entry(key.uri.key()).or_default().insert(Arc::clone(key));
            let pace = pace(key);
            let mut view = View::new(pace.clone());
            view.ask_at(self.still_to_settle(&key.uri.key(), Instant::now()).into_iter());
            Rc::new(HomeView {
                key: Arc::clone(key),
                view: RefCell::new(view),
                pace: RefCell::new(pace),
                client: RefCell::new(client.clone()),
                driven: Cell::new(false),
                bell: Notify::new(),
                trace: RefCell::new(None),
                doubted: Cell::new(false),
                abandoned: Cell::new(false),
                groups: RefCell::new(Vec::new()),
                items: RefCell::new(None),
                askers: Cell::new(0),
                seats: RefCell::new(Vec::new()),
            })
        }));
        view.client.replace(client);
        view.register(worker, ticket);
        if items {
            view.tell_items(worker);
        }
        Some(view)
    }

    fn leave(&self, key: &Arc<ViewKey>, worker: usize, mailbox: &Mailbox) {
        let Some(view) = self.views.borrow().get(key).cloned() else { return };
        view.tell_no_items(worker);
        view.seats.borrow_mut().retain(|seat| seat.worker != worker);
        self.close_if_empty(&view, mailbox);
    }

    /// An empty view leaves the hub at once; a fetch of it that is under way is dropped.
    pub(super) fn close_if_empty(&self, view: &Rc<HomeView>, mailbox: &Mailbox) {
        if !view.seats.borrow().is_empty() {
            return;
        }
        let mut views = self.views.borrow_mut();
        if views.get(&view.key).is_none_or(|present| !Rc::ptr_eq(present, view)) {
            return;
        }
        views.remove(&view.key);
        let mut paths = self.paths.borrow_mut();
        let path = view.key.uri.key();
        if let Some(keys) = paths.get_mut(&path) {
            keys.remove(&view.key);
            if keys.is_empty() {
                paths.remove(&path);
            }
        }
        drop(paths);
        self.regroup(view, &[]);
        mailbox.view_closed();
        view.bell.notify_one();
    }

    /// Keeps a change for views that are opened before it has settled: what they are first
    /// answered with may be from before it.
    pub(super) fn remember(&self, change: &Arc<Change>, now: Instant) {
        if change.settle.is_empty() {
            return;
        }
        let mut unsettled = self.unsettled.borrow_mut();
        unsettled.retain(|(since, change)| change.settle.iter().any(|delay| *since + *delay > now));
        if unsettled.len() == MAX_UNSETTLED {
            unsettled.pop_front();
        }
        unsettled.push_back((now, Arc::clone(change)));
    }

    fn still_to_settle(&self, path: &PathKey, now: Instant) -> Vec<Instant> {
        let unsettled = self.unsettled.borrow();
        let touching = unsettled.iter().filter(|(_, change)| change.touches(path));
        touching
            .flat_map(|(since, change)| change.settle.iter().map(|delay| *since + *delay))
            .filter(|at| *at > now)
            .collect()
    }

    /// The views that `change` may have touched.
    pub(super) fn touched(&self, change: &Change) -> Vec<Rc<HomeView>> {
        let paths = self.paths.borrow();
        let views = self.views.borrow();
        let (groups, fetching) = (self.groups.borrow(), self.fetching.borrow());
        let mut found: HashSet<&Arc<ViewKey>> = HashSet::new();
        for touch in &change.touches {
            let path = match touch {
                Touch::Family(path) | Touch::Path(path) => path,
                Touch::Group(group) => {
                    found.extend(groups.get(group).into_iter().flatten());
                    found.extend(fetching.iter());
                    continue;
                }
            };
            found.extend(paths.get(path).into_iter().flatten());
            if matches!(touch, Touch::Family(_)) {
                found.extend(path.ancestors().filter_map(|above| paths.get(&above)).flatten());
                let (from, to) = path.descendants();
                found.extend(paths.range(from..to).flat_map(|(_, keys)| keys));
            }
        }
        found.retain(|key| change.spared.as_ref() != Some(&key.uri));
        found.into_iter().filter_map(|key| views.get(key).cloned()).collect()
    }

    /// Until the guard is dropped the view may be in any group. [`Home::regroup`] follows in the same
    /// turn, so that no change comes between them.
    pub(super) fn fetch_begins(&self, key: &Arc<ViewKey>) -> Fetching<'_> {
        self.fetching.borrow_mut().insert(Arc::clone(key));
        Fetching { home: self, key: Arc::clone(key) }
    }

    /// Has the view found by these groups and no others.
    pub(super) fn regroup(&self, view: &HomeView, groups: &[Arc<str>]) {
        if *view.groups.borrow() == groups {
            return;
        }
        let before = view.groups.replace(groups.to_vec());
        let mut index = self.groups.borrow_mut();
        for group in before {
            if let Some(keys) = index.get_mut(&group) {
                keys.remove(&view.key);
                if keys.is_empty() {
                    index.remove(&group);
                }
            }
        }
        for group in groups {
            index.entry(Arc::clone(group)).or_default().insert(Arc::clone(&view.key));
        }
    }

    pub(super) fn all(&self) -> Vec<Rc<HomeView>> {
        self.views.borrow().values().cloned().collect()
    }

    /// The views of exactly this URI.
    pub(super) fn views_of(&self, uri: &Uri) -> Vec<Rc<HomeView>> {
        let (paths, views) = (self.paths.borrow(), self.views.borrow());
        let keys = paths.get(&uri.key()).into_iter().flatten();
        keys.filter(|key| key.uri == *uri).filter_map(|key| views.get(key).cloned()).collect()
    }
}

/// A fetch whose answer is not here yet.
pub(super) struct Fetching<'a> {
    home: &'a Home,
    key: Arc<ViewKey>,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.home.fetching.borrow_mut().remove(&self.key);
    }
}

impl HomeView {
    fn register(&self, worker: usize, ticket: u64) {
        let demand = self.view.borrow_mut().bind(Instant::now());
        let mut seats = self.seats.borrow_mut();
        let at = seats.iter().position(|seat| seat.worker == worker).unwrap_or_else(|| {
            let waiting = VecDeque::new();
            seats.push(WorkerSeat { worker, waiting, covered: 0, items: false });
            seats.len() - 1
        });
        seats[at].waiting.push_back((ticket, demand));
    }

    fn tell_items(&self, worker: usize) {
        self.items.borrow_mut().get_or_insert_default();
        let mut seats = self.seats.borrow_mut();
        seats.iter_mut().filter(|seat| seat.worker == worker).for_each(|seat| seat.items = true);
    }

    fn tell_no_items(&self, worker: usize) {
        let mut seats = self.seats.borrow_mut();
        seats.iter_mut().filter(|seat| seat.worker == worker).for_each(|seat| seat.items = false);
        if seats.iter().all(|seat| !seat.items) {
            self.items.replace(None);
        }
    }

    fn log(&self) -> Option<Arc<Log>> {
        self.items.borrow().as_ref().map(|table| Arc::clone(table.log()))
    }

    /// Tells what is new of members, and answers nobody: what is shown beside it is what was.
    pub(super) fn deliver_items(&self, mail: &[Mailbox]) {
        let (Some(verdict), Some(log)) = (self.view.borrow().live(), self.log()) else { return };
        for seat in self.seats.borrow().iter().filter(|seat| seat.items) {
            mail[seat.worker].deliver(Delivery {
                key: Arc::clone(&self.key),
                covers: 0,
                verdict: verdict.clone(),
                items: Some(Arc::clone(&log)),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.borrow().is_empty()
    }

    /// Tells every worker that has members.
    pub(super) fn deliver(&self, verdict: &Verdict, mail: &[Mailbox]) {
        let answered = self.view.borrow().answered();
        let over = matches!(verdict, Verdict::Ended(_));
        // What ends a view also answers those whose fetch it was.
        let answered = if over { self.view.borrow().in_flight_demand() } else { answered };
        let log = self.log();
        let mut seats = self.seats.borrow_mut();
        for seat in seats.iter_mut() {
            while let Some((ticket, _)) = seat.waiting.pop_front_if(|(_, n)| *n <= answered) {
                seat.covered = ticket;
            }
            mail[seat.worker].deliver(Delivery {
                key: Arc::clone(&self.key),
                covers: seat.covered,
                verdict: verdict.clone(),
                items: log.clone().filter(|_| seat.items),
            });
        }
        if over {
            // Those who registered while the last fetch ran have not been judged by it.
            seats.retain(|seat| !seat.waiting.is_empty());
            let mut view = View::new(self.pace.borrow().clone());
            for (_, demand) in seats.iter_mut().flat_map(|seat| &mut seat.waiting) {
                *demand = view.bind(Instant::now());
            }
            self.view.replace(view);
        }
    }
}
