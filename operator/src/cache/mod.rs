//! What the operator knows of the cluster: one watch per kind both triggers reconciles and fills a cache of what exists.
//!
//! Only objects that bear the operator's label are watched. Secrets are not: the operator reads those that a room names, so that it
//! need not be allowed to list all Secrets.
//!
//! The operator serves all rooms even if it cannot watch a kind. Rooms that need the kind say so in a condition ([`Unwatched`]), all
//! rooms are reconciled as soon as the watch works, and `/readyz` and a metric name the kind meanwhile.

mod compact;
mod reporter;
mod watched;
mod writer;

use std::{hash::Hash, sync::Arc, time::Duration};

use futures::channel::mpsc;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource,
    core::{DynamicObject, NamespaceResourceScope},
    runtime::reflector::{ObjectRef, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch as signal, time::timeout};

use crate::{desired, validate::Room};

pub use compact::Compact;
pub(crate) use reporter::{WatchReporter, report_rooms};
pub use watched::Unwatched;
use watched::Watched;
pub use writer::KindWriter;
pub(crate) use writer::relisting;

/// How long a reconcile waits for the first list of the kinds that its room needs.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The operator's objects, by kind.
pub struct Cache {
    /// Deployments.
    pub deployments: Kind<Deployment>,
    /// Services.
    pub services: Kind<Service>,
    /// Secrets; never cached.
    pub secrets: Kind<Secret>,
    /// NetworkPolicies.
    pub network_policies: Kind<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Kind<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Kind<Ingress>,
    /// HTTPRoutes; the kind may be missing.
    pub http_routes: Kind<DynamicObject>,
}

/// One kind: how to reach it and what is known of it.
pub struct Kind<K: Resource<DynamicType: Hash + Eq + Clone> + 'static> {
    client: Client,
    dynamic: K::DynamicType,
    store: Store<Compact<K>>,
    watched: Arc<signal::Sender<Watched>>,
    api: fn(Client, &str, &K::DynamicType) -> Api<K>,
}

impl<K> Kind<K>
where
    K: Resource<DynamicType: Hash + Eq + Clone> + Serialize + DeserializeOwned + Clone + 'static,
{
    /// The API of the kind in a namespace.
    pub fn api(&self, namespace: &str) -> Api<K> {
        (self.api)(self.client.clone(), namespace, &self.dynamic)
    }

    /// The kind's name.
    pub fn name(&self) -> String {
        K::kind(&self.dynamic).into_owned()
    }

    /// An object as the watch last reported it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new_with(name, self.dynamic.clone()).within(namespace);
        self.store.get(&key)?.object().map(Arc::new)
    }

    /// What is known of an object.
    fn known(&self, namespace: &str, name: &str) -> Known {
        let key = ObjectRef::new_with(name, self.dynamic.clone()).within(namespace);
        let object = self.store.get(&key);
        let version = object.and_then(|it| it.meta().resource_version.clone());
        (version, self.unwatched())
    }

    /// Why nothing is known of the kind; `None` if something is.
    pub fn unwatched(&self) -> Option<Unwatched> {
        match &*self.watched.borrow() {
            Watched::No(reason) => Some(reason.clone()),
            Watched::Yes | Watched::Pending => None,
        }
    }

    /// Waits until the kind is listed, or until it is known why not: an API server that does not answer in time is a reason too.
    /// False when the watch has ended.
    async fn is_decided(&self) -> bool {
        let mut watched = self.watched.subscribe();
        let decided = async {
            tokio::select! {
                ready = self.store.wait_until_ready() => ready.is_ok(),
                decided = watched.wait_for(|watched| *watched != Watched::Pending) => decided.is_ok(),
            }
        };
        timeout(LIST_TIMEOUT, decided).await.unwrap_or_else(|_| {
            let reason = Unwatched::NotListed("the API server does not answer".to_owned());
            self.watched.send_if_modified(|watched| {
                let is_pending = *watched == Watched::Pending;
                if is_pending {
                    *watched = Watched::No(reason);
                }
                is_pending
            });
            true
        })
    }
}

/// The version of an object as the watch of its kind last reported it, and why the kind is not watched. A kind whose watch was lost keeps what it
/// had, so that only the two together say whether anything has changed.
pub(crate) type Known = (Option<String>, Option<Unwatched>);

/// What fills a [`Cache`], each by a watch.
pub struct Writers {
    /// Deployments.
    pub deployments: KindWriter<Deployment>,
    /// Services.
    pub services: KindWriter<Service>,
    /// NetworkPolicies.
    pub network_policies: KindWriter<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: KindWriter<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: KindWriter<Ingress>,
    /// HTTPRoutes.
    pub http_routes: KindWriter<DynamicObject>,
    /// Yields when a kind that could not be watched is watched: then all rooms are reconciled.
    pub recovered: mpsc::UnboundedReceiver<()>,
}

impl Cache {
    /// An empty cache and what fills it.
    pub fn new(client: &Client) -> (Self, Writers) {
        let resource = desired::http_route_resource();
        let (sender, recovered) = mpsc::unbounded();
        let writers = Writers {
            deployments: KindWriter::new((), &sender),
            services: KindWriter::new((), &sender),
            network_policies: KindWriter::new((), &sender),
            pod_disruption_budgets: KindWriter::new((), &sender),
            ingresses: KindWriter::new((), &sender),
            http_routes: KindWriter::new(resource.clone(), &sender),
            recovered,
        };
        let cache = Self {
            deployments: kind(client, &writers.deployments),
            services: kind(client, &writers.services),
            secrets: kind(client, &KindWriter::<Secret>::new((), &sender)),
            network_policies: kind(client, &writers.network_policies),
            pod_disruption_budgets: kind(client, &writers.pod_disruption_budgets),
            ingresses: kind(client, &writers.ingresses),
            http_routes: Kind {
                client: client.clone(),
                store: writers.http_routes.writer.as_reader(),
                watched: writers.http_routes.watched.clone(),
                dynamic: resource,
                api: |client, namespace, resource| {
                    Api::namespaced_with(client, namespace, resource)
                },
            },
        };
        (cache, writers)
    }

    /// What is known of the objects of a name, of each kind.
    pub(crate) fn versions(&self, namespace: &str, name: &str) -> [Known; 6] {
        [
            self.deployments.known(namespace, name),
            self.services.known(namespace, name),
            self.network_policies.known(namespace, name),
            self.pod_disruption_budgets.known(namespace, name),
            self.ingresses.known(namespace, name),
            self.http_routes.known(namespace, name),
        ]
    }

    /// Waits until the kinds that a room needs are listed, or until it is known why not. False when the watches have ended.
    pub async fn is_ready_for(&self, room: &Room) -> bool {
        let decided = tokio::join!(
            self.deployments.is_decided(),
            self.services.is_decided(),
            self.network_policies.is_decided(),
            async { room.replicas < 2 || self.pod_disruption_budgets.is_decided().await },
            async { room.ingress.is_none() || self.ingresses.is_decided().await },
            async { room.route.is_none() || self.http_routes.is_decided().await },
        );
        decided == (true, true, true, true, true, true)
    }
}

fn kind<K>(client: &Client, feed: &KindWriter<K>) -> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    Kind {
        client: client.clone(),
        dynamic: (),
        store: feed.writer.as_reader(),
        watched: feed.watched.clone(),
        api: |client, namespace, (): &()| Api::namespaced(client, namespace),
    }
}
