//! The deletion of a room: first its servers end, then its broker is cleared, then the finalizer is removed. Kubernetes' garbage collection
//! removes everything else.
//!
//! Each step has a time limit, so that the deletion always ends. Servers are waited for during their grace period and [`SERVERS_MARGIN`]. A broker that cannot be cleared is
//! tried until the room has been deleted for [`Context::cleanup_timeout`], so that a broker that is being restarted is cleared. After that, or at
//! once if the broker's Secret is gone, the operator removes the finalizer, and an event names what may be left on the broker.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    api::DeleteParams,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use papo_protocol::Launch;

use super::{
    context::{Context, Error},
    report,
};
use crate::{
    answer,
    apply::rabbitmq,
    crd::{self, ChatRoom, ChatRoomSpec, DeletionPolicy, StoredRoom},
    desired,
    error::BrokerError,
    finalizers, names,
    validate::{self, Room, validate},
};

/// How long beyond their grace period servers are waited for.
const SERVERS_MARGIN: Duration = Duration::from_secs(30);
/// The shortest time between two attempts to clear a broker.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// The requeue while servers end. The watch of Deployments reports it earlier.
const SERVERS_REQUEUE: Duration = Duration::from_secs(5);
/// The longest note that an event may have, in characters.
const NOTE_MAX: usize = 1_000;

/// One step of the deletion of a room.
pub(super) async fn finalize(stored: &StoredRoom, context: &Context) -> Result<Action, Error> {
    let chat_room = &stored.room;
    if !finalizers::has(chat_room) {
        return Ok(Action::await_change());
    }
    let age = deleted_for(chat_room);
    // A room whose spec was never valid has nothing; one whose spec is invalid now may have everything.
    if let Ok(room) = room_to_clear(stored, context) {
        if are_servers_ending(&room, context, age).await? {
            return Ok(Action::requeue(SERVERS_REQUEUE));
        }
        if let Err(error) = clear_broker(stored, &room, context).await {
            if !is_final(&error) && age < cleanup_timeout(&error, context) {
                return Err(Error::Incomplete(error.to_string()));
            }
            report_leftovers(chat_room, context, &room, &error).await;
        }
    }
    context.clients.metrics.cluster_write();
    answer::optional(finalizers::remove(&context.clients.client, chat_room).await)?;
    tracing::info!(
        room = %format!("{}/{}", chat_room.namespace().unwrap_or_default(), chat_room.name_any()),
        "removed the finalizer of a deleted room"
    );
    Ok(Action::await_change())
}

/// How long a broker is tried after this error. A room that only waits for its turn, behind all others of its namespace, has more time.
fn cleanup_timeout(error: &BrokerError, context: &Context) -> Duration {
    match error {
        BrokerError::Busy => 2 * context.cleanup_timeout,
        _ => context.cleanup_timeout,
    }
}

/// The room without what does not matter here and may be invalid: its name and its broker are enough. What cannot be read is not deleted: a log
/// whose `deletionPolicy` is unknown stays.
fn room_to_clear(stored: &StoredRoom, context: &Context) -> Result<Room, validate::Invalid> {
    let spec = &stored.room.spec;
    let secret_name = if stored.is_readable("broker") {
        spec.broker.as_ref().and_then(|it| it.secret_name.clone())
    } else {
        // In the place of one that is not known, and not the default: `clear_broker` does not use it.
        Some(String::new())
    };
    let broker = Some(crd::Broker {
        secret_name,
        replicas: None,
    });
    let deletion_policy = if stored.is_readable("deletionPolicy") {
        spec.deletion_policy
    } else {
        Some(DeletionPolicy::Retain)
    };
    let mut bare = ChatRoom::new(
        &stored.name_any(),
        ChatRoomSpec {
            broker,
            deletion_policy,
            ..ChatRoomSpec::default()
        },
    );
    bare.metadata = stored.room.metadata.clone();
    validate(&bare, &context.defaults)
}

/// How long the broker of a deleted room is still tried; `None` if the room is not deleted, or if the next attempt is the last.
pub(super) fn cleanup_time_left(chat_room: &ChatRoom, context: &Context) -> Option<Duration> {
    chat_room.meta().deletion_timestamp.as_ref()?;
    time_left(context.cleanup_timeout, deleted_for(chat_room))
}

fn time_left(cleanup_timeout: Duration, age: Duration) -> Option<Duration> {
    Some(cleanup_timeout.checked_sub(age)?.max(SHORTEST_RETRY))
}

/// How long ago the room was deleted.
fn deleted_for(chat_room: &ChatRoom) -> Duration {
    let since = chat_room
        .meta()
        .deletion_timestamp
        .as_ref()
        .map(|time| time.0);
    let age = since.map(|since| Timestamp::now().duration_since(since));
    age.and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default()
}

/// Deletes the servers, so that they close their connections and store what they have acknowledged, and returns whether to wait for them.
/// Servers are not waited for beyond their grace period and a margin, whatever the API server answers.
async fn are_servers_ending(room: &Room, context: &Context, age: Duration) -> Result<bool, Error> {
    let is_late = age >= Launch::default().grace_period() + SERVERS_MARGIN;
    match delete_servers(room, context).await {
        Ok(exist) => Ok(exist && !is_late),
        Err(error) if is_late => {
            tracing::warn!(room = %room.name, %error, "cannot delete the servers; clearing the broker without waiting for them");
            Ok(false)
        }
        Err(error) => Err(Error::Incomplete(format!(
            "cannot delete the servers: {}",
            answer::message(&error)
        ))),
    }
}

/// Whether the servers still exist.
async fn delete_servers(room: &Room, context: &Context) -> Result<bool, kube::Error> {
    let clients = &context.clients;
    let api = clients.cache.deployments.api(room.name.namespace());
    let name = names::child(&room.name);
    // Read past the cache, which may not be filled yet, or never if the kind cannot be watched: the broker is cleared only after the servers.
    let Some(deployment) = answer::optional_object(api.get(&name).await)? else {
        return Ok(false);
    };
    let mut owners = deployment.owner_references().iter();
    if !owners.any(|owner| owner.uid == room.uid) {
        return Ok(false);
    }
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(true);
    }
    clients.metrics.cluster_write();
    // In the foreground: the Deployment exists until the last pod has ended.
    let deleted = api.delete(&name, &DeleteParams::foreground()).await;
    Ok(answer::optional_object(deleted)?.is_some())
}

async fn clear_broker(
    stored: &StoredRoom,
    room: &Room,
    context: &Context,
) -> Result<(), BrokerError> {
    if !stored.is_readable("broker") {
        return Err(BrokerError::Unknown);
    }
    let chat_room = &stored.room;
    let broker = context.clients.broker(&room.broker).await?;
    let keep_log = room.deletion_policy == DeletionPolicy::Retain;
    let had_log = chat_room
        .status
        .as_ref()
        .is_some_and(|status| status.epoch.is_some());
    let topology = desired::topology(room);
    let work = rabbitmq::remove(&broker, &topology, keep_log, had_log);
    broker.attempt(work).await
}

/// Whether another attempt meets the same error.
fn is_final(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::Unknown
            | BrokerError::NoSecret(_)
            | BrokerError::BadSecret { .. }
            | BrokerError::NotAllowed { .. }
    )
}

async fn report_leftovers(
    chat_room: &ChatRoom,
    context: &Context,
    room: &Room,
    error: &BrokerError,
) {
    let exchange = desired::topology(room).exchange;
    let note = format!(
        "exchange, user, policy and streams named {exchange} may be left on the broker: {error}"
    );
    tracing::warn!(room = %room.name, note, "the broker of a deleted room is not cleared");
    let event = Event {
        type_: EventType::Warning,
        reason: "LeftOnBroker".to_owned(),
        note: Some(note.chars().take(NOTE_MAX).collect()),
        action: "Delete".to_owned(),
        secondary: None,
    };
    report::publish(context, chat_room, &event).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_cleanup_attempt_is_made_when_the_timeout_ends() {
        let timeout = Duration::from_mins(2);
        let left_after = |seconds| time_left(timeout, Duration::from_secs(seconds));
        assert_eq!(left_after(0), Some(timeout));
        assert_eq!(left_after(100), Some(Duration::from_secs(20)));
        assert_eq!(left_after(120), Some(SHORTEST_RETRY), "not in a busy loop");
        assert_eq!(left_after(121), None);
    }
}
