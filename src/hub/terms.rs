//! What a binding has that few have: it is told what changed, or of members, or ends by itself.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use super::items::Told;
use super::mirror::Binding;

/// Made when it is first needed; of most bindings never.
#[derive(Debug, Default)]
pub struct Terms {
    /// Changes may come as patches.
    pub(super) delta: Cell<bool>,
    /// How far the client was told of members, if it is.
    pub(super) told: Cell<Option<Told>>,
    life: Cell<Option<Life>>,
}

/// How long a binding lasts, if nobody asks for it again.
#[derive(Debug, Clone, Copy)]
struct Life {
    begin: Instant,
    /// What the client asked for.
    asked: Option<Duration>,
    end: Option<Instant>,
}

impl Life {
    fn new(begin: Instant, asked: Option<Duration>, most: Option<Duration>) -> Self {
        let length = asked.into_iter().chain(most).min();
        Self { begin, asked, end: length.and_then(|length| begin.checked_add(length)) }
    }
}

impl Terms {
    /// The client asks for the binding at `now`; its path allows no more than `most`.
    pub fn begin(&self, now: Instant, asked: Option<Duration>, most: Option<Duration>) {
        let has_end = asked.is_some() || most.is_some();
        self.life.set(has_end.then(|| Life::new(now, asked, most)));
    }

    /// Its path allows no more than `most` from now on, counted from when the client asked or, where
    /// its end was never spoken of, from `now`.
    pub fn limit(&self, now: Instant, most: Option<Duration>) {
        let life = match (self.life.get(), most) {
            (Some(life), _) => Some(Life::new(life.begin, life.asked, most)),
            (None, Some(_)) => Some(Life::new(now, None, most)),
            (None, None) => None,
        };
        self.life.set(life);
    }

    pub fn end(&self) -> Option<Instant> {
        self.life.get()?.end
    }
}

impl Hub {
    /// Whether changes may come to the binding as patches.
    pub fn set_delta(&self, binding: &Binding, delta: bool) {
        if binding.takes_patches() == delta {
            return;
        }
        binding.own_terms().delta.set(delta);
        match binding.mirror() {
            Some(mirror) if delta => mirror.follow(self.options().history),
            Some(mirror) => mirror.unfollow(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_what_is_asked_and_what_is_allowed_counts() {
        let (terms, now) = (Terms::default(), Instant::now());
        let seconds = Duration::from_secs;
        for (asked, most, expected) in [
            (None, None, None),
            (Some(60), None, Some(60)),
            (None, Some(30), Some(30)),
            (Some(60), Some(30), Some(30)),
            (Some(20), Some(30), Some(20)),
        ] {
            terms.begin(now, asked.map(seconds), most.map(seconds));
            assert_eq!(terms.end(), expected.map(|end| now + seconds(end)), "{asked:?} {most:?}");
        }
        terms.begin(now, Some(Duration::MAX), None);
        assert_eq!(terms.end(), None, "an end that no clock reaches");
    }

    #[test]
    fn another_limit_counts_from_the_same_beginning() {
        let (terms, now) = (Terms::default(), Instant::now());
        let seconds = Duration::from_secs;
        let later = now + seconds(100);
        terms.begin(now, Some(seconds(60)), None);
        for (most, end) in [(Some(10), 10), (Some(90), 60), (None, 60)] {
            terms.limit(later, most.map(seconds));
            assert_eq!(terms.end(), Some(now + seconds(end)), "{most:?}");
        }
        terms.begin(now, None, Some(seconds(10)));
        terms.limit(later, None);
        assert_eq!(terms.end(), None);
        terms.limit(later, Some(seconds(30)));
        assert_eq!(terms.end(), Some(now + seconds(30)));
        // Of one that was to last for ever, the end was never spoken of.
        terms.begin(now, None, None);
        terms.limit(later, None);
        terms.limit(later, Some(seconds(30)));
        assert_eq!(terms.end(), Some(later + seconds(30)));
    }
}
