//! Fuzz targets of what is found on the broker and in the cluster.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use papo_protocol::RoomName;

use super::{
    drift::covers,
    rabbitmq::{Exchange, Queue, check_exchange, check_log, epoch_of},
};
use crate::{
    desired::{LogPolicy, Topology, User},
    fuzzing::two_values,
    validate::Retention,
};

/// An answer of the management API: an exchange, or a list of queues.
pub fn management_api(data: &[u8]) {
    if let Ok(exchange) = serde_json::from_slice::<Exchange>(data) {
        let ours = check_exchange(&exchange, "x", "u-1").is_ok();
        assert!(!ours || exchange.kind == "topic" && exchange.durable);
    }
    let topology = topology();
    for queue in serde_json::from_slice::<Vec<Queue>>(data).unwrap_or_default() {
        assert_eq!(check_log(&queue, "x").is_ok(), queue.kind == "stream");
        if let Some(epoch) = epoch_of(&topology.room, &queue.name) {
            let name = papo_protocol::topology::log(&topology.room, &epoch);
            assert_eq!(name, queue.name);
        }
    }
}

fn topology() -> Topology {
    let room: RoomName = "team/geral".parse().expect("valid");
    let exchange = papo_protocol::topology::exchange(&room);
    Topology {
        room,
        owner: "u-1".to_owned(),
        policy: LogPolicy {
            name: exchange.clone(),
            pattern: String::new(),
            retention: Retention {
                max_age: None,
                max_bytes: 1 << 30,
            },
        },
        replicas: 3,
        user: User {
            name: exchange.clone(),
            configure: String::new(),
            write: String::new(),
            read: String::new(),
            max_connections: 16,
            max_channels: 128,
        },
        exchange,
    }
}

/// An object as the API server has it, and another one.
pub fn live_object(data: &[u8]) {
    let Some((live, other)) = two_values(data) else {
        return;
    };
    assert!(covers(&live, &live) && covers(&other, &other));
    let _ = covers(&live, &other);
}
