//! The effects in the cluster: writes children that differ from what they should be, and removes those that the spec no longer asks for.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::drift;
use crate::{
    answer,
    cache::{Cache, Kind},
    desired::{Children, Desired},
    error::{ClusterError, Problem},
    metrics::Metrics,
    names,
    validate::Room,
};

/// A kind of object that can be a child of a room.
pub(super) trait Child:
    Resource<DynamicType: Clone + Eq + Hash> + Clone + Debug + Serialize + DeserializeOwned + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType: Clone + Eq + Hash>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + 'static
{
}

/// The room whose children are written.
pub(super) struct Target<'a> {
    /// The room.
    pub(super) room: &'a Room,
    /// Where writes are counted.
    pub(super) metrics: &'a Metrics,
    /// Whether a child was written or removed.
    pub(super) changed: AtomicBool,
}

/// What came of making a room's children as they should be.
pub(super) struct Applied {
    /// The servers as they are now: the cache may lag behind what was just written, and what it says of them would be about their former spec.
    pub(super) servers: Option<Arc<Deployment>>,
    /// Why some could not be written.
    pub(super) failures: Vec<ClusterError>,
    /// Whether a child was written or removed.
    pub(super) changed: bool,
}

impl Target<'_> {
    /// Makes the room's children as they should be. One that fails does not keep the others from being written.
    pub(super) async fn apply(&self, cache: &Cache, children: Children) -> Applied {
        let Children {
            deployment,
            service,
            network_policy,
            pod_disruption_budget,
            ingress,
            http_route,
        } = children;
        let (mut servers, mut results) = (None, Vec::new());
        // First, so that the policy protects the servers from their start.
        if let Desired::Object(network_policy) = network_policy {
            let ensured = self.ensure(&cache.network_policies, *network_policy).await;
            results.push(ensured.map(drop));
        }
        if let Desired::Object(deployment) = deployment {
            let ensured = self.ensure(&cache.deployments, *deployment).await;
            results.push(ensured.map(|ensured| servers = Some(ensured)));
        }
        results.push(self.ensure(&cache.services, service).await.map(drop));
        results.push(
            self.ensure_or_remove(&cache.pod_disruption_budgets, pod_disruption_budget)
                .await,
        );
        results.push(self.ensure_or_remove(&cache.ingresses, ingress).await);
        results.push(self.ensure_or_remove(&cache.http_routes, http_route).await);
        Applied {
            servers,
            failures: results.into_iter().filter_map(Result::err).collect(),
            changed: self.changed.load(Ordering::Relaxed),
        }
    }

    async fn ensure_or_remove<K: Child>(
        &self,
        kind: &Kind<K>,
        desired: Option<K>,
    ) -> Result<(), ClusterError> {
        match desired {
            Some(desired) => self.ensure(kind, desired).await.map(drop),
            None => self.remove(kind).await,
        }
    }

    /// Makes an object as it should be, and returns it.
    async fn ensure<K: Child>(&self, kind: &Kind<K>, desired: K) -> Result<Arc<K>, ClusterError> {
        if let Some(unwatched) = kind.unwatched() {
            return Err(self.error(kind, unwatched.into()));
        }
        let name = names::child(&self.room.name);
        let namespace = self.room.name.namespace();
        let api = kind.api(namespace);
        let live = match kind.get(namespace, &name) {
            Some(live) => Some(live),
            // The cache holds only objects with our label: one of the same name without it must not be overwritten.
            None => self.get(&api, kind).await?.map(Arc::new),
        };
        let written = self.write(&api, kind, live.as_deref(), &desired).await?;
        Ok(written
            .map(Arc::new)
            .or(live)
            .unwrap_or_else(|| Arc::new(desired)))
    }

    /// Reads an object past the cache.
    pub(super) async fn get<K: Child>(
        &self,
        api: &Api<K>,
        kind: &Kind<K>,
    ) -> Result<Option<K>, ClusterError> {
        let name = names::child(&self.room.name);
        answer::optional_object(api.get(&name).await)
            .map_err(|error| self.error(kind, Problem::Api(error.into())))
    }

    /// Writes an object unless it is already so, and returns what was written. `live` is what is there.
    pub(super) async fn write<K: Child>(
        &self,
        api: &Api<K>,
        kind: &Kind<K>,
        live: Option<&K>,
        desired: &K,
    ) -> Result<Option<K>, ClusterError> {
        let mut desired = serde_json::to_value(desired).unwrap_or_default();
        drift::stamp(&mut desired);
        if let Some(live) = live {
            self.check_owner(kind, live)?;
            let live = serde_json::to_value(live).unwrap_or_default();
            if drift::covers(&without_type(live), &without_type(desired.clone())) {
                return Ok(None);
            }
        }
        let name = names::child(&self.room.name);
        let params = PatchParams::apply(names::MANAGER).force();
        self.changed.store(true, Ordering::Relaxed);
        self.metrics.cluster_write();
        tracing::info!(room = %self.room.name, kind = %kind.name(), "applying an object");
        let written = api.patch(&name, &params, &Patch::Apply(&desired)).await;
        written
            .map(Some)
            .map_err(|error| self.error(kind, Problem::Api(error.into())))
    }

    async fn remove<K: Child>(&self, kind: &Kind<K>) -> Result<(), ClusterError> {
        let name = names::child(&self.room.name);
        let namespace = self.room.name.namespace();
        let Some(live) = kind.get(namespace, &name) else {
            return Ok(());
        };
        if !self.owns(live.as_ref()) || live.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: live.meta().uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        self.changed.store(true, Ordering::Relaxed);
        self.metrics.cluster_write();
        tracing::info!(room = %self.room.name, kind = %kind.name(), "removing an object");
        answer::optional(kind.api(namespace).delete(&name, &params).await)
            .map(drop)
            .map_err(|error| self.error(kind, Problem::Api(error.into())))
    }

    /// Fails if an object of the child's name belongs to somebody else.
    pub(super) fn check_owner<K: Child>(
        &self,
        kind: &Kind<K>,
        live: &K,
    ) -> Result<(), ClusterError> {
        if self.owns(live) {
            return Ok(());
        }
        Err(self.error(kind, Problem::NotOwned))
    }

    fn owns<K: Child>(&self, live: &K) -> bool {
        live.owner_references()
            .iter()
            .any(|owner| owner.uid == self.room.uid)
    }

    pub(super) fn error<K: Child>(&self, kind: &Kind<K>, problem: Problem) -> ClusterError {
        ClusterError {
            kind: kind.name(),
            name: names::child(&self.room.name),
            problem,
        }
    }
}

/// Objects from a watch may lack their type.
fn without_type(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}
