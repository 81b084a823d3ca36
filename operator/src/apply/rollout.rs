//! Looks at a room's pods while its servers are not as they should be. In a steady state nobody asks for pods, and nobody watches them.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};

use super::World;
use crate::{names, validate::Room};

/// Pods looked at: enough to find what keeps them from starting.
const PODS: u32 = 500;

/// The room's pods, or none if nothing is to be learnt from them.
pub(super) async fn pods(world: &World, room: &Room, deployment: Option<&Deployment>) -> Vec<Pod> {
    if deployment.is_none_or(|deployment| is_settled(deployment, room.replicas)) {
        return Vec::new();
    }
    let api: Api<Pod> = Api::namespaced(world.client.clone(), room.name.namespace());
    let of_the_room = ListParams::default()
        .labels(&names::selector_text(&room.name))
        .limit(PODS);
    match api.list(&of_the_room).await {
        Ok(pods) => pods.items,
        // They only explain: what the Deployment itself says is told without them.
        Err(error) => {
            tracing::warn!(room = %room.name, %error, "the pods cannot be listed");
            Vec::new()
        }
    }
}

/// As many servers as wanted answer, all of the latest spec.
fn is_settled(deployment: &Deployment, wanted: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let are = |count: Option<i32>| count.unwrap_or(0) == wanted;
    status.observed_generation == deployment.metadata.generation
        && are(status.replicas)
        && are(status.updated_replicas)
        && are(status.available_replicas)
}
