//! The waits between tries of one thing: exponentially longer up to a bound, with jitter, so that many servers do not try at
//! once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The waits between tries.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: ExponentialBuilder,
    waits: ExponentialBackoff,
}

impl Backoff {
    /// Waits up to `first` before the second try, and twice as long before each that follows, up to `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        // The jitter adds up to as much again.
        let policy = ExponentialBuilder::new()
            .with_min_delay(first / 2)
            .with_max_delay(most / 2)
            .with_jitter()
            .without_max_times();
        Self {
            policy,
            waits: policy.build(),
        }
    }

    /// A try has succeeded: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.waits = self.policy.build();
    }

    /// How long to wait before the next try.
    pub(crate) fn delay(&mut self) -> Duration {
        self.waits.next().expect("tries are not counted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_until_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for bound in [100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.delay();
            assert!(
                delay <= Duration::from_millis(bound) && delay * 2 >= Duration::from_millis(bound),
                "{delay:?} {bound}"
            );
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(100));
    }
}
