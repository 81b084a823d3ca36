//! The flush timer: how soon one flush of a shard follows the other.
//!
//! A flush costs one system call for each member, whether it writes one message or twenty. So after a flush messages gather for
//! a little longer than the flush took ([`GATHERING`]), and share the next one: flushes take less than half of the time, and a message waits
//! at most [`LONGEST`] longer. A message that comes later than that does not wait.

use std::time::Duration;

use tokio::{
    sync::watch::error::RecvError,
    time::{Instant, timeout_at},
};

use crate::log::{End, EndWatch};

/// How long messages gather, in times that the last flush took.
const GATHERING: f64 = 1.25;
/// The longest time between two flushes with messages waiting.
const LONGEST: Duration = Duration::from_millis(10);
/// This many messages are flushed at once.
const ENOUGH: u64 = 32;

/// When the next flush is due.
#[derive(Debug)]
pub(super) struct FlushTimer {
    /// The end of the log when the last flush began.
    flushed_to: End,
    /// Until when messages gather.
    until: Instant,
}

impl FlushTimer {
    /// A timer before the first flush.
    pub(super) fn new() -> Self {
        Self {
            flushed_to: End::default(),
            until: Instant::now(),
        }
    }

    /// The end of the log when the last flush began.
    pub(super) fn flushed_to(&self) -> End {
        self.flushed_to
    }

    /// A flush that `began` with this end of the log has ended now.
    pub(super) fn flushed(&mut self, end: End, began: Instant) {
        let now = Instant::now();
        self.flushed_to = end;
        self.until = now + (now - began).mul_f64(GATHERING).min(LONGEST);
    }

    /// Waits until a flush is due. Can be dropped and called again: no message is missed.
    pub(super) async fn due(&self, end: &mut EndWatch) -> Result<(), RecvError> {
        end.wait_for(|end| *end != self.flushed_to).await?;
        if Instant::now() < self.until {
            let enough = end.wait_for(|end| self.is_enough(end));
            if let Ok(enough) = timeout_at(self.until, enough).await {
                enough?;
            }
        }
        Ok(())
    }

    fn is_enough(&self, end: &End) -> bool {
        let waiting = end
            .next
            .unwrap_or(0)
            .saturating_sub(self.flushed_to.next.unwrap_or(0));
        end.generation != self.flushed_to.generation || waiting >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::advance;

    use super::*;
    use crate::log::{self, Log, Size};

    const MILLISECOND: Duration = Duration::from_millis(1);

    struct Fixture {
        log: Log,
        end: EndWatch,
        timer: FlushTimer,
    }

    /// A log of 100 records, and the timer after a flush that took this long.
    fn after(flush: Duration) -> Fixture {
        let log = log::testing::log(&(100..100), 100, Size::default());
        let (end, mut timer) = (log.watch(), FlushTimer::new());
        timer.flushed(log.end(), Instant::now() - flush);
        Fixture { log, end, timer }
    }

    impl Fixture {
        fn append(&self, messages: u64) {
            let next = self.log.end().next.unwrap_or_default();
            self.log.append_range(next..next + messages);
        }

        fn is_due(&mut self) -> bool {
            self.timer.due(&mut self.end).now_or_never().is_some()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_gather_a_little_longer_than_the_last_flush_took() {
        let mut fixture = after(4 * MILLISECOND);
        fixture.append(1);
        let started = Instant::now();
        assert!(!fixture.is_due());
        fixture.timer.due(&mut fixture.end).await.expect("a log");
        assert_eq!(started.elapsed(), 5 * MILLISECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn time_between_flushes_is_bounded() {
        let mut fixture = after(500 * MILLISECOND);
        fixture.append(1);
        let started = Instant::now();
        fixture.timer.due(&mut fixture.end).await.expect("a log");
        assert_eq!(started.elapsed(), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn message_after_the_gathering_is_flushed_at_once() {
        let mut fixture = after(4 * MILLISECOND);
        assert!(!fixture.is_due(), "no message has come");
        advance(5 * MILLISECOND).await;
        fixture.append(1);
        assert!(fixture.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn many_messages_are_flushed_at_once() {
        let mut fixture = after(10 * MILLISECOND);
        fixture.append(ENOUGH - 1);
        assert!(!fixture.is_due());
        fixture.append(1);
        assert!(fixture.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn replaced_log_is_flushed_at_once() {
        let mut fixture = after(10 * MILLISECOND);
        fixture.log.invalidate_cursors();
        assert!(fixture.is_due());
    }
}
