//! The packets of the Admin UI: events whose names and arguments its web page knows.
//!
//! They show a member's public identity, network address and time of joining. They have no token, no header, and no text of a message.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeTuple};
use serde_json::{Value as Json, json};

use crate::socket::{Change, Entry};

/// What the page may offer: it shows lists of sockets to whom does not declare aggregated statistics, and offers to disconnect one.
const SUPPORTED_FEATURES: [&str; 1] = ["DISCONNECT"];
/// The namespace of a room.
const ROOT: &str = "/";

/// An event to a client.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) event: &'static str,
    pub(super) arguments: Arguments,
}

/// What follows the event's name.
#[derive(Debug, PartialEq)]
pub(super) struct Arguments(Vec<Json>);

/// As a tuple: socketioxide sends a list as one argument.
impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for argument in &self.0 {
            tuple.serialize_element(argument)?;
        }
        tuple.end()
    }
}

/// The state of a server.
pub(super) struct ServerStats<'a> {
    /// Also its name among the servers that the page shows.
    pub(super) hostname: &'a str,
    pub(super) process: u32,
    pub(super) uptime: Duration,
    pub(super) connections: u32,
    /// Connections that poll.
    pub(super) polling: usize,
    /// Sockets of members.
    pub(super) sockets: usize,
}

impl Packet {
    fn new(event: &'static str, arguments: Vec<Json>) -> Self {
        let arguments = Arguments(arguments);
        Self { event, arguments }
    }

    /// The id with which the page signs in again.
    pub(super) fn session(id: String) -> Self {
        Self::new("session", vec![id.into()])
    }

    pub(super) fn config() -> Self {
        let config = json!({ "supportedFeatures": SUPPORTED_FEATURES });
        Self::new("config", vec![config])
    }

    pub(super) fn server_stats(stats: &ServerStats) -> Self {
        let stats = json!({
            "serverId": stats.hostname,
            "hostname": stats.hostname,
            "pid": stats.process,
            "uptime": stats.uptime.as_secs_f64(),
            "clientsCount": stats.connections,
            "pollingClientsCount": stats.polling,
            "namespaces": [{ "name": ROOT, "socketsCount": stats.sockets }],
        });
        Self::new("server_stats", vec![stats])
    }

    /// Replaces all sockets that the page has.
    pub(super) fn all_sockets(sockets: &[Arc<Entry>], room: &str) -> Self {
        let sockets: Vec<Json> = sockets.iter().map(|entry| socket(entry, room)).collect();
        Self::new("all_sockets", vec![sockets.into()])
    }

    /// Adds one socket.
    pub(super) fn socket_connected(entry: &Entry, room: &str) -> Self {
        let arguments = vec![socket(entry, room), time(entry.since)];
        Self::new("socket_connected", arguments)
    }

    /// The packets for a change.
    pub(super) fn of_change(change: &Change, room: &str) -> Vec<Self> {
        match change {
            Change::Joined(entry) => {
                let joined = vec![
                    ROOT.into(),
                    room.into(),
                    (*entry.id).into(),
                    time(entry.since),
                ];
                // The page counts a socket twice in a room that it joins when the page already has it.
                vec![
                    Self::new("room_joined", joined),
                    Self::socket_connected(entry, room),
                ]
            }
            Change::Upgraded(entry) => {
                let updated = json!({ "id": &*entry.id, "nsp": ROOT, "transport": "websocket" });
                vec![Self::new("socket_updated", vec![updated])]
            }
            Change::Left { id, reason, at } => {
                let at = time(*at);
                let left = |room: &str| {
                    let arguments = vec![ROOT.into(), room.into(), (**id).into(), at.clone()];
                    Self::new("room_left", arguments)
                };
                let gone = vec![ROOT.into(), (**id).into(), (*reason).into(), at.clone()];
                vec![Self::new("socket_disconnected", gone), left(room), left(id)]
            }
        }
    }
}

/// A socket as the page expects it. A client has one, so that its id is also that of the client.
fn socket(entry: &Entry, room: &str) -> Json {
    json!({
        "id": &*entry.id,
        "clientId": &*entry.id,
        "nsp": ROOT,
        "transport": entry.transport(),
        "rooms": [&*entry.id, room],
        "data": { "user": entry.member.user, "sender": entry.member.sender },
        "handshake": {
            "address": entry.address.to_string(),
            "issued": entry.since,
            "time": time(entry.since),
            "headers": {},
            "query": {},
        },
    })
}

/// A time in milliseconds since the Unix epoch, as JavaScript writes a date (RFC 3339).
fn time(millis: i64) -> Json {
    jiff::Timestamp::from_millisecond(millis)
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_javascript() {
        assert_eq!(time(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(i64::MAX), "");
    }

    #[test]
    fn socket_that_left_leaves_its_rooms_too() {
        let change = Change::Left {
            id: "a".into(),
            reason: "transport close",
            at: 0,
        };
        let packets = Packet::of_change(&change, "default/geral");
        let packets: Vec<_> = packets
            .iter()
            .map(|packet| (packet.event, json!(packet.arguments)))
            .collect();
        let at = "1970-01-01T00:00:00.000Z";
        assert_eq!(
            packets,
            [
                (
                    "socket_disconnected",
                    json!(["/", "a", "transport close", at])
                ),
                ("room_left", json!(["/", "default/geral", "a", at])),
                ("room_left", json!(["/", "a", "a", at])),
            ]
        );
    }
}
