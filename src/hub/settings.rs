//! What a worker's hub goes by, and what becomes of its views when that is replaced.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::mirror::Binding;
use super::{Hub, Options};
use crate::headers::Via;
use crate::route::{Routes, Visibility};
use crate::upstream::Upstream;

/// What the views of a worker are kept by. Replaced whole.
pub struct Settings {
    pub routes: Arc<Routes>,
    pub upstream: Rc<Upstream>,
    pub via: Option<Via>,
    pub options: Rc<Options>,
    pub refetches: Refetches,
}

/// Refetches of the whole node that may still start.
#[derive(Debug, Clone)]
pub struct Refetches(pub(super) Arc<Semaphore>);

impl Refetches {
    pub fn new(options: &Options) -> Self {
        Self(Arc::new(Semaphore::new(options.refetch_concurrency.max(1))))
    }
}

/// Whether a binding may stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// It is of another view, and has to be judged again.
    Moved,
    /// Its path can no longer be bound.
    NotRealtime,
}

impl Hub {
    /// What holds now. What begins with it is to end with it.
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    pub fn options(&self) -> Rc<Options> {
        Rc::clone(&self.settings.borrow().options)
    }

    /// Goes by other settings from now on. Fetches under way end as they began.
    pub fn adopt(self: &Rc<Self>, settings: Settings) {
        let history = settings.options.history;
        self.settings.replace(Rc::new(settings));
        self.mirrors.borrow().values().for_each(|mirror| mirror.remember_at_most(history));
        let now = Instant::now();
        for view in self.home.all() {
            let pace = self.pace(&view.key);
            if *view.pace.borrow() != pace {
                view.pace.replace(pace.clone());
                view.view.borrow_mut().set_pace(now, pace);
                self.attend(&view);
            }
            self.reread_items(&view);
        }
    }

    /// Asks what the present routes say of a binding.
    pub fn review(&self, binding: &Binding) -> Standing {
        let settings = self.settings();
        let route = settings.routes.of(binding.uri.as_str());
        let public = route.rule.visibility == Visibility::Public;
        if !route.rule.realtime {
            Standing::NotRealtime
        } else if binding.public.replace(public) == public {
            Standing::Good
        } else {
            Standing::Moved
        }
    }

    /// Has every view fetched again, as if nothing were known of it: not even that what has the
    /// same validator is the same.
    pub(super) fn begin_again(self: &Rc<Self>, now: Instant) {
        for view in self.home.all() {
            view.doubted.set(true);
            view.abandoned.set(true);
            view.lose_items();
            view.view.borrow_mut().begin_again(now);
            self.attend(&view);
        }
    }
}
