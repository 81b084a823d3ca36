//! Policies: what bounds a room's log, and the signal queues of all rooms.

use std::hash::Hash;

use serde_json::{Map, Value, json};

use super::{
    answers,
    request::{done, optional},
};
use crate::{
    broker::Broker,
    desired::{LogArguments, LogPolicy, SIGNAL_QUEUE_PATTERN, signal_policies},
    error::BrokerError,
};

/// Above the policies of people who leave the priority at zero.
const PRIORITY: i32 = 10;

/// A policy as it should be.
struct Policy<'a> {
    name: &'a str,
    pattern: &'a str,
    apply_to: &'a str,
    definition: Map<String, Value>,
}

/// Makes the log keep what the spec says: sets the policy if the log's own arguments say something else, and removes it if they do not.
pub(super) async fn ensure_log_policy(
    broker: &Broker,
    policy: &LogPolicy,
    arguments: &LogArguments,
) -> Result<(), BrokerError> {
    let Some(definition) = policy.definition(arguments) else {
        if read(broker, &policy.name).await?.is_some() {
            remove_policy(broker, &policy.name).await?;
        }
        return Ok(());
    };
    let policy = Policy {
        name: &policy.name,
        pattern: &policy.pattern,
        apply_to: "streams",
        definition,
    };
    ensure(broker, policy).await
}

/// Makes the policies bound the signal queues of the virtual host.
pub(super) async fn ensure_signal_policies(broker: &Broker) -> Result<(), BrokerError> {
    for policy in signal_policies() {
        let policy = Policy {
            name: policy.name,
            pattern: SIGNAL_QUEUE_PATTERN,
            apply_to: policy.apply_to,
            definition: policy.definition,
        };
        ensure(broker, policy).await?;
    }
    Ok(())
}

/// The names of the policies that all rooms share.
pub(super) fn shared_policies() -> [&'static str; 2] {
    signal_policies().map(|policy| policy.name)
}

/// Removes a policy.
pub(super) async fn remove_policy(broker: &Broker, name: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_write();
    let path = ["policies", broker.vhost(), name];
    done("remove the policy", broker.management.delete(&path).await)
}

/// A policy as something to compare.
pub(super) fn fingerprint(
    pattern: &str,
    apply_to: &str,
    definition: Option<&Map<String, Value>>,
) -> impl Hash + use<> {
    let mut definition: Vec<(String, String)> = definition
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect();
    definition.sort();
    (pattern.to_owned(), apply_to.to_owned(), definition)
}

async fn read(broker: &Broker, name: &str) -> Result<Option<answers::Policy>, BrokerError> {
    broker.metrics.broker_read();
    let path = ["policies", broker.vhost(), name];
    optional("read the policy", broker.management.get(&path, &[]).await)
}

async fn ensure(broker: &Broker, policy: Policy<'_>) -> Result<(), BrokerError> {
    let Policy {
        name,
        pattern,
        apply_to,
        definition,
    } = policy;
    let existing = read(broker, name).await?;
    let same = existing.is_some_and(|existing| {
        existing.pattern == pattern
            && existing.apply_to == apply_to
            && existing.definition().as_ref() == Some(&definition)
    });
    if same {
        return Ok(());
    }
    let params = json!({
        "pattern": pattern,
        "apply-to": apply_to,
        "priority": PRIORITY,
        "definition": definition,
    });
    let path = ["policies", broker.vhost(), name];
    broker.metrics.broker_write();
    done(
        "set the policy",
        broker.management.put(&path, &params).await,
    )
}
