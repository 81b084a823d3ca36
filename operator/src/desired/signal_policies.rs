//! What bounds the queues that servers receive signals with: two policies for all rooms of a virtual host.
//!
//! A policy per room would make RabbitMQ's work quadratic: it compares each queue with each policy of the virtual host. So these policies belong
//! to no room. They are made with the first room of a virtual host and removed with the last one.

use serde_json::{Map, Value, json};

/// A policy over the signal queues of all rooms.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalPolicy {
    /// Its name. No room has it, because the policies of rooms are named `papo.NS.NAME`.
    pub name: &'static str,
    /// `queues` or `streams`.
    pub apply_to: &'static str,
    /// What it sets.
    pub definition: Map<String, Value>,
}

/// The names of all rooms' signal queues. No log is named like this, because its name ends in an epoch.
pub const SIGNAL_QUEUE_PATTERN: &str = r"^papo\.[^.]+\.[^.]+\.signal\.[0-9a-f]{2,3}$";
/// Bytes that one of these queues may hold: what a server has not received yet of signals, which may be lost.
const BYTES: u64 = 1_000_000;
/// Milliseconds after which a queue without consumers is deleted, and a signal that nobody has received.
const EXPIRY: u64 = 30_000;

/// The policies of a virtual host.
///
/// RabbitMQ applies no policy to a stream that sets what streams do not have, so that there are two. Streams do not expire: the operator removes
/// them.
pub fn signal_policies() -> [SignalPolicy; 2] {
    let queues = [
        ("expires", json!(EXPIRY)),
        ("max-length-bytes", json!(BYTES)),
        ("message-ttl", json!(EXPIRY)),
        ("overflow", json!("drop-head")),
    ];
    let streams = [
        ("max-length-bytes", json!(BYTES)),
        ("stream-max-segment-size-bytes", json!(BYTES)),
    ];
    [
        SignalPolicy {
            name: "papo.signals",
            apply_to: "queues",
            definition: definition(queues),
        },
        SignalPolicy {
            name: "papo.signals.streams",
            apply_to: "streams",
            definition: definition(streams),
        },
    ]
}

fn definition<const N: usize>(values: [(&str, Value); N]) -> Map<String, Value> {
    values
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}
