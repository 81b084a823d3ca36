//! Receiving signals: a queue of this server's own, which the broker deletes with its connection.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use papo_protocol::topology;
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};
use tracing::debug;

use super::objects::{Objects, in_time};
use crate::{
    backoff::Backoff,
    broker::{ReadError, Signal},
};

/// Signals that a subscriber may be behind before it loses the oldest.
pub(super) const SIGNAL_BUFFER: usize = 256;

/// How long to wait for a signal before the queue is bound again: an exchange that was deleted and declared again has lost the
/// binding, and the broker does not tell. Every server reports its presence more often than this.
const BIND_AGAIN: Duration = Duration::from_secs(12);

/// Receives signals for ever, and reconnects when the connection is lost.
pub(super) async fn receive(objects: Arc<Objects>, received: broadcast::Sender<Signal>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let error = receive_once(&objects, &received, &mut backoff).await.err();
        let wait = backoff.delay();
        debug!(
            error = error.map(|error| error.to_string()),
            ?wait,
            "cannot receive signals"
        );
        sleep(wait).await;
    }
}

async fn receive_once(
    objects: &Objects,
    received: &broadcast::Sender<Signal>,
    backoff: &mut Backoff,
) -> Result<(), ReadError> {
    let channel = objects.channel().await?;
    let exchange = topology::exchange(objects.room());
    let explain = |error: lapin::Error| objects.explain(&error, &exchange);
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let queue = in_time(channel.queue_declare("".into(), options, FieldTable::default()))
        .await?
        .map_err(explain)?;
    let bind = || {
        channel.queue_bind(
            queue.name().clone(),
            exchange.as_str().into(),
            topology::SIGNAL_BINDING.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
    };
    in_time(bind()).await?.map_err(explain)?;
    let options = BasicConsumeOptions {
        no_ack: true,
        exclusive: true,
        ..Default::default()
    };
    let consuming = channel.basic_consume(
        queue.name().clone(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let mut consumer = in_time(consuming).await?.map_err(explain)?;
    backoff.reset();
    loop {
        match timeout(BIND_AGAIN, consumer.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(delivery)) => {
                let delivery = delivery.map_err(explain)?;
                // Without a subscriber the signal is not needed.
                let _ = received.send(Signal {
                    key: delivery.routing_key.as_str().to_owned(),
                    body: delivery.data.into(),
                });
            }
            Err(_) => in_time(bind()).await?.map_err(explain)?,
        }
    }
}
