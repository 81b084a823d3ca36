//! The effects in the cluster: children are written if they differ from what they should be, and removed if they are no longer wanted.

use std::{fmt::Debug, hash::Hash, sync::Arc};

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
    desired::{Children, Wanted},
    error::{ClusterError, Problem},
    metrics::Metrics,
    names,
    validate::Room,
};

/// Everything that children are made of: what the API server can store.
pub(crate) trait Child:
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

/// Makes a room's children as they should be. One that fails does not keep the others from being made. The servers are returned as they
/// are now: the cache may lag behind what was just written, and what it says of them would be about their former spec.
pub(crate) async fn apply(
    cache: &Cache,
    metrics: &Metrics,
    room: &Room,
    children: Children,
) -> (Option<Arc<Deployment>>, Vec<ClusterError>) {
    let Children {
        deployment,
        service,
        network_policy,
        pod_disruption_budget,
        ingress,
        http_route,
    } = children;
    let to = Target { room, metrics };
    let (mut servers, mut results) = (None, Vec::new());
    results.push(
        to.keep(&cache.network_policies, network_policy)
            .await
            .map(drop),
    );
    if let Wanted::So(deployment) = deployment {
        let kept = to.keep(&cache.deployments, *deployment).await;
        results.push(kept.map(|kept| servers = Some(kept)));
    }
    results.push(to.keep(&cache.services, service).await.map(drop));
    results.push(
        to.keep_or_remove(&cache.pod_disruption_budgets, pod_disruption_budget)
            .await,
    );
    results.push(to.keep_or_remove(&cache.ingresses, ingress).await);
    results.push(to.keep_or_remove(&cache.http_routes, http_route).await);
    (
        servers,
        results.into_iter().filter_map(Result::err).collect(),
    )
}

/// Where children go.
pub(crate) struct Target<'a> {
    /// Whose they are.
    pub(crate) room: &'a Room,
    /// Where writes are counted.
    pub(crate) metrics: &'a Metrics,
}

impl Target<'_> {
    async fn keep_or_remove<K: Child>(
        &self,
        kind: &Kind<K>,
        wanted: Option<K>,
    ) -> Result<(), ClusterError> {
        match wanted {
            Some(wanted) => self.keep(kind, wanted).await.map(drop),
            None => self.remove(kind).await,
        }
    }

    /// Makes an object as it should be, and returns it.
    async fn keep<K: Child>(&self, kind: &Kind<K>, wanted: K) -> Result<Arc<K>, ClusterError> {
        if let Some(unwatched) = kind.unwatched() {
            return Err(self.error(kind, unwatched.into()));
        }
        let name = names::child(&self.room.name);
        let namespace = self.room.name.namespace();
        let api = kind.api(namespace);
        let live = match kind.get(namespace, &name) {
            Some(live) => Some(live),
            // The cache holds only what bears our label: a namesake without it must not be overwritten.
            None => self.get(&api, kind).await?.map(Arc::new),
        };
        let written = self.write(&api, kind, live.as_deref(), &wanted).await?;
        Ok(written
            .map(Arc::new)
            .or(live)
            .unwrap_or_else(|| Arc::new(wanted)))
    }

    /// Reads an object past the cache.
    pub(crate) async fn get<K: Child>(
        &self,
        api: &Api<K>,
        kind: &Kind<K>,
    ) -> Result<Option<K>, ClusterError> {
        let name = names::child(&self.room.name);
        answer::optional_object(api.get(&name).await)
            .map_err(|error| self.error(kind, Problem::Api(error.into())))
    }

    /// Writes an object unless it is already so, and returns what was written. `live` is what is there.
    pub(crate) async fn write<K: Child>(
        &self,
        api: &Api<K>,
        kind: &Kind<K>,
        live: Option<&K>,
        wanted: &K,
    ) -> Result<Option<K>, ClusterError> {
        let mut wanted = serde_json::to_value(wanted).unwrap_or_default();
        drift::stamp(&mut wanted);
        if let Some(live) = live {
            if !self.owns(live) {
                return Err(self.error(kind, Problem::Foreign));
            }
            let live = serde_json::to_value(live).unwrap_or_default();
            if drift::covers(&without_type(live), &without_type(wanted.clone())) {
                return Ok(None);
            }
        }
        let name = names::child(&self.room.name);
        let params = PatchParams::apply(names::MANAGER).force();
        self.metrics.cluster_write();
        tracing::info!(room = %self.room.name, kind = %kind.name(), "applying");
        let written = api.patch(&name, &params, &Patch::Apply(&wanted)).await;
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
        self.metrics.cluster_write();
        tracing::info!(room = %self.room.name, kind = %kind.name(), "removing");
        answer::optional(kind.api(namespace).delete(&name, &params).await)
            .map(drop)
            .map_err(|error| self.error(kind, Problem::Api(error.into())))
    }

    fn owns<K: Child>(&self, live: &K) -> bool {
        live.owner_references()
            .iter()
            .any(|owner| owner.uid == self.room.uid)
    }

    pub(crate) fn error<K: Child>(&self, kind: &Kind<K>, problem: Problem) -> ClusterError {
        ClusterError {
            kind: kind.name(),
            name: names::child(&self.room.name),
            problem,
        }
    }
}

/// What a watch delivers may lack its type.
fn without_type(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}
