//! Lists of a virtual host's objects, page by page.

use std::vec;

use serde::de::DeserializeOwned;

use super::{
    answers::{Definitions, Page},
    request::done,
};
use crate::{
    broker::{Bound, Broker, Failure, PAGE, PAGES},
    error::BrokerError,
};

/// All that is read of an object in a list: a tenth of what a broker sends otherwise.
const COLUMNS: &str = "name,type,exclusive,messages,arguments,members,online";

/// A list of objects.
pub(super) struct List<'a> {
    /// What they are.
    pub(super) kind: &'a str,
    /// Where the management API has them.
    pub(super) path: &'a [&'a str],
    /// What all of their names contain.
    pub(super) part: &'a str,
    /// All that is read of each.
    pub(super) columns: &'a str,
    /// Their order.
    pub(super) sort: &'a str,
}

/// Hands over the objects of a kind (`queues` or `exchanges`) whose names contain `part`, page by page, until `take` wants no more. Queues that
/// end with their connections come last.
///
/// The broker is asked for what all of the names contain, so that one with many objects of others sends few. What it answers may be anything:
/// the caller filters it.
pub(super) async fn each_page<T: DeserializeOwned>(
    broker: &Broker,
    kind: &str,
    part: &str,
    take: impl FnMut(vec::IntoIter<T>) -> bool,
) -> Result<(), BrokerError> {
    let list = List {
        kind,
        path: &[kind, broker.vhost()],
        part,
        columns: COLUMNS,
        sort: "exclusive",
    };
    each_row(broker, list, take).await
}

/// Hands over the objects of a list, page by page, until `take` wants no more.
pub(super) async fn each_row<T: DeserializeOwned>(
    broker: &Broker,
    list: List<'_>,
    mut take: impl FnMut(vec::IntoIter<T>) -> bool,
) -> Result<(), BrokerError> {
    let List {
        kind,
        path,
        part,
        columns,
        sort,
    } = list;
    let size = PAGE.to_string();
    for page in 1..=PAGES {
        broker.metrics.broker_read();
        let query = [
            ("page", page.to_string()),
            ("page_size", size.clone()),
            ("name", part.to_owned()),
            ("use_regex", "false".to_owned()),
            ("columns", columns.to_owned()),
            ("sort", sort.to_owned()),
        ];
        let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
        let listed = broker.management.get::<Page<T>>(path, &query).await;
        // RabbitMQ says "page out of range" rather than that the page is empty.
        let items = match listed {
            Err(Failure::Status(status)) if page > 1 && status.is_client_error() => return Ok(()),
            listed => done(&format!("list the {kind}"), listed)?.items,
        };
        let is_last = items.len() < PAGE;
        if !take(items.into_iter()) || is_last {
            return Ok(());
        }
    }
    Err(BrokerError::OverBound {
        attempt: format!("cannot list the {kind}"),
        bound: Bound::Pages,
    })
}

/// What the virtual host's definitions say of it, in one answer. They cost RabbitMQ a tenth of what lists of the same objects cost.
pub(super) async fn definitions(broker: &Broker) -> Result<Definitions, BrokerError> {
    broker.metrics.broker_read();
    let path = ["definitions", broker.vhost()];
    done(
        "read the definitions",
        broker.management.get(&path, &[]).await,
    )
}
