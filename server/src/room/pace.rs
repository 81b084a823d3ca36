//! The pace of a shard: how soon one pass over its members follows the other.
//!
//! A pass costs a system call for each member, whether it brings one message or twenty. So after a pass messages gather
//! for as long as it took, and share the next one: passes take at most half of the time, and a message waits at most
//! [`LONGEST`] longer. One that comes later than that waits for nothing.

use std::time::Duration;

use tokio::{
    sync::watch::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};

use super::Tail;

/// The longest rest.
const LONGEST: Duration = Duration::from_millis(10);
/// So many messages are worth a pass of their own.
const ENOUGH: u64 = 32;

/// When the next pass is due.
#[derive(Debug)]
pub(super) struct Pace {
    /// The tail that the last pass began with.
    served: Tail,
    /// Until when messages gather.
    until: Instant,
}

impl Pace {
    /// Nothing was served yet.
    pub(super) fn new() -> Self {
        Self {
            served: Tail::default(),
            until: Instant::now(),
        }
    }

    /// A pass that `began` with this tail has ended now.
    pub(super) fn passed(&mut self, served: Tail, began: Instant) {
        let now = Instant::now();
        self.served = served;
        self.until = now + (now - began).min(LONGEST);
    }

    /// Resolves when a pass is due. Can be dropped and called again: nothing is forgotten.
    pub(super) async fn due(&self, tail: &mut Receiver<Tail>) -> Result<(), RecvError> {
        tail.wait_for(|tail| *tail != self.served).await?;
        if Instant::now() < self.until {
            let enough = tail.wait_for(|tail| self.is_enough(tail));
            if let Ok(ended) = timeout_at(self.until, enough).await {
                ended?;
            }
        }
        Ok(())
    }

    fn is_enough(&self, tail: &Tail) -> bool {
        let waiting = tail
            .next
            .unwrap_or(0)
            .saturating_sub(self.served.next.unwrap_or(0));
        tail.generation != self.served.generation || waiting >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::{sync::watch, time::advance};

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    struct Log {
        tail: watch::Sender<Tail>,
        reader: Receiver<Tail>,
        pace: Pace,
    }

    /// A log, and the pace after a pass that took so long.
    fn after(pass: Duration) -> Log {
        let served = Tail {
            generation: 1,
            next: Some(100),
            asleep: false,
        };
        let (tail, reader) = watch::channel(served);
        let mut pace = Pace::new();
        pace.passed(served, Instant::now() - pass);
        Log { tail, reader, pace }
    }

    impl Log {
        fn say(&self, messages: u64) {
            self.tail
                .send_modify(|tail| tail.next = tail.next.map(|next| next + messages));
        }

        fn is_due(&mut self) -> bool {
            self.pace.due(&mut self.reader).now_or_never().is_some()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_pass_messages_gather_for_as_long_as_it_took() {
        let mut log = after(4 * MILLISECOND);
        log.say(1);
        let asked = Instant::now();
        assert!(!log.is_due());
        log.pace.due(&mut log.reader).await.expect("there is a log");
        assert_eq!(asked.elapsed(), 4 * MILLISECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_bounded() {
        let mut log = after(500 * MILLISECOND);
        log.say(1);
        let asked = Instant::now();
        log.pace.due(&mut log.reader).await.expect("there is a log");
        assert_eq!(asked.elapsed(), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_after_the_rest_waits_for_nothing() {
        let mut log = after(4 * MILLISECOND);
        assert!(!log.is_due(), "nothing has come");
        advance(4 * MILLISECOND).await;
        log.say(1);
        assert!(log.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn many_messages_are_worth_a_pass_at_once() {
        let mut log = after(10 * MILLISECOND);
        log.say(ENOUGH - 1);
        assert!(!log.is_due());
        log.say(1);
        assert!(log.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_begun_anew_is_told_at_once() {
        let mut log = after(10 * MILLISECOND);
        log.tail.send_modify(|tail| tail.generation += 1);
        assert!(log.is_due());
    }
}
