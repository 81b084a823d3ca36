//! The effects on the broker: reads what exists, and writes only what differs.
//!
//! The exchange is the lock: it names the room that owns it and everything that is named after it. It is created first and removed last, so that
//! the next reconcile resumes one that was cut short, and so that a room never changes what belongs to another room.
//!
//! A log is created first and its epoch recorded afterwards, in the Deployment and in the status. A reconcile that was cut short between the
//! two, or that works from an old status, finds the log by its name and adopts it: there are never two. The same search adopts the log that
//! an earlier room of the same name left with `deletionPolicy: Retain`.

mod answers;
mod exchange;
mod inventory;
mod list;
mod log;
mod policy;
mod remove;
mod request;
mod rows;
mod signals;
mod user;

use std::time::Instant;

use papo_protocol::{Epoch, topology as broker_names};

use crate::{
    apply::outcome::{LogOrigin, RoomLog},
    broker::Broker,
    desired::Topology,
    error::BrokerError,
};

#[cfg(any(test, fuzzing))]
pub(super) use answers::{Exchange, Queue};
#[cfg(any(test, fuzzing))]
pub(super) use exchange::check_exchange;
use exchange::ensure_exchange;
pub(super) use inventory::{at_rest, settled};
use inventory::{note, refresh};
use log::{bind, create_log, ensure_binding, ensure_log};
#[cfg(any(test, fuzzing))]
pub(super) use log::{check_log, epoch_of};
use policy::ensure_log_policy;
pub(crate) use remove::{Removal, Removed, remove};
use signals::bound_signals;
use user::{ensure_permissions, ensure_user, set_permissions};

/// Makes the room's objects on the broker as they should be, and returns the room's log.
///
/// A room that is as the last bulk read says costs nothing. Any other is read object by object before something of it is written, so that an old
/// inventory never makes a second log, and never takes what belongs to somebody else.
pub(crate) async fn apply(
    broker: &Broker,
    topology: &Topology,
    password: &str,
    recorded: Option<&Epoch>,
) -> Result<RoomLog, BrokerError> {
    refresh(broker, topology).await?;
    if let Some(log) = settled(broker, topology, password, recorded) {
        return Ok(log);
    }
    broker.inventory.forget(&topology.exchange);
    let applied = apply_each(broker, topology, password, recorded).await;
    match &applied {
        Ok(log) => note(broker, topology, password, log),
        // Some of it may be written, and a bulk read have seen what was there before.
        Err(_) => broker.inventory.forget(&topology.exchange),
    }
    applied
}

async fn apply_each(
    broker: &Broker,
    topology: &Topology,
    password: &str,
    recorded: Option<&Epoch>,
) -> Result<RoomLog, BrokerError> {
    let Topology {
        room: _,
        exchange,
        owner,
        policy,
        replicas: _,
        user,
    } = topology;
    let is_new = ensure_exchange(broker, exchange, owner).await?;
    let log = if is_new && !broker.inventory.may_have_log(exchange, Instant::now()) {
        create_log(broker, topology).await?
    } else {
        ensure_log(broker, topology, recorded).await?
    };
    ensure_log_policy(broker, policy, &log.found.arguments).await?;
    let queue = broker_names::log(&topology.room, &log.epoch);
    // What was created just now has nothing yet that could be read.
    if log.origin == LogOrigin::Created {
        bind(broker, exchange, &queue).await?;
    } else {
        ensure_binding(broker, exchange, &queue).await?;
    }
    // Before there is somebody who could create a queue.
    bound_signals(broker, topology).await?;
    if ensure_user(broker, user, owner, password).await? {
        set_permissions(broker, user).await?;
    } else {
        ensure_permissions(broker, user).await?;
    }
    Ok(log)
}
