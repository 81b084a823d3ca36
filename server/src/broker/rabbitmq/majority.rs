//! Whether a node of the broker is among most nodes of its cluster.
//!
//! A node that is cut off from the others answers, delivers what it has, and takes messages that it never confirms. Of all that a server may do,
//! only creating an object shows it: RabbitMQ creates one when most nodes have stored that.

use lapin::Connection;
use papo_protocol::RoomName;

use super::{
    reaction::{Reaction, reaction},
    signals::{declare_own, drawn_names, is_taken},
};

/// Creates a queue, which the broker deletes with the connection. An error is why the node may be cut off.
pub(super) async fn create_queue(connection: &Connection, room: &RoomName) -> lapin::Result<()> {
    for name in drawn_names(room) {
        let channel = connection.create_channel().await?;
        match declare_own(&channel, &name).await {
            // Another connection has this queue: the next name.
            Err(error) if is_taken(&error) => {}
            Err(error) if matches!(reaction(&error), Reaction::Move(_)) => return Err(error),
            // Created; or the user may not do it, and nothing is known.
            _ => break,
        }
    }
    Ok(())
}
