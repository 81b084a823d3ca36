//! Whether the servers are available and up to date, in the words of Kubernetes where it has any: an exceeded quota, an image that cannot be pulled.

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::{ContainerStatus, Pod},
};

use super::conditions::{ConditionState, state};
use crate::validate::Room;

/// Reasons of servers that are starting or updating.
pub(super) const ROLLOUT_REASONS: [&str; 3] = ["NotStarted", "Starting", "Updating"];
/// What a container waits for when nothing is wrong with it.
const NORMAL_WAITS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What a container waits for when its node cannot get its image.
const IMAGE_WAITS: [&str; 5] = [
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

/// Whether as many servers as the spec asks for are available.
pub(super) fn available(
    room: &Room,
    deployment: Option<&Deployment>,
    pods: &[Pod],
) -> ConditionState {
    let Some(deployment) = deployment else {
        return state(false, "NotStarted", "there are no servers yet");
    };
    if room.replicas == 0 {
        return state(true, "ScaledToZero", "the spec asks for no servers");
    }
    let status = deployment.status.clone().unwrap_or_default();
    let answering = status.available_replicas.unwrap_or(0);
    // Replicas that were just made to fit the spec are counted by the Deployment's controller only when it has seen the spec.
    if is_current(deployment) && answering >= room.replicas {
        return state(true, "Serving", "");
    }
    blocked_or(
        &status,
        pods,
        "Starting",
        format!("{answering} of {} servers are available", room.replicas),
    )
}

/// Whether all servers are of the latest spec.
pub(super) fn up_to_date(
    room: &Room,
    deployment: Option<&Deployment>,
    pods: &[Pod],
) -> ConditionState {
    let Some(deployment) = deployment else {
        return state(false, "NotStarted", "there are no servers yet");
    };
    let status = deployment.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let old = status.replicas.unwrap_or(0) - updated;
    if is_new_and_empty(room, deployment) {
        return state(true, "UpToDate", "");
    }
    if is_current(deployment) && updated >= room.replicas && old <= 0 {
        return state(true, "UpToDate", "");
    }
    blocked_or(
        &status,
        pods,
        "Updating",
        format!(
            "{updated} of {} servers are of the latest spec",
            room.replicas
        ),
    )
}

/// Whether the spec has never asked for a server, and the Deployment's controller has not observed it yet. It need not be waited for: of a thousand new
/// Deployments it observes five in a second (`kube-controller-manager --kube-api-qps`).
fn is_new_and_empty(room: &Room, deployment: &Deployment) -> bool {
    room.replicas == 0
        && has_never_had_servers(deployment)
        && observed_generation(deployment).is_none()
}

/// Whether the spec has never asked for a server, and none was adopted.
pub(crate) fn has_never_had_servers(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    deployment.spec.replicas == Some(0)
        && deployment.metadata.generation == Some(1)
        && status.and_then(|status| status.replicas).unwrap_or(0) == 0
}

fn is_current(deployment: &Deployment) -> bool {
    observed_generation(deployment) == deployment.metadata.generation
}

fn observed_generation(deployment: &Deployment) -> Option<i64> {
    let status = deployment.status.as_ref();
    status.and_then(|status| status.observed_generation)
}

/// What keeps the servers from being as they should be, or else how far they are.
fn blocked_or(
    deployment: &DeploymentStatus,
    pods: &[Pod],
    rollout_reason: &'static str,
    progress: String,
) -> ConditionState {
    let message_of = |type_: &str, status: &str| {
        let all = deployment.conditions.iter().flatten();
        let is = |text: &Option<String>, expected| text.as_deref() == Some(expected);
        all.filter(|it| is(&it.type_, type_) && is(&it.status, status))
            .find_map(|it| it.message.clone())
    };
    let obstacle = message_of("ReplicaFailure", "True")
        .or_else(|| pod_problem(pods))
        .or_else(|| message_of("Progressing", "False"));
    match obstacle {
        Some(words) => state(false, "ServersFailing", words),
        None => state(false, rollout_reason, progress),
    }
}

/// The problem of the youngest pod that has one: older pods may be from before a mistake was made, or mended.
fn pod_problem(pods: &[Pod]) -> Option<String> {
    let mut pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    pods.sort_by_key(|pod| (&pod.metadata.creation_timestamp, &pod.metadata.name));
    pods.into_iter().rev().find_map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Some(format!("pod {name}: {}", problem(pod)?))
    })
}

fn problem(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|it| it.type_ == "PodScheduled" && it.status == "False");
    if let Some(it) = unscheduled {
        return Some(words(it.reason.as_deref(), it.message.as_deref()));
    }
    if status.phase.as_deref() == Some("Failed") {
        return Some(words(status.reason.as_deref(), status.message.as_deref()));
    }
    status
        .container_statuses
        .iter()
        .flatten()
        .find_map(container_problem)
}

/// Why a container does not run, or how it last ended if it has not been ready since.
fn container_problem(container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default();
    let waiting = state.waiting.filter(|waiting| {
        let reason = waiting.reason.as_deref();
        reason.is_some_and(|reason| !NORMAL_WAITS.contains(&reason))
    });
    let waiting = waiting.map(|it| {
        let words = words(it.reason.as_deref(), it.message.as_deref());
        if it
            .reason
            .as_deref()
            .is_some_and(|reason| IMAGE_WAITS.contains(&reason))
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
    fn image_pull_failure_is_reported_while_the_old_server_serves() {
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
        assert_eq!(available.status, Some(true), "the old one serves");
        let now = format!(
            "pod new: ImagePullBackOff: Back-off pulling image \"x\". {}",
            image_cure("x")
        );
        let updated = up_to_date(&room, Some(&deployment), &pods);
        assert_eq!(
            (updated.status, updated.reason, updated.message.as_str()),
            (Some(false), "ServersFailing", now.as_str())
        );
    }

    #[test]
    fn rollout_is_updating_until_the_old_servers_have_ended() {
        let pods = [pod(
            "new",
            "2026-01-02T00:00:00Z",
            &waiting("ContainerCreating", ""),
        )];
        let now = up_to_date(&room(1), Some(&half_way()), &pods);
        assert_eq!((now.status, now.reason), (Some(false), "Updating"));
        let done = deployment(
            &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
        );
        assert_eq!(up_to_date(&room(1), Some(&done), &[]).status, Some(true));
    }

    #[test]
    fn status_of_an_earlier_generation_does_not_count() {
        let stale = deployment(
            &json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
        );
        assert_eq!(up_to_date(&room(1), Some(&stale), &[]).reason, "Updating");
        assert_eq!(available(&room(1), Some(&stale), &[]).reason, "Starting");
    }

    #[test]
    fn new_room_without_servers_waits_for_no_controller() {
        let made = |generation: i64, replicas: i32| -> Deployment {
            let spec = json!({"replicas": replicas, "selector": {}, "template": {}});
            let made = json!({"metadata": {"generation": generation}, "spec": spec});
            serde_json::from_value(made).expect("a Deployment")
        };
        for (asked, generation, replicas, is_up_to_date) in [
            (0, 1, 0, true),
            (0, 2, 0, false),
            (0, 1, 1, false),
            (1, 1, 0, false),
        ] {
            let deployment = made(generation, replicas);
            let up_to_date = up_to_date(&room(asked), Some(&deployment), &[]);
            assert_eq!(
                up_to_date.status,
                Some(is_up_to_date),
                "{asked} {generation} {replicas}"
            );
        }
    }

    #[test]
    fn adopted_servers_of_a_new_room_without_servers_have_to_end() {
        let mut adopting = deployment(&json!({"observedGeneration": 1, "replicas": 3}));
        adopting.metadata.generation = Some(1);
        adopting.spec.replicas = Some(0);
        let up_to_date = up_to_date(&room(0), Some(&adopting), &[]);
        assert_eq!(up_to_date.reason, "Updating");
    }

    #[test]
    fn obstacles_to_a_start_are_reported() {
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
            assert_eq!(pod_problem(&pods), Some(format!("pod p: {words}")));
        }
    }

    #[test]
    fn terminating_and_recovered_pods_are_not_reported() {
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
        assert_eq!(pod_problem(&[going, recovered]), None);
    }

    #[test]
    fn exceeded_quota_is_reported_before_pod_problems() {
        let quota = deployment(
            &json!({"observedGeneration": 2, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}),
        );
        let now = available(&room(1), Some(&quota), &[]);
        assert_eq!(
            (now.reason, now.message.as_str()),
            ("ServersFailing", "exceeded quota")
        );
    }
}
