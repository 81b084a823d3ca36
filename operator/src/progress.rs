//! Whether rooms wait although the operator reconciles none of them. An operator that hangs must not look healthy.
//!
//! Whoever goes through all rooms anyway also says which there are, so that nothing is kept in memory about rooms that are gone.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt, runtime::reflector::Store};
use papo_telemetry::Latch;

use crate::{
    crd::{ChatRoom, LogReplicas, StoredRoom},
    finalizers,
    metrics::Metrics,
};

/// How often the waiting rooms are counted, at least.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often what is known of rooms that are gone is forgotten.
pub(crate) const FORGET_PERIOD: Duration = Duration::from_mins(5);

/// When a reconcile last finished, whether it succeeded or failed.
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

    /// When a reconcile last finished; when the operator started if none has.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches for a stall, and where it reports one.
pub(crate) struct Watchdog {
    /// The rooms of one scope.
    pub(crate) rooms: Store<StoredRoom>,
    /// The namespace of the scope; empty for all.
    pub(crate) namespace: String,
    /// How long rooms may wait without any reconcile finishing.
    pub(crate) limit: Duration,
    /// How often what is known of rooms that are gone is forgotten.
    pub(crate) forget_period: Duration,
    /// `/readyz`.
    pub(crate) latch: Latch,
    /// The gauges.
    pub(crate) metrics: Metrics,
}

impl Watchdog {
    /// Reports in `/readyz` and in gauges whether rooms wait for longer than the limit without any reconcile finishing. Calls `forget_others` with the
    /// `metadata.uid` of each room now and then. Never ends.
    pub(crate) async fn run(
        self,
        progress: Arc<Progress>,
        forget_others: impl Fn(&HashSet<String>),
    ) {
        let (mut stall, mut forgotten) = (Stall::default(), Instant::now());
        loop {
            let rooms = self.rooms.state();
            let waiting = rooms
                .iter()
                .filter(|stored| is_waiting(&stored.room))
                .count();
            self.metrics
                .log_replicas(&self.namespace, &log_replicas(&rooms));
            if forgotten.elapsed() >= self.forget_period {
                forgotten = Instant::now();
                forget_others(&rooms.iter().filter_map(|stored| stored.uid()).collect());
            }
            drop(rooms);
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

/// The replicas of all logs together, as the statuses say, and how many logs have fewer than they should.
fn log_replicas(rooms: &[Arc<StoredRoom>]) -> (LogReplicas, u32) {
    let mut sum = LogReplicas {
        desired: 0,
        members: 0,
        online: 0,
    };
    let mut incomplete = 0;
    let statuses = rooms
        .iter()
        .filter_map(|stored| stored.room.status.as_ref());
    for replicas in statuses.filter_map(|status| status.log_replicas) {
        sum.desired = sum.desired.saturating_add(replicas.desired);
        sum.members = sum.members.saturating_add(replicas.members);
        sum.online = sum.online.saturating_add(replicas.online);
        incomplete += u32::from(replicas.online < replicas.desired);
    }
    (sum, incomplete)
}

/// Whether the room's status is not about its latest spec, or its deletion waits for this operator.
fn is_waiting(room: &ChatRoom) -> bool {
    if room.meta().deletion_timestamp.is_some() {
        return finalizers::has(room);
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
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use kube::runtime::{reflector::store, watcher::Event};
    use papo_telemetry::Readiness;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        crd::{ChatRoomSpec, ChatRoomStatus},
        names,
    };

    #[tokio::test]
    async fn watchdog_says_which_rooms_there_are() {
        let (rooms, mut writer) = store();
        for name in ["a", "b"] {
            let room = json!({"metadata": {"name": name, "namespace": "team", "uid": format!("u-{name}")}, "spec": {}});
            let room = serde_json::from_value(room).expect("always");
            writer.apply_watcher_event(&Event::Apply(room));
        }
        let watchdog = Watchdog {
            rooms,
            namespace: String::new(),
            limit: Duration::from_millis(4),
            forget_period: Duration::from_millis(1),
            latch: Readiness::default().latch("progress"),
            metrics: Metrics::default(),
        };
        let (sender, mut rooms) = mpsc::unbounded_channel();
        let running = watchdog.run(Arc::default(), move |uids| {
            let _ = sender.send(uids.clone());
        });
        let known = tokio::select! {
            known = rooms.recv() => known,
            () = running => None,
            () = tokio::time::sleep(Duration::from_mins(1)) => None,
        };
        let both = ["u-a", "u-b"].map(str::to_owned);
        assert_eq!(known, Some(HashSet::from(both)));
    }

    #[test]
    fn deleted_room_waits_only_while_it_has_our_finalizer() {
        let mut room = ChatRoom::new("geral", ChatRoomSpec::default());
        room.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        room.metadata.finalizers = Some(vec!["others/theirs".to_owned()]);
        assert!(!is_waiting(&room));
        room.finalizers_mut().push(names::FINALIZER.to_owned());
        assert!(is_waiting(&room));
    }

    #[test]
    fn room_waits_until_its_latest_generation_is_observed() {
        let mut room = ChatRoom::new("geral", ChatRoomSpec::default());
        room.metadata.generation = Some(2);
        assert!(is_waiting(&room));
        let mut status = ChatRoomStatus {
            observed_generation: Some(1),
            ..ChatRoomStatus::default()
        };
        room.status = Some(status.clone());
        assert!(is_waiting(&room));
        status.observed_generation = Some(2);
        room.status = Some(status);
        assert!(!is_waiting(&room));
    }

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
