//! A rate limit: a number per second on average, and a burst.
//!
//! The generic cell rate algorithm (ITU-T I.371): one point in time per connection, no timer.

use std::time::{Duration, Instant};

/// A rate limit, and what is used of it.
#[derive(Clone, Debug)]
pub struct Rate {
    interval: Duration,
    tolerance: Duration,
    /// When the whole burst is available again.
    full_at: Option<Instant>,
}

impl Rate {
    /// `per_second` on average, `burst` at once; both at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * burst.max(1),
            full_at: None,
        }
    }

    /// Whether the whole burst is available.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }

    /// Takes one, or returns how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.interval;
        let used = full_at - now;
        if let Some(wait) = used
            .checked_sub(self.tolerance)
            .filter(|wait| !wait.is_zero())
        {
            return Err(wait);
        }
        self.full_at = Some(full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_after_the_burst_waits() {
        let (mut rate, now) = (Rate::new(10, 3), Instant::now());
        assert_eq!(
            [rate.take(now), rate.take(now), rate.take(now)],
            [Ok(()); 3]
        );
        assert_eq!(rate.take(now), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(now + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn rejected_attempts_cost_nothing() {
        let (mut rate, now) = (Rate::new(1, 1), Instant::now());
        assert_eq!(rate.take(now), Ok(()));
        for _ in 0..1000 {
            assert!(rate.take(now).is_err());
        }
        assert_eq!(rate.take(now + Duration::from_secs(1)), Ok(()));
    }

    proptest! {
        #[test]
        fn rate_stays_within_burst_and_average(
            per_second in 1_u32..1000, burst in 1_u32..100, steps in prop::collection::vec(0_u64..50, 1..300)
        ) {
            let (mut rate, start) = (Rate::new(per_second, burst), Instant::now());
            let (mut now, mut passed) = (start, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                passed += u32::from(rate.take(now).is_ok());
            }
            let earned = (now - start).as_secs_f64() * f64::from(per_second);
            prop_assert!(f64::from(passed) <= f64::from(burst) + earned + 1.0);
        }
    }
}
