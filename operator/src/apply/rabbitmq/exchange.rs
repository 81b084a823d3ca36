//! The room's exchange. Its owner owns everything that is named after it.

use rabbitmq_http_client::{requests::ExchangeParams, responses::ExchangeInfo};
use serde_json::{Map, Value, json};

use super::request::{done, optional};
use crate::{broker::Broker, error::BrokerError};

/// Argument of the exchange: the `metadata.uid` of the room that owns it. RabbitMQ stores it and does not interpret it.
const OWNER: &str = "papo-owner";

/// Creates the exchange if it does not exist, and checks that it is ours.
pub(super) async fn ensure_exchange(
    broker: &Broker,
    name: &str,
    owner: &str,
) -> Result<(), BrokerError> {
    if let Some(existing) = exchange_info(broker, name).await? {
        return check_exchange(&existing, owner);
    }
    let arguments = Map::from_iter([(OWNER.to_owned(), json!(owner))]);
    broker.metrics.broker_write();
    let params = ExchangeParams::durable_topic(name, Some(arguments));
    done(
        "create the exchange",
        broker.api.declare_exchange(broker.vhost(), &params).await,
    )?;
    // RabbitMQ answers the same if somebody else was faster: read it back to learn its owner.
    match exchange_info(broker, name).await? {
        Some(existing) => check_exchange(&existing, owner),
        None => Err(BrokerError::Conflict(format!(
            "exchange {name} was removed while it was created"
        ))),
    }
}

pub(in crate::apply) fn check_exchange(
    existing: &ExchangeInfo,
    owner: &str,
) -> Result<(), BrokerError> {
    let ExchangeInfo {
        name,
        exchange_type,
        durable,
        auto_delete,
        ..
    } = existing;
    let conflict = |problem: String| {
        Err(BrokerError::Conflict(format!(
            "exchange {name} exists already {problem}; it is left as it is: delete it if nobody needs it any more"
        )))
    };
    if exchange_type != "topic" || !durable || *auto_delete {
        return conflict(format!(
            "with other properties (type {exchange_type}, durable {durable}, auto-delete {auto_delete})"
        ));
    }
    match owner_of(existing) {
        Some(other) if other == owner => Ok(()),
        Some(other) => conflict(format!("and belongs to another ChatRoom (uid {other})")),
        None => conflict(format!(
            "and was not created by Papo's operator (it has no argument {OWNER})"
        )),
    }
}

/// The `metadata.uid` of the room that owns an exchange.
pub(super) fn owner_of(exchange: &ExchangeInfo) -> Option<&str> {
    exchange.arguments.0.get(OWNER).and_then(Value::as_str)
}

/// The exchange, if it exists.
pub(super) async fn exchange_info(
    broker: &Broker,
    name: &str,
) -> Result<Option<ExchangeInfo>, BrokerError> {
    broker.metrics.broker_read();
    optional(
        "read the exchange",
        broker.api.get_exchange_info(broker.vhost(), name).await,
    )
}
