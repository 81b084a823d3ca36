//! Lists a room's pods while its servers are not as they should be. In a steady state nobody lists pods, and nobody watches them.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, Client, api::ListParams};

use crate::{names, validate::Room};

/// Pods listed: enough to find what keeps them from starting.
const PODS: u32 = 500;

/// The room's pods; none if there are none yet, or if all servers are available and up to date.
pub(super) async fn pods(
    client: &Client,
    room: &Room,
    deployment: Option<&Deployment>,
) -> Vec<Pod> {
    if deployment
        .is_none_or(|deployment| !has_pods(deployment) || is_settled(deployment, room.replicas))
    {
        return Vec::new();
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), room.name.namespace());
    let of_the_room = ListParams::default()
        .labels(&names::selector_text(&room.name))
        .limit(PODS);
    match api.list(&of_the_room).await {
        Ok(pods) => pods.items,
        // They only explain: the status says what the Deployment reports without them.
        Err(error) => {
            tracing::warn!(room = %room.name, %error, "cannot list the pods");
            Vec::new()
        }
    }
}

fn has_pods(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    status.and_then(|status| status.replicas).unwrap_or(0) > 0
}

/// Whether as many servers as the spec asks for are available, all of the latest spec.
fn is_settled(deployment: &Deployment, replicas: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let are = |count: Option<i32>| count.unwrap_or(0) == replicas;
    status.observed_generation == deployment.metadata.generation
        && are(status.replicas)
        && are(status.updated_replicas)
        && are(status.available_replicas)
}
