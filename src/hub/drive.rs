//! Sees to it that each view is fetched when it wants to be: one task for a view, while there is
//! something to do for it.

use std::rc::Rc;

use tokio::time::Instant;

use super::home::HomeView;
use super::{Hub, fetch};
use crate::metrics;
use crate::view::{Answer, Step, Verdict};

impl Hub {
    /// Sees to it that what the view wants is done.
    pub(super) fn attend(self: &Rc<Self>, view: &Rc<HomeView>) {
        if view.driven.replace(true) {
            view.bell.notify_one();
        } else {
            // In a box, because a task moves what it runs several times.
            tokio::task::spawn_local(Box::pin(Rc::clone(self).drive(Rc::clone(view))));
        }
    }

    /// Fetches the view until it wants nothing more. One task per view, while there is something
    /// to do for it; ended by the view's last member.
    async fn drive(self: Rc<Self>, view: Rc<HomeView>) {
        while !view.is_empty() {
            let now = Instant::now();
            let step = view.view.borrow_mut().step(now);
            match step {
                Step::Rest => break,
                Step::WaitUntil(at) => self.wait_until(&view, at).await,
                Step::Fetch => {
                    self.fetch(&view).await;
                    self.attend_items(&view);
                }
                Step::Announce => {
                    let verdict = view.view.borrow_mut().announce(now);
                    self.deliver(&view, verdict);
                }
                Step::Repeat => {
                    let verdict = view.view.borrow_mut().repeat();
                    self.deliver(&view, verdict);
                }
            }
        }
        view.driven.set(false);
        self.home.close_if_empty(&view, &self.mail[self.worker]);
    }

    async fn wait_until(&self, view: &HomeView, at: Instant) {
        let stale_at = view.view.borrow().stale_at();
        let until = stale_at.map_or(at, |stale| stale.min(at));
        tokio::select! {
            () = tokio::time::sleep_until(until) => self.note_staleness(view),
            () = view.bell.notified() => {}
        }
    }

    async fn fetch(&self, view: &HomeView) {
        view.abandoned.set(false);
        let fetching = self.fetch_permitted(view);
        tokio::pin!(fetching);
        let mut fetched = loop {
            let stale_at = view.view.borrow().stale_at();
            let wait = async {
                match stale_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                fetched = &mut fetching => break fetched,
                () = wait => self.note_staleness(view),
                () = view.bell.notified() => {
                    if view.is_empty() || view.abandoned.get() {
                        return;
                    }
                }
            }
        };
        if let Some(groups) = fetched.regroups().filter(|_| !view.is_empty()) {
            self.home.regroup(view, &groups);
        }
        let verdict = view.view.borrow_mut().finish(Instant::now(), fetched.answer);
        if view.view.borrow().rests() {
            view.doubted.set(false);
        }
        self.deliver(view, verdict);
    }

    async fn fetch_permitted(&self, view: &HomeView) -> fetch::Fetched {
        // The semaphore is never closed; were it, an unbounded fetch is better than none.
        let refetches = self.settings().refetches.clone();
        let _permit = refetches.0.acquire().await.ok();
        let settings = self.settings();
        let (known, validated) = {
            let mut machine = view.view.borrow_mut();
            machine.start(Instant::now());
            (machine.state().cloned(), machine.validated().cloned())
        };
        let validated = validated.filter(|_| !view.doubted.get());
        let _fetching = self.home.fetch_begins(&view.key);
        let client = view.client.borrow().clone();
        let via = settings.via.as_ref();
        let sent = fetch::Sent { key: &view.key, client: &client, trace: view.trace.take() };
        let fetched =
            fetch::fetch(&settings.upstream, via, sent, validated, &settings.options).await;
        self.count(&fetched.answer);
        fetch::told_apart(fetched, known.as_deref())
    }

    pub(super) fn count(&self, answer: &Answer) {
        self.metrics().refetched(match answer {
            Answer::State(_) => metrics::Refetch::State,
            Answer::NotModified => metrics::Refetch::NotModified,
            Answer::Refused(_) => metrics::Refetch::Refused,
            Answer::NotBindable(_) => metrics::Refetch::NotBindable,
            Answer::Failed(_) => metrics::Refetch::Failed,
        });
    }

    pub(super) fn doubt(&self, view: &HomeView) {
        if view.key.audience.has_credentials(&self.options().credential_headers) {
            view.doubted.set(true);
        }
    }

    fn note_staleness(&self, view: &HomeView) {
        let due = view.view.borrow().stale_at().is_some_and(|at| at <= Instant::now());
        if due {
            let verdict = view.view.borrow_mut().go_stale();
            self.deliver(view, verdict);
        }
    }

    pub(super) fn deliver(&self, view: &HomeView, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            self.take_items(view, &verdict);
            view.deliver(&verdict, &self.mail);
        }
    }
}
