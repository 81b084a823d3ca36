//! The operator's finalizer on a `ChatRoom`: it keeps a deleted room until the room's objects on the broker are removed.

use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    crd::{ChatRoom, StoredRoom},
    names,
};

/// Whether the room has our finalizer.
pub(crate) fn has(chat_room: &ChatRoom) -> bool {
    let mut names = chat_room.finalizers().iter();
    names.any(|name| name == names::FINALIZER)
}

/// Adds our finalizer to a room that does not have it.
pub(crate) async fn add(client: &Client, chat_room: &ChatRoom) -> Result<(), kube::Error> {
    let mut finalizers = chat_room.finalizers().to_vec();
    finalizers.push(names::FINALIZER.to_owned());
    write(client, chat_room, &finalizers).await
}

/// Removes our finalizer and keeps those of others.
pub(crate) async fn remove(client: &Client, chat_room: &ChatRoom) -> Result<(), kube::Error> {
    let all = chat_room.finalizers().iter();
    let others: Vec<String> = all
        .filter(|name| *name != names::FINALIZER)
        .cloned()
        .collect();
    write(client, chat_room, &others).await
}

/// The patch names the version that was read: the API server answers 409 if somebody else has written the room since, so that a finalizer of
/// others is never lost.
async fn write(
    client: &Client,
    chat_room: &ChatRoom,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    let namespace = chat_room.namespace().unwrap_or_default();
    // The answer holds the spec too, which may be unreadable.
    let api: Api<StoredRoom> = Api::namespaced(client.clone(), &namespace);
    let version = chat_room.resource_version();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    let params = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&chat_room.name_any(), &params, &Patch::Merge(&patch))
        .await
        .map(drop)
}
