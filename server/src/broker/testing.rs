//! A broker for tests that takes its time to read the past.

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use papo_protocol::{Epoch, Record};
use tokio::{
    sync::{broadcast, watch},
    time::sleep,
};

use super::{
    Attached, Broker, PublishError, Publishing, ReadError, Signal, Start, Stored, TraceContext,
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
