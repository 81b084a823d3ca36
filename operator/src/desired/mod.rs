//! What a room should be: pure functions from a valid room to objects. They know no client and cannot fail.
//!
//! The broker's side comes first ([`topology`]), because the servers are told which log they found there ([`children`]).

mod deployment;
mod http_route;
mod ingress;
mod network_policy;
mod pod_disruption_budget;
mod secret;
mod service;
mod topology;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::Service,
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::DynamicObject;
use papo_protocol::{BrokerUrl, Epoch};

use crate::{names, validate::Room};

pub use deployment::deployment;
pub use http_route::{http_route, resource as http_route_resource};
pub use ingress::ingress;
pub use network_policy::network_policy;
pub use pod_disruption_budget::pod_disruption_budget;
pub use secret::{CA_KEY, PASSWORD_KEY, USERNAME_KEY, secret};
pub use service::{CHAT_SERVICE_PORT, service};
pub use topology::{LogPolicy, Topology, User, topology};

/// Where the servers find their log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The broker, without credentials.
    pub broker: BrokerUrl,
    /// Whether the room's Secret holds the broker's certificate authority.
    pub private_ca: bool,
    /// Which life of the log.
    pub epoch: Epoch,
}

/// A room's objects in the cluster, apart from its Secret. What is `None` is not wanted and removed if it is there.
#[derive(Clone, Debug)]
pub struct Children {
    /// The servers; `Unknown` while there is no log to point them at.
    pub deployment: Wanted<Deployment>,
    /// Their address.
    pub service: Service,
    /// Who may talk to them.
    pub network_policy: NetworkPolicy,
    /// How many may go at once.
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    /// The way in from outside.
    pub ingress: Option<Ingress>,
    /// The other way in from outside.
    pub http_route: Option<DynamicObject>,
}

/// An object that may be wanted, or about which nothing can be said yet.
#[derive(Clone, Debug)]
pub enum Wanted<K> {
    /// It should be so.
    So(Box<K>),
    /// Leave what is there.
    Unknown,
}

/// A room's objects in the cluster.
pub fn children(room: &Room, log: Option<&Log>) -> Children {
    Children {
        deployment: log.map_or(Wanted::Unknown, |log| {
            Wanted::So(Box::new(deployment(room, log)))
        }),
        service: service(room),
        network_policy: network_policy(room),
        pod_disruption_budget: (room.replicas > 1).then(|| pod_disruption_budget(room)),
        ingress: room.ingress.as_ref().map(|wish| ingress(room, wish)),
        http_route: room.route.as_ref().map(|wish| http_route(room, wish)),
    }
}

/// Metadata of each child: named, labelled and owned by the room.
fn metadata(room: &Room) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::child(&room.name)),
        namespace: Some(room.name.namespace().to_owned()),
        labels: Some(names::labels(&room.name)),
        owner_references: Some(vec![room.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The URL people open. Outside addresses win over the one within the cluster.
pub fn url(room: &Room) -> String {
    if let Some(ingress) = &room.ingress {
        let scheme = if ingress.tls_secret_name.is_some() {
            "https"
        } else {
            "http"
        };
        return format!("{scheme}://{}/", ingress.host);
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
        return format!("{}://{host}/", if tls { "https" } else { "http" });
    }
    format!(
        "http://{}.{}.svc/",
        names::child(&room.name),
        room.name.namespace()
    )
}
