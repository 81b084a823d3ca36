//! What is left under the names of signal queues, which no server leaves: somebody else has a server's credentials.
//!
//! A server's own queue is exclusive, so that it ends with its connection. The policies delete other queues that nobody uses, but no streams
//! and no exchanges. The operator removes both, and queues that the policies keep because somebody uses them.
//!
//! The bulk read of the virtual host finds both, for all its rooms together.

use std::collections::BTreeSet;

use super::{
    answers::{Named, Queue},
    list::each_object,
    policy::ensure_signal_policies,
    request::done,
};
use crate::{
    broker::{Broker, Found},
    desired::{Topology, exchange_of_signal_queue, is_signal_queue},
    error::BrokerError,
};

/// Bounds what may be left, and removes what is left of the room, if the virtual host was found to have something.
pub(super) async fn bound_signals(broker: &Broker, topology: &Topology) -> Result<(), BrokerError> {
    if !broker.inventory.are_signals_bounded() {
        ensure_signal_policies(broker).await?;
        broker.inventory.bound_signals();
    }
    if broker.inventory.take_leftovers(&topology.exchange) {
        remove_signals(broker, topology).await?;
    }
    Ok(())
}

/// Looks through a virtual host that cannot be read as a whole.
pub(super) async fn inspect(broker: &Broker, found: &mut Found) -> Result<(), BrokerError> {
    let listed = each_leftover(broker, ".signal.", |_, name| {
        if let Some(exchange) = exchange_of_signal_queue(name) {
            found.add_leftover(exchange);
        }
    });
    match listed.await {
        // The rest is found when this has been removed.
        Ok(()) | Err(BrokerError::OverBound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what no server leaves under the names of the room's signal queues.
async fn remove_signals(broker: &Broker, topology: &Topology) -> Result<(), BrokerError> {
    // Each once, whatever the broker lists: a room has 4,096 names of signal queues.
    let mut leftovers = BTreeSet::new();
    let prefix = format!("{}.signal.", topology.exchange);
    each_leftover(broker, &prefix, |kind, name| {
        if is_signal_queue(&topology.room, name) {
            leftovers.insert((kind, name.to_owned()));
        }
    })
    .await?;
    for (kind, name) in leftovers {
        broker.metrics.broker_write();
        done(
            "remove what is left of a signal queue",
            broker
                .management
                .delete(&[kind, broker.vhost(), &name])
                .await,
        )?;
        tracing::warn!(
            kind,
            name,
            "removed what no server leaves on the broker; if it comes again, somebody has the credentials of the room's servers: delete the room's Secret"
        );
    }
    Ok(())
}

/// Hands over kind and name of the queues and exchanges whose names contain `part`, but not the queues that end with their connections.
async fn each_leftover(
    broker: &Broker,
    part: &str,
    mut take: impl FnMut(&'static str, &str),
) -> Result<(), BrokerError> {
    each_object(broker, "exchanges", part, |exchange: Named| {
        take("exchanges", &exchange.name);
        true
    })
    .await?;
    each_object(broker, "queues", part, |queue: Queue| {
        let is_left = queue.exclusive == Some(false);
        if is_left {
            take("queues", &queue.name);
        }
        is_left
    })
    .await
}
