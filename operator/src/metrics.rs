//! The operator's metrics.

use std::{
    collections::BTreeMap,
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::crd::LogReplicas;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Access {
    access: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bound {
    bound: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watch {
    kind: String,
    namespace: String,
}

/// The namespace of the rooms; empty for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Scope {
    namespace: String,
}

/// The namespace of the rooms, and which replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Replicas {
    namespace: String,
    state: &'static str,
}

/// The namespace of a broker's Secret; empty if it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecretNamespace {
    secret_namespace: String,
}

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    cluster_requests: Family<Access, Counter>,
    cluster_writes: Counter,
    broker_requests: Family<Access, Counter>,
    broker_bounds: Family<Bound, Counter>,
    leader: Gauge,
    watched_kinds: Family<Watch, Gauge>,
    rooms_waiting: Family<Scope, Gauge>,
    stalled: Family<Scope, Gauge>,
    last_reconcile: Gauge<f64, AtomicU64>,
    log_replicas: Family<Replicas, Gauge>,
    logs_incomplete: Family<Scope, Gauge>,
    leftovers: Family<SecretNamespace, Gauge>,
    leftovers_recorded: Counter,
    leftovers_cleared: Counter,
}

/// Namespaces with a series of their own among the leftovers. The series of all others is called [`OTHERS`].
const LEFTOVER_NAMESPACES: usize = 50;
/// No namespace is called so.
const OTHERS: &str = "(others)";

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            duration: Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ]),
            cluster_requests: Family::default(),
            cluster_writes: Counter::default(),
            broker_requests: Family::default(),
            broker_bounds: Family::default(),
            leader: Gauge::default(),
            watched_kinds: Family::default(),
            rooms_waiting: Family::default(),
            stalled: Family::default(),
            last_reconcile: Gauge::default(),
            log_replicas: Family::default(),
            logs_incomplete: Family::default(),
            leftovers: Family::default(),
            leftovers_recorded: Counter::default(),
            leftovers_cleared: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("papo_operator");
        registry.register(
            "reconciles",
            "Reconciles of rooms, by outcome",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of the reconcile of a room",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "cluster_requests",
            "Requests to the API server, by access: read, watch (the start of one), write, and lease for leader election",
            self.cluster_requests.clone(),
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
            "broker_bounds_exceeded",
            "Work on brokers that a bound has ended: pages and page_size of a list, answer_size, objects of a virtual host, time of a room, slots and brokers of a namespace, leftovers",
            self.broker_bounds.clone(),
        );
        registry.register(
            "leader",
            "1 if this operator is the leader",
            self.leader.clone(),
        );
        registry.register(
            "kind_watched",
            "1 if the operator watches this kind, 0 if it cannot; namespace is empty if it watches all namespaces",
            self.watched_kinds.clone(),
        );
        registry.register(
            "rooms_waiting",
            "Rooms whose latest spec or deletion has not been reconciled",
            self.rooms_waiting.clone(),
        );
        registry.register(
            "stalled",
            "1 if rooms wait and no reconcile has finished for the stall timeout",
            self.stalled.clone(),
        );
        registry.register_with_unit(
            "last_reconcile_timestamp",
            "Unix time at which a reconcile last finished, 0 if none has",
            Unit::Seconds,
            self.last_reconcile.clone(),
        );
        registry.register(
            "log_replicas",
            "Replicas of all logs together on the nodes of their brokers: desired, members (there) and online (running)",
            self.log_replicas.clone(),
        );
        registry.register(
            "logs_incomplete",
            "Logs with fewer running replicas than desired",
            self.logs_incomplete.clone(),
        );
        registry.register(
            "leftovers",
            "Deleted rooms whose brokers are not cleared yet, by the namespace of the broker's Secret",
            self.leftovers.clone(),
        );
        registry.register(
            "leftovers_recorded",
            "Deleted rooms that were put on the list because their brokers could not be cleared",
            self.leftovers_recorded.clone(),
        );
        registry.register(
            "leftovers_cleared",
            "Deleted rooms of the list whose brokers were cleared later",
            self.leftovers_cleared.clone(),
        );
    }

    pub(crate) fn reconciled(&self, took: Duration, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.duration.observe(took.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.last_reconcile
            .set(now.unwrap_or_default().as_secs_f64());
    }

    pub(crate) fn watches(&self, kind: &str, namespace: &str, watched: bool) {
        let watch = Watch {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
        };
        self.watched_kinds.get_or_create(&watch).set(watched.into());
    }

    pub(crate) fn rooms_wait(&self, namespace: &str, count: usize, stalled: bool) {
        let scope = Scope {
            namespace: namespace.to_owned(),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.rooms_waiting.get_or_create(&scope).set(count);
        self.stalled.get_or_create(&scope).set(stalled.into());
    }

    pub(crate) fn log_replicas(&self, namespace: &str, (sum, incomplete): &(LogReplicas, u32)) {
        let LogReplicas {
            desired,
            members,
            online,
        } = *sum;
        for (state, count) in [
            ("desired", desired),
            ("members", members),
            ("online", online),
        ] {
            let replicas = Replicas {
                namespace: namespace.to_owned(),
                state,
            };
            self.log_replicas.get_or_create(&replicas).set(count.into());
        }
        let scope = Scope {
            namespace: namespace.to_owned(),
        };
        self.logs_incomplete
            .get_or_create(&scope)
            .set((*incomplete).into());
    }

    /// The list of leftovers: the namespace of each one's broker.
    pub(crate) fn leftovers<'a>(&self, namespaces: impl Iterator<Item = &'a str>) {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for namespace in namespaces {
            let is_known = counts.contains_key(namespace) || counts.len() < LEFTOVER_NAMESPACES;
            let label = if is_known { namespace } else { OTHERS };
            *counts.entry(label).or_default() += 1;
        }
        // A list that is empty has no namespaces, and is to be seen all the same.
        if counts.is_empty() {
            counts.insert("", 0);
        }
        self.leftovers.clear();
        for (namespace, count) in counts {
            let label = SecretNamespace {
                secret_namespace: namespace.to_owned(),
            };
            self.leftovers.get_or_create(&label).set(count);
        }
    }

    pub(crate) fn leftovers_recorded(&self) {
        self.leftovers_recorded.inc();
    }

    pub(crate) fn leftovers_cleared(&self, count: usize) {
        self.leftovers_cleared
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn cluster_write(&self) {
        self.cluster_writes.inc();
    }

    pub(crate) fn cluster_request(&self, access: &'static str) {
        self.cluster_requests
            .get_or_create(&Access { access })
            .inc();
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

    pub(crate) fn broker_bound(&self, bound: &'static str) {
        self.broker_bounds.get_or_create(&Bound { bound }).inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }
}
