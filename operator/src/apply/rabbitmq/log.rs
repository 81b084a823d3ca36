//! The room's log: the stream, the policy that bounds it, and its binding to the exchange.

use papo_protocol::{Epoch, topology as broker_names};
use rabbitmq_http_client::{
    commons::{PaginationParams, PolicyTarget},
    requests::{PolicyParams, QueueParams},
    responses::QueueInfo,
};
use serde_json::{Map, json};

use super::request::{done, optional};
use crate::{
    apply::outcome::{LogOrigin, RoomLog},
    broker::Broker,
    desired::{LogPolicy, Topology},
    error::BrokerError,
};

/// Queues listed at once when a log is searched for.
const PAGE: usize = 500;
/// Above the policies of people who leave the priority at zero.
const POLICY_PRIORITY: i32 = 10;

/// Makes the policy bound the log as the spec says.
pub(super) async fn ensure_policy(broker: &Broker, policy: &LogPolicy) -> Result<(), BrokerError> {
    let mut definition = Map::from_iter([(
        "max-length-bytes".to_owned(),
        json!(policy.retention.max_bytes),
    )]);
    if let Some(age) = &policy.retention.max_age {
        definition.insert("max-age".to_owned(), json!(age));
    }
    broker.metrics.broker_read();
    let existing = optional(
        "read the policy",
        broker.api.get_policy(broker.vhost(), &policy.name).await,
    )?;
    let same = existing.is_some_and(|existing| {
        existing.pattern == policy.pattern
            && existing.definition.0.as_ref() == Some(&definition)
            && existing.apply_to == PolicyTarget::Streams
    });
    if same {
        return Ok(());
    }
    let params = PolicyParams {
        vhost: broker.vhost(),
        name: &policy.name,
        pattern: &policy.pattern,
        apply_to: PolicyTarget::Streams,
        priority: POLICY_PRIORITY,
        definition,
    };
    broker.metrics.broker_write();
    done("set the policy", broker.api.declare_policy(&params).await)
}

/// Finds the room's log, or creates one. `recorded` is the epoch that the status names.
pub(super) async fn ensure_log(
    broker: &Broker,
    topology: &Topology,
    recorded: Option<&Epoch>,
) -> Result<RoomLog, BrokerError> {
    if let Some(epoch) = recorded {
        let name = broker_names::log(&topology.room, epoch);
        broker.metrics.broker_read();
        let existing = optional(
            "read the log",
            broker.api.get_queue_info(broker.vhost(), &name).await,
        )?;
        if let Some(existing) = existing {
            check_log(&existing)?;
            return Ok(RoomLog {
                epoch: epoch.clone(),
                origin: LogOrigin::Known,
            });
        }
    }
    // The fullest first: if there are several, the empty ones were never used.
    let mut logs = logs(broker, topology).await?;
    logs.sort_by(|a, b| {
        b.message_count
            .cmp(&a.message_count)
            .then_with(|| a.name.cmp(&b.name))
    });
    if let Some(log) = logs.first() {
        check_log(log)?;
        let epoch = epoch_of(topology, &log.name)
            .ok_or_else(|| BrokerError::Conflict(format!("queue {} has no epoch", log.name)))?;
        return Ok(RoomLog {
            epoch,
            origin: LogOrigin::Adopted,
        });
    }
    let epoch = Epoch::from_bits(rand::random());
    // A policy bounds the log, because unlike an argument a policy can change.
    let stream = broker_names::log_stream(&topology.room, &epoch, None);
    let arguments = stream.arguments.iter();
    let arguments: Map<_, _> = arguments
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let params = QueueParams::new_stream(&stream.name, Some(arguments));
    broker.metrics.broker_write();
    done(
        "create the log",
        broker.api.declare_queue(broker.vhost(), &params).await,
    )?;
    Ok(RoomLog {
        epoch,
        origin: LogOrigin::Created,
    })
}

/// Fails unless the queue is a stream.
pub(in crate::apply) fn check_log(existing: &QueueInfo) -> Result<(), BrokerError> {
    if existing.queue_type == "stream" {
        return Ok(());
    }
    Err(BrokerError::Conflict(format!(
        "queue {} exists already and is not a stream but {}; it is left as it is",
        existing.name, existing.queue_type
    )))
}

/// All streams that are named like a log of the room.
pub(super) async fn logs(
    broker: &Broker,
    topology: &Topology,
) -> Result<Vec<QueueInfo>, BrokerError> {
    let mut logs = Vec::new();
    for page in 1.. {
        broker.metrics.broker_read();
        let listed = broker
            .api
            .list_queues_in_paged(broker.vhost(), &PaginationParams::new(page, PAGE))
            .await;
        // RabbitMQ says "page out of range" rather than that the page is empty.
        let queues = match listed {
            Err(error) if page > 1 && error.is_client_error() => break,
            listed => done("list the queues", listed)?,
        };
        let last = queues.len() < PAGE;
        logs.extend(
            queues
                .into_iter()
                .filter(|queue| epoch_of(topology, &queue.name).is_some()),
        );
        if last {
            break;
        }
    }
    Ok(logs)
}

/// The epoch in the name of one of the room's logs; `None` for any other queue.
pub(in crate::apply) fn epoch_of(topology: &Topology, queue: &str) -> Option<Epoch> {
    let epoch = queue
        .strip_prefix(&topology.exchange)?
        .strip_prefix(".log.")?
        .parse()
        .ok()?;
    (broker_names::log(&topology.room, &epoch) == queue).then_some(epoch)
}

/// Binds the log to the exchange.
pub(super) async fn ensure_binding(
    broker: &Broker,
    exchange: &str,
    log: &str,
) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let bindings = done(
        "read the bindings",
        broker.api.list_queue_bindings(broker.vhost(), log).await,
    )?;
    if bindings.iter().any(|binding| {
        binding.source == exchange && binding.routing_key == broker_names::MESSAGE_KEY
    }) {
        return Ok(());
    }
    broker.metrics.broker_write();
    done(
        "bind the log",
        broker
            .api
            .bind_queue(
                broker.vhost(),
                log,
                exchange,
                Some(broker_names::MESSAGE_KEY),
                None,
            )
            .await,
    )
}
