//! Lists of a virtual host's objects, page by page.

use serde::de::DeserializeOwned;

use super::{
    request::done,
    rows::{Definition, Definitions, Page, Rows},
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

/// Hands over the objects of a kind (`queues` or `exchanges`) whose names contain `part`, one by one, until `take` wants no page more. Queues that
/// end with their connections come last.
///
/// The broker is asked for what all of the names contain, so that one with many objects of others sends few. What it answers may be anything:
/// the caller filters it.
pub(super) async fn each_object<T: DeserializeOwned>(
    broker: &Broker,
    kind: &str,
    part: &str,
    take: impl FnMut(T) -> bool,
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

/// Hands over the objects of a list, one by one. There is another page if `take` wants it after each object of the last one.
pub(super) async fn each_row<T: DeserializeOwned>(
    broker: &Broker,
    list: List<'_>,
    mut take: impl FnMut(T) -> bool,
) -> Result<(), BrokerError> {
    let List {
        kind,
        path,
        part,
        columns,
        sort,
    } = list;
    let over = |bound| BrokerError::OverBound {
        attempt: format!("cannot list the {kind}"),
        bound,
    };
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
        let mut wants_more = true;
        let rows = Page(Rows::at_most(PAGE, |row| wants_more &= take(row)));
        let listed = broker.management.get_with(path, &query, rows).await;
        // RabbitMQ says "page out of range" rather than that the page is empty.
        let count = match listed {
            Err(Failure::Status(status)) if page > 1 && status.is_client_error() => return Ok(()),
            listed => done(&format!("list the {kind}"), listed)?,
        };
        if count > PAGE {
            return Err(over(Bound::PageSize));
        }
        if count < PAGE || !wants_more {
            return Ok(());
        }
    }
    Err(over(Bound::Pages))
}

/// Hands over what the virtual host's definitions say of it, in one answer. They cost RabbitMQ a tenth of what lists of the same objects cost.
pub(super) async fn each_definition(
    broker: &Broker,
    take: impl FnMut(Definition),
) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let path = ["definitions", broker.vhost()];
    let read = broker.management.get_with(&path, &[], Definitions(take));
    done("read the definitions", read.await)
}
