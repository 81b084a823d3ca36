//! An API server and a RabbitMQ that store what they are sent, count writes, and stop answering after a number of writes.

mod broker;
mod cluster;
pub(crate) mod recorded;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::ByteString;
use kube::runtime::{
    controller::Action,
    events::{Recorder, Reporter},
    reflector::store::Writer,
    watcher::Event,
};
use papo_operator::{
    apply::{RecentSecrets, Settled},
    backoff::Failures,
    broker::{Brokers, Policy},
    cache::{Cache, Compact, Writers},
    clients::Clients,
    config::{Allowed, Defaults, Network},
    controller::{Context, Error, Reported, Retries, reconcile},
    crd::StoredRoom,
    leftovers::Leftovers,
    metrics::Metrics,
    patience::Patience,
    rooms::{Rooms, ScopeWriter},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rabbitmq_http_client::password_hashing::base64_encoded_salted_password_hash_sha256;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) use self::{
    broker::{Broker, Fault, WORDS},
    cluster::Cluster,
};

/// The life of an operator process: after so many writes nothing answers it any more.
#[derive(Clone)]
pub(crate) struct Life {
    writes_left: Arc<AtomicI64>,
    dead: Arc<AtomicBool>,
}

impl Life {
    fn new(writes: i64) -> Self {
        Self {
            writes_left: Arc::new(AtomicI64::new(writes)),
            dead: Arc::default(),
        }
    }

    /// Whether a request is still answered.
    fn answers(&self, is_write: bool) -> bool {
        if is_write && self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.dead.store(true, Ordering::SeqCst);
        }
        !self.dead.load(Ordering::SeqCst)
    }
}

/// A cluster and a broker with one room in them, and an operator that reconciles it.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) broker: Broker,
    life: Arc<Mutex<Life>>,
    policy: Policy,
    cleanup_timeout: Duration,
    operator: Operator,
}

/// What one life of the operator has.
struct Operator {
    context: Arc<Context>,
    writers: Writers,
    rooms: ScopeWriter,
}

impl Fixture {
    pub(crate) async fn new(room: Value) -> Self {
        // Each reconcile reads the virtual host, so that none has to be waited for.
        let policy = Policy {
            inventory_period: Duration::ZERO,
            secret_period: Duration::ZERO,
            ..Policy::default()
        };
        Self::with_policy(room, policy).await
    }

    /// With other bounds on brokers.
    pub(crate) async fn with_policy(room: Value, policy: Policy) -> Self {
        let life = Arc::new(Mutex::new(Life::new(i64::MAX)));
        let cluster = Cluster::new(life.clone());
        let broker = Broker::start(life.clone()).await;
        cluster.put(BROKER_SECRET, broker.secret());
        cluster.put(ROOM, room);
        let cleanup_timeout = Duration::from_mins(2);
        let operator = operator(&cluster, &policy, cleanup_timeout);
        Self {
            cluster,
            broker,
            life,
            policy,
            cleanup_timeout,
            operator,
        }
    }

    /// Another broker.
    pub(crate) async fn another_broker(&self) -> Broker {
        Broker::start(self.life.clone()).await
    }

    /// Restarts the operator: with an empty cache, and with so many writes to live.
    pub(crate) fn restart(&mut self, writes: i64) {
        *self.life.lock().expect("no panic") = Life::new(writes);
        self.operator = operator(&self.cluster, &self.policy, self.cleanup_timeout);
    }

    /// Restarts the operator with another patience.
    pub(crate) fn restart_with_cleanup_timeout(&mut self, cleanup_timeout: Duration) {
        self.cleanup_timeout = cleanup_timeout;
        self.restart(i64::MAX);
    }

    /// Restarts the operator without a default broker.
    pub(crate) fn restart_without_default_broker(&mut self) {
        let defaults = Defaults {
            broker_secret: None,
            ..defaults()
        };
        self.operator = operator_with(&self.cluster, &self.policy, self.cleanup_timeout, defaults);
    }

    /// Deletes a room as a user would.
    pub(crate) fn delete(&self, path: &str) {
        let now = k8s_openapi::jiff::Timestamp::now();
        self.cluster.edit(path, |room| {
            room["metadata"]["deletionTimestamp"] = json!(format!("{now:.0}"));
        });
    }

    /// Reconciles rooms that are being deleted until none is left.
    pub(crate) async fn reconcile_until_gone(&mut self, rooms: &[String]) {
        let began = Instant::now();
        loop {
            let cluster = self.cluster.clone();
            let left = rooms.iter().filter(|room| cluster.get(room).is_some());
            let left: Vec<&String> = left.collect();
            if left.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_mins(2),
                "not in time: {left:?}"
            );
            for room in left {
                let _ = self.reconcile_room(room).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tries everything on the list of leftovers, whatever its delay.
    pub(crate) fn retry_leftovers(&self) -> impl Future<Output = ()> + Send + use<> {
        self.retry_leftovers_with(Retries::default())
    }

    /// The same with another budget.
    pub(crate) fn retry_leftovers_with(
        &self,
        retries: Retries,
    ) -> impl Future<Output = ()> + Send + use<> {
        let context = self.operator.context.clone();
        async move {
            context.leftovers.reload().await;
            retries.round(&context, None, Instant::now()).await;
        }
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        let metrics = &self.operator.context.clients.metrics;
        metrics.register(&mut registry);
        encode(&mut text, &registry).expect("text");
        let prefix = format!("{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.map(|value| value.parse().expect("a number"))
    }

    /// One reconcile, with a cache that is up to date.
    pub(crate) async fn reconcile(&mut self) -> Result<(), Error> {
        self.reconcile_room(ROOM).await
    }

    /// The same of another room.
    pub(crate) async fn reconcile_room(&mut self, path: &str) -> Result<(), Error> {
        let room = self.cluster.get(path).expect("the room");
        self.reconcile_as(room).await
    }

    /// The same of a room as a watch may have reported it some time ago.
    pub(crate) async fn reconcile_as(&mut self, room: Value) -> Result<(), Error> {
        self.refresh();
        let room: StoredRoom = serde_json::from_value(room).expect("always");
        let reconcile = reconcile(Arc::new(room), self.operator.context.clone());
        tokio::time::timeout(Duration::from_mins(5), Box::pin(reconcile))
            .await
            .expect("a reconcile ends")
            .map(drop)
    }

    /// The same of many rooms, one after the other.
    pub(crate) async fn reconcile_rooms(&mut self, paths: &[String]) {
        self.refresh();
        for path in paths {
            let room = self.cluster.get(path).expect("the room");
            let room: StoredRoom = serde_json::from_value(room).expect("always");
            let reconcile = reconcile(Arc::new(room), self.operator.context.clone());
            Box::pin(reconcile).await.expect("a reconcile");
        }
    }

    /// Reconciles two rooms at the same time; the first one begins first.
    pub(crate) async fn reconcile_both(&mut self, paths: [&str; 2]) -> [Result<Action, Error>; 2] {
        self.refresh();
        let [first, second] = paths.map(|path| {
            let room = self.cluster.get(path).expect("the room");
            let room: StoredRoom = serde_json::from_value(room).expect("always");
            Box::pin(reconcile(Arc::new(room), self.operator.context.clone()))
        });
        <[_; 2]>::from(tokio::join!(first, second))
    }

    /// Writes to brokers, of which the metrics know.
    pub(crate) fn broker_writes(&self) -> u64 {
        self.metric(r#"papo_operator_broker_requests_total{access="write"}"#)
            .unwrap_or(0)
    }

    /// Requests to brokers of all kinds, of which the metrics know.
    pub(crate) fn broker_requests(&self) -> u64 {
        let reads = self.metric(r#"papo_operator_broker_requests_total{access="read"}"#);
        reads.unwrap_or(0) + self.broker_writes()
    }

    /// When a reconcile last finished.
    pub(crate) fn last_progress(&self) -> Instant {
        self.operator.context.progress.last()
    }

    /// Reconciles until nothing is written.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..10 {
            let before = (self.cluster.writes(), self.broker.writes());
            self.reconcile()
                .await
                .expect("a reconcile of a living operator");
            if before == (self.cluster.writes(), self.broker.writes()) {
                return;
            }
        }
        panic!("reconciles keep writing");
    }

    fn refresh(&mut self) {
        let Writers {
            deployments,
            services,
            network_policies,
            pod_disruption_budgets,
            ingresses,
            http_routes,
            recovered: _,
        } = &mut self.operator.writers;
        fill(&mut deployments.writer, &self.cluster, "deployments");
        fill(&mut services.writer, &self.cluster, "services");
        fill(
            &mut network_policies.writer,
            &self.cluster,
            "networkpolicies",
        );
        fill(
            &mut pod_disruption_budgets.writer,
            &self.cluster,
            "poddisruptionbudgets",
        );
        fill(&mut ingresses.writer, &self.cluster, "ingresses");
        fill(&mut http_routes.writer, &self.cluster, "httproutes");
        let ScopeWriter { writer, index } = &mut self.operator.rooms;
        let rooms = self.cluster.rooms().into_iter();
        let rooms = rooms.map(|room| serde_json::from_value(room).expect("always"));
        fill_with(writer, rooms, |event| index.note(event));
    }

    /// Whether the broker's user has the password that the room's Secret has.
    pub(crate) fn is_password_set(&self) -> bool {
        let secret = self.cluster.get(ROOM_SECRET).expect("the room's Secret");
        let password: ByteString =
            serde_json::from_value(secret["data"]["password"].clone()).expect("base64");
        let password = String::from_utf8(password.0).expect("text");
        let user = self.broker.get("users", "papo.team.geral").expect("a user");
        let hash = user["password_hash"].as_str().expect("a hash");
        // RabbitMQ's salted SHA-256 in base64; the salt is the first four bytes of the room's uid and of "papo".
        let salt: Vec<u8> = b"u-1papo"[..4].to_vec();
        hash == base64_encoded_salted_password_hash_sha256(&salt, &password)
    }

    /// Paths of the room's children in the cluster.
    pub(crate) fn children(&self) -> Vec<String> {
        let mut paths = self.cluster.paths();
        paths.retain(|path| path.ends_with("/chat-geral"));
        paths
    }

    /// Every object, without random values and versions.
    pub(crate) fn everything(&self) -> Value {
        let epoch = self.cluster.status()["epoch"]
            .as_str()
            .unwrap_or("none")
            .to_owned();
        let text = json!({"cluster": self.cluster.all(), "broker": self.broker.all()})
            .to_string()
            .replace(&epoch, "EPOCH");
        serde_json::from_str(&text).expect("still JSON")
    }
}

/// Path of the broker's Secret.
pub(crate) const BROKER_SECRET: &str = "/api/v1/namespaces/papo/secrets/broker";

/// Path of the list of what deleted rooms have left on brokers.
pub(crate) const LEFTOVERS: &str = "/api/v1/namespaces/papo/configmaps/papo-operator-leftovers";

/// Path of the room's Secret.
pub(crate) const ROOM_SECRET: &str = "/api/v1/namespaces/team/secrets/chat-geral";

/// Path of the room.
pub(crate) const ROOM: &str = "/apis/papo.chat/v1alpha1/namespaces/team/chatrooms/geral";

pub(crate) fn defaults() -> Defaults {
    Defaults {
        server_image: "papo-server:test".to_owned(),
        server_log_filter: "info".to_owned(),
        server_hsts_max_age: 600,
        network: Network {
            server_metrics_from: r#"[{"podSelector": {"matchLabels": {"app": "prometheus"}}}]"#
                .parse()
                .expect("valid"),
            ..Network::default()
        },
        broker_secret: Some("papo/broker".parse().expect("valid")),
        domain: Some("chat.example".to_owned()),
        gateway_parent_refs: r#"[{"name": "default"}]"#.parse().expect("valid"),
        allowed: Allowed {
            ingress_annotations: vec!["projectcontour.io/websocket-routes".to_owned()],
            priority_classes: vec!["chat".to_owned()],
        },
        ..Defaults::default()
    }
}

/// A room as the API server would give it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "literals read better without `&`"
)]
pub(crate) fn room(spec: Value) -> Value {
    json!({
        "apiVersion": "papo.chat/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "geral", "namespace": "team", "uid": "u-1", "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    })
}

fn operator(cluster: &Cluster, policy: &Policy, cleanup_timeout: Duration) -> Operator {
    operator_with(cluster, policy, cleanup_timeout, defaults())
}

fn operator_with(
    cluster: &Cluster,
    policy: &Policy,
    cleanup_timeout: Duration,
    defaults: Defaults,
) -> Operator {
    let all = Rooms::default();
    let rooms = all.add_scope(&defaults);
    let client = cluster.client();
    let (cache, writers) = Cache::new(&client);
    let metrics = Metrics::default();
    let own = defaults.broker_secret.as_ref();
    let name = "papo-operator-leftovers".to_owned();
    let leftovers = Leftovers::new(client.clone(), "papo", name, own, metrics.clone());
    let context = Context {
        recorder: Recorder::new(client.clone(), Reporter::from("test")),
        clients: Clients {
            client,
            cache,
            brokers: Brokers::new(policy.clone()),
            settled: Settled::default(),
            secrets: RecentSecrets::new(policy.secret_period),
            metrics,
        },
        rooms: all,
        defaults,
        resync: Duration::from_secs(30),
        cleanup_timeout,
        patience: Patience::default(),
        reported: Reported::default(),
        leftovers,
        failures: Failures::default(),
        progress: Arc::default(),
    };
    Operator {
        context: Arc::new(context),
        writers,
        rooms,
    }
}

fn fill<K>(writer: &mut Writer<Compact<K>>, cluster: &Cluster, plural: &str)
where
    K: kube::Resource<DynamicType: Clone + Eq + std::hash::Hash>
        + Serialize
        + DeserializeOwned
        + 'static,
{
    let objects = cluster.list(plural).into_iter().map(|object| {
        let object = serde_json::from_value::<K>(object);
        Compact::new(object.expect("an object of its kind"))
    });
    fill_with(writer, objects, |_| {});
}

fn fill_with<K>(
    writer: &mut Writer<K>,
    objects: impl IntoIterator<Item = K>,
    note: impl Fn(&Event<K>),
) where
    K: kube::Resource<DynamicType: Clone + Eq + std::hash::Hash> + Clone + 'static,
{
    let mut apply = |event: Event<K>| {
        note(&event);
        writer.apply_watcher_event(&event);
    };
    apply(Event::Init);
    for object in objects {
        apply(Event::InitApply(object));
    }
    apply(Event::InitDone);
}
