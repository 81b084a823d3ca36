//! Reports how a room is: writes its status, and events about what has changed. Writes nothing when nothing has changed.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;

use super::context::Context;
use crate::{
    crd::{ChatRoom, ChatRoomStatus, StoredRoom, condition},
    names, status,
};

/// Writes a status that differs from the last one, and the events that go with it.
pub(super) async fn report(
    context: &Context,
    chat_room: &ChatRoom,
    now: &ChatRoomStatus,
) -> Result<(), kube::Error> {
    let last = chat_room.status.clone().unwrap_or_default();
    if last == *now {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": ChatRoom::api_version(&()),
        "kind": ChatRoom::kind(&()),
        "status": now,
    });
    // The answer holds the spec too, which may be unreadable.
    let api: Api<StoredRoom> = Api::namespaced(
        context.clients.client.clone(),
        &chat_room.namespace().unwrap_or_default(),
    );
    let params = PatchParams::apply(names::MANAGER).force();
    context.clients.metrics.cluster_write();
    api.patch_status(&chat_room.name_any(), &params, &Patch::Apply(&patch))
        .await?;
    for event in events(&last, now) {
        publish(context, chat_room, &event).await;
    }
    Ok(())
}

/// The longest note that an event may have, in characters.
const NOTE_MAX: usize = 1_000;

/// A note of an event, cut if it is too long.
pub(super) fn note(text: &str) -> String {
    text.chars().take(NOTE_MAX).collect()
}

/// Writes an event. An event that cannot be written, as in a namespace that is being deleted, does not fail the reconcile.
pub(super) async fn publish(context: &Context, chat_room: &ChatRoom, event: &Event) {
    context.clients.metrics.cluster_write();
    if let Err(error) = context
        .recorder
        .publish(event, &chat_room.object_ref(&()))
        .await
    {
        tracing::debug!(%error, reason = event.reason, "cannot write an event");
    }
}

/// What has changed for people: conditions other than `Ready`, which sums them up, and the log.
fn events(last: &ChatRoomStatus, now: &ChatRoomStatus) -> Vec<Event> {
    let known = |type_: &str| last.conditions.iter().find(|known| known.type_ == type_);
    let changed = now.conditions.iter().filter(|condition| {
        let is_known = known(&condition.type_).is_some_and(|known| {
            (&known.status, &known.reason) == (&condition.status, &condition.reason)
        });
        condition.type_ != condition::READY && condition.status != "Unknown" && !is_known
    });
    let mut events: Vec<Event> = changed
        .map(|condition| Event {
            type_: if status::is_fine(condition) {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: condition.reason.clone(),
            note: Some(if condition.message.is_empty() {
                format!("{} is {}", condition.type_, condition.status)
            } else {
                format!("{}: {}", condition.type_, condition.message)
            }),
            action: "Reconcile".to_owned(),
            secondary: None,
        })
        .collect();
    if let (Some(old), Some(new)) = (&last.epoch, &now.epoch)
        && old != new
    {
        events.push(Event {
            type_: EventType::Warning,
            reason: "LogReplaced".to_owned(),
            note: Some(format!(
                "the log of epoch {old} was lost; the room goes on with epoch {new}"
            )),
            action: "Reconcile".to_owned(),
            secondary: None,
        });
    }
    events
}
