//! Receiving signals: a queue of this server's own, which the broker deletes with its connection.
//!
//! The server draws the queue's name among those of the room, and draws again if another server has it. The broker could name the queue,
//! but the right to create queues that the broker names has no bound.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, ErrorKind,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use papo_protocol::{
    RoomName,
    topology::{self, MANY_SIGNAL_QUEUES, SIGNAL_QUEUES},
};
use rand::RngExt;
use tokio::{
    sync::{broadcast, watch},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    objects::{Objects, OwnChannel, in_time},
    reaction::Reason,
};
use crate::{
    backoff::Backoff,
    broker::{Publishing, ReadError, Signal},
};

/// Signals that a subscriber may be behind before it loses the oldest.
pub(super) const SIGNAL_BUFFER: usize = 256;

/// How long to wait for a signal before the queue is bound again: an exchange that was deleted and declared again has lost the
/// binding, and the broker does not tell. Every server reports its presence more often than this.
const BIND_AGAIN: Duration = Duration::from_secs(12);

/// How often in a row no signal may come in this time, although this server publishes its own, before the node counts as cut off from the node
/// to which the server publishes.
const SILENT: u32 = 2;

/// How many names are tried. The first half is drawn among the names of small rooms, which are all that a server of such a room may use.
const NAMES_TRIED: u32 = 16;
/// AMQP's reply code for a queue that another connection has, or that is not exclusive.
const RESOURCE_LOCKED: u16 = 405;

/// Receives signals for ever, and reconnects when the connection is lost.
pub(super) async fn receive(
    objects: Arc<Objects>,
    received: broadcast::Sender<Signal>,
    publishing: watch::Receiver<Publishing>,
) {
    let mut signals = Receiver {
        objects,
        received,
        publishing,
        minds_silence: true,
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let error = signals.receive_once(&mut backoff).await.err();
        let wait = backoff.delay();
        debug!(
            error = error.map(|error| error.to_string()),
            ?wait,
            "cannot receive signals"
        );
        sleep(wait).await;
    }
}

/// Receives signals on one connection after the other.
struct Receiver {
    objects: Arc<Objects>,
    received: broadcast::Sender<Signal>,
    publishing: watch::Receiver<Publishing>,
    /// Not after a silent node was left in vain: then something else keeps the signals away.
    minds_silence: bool,
}

impl Receiver {
    /// Whether it follows from silence that the node is cut off: this server publishes, and there is a node that may be better.
    fn is_cut_off(&self) -> bool {
        let publishes = *self.publishing.borrow() == Publishing::Up;
        publishes && self.minds_silence && self.objects.link().has_others()
    }

    async fn receive_once(&mut self, backoff: &mut Backoff) -> Result<(), ReadError> {
        let objects = &self.objects;
        let (channel, queue) = declare(objects).await?;
        let exchange = topology::exchange(objects.room());
        let explain = |error: lapin::Error| objects.explain(&channel, &error, &exchange);
        let bind = || {
            channel.queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                topology::SIGNAL_BINDING.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
        };
        objects.call(&channel, &exchange, bind()).await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..Default::default()
        };
        let consuming = channel.basic_consume(
            queue.as_str().into(),
            "".into(),
            options,
            FieldTable::default(),
        );
        let mut consumer = objects.call(&channel, &queue, consuming).await?;
        backoff.reset();
        let mut silent = 0;
        loop {
            match timeout(BIND_AGAIN, consumer.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(delivery)) => {
                    let delivery = delivery.map_err(explain)?;
                    (silent, self.minds_silence) = (0, true);
                    // Without a subscriber the signal is not needed.
                    let _ = self.received.send(Signal {
                        key: delivery.routing_key.as_str().to_owned(),
                        body: delivery.data.into(),
                    });
                }
                Err(_) => {
                    objects.call(&channel, &exchange, bind()).await?;
                    silent += 1;
                    if silent >= SILENT && self.is_cut_off() {
                        self.minds_silence = false;
                        objects.leave(&channel, Reason::Stalled);
                        return Err(ReadError::Unavailable(
                            "no signal has come, not even of this server".to_owned(),
                        ));
                    }
                }
            }
        }
    }
}

/// Declares a queue under a name that no other server has, on a new channel.
async fn declare(objects: &Objects) -> Result<(OwnChannel, String), ReadError> {
    for name in drawn_names(objects.room()) {
        let channel = objects.channel().await?;
        match in_time(declare_own(&channel, &name)).await? {
            Ok(()) => return Ok((channel, name)),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(objects.explain(&channel, &error, &name)),
        }
    }
    Err(ReadError::Unavailable(format!(
        "{NAMES_TRIED} names of signal queues are in use"
    )))
}

/// Names of the room's signal queues, in the order in which to try them.
pub(super) fn drawn_names(room: &RoomName) -> impl Iterator<Item = String> {
    (0..NAMES_TRIED).map(|attempt| {
        let numbers = if attempt < NAMES_TRIED / 2 {
            0..SIGNAL_QUEUES
        } else {
            SIGNAL_QUEUES..MANY_SIGNAL_QUEUES
        };
        topology::signal_queue(room, rand::rng().random_range(numbers))
    })
}

/// Declares a queue of this connection.
pub(super) async fn declare_own(channel: &Channel, name: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let declared = channel.queue_declare(name.into(), options, FieldTable::default());
    declared.await.map(drop)
}

/// Whether the queue belongs to another connection. The broker has closed the channel then.
pub(super) fn is_taken(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol) if protocol.get_id() == RESOURCE_LOCKED)
}
