//! The log in RabbitMQ: the room's exchange and stream, shared by all its servers.
//!
//! There are two connections: one that publishes, which a memory or disk alarm may block, and one that reads. Papo reconnects by
//! itself, because lapin's recovery would read a stream again from its beginning or skip records. The publisher writes unconfirmed
//! records again in their order; a reader ends with an error, and the caller attaches again at the offset it knows.

mod codec;
mod connection;
mod epochs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod objects;
mod publisher;
mod reader;
mod signals;
mod topology;

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

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
    /// A server that was given its epoch is run by the operator: it waits for the broker, unready, as long as it takes. Any other
    /// server fails at once, with the cause and the cure.
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
        let (receive, closed) = (
            signals::receive(topology.objects.clone(), signals.clone()),
            publisher.closed(),
        );
        // One task for both: if either fails, the publisher's state ends with it, and the server notices.
        tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = receive => {}
                () = closed => {}
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
