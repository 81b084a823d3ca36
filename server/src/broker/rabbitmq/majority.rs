//! Whether a node of the broker is among most nodes of its cluster.
//!
//! A node that is cut off from the others answers, delivers what it has, and takes messages that it never confirms. Of all that a server may ask
//! for, only a new object tells: RabbitMQ creates one when most nodes have stored that.

use std::time::Duration;

use lapin::{Connection, options::QueueDeleteOptions};
use papo_protocol::RoomName;
use tokio::time::timeout;

use super::{
    reaction::{Reaction, reaction},
    signals::{declare_own, drawn_names, is_taken},
};

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the node for a queue, and deletes it. An error is why the node may be cut off.
pub(super) async fn check(connection: &Connection, room: &RoomName) -> Result<(), String> {
    let cause = match timeout(TIMEOUT, create(connection, room)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it has created no queue within {} s", TIMEOUT.as_secs()),
    };
    Err(format!(
        "the node may be cut off from most nodes of the broker: {cause}"
    ))
}

async fn create(connection: &Connection, room: &RoomName) -> lapin::Result<()> {
    for name in drawn_names(room) {
        let channel = connection.create_channel().await?;
        match declare_own(&channel, &name).await {
            Ok(()) => {
                let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default());
                return deleted.await.map(drop);
            }
            // The node knew this queue before.
            Err(error) if is_taken(&error) => {}
            Err(error) if matches!(reaction(&error), Reaction::Move(_)) => return Err(error),
            // A user without the right to create the queue: nothing is known.
            Err(_) => break,
        }
    }
    Ok(())
}
