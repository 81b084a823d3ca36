//! Draining: closes the members of a shard one by one over a period, so that they do not reconnect all at once.

use std::{future, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

/// How often some members are closed.
const STEP: Duration = Duration::from_millis(50);

/// A drain that is under way.
pub(super) struct Drain {
    steps: Interval,
    began: Instant,
    period: Duration,
    /// Members at its beginning.
    members: usize,
    closed: usize,
    done: oneshot::Sender<()>,
}

impl Drain {
    pub(super) fn begin(members: usize, period: Duration, done: oneshot::Sender<()>) -> Self {
        let began = Instant::now();
        let mut steps = interval_at(began + STEP, STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            steps,
            began,
            period,
            members,
            closed: 0,
            done,
        }
    }

    /// How many of the `left` members to close now. The last one is due when the period ends, so that each has had the time to
    /// leave by itself.
    pub(super) fn due(&mut self, left: usize) -> usize {
        let elapsed = self.began.elapsed();
        if elapsed >= self.period {
            return left;
        }
        let share = self.members as u128 * elapsed.as_millis() / self.period.as_millis().max(1);
        let due = usize::try_from(share)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.closed)
            .min(left);
        self.closed += due;
        due
    }

    pub(super) fn finish(self) {
        // The caller may have stopped waiting.
        let _ = self.done.send(());
    }
}

/// Waits until the next members are due; for ever if nothing drains.
pub(super) async fn next_step(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => {
            drain.steps.tick().await;
        }
        None => future::pending().await,
    }
}
