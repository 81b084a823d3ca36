//! The log in RabbitMQ: the room's exchange and stream, shared by all its servers.
//!
//! There are two connections: one that publishes, which a memory or disk alarm may block, and one that reads. Papo reconnects by
//! itself, because lapin's recovery would read a stream again from its beginning or skip records. The publisher writes unconfirmed
//! records again in their order; a reader ends with an error, and the caller attaches again at the offset it knows.
//!
//! A broker may be a cluster. Whatever a node cannot do at the moment ([`reaction`]) is a reason to go to another one ([`nodes`]), never to exit
//! and never to take another log for the room's.

mod codec;
mod connection;
mod epochs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod majority;
mod nodes;
mod objects;
mod publisher;
mod reaction;
mod reader;
mod signals;
mod topology;

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use papo_protocol::{Epoch, Launch, Record};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    Attached, Broker, BrokerConnection, PublishError, Publishing, ReadError, Signal, Start, Stored,
    TraceContext,
};
use crate::backoff::Backoff;
use connection::{Connector, Link};
use publisher::Publisher;
use reaction::Reason;
use signals::SIGNAL_BUFFER;
use topology::Topology;

pub use connection::{ConnectError, Urls};
pub use reader::StreamReader;

/// How long a start waits for a broker that answers and does not serve the room yet.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often the topology must be missing before a server that does not create it gives up: a node may not know yet what is on another one.
const MISSING: u32 = 3;

/// A room's log in RabbitMQ. Clones share the connections.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    connector: Arc<Connector>,
    topology: Arc<Topology>,
    publisher: Publisher,
    signals: broadcast::Sender<Signal>,
}

impl RabbitMq {
    /// Connects, and finds or (with `--declare`) creates what the room needs.
    ///
    /// A server that was given its epoch is run by the operator: it waits for the broker, unready, as long as it takes. Any other
    /// server fails at once if it cannot reach the broker, or if a person must correct something, with the cause and the cure.
    pub async fn connect(launch: &Launch) -> Result<Self, ConnectError> {
        let connector = Arc::new(Connector::new(launch)?);
        let topology = Arc::new(Topology::new(Link::new(connector.clone()), launch));
        if launch.epoch.is_none() {
            check(&topology).await?;
        }
        let signals = broadcast::Sender::new(SIGNAL_BUFFER);
        let tasks = TaskTracker::new();
        let timeout = Duration::from_secs(launch.publish_timeout.into());
        let (publisher, work) =
            Publisher::new(connector.clone(), topology.clone(), timeout, tasks.clone());
        let (receive, closed) = (
            signals::receive(topology.objects.clone(), signals.clone(), publisher.state()),
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
            connector,
            topology,
            publisher,
            signals,
        })
    }
}

/// Checks that everything is there. A broker that exists may not be able to say so yet, for example while replicas start: after some time the
/// server serves, unready, until it is.
async fn check(topology: &Topology) -> Result<(), ConnectError> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    let mut missing = 0;
    loop {
        let Err(error) = topology.check().await else {
            return Ok(());
        };
        if matches!(error, ConnectError::Topology(ReadError::Missing(_))) && !topology.declares() {
            missing += 1;
            topology.objects.look_elsewhere(Reason::NoReplica);
        }
        let has_connected = topology.objects.link().has_connected();
        if error.must_be_corrected() || !has_connected || missing == MISSING {
            return Err(error);
        }
        let retry_in = backoff.delay();
        if Instant::now() + retry_in > deadline {
            warn!(%error, "the broker does not serve the room yet: this server is not ready until it does");
            return Ok(());
        }
        warn!(%error, ?retry_in, "the broker does not serve the room yet");
        sleep(retry_in).await;
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

    fn connections(&self) -> Vec<BrokerConnection> {
        self.connector.connections()
    }

    async fn close(&self) {
        self.publisher.close().await;
    }
}
