//! The room's log: the stream, and its binding to the exchange.

use papo_protocol::{
    Epoch, RoomName,
    topology::{self as broker_names, Argument, LogSettings},
};
use rabbitmq_http_client::requests::QueueParams;
use serde_json::{Map, json};

use super::{
    answers::{Binding, Queue},
    list::each_page,
    request::{done, optional},
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
    // The fullest first: if there are several, the empty ones were never used.
    let mut logs = logs(broker, topology).await?;
    logs.sort_by(|a, b| {
        b.messages()
            .cmp(&a.messages())
            .then_with(|| a.name.cmp(&b.name))
    });
    if let Some(log) = logs.first() {
        check_log(log, &log.name)?;
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

/// All streams that are named like a log of the room.
async fn logs(broker: &Broker, topology: &Topology) -> Result<Vec<Queue>, BrokerError> {
    let mut logs: Vec<Queue> = Vec::new();
    let prefix = format!("{}.log.", topology.exchange);
    each_page(broker, "queues", &prefix, |page| {
        logs.extend(page.filter(|queue: &Queue| epoch_of(&topology.room, &queue.name).is_some()));
        true
    })
    .await?;
    Ok(logs)
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
    let bindings: Vec<Binding> =
        done("read the bindings", broker.management.get(&path, &[]).await)?;
    if bindings.iter().any(|binding| {
        binding.source == exchange && binding.routing_key == broker_names::MESSAGE_KEY
    }) {
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
