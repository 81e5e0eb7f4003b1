//! What the upstream has said lately, and for how long it counts.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Answers that are remembered at one time; at the bound the oldest is forgotten.
const MOST: usize = 4096;

/// Answers by their question.
#[derive(Debug)]
pub struct Verdicts<Q, A> {
    answers: HashMap<Q, (Instant, A)>,
    /// In the order in which they were given; each question once.
    given: VecDeque<Q>,
}

impl<Q, A> Default for Verdicts<Q, A> {
    fn default() -> Self {
        Self { answers: HashMap::new(), given: VecDeque::new() }
    }
}

impl<Q: Hash + Eq + Clone, A: Clone> Verdicts<Q, A> {
    pub fn get(&self, question: &Q, now: Instant) -> Option<A> {
        let (until, answer) = self.answers.get(question)?;
        (now < *until).then(|| answer.clone())
    }

    pub fn put(&mut self, question: Q, answer: A, now: Instant, counts_for: Duration) {
        if counts_for.is_zero() {
            return;
        }
        if self.answers.insert(question.clone(), (now + counts_for, answer)).is_none() {
            self.given.push_back(question);
        }
        if self.given.len() > MOST
            && let Some(oldest) = self.given.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    /// Forgets what counts no more, as far as it is the oldest.
    pub fn sweep(&mut self, now: Instant) {
        while let Some(oldest) = self.given.front() {
            if self.get(oldest, now).is_some() {
                break;
            }
            self.answers.remove(oldest);
            self.given.pop_front();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_its_time_and_the_oldest_gives_way() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let second = Duration::from_secs(1);
        verdicts.put(0, "no", now, second);
        assert_eq!(verdicts.get(&0, now + second / 2), Some("no"));
        assert_eq!(verdicts.get(&0, now + second), None);
        verdicts.put(0, "yes", now + second, second);
        assert_eq!(verdicts.get(&0, now + second), Some("yes"));
        verdicts.put(1, "never", now, Duration::ZERO);
        assert_eq!(verdicts.get(&1, now), None);
        for question in 2..2 + MOST {
            verdicts.put(question, "yes", now, second);
        }
        assert_eq!(verdicts.get(&0, now), None);
        assert_eq!((verdicts.answers.len(), verdicts.given.len()), (MOST, MOST));
        verdicts.sweep(now + second);
        assert_eq!((verdicts.answers.len(), verdicts.given.len()), (0, 0));
    }
}
