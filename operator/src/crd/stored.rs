//! A `ChatRoom` as the API server has stored it: by an older or a newer definition, or in spite of one, so that this operator may be unable to
//! read some of it.
//!
//! A list or a watch of [`ChatRoom`] ends with an error when it meets such a room, and no room is reconciled any more. So rooms are watched as
//! [`StoredRoom`], which can always be read. It does more than kube's `DeserializeGuard`, which keeps only the metadata: the status and the
//! readable fields of the spec are needed to report the room, and to clear its broker when it is deleted.

use std::borrow::Cow;

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{ChatRoom, ChatRoomSpec};

/// A room as it is stored.
#[derive(Clone, Debug)]
pub struct StoredRoom {
    /// The room, without the fields of its spec that cannot be read. Its status is missing if that cannot be read: the next reconcile writes it
    /// again.
    pub room: ChatRoom,
    /// The fields that cannot be read; usually none.
    pub unreadable: Vec<Unreadable>,
}

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Unreadable {
    /// `spec`, or `spec.` and the name of the field.
    pub field: String,
    /// Why not.
    pub problem: String,
}

impl StoredRoom {
    /// Whether a field of the spec was read, or is not set.
    pub fn is_readable(&self, field: &str) -> bool {
        let mut unreadable = self.unreadable.iter();
        !unreadable.any(|it| it.field == "spec" || it.field.strip_prefix("spec.") == Some(field))
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl<'de> Deserialize<'de> for StoredRoom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw {
            metadata,
            spec,
            status,
        } = Raw::deserialize(deserializer)?;
        let (spec, unreadable) = match ChatRoomSpec::deserialize(&spec) {
            Ok(spec) => (spec, Vec::new()),
            Err(error) => readable(&spec, &error),
        };
        let mut room = ChatRoom::new("", spec);
        room.metadata = metadata;
        room.status = Deserialize::deserialize(&status).unwrap_or_default();
        Ok(Self { room, unreadable })
    }
}

/// The readable fields of a spec that cannot be read as a whole because of `error`, and the others.
fn readable(spec: &Value, error: &serde_json::Error) -> (ChatRoomSpec, Vec<Unreadable>) {
    let (mut readable, mut unreadable) = (Map::new(), Vec::new());
    for (name, value) in spec.as_object().into_iter().flatten() {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        match ChatRoomSpec::deserialize(&Value::Object(alone)) {
            Ok(_) => {
                readable.insert(name.clone(), value.clone());
            }
            Err(error) => unreadable.push(Unreadable {
                field: format!("spec.{name}"),
                problem: error.to_string(),
            }),
        }
    }
    if unreadable.is_empty() {
        unreadable.push(Unreadable {
            field: "spec".to_owned(),
            problem: error.to_string(),
        });
    }
    let spec = ChatRoomSpec::deserialize(&Value::Object(readable));
    (spec.unwrap_or_default(), unreadable)
}

impl Resource for StoredRoom {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ChatRoom::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ChatRoom::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ChatRoom::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ChatRoom::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.room.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.room.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(spec: &Value, status: &Value) -> StoredRoom {
        let room = json!({
            "apiVersion": "papo.chat/v1alpha1", "kind": "ChatRoom",
            "metadata": {"name": "geral", "namespace": "team"}, "spec": spec, "status": status,
        });
        serde_json::from_value(room).expect("always")
    }

    #[test]
    fn unreadable_fields_are_named_and_the_others_kept() {
        let spec = json!({"replicas": 3, "deletionPolicy": "Perhaps", "broker": {"secretName": "mine"}, "limits": 7});
        let room = stored(&spec, &json!({"epoch": "e"}));
        let fields: Vec<&str> = room.unreadable.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, ["spec.deletionPolicy", "spec.limits"]);
        assert!(room.is_readable("broker") && !room.is_readable("deletionPolicy"));
        let broker = room.room.spec.broker.expect("it was read");
        assert_eq!(
            (broker.secret_name.as_deref(), room.room.spec.replicas),
            (Some("mine"), 3)
        );
        assert_eq!(
            room.room.status.expect("it was read").epoch.as_deref(),
            Some("e")
        );
    }

    #[test]
    fn spec_that_is_no_object_is_unreadable_as_a_whole() {
        let room = stored(&json!([1]), &Value::Null);
        assert!(!room.is_readable("broker"), "{:?}", room.unreadable);
    }

    #[test]
    fn unreadable_status_is_missing_and_the_room_is_readable() {
        let room = stored(&json!({}), &json!({"conditions": "none"}));
        assert_eq!((room.unreadable, room.room.status), (Vec::new(), None));
    }

    #[test]
    fn readable_room_is_the_same_as_a_chat_room() {
        let spec = json!({"title": "Sala", "ingress": {"host": "a.example"}});
        let room = stored(&spec, &json!({"observedGeneration": 4}));
        let value = serde_json::to_value(&room.room).expect("JSON");
        let parsed: ChatRoom = serde_json::from_value(value).expect("a room");
        assert_eq!(parsed, room.room);
        assert!(room.unreadable.is_empty());
    }
}
