//! Rate limits by key: one [`Rate`] for each key that has used some of its own lately.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use super::Rate;

/// Keys that are kept before the first search for those that are not needed.
const FEW: usize = 1_024;

/// A rate limit for each key. A key whose whole burst is available again costs no memory for long.
#[derive(Clone, Debug)]
pub struct Rates<K> {
    full: Rate,
    used: HashMap<K, Rate>,
    /// How many keys there may be before those that are not needed are removed.
    most: usize,
}

impl<K: Eq + Hash> Rates<K> {
    /// `per_second` on average and `burst` at once, both at least 1, for each key.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            full: Rate::new(per_second, burst),
            used: HashMap::new(),
            most: FEW,
        }
    }

    /// Takes one of a key, or returns how long to wait for it.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.used.len() >= self.most {
            self.used.retain(|_, rate| !rate.is_full(now));
            self.most = FEW.max(2 * self.used.len());
        }
        let rate = self.used.entry(key).or_insert_with(|| self.full.clone());
        rate.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_rate() {
        let (mut rates, now) = (Rates::new(10, 2), Instant::now());
        for key in ["a", "a", "b", "b"] {
            assert_eq!(rates.take(key, now), Ok(()), "{key}");
        }
        for key in ["a", "b"] {
            assert!(rates.take(key, now).is_err(), "{key}");
        }
    }

    #[test]
    fn unused_keys_are_forgotten_and_used_ones_kept() {
        let (mut rates, start) = (Rates::new(1, 2), Instant::now());
        for number in 0..100_000_u32 {
            let now = start + Duration::from_millis(number.into());
            assert_eq!(rates.take(number, now), Ok(()));
            assert!(rates.used.len() <= 2 * FEW, "{}", rates.used.len());
        }
        let now = start + Duration::from_secs(100);
        assert_eq!(rates.take(0, now), Ok(()));
        assert_eq!(rates.take(0, now), Ok(()));
        for number in 0..3_000 {
            let _ = rates.take(1_000_000 + number, now);
        }
        assert!(rates.take(0, now).is_err(), "it is not forgotten");
    }
}
