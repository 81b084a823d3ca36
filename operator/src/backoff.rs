//! Delays between attempts: of a watch, and of a room's reconcile.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use kube::runtime::utils::Backoff;
use rand::RngExt;

use crate::known::Known;

/// The delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest delay of a watch: a kind that is installed later is watched within so many seconds.
const LONGEST_OF_WATCH: Duration = Duration::from_secs(20);
/// The longest delay of a room: how long it may take to notice a broker that is back.
const LONGEST_OF_ROOM: Duration = Duration::from_mins(1);
/// The longest delay before a room that waits for its turn on its broker asks again. Rooms that are reconciled again and again must not overtake it.
const LONGEST_OF_TURN: Duration = Duration::from_secs(5);

/// The delay after so many earlier failures: doubles from [`FIRST`] to `longest`. Jitter takes away up to half of it.
pub(crate) fn delay(earlier_failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST.saturating_mul(1 << earlier_failures.min(10));
    doubled
        .min(longest)
        .mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// The delays of a watch. They begin again after a time without failures.
///
/// [`Backoff::reset`] does nothing. A watcher says that it begins before each list, and `StreamBackoff` takes that for a success: with kube's own
/// backoff a kind that is missing is asked for every second, for ever.
#[derive(Debug, Default)]
pub(crate) struct WatchBackoff {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now - last > 3 * LONGEST_OF_WATCH)
        {
            self.failures = 0;
        }
        let delay = delay(self.failures, LONGEST_OF_WATCH);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        Some(delay)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

/// The failures of rooms in a row.
#[derive(Default)]
pub struct Failures(Known<InARow>);

struct InARow {
    count: u32,
    /// How often the room has waited for its turn, which is no failure: the first failure after it is retried soon.
    turns: u32,
    first: Instant,
}

impl Failures {
    /// Forgets the failures of a room.
    pub(crate) fn reset(&self, uid: &str) {
        self.0.forget(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.0.retain(uids);
    }

    /// How long ago the first failure in a row was, or the first wait for a turn; zero without one.
    pub(crate) fn age(&self, uid: &str) -> Duration {
        let failures = self.0.lock();
        failures
            .get(uid)
            .map(|failures| failures.first.elapsed())
            .unwrap_or_default()
    }

    /// Counts a failure of a room, and returns the delay before the next attempt.
    pub(crate) fn next_delay(&self, uid: &str) -> Duration {
        self.count(uid, LONGEST_OF_ROOM, |it| &mut it.count)
    }

    /// Counts that a room has waited for its turn on its broker, and returns the delay before it asks again.
    pub(crate) fn next_turn(&self, uid: &str) -> Duration {
        self.count(uid, LONGEST_OF_TURN, |it| &mut it.turns)
    }

    fn count(
        &self,
        uid: &str,
        longest: Duration,
        counter: impl Fn(&mut InARow) -> &mut u32,
    ) -> Duration {
        let mut failures = self.0.lock();
        let failures = failures.entry(uid.to_owned()).or_insert_with(|| InARow {
            count: 0,
            turns: 0,
            first: Instant::now(),
        });
        let counter = counter(failures);
        let delay = delay(*counter, longest);
        *counter = counter.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_delay_doubles_up_to_the_longest_despite_resets() {
        let mut backoff = WatchBackoff::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0] {
            let delay = backoff.next().expect("it never gives up").as_secs_f64();
            assert!(
                (expected / 2.0..=expected).contains(&delay),
                "{delay} {expected}"
            );
            backoff.reset();
        }
    }

    #[test]
    fn room_delay_doubles_per_room_until_reset() {
        let failures = Failures::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let delay = failures.next_delay("a").as_secs_f64();
            assert!(
                (expected / 2.0..=expected).contains(&delay),
                "{delay} {expected}"
            );
        }
        assert!(failures.next_delay("b") <= FIRST);
        for _ in 0..10 {
            assert!(failures.next_turn("c") <= LONGEST_OF_TURN);
        }
        assert!(
            failures.next_delay("c") <= FIRST,
            "it has waited, not failed"
        );
        failures.reset("a");
        assert!(failures.next_delay("a") <= FIRST);
    }
}
