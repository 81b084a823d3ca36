//! `/stats`: the state of the room on this server, as JSON for people.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use papo_protocol::{Launch, ports};
use serde_json::{Value, json};

use crate::{
    broker::{Broker, Publishing},
    room::Room,
    socket::{SocketServer, SocketSink},
};

struct Stats<B: Broker> {
    launch: Arc<Launch>,
    sockets: Arc<SocketServer<B>>,
    room: Arc<Room<B, SocketSink>>,
    broker: B,
}

/// Serves `/stats`.
pub(crate) fn stats_router<B: Broker>(
    launch: Arc<Launch>,
    sockets: Arc<SocketServer<B>>,
    room: Arc<Room<B, SocketSink>>,
    broker: B,
) -> Router {
    Router::new()
        .route(ports::STATS, get(stats::<B>))
        .with_state(Arc::new(Stats {
            launch,
            sockets,
            room,
            broker,
        }))
}

async fn stats<B: Broker>(State(of): State<Arc<Stats<B>>>) -> Json<Value> {
    let mut broker = match &*of.broker.publishing().borrow() {
        Publishing::Up => json!({ "up": true }),
        Publishing::Blocked(reason) | Publishing::Down(reason) => {
            json!({ "up": false, "reason": reason })
        }
    };
    for connection in of.broker.connections() {
        broker[connection.purpose] = json!(connection.node);
    }
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "room": of.launch.room.to_string(),
        "connections": of.sockets.connections(),
        "present": of.room.member_count(),
        "log": of.room.stats(),
        "broker": broker,
        "access": of.sockets.access().status().to_json(),
    }))
}
