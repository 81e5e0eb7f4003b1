//! Channels on which the upstream decides who may do what: it is asked with the session's own
//! credential, once for all who want to know the same at the same time, and its answer counts for
//! the time that the rule gives it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use super::Session;
use super::channels::right_of;
use super::membership::Subscription;
use crate::audience::{Audience, Vary, Viewer};
use crate::body::RequestBody;
use crate::channel::{Permit, Right, Rule, Verdicts, Who, permit};
use crate::gate::{Action, Offence};
use crate::hub::fetch;
use crate::protocol::{ErrorCode, Message, Outgoing, Problem, Reason};
use crate::rejection::Rejection;

/// Questions of one worker that the upstream is asked at one time; the others wait.
const AT_ONCE: usize = 16;
/// The longest that an answer is waited for, if the upstream's own time-out is not shorter.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest body of a refusal that is passed on.
const REFUSAL_BYTES: usize = 1024;

/// Who wants what of which channel, and where that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    target: String,
    who: Audience,
}

type Answer = Result<(), Problem>;

/// What the sessions of one worker have asked.
pub(super) struct Asks {
    known: RefCell<Verdicts<Question, Answer>>,
    /// At most as many as there are messages that wait.
    under_way: RefCell<HashMap<Question, Rc<OnceCell<Said>>>>,
    places: Semaphore,
}

#[derive(Clone)]
struct Said {
    answer: Answer,
    /// The upstream has said yes or no; else nobody knows, and nobody may.
    is_verdict: bool,
}

impl Default for Asks {
    fn default() -> Self {
        Self {
            known: RefCell::default(),
            under_way: RefCell::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl Asks {
    /// What was said counts no more, nor what will be said to what was asked.
    pub(super) fn forget(&self) {
        self.known.borrow_mut().clear();
        self.under_way.borrow_mut().clear();
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.known.borrow_mut().sweep(now);
    }

    fn known(&self, question: &Question) -> Option<Answer> {
        self.known.borrow().get(question, Instant::now())
    }

    fn under_way(&self, question: &Question) -> Rc<OnceCell<Said>> {
        Rc::clone(self.under_way.borrow_mut().entry(question.clone()).or_default())
    }

    /// The first who hears the answer keeps it, unless it was forgotten meanwhile.
    fn heard(&self, question: &Question, cell: &Rc<OnceCell<Said>>, said: &Said, counts: Duration) {
        let mut under_way = self.under_way.borrow_mut();
        if under_way.get(question).is_some_and(|other| Rc::ptr_eq(other, cell)) {
            under_way.remove(question);
            if said.is_verdict {
                let (now, answer) = (Instant::now(), said.answer.clone());
                self.known.borrow_mut().put(question.clone(), answer, now, counts);
            }
        }
    }
}

/// Why a subscription is judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The session has another credential. As long as nobody has said no, it stays.
    OtherCredential,
    /// What let it in counts no more: it hears nothing until it may.
    Over(Reason),
    /// It is time. Where nobody can say, it stays until the next time.
    Time,
}

impl Session {
    fn question(&self, rule: &Rule, channel: &str, right: Right, viewer: &Viewer) -> Question {
        let who = viewer.audience(false, &Vary::default(), 0);
        Question { target: rule.question(channel, right), who }
    }

    /// What the upstream has said lately of what the message wants.
    pub(super) fn known_answer(&self, message: &Message) -> Option<Answer> {
        let services = self.sessions.services();
        let channel = message.channel.as_deref()?;
        let (rule, right) = (Rule::of(&services.channels, channel)?, right_of(message)?);
        let question = self.question(rule, channel, right, &self.viewer.borrow());
        self.sessions.asks.known(&question)
    }

    /// Asks the upstream for what the message wants. The session pays for it as for a request.
    pub(super) async fn ask_for(&self, message: &Message) -> Answer {
        let services = self.sessions.services();
        let viewer = Rc::clone(&self.viewer.borrow());
        let channel = message.channel.as_deref().unwrap_or_default();
        let rule = Rule::of(&services.channels, channel);
        let (Some(rule), Some(right)) = (rule, right_of(message)) else { return Ok(()) };
        if !viewer.credentials().is_empty() {
            self.may_authenticate()?;
        }
        self.pay(Action::Read, &viewer)?;
        let said = self.hear(rule, channel, right, &viewer).await;
        let is_refused = matches!(&said.answer, Err(problem) if problem.http_status == Some(401));
        if is_refused && !viewer.credentials().is_empty() {
            self.bad_credential();
        }
        said.answer
    }

    async fn hear(&self, rule: &Rule, channel: &str, right: Right, viewer: &Viewer) -> Said {
        let asks = &self.sessions.asks;
        let question = self.question(rule, channel, right, viewer);
        if let Some(answer) = asks.known(&question) {
            return Said { answer, is_verdict: true };
        }
        let cell = asks.under_way(&question);
        // If who asks is gone, the next one does.
        let said = cell.get_or_init(|| self.ask_upstream(&question.target, viewer)).await;
        asks.heard(&question, &cell, said, rule.ask_for);
        said.clone()
    }

    async fn ask_upstream(&self, target: &str, viewer: &Viewer) -> Said {
        let patience = self.sessions.hub.options().fetch_timeout.min(PATIENCE);
        match tokio::time::timeout(patience, self.exchange_question(target, viewer)).await {
            Ok(said) => said,
            Err(_) => Said {
                answer: Err(Problem::from(&Rejection::UpstreamTimeout("saying who may do this"))),
                is_verdict: false,
            },
        }
    }

    async fn exchange_question(&self, target: &str, viewer: &Viewer) -> Said {
        // The semaphore is never closed.
        let _place = self.sessions.asks.places.acquire().await.ok();
        let nobody_knows = |problem| Said { answer: Err(problem), is_verdict: false };
        let mut request = Request::new(RequestBody::Empty);
        match target.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => {
                let text = "the path that channels are asked for at is none";
                return nobody_knows(Problem::new(ErrorCode::UpstreamError, text));
            }
        }
        for (name, value) in viewer.request_fields() {
            request.headers_mut().append(name, value.clone());
        }
        let services = self.sessions.services();
        let (head, body) = match services.exchange.run(request, &self.client).await {
            Ok(response) => response.into_parts(),
            Err(rejection) => {
                if matches!(rejection, Rejection::RateLimited { .. }) {
                    services.gate.offend(self.client.ip, Offence::OverRate);
                }
                return nobody_knows(Problem::from(&rejection));
            }
        };
        if head.status.is_success() {
            return Said { answer: Ok(()), is_verdict: true };
        }
        let bytes = fetch::collect(body, REFUSAL_BYTES).await.ok();
        let data = bytes.and_then(|bytes| fetch::content(&head.headers, &bytes).ok());
        let problem = Problem::of_upstream(head.status, data);
        match head.status.as_u16() {
            401 | 403 | 404 => Said { answer: Err(problem), is_verdict: true },
            503 | 504 => {
                nobody_knows(Problem { retry_after: fetch::retry_after(&head.headers), ..problem })
            }
            _ => nobody_knows(Problem { code: ErrorCode::UpstreamError, ..problem }),
        }
    }

    /// Has the upstream asked again whether the session may stay on the channels that it decides about.
    pub(super) fn judge_channels(&self, occasion: Occasion) {
        let services = self.sessions.services();
        for subscription in self.channels.all() {
            let rule = Rule::of(&services.channels, &subscription.channel);
            if rule.is_some_and(|rule| rule.subscribe == Who::Ask) {
                self.judge(subscription, occasion);
            }
        }
    }

    /// However often that comes, one task sees to it: what came while the upstream was asked it asks
    /// once more, for what holds by then.
    pub(super) fn judge(&self, subscription: Rc<Subscription>, occasion: Occasion) {
        let Some(me) = self.me.upgrade() else { return };
        if matches!(occasion, Occasion::Over(_)) {
            subscription.withheld.set(true);
        }
        if subscription.trial.call(occasion) {
            self.sessions.tasks.spawn_local(async move {
                while let Some((occasion, call)) = subscription.trial.begin() {
                    if let Some(said) = me.hear_again(&subscription).await
                        && subscription.trial.ends(call)
                    {
                        me.conclude_on(&subscription, &said, occasion);
                    }
                }
            });
        }
    }

    /// What the upstream says of whether the session may stay; none once it has left.
    async fn hear_again(&self, subscription: &Rc<Subscription>) -> Option<Said> {
        let viewer = Rc::clone(&self.viewer.borrow());
        let services = self.sessions.services();
        let channel = &*subscription.channel;
        let said = match Rule::of(&services.channels, channel) {
            Some(rule) => Some(self.hear(rule, channel, Right::Subscribe, &viewer).await),
            None => None,
        };
        let is_there = self.channels.find(channel).is_some_and(|it| Rc::ptr_eq(&it, subscription));
        let Some(said) = said.filter(|_| is_there) else {
            subscription.trial.drop_it();
            return None;
        };
        if said.is_verdict && said.answer.is_err() {
            // Also of a credential that is not the session's any more: who changes it again and
            // again is not to stay by that.
            subscription.withheld.set(true);
        }
        Some(said)
    }

    fn conclude_on(&self, subscription: &Subscription, said: &Said, occasion: Occasion) {
        let reason = match occasion {
            _ if said.answer.is_ok() => {
                subscription.withheld.set(false);
                // It may have to be told what it has lost meanwhile.
                return self.owe_flush();
            }
            Occasion::Time if !said.is_verdict => return,
            _ if !said.is_verdict => Reason::Limit,
            Occasion::Over(reason) => reason,
            Occasion::OtherCredential | Occasion::Time => Reason::Forbidden,
        };
        self.end_subscription(&subscription.channel, reason);
    }

    /// Leaves a channel, and tells the client so.
    pub(super) fn end_subscription(&self, channel: &str, reason: Reason) {
        self.leave_channel(channel);
        self.send(&Outgoing {
            event: Some("channel:unsubscribe"),
            channel: Some(channel),
            reason: Some(reason),
            ..Outgoing::default()
        });
    }

    /// Sees to it that the upstream is asked again when it is time, if it is to be asked at all.
    pub(super) fn plan_recheck(&self) {
        let services = self.sessions.services();
        let asked = |subscription: &Rc<Subscription>| {
            let rule = Rule::of(&services.channels, &subscription.channel);
            matches!(permit(rule, Right::Subscribe, true), Ok(Permit::Ask))
        };
        let every = self.sessions.hub.options().recheck;
        let every = every.filter(|_| self.channels.all().iter().any(asked));
        match (every, self.channels.recheck()) {
            (Some(every), None) => {
                self.channels.recheck_at(Some(Instant::now() + every));
                let socket = self.socket();
                socket.sessions.arm(socket);
            }
            (None, Some(_)) => self.channels.recheck_at(None),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// When that is, in the first of the socket's namespaces.
    pub(super) fn first_recheck(&self) -> Option<Instant> {
        let of_parts = self.parts();
        let of_parts = of_parts.iter().filter_map(|part| part.channels.recheck());
        of_parts.chain(self.channels.recheck()).min()
    }

    /// Asks again, in whichever namespace it is time.
    pub(super) fn recheck_channels(&self, now: Instant) {
        self.parts().iter().for_each(|part| part.recheck_if_due(now));
        self.recheck_if_due(now);
    }

    fn recheck_if_due(&self, now: Instant) {
        if self.channels.recheck().is_some_and(|at| at <= now) {
            self.channels.recheck_at(None);
            self.judge_channels(Occasion::Time);
            self.plan_recheck();
        }
    }
}
