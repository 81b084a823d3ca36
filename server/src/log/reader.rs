//! The reader: one task per server that fills the window from the broker, and continues where it was after a failure.

use std::{pin::pin, sync::Arc, time::Duration};

use papo_telemetry::Latch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Key, Log, Pushed, ReaderGuards, window::Window};
use crate::{
    backoff::Backoff,
    broker::{Attached, Broker, ReadError, Reader, Start, Stored},
    clock,
    metrics::Metrics,
};

/// Reads the log of a broker into memory.
///
/// `F` is called with the key and the offset of each message that was read, duplicate or not; a duplicate has the offset of
/// the message that is shown.
pub(crate) struct LogReader<B, F> {
    pub(crate) broker: B,
    pub(crate) log: Log,
    pub(crate) guards: ReaderGuards,
    /// How long the reader continues after the last guard was dropped.
    pub(crate) idle_timeout: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) on_stored: F,
}

/// Why the reader has stopped.
enum Stopped {
    /// The broker cannot be read.
    Failed(ReadError),
    /// No member needs the log.
    Idle,
}

impl<B: Broker, F: Fn(&Key, u64)> LogReader<B, F> {
    /// Reads for ever. The latch is ready while this server has all there is, or can have it when it is needed.
    pub(crate) async fn run(self, latch: Latch) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        latch.not_ready("the log has not been read yet");
        loop {
            let before = self.log.end();
            let error = match self.read(&latch).await {
                Stopped::Failed(error) => error,
                Stopped::Idle => {
                    debug!("stopped reading the log: this server has no members");
                    self.guards.wait_until_needed().await;
                    backoff.reset();
                    continue;
                }
            };
            latch.not_ready(format!("cannot read the log: {error}"));
            if self.log.end() != before {
                backoff.reset();
            }
            let wait = backoff.delay();
            warn!(%error, retry_in = ?wait, "cannot read the log");
            sleep(wait).await;
        }
    }

    /// Attaches where the window ends, and reads until that fails or is not needed any more.
    async fn read(&self, latch: &Latch) -> Stopped {
        let mut attached = match self.attach().await {
            Ok(attached) => attached,
            Err(error) => return Stopped::Failed(error),
        };
        info!(epoch = %attached.epoch, bounds = ?attached.bounds, from = attached.from, "reading the log");
        let mut idle = pin!(self.guards.wait_until_idle(self.idle_timeout));
        let mut has_caught_up = false;
        loop {
            if !has_caught_up && self.log.end().next >= Some(attached.bounds.end) {
                has_caught_up = true;
                self.log.set_idle(false);
                latch.ready();
            }
            tokio::select! {
                records = attached.reader.next() => match records {
                    Ok(records) => self.append(&records),
                    Err(error) => return Stopped::Failed(error),
                },
                () = &mut idle, if has_caught_up => {
                    self.log.set_idle(true);
                    return Stopped::Idle;
                }
            }
        }
    }

    /// Attaches, and replaces the window when it cannot be continued: another log, a shorter one, or a hole.
    async fn attach(&self) -> Result<Attached<B::Reader>, ReadError> {
        let end = self.log.end_position();
        let due = end.as_ref().map(|end| end.offset);
        let newest = Start::BeforeEnd(Window::WARM_UP);
        let start = end.map_or_else(|| newest.clone(), |end| Start::At(end.epoch, end.offset));
        let is_idle = self.log.end().is_idle;
        let attached = match self.broker.attach(start).await {
            // The log has grown by more than a window while the reader was idle.
            Ok(attached) if is_idle && attached.bounds.end - attached.from > Window::WARM_UP => {
                self.broker.attach(newest).await?
            }
            Ok(attached) if due == Some(attached.from) => return Ok(attached),
            Ok(attached) => attached,
            Err(error @ (ReadError::EpochChanged { .. } | ReadError::BeyondEnd { .. })) => {
                warn!(%error, "the log was replaced: members resume in the new one");
                self.broker.attach(newest).await?
            }
            Err(error) => return Err(error),
        };
        self.log.replace(&attached);
        Ok(attached)
    }

    fn append(&self, records: &[Stored]) {
        for (stored, pushed) in records.iter().zip(self.log.append(records)) {
            match pushed {
                Pushed::New(key) => {
                    self.observe(stored);
                    (self.on_stored)(&key, stored.offset);
                }
                Pushed::Duplicate { key, original } => {
                    debug!(offset = stored.offset, original, "hiding a duplicate");
                    self.metrics.duplicate();
                    (self.on_stored)(&key, original);
                }
                Pushed::Nothing => {}
            }
        }
    }

    fn observe(&self, stored: &Stored) {
        let Some(record) = &stored.record else { return };
        self.metrics.read_lag(clock::since_millis(record.at));
        if let Some(trace) = &stored.trace {
            let span = tracing::info_span!("deliver", otel.kind = "consumer", offset = stored.offset, id = %record.id);
            trace.set_parent_of(&span);
            span.in_scope(|| debug!("read from the log"));
        }
    }
}
