//! Reports how a room is: writes its status, and events about what has changed. Writes nothing when nothing has changed.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;

use super::context::Context;
use crate::{
    crd::{ChatRoom, ChatRoomStatus, StoredRoom, condition},
    known::Known,
    names, status,
};

/// How long a watch may take to report what was written. After a restore of etcd, versions begin again at lower ones.
const WATCH_DELAY: Duration = Duration::from_mins(5);

/// The statuses that this operator has written. The watch reports them later: a reconcile meanwhile would write the same again, and take the room for
/// one without a log.
#[derive(Default)]
pub struct Reported(Known<Written>);

#[derive(Clone)]
struct Written {
    version: u64,
    at: Instant,
    status: ChatRoomStatus,
}

impl Reported {
    /// The last status of a room: as the watch has reported it, or a newer one that this operator has written.
    pub(super) fn last(&self, chat_room: &ChatRoom) -> ChatRoomStatus {
        let observed = chat_room.status.clone().unwrap_or_default();
        let (Some(uid), Some(version)) = (chat_room.uid(), version(chat_room.meta())) else {
            return observed;
        };
        match self.0.get(&uid) {
            Some(written) if written.version > version && written.at.elapsed() < WATCH_DELAY => {
                written.status
            }
            Some(_) => {
                self.0.forget(&uid);
                observed
            }
            None => observed,
        }
    }

    pub(super) fn note(&self, written: &ObjectMeta, status: &ChatRoomStatus) {
        if let (Some(uid), Some(version)) = (&written.uid, version(written)) {
            let written = Written {
                version,
                at: Instant::now(),
                status: status.clone(),
            };
            self.0.set(uid, written);
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, uid: &str) -> bool {
        self.0.has(uid)
    }

    /// Forgets a room that is deleted.
    pub(super) fn forget(&self, uid: &str) {
        self.0.forget(uid);
    }

    /// Forgets all rooms but these.
    pub(super) fn retain(&self, uids: &HashSet<String>) {
        self.0.retain(uids);
    }
}

/// The version of an object. Kubernetes has always counted versions, and says since 1.35 that they may be compared.
fn version(of: &ObjectMeta) -> Option<u64> {
    of.resource_version.as_ref()?.parse().ok()
}

/// Writes a status that differs from the last one, and the events that go with it.
pub(super) async fn report(
    context: &Context,
    chat_room: &ChatRoom,
    now: &ChatRoomStatus,
) -> Result<(), kube::Error> {
    let last = context.reported.last(chat_room);
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
    let written = api
        .patch_status(&chat_room.name_any(), &params, &Patch::Apply(&patch))
        .await?;
    context.reported.note(written.meta(), now);
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

/// What has changed for people: new problems, the end of problems, the room's log, and that the room has become ready. Whatever else is as it
/// should be makes no event: of a thousand new rooms each event would be a thousand requests.
fn events(last: &ChatRoomStatus, now: &ChatRoomStatus) -> Vec<Event> {
    let known = |type_: &str| last.conditions.iter().find(|known| known.type_ == type_);
    let is_told = |condition: &&Condition| {
        let known = known(&condition.type_);
        let is_known = known.is_some_and(|known| {
            (&known.status, &known.reason) == (&condition.status, &condition.reason)
        });
        if is_known || condition.status == "Unknown" {
            return false;
        }
        let was_fine = known.is_none_or(status::is_fine);
        match condition.type_.as_str() {
            // Otherwise it sums the others up.
            condition::READY => condition.status == "True",
            // From one fine reason to another, as to a log with few replicas.
            condition::BROKER_READY if known.is_some() => true,
            _ => !(was_fine && status::is_fine(condition)),
        }
    };
    let mut events: Vec<Event> = now.conditions.iter().filter(is_told).map(event).collect();
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

fn event(condition: &Condition) -> Event {
    let Condition {
        type_,
        status,
        reason,
        message,
        ..
    } = condition;
    Event {
        type_: if status::is_fine(condition) {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: reason.clone(),
        note: Some(if message.is_empty() {
            format!("{type_} is {status}")
        } else {
            format!("{type_}: {message}")
        }),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;

    fn status_with(conditions: &[(&str, &str, &str)]) -> ChatRoomStatus {
        let conditions = conditions.iter().map(|(type_, status, reason)| Condition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        });
        ChatRoomStatus {
            conditions: conditions.collect(),
            ..ChatRoomStatus::default()
        }
    }

    fn reasons(last: &ChatRoomStatus, now: &ChatRoomStatus) -> Vec<String> {
        let events = events(last, now).into_iter();
        events.map(|event| event.reason).collect()
    }

    #[test]
    fn new_room_has_one_event() {
        let new = ChatRoomStatus::default();
        let starting = status_with(&[
            ("Ready", "False", "NotStarted"),
            ("Accepted", "True", "Valid"),
            ("BrokerReady", "True", "Synced"),
            ("Available", "False", "NotStarted"),
            ("UpToDate", "False", "Updating"),
        ]);
        let ready = status_with(&[
            ("Ready", "True", "Ready"),
            ("Accepted", "True", "Valid"),
            ("BrokerReady", "True", "Synced"),
            ("Available", "True", "Available"),
            ("UpToDate", "True", "UpToDate"),
        ]);
        assert!(reasons(&new, &starting).is_empty());
        assert_eq!(reasons(&starting, &ready), ["Ready"]);
        assert!(reasons(&ready, &ready).is_empty());
    }

    #[test]
    fn problem_and_its_end_are_events() {
        let fine = status_with(&[("Accepted", "True", "Valid")]);
        let wrong = status_with(&[("Accepted", "False", "Invalid")]);
        assert_eq!(reasons(&ChatRoomStatus::default(), &wrong), ["Invalid"]);
        assert_eq!(reasons(&fine, &wrong), ["Invalid"]);
        assert_eq!(reasons(&wrong, &fine), ["Valid"]);
    }
}
