//! How long a deleted room is kept for a broker that cannot be cleared: until the time-out has passed since the last progress.
//!
//! An operator that starts has all its patience: what an earlier one has waited for is not known.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::known::Known;

/// The last progress of each deleted room.
#[derive(Default)]
pub struct Patience(Known<Instant>);

impl Patience {
    /// Begins with the first attempt.
    pub(crate) fn begin(&self, uid: &str) {
        self.0
            .lock()
            .entry(uid.to_owned())
            .or_insert_with(Instant::now);
    }

    /// Whether there was an attempt.
    pub(crate) fn has_begun(&self, uid: &str) -> bool {
        self.0.has(uid)
    }

    /// Counts from this progress, if it is the latest.
    pub(crate) fn progressed(&self, uid: &str, at: Option<Instant>) {
        if let (Some(since), Some(at)) = (self.0.lock().get_mut(uid), at) {
            *since = at.max(*since);
        }
    }

    /// How much is left of the time-out; all of it before the first attempt. `None` if it has passed.
    pub(crate) fn time_left(&self, uid: &str, timeout: Duration) -> Option<Duration> {
        let waited = self.0.get(uid).map(|since| since.elapsed());
        let left = timeout.checked_sub(waited.unwrap_or_default())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// Forgets a room.
    pub(crate) fn end(&self, uid: &str) {
        self.0.forget(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.0.retain(uids);
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
        patience.0.set("a", ago(7_200).expect("a time"));
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
