//! Publishing: into the log, and back with the offset.

use std::{future::Future, sync::Arc, time::Duration};

use futures::FutureExt;
use papo_protocol::{Epoch, Record, event::Code};
use papo_telemetry::Latch;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, info_span};

use super::{Room, dedup::Key, fanout::Sink, outcome::Outcome};
use crate::{
    broker::{Broker, PublishError, Publishing, TraceContext},
    chat::Refusal,
};

/// Where a message stands: what the acknowledgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub epoch: Epoch,
    /// The place in it.
    pub offset: u64,
}

/// How long after the broker's confirmation the record may take to come back through the log.
const READ_BACK: Duration = Duration::from_secs(10);

impl<B: Broker, S: Sink> Room<B, S> {
    /// Puts a message into the log. It takes its place in the sender's order when this is called; the future resolves
    /// when the message is stored, or is refused. A message that is there already, by sender and id, is not put in again.
    pub fn publish(
        self: &Arc<Self>,
        record: Record,
    ) -> impl Future<Output = Result<Receipt, Refusal>> + Send + use<B, S> {
        let started = Instant::now();
        let key = Key::of(&record);
        let outcome = self.outcomes.expect(key.clone());
        let span = info_span!("publish", otel.kind = "producer", id = %record.id);
        let already = self.find(&key);
        let stored = already.is_none().then(|| {
            self.broker
                .publish(Arc::new(record), trace_context(&span))
                .boxed()
        });
        let (room, deadline) = (self.clone(), started + self.publish_timeout + READ_BACK);
        let finish = async move {
            let receipt = match (already, stored) {
                (Some(receipt), _) => Ok(receipt),
                (None, Some(stored)) => room.wait(outcome, stored, deadline).await,
                (None, None) => Err(refusal(&PublishError::Unknown)),
            };
            room.metrics.published(
                receipt.as_ref().err().map(|refusal| refusal.code),
                started.elapsed(),
            );
            receipt
        };
        finish.instrument(span)
    }

    fn find(&self, key: &Key) -> Option<Receipt> {
        let window = self.log.window.read();
        let window = window.as_ref()?;
        Some(Receipt {
            epoch: window.epoch().clone(),
            offset: window.find(key)?,
        })
    }

    /// Reading it back is the proof; the broker's word is only needed when it is a refusal.
    async fn wait(
        &self,
        mut outcome: Outcome,
        stored: impl Future<Output = Result<(), PublishError>>,
        deadline: Instant,
    ) -> Result<Receipt, Refusal> {
        tokio::select! {
            biased;
            offset = &mut outcome.offset => return self.receipt(offset.ok()),
            stored = stored => if let Err(error) = stored {
                // It may have come back while the broker's answer was on its way.
                return outcome.offset.try_recv().ok().map_or_else(|| Err(refusal(&error)), |offset| self.receipt(Some(offset)));
            },
        }
        let offset = timeout_at(deadline, &mut outcome.offset).await;
        self.receipt(offset.ok().and_then(Result::ok))
    }

    fn receipt(&self, offset: Option<u64>) -> Result<Receipt, Refusal> {
        let epoch = self
            .log
            .window
            .read()
            .as_ref()
            .map(|window| window.epoch().clone());
        match (epoch, offset) {
            (Some(epoch), Some(offset)) => Ok(Receipt { epoch, offset }),
            _ => Err(refusal(&PublishError::Unknown)),
        }
    }
}

fn refusal(error: &PublishError) -> Refusal {
    match error {
        PublishError::Unknown => Refusal::new(
            Code::Timeout,
            "the broker did not confirm in time: the message may be stored or not; retry with the same id",
        ),
        PublishError::Unavailable(cause) => Refusal::new(
            Code::Unavailable,
            format!("the message was not stored: {cause}; retry later"),
        ),
    }
}

fn trace_context(span: &tracing::Span) -> Option<TraceContext> {
    let mut context = TraceContext::default();
    papo_telemetry::inject(span, |header, value| match header {
        "traceparent" => context.parent = value,
        "tracestate" => context.state = value,
        _ => {}
    });
    (!context.parent.is_empty()).then_some(context)
}

/// Keeps readiness in step with the adapter's publisher. A broker that blocks publishers blocks all servers' alike, so that
/// sending people elsewhere gains nothing: they stay, read, and are told when they send.
pub(super) async fn watch_publisher<B: Broker, S: Sink>(room: &Room<B, S>, latch: Latch) {
    let mut publishing = room.broker.publishing();
    loop {
        let state = publishing.borrow_and_update().clone();
        room.metrics
            .broker_up
            .set(i64::from(state == Publishing::Up));
        match state {
            Publishing::Up | Publishing::Blocked(_) => latch.ready(),
            Publishing::Down(reason) => latch.not_ready(reason),
        }
        if publishing.changed().await.is_err() {
            return latch.not_ready("the publisher has ended");
        }
    }
}
