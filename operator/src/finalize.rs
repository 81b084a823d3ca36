//! The end of a room: first the servers leave, then the broker is cleared, then the room may go. Everything else the cluster collects.
//!
//! It ends in any order. The servers get their grace period and a little more, then they are not waited for. A broker that cannot be cleared
//! is tried for [`Context::cleanup_timeout`], so that one that is being restarted is cleared; after that, or at once if the Secret that leads to it is
//! gone, the room goes and an event names what may be left behind.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use papo_protocol::Launch;
use serde_json::json;

use crate::{
    answer, apply,
    controller::{Context, Error},
    crd::{ChatRoom, DeletionPolicy},
    desired,
    error::BrokerError,
    names, report,
    validate::{self, Room, validate},
};

/// How long beyond their grace period servers are waited for.
const SERVERS_MARGIN: Duration = Duration::from_secs(30);
/// The least time between two attempts to clear a broker.
const SOON: Duration = Duration::from_secs(1);
/// When to look again whether the servers have left; their leaving is noticed by itself.
const WAIT: Duration = Duration::from_secs(5);

/// Makes sure that the room is not gone before its broker is cleared.
pub(crate) async fn hold(chat_room: &ChatRoom, context: &Context) -> Result<(), kube::Error> {
    if is_held(chat_room) {
        return Ok(());
    }
    let mut finalizers = chat_room.finalizers().to_vec();
    finalizers.push(names::FINALIZER.to_owned());
    write_finalizers(chat_room, context, &finalizers).await
}

/// Whether the room waits for us before it may go.
pub(crate) fn is_held(chat_room: &ChatRoom) -> bool {
    let mut names = chat_room.finalizers().iter();
    names.any(|name| name == names::FINALIZER)
}

/// One step of the end of a room.
pub(crate) async fn finalize(chat_room: &ChatRoom, context: &Context) -> Result<Action, Error> {
    if !is_held(chat_room) {
        return Ok(Action::await_change());
    }
    let age = age(chat_room);
    // A room whose spec was never right has nothing; one whose spec is wrong now may have everything.
    if let Ok(room) = valid(chat_room, context) {
        if servers_are_leaving(&room, context, age).await? {
            return Ok(Action::requeue(WAIT));
        }
        if let Err(error) = clear_broker(chat_room, &room, context).await {
            if !is_final(&error) && age < context.cleanup_timeout {
                return Err(Error::Incomplete(error.to_string()));
            }
            tell_what_is_left(chat_room, context, &room, &error).await;
        }
    }
    answer::optional(write_finalizers(chat_room, context, &others(chat_room)).await)?;
    tracing::info!(room = chat_room.name_any(), "gone");
    Ok(Action::await_change())
}

/// The room, with what it got wrong left out: its name and its broker are enough for this.
fn valid(chat_room: &ChatRoom, context: &Context) -> Result<Room, validate::Invalid> {
    let mut bare = ChatRoom::new(
        &chat_room.name_any(),
        crate::crd::ChatRoomSpec {
            broker: chat_room.spec.broker.clone(),
            deletion_policy: chat_room.spec.deletion_policy,
            ..crate::crd::ChatRoomSpec::default()
        },
    );
    bare.metadata = chat_room.metadata.clone();
    validate(&bare, &context.defaults)
}

/// How long the broker of a room that is being deleted is still tried; nothing if the room is not being deleted, or goes at the next attempt.
pub(crate) fn patience_left(chat_room: &ChatRoom, context: &Context) -> Option<Duration> {
    chat_room.meta().deletion_timestamp.as_ref()?;
    left(context.cleanup_timeout, age(chat_room))
}

fn left(patience: Duration, age: Duration) -> Option<Duration> {
    Some(patience.checked_sub(age)?.max(SOON))
}

fn age(chat_room: &ChatRoom) -> Duration {
    let since = chat_room
        .meta()
        .deletion_timestamp
        .as_ref()
        .map(|time| time.0);
    let age = since.map(|since| Timestamp::now().duration_since(since));
    age.and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default()
}

/// Deletes the servers so that clients are told and what was acknowledged is stored, and tells whether to wait for them. They are not waited
/// for beyond their grace period, whatever the API server says of them.
async fn servers_are_leaving(room: &Room, context: &Context, age: Duration) -> Result<bool, Error> {
    let is_late = age >= Launch::default().grace_period() + SERVERS_MARGIN;
    match delete_servers(room, context).await {
        Ok(are_there) => Ok(are_there && !is_late),
        Err(error) if is_late => {
            tracing::warn!(room = %room.name, %error, "cannot delete the servers; going on without waiting for them");
            Ok(false)
        }
        Err(error) => Err(Error::Incomplete(format!(
            "the servers cannot be deleted: {}",
            answer::message(&error)
        ))),
    }
}

/// Whether the servers are still there.
async fn delete_servers(room: &Room, context: &Context) -> Result<bool, kube::Error> {
    let api = context.world.cache.deployments.api(room.name.namespace());
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
    context.world.metrics.cluster_write();
    // In the foreground: the Deployment is there until the last pod has left.
    let deleted = api.delete(&name, &DeleteParams::foreground()).await;
    Ok(answer::optional_object(deleted)?.is_some())
}

async fn clear_broker(
    chat_room: &ChatRoom,
    room: &Room,
    context: &Context,
) -> Result<(), BrokerError> {
    let broker = apply::broker(&context.world, &room.broker).await?;
    let keep_log = room.deletion_policy == DeletionPolicy::Retain;
    let had_log = chat_room
        .status
        .as_ref()
        .is_some_and(|status| status.epoch.is_some());
    let topology = desired::topology(room);
    let work = apply::rabbitmq::remove(&broker, &topology, keep_log, had_log);
    broker.attempt(work).await
}

/// Whether trying again is of no use.
fn is_final(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::NoSecret(_) | BrokerError::BadSecret { .. }
    )
}

async fn tell_what_is_left(
    chat_room: &ChatRoom,
    context: &Context,
    room: &Room,
    error: &BrokerError,
) {
    let exchange = desired::topology(room).exchange;
    let note = format!(
        "exchange, user, policy and streams named {exchange} may be left on the broker: {error}"
    );
    tracing::warn!(room = %room.name, note, "a room goes without its broker being cleared");
    let event = Event {
        type_: EventType::Warning,
        reason: "LeftOnBroker".to_owned(),
        note: Some(note.chars().take(1_000).collect()),
        action: "Delete".to_owned(),
        secondary: None,
    };
    report::publish(context, chat_room, &event).await;
}

/// Only if nobody else has written the room since: a finalizer of others must not be lost.
async fn write_finalizers(
    chat_room: &ChatRoom,
    context: &Context,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    context.world.metrics.cluster_write();
    set_finalizers(&context.world.client, chat_room, finalizers).await
}

/// As [`write_finalizers`], for those who count nothing.
pub(crate) async fn set_finalizers(
    client: &Client,
    chat_room: &ChatRoom,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    let namespace = chat_room.namespace().unwrap_or_default();
    let api: Api<ChatRoom> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": chat_room.resource_version()}});
    let params = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&chat_room.name_any(), &params, &Patch::Merge(&patch))
        .await
        .map(drop)
}

/// The finalizers of a room but ours.
pub(crate) fn others(chat_room: &ChatRoom) -> Vec<String> {
    let all = chat_room.finalizers().iter();
    all.filter(|name| *name != names::FINALIZER)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_made_when_patience_runs_out_and_not_long_after() {
        let patience = Duration::from_mins(2);
        let after = |seconds| left(patience, Duration::from_secs(seconds));
        assert_eq!(after(0), Some(patience));
        assert_eq!(after(100), Some(Duration::from_secs(20)));
        assert_eq!(after(120), Some(SOON), "never at once, again and again");
        assert_eq!(after(121), None);
    }
}
