//! An entry of the list: a deleted room whose broker could not be cleared.

use std::str::FromStr;

use k8s_openapi::jiff::Timestamp;
use papo_protocol::RoomName;
use serde::{Deserialize, Serialize};

use crate::{apply::rabbitmq::Removal, config::SecretRef};

/// A deleted room that may have left something on its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// What is removed.
    pub(crate) removal: Removal,
    /// The broker.
    pub(crate) secret: SecretRef,
    /// Since when the room is gone.
    pub(crate) since: Timestamp,
}

/// What the `ConfigMap` holds of it, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    namespace: String,
    name: String,
    uid: String,
    secret: String,
    keep_log: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    since: String,
}

/// The text is no entry.
#[derive(Debug, thiserror::Error)]
#[error("this is no entry that the operator has written")]
pub(crate) struct InvalidEntry;

impl Leftover {
    /// The key of a room's entry, which people recognise. It is unique because `metadata.uid` is.
    pub(crate) fn key_of(room: &RoomName, uid: &str) -> String {
        format!("{}.{}.{uid}", room.namespace(), room.name())
    }

    /// The key of this entry.
    pub(crate) fn key(&self) -> String {
        Self::key_of(&self.removal.room, &self.removal.owner)
    }

    /// The entry as JSON.
    pub(super) fn to_json(&self) -> String {
        let Self {
            removal:
                Removal {
                    room,
                    owner,
                    keep_log,
                    epoch,
                },
            secret,
            since,
        } = self;
        let stored = Stored {
            namespace: room.namespace().to_owned(),
            name: room.name().to_owned(),
            uid: owner.clone(),
            secret: secret.to_string(),
            keep_log: *keep_log,
            epoch: epoch.as_ref().map(ToString::to_string),
            since: format!("{since:.0}"),
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }
}

impl FromStr for Leftover {
    type Err = InvalidEntry;

    fn from_str(json: &str) -> Result<Self, InvalidEntry> {
        let stored: Stored = serde_json::from_str(json).map_err(|_| InvalidEntry)?;
        let epoch = stored.epoch.map(|epoch| epoch.parse()).transpose();
        Ok(Self {
            removal: Removal {
                room: RoomName::new(&stored.namespace, &stored.name).map_err(|_| InvalidEntry)?,
                owner: Some(stored.uid)
                    .filter(|uid| !uid.is_empty())
                    .ok_or(InvalidEntry)?,
                keep_log: stored.keep_log,
                epoch: epoch.map_err(|_| InvalidEntry)?,
            },
            secret: stored.secret.parse().map_err(|_| InvalidEntry)?,
            since: stored.since.parse().map_err(|_| InvalidEntry)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_read_as_it_was_written() {
        let leftover = Leftover {
            removal: Removal {
                room: "team/geral".parse().expect("valid"),
                owner: "u-1".to_owned(),
                keep_log: true,
                epoch: Some("0a".parse().expect("valid")),
            },
            secret: "papo/broker".parse().expect("valid"),
            since: Timestamp::UNIX_EPOCH,
        };
        let json = leftover.to_json();
        assert_eq!(json.parse::<Leftover>().expect("an entry"), leftover);
        assert_eq!(leftover.key(), "team.geral.u-1");
        for bad in [
            "",
            "{}",
            &json.replace("u-1", ""),
            &json.replace("papo/broker", "broker"),
            &json.replace("geral", "a/b"),
            &json.replace("\"0a\"", "\"../0a\""),
        ] {
            assert!(bad.parse::<Leftover>().is_err(), "{bad}");
        }
    }
}
