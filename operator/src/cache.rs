//! What the operator sees of the cluster: one watch per kind that feeds both the controller's triggers and a cache to compare with.
//!
//! Only objects that bear the operator's label are watched. Secrets are not: the operator fetches those it is told of by name, so that it
//! need not be allowed to list everybody's.
//!
//! A kind that the cluster does not have, or that the operator may not watch, is a [`Refusal`]: rooms that need it are told, all others go on.

use std::{hash::Hash, sync::Arc};

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
use tokio::sync::watch as signal;

use crate::{desired, names};

/// Why a kind is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster does not have it.
    #[error("the cluster does not have this kind")]
    NoSuchKind,
    /// The API server's own words.
    #[error("{0}")]
    Forbidden(String),
}

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
    refusal: signal::Receiver<Option<Refusal>>,
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

    /// Why nothing is known of the kind; `None` if something is.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow().clone()
    }

    /// Waits for the first list, or for its refusal. False when the watch has ended.
    async fn decided(&self) -> bool {
        let mut refusal = self.refusal.clone();
        tokio::select! {
            ready = self.store.wait_until_ready() => ready.is_ok(),
            refused = refusal.wait_for(Option::is_some) => refused.is_ok(),
        }
    }
}

/// The writing end of one kind.
pub struct Feed<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> {
    /// What fills the cache.
    pub writer: Writer<K>,
    /// What tells why it cannot be filled.
    pub refusals: Refusals,
}

/// Tells why a kind cannot be watched, as long as it cannot.
pub struct Refusals(signal::Sender<Option<Refusal>>);

impl<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> Feed<K> {
    fn new(dynamic: K::DynamicType) -> Self {
        Self {
            writer: Writer::new(dynamic),
            refusals: Refusals(signal::Sender::default()),
        }
    }
}

impl Refusals {
    /// Notes what the watch says. What may pass by itself, such as an API server that does not answer, is no refusal.
    pub fn note<K>(&self, event: &Result<watcher::Event<K>, watcher::Error>) {
        let refusal = match event {
            Ok(watcher::Event::InitDone) => None,
            Ok(_) => return,
            Err(error) => match refusal(error) {
                None => return,
                refusal => refusal,
            },
        };
        self.0.send_if_modified(|known| {
            let news = *known != refusal;
            *known = refusal;
            news
        });
    }
}

fn refusal(error: &watcher::Error) -> Option<Refusal> {
    use watcher::Error::{InitialListFailed, WatchError, WatchStartFailed};
    let (InitialListFailed(kube::Error::Api(status))
    | WatchStartFailed(kube::Error::Api(status))
    | WatchError(status)) = error
    else {
        return None;
    };
    if status.is_not_found() {
        Some(Refusal::NoSuchKind)
    } else if status.is_forbidden() {
        Some(Refusal::Forbidden(status.message.clone()))
    } else {
        None
    }
}

/// The writing ends of a [`Cache`], each to be fed by a watch.
pub struct Writers {
    /// Deployments.
    pub deployments: Feed<Deployment>,
    /// Services.
    pub services: Feed<Service>,
    /// NetworkPolicies.
    pub network_policies: Feed<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Feed<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Feed<Ingress>,
    /// HTTPRoutes.
    pub http_routes: Feed<DynamicObject>,
}

impl Cache {
    /// An empty cache and what fills it.
    pub fn new(client: &Client) -> (Self, Writers) {
        let resource = desired::http_route_resource();
        let writers = Writers {
            deployments: Feed::new(()),
            services: Feed::new(()),
            network_policies: Feed::new(()),
            pod_disruption_budgets: Feed::new(()),
            ingresses: Feed::new(()),
            http_routes: Feed::new(resource.clone()),
        };
        let cache = Self {
            deployments: kind(client, &writers.deployments),
            services: kind(client, &writers.services),
            secrets: kind(client, &Feed::<Secret>::new(())),
            network_policies: kind(client, &writers.network_policies),
            pod_disruption_budgets: kind(client, &writers.pod_disruption_budgets),
            ingresses: kind(client, &writers.ingresses),
            http_routes: Kind {
                client: client.clone(),
                store: writers.http_routes.writer.as_reader(),
                refusal: writers.http_routes.refusals.0.subscribe(),
                dynamic: resource,
                api: |client, namespace, resource| {
                    Api::namespaced_with(client, namespace, resource)
                },
            },
        };
        (cache, writers)
    }

    /// Waits until of every kind the first list is there, or it is known why there is none. False when the watches have ended.
    pub async fn ready(&self) -> bool {
        self.deployments.decided().await
            && self.services.decided().await
            && self.network_policies.decided().await
            && self.pod_disruption_budgets.decided().await
            && self.ingresses.decided().await
            && self.http_routes.decided().await
    }
}

fn kind<K>(client: &Client, feed: &Feed<K>) -> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    Kind {
        client: client.clone(),
        dynamic: (),
        store: feed.writer.as_reader(),
        refusal: feed.refusals.0.subscribe(),
        api: |client, namespace, (): &()| Api::namespaced(client, namespace),
    }
}

/// Watches the operator's objects of one kind: fills the cache and passes on what changed.
///
/// A watch that fails is logged and tried again by itself; it must not slow the controller's other triggers down.
pub(crate) fn watch<K>(
    api: Api<K>,
    feed: Feed<K>,
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
    let Feed { writer, refusals } = feed;
    watcher(api, ours)
        .default_backoff()
        .inspect(move |event| refusals.note(event))
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
