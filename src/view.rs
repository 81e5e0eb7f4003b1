//! One URI as one audience sees it: when it must be fetched, and what an answer means to those
//! who are bound. A pure state machine: no sockets, no clock, no tasks.
//!
//! Demands are numbered. A bind or a change raises `wanted`; a fetch remembers the number that was
//! current when it *started*; when it ends, exactly the demands up to that number are met. So a
//! fetch that started before the last change can be shown but is never final, and the answer to a
//! bind always comes from a fetch that started after its registration. One fetch at a time keeps
//! states in order: an older one never follows a newer one.

pub mod delta;
pub mod items;
mod members;
mod pace;
mod state;
mod unseen;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::members::Collection;
pub use self::pace::Pace;
pub use self::state::{Answer, Content, Data, End, State, Text, Texts, Verdict};
use self::unseen::Unseen;
use crate::protocol::Problem;

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

#[derive(Debug)]
pub struct View {
    pace: Pace,
    wanted: u64,
    /// The last demand that a client waits for.
    urgent: u64,
    /// The last demand that a change made.
    changed: u64,
    /// The last demand that the need to judge the credential again made.
    rechecked: u64,
    /// The last demand that only looks for what changed elsewhere.
    polled: u64,
    /// Demands up to here were met by a good answer.
    settled: u64,
    /// Demands up to here were answered, well or badly.
    answered: u64,
    in_flight: Option<u64>,
    last_start: Option<Instant>,
    unsettled_since: Option<Instant>,
    /// When the last good answer came.
    settled_at: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The failure that came with `Retry-After`, and until when it stands.
    refusal: Option<(Instant, Arc<Problem>)>,
    later: Vec<Instant>,
    recheck_at: Option<Instant>,
    poll_at: Option<Instant>,
    state: Option<Arc<State>>,
    refetched: bool,
    unseen: Unseen,
    stale: bool,
    /// The credential was good for one request.
    used_up: bool,
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
            changed: 0,
            rechecked: 0,
            polled: 0,
            settled: 0,
            answered: 0,
            in_flight: None,
            last_start: None,
            unsettled_since: None,
            settled_at: None,
            failures: 0,
            retry_at: None,
            refusal: None,
            later: Vec::new(),
            recheck_at: None,
            poll_at: None,
            state: None,
            refetched: false,
            unseen: Unseen::default(),
            stale: false,
            used_up: false,
        }
    }

    /// Another pace from now on. What was announced so far is to be shown, if changes are shown now.
    pub fn set_pace(&mut self, now: Instant, pace: Pace) {
        let shows = self.pace.notify && !pace.notify && !self.used_up;
        let before = std::mem::replace(&mut self.pace, pace);
        if self.used_up {
            self.fetch_no_more();
        }
        if shows {
            self.change(now, &[]);
        }
        if before.recheck != self.pace.recheck {
            self.recheck_at = self.settled_at.and_then(|at| self.pace.recheck_after(at));
        }
        if before.poll != self.pace.poll {
            self.poll_at = self.settled_at.and_then(|at| self.pace.poll_after(at));
        }
    }

    /// Changes can be announced, and there is no credential to see them with.
    fn fetch_no_more(&mut self) {
        self.used_up = true;
        self.pace.notify = true;
        self.pace.recheck = None;
        self.pace.poll = None;
    }

    /// What is shown may be another's now: nothing that was learnt of the last upstream counts.
    pub fn begin_again(&mut self, now: Instant) {
        self.in_flight = None;
        self.failures = 0;
        self.retry_at = None;
        self.refusal = None;
        self.change(now, &[]);
    }

    pub fn state(&self) -> Option<&Arc<State>> {
        self.state.as_ref()
    }

    /// The state that a fetch may be told not to send again.
    pub fn validated(&self) -> Option<&Arc<State>> {
        // Its content is to be shown, and is not here.
        let unseen = |state: &State| state.content == Content::Unseen && !self.pace.notify;
        self.state.as_ref().filter(|state| !unseen(state))
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
        self.changed = self.want(now);
        self.ask_at(settle.iter().map(|delay| now + *delay));
    }

    /// A change that came before this view did will be seen at these times, if not now.
    pub fn ask_at(&mut self, times: impl Iterator<Item = Instant>) {
        self.later.extend(times);
        self.later.sort_unstable();
        let surplus = self.later.len().saturating_sub(MAX_LATER);
        self.later.drain(..surplus);
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
            self.changed = self.want(now);
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            self.rechecked = self.want(now);
        }
        if self.in_flight.is_some() {
            return Step::Rest;
        }
        // Whatever else is wanted is a look, too.
        if self.wanted == self.settled && self.poll_at.is_some_and(|at| at <= now) {
            self.poll_at = None;
            self.polled = self.want(now);
        }
        if self.wanted == self.settled {
            let times = [self.later.first().copied(), self.recheck_at, self.poll_at];
            return times.into_iter().flatten().min().map_or(Step::Rest, Step::WaitUntil);
        }
        if self.urgent > self.answered {
            let held_off = self.refusal.as_ref().is_some_and(|(until, _)| *until > now);
            return if held_off { Step::Repeat } else { Step::Fetch };
        }
        let spaced = self.last_start.map(|at| at + self.pace.min_interval);
        let at = spaced.into_iter().chain(self.retry_at).max().unwrap_or(now);
        match at <= now {
            true if self.is_to_be_announced() => Step::Announce,
            true => Step::Fetch,
            false => Step::WaitUntil(at),
        }
    }

    /// Only a change can be announced unseen: a credential is judged by a fetch.
    fn is_to_be_announced(&self) -> bool {
        self.pace.notify
            && self.state.is_some()
            && self.changed > self.settled
            && self.rechecked <= self.settled
    }

    pub fn start(&mut self, now: Instant) {
        self.in_flight = Some(self.wanted);
        self.last_start = Some(now);
    }

    /// Whether nothing is wanted, now or at a known time.
    pub fn rests(&self) -> bool {
        self.wanted == self.settled && self.later.is_empty()
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

    /// What members hold now.
    pub fn live(&self) -> Option<Verdict> {
        Some(Verdict::Live { state: Arc::clone(self.state.as_ref()?), stale: self.stale })
    }

    /// Members are told of a change whose result nobody but they can see.
    pub fn announce(&mut self, now: Instant) -> Option<Verdict> {
        self.in_flight = Some(self.wanted);
        self.last_start = Some(now);
        let recheck_at = self.recheck_at;
        self.settle(now);
        self.recheck_at = recheck_at;
        self.state = Some(Arc::new(self.unseen.announced(self.state.as_deref())));
        self.live()
    }

    /// Whether the fetch under way is the first to start after this demand.
    fn meets(&self, demand: u64) -> bool {
        let meets = self.in_flight.unwrap_or(self.settled);
        demand > self.settled && demand <= meets
    }

    /// Whether a state of some time after `since` that did not come by a fetch is newer than the
    /// present one: that is of before `since`, no fetch is under way that could bring an older one
    /// after it, and nothing else has changed.
    pub fn takes(&self, since: Instant) -> bool {
        self.settled_at.is_some_and(|at| at < since)
            && self.in_flight.is_none()
            && self.wanted == self.settled
            && self.state.is_some()
            && !self.pace.notify
    }

    /// Shows `new`, if the view [takes](View::takes) it.
    pub fn replace(&mut self, new: State, since: Instant) -> Option<Verdict> {
        if !self.takes(since) {
            return None;
        }
        self.show(new);
        self.live()
    }

    fn show(&mut self, new: State) {
        self.state = Some(Arc::new(match &self.state {
            Some(old) if old.same_content(&new) => {
                // A new validator for old content: the client has this version.
                State { version: Arc::clone(&old.version), ..new }
            }
            _ => new,
        }));
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
                let (changed, polled) = (self.meets(self.changed), self.meets(self.polled));
                self.settle(now);
                if self.pace.notify {
                    let old = self.state.as_deref();
                    self.state = Some(Arc::new(self.unseen.fetched(old, new, changed, polled)));
                } else {
                    self.show(new);
                }
                self.live()
            }
            Answer::NotModified => {
                self.refetched = true;
                let changed = self.meets(self.changed);
                self.settle(now);
                if self.pace.notify && changed {
                    self.state = Some(Arc::new(self.unseen.announced(self.state.as_deref())));
                }
                self.live()
            }
            Answer::Refused(problem) => {
                let used_up = self.pace.single_use
                    && problem.http_status == Some(401)
                    && self.state.is_some()
                    && !self.refetched;
                if used_up {
                    self.fetch_no_more();
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
        self.settled_at = Some(now);
        self.answered = self.answered.max(met);
        self.unsettled_since = (self.wanted > met).then_some(now);
        self.failures = 0;
        self.retry_at = None;
        self.refusal = None;
        self.stale = false;
        self.recheck_at = self.pace.recheck_after(now);
        self.poll_at = self.pace.poll_after(now);
    }

    fn fail(&mut self, now: Instant, problem: Problem) -> Verdict {
        let started = self.in_flight.take().unwrap_or(self.answered);
        self.answered = self.answered.max(started);
        let backoff = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        let mut pause = self.pace.jittered(backoff);
        let problem = Arc::new(problem);
        if let Some(seconds) = problem.retry_after {
            let told = Duration::from_secs(seconds.min(3600));
            pause = pause.max(told);
            self.refusal = Some((now + told, Arc::clone(&problem)));
        }
        self.retry_at = Some(now + pause);
        Verdict::Failed(problem)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ErrorCode;
    use http::HeaderValue;
    use serde_json::value::RawValue;

    const MS: Duration = Duration::from_millis(1);

    fn pace() -> Pace {
        Pace {
            min_interval: 100 * MS,
            stale_after: Duration::from_secs(30),
            recheck: None,
            poll: None,
            spread: 0.5,
            notify: false,
            single_use: false,
        }
    }

    fn state(version: &str, json: &str) -> State {
        let data = Data(RawValue::from_string(json.to_owned()).unwrap());
        State::new(version.into(), Content::Data(data))
    }

    fn good(version: &str) -> Answer {
        Answer::State(state(version, &format!("{{\"v\":{version:?}}}")))
    }

    fn problem(status: u16, retry_after: Option<u64>) -> Problem {
        let status = http::StatusCode::from_u16(status).unwrap();
        Problem { retry_after, ..Problem::of_upstream(status, None) }
    }

    fn failed(retry_after: Option<u64>) -> Answer {
        Answer::Failed(problem(503, retry_after))
    }

    /// A view and a clock that moves when the test says.
    struct Fixture {
        view: View,
        now: Instant,
    }

    impl Fixture {
        fn new(pace: Pace) -> Self {
            Self { view: View::new(pace), now: Instant::now() }
        }

        /// Bound, fetched once, and long enough ago.
        fn live(pace: Pace) -> Self {
            let mut fixture = Self::new(pace);
            fixture.view.bind(fixture.now);
            fixture.fetch(good("a"));
            fixture.now += 100 * MS;
            fixture
        }

        fn step(&mut self) -> Step {
            self.view.step(self.now)
        }

        fn change(&mut self) {
            self.view.change(self.now, &[]);
        }

        fn start(&mut self) {
            assert_eq!(self.step(), Step::Fetch);
            self.view.start(self.now);
            assert_eq!(self.step(), Step::Rest, "one fetch at a time");
        }

        fn fetch(&mut self, answer: Answer) -> Option<Verdict> {
            self.start();
            self.view.finish(self.now, answer)
        }

        /// How long the view waits, where it does.
        fn waits(&mut self) -> Duration {
            match self.step() {
                Step::WaitUntil(at) => at - self.now,
                other => panic!("{other:?}"),
            }
        }

        fn version(&self) -> &str {
            &self.view.state().unwrap().version
        }
    }

    fn live(verdict: Option<Verdict>) -> (Arc<str>, bool) {
        match verdict {
            Some(Verdict::Live { state, stale }) => (Arc::clone(&state.version), stale),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_view_that_begins_again_waits_for_nothing_that_the_last_upstream_said() {
        let mut fixture = Fixture::live(pace());
        fixture.view.change(fixture.now, &[]);
        fixture.fetch(failed(Some(3600)));
        fixture.now += 100 * MS;
        assert!(fixture.waits() > Duration::from_secs(3000));
        fixture.view.begin_again(fixture.now);
        // Nor for the answer to what it had asked of it.
        fixture.start();
        assert_eq!(fixture.step(), Step::Rest);
        fixture.now += 100 * MS;
        fixture.view.begin_again(fixture.now);
        assert_eq!(fixture.step(), Step::Fetch);
    }

    #[test]
    fn another_pace_counts_at_once_and_a_credential_that_was_used_up_stays_so() {
        let every = Duration::from_secs(60);
        let mut fixture = Fixture::live(pace());
        assert_eq!(fixture.step(), Step::Rest);
        fixture.view.set_pace(fixture.now, Pace { recheck: Some(every), ..pace() });
        assert!(fixture.waits() < 2 * every);
        let mut fixture = Fixture::live(Pace { single_use: true, ..pace() });
        fixture.view.change(fixture.now, &[]);
        fixture.fetch(Answer::Refused(problem(401, None)));
        fixture.view.set_pace(fixture.now, Pace { recheck: Some(every), ..pace() });
        assert_eq!(fixture.step(), Step::Rest, "it is not shown, and not tried again");
    }

    #[test]
    fn a_view_that_nobody_wants_rests() {
        assert_eq!(Fixture::new(pace()).step(), Step::Rest);
    }

    #[test]
    fn a_bind_is_answered_only_by_a_fetch_that_started_after_it() {
        let mut f = Fixture::new(pace());
        let first = f.view.bind(f.now);
        f.start();
        let second = f.view.bind(f.now);
        f.view.finish(f.now, good("a"));
        assert_eq!(f.view.answered(), first);
        f.fetch(good("a"));
        assert_eq!(f.view.answered(), second);
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn a_change_during_a_fetch_makes_another_and_several_make_one() {
        let mut f = Fixture::live(pace());
        f.change();
        f.start();
        for _ in 0..10 {
            f.change();
        }
        f.view.finish(f.now, good("b"));
        assert_eq!(f.waits(), 100 * MS);
        f.now += 100 * MS;
        f.fetch(good("c"));
        assert_eq!(f.step(), Step::Rest);
        assert_eq!(f.version(), "c");
    }

    #[test]
    fn the_last_change_is_fetched_when_the_interval_has_passed_and_a_bind_waits_for_none() {
        let mut f = Fixture::live(pace());
        f.change();
        f.fetch(good("b"));
        f.now += 30 * MS;
        f.change();
        assert_eq!(f.waits(), 70 * MS);
        f.now += 60 * MS;
        f.change();
        assert_eq!(f.waits(), 10 * MS, "later changes do not put it off");
        f.view.bind(f.now);
        f.fetch(good("c"));
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn failures_are_repeated_ever_more_seldom_and_never_given_up() {
        let mut f = Fixture::live(pace());
        f.change();
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert!(matches!(f.fetch(failed(None)), Some(Verdict::Failed(_))));
            pauses.push(f.waits());
            f.now += *pauses.last().unwrap();
        }
        assert_eq!(pauses[..4], [250 * MS, 500 * MS, 1000 * MS, 2000 * MS]);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[19], LONGEST_RETRY);
        f.fetch(good("b"));
        f.change();
        f.now += 100 * MS;
        f.fetch(failed(None));
        assert_eq!(f.waits(), 250 * MS, "a success forgets the failures before it");
    }

    #[test]
    fn two_views_that_fail_together_come_back_apart() {
        let pause = |spread| {
            let mut f = Fixture::live(Pace { spread, ..pace() });
            f.change();
            f.fetch(failed(None));
            f.waits()
        };
        assert_eq!(pause(0.0), FIRST_RETRY.mul_f64(0.75));
        assert_eq!(pause(1.0), FIRST_RETRY.mul_f64(1.25));
    }

    #[test]
    fn retry_after_is_kept_and_repeated_to_those_who_bind_meanwhile() {
        let mut f = Fixture::live(pace());
        f.change();
        f.fetch(failed(Some(7)));
        assert_eq!(f.waits(), 7000 * MS);
        f.now += 6999 * MS;
        let demand = f.view.bind(f.now);
        assert_eq!(f.step(), Step::Repeat);
        let Some(Verdict::Failed(problem)) = f.view.repeat() else { panic!("not repeated") };
        assert_eq!(problem.retry_after, Some(7));
        assert_eq!(f.view.answered(), demand);
        assert_eq!(f.waits(), MS, "the demand is still to be met");
        f.now += MS;
        f.fetch(good("b"));
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn a_bind_does_not_wait_for_the_back_off_of_others() {
        let mut f = Fixture::live(pace());
        f.change();
        f.fetch(failed(None));
        f.view.bind(f.now);
        assert_eq!(f.step(), Step::Fetch);
    }

    #[test]
    fn what_is_not_known_for_long_is_stale_until_it_is() {
        let mut f = Fixture::live(pace());
        assert_eq!(f.view.stale_at(), None);
        f.change();
        let stale_at = f.view.stale_at().unwrap();
        assert_eq!(stale_at - f.now, Duration::from_secs(30));
        f.fetch(failed(None));
        f.change();
        assert_eq!(f.view.stale_at(), Some(stale_at), "neither failures nor changes put it off");
        assert_eq!(live(f.view.go_stale()), ("a".into(), true));
        assert_eq!(f.view.stale_at(), None, "told once");
        f.now += Duration::from_secs(30);
        assert_eq!(live(f.fetch(Answer::NotModified)), ("a".into(), false));
    }

    #[test]
    fn a_view_without_a_state_has_nothing_to_be_old() {
        let mut f = Fixture::new(pace());
        f.view.bind(f.now);
        f.fetch(failed(None));
        assert_eq!(f.view.stale_at(), None);
        assert!(f.view.go_stale().is_none());
    }

    #[test]
    fn a_change_is_asked_for_again_at_its_settle_times() {
        let mut f = Fixture::live(pace());
        f.view.change(f.now, &[250 * MS, 2000 * MS]);
        f.fetch(good("a"));
        assert_eq!(f.waits(), 250 * MS);
        f.now += 250 * MS;
        f.fetch(good("a"));
        assert_eq!(f.waits(), 1750 * MS);
        f.now += 1750 * MS;
        f.fetch(good("b"));
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn of_too_many_settle_times_the_latest_are_kept() {
        let mut f = Fixture::live(pace());
        let times: Vec<Duration> = (1..=20).rev().map(|n| n * 1000 * MS).collect();
        f.view.change(f.now, &times);
        f.fetch(good("b"));
        assert_eq!(f.waits(), 13_000 * MS);
    }

    #[test]
    fn a_quiet_view_is_rechecked_and_a_refusal_ends_it() {
        for status in [401, 403] {
            let recheck = Some(Duration::from_secs(60));
            let mut f = Fixture::live(Pace { recheck, ..pace() });
            let wait = f.waits();
            f.now += wait;
            f.fetch(good("a"));
            assert_eq!(f.waits(), Duration::from_secs(60));
            f.now += Duration::from_secs(60);
            let refused = f.fetch(Answer::Refused(problem(status, None)));
            assert!(matches!(refused, Some(Verdict::Ended(End::Refused(_)))), "{status}");
        }
    }

    const POLL: Duration = Duration::from_secs(5);

    fn polled() -> Pace {
        Pace { poll: Some(POLL), ..pace() }
    }

    #[test]
    fn a_polled_view_is_looked_at_so_long_after_the_last_good_fetch_and_not_in_between() {
        let mut f = Fixture::live(polled());
        assert_eq!(f.waits(), POLL - 100 * MS);
        f.now += POLL - 100 * MS;
        assert_eq!(live(f.fetch(good("b"))), ("b".into(), false));
        for _ in 0..10 {
            f.now += POLL - MS;
            assert_eq!(f.waits(), MS);
            f.change();
            f.fetch(good("c"));
            assert_eq!(f.waits(), POLL, "a view that is written often is not polled besides");
        }
        f.now += POLL;
        f.fetch(Answer::NotModified);
        assert_eq!(f.waits(), POLL);
    }

    #[test]
    fn a_poll_has_the_manners_of_every_fetch_that_nobody_waits_for() {
        let mut f = Fixture::live(Pace { min_interval: 2 * POLL, ..polled() });
        f.now += POLL;
        assert_eq!(f.waits(), POLL - 100 * MS, "min_interval");
        let mut f = Fixture::live(polled());
        f.now += POLL;
        f.fetch(failed(None));
        assert_eq!(f.waits(), FIRST_RETRY);
        f.now += FIRST_RETRY;
        f.fetch(failed(None));
        assert_eq!(f.waits(), 2 * FIRST_RETRY, "back-off");
        f.now += 2 * FIRST_RETRY;
        f.fetch(failed(Some(60)));
        assert_eq!(f.waits(), 12 * POLL, "Retry-After");
        f.view.change(f.now, &[POLL, 2 * POLL]);
        f.now += 2 * POLL;
        assert_eq!(f.waits(), 10 * POLL, "nor does a settle time come before");
        assert!(f.view.stale_at().is_some(), "what a poll cannot see is unknown");
        f.now += 10 * POLL;
        f.fetch(good("b"));
        assert_eq!((f.waits(), f.view.stale_at()), (POLL, None));
    }

    #[test]
    fn two_views_that_were_bound_together_are_polled_apart() {
        let wait = |spread| Fixture::live(Pace { spread, ..polled() }).waits() + 100 * MS;
        assert_eq!([wait(0.0), wait(1.0)], [POLL.mul_f64(0.75), POLL.mul_f64(1.25)]);
    }

    #[test]
    fn another_poll_counts_from_the_last_good_fetch_at_once() {
        let mut f = Fixture::live(pace());
        f.view.set_pace(f.now, polled());
        assert_eq!(f.waits(), POLL - 100 * MS);
        f.now += POLL;
        f.view.set_pace(f.now, Pace { poll: Some(POLL / 2), ..pace() });
        assert_eq!(f.step(), Step::Fetch);
        f.view.set_pace(f.now, pace());
        f.fetch(good("b"));
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn a_poll_tells_of_a_difference_where_changes_are_announced_and_of_nothing_else() {
        let mut f = Fixture::live(Pace { notify: true, ..polled() });
        let first = f.version().to_owned();
        for answer in [good("a"), Answer::NotModified, good("a")] {
            f.now += POLL;
            assert_eq!(live(f.fetch(answer)).0.as_ref(), first);
        }
        f.view.bind(f.now);
        assert_eq!(live(f.fetch(good("b"))).0.as_ref(), first, "a bind changes nothing");
        f.now += POLL;
        let second = live(f.fetch(good("b"))).0;
        assert_ne!(*second, *first, "though the bind has seen it");
        f.now += POLL;
        assert_eq!(live(f.fetch(good("b"))).0, second);
        f.change();
        f.now += 100 * MS;
        assert_eq!(f.step(), Step::Announce);
        f.view.announce(f.now);
        assert_eq!(f.waits(), POLL, "members look for themselves now");
    }

    #[test]
    fn what_is_to_be_shown_again_is_not_asked_for_by_the_validator_of_what_was_not() {
        let mut f = Fixture::new(Pace { notify: true, ..polled() });
        f.view.bind(f.now);
        let etag = Some(HeaderValue::from_static("\"a\""));
        f.fetch(Answer::State(State { etag: etag.clone(), ..state("a", "1") }));
        assert_eq!(f.view.validated().unwrap().etag, etag, "a poll is conditional");
        f.view.set_pace(f.now, polled());
        assert!(f.view.validated().is_none());
        f.now += 100 * MS;
        f.fetch(Answer::State(State { etag: etag.clone(), ..state("a", "1") }));
        assert_eq!(f.view.validated().unwrap().etag, etag);
    }

    #[test]
    fn a_credential_that_was_used_up_is_not_polled_with() {
        let mut f = Fixture::live(Pace { single_use: true, ..polled() });
        f.now += POLL;
        f.fetch(Answer::Refused(problem(401, None)));
        assert_eq!(f.step(), Step::Rest);
        f.view.set_pace(f.now, Pace { poll: Some(POLL / 2), ..pace() });
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn equal_content_keeps_its_version_and_takes_the_new_validator() {
        let mut f = Fixture::live(pace());
        f.change();
        let mut same = state("b", "{\"v\":\"a\"}");
        same.etag = Some(HeaderValue::from_static("\"b\""));
        assert_eq!(live(f.fetch(Answer::State(same))), ("a".into(), false));
        assert_eq!(f.view.state().unwrap().etag.as_ref().unwrap(), "\"b\"");
    }

    #[test]
    fn changes_are_announced_unseen_where_they_are_not_to_be_fetched() {
        let mut f = Fixture::live(Pace { notify: true, ..pace() });
        let first = f.version().to_owned();
        assert_eq!(f.view.state().unwrap().content, Content::Unseen);
        f.change();
        assert_eq!(f.step(), Step::Announce);
        let (second, _) = live(f.view.announce(f.now));
        assert_ne!(*second, *first);
        f.change();
        assert_eq!(f.waits(), 100 * MS);
        f.view.bind(f.now);
        let (third, _) = live(f.fetch(good("x")));
        assert_ne!(third, second, "the bind's fetch met the change, so the others are told");
        f.view.bind(f.now);
        assert_eq!(live(f.fetch(good("y"))).0, third, "a bind changes nothing");
        assert_eq!(f.step(), Step::Rest);
    }

    #[test]
    fn versions_of_unseen_states_do_not_come_again_in_another_life_of_the_view() {
        let version = || Fixture::live(Pace { notify: true, ..pace() }).version().to_owned();
        assert_ne!(version(), version());
    }

    #[test]
    fn a_credential_is_rechecked_where_changes_are_announced() {
        let recheck = Some(Duration::from_secs(60));
        let mut f = Fixture::live(Pace { notify: true, recheck, ..pace() });
        let version = f.version().to_owned();
        let wait = f.waits();
        f.now += wait / 2;
        f.change();
        assert_eq!(f.step(), Step::Announce);
        f.view.announce(f.now);
        assert_eq!(f.waits(), wait - wait / 2, "an announcement judges nobody");
        f.now += wait;
        let told = f.version().to_owned();
        assert_ne!(told, version);
        assert_eq!(live(f.fetch(good("b"))).0.as_ref(), told);
    }

    #[test]
    fn a_credential_that_was_used_up_by_the_bind_is_not_a_revoked_one() {
        let mut f = Fixture::live(Pace { single_use: true, ..pace() });
        f.change();
        let (version, _) = live(f.fetch(Answer::Refused(problem(401, None))));
        assert_ne!(&*version, "a");
        assert_eq!(f.view.state().unwrap().content, Content::Unseen);
        f.now += 100 * MS;
        f.change();
        assert_eq!(f.step(), Step::Announce);
    }

    #[test]
    fn a_refusal_ends_a_credential_that_was_good_for_a_second_fetch_or_is_forbidden() {
        let mut f = Fixture::live(Pace { single_use: true, ..pace() });
        f.change();
        f.fetch(good("b"));
        f.now += 100 * MS;
        f.change();
        let refused = f.fetch(Answer::Refused(problem(401, None)));
        assert!(matches!(refused, Some(Verdict::Ended(End::Refused(_)))));
        let mut f = Fixture::live(Pace { single_use: true, ..pace() });
        f.change();
        let refused = f.fetch(Answer::Refused(problem(403, None)));
        assert!(matches!(refused, Some(Verdict::Ended(End::Refused(_)))));
    }

    #[test]
    fn a_state_that_was_not_fetched_replaces_only_what_is_known_to_be_older() {
        let mut f = Fixture::live(pace());
        let began = f.now;
        assert_eq!(live(f.view.replace(state("b", "2"), began)), ("b".into(), false));
        f.change();
        assert!(f.view.replace(state("c", "3"), began).is_none(), "a fetch is wanted");
        f.start();
        assert!(f.view.replace(state("c", "3"), began).is_none(), "a fetch is under way");
        f.view.finish(f.now, good("d"));
        assert!(f.view.replace(state("c", "3"), began).is_none(), "a fetch saw what is newer");
        assert_eq!(f.version(), "d");
    }

    #[test]
    fn what_cannot_be_got_cannot_be_bound() {
        let mut f = Fixture::new(pace());
        f.view.bind(f.now);
        let unfit = Answer::NotBindable(Problem::new(ErrorCode::NotBindable, "no"));
        assert!(matches!(f.fetch(unfit), Some(Verdict::Ended(End::NotBindable(_)))));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Bind,
        Change(Vec<u16>),
        /// Time passes.
        Pass(u16),
        /// What the view says is to be done is done; a fetch starts.
        Go,
        Finish(bool, Option<u64>),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => Just(Act::Bind),
            2 => proptest::collection::vec(1u16..3000, 0..3).prop_map(Act::Change),
            3 => (0u16..2000).prop_map(Act::Pass),
            4 => Just(Act::Go),
            3 => (any::<bool>(), proptest::option::of(0u64..5))
                .prop_map(|(good, retry_after)| Act::Finish(good, retry_after)),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: what is wanted is never forgotten, and when the
        /// upstream is well again every demand is met by a fetch that started after it.
        #[test]
        fn no_demand_is_lost(
            acts in proptest::collection::vec(act(), 0..60),
            notify in any::<bool>(),
            recheck in proptest::option::of(1u64..4),
            poll in proptest::option::of(100u64..3000),
        ) {
            let recheck = recheck.map(Duration::from_secs);
            let poll = poll.map(Duration::from_millis);
            let mut f = Fixture::new(Pace { notify, recheck, poll, ..pace() });
            let mut last_change = None;
            let mut seen = None;
            for act in acts {
                match act {
                    Act::Bind => drop(f.view.bind(f.now)),
                    Act::Change(settle) => {
                        let settle: Vec<_> = settle.iter().map(|n| u32::from(*n) * MS).collect();
                        f.view.change(f.now, &settle);
                        last_change = Some(f.view.wanted);
                    }
                    Act::Pass(time) => f.now += u32::from(time) * MS,
                    Act::Go => go(&mut f, &mut seen),
                    Act::Finish(good_answer, retry_after) => if f.view.in_flight.is_some() {
                        let answer = if good_answer { good("a") } else { failed(retry_after) };
                        let met = f.view.in_flight;
                        f.view.finish(f.now, answer);
                        if good_answer { seen = met; }
                    }
                }
                let step = f.step();
                let owes = f.view.wanted > f.view.settled && f.view.in_flight.is_none();
                if let (Some(poll), Some(at)) = (poll, f.view.settled_at) {
                    let looked = f.view.wanted > f.view.settled || f.now < at + poll;
                    prop_assert!(looked, "{:?}", f.view);
                    if f.view.wanted == f.view.settled {
                        prop_assert!(step != Step::Rest, "nobody would wake it: {:?}", f.view);
                    }
                }
                prop_assert!(!(owes && step == Step::Rest), "{:?}", f.view);
                if let Step::WaitUntil(at) = step {
                    prop_assert!(at > f.now, "no busy waiting");
                }
                prop_assert!(f.view.settled <= f.view.answered && f.view.answered <= f.view.wanted);
                prop_assert_eq!(owes || f.view.in_flight.is_some(), f.view.unsettled_since.is_some());
            }
            // The upstream is well from now on.
            for _ in 0..200 {
                if f.view.in_flight.is_some() {
                    seen = f.view.in_flight;
                    f.view.finish(f.now, good("z"));
                }
                match f.step() {
                    Step::Rest => break,
                    Step::WaitUntil(_) if f.view.wanted == f.view.settled
                        && f.view.later.is_empty() => break,
                    Step::WaitUntil(at) => f.now = at,
                    Step::Fetch | Step::Announce | Step::Repeat => go(&mut f, &mut seen),
                }
            }
            prop_assert_eq!(f.view.settled, f.view.wanted);
            prop_assert_eq!(f.view.answered, f.view.wanted);
            prop_assert!(seen >= last_change, "{:?} {:?}", seen, last_change);
        }
    }

    fn go(f: &mut Fixture, seen: &mut Option<u64>) {
        match f.step() {
            Step::Rest | Step::WaitUntil(_) => {}
            Step::Fetch => f.view.start(f.now),
            Step::Announce => {
                *seen = Some(f.view.wanted);
                assert!(f.view.announce(f.now).is_some());
            }
            Step::Repeat => assert!(f.view.repeat().is_some()),
        }
    }
}
