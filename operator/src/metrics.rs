//! What the operator counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Access {
    access: &'static str,
}

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    cluster_writes: Counter,
    broker_requests: Family<Access, Counter>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            duration: Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ]),
            cluster_writes: Counter::default(),
            broker_requests: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("papo_operator");
        registry.register(
            "reconciles",
            "Passes over a room, by outcome",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of a pass over a room",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "cluster_writes",
            "Writes to the API server",
            self.cluster_writes.clone(),
        );
        registry.register(
            "broker_requests",
            "Requests to brokers, by access",
            self.broker_requests.clone(),
        );
        registry.register(
            "leader",
            "1 if this operator is the one that works",
            self.leader.clone(),
        );
    }

    pub(crate) fn reconciled(&self, took: Duration, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn cluster_write(&self) {
        self.cluster_writes.inc();
    }

    pub(crate) fn broker_read(&self) {
        self.broker_requests
            .get_or_create(&Access { access: "read" })
            .inc();
    }

    pub(crate) fn broker_write(&self) {
        self.broker_requests
            .get_or_create(&Access { access: "write" })
            .inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }
}
