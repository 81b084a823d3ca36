//! The deletion of a room: first its servers end, then its broker is cleared, then the finalizer is removed. Kubernetes' garbage collection
//! removes everything else.
//!
//! Servers are waited for during their grace period and [`SERVERS_MARGIN`]. A broker that cannot be cleared is tried until
//! [`Context::cleanup_timeout`] has passed since it last confirmed a step, so that one that is being restarted, or is slow, is cleared however long
//! that takes. After that, or at once if the broker's Secret is gone, the room is put on the list of [`Leftovers`](crate::leftovers) and the
//! operator removes the finalizer: an event names what is left on the broker, and the operator removes it later.

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
use papo_protocol::{Launch, RoomName};

use super::{
    context::{Context, Error},
    leftovers::clear,
    report::{note, publish, report},
};
use crate::{
    answer,
    apply::rabbitmq::{Removal, Removed},
    crd::{self, ChatRoom, ChatRoomSpec, DeletionPolicy, StoredRoom, condition},
    error::BrokerError,
    finalizers,
    leftovers::Leftover,
    names, status,
    validate::{self, Room, validate},
};

/// How long beyond their grace period servers are waited for.
const SERVERS_MARGIN: Duration = Duration::from_secs(30);
/// The shortest time between two attempts to clear a broker.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// The shortest and the longest requeue while servers end. The watch of Deployments reports it earlier.
const SERVERS_REQUEUE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));
/// They are looked for again after this part of the time since the deletion.
const SERVERS_PART: u32 = 2;

/// One step of the deletion of a room.
pub(super) async fn finalize(stored: &StoredRoom, context: &Context) -> Result<Action, Error> {
    let chat_room = &stored.room;
    if !finalizers::has(chat_room) {
        return Ok(Action::await_change());
    }
    // A room whose spec was never valid has nothing; one whose spec is invalid now may have everything.
    match room_to_clear(stored, context) {
        Ok(room) => {
            let age = deleted_for(chat_room);
            if are_servers_ending(&room, context, age).await? {
                return Ok(Action::requeue(servers_requeue(age)));
            }
            if let Some(wait) = clear_broker(stored, &room, context).await? {
                return Ok(Action::requeue(wait));
            }
        }
        Err(invalid) => warn_of_unknown_broker(chat_room, &invalid, context).await,
    }
    context.clients.metrics.cluster_write();
    answer::optional(finalizers::remove(&context.clients.client, chat_room).await)?;
    let uid = chat_room.uid().unwrap_or_default();
    context.forget(&uid);
    tracing::info!(
        room = %format!("{}/{}", chat_room.namespace().unwrap_or_default(), chat_room.name_any()),
        "removed the finalizer of a deleted room"
    );
    Ok(Action::await_change())
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

/// How long the broker of a deleted room is still tried without progress; `None` if the room is not deleted, or if it stays although the time has
/// passed.
pub(super) fn cleanup_time_left(chat_room: &ChatRoom, context: &Context) -> Option<Duration> {
    chat_room.meta().deletion_timestamp.as_ref()?;
    let uid = chat_room.uid().unwrap_or_default();
    let left = context.patience.time_left(&uid, context.cleanup_timeout)?;
    Some(left.max(SHORTEST_RETRY))
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
    // They were looked for before the first attempt to clear the broker, and the watch reports none.
    if context.patience.has_begun(&room.uid) && are_none_reported(room, context) {
        return Ok(false);
    }
    let is_late = age >= last_wait();
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

/// When to look for the servers of a room again that was deleted so long ago.
fn servers_requeue(age: Duration) -> Duration {
    let (shortest, longest) = SERVERS_REQUEUE;
    let left = last_wait().saturating_sub(age);
    (age / SERVERS_PART)
        .clamp(shortest, longest)
        .min(left.max(SHORTEST_RETRY))
}

/// How long after its deletion a room waits for its servers at most.
fn last_wait() -> Duration {
    Launch::default().grace_period() + SERVERS_MARGIN
}

fn are_none_reported(room: &Room, context: &Context) -> bool {
    let deployments = &context.clients.cache.deployments;
    let (namespace, name) = (room.name.namespace(), names::child(&room.name));
    deployments.unwatched().is_none() && deployments.get(namespace, &name).is_none()
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
    let has_servers = !status::has_never_had_servers(&deployment);
    let how = if has_servers {
        // The Deployment exists until the last pod has ended.
        DeleteParams::foreground()
    } else {
        // Kubernetes deletes a thousand objects in the foreground one after the other, and there is nothing to wait for.
        DeleteParams::background()
    };
    let deleted = answer::optional_object(api.delete(&name, &how).await)?;
    Ok(deleted.is_some() && has_servers)
}

/// Clears the broker, or puts the room on the list of those whose brokers could not be cleared. Returns how long to wait if neither is done yet.
async fn clear_broker(
    stored: &StoredRoom,
    room: &Room,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let leftovers = &context.leftovers;
    leftovers.load().await;
    let removal = removal(stored, room, context);
    let key = Leftover::key_of(&removal.room, &removal.owner);
    // It is on the list already if the operator has stopped since.
    let Some(_claim) = leftovers.claim(key.clone()) else {
        return Ok(Some(SHORTEST_RETRY));
    };
    context.patience.begin(&room.uid);
    let cleared = if stored.is_readable("broker") {
        clear(&room.broker, &removal, context).await
    } else {
        Err(BrokerError::Unknown)
    };
    match cleared {
        Ok(Removed::Later(wait)) => Ok(Some(wait)),
        Ok(Removed::All) => {
            let removed = leftovers.remove(vec![key]).await;
            removed.map_err(|error| Error::Incomplete(error.to_string()))?;
            Ok(None)
        }
        // A room that only waits for its turn is not given up.
        Err(error @ BrokerError::Busy) => Err(Error::Busy(error)),
        Err(error) if !is_final(&error) && has_patience(room, context) => {
            Err(Error::Incomplete(error.to_string()))
        }
        Err(error) => {
            leave_on_broker(stored, room, &error, context).await?;
            Ok(None)
        }
    }
}

/// What is to be removed of the room.
fn removal(stored: &StoredRoom, room: &Room, context: &Context) -> Removal {
    let epoch = context.reported.last(&stored.room).epoch;
    Removal {
        room: room.name.clone(),
        owner: room.uid.clone(),
        keep_log: room.deletion_policy == DeletionPolicy::Retain,
        epoch: epoch.and_then(|epoch| epoch.parse().ok()),
    }
}

fn has_patience(room: &Room, context: &Context) -> bool {
    let left = context
        .patience
        .time_left(&room.uid, context.cleanup_timeout);
    left.is_some()
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

/// Puts the room on the list, and says that it is there. Fails if the list does not take it: then the room stays.
async fn leave_on_broker(
    stored: &StoredRoom,
    room: &Room,
    error: &BrokerError,
    context: &Context,
) -> Result<(), Error> {
    let chat_room = &stored.room;
    let objects = objects_of(&room.name);
    if !can_be_cleared_later(stored, error, context) {
        let text = format!("{objects} may be left on the broker: {error}");
        warn(chat_room, "LeftOnBroker", &text, context).await;
        return Ok(());
    }
    let leftover = Leftover {
        removal: removal(stored, room, context),
        secret: room.broker.clone(),
        since: Timestamp::now(),
    };
    if let Err(problem) = context.leftovers.add(leftover).await {
        return Err(keep(chat_room, &format!("{error}; {problem}"), context).await);
    }
    let text = format!(
        "{objects} may be left on the broker; the operator removes them later (ConfigMap {}): {error}",
        context.leftovers.location()
    );
    warn(chat_room, "LeftOnBroker", &text, context).await;
    Ok(())
}

/// Says what a room leaves on a broker that nobody knows any more, as after the removal of the operator's default broker. A room without an epoch never
/// had a broker.
async fn warn_of_unknown_broker(
    chat_room: &ChatRoom,
    invalid: &validate::Invalid,
    context: &Context,
) {
    let has_log = context.reported.last(chat_room).epoch.is_some();
    let namespace = chat_room.namespace().unwrap_or_default();
    let Some(name) = RoomName::new(&namespace, &chat_room.name_any())
        .ok()
        .filter(|_| has_log)
    else {
        return;
    };
    let text = format!(
        "{} may be left on the broker that the room had, and the operator does not remove them: {invalid}; remove them there. Before you delete more \
         such rooms, give the operator its broker back (--broker-secret, the chart's values broker and rabbitmq)",
        objects_of(&name)
    );
    warn(chat_room, "LeftOnBroker", &text, context).await;
}

/// What a room has on its broker.
fn objects_of(room: &RoomName) -> String {
    let exchange = papo_protocol::topology::exchange(room);
    format!("exchange, user, policy and streams named {exchange}")
}

/// Whether there is something to be cleared, and a broker. A room that has never found its broker has left nothing there.
fn can_be_cleared_later(stored: &StoredRoom, error: &BrokerError, context: &Context) -> bool {
    let status = context.reported.last(&stored.room);
    let mut conditions = status.conditions.iter();
    let never_found = status.epoch.is_none()
        && conditions.any(|it| it.type_ == condition::BROKER_READY && it.reason == error.reason());
    let has_no_broker = matches!(error, BrokerError::Unknown) || is_final(error) && never_found;
    !has_no_broker
}

/// Says on the room itself why it stays, once.
async fn keep(chat_room: &ChatRoom, problem: &str, context: &Context) -> Error {
    let text = format!(
        "the room is deleted, but its broker cannot be cleared, and neither can that be noted for later: {problem}"
    );
    let last = context.reported.last(chat_room);
    let status = status::kept(&text, &last, Timestamp::now());
    match report(context, chat_room, &status).await {
        Ok(()) => Error::Incomplete(text),
        Err(error) => Error::Room(error),
    }
}

async fn warn(chat_room: &ChatRoom, reason: &str, text: &str, context: &Context) {
    let (namespace, name) = (
        chat_room.namespace().unwrap_or_default(),
        chat_room.name_any(),
    );
    tracing::warn!(room = %format!("{namespace}/{name}"), text, "the broker of a deleted room is not cleared");
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note(text)),
        action: "Delete".to_owned(),
        secondary: None,
    };
    publish(context, chat_room, &event).await;
}
