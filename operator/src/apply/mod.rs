//! The only effects: makes broker and cluster as they should be, and tells what came back.

mod drift;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod kubernetes;
pub(crate) mod rabbitmq;
mod rollout;

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
    networking::v1::Ingress,
};
use kube::{Api, Client, core::DynamicObject};
use papo_protocol::Epoch;

use crate::{
    answer,
    broker::{Broker, Brokers},
    cache::Cache,
    config::SecretRef,
    desired::{self, Log, PASSWORD_KEY},
    error::{BrokerError, ClusterError, Problem},
    metrics::Metrics,
    names,
    validate::Room,
};

use kubernetes::Target;
use rabbitmq::Found;

/// What effects need.
pub struct World {
    /// The API server.
    pub client: Client,
    /// What is known of the cluster.
    pub cache: Cache,
    /// The brokers in use.
    pub brokers: Brokers,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// What came back.
#[derive(Debug)]
pub struct Outcome {
    /// The broker's side.
    pub broker: Result<LogNews, BrokerError>,
    /// Which life of the log the servers were told of.
    pub epoch: Option<Epoch>,
    /// What failed in the cluster.
    pub failures: Vec<ClusterError>,
    /// What others have made of it.
    pub seen: Seen,
}

/// What the cluster has made of a room's children, as last seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The servers.
    pub deployment: Option<Arc<Deployment>>,
    /// Their pods, if the servers are not as they should be.
    pub pods: Vec<Pod>,
    /// The way in from outside.
    pub ingress: Option<Arc<Ingress>>,
    /// The other way in from outside.
    pub http_route: Option<Arc<DynamicObject>>,
}

/// How the log came to be the one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogNews {
    /// As before.
    Known,
    /// One that was there is continued.
    Adopted,
    /// A new one was made.
    Created,
}

/// Makes a room as it should be. `recorded` is the epoch of the last status.
pub async fn apply(world: &World, room: &Room, recorded: Option<Epoch>) -> Outcome {
    let (broker, log) = match apply_broker(world, room, recorded.as_ref()).await {
        Ok((log, news)) => (Ok(news), Some(log)),
        // A broker that is down for a while must not keep the servers from being scaled or updated.
        Err(error) => {
            let log = known_log(world, room, recorded.clone()).await;
            (Err(error), log)
        }
    };
    let children = desired::children(room, log.as_ref());
    let (written, failures) = kubernetes::apply(&world.cache, &world.metrics, room, children).await;
    Outcome {
        broker,
        epoch: log.map(|log| log.epoch).or(recorded),
        failures,
        seen: seen(world, room, written.or_else(|| deployment(world, room))).await,
    }
}

async fn seen(world: &World, room: &Room, deployment: Option<Arc<Deployment>>) -> Seen {
    let (namespace, name) = (room.name.namespace(), names::child(&room.name));
    Seen {
        pods: rollout::pods(world, room, deployment.as_deref()).await,
        deployment,
        ingress: world.cache.ingresses.get(namespace, &name),
        http_route: world.cache.http_routes.get(namespace, &name),
    }
}

/// The servers, as last seen.
fn deployment(world: &World, room: &Room) -> Option<Arc<Deployment>> {
    world
        .cache
        .deployments
        .get(room.name.namespace(), &names::child(&room.name))
}

async fn apply_broker(
    world: &World,
    room: &Room,
    recorded: Option<&Epoch>,
) -> Result<(Log, LogNews), BrokerError> {
    let broker = broker(world, &room.broker).await?;
    let topology = desired::topology(room);
    let password = keep_secret(world, room, &topology.user, &broker).await?;
    let work = rabbitmq::apply(&broker, &topology, &password, recorded);
    let found = broker.attempt(work).await?;
    let news = match &found {
        Found::Known(_) => LogNews::Known,
        Found::Adopted(_) => LogNews::Adopted,
        Found::Created(_) => LogNews::Created,
    };
    Ok((log(&broker, room, found.epoch().clone())?, news))
}

/// The log we knew, at the address that the broker's Secret gives.
async fn known_log(world: &World, room: &Room, recorded: Option<Epoch>) -> Option<Log> {
    let broker = broker(world, &room.broker).await.ok()?;
    log(&broker, room, recorded?).ok()
}

fn log(broker: &Broker, room: &Room, epoch: Epoch) -> Result<Log, BrokerError> {
    let url = broker
        .settings()
        .url()
        .ok_or_else(|| BrokerError::BadSecret {
            secret: room.broker.clone(),
            problem: "`host` is not a host name".to_owned(),
        })?;
    Ok(Log {
        broker: url,
        private_ca: broker.settings().ca().is_some(),
        epoch,
    })
}

/// The broker that a Secret describes.
pub async fn broker(world: &World, secret: &SecretRef) -> Result<Arc<Broker>, BrokerError> {
    let api: Api<Secret> = Api::namespaced(world.client.clone(), &secret.namespace);
    let read =
        answer::optional_object(api.get(&secret.name).await).map_err(|error| ClusterError {
            kind: "Secret".to_owned(),
            name: secret.to_string(),
            problem: Problem::Api(error.into()),
        })?;
    let Some(read) = read else {
        world.brokers.forget(secret);
        return Err(BrokerError::NoSecret(secret.clone()));
    };
    world.brokers.get(secret, &read, &world.metrics)
}

/// Keeps the Secret of the room's servers, and tells the password in it. It is drawn once: when there is none.
async fn keep_secret(
    world: &World,
    room: &Room,
    user: &desired::User,
    broker: &Broker,
) -> Result<String, BrokerError> {
    let kind = &world.cache.secrets;
    let api = kind.api(room.name.namespace());
    let target = Target {
        room,
        metrics: &world.metrics,
    };
    let live = target.get(&api, kind).await?;
    let kept = live
        .as_ref()
        .and_then(|secret| secret.data.as_ref()?.get(PASSWORD_KEY));
    let kept = kept.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let password = kept
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let secret = desired::secret(room, user, &password, broker.settings().ca());
    target.write(&api, kind, live.as_ref(), &secret).await?;
    Ok(password)
}
