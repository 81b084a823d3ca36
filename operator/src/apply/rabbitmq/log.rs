//! The room's log: the stream, the policy that bounds it, and its binding to the exchange.

use papo_protocol::{Epoch, topology as broker_names};
use rabbitmq_http_client::{
    commons::PolicyTarget,
    requests::{PolicyParams, QueueParams},
};
use serde_json::{Map, json};

use super::{
    answers::{Binding, Page, Policy, Queue},
    request::{done, optional},
};
use crate::{
    apply::outcome::{LogOrigin, RoomLog},
    broker::{Bound, Broker, Failure, PAGE, PAGES},
    desired::{LogPolicy, Topology},
    error::BrokerError,
};

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
    let path = ["policies", broker.vhost(), &policy.name];
    let existing: Option<Policy> =
        optional("read the policy", broker.management.get(&path, &[]).await)?;
    let same = existing.is_some_and(|existing| {
        existing.pattern == policy.pattern
            && existing.apply_to == "streams"
            && existing.definition().as_ref() == Some(&definition)
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
    done(
        "set the policy",
        broker.management.put(&path, &params).await,
    )
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
        let path = ["queues", broker.vhost(), &name];
        let existing: Option<Queue> =
            optional("read the log", broker.management.get(&path, &[]).await)?;
        if let Some(existing) = existing {
            check_log(&existing, &name)?;
            return Ok(RoomLog {
                epoch: epoch.clone(),
                origin: LogOrigin::Known,
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
        broker
            .management
            .put(&["queues", broker.vhost(), &stream.name], &params)
            .await,
    )?;
    Ok(RoomLog {
        epoch,
        origin: LogOrigin::Created,
    })
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
///
/// The broker is asked for names that contain what all of them begin with, so that a broker with many queues of others sends few. The answer is
/// filtered all the same.
pub(super) async fn logs(broker: &Broker, topology: &Topology) -> Result<Vec<Queue>, BrokerError> {
    let (prefix, size) = (format!("{}.log.", topology.exchange), PAGE.to_string());
    let mut logs = Vec::new();
    for page in 1..=PAGES {
        broker.metrics.broker_read();
        let query = [
            ("page", page.to_string()),
            ("page_size", size.clone()),
            ("name", prefix.clone()),
            ("use_regex", "false".to_owned()),
        ];
        let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
        let listed = broker
            .management
            .get::<Page<Queue>>(&["queues", broker.vhost()], &query)
            .await;
        // RabbitMQ says "page out of range" rather than that the page is empty.
        let queues = match listed {
            Err(Failure::Status(status)) if page > 1 && status.is_client_error() => {
                return Ok(logs);
            }
            listed => done("list the queues", listed)?.items,
        };
        let is_last = queues.len() < PAGE;
        logs.extend(
            queues
                .into_iter()
                .filter(|queue| epoch_of(topology, &queue.name).is_some()),
        );
        if is_last {
            return Ok(logs);
        }
    }
    Err(BrokerError::OverBound {
        attempt: "cannot list the queues".to_owned(),
        bound: Bound::Pages,
    })
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
    let path = ["queues", broker.vhost(), log, "bindings"];
    let bindings: Vec<Binding> =
        done("read the bindings", broker.management.get(&path, &[]).await)?;
    if bindings.iter().any(|binding| {
        binding.source == exchange && binding.routing_key == broker_names::MESSAGE_KEY
    }) {
        return Ok(());
    }
    broker.metrics.broker_write();
    let path = ["bindings", broker.vhost(), "e", exchange, "q", log];
    let binding = json!({"routing_key": broker_names::MESSAGE_KEY});
    done(
        "bind the log",
        broker.management.post(&path, &binding).await,
    )
}
