//! The room's log: the stream, and its binding to the exchange.

use papo_protocol::{
    Epoch, RoomName,
    topology::{self as broker_names, Argument, LogSettings},
};
use rabbitmq_http_client::requests::QueueParams;
use serde_json::{Map, json};

use super::{
    answers::{Binding, Queue},
    list::each_object,
    request::{done, optional},
    rows::Rows,
};
use crate::{
    apply::outcome::{LogOrigin, RoomLog},
    broker::{Broker, FoundLog},
    desired::{LogArguments, Topology},
    error::BrokerError,
};

/// Finds the room's log, or creates one. `recorded` is the epoch that the status names.
pub(super) async fn ensure_log(
    broker: &Broker,
    topology: &Topology,
    recorded: Option<&Epoch>,
) -> Result<RoomLog, BrokerError> {
    if let Some(epoch) = recorded {
        let name = broker_names::log(&topology.room, epoch);
        if let Some(existing) = log_info(broker, &name).await? {
            check_log(&existing, &name)?;
            return Ok(RoomLog {
                epoch: epoch.clone(),
                origin: LogOrigin::Known,
                found: existing.log(),
            });
        }
    }
    if let Some(log) = fullest_log(broker, topology).await? {
        check_log(&log, &log.name)?;
        let epoch = epoch_of(&topology.room, &log.name)
            .ok_or_else(|| BrokerError::Conflict(format!("queue {} has no epoch", log.name)))?;
        return Ok(RoomLog {
            epoch,
            origin: LogOrigin::Adopted,
            found: log.log(),
        });
    }
    create_log(broker, topology).await
}

/// Creates a log.
pub(super) async fn create_log(
    broker: &Broker,
    topology: &Topology,
) -> Result<RoomLog, BrokerError> {
    let epoch = Epoch::from_bits(rand::random());
    let retention = &topology.policy.retention;
    let settings = LogSettings {
        retention_bytes: retention.max_bytes,
        max_age: retention.max_age.as_deref(),
        replicas: Some(topology.replicas),
    };
    let stream = broker_names::log_stream(&topology.room, &epoch, settings);
    let arguments = stream.arguments.iter().map(|(key, value)| {
        let value = match value {
            Argument::Number(number) => json!(number),
            Argument::Text(text) => json!(text),
        };
        ((*key).to_owned(), value)
    });
    let arguments: Map<_, _> = arguments.collect();
    let params = QueueParams::new_stream(&stream.name, Some(arguments));
    broker.metrics.broker_write();
    done(
        "create the log",
        broker
            .management
            .put(&["queues", broker.vhost(), &stream.name], &params)
            .await,
    )?;
    // The nodes that it got are the broker's choice.
    if broker.inventory.nodes().is_some_and(|nodes| nodes > 1)
        && let Some(created) = log_info(broker, &stream.name).await?
    {
        return Ok(RoomLog {
            epoch,
            origin: LogOrigin::Created,
            found: created.log(),
        });
    }
    Ok(RoomLog {
        epoch,
        origin: LogOrigin::Created,
        found: FoundLog {
            arguments: LogArguments::of(retention),
            ..FoundLog::default()
        },
    })
}

/// The queue of this name, if it exists.
async fn log_info(broker: &Broker, name: &str) -> Result<Option<Queue>, BrokerError> {
    broker.metrics.broker_read();
    let path = ["queues", broker.vhost(), name];
    optional("read the log", broker.management.get(&path, &[]).await)
}

/// Fails unless the queue is a stream.
pub(in crate::apply) fn check_log(existing: &Queue, name: &str) -> Result<(), BrokerError> {
    if existing.kind == "stream" {
        return Ok(());
    }
    Err(BrokerError::Conflict(format!(
        "queue {name} exists already and is not a stream; it is left as it is"
    )))
}

/// The fullest queue that is named like a log of the room: if there are several, the empty ones were never used.
async fn fullest_log(broker: &Broker, topology: &Topology) -> Result<Option<Queue>, BrokerError> {
    let mut fullest: Option<Queue> = None;
    let prefix = format!("{}.log.", topology.exchange);
    each_object(broker, "queues", &prefix, |queue: Queue| {
        let is_fuller = fullest.as_ref().is_none_or(|other| {
            let (messages, others) = (queue.messages(), other.messages());
            messages > others || messages == others && queue.name < other.name
        });
        if is_fuller && epoch_of(&topology.room, &queue.name).is_some() {
            fullest = Some(queue);
        }
        true
    })
    .await?;
    Ok(fullest)
}

/// The epoch in the name of one of the room's logs; `None` for any other queue.
pub(in crate::apply) fn epoch_of(room: &RoomName, queue: &str) -> Option<Epoch> {
    let epoch = queue
        .strip_prefix(&broker_names::exchange(room))?
        .strip_prefix(".log.")?
        .parse()
        .ok()?;
    (broker_names::log(room, &epoch) == queue).then_some(epoch)
}

/// Binds the log to the exchange, if it is not bound.
pub(super) async fn ensure_binding(
    broker: &Broker,
    exchange: &str,
    log: &str,
) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let path = ["queues", broker.vhost(), log, "bindings"];
    let mut is_bound = false;
    let rows = Rows::all(|binding: Binding| {
        is_bound |= binding.source == exchange && binding.routing_key == broker_names::MESSAGE_KEY;
    });
    let listed = broker.management.get_with(&path, &[], rows).await;
    done("read the bindings", listed)?;
    if is_bound {
        return Ok(());
    }
    bind(broker, exchange, log).await
}

/// Binds a log that has no binding.
pub(super) async fn bind(broker: &Broker, exchange: &str, log: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_write();
    let path = ["bindings", broker.vhost(), "e", exchange, "q", log];
    let binding = json!({"routing_key": broker_names::MESSAGE_KEY});
    done(
        "bind the log",
        broker.management.post(&path, &binding).await,
    )
}
