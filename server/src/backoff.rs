//! How long to wait before trying again: exponentially longer, with full jitter, so that many servers do not try at once.

use std::time::Duration;

use rand::RngExt;

/// Waits between tries of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits up to `first` before the second try, doubling up to `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            tries: 0,
        }
    }

    /// It worked: begin anew.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// How long to wait before the next try: between half and the whole of the doubled bound.
    pub(crate) fn delay(&mut self) -> Duration {
        let bound = self
            .first
            .saturating_mul(1 << self.tries.min(16))
            .min(self.most);
        self.tries += 1;
        bound.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_begin_anew() {
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
