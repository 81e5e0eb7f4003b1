//! A time-out that is set often and hardly ever comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Its timer is set anew only when it is due, so that a later deadline costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `deadline` has passed.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_due_at_whatever_deadline_was_asked_for_last() {
        let (mut alarm, begin) = (Alarm::default(), Instant::now());
        for (asked, seconds) in [(9, 3), (3, 3), (5, 8), (8, 8), (8, 20)] {
            let asked = begin + Duration::from_secs(asked);
            let before = std::future::poll_fn(|cx| Poll::Ready(alarm.poll(asked, cx))).await;
            assert_eq!(before.is_ready(), Instant::now() >= asked);
            let deadline = begin + Duration::from_secs(seconds);
            std::future::poll_fn(|cx| alarm.poll(deadline, cx)).await;
            assert_eq!(begin.elapsed().as_secs(), seconds);
        }
    }
}
