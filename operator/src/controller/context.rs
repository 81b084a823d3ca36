//! What a reconcile needs, and why it may have to be repeated.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kube::runtime::{controller::Action, events::Recorder};
use rand::RngExt;

use super::report::Reported;
use crate::{
    answer, backoff::Failures, clients::Clients, config::Defaults, error::BrokerError,
    leftovers::Leftovers, patience::Patience, progress::Progress, rooms::Rooms,
};

/// The longest that a reconcile may take: more than all requests to a slow broker together, so that only one that hangs is ended.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(3);

/// What a reconcile needs.
pub struct Context {
    /// The API server and the brokers.
    pub clients: Clients,
    /// Writes events.
    pub recorder: Recorder,
    /// All rooms.
    pub rooms: Rooms,
    /// What rooms get unless their spec says otherwise.
    pub defaults: Defaults,
    /// The resync period: when a room in which nothing has changed is reconciled again.
    pub resync: Duration,
    /// How long a deleted room waits for a broker that cannot be cleared, after the last progress.
    pub cleanup_timeout: Duration,
    /// When that was.
    pub patience: Patience,
    /// What deleted rooms have left on brokers that could not be cleared.
    pub leftovers: Leftovers,
    /// The statuses that rooms got from this operator.
    pub reported: Reported,
    /// How often rooms have failed in a row.
    pub failures: Failures,
    /// When a reconcile last finished.
    pub progress: Arc<Progress>,
}

impl Context {
    /// The requeue after a success. Jitter keeps rooms that were created together from being reconciled together for ever.
    pub(crate) fn resync(&self) -> Action {
        Action::requeue(self.resync.mul_f64(rand::rng().random_range(0.8..=1.2)))
    }

    /// Forgets a room that has ended, by its `metadata.uid`.
    pub(super) fn forget(&self, uid: &str) {
        self.failures.reset(uid);
        self.patience.end(uid);
        self.clients.settled.forget(uid);
        self.clients.secrets.forget(uid);
        self.reported.forget(uid);
    }

    /// Forgets all rooms but these, by their `metadata.uid`. A room can end without a last reconcile: deleted before it had the finalizer, or by
    /// somebody who has removed the finalizer.
    pub(super) fn forget_others(&self, uids: &HashSet<String>) {
        self.failures.retain(uids);
        self.patience.retain(uids);
        self.clients.settled.retain(uids);
        self.clients.secrets.retain(uids);
        self.reported.retain(uids);
    }
}

/// Why a reconcile has to be repeated soon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not as the spec says; the status names it.
    #[error("{0}")]
    Incomplete(String),
    /// The operator does too much for other rooms of the broker's namespace. Nothing is reported yet.
    #[error(transparent)]
    Busy(BrokerError),
    /// The room's own resource could not be written.
    #[error("cannot write the ChatRoom: {}", answer::message(.0))]
    Room(#[from] kube::Error),
    /// The reconcile took longer than [`TIMEOUT`].
    #[error("the reconcile did not finish within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The watches have ended.
    #[error("the operator is stopping")]
    Stopping,
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::{
        Client,
        client::Body,
        runtime::events::{Recorder, Reporter},
    };

    use super::*;
    use crate::{
        apply::{RecentSecrets, Settled},
        broker::Brokers,
        cache::Cache,
        crd::ChatRoomStatus,
        metrics::Metrics,
    };

    fn context() -> Context {
        let nobody = tower::service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(kube::Error::LinesCodecMaxLineLengthExceeded)
        });
        let client = Client::new(nobody, "papo");
        let metrics = Metrics::default();
        Context {
            recorder: Recorder::new(client.clone(), Reporter::from("test")),
            leftovers: Leftovers::new(
                client.clone(),
                "papo",
                "l".to_owned(),
                None,
                metrics.clone(),
            ),
            clients: Clients {
                cache: Cache::new(&client).0,
                client,
                brokers: Brokers::default(),
                settled: Settled::default(),
                secrets: RecentSecrets::default(),
                metrics,
            },
            rooms: Rooms::default(),
            defaults: Defaults::default(),
            resync: Duration::ZERO,
            cleanup_timeout: Duration::from_mins(2),
            patience: Patience::default(),
            reported: Reported::default(),
            failures: Failures::default(),
            progress: Arc::default(),
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_room_that_is_gone() {
        let context = context();
        let (failures, patience) = (&context.failures, &context.patience);
        let settled = &context.clients.settled;
        for uid in ["there", "gone"] {
            failures.next_delay(uid);
            patience.begin(uid);
            settled.note(uid);
            let written = ObjectMeta {
                uid: Some(uid.to_owned()),
                resource_version: Some("1".to_owned()),
                ..ObjectMeta::default()
            };
            context.reported.note(&written, &ChatRoomStatus::default());
        }
        context.forget_others(&HashSet::from(["there".to_owned()]));
        for (uid, is_known) in [("there", true), ("gone", false)] {
            let timeout = context.cleanup_timeout;
            assert_eq!(failures.age(uid) > Duration::ZERO, is_known, "{uid}");
            let has_begun = patience.time_left(uid, timeout) < Some(timeout);
            assert_eq!(has_begun, is_known, "{uid}");
            assert_eq!(settled.has(uid), is_known, "{uid}");
            assert_eq!(context.reported.has(uid), is_known, "{uid}");
        }
    }
}
