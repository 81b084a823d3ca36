//! `papo-operator remove-finalizers`: lets rooms be deleted after the operator is uninstalled. What they have on their brokers stays there.
//!
//! The rooms and their servers stay. An operator that is installed later adds the finalizers again.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{
    answer::{self, Answer},
    clients,
    config::{DeploymentRef, Namespaces},
    crd::{ChatRoom, StoredRoom},
    finalizers, names,
};

/// Whether the operator of this Deployment is installed. It would add the finalizers again, and a room that is deleted before it has would leave its
/// objects on the broker.
pub async fn is_installed(client: &Client, operator: &DeploymentRef) -> Result<bool, kube::Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &operator.namespace);
    let found = answer::optional_object(api.get(&operator.name).await)?;
    Ok(found.is_some_and(|deployment| deployment.metadata.deletion_timestamp.is_none()))
}

/// Removes our finalizer from all rooms of these namespaces, or from all there are if none is given. Returns how many rooms had it.
pub async fn remove_finalizers(
    client: &Client,
    namespaces: &Namespaces,
) -> Result<usize, kube::Error> {
    let recorder = Recorder::new(client.clone(), Reporter::from(names::MANAGER));
    let mut changed = 0;
    // A room that somebody else writes at the same time is listed again.
    loop {
        let rooms = rooms_with_finalizer(client, namespaces).await?;
        if rooms.is_empty() {
            return Ok(changed);
        }
        for chat_room in rooms {
            changed += usize::from(remove_finalizer(client, &recorder, &chat_room).await?);
        }
    }
}

async fn rooms_with_finalizer(
    client: &Client,
    namespaces: &Namespaces,
) -> Result<Vec<ChatRoom>, kube::Error> {
    let mut found = Vec::new();
    for namespace in namespaces.each() {
        let api: Api<StoredRoom> = clients::api(client, namespace);
        match api.list(&ListParams::default()).await {
            Ok(rooms) => {
                let rooms = rooms.items.into_iter().map(|stored| stored.room);
                found.extend(rooms.filter(finalizers::has));
            }
            // The definition was deleted first, and all rooms with it.
            Err(error) if Answer::of(&error).is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether the room is gone, or was written since it was read.
fn is_stale(error: &kube::Error) -> bool {
    let answer = Answer::of(error);
    answer.is_missing() || answer == Answer::Conflict
}

/// False if the room was deleted or written by somebody else since it was read.
async fn remove_finalizer(
    client: &Client,
    recorder: &Recorder,
    chat_room: &ChatRoom,
) -> Result<bool, kube::Error> {
    match finalizers::remove(client, chat_room).await {
        Err(error) if is_stale(&error) => return Ok(false),
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
        note: Some("the operator was uninstalled: what the room has on its broker stays there if the room is deleted before an operator is installed again".to_owned()),
        action: "RemoveFinalizer".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &chat_room.object_ref(&())).await {
        tracing::warn!(%error, "cannot write the event");
    }
    Ok(true)
}
