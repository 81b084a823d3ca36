//! How the servers are, in the words of Kubernetes where it has any: a quota that is used up, an image that does not come.

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::{ContainerStatus, Pod},
};

use super::{Verdict, verdict};
use crate::validate::Room;

/// Reasons of servers that are on their way.
pub(super) const MOVING: [&str; 3] = ["NotStarted", "Starting", "Updating"];
/// What a container that nothing is wrong with waits for.
const PATIENCE: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What a container whose image cannot be had waits for.
const IMAGE: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
];

/// What helps when nodes cannot get an image.
fn image_cure(image: &str) -> String {
    format!(
        "The nodes cannot get the image {image}: load it into them (`kind load docker-image`), or push it to a registry that they reach and set \
         the chart's imageRegistry or server.image (or spec.image of the room), with server.imagePullSecrets (secrets of the room's namespace) if \
         the registry is private"
    )
}

/// Whether the wanted number of servers answers.
pub(super) fn available(room: &Room, deployment: Option<&Deployment>, pods: &[Pod]) -> Verdict {
    let Some(deployment) = deployment else {
        return verdict(false, "NotStarted", "there are no servers yet");
    };
    if room.replicas == 0 {
        return verdict(true, "ScaledToZero", "no servers are wanted");
    }
    let status = deployment.status.clone().unwrap_or_default();
    let answering = status.available_replicas.unwrap_or(0);
    // Replicas that were just made to fit the spec are counted by the Deployment's controller only when it has seen the spec.
    if is_current(deployment) && answering >= room.replicas {
        return verdict(true, "Serving", "");
    }
    hindered(
        &status,
        pods,
        "Starting",
        format!("{answering} of {} servers answer", room.replicas),
    )
}

/// Whether all servers are of the latest spec.
pub(super) fn updated(room: &Room, deployment: Option<&Deployment>, pods: &[Pod]) -> Verdict {
    let Some(deployment) = deployment else {
        return verdict(false, "NotStarted", "there are no servers yet");
    };
    let status = deployment.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let old = status.replicas.unwrap_or(0) - updated;
    if is_current(deployment) && updated >= room.replicas && old <= 0 {
        return verdict(true, "UpToDate", "");
    }
    hindered(
        &status,
        pods,
        "Updating",
        format!(
            "{updated} of {} servers are of the latest spec",
            room.replicas
        ),
    )
}

fn is_current(deployment: &Deployment) -> bool {
    let observed = deployment
        .status
        .as_ref()
        .and_then(|it| it.observed_generation);
    observed == deployment.metadata.generation
}

/// What keeps the servers from being as they should be, or else that they are on their way.
fn hindered(
    status: &DeploymentStatus,
    pods: &[Pod],
    moving: &'static str,
    progress: String,
) -> Verdict {
    let told = |type_: &str, holds: &str| {
        let all = status.conditions.iter().flatten();
        let is = |text: &Option<String>, expected| text.as_deref() == Some(expected);
        all.filter(|told| is(&told.type_, type_) && is(&told.status, holds))
            .find_map(|told| told.message.clone())
    };
    let hindrance = told("ReplicaFailure", "True")
        .or_else(|| complaint(pods))
        .or_else(|| told("Progressing", "False"));
    match hindrance {
        Some(words) => verdict(false, "ServersFailing", words),
        None => verdict(false, moving, progress),
    }
}

/// What is said of the youngest pod of which anything is said: older ones may be from before a mistake was made, or mended.
fn complaint(pods: &[Pod]) -> Option<String> {
    let mut pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    pods.sort_by_key(|pod| (&pod.metadata.creation_timestamp, &pod.metadata.name));
    pods.into_iter().rev().find_map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Some(format!("pod {name}: {}", trouble(pod)?))
    })
}

fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|told| told.type_ == "PodScheduled" && told.status == "False");
    if let Some(told) = unscheduled {
        return Some(words(told.reason.as_deref(), told.message.as_deref()));
    }
    if status.phase.as_deref() == Some("Failed") {
        return Some(words(status.reason.as_deref(), status.message.as_deref()));
    }
    status.container_statuses.iter().flatten().find_map(stuck)
}

/// Why a container does not run, or how it last ended if it does not answer since.
fn stuck(container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default();
    let waiting = state.waiting.filter(|waiting| {
        let reason = waiting.reason.as_deref();
        reason.is_some_and(|reason| !PATIENCE.contains(&reason))
    });
    let waiting = waiting.map(|it| {
        let words = words(it.reason.as_deref(), it.message.as_deref());
        if it
            .reason
            .as_deref()
            .is_some_and(|reason| IMAGE.contains(&reason))
        {
            format!("{words}. {}", image_cure(&container.image))
        } else {
            words
        }
    });
    let ended = state.terminated.or(last.terminated).map(|it| {
        let how = words(it.reason.as_deref(), it.message.as_deref());
        format!("the server ended with exit code {} ({how})", it.exit_code)
    });
    let said: Vec<String> = waiting.into_iter().chain(ended).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn words(reason: Option<&str>, message: Option<&str>) -> String {
    let said: Vec<&str> = reason.into_iter().chain(message).collect();
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::Defaults,
        crd::{ChatRoom, ChatRoomSpec},
        validate::validate,
    };

    fn room(replicas: i32) -> Room {
        let spec = ChatRoomSpec {
            replicas,
            ..ChatRoomSpec::default()
        };
        let mut room = ChatRoom::new("geral", spec);
        room.metadata.namespace = Some("team".to_owned());
        room.metadata.uid = Some("u-1".to_owned());
        let defaults = Defaults {
            broker_secret: Some("papo/broker".parse().expect("valid")),
            ..Defaults::default()
        };
        validate(&room, &defaults).expect("valid")
    }

    fn deployment(status: &Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"generation": 2}, "status": status}))
            .expect("a Deployment")
    }

    fn pod(name: &str, made: &str, status: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "creationTimestamp": made}, "status": status}),
        )
        .expect("a Pod")
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({"containerStatuses": [{
            "name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }]})
    }

    /// One old server answers, and one of the latest spec was made.
    fn half_way() -> Deployment {
        deployment(
            &json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}),
        )
    }

    #[test]
    fn an_image_that_never_comes_is_told_while_the_old_server_serves() {
        let pods = [
            pod("old", "2026-01-01T00:00:00Z", &json!({})),
            pod(
                "new",
                "2026-01-02T00:00:00Z",
                &waiting("ImagePullBackOff", "Back-off pulling image \"x\""),
            ),
        ];
        let (room, deployment) = (room(1), half_way());
        let available = available(&room, Some(&deployment), &pods);
        assert_eq!(available.holds, Some(true), "the old one serves");
        let told = format!(
            "pod new: ImagePullBackOff: Back-off pulling image \"x\". {}",
            image_cure("x")
        );
        let updated = updated(&room, Some(&deployment), &pods);
        assert_eq!(
            (updated.holds, updated.reason, updated.message.as_str()),
            (Some(false), "ServersFailing", told.as_str())
        );
    }

    #[test]
    fn a_rollout_that_goes_well_is_on_its_way_until_the_old_servers_have_left() {
        let pods = [pod(
            "new",
            "2026-01-02T00:00:00Z",
            &waiting("ContainerCreating", ""),
        )];
        let told = updated(&room(1), Some(&half_way()), &pods);
        assert_eq!((told.holds, told.reason), (Some(false), "Updating"));
        let done = deployment(
            &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
        );
        assert_eq!(updated(&room(1), Some(&done), &[]).holds, Some(true));
    }

    #[test]
    fn what_is_said_of_an_earlier_generation_does_not_count() {
        let stale = deployment(
            &json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
        );
        assert_eq!(updated(&room(1), Some(&stale), &[]).reason, "Updating");
        assert_eq!(available(&room(1), Some(&stale), &[]).reason, "Starting");
    }

    #[test]
    fn each_thing_that_keeps_a_server_from_starting_is_told() {
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        let crashing = json!({"containerStatuses": [{
            "name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}},
        }]});
        for (status, words) in [
            (unscheduled, "Unschedulable: 0/1 nodes are available"),
            (
                crashing,
                "CrashLoopBackOff: back-off 40s; the server ended with exit code 2 (Error)",
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "no memory"}),
                "Evicted: no memory",
            ),
        ] {
            let pods = [pod("p", "2026-01-02T00:00:00Z", &status)];
            assert_eq!(complaint(&pods), Some(format!("pod p: {words}")));
        }
    }

    #[test]
    fn a_pod_that_is_going_or_has_recovered_is_not_told_of() {
        let mut going = pod(
            "p",
            "2026-01-02T00:00:00Z",
            &waiting("ErrImagePull", "no such image"),
        );
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        let recovered = json!({"containerStatuses": [{
            "name": "server", "image": "x", "imageID": "", "ready": true, "restartCount": 3,
            "lastState": {"terminated": {"exitCode": 2}},
        }]});
        let recovered = pod("q", "2026-01-02T00:00:00Z", &recovered);
        assert_eq!(complaint(&[going, recovered]), None);
    }

    #[test]
    fn a_quota_that_is_used_up_is_told_before_what_pods_say() {
        let quota = deployment(
            &json!({"observedGeneration": 2, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}),
        );
        let told = available(&room(1), Some(&quota), &[]);
        assert_eq!(
            (told.reason, told.message.as_str()),
            ("ServersFailing", "exceeded quota")
        );
    }
}
