//! What a reconcile needs, and why it may have to be repeated.

use std::{sync::Arc, time::Duration};

use kube::runtime::{controller::Action, events::Recorder};
use rand::RngExt;

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
