//! The only effects: makes broker and cluster as they should be, and returns what came back.

mod children;
mod drift;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod outcome;
mod pods;
pub(crate) mod rabbitmq;

use papo_protocol::{Epoch, limits::SESSION_KEY_LENGTH_MIN};

use crate::{
    broker::Broker,
    clients::Clients,
    desired::{self, Credentials, Log, PASSWORD_KEY, SESSION_KEY},
    error::{BrokerError, ClusterError},
    names,
    validate::Room,
};

use children::Target;
pub use outcome::{LogOrigin, Observed, Outcome};
use rabbitmq::Password;

/// Makes a room as it should be. `recorded` is the epoch that the last status names. The broker is not changed unless it is `cleared` of what an
/// earlier room of this name has left there.
pub async fn apply(
    clients: &Clients,
    room: &Room,
    recorded: Option<Epoch>,
    cleared: Result<(), BrokerError>,
) -> Outcome {
    let broker = match cleared {
        Ok(()) => clients.broker(&room.broker).await,
        Err(error) => Err(error),
    };
    let (broker, log) = match broker {
        Ok(broker) => apply_broker(clients, room, &broker, recorded.clone()).await,
        Err(error) => (Err(error), None),
    };
    let children = desired::children(room, log.as_ref());
    let target = target(clients, room);
    let (applied, failures) = target.apply(&clients.cache, children).await;
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

/// Makes the room's Secret and its objects on the broker as they should be, and returns where the servers find their log.
async fn apply_broker(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
    recorded: Option<Epoch>,
) -> (Result<LogOrigin, BrokerError>, Option<Log>) {
    let found = match ensure_secret(clients, room, broker).await {
        Ok(password) => {
            let topology = desired::topology(room);
            let work = rabbitmq::apply(broker, &topology, &password, recorded.as_ref());
            broker.attempt(work).await
        }
        Err(error) => Err(error.into()),
    };
    let (origin, epoch) = match found {
        Ok(log) => (Ok(log.origin), Some(log.epoch)),
        // A broker that does not answer for a while must not keep the servers from being scaled or updated.
        Err(error) => (Err(error), recorded),
    };
    let log = epoch.map(|epoch| Log {
        broker: broker.settings().url().clone(),
        private_ca: broker.settings().ca().is_some(),
        epoch,
    });
    (origin, log)
}

/// Makes the room's Secret as it should be, and returns the password in it. A password and a session key are drawn once: when there is none.
///
/// The broker gets the password only after it is stored: a Secret that the API server rejects must not change the password of servers that run.
async fn ensure_secret(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
) -> Result<Password, ClusterError> {
    let kind = &clients.cache.secrets;
    let api = kind.api(room.name.namespace());
    let target = target(clients, room);
    let live = target.get(&api, kind).await?;
    if let Some(live) = &live {
        target.check_owner(kind, live)?;
    }
    let stored = |key: &str| {
        let bytes = live.as_ref()?.data.as_ref()?.get(key)?;
        let text = String::from_utf8(bytes.0.clone()).ok();
        text.filter(|text| !text.is_empty())
    };
    let password = stored(PASSWORD_KEY);
    // The servers do not start with a shorter one.
    let session_key = stored(SESSION_KEY).filter(|key| key.len() >= SESSION_KEY_LENGTH_MIN);
    let is_new = password.is_none();
    let credentials = Credentials {
        password: password.unwrap_or_else(random),
        session_key: session_key.unwrap_or_else(random),
        ca: broker.settings().ca().map(str::to_owned),
    };
    let secret = desired::secret(room, &credentials);
    target.write(&api, kind, live.as_ref(), &secret).await?;
    Ok(Password {
        text: credentials.password,
        is_new,
    })
}

/// 128 random bits, as 32 characters.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn target<'a>(clients: &'a Clients, room: &'a Room) -> Target<'a> {
    Target {
        room,
        metrics: &clients.metrics,
    }
}
