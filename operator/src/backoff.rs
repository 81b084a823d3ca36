//! Delays between attempts of a watch.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;
use rand::RngExt;

/// The delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest delay: a kind that is installed later is watched within so many seconds.
const LONGEST: Duration = Duration::from_secs(20);

/// Doubles the delay with every failure up to [`LONGEST`], and begins again after a time without failures.
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
        if self.last.is_some_and(|last| now - last > 3 * LONGEST) {
            self.failures = 0;
        }
        let delay = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        Some(delay.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_the_longest_despite_resets() {
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
}
