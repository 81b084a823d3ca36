//! The only effects: makes broker and cluster as they should be, and returns what came back.

mod children;
mod drift;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod outcome;
mod pods;
pub(crate) mod rabbitmq;
mod secret;
mod settled;

use std::sync::{Arc, atomic::AtomicBool};

use k8s_openapi::api::apps::v1::Deployment;
use papo_protocol::{Epoch, topology};

use crate::{
    broker::Broker,
    clients::Clients,
    crd::LogReplicas,
    desired::{self, Log},
    error::{BrokerError, ClusterError},
    names,
    validate::Room,
};

use children::Target;
use outcome::RoomLog;
pub use outcome::{LogOrigin, Observed, Outcome, Replicas};
pub use secret::RecentSecrets;
pub use settled::Settled;
use settled::State;

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
    let mut failures = Vec::new();
    let (broker, log, replicas) = match broker {
        Ok(broker) => {
            let found = apply_broker(clients, room, &broker, recorded.as_ref()).await;
            let replicas = found
                .as_ref()
                .ok()
                .and_then(|log| replicas(room, &broker, log));
            let epoch = found.as_ref().map(|log| log.epoch.clone()).ok();
            // A broker that does not answer for a while must not keep the servers from being scaled or updated.
            let log = epoch.or(recorded.clone()).map(|epoch| Log {
                nodes: broker.settings().urls().to_vec(),
                private_ca: broker.settings().ca().is_some(),
                epoch,
            });
            (found.map(|log| log.origin), log, replicas)
        }
        Err(error) => {
            // Whoever is denied must not stay because of a broker's Secret.
            failures.extend(secret::apply_access(clients, room).await.err());
            (Err(error), None, None)
        }
    };
    let (applied, of_children) = apply_children(clients, room, log.as_ref()).await;
    failures.extend(of_children);
    let (namespace, name) = (room.name.namespace(), names::child(&room.name));
    let cache = &clients.cache;
    let deployment = applied.or_else(|| cache.deployments.get(namespace, &name));
    Outcome {
        broker,
        epoch: log.map(|log| log.epoch).or(recorded),
        replicas,
        failures,
        observed: Observed {
            pods: pods::pods(&clients.client, room, deployment.as_deref()).await,
            deployment,
            ingress: cache.ingresses.get(namespace, &name),
            http_route: cache.http_routes.get(namespace, &name),
        },
    }
}

/// Makes the room's children as they should be, unless they were found so and nothing has changed since. Returns the servers if it knows more of
/// them than the cache, and what failed.
async fn apply_children(
    clients: &Clients,
    room: &Room,
    log: Option<&Log>,
) -> (Option<Arc<Deployment>>, Vec<ClusterError>) {
    // Before they are compared: what changes meanwhile is compared again.
    let state = State::of(room, log, &clients.cache);
    if clients.settled.is(room, &state) {
        return (None, Vec::new());
    }
    let children = desired::children(room, log);
    let applied = target(clients, room).apply(&clients.cache, children).await;
    if applied.failures.is_empty() && !applied.changed {
        clients.settled.set(room, state);
    }
    (applied.servers, applied.failures)
}

/// Makes the room's Secret and its objects on the broker as they should be, and returns the log that the servers use.
async fn apply_broker(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
    recorded: Option<&Epoch>,
) -> Result<RoomLog, BrokerError> {
    let topology = desired::topology(room);
    // The slot first: hundreds of new rooms may wait for their turn, and each attempt would cost a request for the Secret.
    if recorded.is_none() {
        let work = async {
            let password = secret::apply(clients, room, broker).await?;
            rabbitmq::apply(broker, &topology, &password, recorded).await
        };
        return broker.attempt(work).await;
    }
    let password = secret::apply(clients, room, broker).await?;
    // A room at rest needs no slot.
    if let Some(log) = rabbitmq::at_rest(broker, &topology, &password, recorded) {
        return Ok(log);
    }
    let work = rabbitmq::apply(broker, &topology, &password, recorded);
    match broker.attempt(work).await {
        // Other rooms have their turn, and most of them are new: what the last bulk read says is good enough once more.
        Err(BrokerError::Busy) => {
            rabbitmq::settled(broker, &topology, &password, recorded).ok_or(BrokerError::Busy)
        }
        applied => applied,
    }
}

/// On how many nodes the log is, if the broker has said so.
fn replicas(room: &Room, broker: &Broker, log: &RoomLog) -> Option<Replicas> {
    let nodes = broker.inventory.nodes()?.max(1);
    // A broker of one node is not asked.
    let of_one_node = (nodes == 1).then_some(1);
    let queue = topology::log(&room.name, &log.epoch);
    let vhost = shell_quoted(broker.vhost());
    Some(Replicas {
        count: LogReplicas {
            desired: room.log_replicas.min(nodes),
            members: of_one_node.or(log.found.members)?,
            online: of_one_node.or(log.found.online)?,
        },
        command: format!("rabbitmq-streams add_replica --vhost {vhost} {queue} NODE"),
    })
}

/// A text as one word of a POSIX shell, in which nothing is expanded: a virtual host is named by whoever wrote the broker's Secret, and an
/// administrator may run the command.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn target<'a>(clients: &'a Clients, room: &'a Room) -> Target<'a> {
    Target {
        room,
        metrics: &clients.metrics,
        changed: AtomicBool::new(false),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn shell_reads_a_quoted_text_as_one_word() {
        for text in [
            "/",
            "",
            "a b",
            "'; echo x; '",
            r"\'$(echo x)`echo y`",
            "a\nb",
        ] {
            let command = format!("printf %s {}", shell_quoted(text));
            let shell = Command::new("sh").args(["-c", &command]).output();
            let printed = shell.expect("a shell").stdout;
            assert_eq!(String::from_utf8(printed).as_deref(), Ok(text));
        }
    }
}
