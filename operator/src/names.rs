//! What the operator calls things in the cluster: children, labels, annotations, the finalizer.

use std::collections::BTreeMap;

use papo_protocol::RoomName;

/// Field manager of everything the operator writes, and its name in events.
pub const MANAGER: &str = "papo-operator";
/// Keeps a deleted room until its objects on the broker are gone: the broker is outside the cluster's garbage collection.
pub const FINALIZER: &str = "papo.chat/broker";
/// Label of everything that belongs to a room.
pub const ROOM_LABEL: &str = "papo.chat/room";
/// Label that tells the operator's objects from others'; its caches hold nothing else.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Annotation with a digest of the object that was applied, so that a field that is no longer desired is noticed and removed.
pub const APPLIED_ANNOTATION: &str = "papo.chat/applied";
/// Annotation of a room's pods with a digest of who may enter. It changes nothing of a pod, but makes its kubelet read the room's Secret at once.
pub const ACCESS_ANNOTATION: &str = "papo.chat/access";
/// Name of the servers' container.
pub const CONTAINER: &str = "server";
/// Name of the chat's port, on pods and on the Service.
pub const CHAT_PORT: &str = "http";
/// Name of the admin port, on pods and on the Service.
pub const ADMIN_PORT: &str = "admin";

/// The name of each child of a room, whatever its kind. The prefix lets a room's name begin with a digit, which a Service's cannot.
pub fn child(room: &RoomName) -> String {
    format!("chat-{}", room.name())
}

/// Name of the `ConfigMap` in the operator's namespace that lists what deleted rooms have left on brokers. Operators that share a Lease share it.
pub fn leftovers(lease: &str) -> String {
    format!("{lease}-leftovers")
}

/// Labels that select a room's pods. They cannot change: a Deployment's selector is immutable.
pub fn selector(room: &RoomName) -> BTreeMap<String, String> {
    labels_of([
        ("app.kubernetes.io/name", "papo-server"),
        ("app.kubernetes.io/instance", room.name()),
    ])
}

/// The same as text, for lists and the scale subresource.
pub fn selector_text(room: &RoomName) -> String {
    let pairs: Vec<String> = selector(room)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Labels of everything that belongs to a room.
pub fn labels(room: &RoomName) -> BTreeMap<String, String> {
    let mut labels = selector(room);
    labels.extend(labels_of([
        ("app.kubernetes.io/component", "server"),
        ("app.kubernetes.io/part-of", "papo"),
        (MANAGED_BY_LABEL, MANAGER),
        (ROOM_LABEL, room.name()),
    ]));
    labels
}

fn labels_of<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
