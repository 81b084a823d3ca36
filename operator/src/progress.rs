//! Whether rooms wait although the operator reconciles none of them. An operator that hangs must not look healthy.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Resource, runtime::reflector::Store};
use papo_telemetry::Latch;

use crate::{crd::ChatRoom, finalize, metrics::Metrics};

/// How often the rooms are looked through, at least.
const INTERVAL: Duration = Duration::from_secs(5);

/// When a reconcile has last finished, in whatever way.
#[derive(Debug)]
pub struct Progress(Mutex<Instant>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Progress {
    /// Notes that a reconcile has finished.
    pub(crate) fn finished(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is watched for a stall, and where one is shown.
pub(crate) struct Watchdog {
    /// The rooms of one scope.
    pub(crate) rooms: Store<ChatRoom>,
    /// The namespace of the scope; empty for all.
    pub(crate) namespace: String,
    /// How long rooms may wait without any reconcile finishing.
    pub(crate) limit: Duration,
    /// `/readyz`.
    pub(crate) latch: Latch,
    /// The gauges.
    pub(crate) metrics: Metrics,
}

impl Watchdog {
    /// Says for ever in `/readyz` and in gauges whether rooms wait for longer than the limit without any reconcile finishing.
    pub(crate) async fn run(self, progress: &Progress) {
        let mut stall = Stall::default();
        loop {
            let waiting = self.rooms.state().iter().filter(|room| waits(room)).count();
            let lasts = stall.lasts(waiting, progress.last(), Instant::now());
            self.show(waiting, lasts.is_some_and(|lasts| lasts > self.limit));
            tokio::time::sleep(INTERVAL.min(self.limit / 4)).await;
        }
    }

    fn show(&self, waiting: usize, stalled: bool) {
        self.metrics.rooms_wait(&self.namespace, waiting, stalled);
        if stalled {
            self.latch.not_ready(format!(
                "rooms wait ({waiting}), and no reconcile has finished for more than {} s; restart the operator if this lasts",
                self.limit.as_secs()
            ));
        } else {
            self.latch.ready();
        }
    }
}

/// Whether the room's status is not about its latest spec, or its deletion waits for this operator.
fn waits(room: &ChatRoom) -> bool {
    if room.meta().deletion_timestamp.is_some() {
        return finalize::is_held(room);
    }
    let observed = room
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed != room.meta().generation
}

/// Since when rooms wait.
#[derive(Default)]
struct Stall {
    since: Option<Instant>,
}

impl Stall {
    /// For how long rooms have waited without a reconcile; `None` if none waits.
    fn lasts(&mut self, waiting: usize, last_reconcile: Instant, now: Instant) -> Option<Duration> {
        if waiting == 0 {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        Some(now.saturating_duration_since(since.max(last_reconcile)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_lasts_since_rooms_wait_or_the_last_reconcile() {
        let (start, mut stall) = (Instant::now(), Stall::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(stall.lasts(0, at(0), at(100)), None);
        assert_eq!(stall.lasts(1, at(0), at(100)), Some(Duration::ZERO));
        assert_eq!(
            stall.lasts(1, at(0), at(130)),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            stall.lasts(2, at(120), at(130)),
            Some(Duration::from_secs(10))
        );
        assert_eq!(stall.lasts(0, at(120), at(140)), None);
        assert_eq!(stall.lasts(1, at(120), at(500)), Some(Duration::ZERO));
    }
}
