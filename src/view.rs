//! One URI as one audience sees it: when it must be fetched, and what an answer means to those
//! who are bound. A pure state machine: no sockets, no clock, no tasks.
//!
//! Demands are numbered. A bind or a change raises `wanted`; a fetch remembers the number that was
//! current when it *started*; when it ends, exactly the demands up to that number are met. So a
//! fetch that started before the last change can be shown but is never final, and the answer to a
//! bind always comes from a fetch that started after its registration. One fetch at a time keeps
//! states in order: an older one never follows a newer one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::audience::Vary;
use crate::protocol::Problem;

/// What a view shows.
#[derive(Debug)]
pub struct State {
    pub version: Arc<str>,
    pub content: Content,
    pub etag: Option<HeaderValue>,
    pub last_modified: Option<HeaderValue>,
    /// What the answer depends on besides the audience's own fields.
    pub vary: Vary,
    /// The `update` (or `delete`) frame, without and with `version`: encoded once, by whoever
    /// needs it first, and shared by every member on every worker.
    pub frames: [OnceLock<Bytes>; 2],
}

#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON text.
    Data(Data),
    /// 404 or 410.
    Absent,
    /// Something changed; the client fetches for itself.
    Unseen,
}

/// JSON text, known to be valid. Equal when its bytes are.
#[derive(Debug)]
pub struct Data(pub Box<RawValue>);

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Data {}

impl State {
    pub fn new(version: Arc<str>, content: Content) -> Self {
        Self {
            version,
            content,
            etag: None,
            last_modified: None,
            vary: Vary::default(),
            frames: Default::default(),
        }
    }

    pub fn same_content(&self, other: &Self) -> bool {
        self.content == other.content && self.content != Content::Unseen
    }
}

/// What a fetch brought.
#[derive(Debug)]
pub enum Answer {
    State(State),
    NotModified,
    /// 401 or 403.
    Refused(Problem),
    /// 405 or 501 to a GET.
    NotBindable(Problem),
    /// Anything that says nothing about the resource: 5xx, time-out, other 4xx.
    Failed(Problem),
}

/// What those who are bound are to be told.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Members hold this; the waiting are answered with it.
    Live { state: Arc<State>, stale: bool },
    /// The waiting are refused; members keep what they hold.
    Failed(Arc<Problem>),
    /// The view is over for everybody.
    Ended(End),
}

#[derive(Debug, Clone)]
pub enum End {
    Refused(Arc<Problem>),
    NotBindable(Arc<Problem>),
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Rest,
    WaitUntil(Instant),
    Fetch,
    /// Tell the members that something changed, without a fetch.
    Announce,
    /// Answer the waiting with the last failure: the upstream said when to come back.
    Repeat,
}

/// How a view is paced.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Shortest time between two fetches that no client waits for.
    pub min_interval: Duration,
    /// How long the truth may be unknown before members are told.
    pub stale_after: Duration,
    /// Longest time without a fetch, so that a revoked credential is found out.
    pub recheck: Option<Duration>,
    /// 0..1, different for each view, so that not all come back at once.
    pub spread: f64,
    /// Changes are announced, not shown.
    pub notify: bool,
    /// A 401 after a good bind says that the credential was used up, not that it was revoked.
    pub single_use: bool,
}

#[derive(Debug)]
pub struct View {
    pace: Pace,
    wanted: u64,
    /// The last demand that a client waits for.
    urgent: u64,
    /// Demands up to here were met by a good answer.
    settled: u64,
    /// Demands up to here were answered, well or badly.
    answered: u64,
    in_flight: Option<u64>,
    last_start: Option<Instant>,
    unsettled_since: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The failure that came with `Retry-After`, and until when it stands.
    refusal: Option<(Instant, Arc<Problem>)>,
    later: Vec<Instant>,
    recheck_at: Option<Instant>,
    state: Option<Arc<State>>,
    refetched: bool,
    announced: u64,
    stale: bool,
}

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Times to ask again that one view remembers; past it the earliest is given up for the latest.
const MAX_LATER: usize = 8;

impl View {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            wanted: 0,
            urgent: 0,
            settled: 0,
            answered: 0,
            in_flight: None,
            last_start: None,
            unsettled_since: None,
            failures: 0,
            retry_at: None,
            refusal: None,
            later: Vec::new(),
            recheck_at: None,
            state: None,
            refetched: false,
            announced: 0,
            stale: false,
        }
    }

    pub fn state(&self) -> Option<&Arc<State>> {
        self.state.as_ref()
    }

    /// Demands up to this number have had their answer.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The demands that the fetch under way will meet.
    pub fn in_flight_demand(&self) -> u64 {
        self.in_flight.unwrap_or(self.answered)
    }

    /// A client registered and waits. Gives the number of its demand.
    pub fn bind(&mut self, now: Instant) -> u64 {
        self.urgent = self.want(now);
        self.urgent
    }

    /// Something that this view may depend on changed; ask now and again after each of `settle`.
    pub fn change(&mut self, now: Instant, settle: &[Duration]) {
        self.want(now);
        for delay in settle {
            if self.later.len() == MAX_LATER {
                self.later.remove(0);
            }
            self.later.push(now + *delay);
        }
        self.later.sort_unstable();
    }

    fn want(&mut self, now: Instant) -> u64 {
        self.wanted += 1;
        self.unsettled_since.get_or_insert(now);
        self.wanted
    }

    /// What to do at `now`. After [`Step::Fetch`] comes [`View::start`], then [`View::finish`].
    pub fn step(&mut self, now: Instant) -> Step {
        let due = self.later.iter().take_while(|at| **at <= now).count();
        if due > 0 {
            self.later.drain(..due);
            self.want(now);
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            self.want(now);
        }
        if self.in_flight.is_some() {
            return Step::Rest;
        }
        if self.wanted == self.settled {
            let next = self.later.first().copied().into_iter().chain(self.recheck_at).min();
            return next.map_or(Step::Rest, Step::WaitUntil);
        }
        if self.urgent > self.answered {
            let held_off = self.refusal.as_ref().is_some_and(|(until, _)| *until > now);
            return if held_off { Step::Repeat } else { Step::Fetch };
        }
        let spaced = self.last_start.map(|at| at + self.pace.min_interval);
        let at = spaced.into_iter().chain(self.retry_at).max().unwrap_or(now);
        match at <= now {
            true if self.pace.notify && self.state.is_some() => Step::Announce,
            true => Step::Fetch,
            false => Step::WaitUntil(at),
        }
    }

    pub fn start(&mut self, now: Instant) {
        self.in_flight = Some(self.wanted);
        self.last_start = Some(now);
    }

    /// When members are to be told that what they hold may be old, if nothing comes before.
    pub fn stale_at(&self) -> Option<Instant> {
        let since = self.unsettled_since.filter(|_| !self.stale && self.state.is_some())?;
        Some(since + self.pace.stale_after)
    }

    /// The truth has been unknown for too long; `None` while there is nothing to be old.
    pub fn go_stale(&mut self) -> Option<Verdict> {
        self.stale = true;
        self.live()
    }

    fn live(&self) -> Option<Verdict> {
        Some(Verdict::Live { state: Arc::clone(self.state.as_ref()?), stale: self.stale })
    }

    /// Members are told of a change whose result nobody but they can see.
    pub fn announce(&mut self, now: Instant) -> Option<Verdict> {
        self.in_flight = Some(self.wanted);
        self.last_start = Some(now);
        self.settle(now);
        self.announced += 1;
        let version = format!("unseen-{}", self.announced);
        self.state = Some(Arc::new(State::new(version.into(), Content::Unseen)));
        self.live()
    }

    /// The waiting get the failure that the upstream asked us not to repeat.
    pub fn repeat(&mut self) -> Option<Verdict> {
        self.answered = self.urgent;
        self.refusal.as_ref().map(|(_, problem)| Verdict::Failed(Arc::clone(problem)))
    }

    /// The fetch that [`View::start`] began has ended.
    pub fn finish(&mut self, now: Instant, answer: Answer) -> Option<Verdict> {
        match answer {
            Answer::State(new) => {
                self.refetched |= self.state.is_some();
                self.settle(now);
                let vary = new.vary.clone();
                self.state = Some(Arc::new(match &self.state {
                    Some(old) if self.pace.notify => {
                        State { vary, ..State::new(Arc::clone(&old.version), Content::Unseen) }
                    }
                    None if self.pace.notify => {
                        State { vary, ..State::new("unseen-0".into(), Content::Unseen) }
                    }
                    Some(old) if old.same_content(&new) => {
                        // A new validator for old content: the client has this version.
                        State { version: Arc::clone(&old.version), ..new }
                    }
                    _ => new,
                }));
                self.live()
            }
            Answer::NotModified => {
                self.refetched = true;
                self.settle(now);
                self.live()
            }
            Answer::Refused(problem) => {
                let used_up = self.pace.single_use
                    && problem.http_status == Some(401)
                    && self.state.is_some()
                    && !self.refetched;
                if used_up {
                    self.pace.notify = true;
                    return self.announce(now);
                }
                Some(Verdict::Ended(End::Refused(Arc::new(problem))))
            }
            Answer::NotBindable(problem) => {
                Some(Verdict::Ended(End::NotBindable(Arc::new(problem))))
            }
            Answer::Failed(problem) => Some(self.fail(now, problem)),
        }
    }

    fn settle(&mut self, now: Instant) {
        let met = self.in_flight.take().unwrap_or(self.settled);
        self.settled = met;
        self.answered = self.answered.max(met);
        self.unsettled_since = (self.wanted > met).then_some(now);
        self.failures = 0;
        self.retry_at = None;
        self.refusal = None;
        self.stale = false;
        self.recheck_at = self.pace.recheck.map(|every| now + self.jittered(every));
    }

    fn fail(&mut self, now: Instant, problem: Problem) -> Verdict {
        let started = self.in_flight.take().unwrap_or(self.answered);
        self.answered = self.answered.max(started);
        let backoff = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        let mut pause = self.jittered(backoff);
        let problem = Arc::new(problem);
        if let Some(seconds) = problem.retry_after {
            let told = Duration::from_secs(seconds.min(3600));
            pause = pause.max(told);
            self.refusal = Some((now + told, Arc::clone(&problem)));
        }
        self.retry_at = Some(now + pause);
        Verdict::Failed(problem)
    }

    fn jittered(&self, time: Duration) -> Duration {
        time.mul_f64(0.75 + 0.5 * self.pace.spread.clamp(0.0, 1.0))
    }
}
