//! The reader: one task per server that fills the window from the broker, and continues where it was after a failure.

use std::{pin::pin, sync::Arc, time::Duration};

use papo_telemetry::Latch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::{Key, Log, Pushed, ReaderGuards, Unread, window::Window};
use crate::{
    backoff::Backoff,
    broker::{Attached, Broker, ReadError, Reader, Start, Stored},
    clock,
    metrics::Metrics,
};

/// How long the broker may deliver nothing although something is stored that was not read. Each time in a row that this was in vain it doubles,
/// up to [`MOST_PATIENCE`].
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_PATIENCE: Duration = Duration::from_mins(5);
/// How many times longer a reader is kept if its node can still deliver.
const PATIENCE_FACTOR: u32 = 3;
/// How often this is checked.
const CHECK: Duration = Duration::from_secs(1);

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
    pub(crate) unread: Unread,
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
        let mut patience = PATIENCE;
        loop {
            let before = self.log.end();
            let error = match self.read(&latch, &mut patience).await {
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
    async fn read(&self, latch: &Latch, patience: &mut Duration) -> Stopped {
        let mut attached = match self.attach().await {
            Ok(attached) => attached,
            Err(error) => return Stopped::Failed(error),
        };
        info!(epoch = %attached.epoch, bounds = ?attached.bounds, from = attached.from, "reading the log");
        let mut idle = pin!(self.guards.wait_until_idle(self.idle_timeout));
        let mut has_caught_up = false;
        let (mut read_at, mut is_kept, mut check) = (Instant::now(), false, interval(CHECK));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !has_caught_up && self.log.end().next >= Some(attached.bounds.end) {
                has_caught_up = true;
                self.log.set_idle(false);
                latch.ready();
            }
            let limit = if is_kept {
                MOST_PATIENCE.min(PATIENCE_FACTOR * *patience)
            } else {
                *patience
            };
            let read = {
                // A check does not cancel it: it may have asked the broker something that takes longer.
                let mut next = pin!(attached.reader.next());
                loop {
                    tokio::select! {
                        read = &mut next => break Some(read),
                        _ = check.tick() => if self.is_stalled(read_at, limit) {
                            break None;
                        },
                        () = &mut idle, if has_caught_up => {
                            self.log.set_idle(true);
                            return Stopped::Idle;
                        }
                    }
                }
            };
            match read {
                Some(Ok(records)) => {
                    self.append(&records);
                    (*patience, is_kept, read_at) = (PATIENCE, false, Instant::now());
                }
                Some(Err(error)) => return Stopped::Failed(error),
                None if !is_kept && attached.reader.can_deliver().await => is_kept = true,
                None => {
                    let cause = format!(
                        "the broker has delivered nothing for {} s, although there are messages that were not read",
                        limit.as_secs()
                    );
                    attached.reader.give_up();
                    *patience = MOST_PATIENCE.min(2 * *patience);
                    return Stopped::Failed(ReadError::Unavailable(cause));
                }
            }
        }
    }

    /// Whether something is stored that was not read for so long, and nothing else was read either.
    fn is_stalled(&self, read_at: Instant, patience: Duration) -> bool {
        let end = self.log.end_position();
        let since = self.unread.since(end.as_ref());
        since.is_some_and(|since| since.max(read_at).elapsed() >= patience)
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

#[cfg(test)]
mod tests {
    use papo_telemetry::Readiness;
    use prometheus_client::registry::Registry;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        broker::{local::Local, testing::Silent},
        log::testing::record,
    };

    /// Reads a log whose first readers get nothing.
    async fn read(silent_readers: usize, can_deliver: bool, unread: &Unread) -> (Silent, Log) {
        let broker = Silent::new(Local::new(1 << 20), silent_readers, can_deliver);
        let guards = ReaderGuards::default();
        let guard = guards.acquire();
        let log = Log::default();
        let reader = LogReader {
            broker: broker.clone(),
            log: log.clone(),
            guards,
            idle_timeout: Duration::from_hours(1),
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
            on_stored: |_: &Key, _| {},
            unread: unread.clone(),
        };
        let latch = Readiness::default().latch("log");
        tokio::spawn(async move {
            let _guard = guard;
            reader.run(latch).await;
        });
        let found = log.watch().wait_for(|end| end.next.is_some()).await;
        found.expect("a log");
        (broker, log)
    }

    /// The time until a record was read whose first two readers get nothing.
    async fn time_with_silent_readers(can_deliver: bool) -> Duration {
        let unread = Unread::default();
        let (broker, log) = read(2, can_deliver, &unread).await;
        let stored = broker.publish(Arc::new(record(1, "x")), None).await;
        stored.expect("stored");
        let _unread = unread.confirmed();
        let (mut end, began) = (log.watch(), Instant::now());
        let read = end.wait_for(|end| end.next == Some(1));
        let read = timeout(Duration::from_mins(2), read).await;
        read.expect("in time").expect("a log");
        assert_eq!(broker.given_up(), 2);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn reader_that_gets_nothing_of_what_is_stored_is_given_up() {
        // The first one after 5 s, the second one after 10 s.
        let time = time_with_silent_readers(false).await.as_secs();
        assert!((15..20).contains(&time), "{time} s");
    }

    #[tokio::test(start_paused = true)]
    async fn reader_whose_node_can_deliver_is_kept_longer() {
        // Three times as long.
        let time = time_with_silent_readers(true).await.as_secs();
        assert!((45..52).contains(&time), "{time} s");
    }

    #[tokio::test(start_paused = true)]
    async fn reader_of_a_quiet_log_is_kept() {
        let unread = Unread::default();
        let (broker, log) = read(0, true, &unread).await;
        sleep(Duration::from_mins(10)).await;
        assert_eq!((broker.given_up(), log.end().next), (0, Some(0)));
    }
}
