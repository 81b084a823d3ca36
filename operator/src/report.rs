//! Tells users how a room is: the status, and events about what has changed. Nothing is written when nothing has.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;

use crate::{
    controller::Context,
    crd::{ChatRoom, ChatRoomStatus, condition},
    names, status,
};

/// Writes the status and the events that go with it.
pub(crate) async fn report(
    context: &Context,
    chat_room: &ChatRoom,
    now: &ChatRoomStatus,
) -> Result<(), kube::Error> {
    let before = chat_room.status.clone().unwrap_or_default();
    if before == *now {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": ChatRoom::api_version(&()),
        "kind": ChatRoom::kind(&()),
        "status": now,
    });
    let api: Api<ChatRoom> = Api::namespaced(
        context.world.client.clone(),
        &chat_room.namespace().unwrap_or_default(),
    );
    let params = PatchParams::apply(names::MANAGER).force();
    context.world.metrics.cluster_write();
    api.patch_status(&chat_room.name_any(), &params, &Patch::Apply(&patch))
        .await?;
    for event in events(&before, now) {
        publish(context, chat_room, &event).await;
    }
    Ok(())
}

/// Tells an event. That it cannot be told, as in a namespace that is going, is no reason to stop.
pub(crate) async fn publish(context: &Context, chat_room: &ChatRoom, event: &Event) {
    context.world.metrics.cluster_write();
    if let Err(error) = context
        .recorder
        .publish(event, &chat_room.object_ref(&()))
        .await
    {
        tracing::debug!(%error, reason = event.reason, "an event could not be written");
    }
}

/// What has changed for people: conditions other than the sum of them, and the log.
fn events(before: &ChatRoomStatus, now: &ChatRoomStatus) -> Vec<Event> {
    let known = |type_: &str| before.conditions.iter().find(|known| known.type_ == type_);
    let changed = now.conditions.iter().filter(|told| {
        let same = known(&told.type_)
            .is_some_and(|known| (&known.status, &known.reason) == (&told.status, &told.reason));
        told.type_ != condition::READY && told.status != "Unknown" && !same
    });
    let mut events: Vec<Event> = changed
        .map(|told| Event {
            type_: if told.status == "True" || status::is_moving_reason(&told.reason) {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: told.reason.clone(),
            note: Some(if told.message.is_empty() {
                format!("{} is {}", told.type_, told.status)
            } else {
                format!("{}: {}", told.type_, told.message)
            }),
            action: "Reconcile".to_owned(),
            secondary: None,
        })
        .collect();
    if let (Some(old), Some(new)) = (&before.epoch, &now.epoch)
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
