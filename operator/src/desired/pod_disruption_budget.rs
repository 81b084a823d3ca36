//! How many servers may go at once when nodes are drained.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata::metadata;
use crate::{names, validate::Room};

/// One at a time; a server that does not answer may always go. For rooms of more than one server: with one, it would block every drain.
pub fn pod_disruption_budget(room: &Room) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(room),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&room.name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
