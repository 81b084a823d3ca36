//! The handles through which the operator reads and changes the cluster and the brokers.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource, core::NamespaceResourceScope};

use crate::{
    answer,
    apply::{RecentSecrets, Settled},
    broker::{Broker, Brokers},
    cache::Cache,
    config::SecretRef,
    error::{BrokerError, ClusterError, Problem},
    metrics::Metrics,
};

/// How long a broker whose Secret is gone is remembered. `kubectl delete namespace` deletes Secrets before rooms, whose servers have a grace period.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What a reconcile reads from and writes to.
pub struct Clients {
    /// The API server.
    pub client: Client,
    /// What the watches have reported.
    pub cache: Cache,
    /// The brokers in use.
    pub brokers: Brokers,
    /// The rooms whose children were found as they should be.
    pub settled: Settled,
    /// The Secrets of rooms that were read a short time ago.
    pub secrets: RecentSecrets,
    /// Where requests are counted.
    pub metrics: Metrics,
}

impl Clients {
    /// The broker that a Secret describes. The Secret is read again and again, for all rooms of the broker together: nobody watches Secrets.
    pub async fn broker(&self, secret: &SecretRef) -> Result<Arc<Broker>, BrokerError> {
        if let Some(broker) = self.brokers.recent(secret) {
            return Ok(broker);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace);
        let read =
            answer::optional_object(api.get(&secret.name).await).map_err(|error| ClusterError {
                kind: "Secret".to_owned(),
                name: secret.to_string(),
                problem: Problem::Api(error.into()),
            })?;
        let Some(read) = read else {
            self.brokers.forget_after(secret, REMEMBERED);
            return Err(BrokerError::NoSecret(secret.clone()));
        };
        self.brokers.get(secret, &read, &self.metrics)
    }

    /// The broker that a Secret describes, or has described a short time ago: for deleted rooms only, whose Secret may be deleted with them.
    pub(crate) async fn broker_to_clear(
        &self,
        secret: &SecretRef,
    ) -> Result<Arc<Broker>, BrokerError> {
        let found = self.broker(secret).await;
        if !matches!(found, Err(BrokerError::NoSecret(_))) {
            return found;
        }
        let known = self.brokers.last_known(secret);
        known.map_or(found, |broker| {
            tracing::debug!(%secret, "the Secret of a broker is gone; clearing the broker with what it said");
            Ok(broker)
        })
    }
}

/// The API of a kind in one namespace, or in all if `None`.
pub(crate) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
