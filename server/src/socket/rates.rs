//! A rate limit for each key, such as a sender or an address. Keys that have used nothing lately are forgotten.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::chat::{RateLimit, Used};

/// Entries of a [`Rates`] that are kept without looking for those that can go.
const SWEEP: usize = 1_024;
/// Entries that are kept at most. Beyond that all are forgotten: an attacker with as many addresses is not bounded by address.
const MOST: usize = 131_072;

/// A rate limit for each key. A key that has used nothing costs nothing.
pub(crate) struct Rates<K> {
    limit: RateLimit,
    used: Mutex<Swept<K>>,
}

struct Swept<K> {
    of: HashMap<K, Used>,
    /// When so many are kept, those that can go are looked for.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Rates<K> {
    /// `per_second` on average, `burst` at once, for each key.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            limit: RateLimit::new(per_second, burst),
            used: Mutex::new(Swept {
                of: HashMap::new(),
                sweep_at: SWEEP,
            }),
        }
    }

    /// Takes so many for a key, or returns how long to wait for them.
    pub(crate) fn take(&self, key: &K, count: u32, now: Instant) -> Result<(), Duration> {
        let mut used = self.used.lock();
        if let Some(used) = used.of.get_mut(key) {
            return self.limit.take(used, count, now);
        }
        if used.of.len() >= used.sweep_at {
            used.of.retain(|_, used| !used.is_nothing(now));
            if used.of.len() >= MOST {
                used.of.clear();
            }
            // A sweep is paid for by as many new keys as it has looked at.
            used.sweep_at = (2 * used.of.len()).clamp(SWEEP, MOST);
        }
        let mut first = Used::default();
        let taken = self.limit.take(&mut first, count, now);
        if taken.is_ok() {
            used.of.insert(key.clone(), first);
        }
        taken
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.used.lock().of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_used_nothing_for_long_are_forgotten() {
        let (rates, start) = (Rates::new(10, 10), Instant::now());
        for n in 0..100_000_u64 {
            let now = start + Duration::from_millis(n);
            rates.take(&n, 1, now).expect("a new key");
        }
        assert!(rates.len() <= SWEEP, "{} keys", rates.len());
    }

    #[test]
    fn so_many_keys_are_kept_at_once() {
        let (rates, now) = (Rates::new(1, 10), Instant::now());
        let most = (0..3 * MOST).map(|n| {
            rates.take(&n, 1, now).expect("a new key");
            rates.len()
        });
        assert_eq!(most.max(), Some(MOST));
    }
}
