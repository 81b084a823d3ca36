//! What the server counts. Labels have few values, none of them from clients.

use std::time::Duration;

use papo_protocol::event::Code;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::room::Closing;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Seconds: from a broker on the same machine to one that is in trouble.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// The server's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Open connections, members or not.
    pub connections: Gauge,
    /// Second copies of messages found in the log and hidden.
    pub copies: Counter,
    /// 1 while the broker takes messages, else 0.
    pub broker_up: Gauge,
    received: Counter,
    delivered: Counter,
    published: Family<Outcome, Counter>,
    closed: Family<Reason, Counter>,
    refused: Family<Reason, Counter>,
    publish_seconds: Histogram,
    delivery_seconds: Histogram,
}

impl Metrics {
    /// Metrics that are registered, all with the prefix `papo_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            copies: Counter::default(),
            broker_up: Gauge::default(),
            received: Counter::default(),
            delivered: Counter::default(),
            published: Family::default(),
            closed: Family::default(),
            refused: Family::default(),
            publish_seconds: Histogram::new(SECONDS),
            delivery_seconds: Histogram::new(SECONDS),
        };
        let papo = registry.sub_registry_with_prefix("papo");
        papo.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        papo.register(
            "broker_up",
            "1 while the broker takes messages",
            metrics.broker_up.clone(),
        );
        papo.register(
            "copies",
            "Second copies of messages found in the log and hidden",
            metrics.copies.clone(),
        );
        papo.register(
            "messages_received",
            "Messages received from clients",
            metrics.received.clone(),
        );
        papo.register(
            "messages_delivered",
            "Messages handed to sockets",
            metrics.delivered.clone(),
        );
        papo.register(
            "messages_published",
            "Messages by what became of them",
            metrics.published.clone(),
        );
        papo.register(
            "connections_closed",
            "Connections closed by the server, by reason",
            metrics.closed.clone(),
        );
        papo.register(
            "refusals",
            "What clients were refused, by code",
            metrics.refused.clone(),
        );
        papo.register_with_unit(
            "publish",
            "From receiving a message to its place in the log",
            Unit::Seconds,
            metrics.publish_seconds.clone(),
        );
        papo.register_with_unit(
            "delivery",
            "From a server receiving a message to this server's sockets",
            Unit::Seconds,
            metrics.delivery_seconds.clone(),
        );
        metrics
    }

    /// A client sent a message.
    pub fn received(&self) {
        self.received.inc();
    }

    /// Sockets took messages.
    pub fn delivered(&self, count: u64) {
        self.delivered.inc_by(count);
    }

    /// A message was stored, or refused with this code.
    pub fn published(&self, refused: Option<Code>, took: Duration) {
        let outcome = refused.map_or("stored", Code::as_str);
        self.published.get_or_create(&Outcome { outcome }).inc();
        if refused.is_none() {
            self.publish_seconds.observe(took.as_secs_f64());
        }
    }

    /// A message was read from the log so long after some server received it.
    pub fn read(&self, after: Duration) {
        self.delivery_seconds.observe(after.as_secs_f64());
    }

    /// The server closed a connection.
    pub fn closed(&self, why: Closing) {
        self.closed
            .get_or_create(&Reason {
                reason: why.as_str(),
            })
            .inc();
    }

    /// A client was refused something.
    pub fn refused(&self, code: Code) {
        self.refused
            .get_or_create(&Reason {
                reason: code.as_str(),
            })
            .inc();
    }
}
