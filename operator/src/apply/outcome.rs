//! What came back from applying a room.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, networking::v1::Ingress};
use kube::core::DynamicObject;
use papo_protocol::Epoch;

use crate::{
    desired::LogArguments,
    error::{BrokerError, ClusterError},
};

/// What came back.
#[derive(Debug)]
pub struct Outcome {
    /// The broker's side.
    pub broker: Result<LogOrigin, BrokerError>,
    /// The epoch that the servers use.
    pub epoch: Option<Epoch>,
    /// What failed in the cluster.
    pub failures: Vec<ClusterError>,
    /// What the cluster reports of the room's children.
    pub observed: Observed,
}

/// A room's children as the cluster last reported them.
#[derive(Debug, Default)]
pub struct Observed {
    /// The servers.
    pub deployment: Option<Arc<Deployment>>,
    /// Their pods, unless all servers are available and up to date.
    pub pods: Vec<Pod>,
    /// The Ingress.
    pub ingress: Option<Arc<Ingress>>,
    /// The HTTPRoute.
    pub http_route: Option<Arc<DynamicObject>>,
}

/// The log that was found or created on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomLog {
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// How it came to be the room's.
    pub(crate) origin: LogOrigin,
    /// What it keeps by its own arguments.
    pub(crate) arguments: LogArguments,
}

/// How a log came to be the room's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOrigin {
    /// The room's status names it.
    Known,
    /// It existed under an epoch that the status does not name, and is continued.
    Adopted,
    /// It was created.
    Created,
}
