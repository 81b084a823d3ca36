//! The only effects: makes broker and cluster as they should be, and returns what came back.

mod children;
mod drift;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod outcome;
mod pods;
pub(crate) mod rabbitmq;

use k8s_openapi::api::core::v1::Secret;
use papo_protocol::Epoch;

use crate::{
    broker::Broker,
    clients::Clients,
    desired::{self, Credentials, Log, PASSWORD_KEY},
    error::{BrokerError, ClusterError},
    names,
    validate::Room,
};

use children::Target;
pub use outcome::{LogOrigin, Observed, Outcome};

/// What the children are made of, besides the room.
#[derive(Default)]
struct Inputs {
    /// The room's Secret as it is now.
    live_secret: Option<Secret>,
    /// What it should hold; `None` if it cannot be known.
    credentials: Option<Credentials>,
    /// Where the servers find their log; `None` if there is none yet, or its broker is not known.
    log: Option<Log>,
}

/// Makes a room as it should be. `recorded` is the epoch that the last status names.
pub async fn apply(clients: &Clients, room: &Room, recorded: Option<Epoch>) -> Outcome {
    let (broker, inputs) = match clients.broker(&room.broker).await {
        Ok(broker) => apply_broker(clients, room, &broker, recorded.clone()).await,
        Err(error) => (Err(error), Inputs::default()),
    };
    let Inputs {
        live_secret,
        credentials,
        log,
    } = inputs;
    let children = desired::children(room, credentials.as_ref(), log.as_ref());
    let target = target(clients, room);
    let (applied, failures) = target.apply(&clients.cache, children, live_secret).await;
    let (namespace, name) = (room.name.namespace(), names::child(&room.name));
    let cache = &clients.cache;
    let deployment = applied.or_else(|| cache.deployments.get(namespace, &name));
    Outcome {
        broker,
        epoch: log.map(|log| log.epoch).or(recorded),
        failures,
        observed: Observed {
            pods: pods::pods(&clients.client, room, deployment.as_deref()).await,
            deployment,
            ingress: cache.ingresses.get(namespace, &name),
            http_route: cache.http_routes.get(namespace, &name),
        },
    }
}

async fn apply_broker(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
    recorded: Option<Epoch>,
) -> (Result<LogOrigin, BrokerError>, Inputs) {
    let (live_secret, credentials, found) = match read_secret(clients, room, broker).await {
        Ok((live, credentials)) => {
            let topology = desired::topology(room);
            let work = rabbitmq::apply(broker, &topology, &credentials.password, recorded.as_ref());
            let found = broker.attempt(work).await;
            (live, Some(credentials), found)
        }
        Err(error) => (None, None, Err(error.into())),
    };
    let (origin, epoch) = match found {
        Ok(log) => (Ok(log.origin), Some(log.epoch)),
        // A broker that does not answer for a while must not keep the servers from being scaled or updated.
        Err(error) => (Err(error), recorded),
    };
    let inputs = Inputs {
        live_secret,
        credentials,
        log: epoch.map(|epoch| Log {
            broker: broker.settings().url().clone(),
            private_ca: broker.settings().ca().is_some(),
            epoch,
        }),
    };
    (origin, inputs)
}

/// The room's Secret as it is now, and what it should hold. A password is drawn once: when there is none.
async fn read_secret(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
) -> Result<(Option<Secret>, Credentials), ClusterError> {
    let kind = &clients.cache.secrets;
    let target = target(clients, room);
    let live = target.get(&kind.api(room.name.namespace()), kind).await?;
    if let Some(live) = &live {
        target.check_owner(kind, live)?;
    }
    let password = live
        .as_ref()
        .and_then(|secret| secret.data.as_ref()?.get(PASSWORD_KEY))
        .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        .filter(|password| !password.is_empty());
    let credentials = Credentials {
        password: password.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
        ca: broker.settings().ca().map(str::to_owned),
    };
    Ok((live, credentials))
}

fn target<'a>(clients: &'a Clients, room: &'a Room) -> Target<'a> {
    Target {
        room,
        metrics: &clients.metrics,
    }
}
