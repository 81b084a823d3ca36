//! What a room should be: pure functions from a valid room to objects. They know no client and cannot fail.
//!
//! The broker's side comes first ([`topology`]), because the servers are started with the log that was found there ([`children`]).

mod deployment;
mod http_route;
mod ingress;
mod log;
mod log_policy;
mod memory;
mod metadata;
mod network_policy;
mod pod_disruption_budget;
mod secret;
mod service;
mod signal_policies;
mod topology;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::Service,
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::core::DynamicObject;

use crate::{names, validate::Room};

pub use deployment::deployment;
pub use http_route::{http_route, resource as http_route_resource};
pub use ingress::ingress;
pub use log::Log;
pub use log_policy::{LogArguments, LogPolicy};
pub use memory::{Memory, memory};
pub use network_policy::network_policy;
pub use pod_disruption_budget::pod_disruption_budget;
pub use secret::{
    ACCESS_KEY, CA_KEY, Credentials, PASSWORD_KEY, SESSION_KEY, USERNAME_KEY, secret,
};
pub use service::{CHAT_SERVICE_PORT, service};
pub use signal_policies::{SIGNAL_QUEUE_PATTERN, SignalPolicy, signal_policies};
pub use topology::{Topology, User, exchange_of_signal_queue, is_signal_queue, topology};

/// A room's objects in the cluster. What is `None` should not exist, and is removed if it does.
///
/// The Secret is not among them: it is written before the broker gets the password in it, and the others after the broker has a log.
#[derive(Clone, Debug)]
pub struct Children {
    /// The servers; `Unknown` while there is no log to point them at.
    pub deployment: Desired<Deployment>,
    /// Their address.
    pub service: Service,
    /// Which connections from and to the servers are allowed; `Unknown` while their broker is.
    pub network_policy: Desired<NetworkPolicy>,
    /// How many servers may be evicted at once.
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    /// The route from outside the cluster through an ingress controller.
    pub ingress: Option<Ingress>,
    /// The route from outside the cluster through a Gateway.
    pub http_route: Option<DynamicObject>,
}

/// An object, or that it cannot be known yet what it should be.
#[derive(Clone, Debug)]
pub enum Desired<K> {
    /// The object as it should be.
    Object(Box<K>),
    /// Whatever exists is left as it is.
    Unknown,
}

impl<K> Desired<K> {
    fn of(object: Option<K>) -> Self {
        object.map_or(Self::Unknown, |object| Self::Object(Box::new(object)))
    }
}

/// A room's objects in the cluster.
pub fn children(room: &Room, log: Option<&Log>) -> Children {
    Children {
        deployment: Desired::of(log.map(|log| deployment(room, log))),
        service: service(room),
        network_policy: Desired::of(log.map(|log| network_policy(room, log))),
        pod_disruption_budget: (room.replicas > 1).then(|| pod_disruption_budget(room)),
        ingress: room.ingress.as_ref().map(|spec| ingress(room, spec)),
        http_route: room.route.as_ref().map(|spec| http_route(room, spec)),
    }
}

/// The URL to open. An address outside the cluster is preferred to the one within.
pub fn url(room: &Room) -> String {
    let path = room.serving.base_path.page();
    if let Some(ingress) = &room.ingress {
        let scheme = if ingress.tls_secret_name.is_some() {
            "https"
        } else {
            "http"
        };
        return format!("{scheme}://{}{path}", ingress.host);
    }
    let host = room
        .route
        .as_ref()
        .and_then(|route| route.hostnames.iter().find(|host| !host.starts_with('*')));
    if let Some(host) = host {
        // Whether the listener speaks TLS only the Gateway knows; its port says so often enough.
        let tls = room
            .route
            .iter()
            .flat_map(|route| &route.parents)
            .any(|parent| parent.port == Some(443));
        return format!("{}://{host}{path}", if tls { "https" } else { "http" });
    }
    format!(
        "http://{}.{}.svc{path}",
        names::child(&room.name),
        room.name.namespace()
    )
}
