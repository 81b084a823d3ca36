//! The room's objects on the broker.

use papo_protocol::{RoomName, topology as broker_names};

use crate::validate::{Retention, Room};

/// What a room owns on the broker. The log's epoch is not known here: it is found on the broker, or drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The room: what its logs are named after.
    pub room: RoomName,
    /// The topic exchange. The room that it names as its owner owns everything else.
    pub exchange: String,
    /// The owner that it names: the `metadata.uid` of the `ChatRoom`.
    pub owner: String,
    /// What bounds the log.
    pub policy: LogPolicy,
    /// The servers' user.
    pub user: User,
}

/// A policy over all logs of the room: unlike a stream's arguments, it can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// Its name.
    pub name: String,
    /// Regular expression of the streams it is about.
    pub pattern: String,
    /// What they keep.
    pub retention: Retention,
}

/// The servers' user, with no more rights than they need. Each field but the name is a regular expression of names.
///
/// On RabbitMQ a server needs: configure for its own queue, which the broker names; write on that queue and read on the exchange to bind
/// them; write on the exchange to publish; read on queue and log to consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What it may create and delete.
    pub configure: String,
    /// What it may publish to, or bind.
    pub write: String,
    /// What it may consume from, or bind to.
    pub read: String,
}

/// Queues that the broker has named.
const SERVER_NAMED: &str = r"amq\.gen-.*";

/// What a room owns on the broker.
pub fn topology(room: &Room) -> Topology {
    let exchange = broker_names::exchange(&room.name);
    let name = escape(&exchange);
    let log = format!(r"{name}\.log\.[a-z0-9]+");
    Topology {
        policy: LogPolicy {
            name: exchange.clone(),
            pattern: format!("^{log}$"),
            retention: room.retention.clone(),
        },
        user: User {
            name: exchange.clone(),
            configure: format!("^{SERVER_NAMED}$"),
            write: format!("^({name}|{SERVER_NAMED})$"),
            read: format!("^({name}|{log}|{SERVER_NAMED})$"),
        },
        room: room.name.clone(),
        owner: room.uid.clone(),
        exchange,
    }
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
