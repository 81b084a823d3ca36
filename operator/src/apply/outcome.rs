//! What came back from applying a room.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, networking::v1::Ingress};
use kube::core::DynamicObject;
use papo_protocol::Epoch;

use crate::{
    broker::FoundLog,
    crd::LogReplicas,
    error::{BrokerError, ClusterError},
};

/// What came back.
#[derive(Debug)]
pub struct Outcome {
    /// The broker's side.
    pub broker: Result<LogOrigin, BrokerError>,
    /// The epoch that the servers use.
    pub epoch: Option<Epoch>,
    /// On how many nodes the log is, if that is known.
    pub replicas: Option<Replicas>,
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

/// On how many nodes the log is, and how it gets onto another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many.
    pub count: LogReplicas,
    /// Command on a node of the broker that adds a replica; `NODE` in it stands for the node that gets it. The management API has no request
    /// that does.
    pub command: String,
}

/// The log that was found or created on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomLog {
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// How it came to be the room's.
    pub(crate) origin: LogOrigin,
    /// What is known of it.
    pub(crate) found: FoundLog,
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
