//! The log in RabbitMQ: the room's exchange and stream, shared by all its servers.
//!
//! Two connections: one that publishes, which a memory or disk alarm may block, and one that reads. Both are made again
//! here, not by lapin, whose recovery would begin a stream anew or skip what came meanwhile: unconfirmed records are
//! written again in their order, and readers end with an error so that the room can go on at the offset it knows.

mod codec;
mod connection;
mod epochs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod publisher;
mod reader;
mod signals;
mod topology;

use std::{
    future::Future,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use papo_protocol::{Epoch, Launch, Record};
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use super::{
    Attached, Broker, PublishError, Publishing, ReadError, Signal, Start, Stored, TraceContext,
};
use connection::{Connector, Link};
use publisher::Publisher;
use signals::SIGNAL_BUFFER;
use topology::Topology;

pub use connection::ConnectError;
pub use reader::StreamReader;

/// A room's log in RabbitMQ. Clones share the connections.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    topology: Arc<Topology>,
    publisher: Publisher,
    signals: broadcast::Sender<Signal>,
}

impl RabbitMq {
    /// Connects, and finds or (with `--declare`) creates what the room needs.
    ///
    /// A server that was told its epoch runs where somebody looks after broker and server: it waits for the broker, not
    /// ready, as long as it takes. Any other fails at once, with the cause and the cure.
    pub async fn connect(launch: &Launch) -> Result<Self, ConnectError> {
        let connector = Arc::new(Connector::new(launch)?);
        let topology = Arc::new(Topology::new(
            Link::new(connector.clone(), "reader"),
            launch,
        ));
        if launch.epoch.is_none() {
            topology.check().await?;
        }
        let signals = broadcast::Sender::new(SIGNAL_BUFFER);
        let tasks = TaskTracker::new();
        let timeout = Duration::from_secs(launch.publish_timeout.into());
        let (publisher, work) = Publisher::new(connector, topology.clone(), timeout, tasks.clone());
        let (hear, heard) = (
            signals::hear(topology.clone(), signals.clone()),
            publisher.closed(),
        );
        // One task for both: if either fails, the publisher's state ends with it, and the server notices.
        tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = hear => {}
                () = heard => {}
            }
        });
        tasks.close();
        Ok(Self {
            topology,
            publisher,
            signals,
        })
    }
}

impl Broker for RabbitMq {
    type Reader = StreamReader;

    async fn attach(&self, start: Start) -> Result<Attached<StreamReader>, ReadError> {
        reader::attach(&self.topology, start).await
    }

    async fn read(&self, epoch: &Epoch, offsets: Range<u64>) -> Result<Vec<Stored>, ReadError> {
        reader::read(&self.topology, epoch, offsets).await
    }

    fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        self.publisher.publish(record, trace)
    }

    fn signal(&self, signal: Signal) {
        self.publisher.signal(signal);
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.signals.subscribe()
    }

    fn publishing(&self) -> watch::Receiver<Publishing> {
        self.publisher.state()
    }

    async fn close(&self) {
        self.publisher.close().await;
    }
}

/// Seconds since the Unix epoch, for AMQP's `timestamp`.
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
