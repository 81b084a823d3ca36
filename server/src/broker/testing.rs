//! Brokers for tests: one takes its time to read the past, the other has readers that get nothing.

use std::{
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use papo_protocol::{Epoch, Record};
use tokio::{
    sync::{broadcast, watch},
    time::sleep,
};

use super::{
    Attached, Broker, PublishError, Publishing, ReadError, Reader, Signal, Start, Stored,
    TraceContext,
    local::{Local, LocalReader},
};

/// The in-process broker, which takes this long for each record of the past.
#[derive(Clone, Debug)]
pub(crate) struct Slow(pub(crate) Local, pub(crate) Duration);

impl Broker for Slow {
    type Reader = LocalReader;

    async fn attach(&self, start: Start) -> Result<Attached<LocalReader>, ReadError> {
        self.0.attach(start).await
    }

    async fn read(&self, epoch: &Epoch, offsets: Range<u64>) -> Result<Vec<Stored>, ReadError> {
        let records = self.0.read(epoch, offsets).await?;
        sleep(self.1 * u32::try_from(records.len()).expect("few records")).await;
        Ok(records)
    }

    fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        self.0.publish(record, trace)
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.0.signals()
    }

    fn publishing(&self) -> watch::Receiver<Publishing> {
        self.0.publishing()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// The in-process broker, whose first readers get nothing.
#[derive(Clone, Debug)]
pub(crate) struct Silent {
    local: Local,
    /// Readers that get nothing and are still to come.
    left: Arc<AtomicUsize>,
    /// What their node says.
    can_deliver: bool,
    given_up: Arc<AtomicUsize>,
}

/// A reader of it.
#[derive(Debug)]
pub(crate) struct SilentReader {
    reader: LocalReader,
    is_silent: bool,
    can_deliver: bool,
    given_up: Arc<AtomicUsize>,
}

impl Silent {
    pub(crate) fn new(local: Local, readers: usize, can_deliver: bool) -> Self {
        Self {
            local,
            can_deliver,
            left: Arc::new(AtomicUsize::new(readers)),
            given_up: Arc::default(),
        }
    }

    /// How many readers were given up.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::SeqCst)
    }
}

impl Reader for SilentReader {
    async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        self.reader.next().await
    }

    async fn can_deliver(&mut self) -> bool {
        self.can_deliver
    }

    fn give_up(&mut self) {
        self.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

impl Broker for Silent {
    type Reader = SilentReader;

    async fn attach(&self, start: Start) -> Result<Attached<SilentReader>, ReadError> {
        let Attached {
            epoch,
            bounds,
            from,
            reader,
        } = self.local.attach(start).await?;
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        let reader = SilentReader {
            reader,
            is_silent: left.is_ok(),
            can_deliver: self.can_deliver,
            given_up: self.given_up.clone(),
        };
        Ok(Attached {
            epoch,
            bounds,
            from,
            reader,
        })
    }

    async fn read(&self, epoch: &Epoch, offsets: Range<u64>) -> Result<Vec<Stored>, ReadError> {
        self.local.read(epoch, offsets).await
    }

    fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        self.local.publish(record, trace)
    }

    fn signal(&self, signal: Signal) {
        self.local.signal(signal);
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.local.signals()
    }

    fn publishing(&self) -> watch::Receiver<Publishing> {
        self.local.publishing()
    }

    async fn close(&self) {
        self.local.close().await;
    }
}
