//! Removes what a deleted room has on its broker.
//!
//! A room costs at most six requests, however many rooms there are: its exchange is read, and again after a list was waited for; its log, its user
//! (read and removed) and its exchange are removed. Whatever else has the room's name is found in the definitions of the virtual host: one request,
//! which all rooms share that are deleted at the same time. The last room of a virtual host costs three more, and a policy of a room's own one.
//!
//! The exchange is the lock: it is removed last, and if it is missing it is created again first. So nothing is removed that a new room of the same
//! name has, or one of another cluster: it would own the exchange.

use std::time::{Duration, Instant};

use papo_protocol::{Epoch, RoomName, topology as broker_names};

use super::{
    answers::{Named, Queue, is_papos},
    exchange::{are_rooms_left, create_exchange, exchange_info, owner_of},
    list::{each_definition, each_object},
    log::epoch_of,
    policy::{remove_policy, shared_policies},
    request::done,
    rows::{Definition, Rows},
    user::{is_user_of, remove_user},
};
use crate::{
    broker::{Bound, Broker, Listing, NAMES, Names, Step},
    desired::is_signal_queue,
    error::BrokerError,
};

/// How long a room waits while another room lists.
const WAIT: Duration = Duration::from_millis(250);

/// Whose objects are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// The room.
    pub(crate) room: RoomName,
    /// Its `metadata.uid`, which the exchange and the user name.
    pub(crate) owner: String,
    /// Whether its logs stay, with their policy.
    pub(crate) keep_log: bool,
    /// The epoch that its status names: it has had a log.
    pub(crate) epoch: Option<Epoch>,
}

/// How far a removal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nothing is left.
    All,
    /// It goes on in so long, with a list that other rooms share.
    Later(Duration),
}

/// Removes the room's objects: all, or all but its logs. Goes on where the last attempt stopped.
pub(crate) async fn remove(broker: &Broker, removal: &Removal) -> Result<Removed, BrokerError> {
    let (owner, removals) = (removal.owner.as_str(), &broker.removals);
    // The operator may see an old state of the room once more after its finalizer was removed. To begin again would create its exchange, and
    // nobody would remove that.
    if removals.is_finished(owner) {
        return Ok(Removed::All);
    }
    let exchange = broker_names::exchange(&removal.room);
    // What the inventory has of it is about to be removed.
    broker.inventory.forget(&exchange);
    if !removals.has(owner, &Step::Exchange) {
        if removals.has(owner, &Step::User)
            && let Listing::In(wait) = removals.listing(owner, Instant::now())
        {
            return Ok(Removed::Later(wait));
        }
        if !is_exchange_ours(broker, &exchange, removal).await? {
            // A user has an owner of its own. It may be left, if somebody has deleted the exchange.
            remove_own_user(broker, &exchange, owner).await?;
            removals.finish(owner);
            return Ok(Removed::All);
        }
        if let Some(wait) = remove_all_below(broker, &exchange, removal).await? {
            return Ok(Removed::Later(wait));
        }
        delete(broker, "remove the exchange", "exchanges", &exchange).await?;
        removals.confirm(owner, Step::Exchange);
    }
    if !removals.are_others_left(&exchange) {
        remove_shared_policies(broker, owner).await?;
    }
    removals.finish(owner);
    Ok(Removed::All)
}

/// Whether the exchange is the room's. One that is missing is created, so that no other room gets it meanwhile, unless the room never had a log.
async fn is_exchange_ours(
    broker: &Broker,
    exchange: &str,
    removal: &Removal,
) -> Result<bool, BrokerError> {
    let mut found = exchange_info(broker, exchange).await?;
    if found.is_none() && removal.epoch.is_some() {
        create_exchange(broker, exchange, &removal.owner).await?;
        found = exchange_info(broker, exchange).await?;
    }
    Ok(found.is_some_and(|found| owner_of(&found).as_ref() == Some(&removal.owner)))
}

/// Removes everything that is named after the exchange. Returns how long to wait for a list, if there is none.
async fn remove_all_below(
    broker: &Broker,
    exchange: &str,
    removal: &Removal,
) -> Result<Option<Duration>, BrokerError> {
    let (owner, removals) = (removal.owner.as_str(), &broker.removals);
    if !removals.has(owner, &Step::Log) {
        if let Some(epoch) = removal.epoch.as_ref().filter(|_| !removal.keep_log) {
            let log = broker_names::log(&removal.room, epoch);
            delete(broker, "remove the log", "queues", &log).await?;
        }
        removals.confirm(owner, Step::Log);
    }
    remove_own_user(broker, exchange, owner).await?;
    let names = match names_below(broker, exchange, owner).await? {
        Ok(names) => names,
        Err(wait) => return Ok(Some(wait)),
    };
    removals.confirm(owner, Step::Listed);
    for (kind, name) in leftovers(removal, &names) {
        let step = removals.leftover(kind, name);
        if removals.has(owner, &step) {
            continue;
        }
        match kind {
            "policies" => remove_policy(broker, name).await?,
            kind => delete(broker, "remove what is left of the room", kind, name).await?,
        }
        removals.confirm(owner, step);
    }
    Ok(None)
}

async fn remove_own_user(broker: &Broker, user: &str, owner: &str) -> Result<(), BrokerError> {
    let removals = &broker.removals;
    if removals.has(owner, &Step::User) {
        return Ok(());
    }
    if removals.has(owner, &Step::UserIsOurs) || is_user_of(broker, user, owner).await? {
        removals.confirm(owner, Step::UserIsOurs);
        remove_user(broker, user).await?;
    }
    removals.confirm(owner, Step::User);
    Ok(())
}

/// What the virtual host has under the name of the exchange, by a list that began after the room's user was removed; or how long to wait for one.
async fn names_below(
    broker: &Broker,
    exchange: &str,
    owner: &str,
) -> Result<Result<Names, Duration>, BrokerError> {
    let removals = &broker.removals;
    if removals.listing(owner, Instant::now()) == Listing::Due {
        let listed = async {
            match list_all(broker).await {
                Ok(names) => Ok(Some(names)),
                Err(BrokerError::OverBound { bound, .. }) => {
                    broker.metrics.broker_bound(bound.label());
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        match removals.list(listed).await {
            // A broker that does not know the request, or cannot fulfil it at present. The next room asks again.
            Err(BrokerError::Rejected { .. }) => return list(broker, exchange).await.map(Ok),
            listed => listed?,
        }
    }
    match removals.listing(owner, Instant::now()) {
        Listing::Ready => Ok(Ok(removals.names_below(exchange))),
        Listing::OverBound => list(broker, exchange).await.map(Ok),
        // Another room lists.
        Listing::Due => Ok(Err(WAIT)),
        Listing::In(wait) => Ok(Err(wait)),
    }
}

/// All of Papo's names in the virtual host, but not those of queues that end with their connections.
async fn list_all(broker: &Broker) -> Result<Names, BrokerError> {
    let mut names = Names::default();
    each_definition(broker, |definition| {
        let (of_kind, name) = match definition {
            Definition::Exchange(exchange) => (&mut names.exchanges, exchange.name),
            Definition::Queue(queue) => (&mut names.queues, queue.name),
            Definition::Policy(policy) => (&mut names.policies, policy.name),
            Definition::Binding(_) => return,
        };
        // One above the bound shows that there are more.
        if is_papos(&name) && of_kind.len() <= NAMES {
            of_kind.insert(name);
        }
    })
    .await?;
    if names.len() > NAMES {
        return Err(BrokerError::OverBound {
            attempt: "cannot list all names of the virtual host".to_owned(),
            bound: Bound::Objects,
        });
    }
    Ok(names)
}

/// All objects below the name of an exchange, but not the queues that end with their connections.
async fn list(broker: &Broker, exchange: &str) -> Result<Names, BrokerError> {
    let mut names = Names::default();
    let Names {
        exchanges,
        queues,
        policies,
    } = &mut names;
    let below = format!("{exchange}.");
    let is_below = |name: &str| is_papos(name) && name.starts_with(&below);
    let listed_exchanges = each_object(broker, "exchanges", exchange, |found: Named| {
        if is_below(&found.name) {
            exchanges.insert(found.name);
        }
        true
    });
    let listed_queues = each_object(broker, "queues", exchange, |found: Queue| {
        let is_left = found.exclusive == Some(false);
        if is_left && is_below(&found.name) {
            queues.insert(found.name);
        }
        is_left
    });
    let listed_policies = each_policy(broker, |found| {
        if found.name == exchange {
            policies.insert(found.name);
        }
    });
    // At the same time, so that a slow broker takes no longer than for one of them.
    tokio::try_join!(listed_exchanges, listed_queues, listed_policies)?;
    Ok(names)
}

/// Hands over the policies of the virtual host. RabbitMQ does not list them by pages.
async fn each_policy(broker: &Broker, take: impl FnMut(Named)) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let path = ["policies", broker.vhost()];
    let (columns, rows) = ([("columns", "name")], Rows::all(take));
    let listed = broker.management.get_with(&path, &columns, rows).await;
    done("list the policies", listed).map(drop)
}

/// Kinds and names of what is the room's: logs that the status does not name, what was created with the credentials of the servers, and the
/// policy of a log. A log that stays keeps its policy.
fn leftovers<'a>(removal: &Removal, names: &'a Names) -> Vec<(&'static str, &'a str)> {
    let is_log = |name: &str| !removal.keep_log && epoch_of(&removal.room, name).is_some();
    let is_signal_queue = |name: &str| is_signal_queue(&removal.room, name);
    let queues = names.queues.iter();
    let queues = queues.filter(|name| is_log(name) || is_signal_queue(name));
    let exchanges = names.exchanges.iter().filter(|name| is_signal_queue(name));
    let policies = names
        .policies
        .iter()
        .filter(|name| !removal.keep_log && **name == broker_names::exchange(&removal.room));
    let queues = queues.map(|name| ("queues", name.as_str()));
    let exchanges = exchanges.map(|name| ("exchanges", name.as_str()));
    let policies = policies.map(|name| ("policies", name.as_str()));
    // Policies last: to remove one costs the broker a look at every queue that is left.
    queues.chain(exchanges).chain(policies).collect()
}

/// Removes the policies that all rooms share, unless there is one.
async fn remove_shared_policies(broker: &Broker, owner: &str) -> Result<(), BrokerError> {
    let removals = &broker.removals;
    if !removals.has(owner, &Step::SharedPolicy(0)) && are_rooms_left(broker).await? {
        return Ok(());
    }
    // The next room needs them again.
    broker.inventory.expire();
    for (index, policy) in shared_policies().into_iter().enumerate() {
        if !removals.has(owner, &Step::SharedPolicy(index)) {
            remove_policy(broker, policy).await?;
            removals.confirm(owner, Step::SharedPolicy(index));
        }
    }
    Ok(())
}

async fn delete(broker: &Broker, attempt: &str, kind: &str, name: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_write();
    let path = [kind, broker.vhost(), name];
    done(attempt, broker.management.delete(&path).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_that_is_kept_keeps_its_policy_and_nothing_else() {
        let mut removal = Removal {
            room: "team/geral".parse().expect("valid"),
            owner: "u-1".to_owned(),
            keep_log: false,
            epoch: None,
        };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = Names {
            exchanges: set(&["papo.team.geral.signal.01"]),
            queues: set(&[
                "papo.team.geral.epochs",
                "papo.team.geral.log.0a",
                "papo.team.geral.log.0a.log.0b",
                "papo.team.geral.signal.00",
                "papo.team.geral.signal.ZZ",
            ]),
            policies: set(&["papo.team.geral"]),
        };
        let signals = [
            ("queues", "papo.team.geral.signal.00"),
            ("exchanges", "papo.team.geral.signal.01"),
        ];
        let all = leftovers(&removal, &names);
        let log = [("queues", "papo.team.geral.log.0a")];
        let policy = [("policies", "papo.team.geral")];
        assert_eq!(all, [&log[..], &signals, &policy].concat());
        removal.keep_log = true;
        assert_eq!(leftovers(&removal, &names), signals);
    }
}
