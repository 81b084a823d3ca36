//! Publishing: stores a message, and learns its offset by reading it back.

use std::{future::Future, sync::Arc, time::Duration};

use futures::FutureExt;
use papo_protocol::{Epoch, Position, Record, event::Code};
use papo_telemetry::Latch;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{Instrument, info_span};

use super::{Room, pending::PendingPublish};
use crate::{
    broker::{Broker, PublishError, Publishing, TraceContext},
    chat::Rejection,
    fanout::Sink,
    log::{Key, Lookup},
    metrics::Metrics,
};

/// Where a message is in the log: what the acknowledgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The log.
    pub(crate) epoch: Epoch,
    /// The offset in it.
    pub(crate) offset: u64,
}

/// How long after the broker's confirm the record may take to be read back.
const READ_BACK: Duration = Duration::from_secs(10);

impl<B: Broker, S: Sink> Room<B, S> {
    /// Stores a message. It takes its place in the sender's order when this is called; the future resolves when the message is
    /// stored, or is rejected. A message that is in the log already, by sender and id, is not stored again. The record says how far
    /// the log was read to know that.
    pub(crate) fn publish(
        self: &Arc<Self>,
        record: Record,
    ) -> impl Future<Output = Result<Receipt, Rejection>> + Send + use<B, S> {
        let started = Instant::now();
        let key = Key::of(&record);
        let pending = self.pending.add(key.clone());
        let span = info_span!("publish", otel.kind = "producer", id = %record.id);
        let (stored_before, confirm) = match self.log.look_up(&key) {
            Lookup::Stored(position) => (Some(position), None),
            Lookup::Missing { since } => {
                let record = Arc::new(Record { since, ..record });
                let confirm = self.broker.publish(record, TraceContext::of(&span));
                (None, Some(confirm.boxed()))
            }
        };
        let (room, deadline) = (self.clone(), started + self.publish_timeout + READ_BACK);
        let finish = async move {
            let receipt = match (stored_before, confirm) {
                (Some(Position { epoch, offset }), _) => Ok(Receipt { epoch, offset }),
                (None, Some(confirm)) => room.wait(pending, confirm, deadline).await,
                (None, None) => Err(rejection(&PublishError::Unknown)),
            };
            room.metrics.published(
                receipt.as_ref().err().map(|rejection| rejection.code),
                started.elapsed(),
            );
            receipt
        };
        finish.instrument(span)
    }

    /// The record that is read back is the proof; the broker's answer only matters when it is an error.
    async fn wait(
        &self,
        mut pending: PendingPublish,
        confirm: impl Future<Output = Result<(), PublishError>>,
        deadline: Instant,
    ) -> Result<Receipt, Rejection> {
        tokio::select! {
            biased;
            offset = &mut pending.offset => return self.receipt(offset.ok()),
            confirm = confirm => if let Err(error) = confirm {
                // The record may have been read back while the broker's answer was on its way.
                return pending.offset.try_recv().ok().map_or_else(|| Err(rejection(&error)), |offset| self.receipt(Some(offset)));
            },
        }
        let _unread = self.unread.confirmed();
        let offset = timeout_at(deadline, &mut pending.offset).await;
        self.receipt(offset.ok().and_then(Result::ok))
    }

    fn receipt(&self, offset: Option<u64>) -> Result<Receipt, Rejection> {
        match (self.log.epoch(), offset) {
            (Some(epoch), Some(offset)) => Ok(Receipt { epoch, offset }),
            _ => Err(rejection(&PublishError::Unknown)),
        }
    }
}

fn rejection(error: &PublishError) -> Rejection {
    match error {
        PublishError::Unknown => Rejection::new(
            Code::Timeout,
            "the broker did not confirm in time: the message may be stored or not; retry with the same id",
        ),
        PublishError::Unavailable(cause) => Rejection::new(
            Code::Unavailable,
            format!("the message was not stored: {cause}; retry later"),
        ),
        // The broker's words name its objects and users: they are for the log.
        PublishError::Rejected(_) => Rejection::new(
            Code::NotAccepted,
            "the broker does not accept this message, and will not: do not send it again; the log of the server says why",
        ),
    }
}

/// Sets readiness and metrics to the state of the broker's publisher. A broker that blocks publishers blocks those of all
/// servers, so that nothing is gained by sending clients to another one: they stay, read, and get a rejection when they send.
pub(super) async fn watch_publisher(
    mut publishing: watch::Receiver<Publishing>,
    metrics: Arc<Metrics>,
    latch: Latch,
) {
    loop {
        let state = publishing.borrow_and_update().clone();
        metrics.broker_up(state == Publishing::Up);
        match state {
            Publishing::Up | Publishing::Blocked(_) => latch.ready(),
            Publishing::Down(reason) => latch.not_ready(reason),
        }
        if publishing.changed().await.is_err() {
            return latch.not_ready("the publisher has ended");
        }
    }
}
