//! What the operator sees of the cluster: one watch per kind that feeds both the controller's triggers and a cache to compare with.
//!
//! Only objects that bear the operator's label are watched. Secrets are not: the operator fetches those it is told of by name, so that it
//! need not be allowed to list everybody's.

use std::{hash::Hash, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DynamicObject, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::{desired, names};

/// How long to wait for the first list of a kind that may not exist in this cluster.
const OPTIONAL_KIND: Duration = Duration::from_secs(5);

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
    store: Store<K>,
    api: fn(Client, &str, &K::DynamicType) -> Api<K>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> Kind<K> {
    /// The API of the kind in a namespace.
    pub fn api(&self, namespace: &str) -> Api<K> {
        (self.api)(self.client.clone(), namespace, &self.dynamic)
    }

    /// The kind's name.
    pub fn name(&self) -> String {
        K::kind(&self.dynamic).into_owned()
    }

    /// What the watch has last seen of an object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new_with(name, self.dynamic.clone()).within(namespace);
        self.store.get(&key)
    }

    /// Waits for the first list, but not for ever: whether the cluster has the kind at all.
    pub async fn is_known(&self) -> bool {
        let ready = self.store.wait_until_ready();
        tokio::time::timeout(OPTIONAL_KIND, ready)
            .await
            .is_ok_and(|ready| ready.is_ok())
    }
}

/// The writing ends of a [`Cache`], each to be fed by a watch.
pub struct Writers {
    /// Deployments.
    pub deployments: Writer<Deployment>,
    /// Services.
    pub services: Writer<Service>,
    /// NetworkPolicies.
    pub network_policies: Writer<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Writer<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Writer<Ingress>,
    /// HTTPRoutes.
    pub http_routes: Writer<DynamicObject>,
}

impl Cache {
    /// An empty cache and what fills it.
    pub fn new(client: &Client) -> (Self, Writers) {
        let resource = desired::http_route_resource();
        let writers = Writers {
            deployments: Writer::default(),
            services: Writer::default(),
            network_policies: Writer::default(),
            pod_disruption_budgets: Writer::default(),
            ingresses: Writer::default(),
            http_routes: Writer::new(resource.clone()),
        };
        let cache = Self {
            deployments: kind(client, writers.deployments.as_reader()),
            services: kind(client, writers.services.as_reader()),
            secrets: kind(client, Writer::<Secret>::default().as_reader()),
            network_policies: kind(client, writers.network_policies.as_reader()),
            pod_disruption_budgets: kind(client, writers.pod_disruption_budgets.as_reader()),
            ingresses: kind(client, writers.ingresses.as_reader()),
            http_routes: Kind {
                client: client.clone(),
                store: writers.http_routes.as_reader(),
                dynamic: resource,
                api: |client, namespace, resource| {
                    Api::namespaced_with(client, namespace, resource)
                },
            },
        };
        (cache, writers)
    }

    /// Waits for the first list of every kind that each cluster has. False when the watches have ended.
    pub async fn ready(&self) -> bool {
        self.deployments.store.wait_until_ready().await.is_ok()
            && self.services.store.wait_until_ready().await.is_ok()
            && self.network_policies.store.wait_until_ready().await.is_ok()
            && self
                .pod_disruption_budgets
                .store
                .wait_until_ready()
                .await
                .is_ok()
            && self.ingresses.store.wait_until_ready().await.is_ok()
    }
}

fn kind<K>(client: &Client, store: Store<K>) -> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    Kind {
        client: client.clone(),
        dynamic: (),
        store,
        api: |client, namespace, (): &()| Api::namespaced(client, namespace),
    }
}

/// Watches the operator's objects of one kind: fills the cache and passes on what changed.
///
/// A watch that fails is logged and tried again by itself; it must not slow the controller's other triggers down.
pub(crate) fn watch<K>(
    api: Api<K>,
    writer: Writer<K>,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send
where
    K: Resource<DynamicType: Hash + Eq + Clone + Send + Sync>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let ours = watcher::Config::default().labels(&format!(
        "{}={}",
        names::MANAGED_BY_LABEL,
        names::MANAGER
    ));
    let url = api.resource_url().to_owned();
    watcher(api, ours)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .filter_map(move |event| {
            if let Err(error) = &event {
                tracing::debug!(%error, url, "a watch failed and is tried again");
            }
            std::future::ready(event.ok().map(Ok))
        })
}
