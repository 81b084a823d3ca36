//! The metadata of a room's children.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{names, validate::Room};

/// Metadata of each child: named after the room, labelled, and owned by it.
pub(super) fn metadata(room: &Room) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::child(&room.name)),
        namespace: Some(room.name.namespace().to_owned()),
        labels: Some(names::labels(&room.name)),
        owner_references: Some(vec![room.owner.clone()]),
        ..ObjectMeta::default()
    }
}
