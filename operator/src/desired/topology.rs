//! The room's objects on the broker.

use papo_protocol::{
    RoomName,
    topology::{self as broker_names, FEW_SERVERS, MANY_SIGNAL_QUEUES},
};

use super::LogPolicy;
use crate::validate::Room;

/// What a room owns on the broker. The log's epoch is not known here: it is found on the broker, or drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The room: what its logs are named after.
    pub room: RoomName,
    /// The topic exchange. The room that it names as its owner owns everything else.
    pub exchange: String,
    /// The owner that it names: the `metadata.uid` of the `ChatRoom`.
    pub owner: String,
    /// What bounds the log if its own arguments do not say the same.
    pub policy: LogPolicy,
    /// On how many nodes the log should be, if there are as many.
    pub replicas: u32,
    /// The servers' user.
    pub user: User,
}

/// The servers' user, with no more rights than they need.
///
/// On RabbitMQ a server needs: configure for its own queue; write on that queue and read on the exchange to bind them; write on the exchange
/// to publish; read on queue and log to consume. RabbitMQ has no limit on the queues of a user, and a right to configure a name is the right to
/// create a queue, a stream or an exchange of it. So the bound is the number of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Regular expression of the names that it may create and delete.
    pub configure: String,
    /// Regular expression of the names that it may publish to, or bind.
    pub write: String,
    /// Regular expression of the names that it may consume from, or bind to.
    pub read: String,
    /// Connections that it may have at the same time, of all servers together.
    pub max_connections: u32,
    /// Channels that it may have at the same time, on all connections together.
    pub max_channels: u32,
}

/// Connections for each server. A server has two. In a rollout there are twice as many servers for a while, and the broker counts a connection
/// that was cut until its heartbeat fails, beside the one that replaces it.
const CONNECTIONS_PER_SERVER: u32 = 8;
/// The longest name of an exchange: prefix, namespace, dot and name.
const EXCHANGE_MAX: usize =
    broker_names::PREFIX.len() + RoomName::MAX_NAMESPACE + 1 + RoomName::MAX_NAME;
/// Channels for each connection, on average. A server has two that stay, and one for each read of the past and for each look at an object.
const CHANNELS_PER_CONNECTION: u32 = 8;

/// What a room owns on the broker.
pub fn topology(room: &Room) -> Topology {
    let exchange = broker_names::exchange(&room.name);
    let name = escape(&exchange);
    let log = format!(r"{name}\.log\.[a-z0-9]+");
    let servers = room.replicas.unsigned_abs();
    let digits = if servers > FEW_SERVERS { "2,3" } else { "2" };
    let signals = format!(r"{name}\.signal\.[0-9a-f]{{{digits}}}");
    // One more, for the one that a rollout adds.
    let max_connections = (servers + 1) * CONNECTIONS_PER_SERVER;
    Topology {
        policy: LogPolicy::new(&room.name, &log, room.retention.clone()),
        replicas: room.log_replicas,
        user: User {
            name: exchange.clone(),
            configure: format!("^{signals}$"),
            write: format!("^({name}|{signals})$"),
            read: format!("^({name}|{log}|{signals})$"),
            max_connections,
            max_channels: max_connections * CHANNELS_PER_CONNECTION,
        },
        room: room.name.clone(),
        owner: room.uid.clone(),
        exchange,
    }
}

/// Whether a name is one of the room's signal queues, in a room of any size.
pub fn is_signal_queue(room: &RoomName, name: &str) -> bool {
    let number = name
        .strip_prefix(&broker_names::exchange(room))
        .and_then(|rest| rest.strip_prefix(".signal."));
    let number = number.and_then(|number| u16::from_str_radix(number, 16).ok());
    number.is_some_and(|number| {
        number < MANY_SIGNAL_QUEUES && broker_names::signal_queue(room, number) == name
    })
}

/// The exchange of the room whose signal queue has this name, if it looks like one.
pub fn exchange_of_signal_queue(name: &str) -> Option<&str> {
    let (exchange, _) = name.rsplit_once(".signal.")?;
    let is_exchange = exchange.starts_with(broker_names::PREFIX) && exchange.len() <= EXCHANGE_MAX;
    is_exchange.then_some(exchange)
}

/// A name as a regular expression: of its characters (a-z, 0-9, `-`, `.`) only the dot means something else.
fn escape(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_stands_for_itself_only() {
        assert_eq!(escape("papo.a-b.c"), r"papo\.a-b\.c");
    }
}
