//! Whose tasks run on a worker, so that those of an address that is shut out can be ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;

use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// The tasks of one worker that serve one client each: connections and tunnels. Bounded by the
/// number of connections.
#[derive(Debug, Default, Clone)]
pub struct Callers(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    numbers: Cell<u64>,
    tasks: RefCell<HashMap<u64, (IpAddr, AbortHandle)>>,
}

impl Callers {
    /// Runs a task of `address`. It is on the list until it drops what it was given.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        tracker: &TaskTracker,
        address: IpAddr,
        task: impl FnOnce(Listed) -> F,
    ) {
        let number = self.0.numbers.get() + 1;
        self.0.numbers.set(number);
        let listed = Listed { callers: Rc::clone(&self.0), number };
        // It begins to run when this thread is next free: after it is listed.
        let handle = tracker.spawn_local(task(listed)).abort_handle();
        self.0.tasks.borrow_mut().insert(number, (address, handle));
    }

    /// Ends the tasks of every address that is not `admitted`; how many there were.
    pub fn end(&self, admitted: impl Fn(IpAddr) -> bool) -> usize {
        let tasks = self.0.tasks.borrow();
        let shut_out = tasks.values().filter(|(address, _)| !admitted(*address));
        let handles: Vec<_> = shut_out.map(|(_, handle)| handle.clone()).collect();
        drop(tasks);
        handles.iter().for_each(AbortHandle::abort);
        handles.len()
    }
}

/// A task's place in the list.
#[derive(Debug)]
pub struct Listed {
    callers: Rc<Inner>,
    number: u64,
}

impl Listed {
    /// The task is another's: the proxy has said for whom it forwards.
    pub fn move_to(&self, address: IpAddr) {
        if let Some((listed, _)) = self.callers.tasks.borrow_mut().get_mut(&self.number) {
            *listed = address;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.callers.tasks.borrow_mut().remove(&self.number);
    }
}
