//! The end of an operator: removes the finalizers of its rooms, so that they can be deleted while no operator clears the broker for them.
//!
//! The rooms stay, and so do their servers. An operator that comes later holds them again.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{
    answer::Answer,
    config::Namespaces,
    controller,
    crd::ChatRoom,
    finalize::{is_held, others, set_finalizers},
    names,
};

/// Lets all rooms of these namespaces go, or all there are if none is given. Returns how many there were.
pub async fn remove_finalizers(
    client: &Client,
    namespaces: &Namespaces,
) -> Result<usize, kube::Error> {
    let recorder = Recorder::new(client.clone(), Reporter::from(names::MANAGER));
    let mut changed = 0;
    // One that somebody writes at the same time is found again.
    loop {
        let held = held(client, namespaces).await?;
        if held.is_empty() {
            return Ok(changed);
        }
        for chat_room in held {
            changed += usize::from(let_go(client, &recorder, &chat_room).await?);
        }
    }
}

async fn held(client: &Client, namespaces: &Namespaces) -> Result<Vec<ChatRoom>, kube::Error> {
    let mut held = Vec::new();
    for namespace in namespaces.each() {
        let api: Api<ChatRoom> = controller::api(client, namespace);
        match api.list(&ListParams::default()).await {
            Ok(rooms) => held.extend(rooms.items.into_iter().filter(is_held)),
            // The definition went first, and all rooms with it.
            Err(error) if Answer::of(&error).is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

/// Whether the room is gone, or was written since it was read.
fn is_overtaken(error: &kube::Error) -> bool {
    let answer = Answer::of(error);
    answer.is_missing() || answer == Answer::Conflict
}

/// False if somebody else was faster.
async fn let_go(
    client: &Client,
    recorder: &Recorder,
    chat_room: &ChatRoom,
) -> Result<bool, kube::Error> {
    match set_finalizers(client, chat_room, &others(chat_room)).await {
        Err(error) if is_overtaken(&error) => return Ok(false),
        written => written?,
    }
    let (namespace, name) = (
        chat_room.namespace().unwrap_or_default(),
        chat_room.name_any(),
    );
    tracing::info!(room = %format!("{namespace}/{name}"), "removed the finalizer");
    let event = Event {
        type_: EventType::Warning,
        reason: "FinalizerRemoved".to_owned(),
        note: Some("the operator was uninstalled: what the room has on its broker stays there if the room is deleted before an operator is back".to_owned()),
        action: "RemoveFinalizer".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &chat_room.object_ref(&())).await {
        tracing::warn!(%error, "the event could not be written");
    }
    Ok(true)
}
