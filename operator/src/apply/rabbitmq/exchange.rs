//! The room's exchange. Its owner owns everything that is named after it.

use rabbitmq_http_client::requests::ExchangeParams;
use serde_json::{Map, json};

use super::{
    answers::{Exchange, Named},
    request::{done, optional},
    rows::{Page, Rows},
};
use crate::{broker::Broker, error::BrokerError};

/// Argument of the exchange: the `metadata.uid` of the room that owns it. RabbitMQ stores it and does not interpret it.
const OWNER: &str = "papo-owner";

/// Creates the exchange if it does not exist, and checks that it is ours. Returns whether it was created.
pub(super) async fn ensure_exchange(
    broker: &Broker,
    name: &str,
    owner: &str,
) -> Result<bool, BrokerError> {
    if let Some(existing) = exchange_info(broker, name).await? {
        return check_exchange(&existing, name, owner).map(|()| false);
    }
    create_exchange(broker, name, owner).await?;
    match exchange_info(broker, name).await? {
        Some(existing) => check_exchange(&existing, name, owner).map(|()| true),
        None => Err(BrokerError::Conflict(format!(
            "exchange {name} was removed while it was created"
        ))),
    }
}

/// Creates the exchange. RabbitMQ answers the same if somebody else was faster: read it back to learn its owner.
pub(super) async fn create_exchange(
    broker: &Broker,
    name: &str,
    owner: &str,
) -> Result<(), BrokerError> {
    let arguments = Map::from_iter([(OWNER.to_owned(), json!(owner))]);
    broker.metrics.broker_write();
    let params = ExchangeParams::durable_topic(name, Some(arguments));
    let path = ["exchanges", broker.vhost(), name];
    done(
        "create the exchange",
        broker.management.put(&path, &params).await,
    )
}

/// Fails unless the exchange is of our making and belongs to `owner`. The texts quote nothing of the broker.
pub(in crate::apply) fn check_exchange(
    existing: &Exchange,
    name: &str,
    owner: &str,
) -> Result<(), BrokerError> {
    let conflict = |problem: &str| {
        Err(BrokerError::Conflict(format!(
            "exchange {name} exists already {problem}; it is left as it is: delete it if nobody needs it any more"
        )))
    };
    if !existing.is_durable_topic() {
        return conflict("with other properties (it is not a durable topic exchange)");
    }
    match owner_of(existing) {
        Some(other) if other == owner => Ok(()),
        Some(_) => conflict("and belongs to another ChatRoom"),
        None => conflict(&format!(
            "and was not created by Papo's operator (it has no argument {OWNER})"
        )),
    }
}

/// The `metadata.uid` of the room that owns an exchange.
pub(super) fn owner_of(exchange: &Exchange) -> Option<String> {
    exchange.argument(OWNER)
}

/// The exchange, if it exists.
pub(super) async fn exchange_info(
    broker: &Broker,
    name: &str,
) -> Result<Option<Exchange>, BrokerError> {
    broker.metrics.broker_read();
    let path = ["exchanges", broker.vhost(), name];
    optional("read the exchange", broker.management.get(&path, &[]).await)
}

/// Whether any room has its exchange in the virtual host.
pub(super) async fn are_rooms_left(broker: &Broker) -> Result<bool, BrokerError> {
    broker.metrics.broker_read();
    let query = [
        ("page", "1"),
        ("page_size", "1"),
        ("name", r"^papo\."),
        ("use_regex", "true"),
    ];
    let path = ["exchanges", broker.vhost()];
    let rows = Page(Rows::at_most(1, |_: Named| ()));
    let listed = broker.management.get_with(&path, &query, rows).await;
    Ok(done("list the exchanges", listed)? > 0)
}
