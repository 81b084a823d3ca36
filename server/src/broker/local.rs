//! The broker in this process: for a first run and a laptop. The log, with an epoch of its own, ends with the process.

use std::{
    collections::VecDeque,
    future::{self, Future},
    ops::Range,
    sync::Arc,
};

use papo_protocol::{Epoch, Record};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::{
    Attached, Broker, PublishError, Publishing, ReadError, Reader, Signal, Start, Stored,
    TraceContext,
};

/// Signals that a subscriber may be behind before it loses the oldest.
const SIGNAL_BUFFER: usize = 256;
/// Most records in one batch of a reader.
const BATCH: usize = 1_000;

/// The in-process broker. Clones share one log.
#[derive(Clone, Debug)]
pub struct Local(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    epoch: Epoch,
    log: Mutex<Log>,
    /// The offset that the next record will get.
    next: watch::Sender<u64>,
    signals: broadcast::Sender<Signal>,
    publishing: watch::Sender<Publishing>,
}

#[derive(Debug)]
struct Log {
    first: u64,
    records: VecDeque<Stored>,
    bytes: u64,
    retention: u64,
    closed: bool,
}

impl Local {
    /// An empty log of a new epoch that retains about `retention` bytes of text.
    pub fn new(retention: u64) -> Self {
        Self(Arc::new(Shared {
            epoch: Epoch::from_bits(rand::random()),
            log: Mutex::new(Log {
                first: 0,
                records: VecDeque::new(),
                bytes: 0,
                retention,
                closed: false,
            }),
            next: watch::Sender::new(0),
            signals: broadcast::Sender::new(SIGNAL_BUFFER),
            publishing: watch::Sender::new(Publishing::Up),
        }))
    }
}

impl Log {
    fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn append(&mut self, record: Arc<Record>, trace: Option<TraceContext>) {
        let stored = Stored {
            offset: self.next(),
            record: Some(record),
            trace,
        };
        self.bytes += size(&stored);
        self.records.push_back(stored);
        while self.bytes > self.retention && self.records.len() > 1 {
            if let Some(oldest) = self.records.pop_front() {
                self.bytes -= size(&oldest);
                self.first += 1;
            }
        }
    }

    fn from(&self, offset: u64, most: usize) -> Vec<Stored> {
        let skipped = usize::try_from(offset.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.records
            .iter()
            .skip(skipped)
            .take(most)
            .cloned()
            .collect()
    }
}

/// Roughly what a record costs in memory.
fn size(stored: &Stored) -> u64 {
    let text = stored.record.as_ref().map_or(0, |record| record.text.len());
    (text + size_of::<Stored>() + size_of::<Record>() + 100) as u64
}

/// Reads the in-process log.
#[derive(Debug)]
pub struct LocalReader {
    shared: Arc<Shared>,
    at: u64,
    news: watch::Receiver<u64>,
}

impl Reader for LocalReader {
    async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        let ended = |_| ReadError::Unavailable("the log has ended".to_owned());
        self.news
            .wait_for(|next| *next > self.at)
            .await
            .map_err(ended)?;
        let records = self.shared.log.lock().from(self.at, BATCH);
        match records.first() {
            Some(first) if first.offset == self.at => {
                self.at += records.len() as u64;
                Ok(records)
            }
            _ => Err(ReadError::Unavailable(format!(
                "retention removed offset {} before it was read",
                self.at
            ))),
        }
    }
}

impl Broker for Local {
    type Reader = LocalReader;

    async fn attach(&self, start: Start) -> Result<Attached<LocalReader>, ReadError> {
        let log = self.0.log.lock();
        let bounds = log.first..log.next();
        let from = match start {
            Start::BeforeEnd(records) => bounds.end.saturating_sub(records),
            Start::At(epoch, _) if epoch != self.0.epoch => {
                return Err(ReadError::EpochChanged {
                    current: self.0.epoch.clone(),
                });
            }
            Start::At(_, offset) if offset > bounds.end => {
                return Err(ReadError::BeyondEnd { end: bounds.end });
            }
            Start::At(_, offset) => offset,
        };
        let from = from.max(bounds.start);
        let reader = LocalReader {
            shared: self.0.clone(),
            at: from,
            news: self.0.next.subscribe(),
        };
        Ok(Attached {
            epoch: self.0.epoch.clone(),
            bounds,
            from,
            reader,
        })
    }

    async fn read(&self, epoch: &Epoch, offsets: Range<u64>) -> Result<Vec<Stored>, ReadError> {
        if *epoch != self.0.epoch {
            return Err(ReadError::EpochChanged {
                current: self.0.epoch.clone(),
            });
        }
        let log = self.0.log.lock();
        let start = offsets.start.max(log.first);
        let count = usize::try_from(offsets.end.saturating_sub(start)).unwrap_or(usize::MAX);
        Ok(log.from(start, count))
    }

    fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        let mut log = self.0.log.lock();
        if log.closed {
            return future::ready(Err(PublishError::Unavailable(
                "the server is shutting down".to_owned(),
            )));
        }
        log.append(record, trace);
        self.0.next.send_replace(log.next());
        future::ready(Ok(()))
    }

    fn signal(&self, signal: Signal) {
        // Without a subscriber the signal is not needed.
        let _ = self.0.signals.send(signal);
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.0.signals.subscribe()
    }

    fn publishing(&self) -> watch::Receiver<Publishing> {
        self.0.publishing.subscribe()
    }

    async fn close(&self) {
        self.0.log.lock().closed = true;
    }
}
