//! How long a deleted room is kept for a broker that cannot be cleared: until the time-out has passed since the last progress.
//!
//! An operator that starts has all its patience: what an earlier one has waited for is not known.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The last progress of each deleted room, by its `metadata.uid`.
#[derive(Default)]
pub struct Patience(Mutex<HashMap<String, Instant>>);

impl Patience {
    /// Begins with the first attempt.
    pub(crate) fn begin(&self, uid: &str) {
        self.lock()
            .entry(uid.to_owned())
            .or_insert_with(Instant::now);
    }

    /// Counts from this progress, if it is the latest.
    pub(crate) fn progressed(&self, uid: &str, at: Option<Instant>) {
        if let (Some(since), Some(at)) = (self.lock().get_mut(uid), at) {
            *since = at.max(*since);
        }
    }

    /// How much is left of the time-out; all of it before the first attempt. `None` if it has passed.
    pub(crate) fn time_left(&self, uid: &str, timeout: Duration) -> Option<Duration> {
        let waited = self.lock().get(uid).map(Instant::elapsed);
        let left = timeout.checked_sub(waited.unwrap_or_default())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// Forgets a room.
    pub(crate) fn end(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.lock().retain(|uid, _| uids.contains(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_from_the_last_progress() {
        let (patience, timeout) = (Patience::default(), Duration::from_hours(1));
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        patience.begin("a");
        assert!(patience.time_left("a", timeout) > Some(timeout / 2));
        assert_eq!(patience.time_left("a", Duration::ZERO), None);
        patience
            .lock()
            .insert("a".to_owned(), ago(7_200).expect("a time"));
        patience.begin("a");
        assert_eq!(patience.time_left("a", timeout), None, "it begins once");
        patience.progressed("a", ago(60));
        assert!(patience.time_left("a", timeout).is_some());
        patience.progressed("a", ago(10_000));
        assert!(
            patience.time_left("a", timeout).is_some(),
            "the latest counts"
        );
        patience.end("a");
        assert_eq!(patience.time_left("a", timeout), Some(timeout));
    }
}
