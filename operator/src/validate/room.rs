//! A valid room, in the terms in which the operator works with it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use papo_protocol::{AllowedOrigin, BasePath, Limits, RoomName, TrustedProxies};

use super::{Access, HostPath};
use crate::{
    config::SecretRef,
    crd::{DeletionPolicy, ImagePullPolicy, ParentRef, Placement, Resources},
    rooms::HostConflict,
};

/// A room whose spec is valid, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    /// The resource's `metadata.uid`: a room that is deleted and created again has another.
    pub uid: String,
    /// What makes Kubernetes delete its children with it.
    pub owner: OwnerReference,
    /// Heading of the page.
    pub title: Option<String>,
    /// How many servers it should have.
    pub replicas: i32,
    /// Age and size its log may reach.
    pub retention: Retention,
    /// On how many nodes of the broker its log should be, if there are as many.
    pub log_replicas: u32,
    /// Limits of its clients.
    pub limits: Limits,
    /// How its servers serve.
    pub serving: Serving,
    /// Who may enter it.
    pub access: Access,
    /// Secret with the broker's administrator.
    pub broker: SecretRef,
    /// What its pods are made of.
    pub pods: Pods,
    /// Who may reach its pods, and whom they may reach.
    pub network: Network,
    /// Its Ingress, if it has one.
    pub ingress: Option<Ingress>,
    /// Its HTTPRoute, if it has one.
    pub route: Option<Route>,
    /// A host and path that it asks for and another room has; then it has no Ingress or HTTPRoute with this host.
    pub host_conflict: Option<HostConflict>,
    /// What happens to its log when the room is deleted.
    pub deletion_policy: DeletionPolicy,
}

impl Room {
    /// The hosts of its routes, each once, with its path.
    pub fn addresses(&self) -> BTreeSet<HostPath> {
        let of_ingress = self.ingress.iter().map(|ingress| &ingress.host);
        let of_route = self.route.iter().flat_map(|route| &route.hostnames);
        let hosts = of_ingress.chain(of_route);
        hosts.map(|host| self.address(host)).collect()
    }

    /// The room on this host.
    pub fn address(&self, host: &str) -> HostPath {
        HostPath {
            host: host.to_owned(),
            path: self.serving.base_path.clone(),
        }
    }
}

/// How much of the past a log keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// RabbitMQ's `max-age`.
    pub max_age: Option<String>,
    /// RabbitMQ's `max-length-bytes`.
    pub max_bytes: u64,
}

/// How a room's servers serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Below which path of its hosts.
    pub base_path: BasePath,
    /// Origins that may connect besides its own.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Whether clients may poll.
    pub long_polling: bool,
    /// Messages in a page of history.
    pub history_page: u32,
    /// How long a connection that reads nothing is kept, in seconds.
    pub slow_reader_timeout: u32,
    /// How long a server that is stopped takes to close its connections, in seconds.
    pub drain_period: u32,
}

/// What a room's pods are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// Image of the server.
    pub image: String,
    /// When it is pulled; Kubernetes decides by its tag if `None`.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets to pull it with.
    pub image_pull_secrets: Vec<String>,
    /// CPU and memory.
    pub resources: Resources,
    /// Where they may run.
    pub placement: Placement,
    /// The proxies whose `X-Forwarded-For` they trust.
    pub trusted_proxies: TrustedProxies,
    /// How long browsers use nothing but TLS after they have reached a room over it, in seconds; not told if 0.
    pub hsts_max_age: u32,
    /// What they log, in tracing's filter syntax.
    pub log_filter: String,
}

/// Who may reach a room's pods besides the users of the chat, and whom they may reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Who may read the metrics; nobody if empty.
    pub metrics_from: Vec<NetworkPolicyPeer>,
    /// What the pods may reach besides name servers and the broker; everything if `None`.
    pub egress: Option<Vec<NetworkPolicyEgressRule>>,
}

/// The Ingress of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Its host.
    pub host: String,
    /// Its class; the cluster's default if `None`.
    pub class_name: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Secret with its certificate; no TLS if `None`.
    pub tls_secret_name: Option<String>,
}

/// The HTTPRoute of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Gateways to attach to; at least one.
    pub parents: Vec<ParentRef>,
    /// Hosts; every host of the listener if empty.
    pub hostnames: Vec<String>,
}
