//! Publishing: one task, one connection, confirms in a pipeline.
//!
//! Records wait in a queue until they are written, and among the unconfirmed until the broker confirms them. When the connection is
//! lost, all unconfirmed records are written again first, in their order and with their ids: the broker may have stored them or not,
//! and readers hide duplicates. Each caller waits no longer than the publish timeout; the record of a caller that has stopped
//! waiting is not written any more.
//!
//! The broker closes a channel on which it does not accept a record (`max_message_size`, permissions), with all that was not confirmed on
//! it, and does not say which record it was. The others must not share its fate: the publisher opens another channel of the same connection and
//! writes them again, one at a time at first, until the channel is closed with one record on it. This one is rejected for good.
//!
//! When the broker blocks publishers (a memory or disk alarm), the publisher waits on the connection that it has: the broker may
//! store what it was sent as soon as the alarm is over, and each further connection would send it the same records again.

mod pending;
mod task;
mod write;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use papo_protocol::{Record, topology as names};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{connection::Connector, topology::Topology};
use crate::broker::{PublishError, Publishing, Signal, TraceContext};
use pending::PendingRecord;
use task::Task;

/// Records that may wait to be written; more are rejected at once.
const QUEUE: usize = 16_384;
/// Signals that may wait; more are lost.
const SIGNALS: usize = 256;

/// The handle. Clones share the task.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    records: mpsc::Sender<PendingRecord>,
    signals: mpsc::Sender<Signal>,
    state: watch::Receiver<Publishing>,
    closing: CancellationToken,
    tasks: TaskTracker,
    timeout: Duration,
}

impl Publisher {
    /// The handle, and the future that the caller runs as a task among `tasks`.
    pub(super) fn new(
        connector: Arc<Connector>,
        topology: Arc<Topology>,
        timeout: Duration,
        tasks: TaskTracker,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (records, record_queue) = mpsc::channel(QUEUE);
        let (signals, signal_queue) = mpsc::channel(SIGNALS);
        let (report, state) =
            watch::channel(Publishing::Down("connecting to the broker".to_owned()));
        let closing = CancellationToken::new();
        let task = Task {
            connector,
            exchange: names::exchange(topology.objects.room()),
            topology,
            records: record_queue,
            signals: signal_queue,
            unconfirmed: BTreeMap::new(),
            sequence: 0,
            is_blocked: false,
            has_stalled: false,
            window: write::UNCONFIRMED,
            logged_at: None,
            state: report,
            closing: closing.clone(),
        };
        (
            Self {
                records,
                signals,
                state,
                closing,
                tasks,
                timeout,
            },
            task.run(),
        )
    }

    /// Queues a record; see [`crate::broker::Broker::publish`].
    pub(super) fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let (confirm, confirmed) = oneshot::channel();
        let written = Arc::new(AtomicBool::new(false));
        let pending = PendingRecord {
            record,
            trace,
            written: written.clone(),
            is_rewritten: false,
            confirm,
        };
        let queued = if self.closing.is_cancelled() {
            Err("the server is shutting down".to_owned())
        } else {
            self.records
                .try_send(pending)
                .map_err(|_| "too many messages are waiting for the broker".to_owned())
        };
        let (state, deadline) = (self.state.clone(), Instant::now() + self.timeout);
        async move {
            queued.map_err(PublishError::Unavailable)?;
            wait(confirmed, &written, deadline, &state).await
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // Lost when the queue is full or the task has ended, as signals may be.
        let _ = self.signals.try_send(signal);
    }

    pub(super) fn state(&self) -> watch::Receiver<Publishing> {
        self.state.clone()
    }

    /// Resolves once the publisher was closed and all records are settled.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let (closing, mut state) = (self.closing.clone(), self.state.clone());
        async move {
            closing.cancelled().await;
            // Ends with the task, which owns the other side of the channel.
            while state.changed().await.is_ok() {}
        }
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }
}

/// Waits for the confirm until the deadline. Giving up comes before checking whether the record was written, and the task does both
/// in the opposite order, so that a record that is reported as not stored is never written afterwards.
async fn wait(
    mut confirmed: oneshot::Receiver<Result<(), PublishError>>,
    written: &AtomicBool,
    deadline: Instant,
    state: &watch::Receiver<Publishing>,
) -> Result<(), PublishError> {
    if let Ok(result) = timeout_at(deadline, &mut confirmed).await {
        return result.unwrap_or(Err(PublishError::Unknown));
    }
    confirmed.close();
    if let Ok(result) = confirmed.try_recv() {
        return result;
    }
    if written.load(Ordering::SeqCst) {
        return Err(PublishError::Unknown);
    }
    Err(PublishError::Unavailable(match &*state.borrow() {
        Publishing::Down(reason) | Publishing::Blocked(reason) => reason.clone(),
        Publishing::Up => "the broker takes messages too slowly".to_owned(),
    }))
}
