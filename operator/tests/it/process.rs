//! The operator as a process: the Lease, what it waits for, and rooms that must not suffer for others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use papo_operator::config::{Cli, Command};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::fake::{BROKER_SECRET, Cluster, Fixture, ROOM, room};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/papo/leases/papo-operator";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const EXCHANGE: &str = "papo.team.geral";
/// The shortest there is.
const LEASE_DURATION: Duration = Duration::from_secs(5);
/// How often a standby looks at the Lease, and some time for a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(3);

/// An operator that runs.
pub(crate) struct Operator {
    port: u16,
    /// What it has asked of the API server, apart from the Lease.
    requests: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    pub(crate) async fn start(cluster: &Cluster, identity: &str) -> Self {
        Self::start_with(cluster, identity, &[]).await
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        let ended = self.running.await.expect("no panic");
        ended.expect("it was asked to");
    }

    /// With more arguments.
    pub(crate) async fn start_with(cluster: &Cluster, identity: &str, more: &[&str]) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = admin.local_addr().expect("an address").port();
        #[rustfmt::skip]
        let arguments = [
            "papo-operator", "run", "--server-image", "papo-server", "--broker-secret", "papo/broker",
            "--concurrency", "4", "--lease-duration", "5", "--lease-identity", identity,
        ];
        let often: &[&str] = if more.contains(&"--resync-period") {
            &[]
        } else {
            &["--resync-period", "1"]
        };
        let arguments = arguments.iter().chain(often).chain(more);
        let Command::Run(settings) = Cli::parse_from(arguments).command else {
            panic!("run was asked for");
        };
        let (client, requests) = cluster.counted_client();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // A dropped sender means that the operator should go on.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let running = tokio::spawn(papo_operator::run(*settings, client, admin, stopped));
        Self {
            port,
            requests,
            stop,
            running,
        }
    }

    /// One of its probes, with the status line; nothing while it does not listen.
    pub(crate) async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// How many reconciles have failed.
    async fn failures(&self) -> u64 {
        self.reconciles("failure").await
    }

    /// How many reconciles have succeeded.
    async fn successes(&self) -> u64 {
        self.reconciles("success").await
    }

    async fn reconciles(&self, outcome: &str) -> u64 {
        let metrics = self.get("/metrics").await.expect("metrics");
        let prefix = format!("papo_operator_reconciles_total{{outcome=\"{outcome}\"}} ");
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |count| count.parse().expect("a number"))
    }

    /// The end of it, within a limit.
    async fn end(self, limit: Duration) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(limit, self.running).await;
        ended.expect("it ends in time").expect("no panic")
    }
}

/// Waits for a condition, two minutes at most, and returns how long it took.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(
            began.elapsed() < Duration::from_mins(2),
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

async fn until_held_by(cluster: &Cluster, identity: &str) -> Duration {
    let held = async || {
        cluster
            .get(LEASE)
            .is_some_and(|lease| lease["spec"]["holderIdentity"] == identity)
    };
    until(&format!("the lease is held by {identity}"), held).await
}

pub(crate) async fn until_deployed(cluster: &Cluster, room: &str) -> Duration {
    let path = format!("/apis/apps/v1/namespaces/team/deployments/chat-{room}");
    until(&format!("{room} has servers"), async || {
        cluster.get(&path).is_some()
    })
    .await
}

/// Another room, at its path.
pub(crate) fn put_room(cluster: &Cluster, name: &str, spec: Value) -> String {
    let mut other = room(spec);
    other["metadata"]["name"] = json!(name);
    other["metadata"]["uid"] = json!(format!("u-{name}"));
    let path = ROOM.replace("geral", name);
    cluster.put(&path, other);
    path
}

#[tokio::test]
async fn operator_ends_when_its_lease_is_taken() {
    let fixture = Fixture::new(room(json!({}))).await;
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_held_by(&fixture.cluster, "a").await;
    fixture.cluster.edit(LEASE, |lease| {
        lease["spec"]["holderIdentity"] = json!("thief");
    });
    let error = operator.end(AT_ONCE).await.expect_err("it must not go on");
    assert!(
        error.to_string().contains("taken by another operator"),
        "{error}"
    );
    assert_eq!(
        fixture.cluster.get(LEASE).expect("it")["spec"]["holderIdentity"],
        "thief"
    );
}

#[tokio::test]
async fn operator_ends_before_a_lease_it_cannot_renew_expires() {
    let fixture = Fixture::new(room(json!({}))).await;
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_held_by(&fixture.cluster, "a").await;
    fixture
        .cluster
        .reject(LEASE, 500, "the API server is on fire");
    let error = operator
        .end(LEASE_DURATION)
        .await
        .expect_err("it must not go on");
    assert!(
        error.to_string().contains("could not be renewed"),
        "{error}"
    );
}

#[tokio::test]
async fn leader_survives_a_plain_404_for_its_lease() {
    let fixture = Fixture::new(room(json!({}))).await;
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_held_by(&fixture.cluster, "a").await;
    let renewed = || fixture.cluster.get(LEASE).expect("it")["spec"]["renewTime"].clone();
    fixture.cluster.hide(LEASE);
    until("a renewal has failed", async || {
        fixture.cluster.hidden_requests() > 0
    })
    .await;
    let before = renewed();
    fixture.cluster.show(LEASE);
    until("the lease is renewed", async || renewed() != before).await;
    assert!(!operator.running.is_finished());
    operator.running.abort();
}

#[tokio::test]
async fn leader_survives_a_renewal_whose_answer_is_lost() {
    let fixture = Fixture::new(room(json!({}))).await;
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_held_by(&fixture.cluster, "a").await;
    until_answer_is_lost(&fixture.cluster).await;
    let renewed = || fixture.cluster.get(LEASE).expect("it")["spec"]["renewTime"].clone();
    let lost = renewed();
    until("the lease is renewed", async || {
        assert!(!operator.running.is_finished(), "the operator has ended");
        renewed() != lost
    })
    .await;
    operator.stop().await;
    assert!(fixture.cluster.get(LEASE).expect("it")["spec"]["holderIdentity"].is_null());
}

#[tokio::test]
async fn operator_ends_when_another_of_its_name_takes_its_lease() {
    let fixture = Fixture::new(room(json!({}))).await;
    let first = Operator::start(&fixture.cluster, "a").await;
    until_held_by(&fixture.cluster, "a").await;
    let second = Operator::start(&fixture.cluster, "a").await;
    let error = first.end(2 * AT_ONCE).await.expect_err("it must not go on");
    assert!(error.to_string().contains("taken"), "{error}");
    second.stop().await;
}

/// The API server stores a renewal of the Lease, of which the leader hears nothing.
async fn until_answer_is_lost(cluster: &Cluster) {
    cluster.lose_answer(LEASE);
    until("a renewal's answer is lost", async || {
        !cluster.will_lose_answer(LEASE)
    })
    .await;
}

/// Two operators, both ready, of which the first leads.
async fn leader_and_standby() -> (Fixture, Operator, Operator) {
    let fixture = Fixture::new(room(json!({}))).await;
    let first = Operator::start(&fixture.cluster, "first").await;
    until_held_by(&fixture.cluster, "first").await;
    let second = Operator::start(&fixture.cluster, "second").await;
    until("the second is ready", async || {
        second
            .get("/readyz")
            .await
            .is_some_and(|answer| answer.contains("200 OK"))
    })
    .await;
    (fixture, first, second)
}

#[tokio::test]
async fn standby_takes_over_at_once_from_an_operator_that_stops() {
    let (fixture, first, second) = leader_and_standby().await;
    until_deployed(&fixture.cluster, "geral").await;
    // It has looked whether the definition is there, and for nothing else.
    assert_eq!(second.requests.load(Ordering::SeqCst), 1);

    first.stop().await;
    fixture.cluster.remove(DEPLOYMENT);
    let waited = until_held_by(&fixture.cluster, "second").await;
    assert!(waited < AT_ONCE, "{waited:?}");
    until_deployed(&fixture.cluster, "geral").await;
    drop(second.stop);
    second.running.abort();
}

#[tokio::test]
async fn operator_that_does_not_know_of_its_renewal_releases_the_lease() {
    let (fixture, first, second) = leader_and_standby().await;
    until_answer_is_lost(&fixture.cluster).await;
    first.stop().await;
    let waited = until_held_by(&fixture.cluster, "second").await;
    assert!(waited < AT_ONCE, "{waited:?}");
    second.running.abort();
}

#[tokio::test]
async fn standby_waits_for_the_lease_of_a_dead_leader_to_expire() {
    let (fixture, first, second) = leader_and_standby().await;
    first.running.abort();
    let waited = until_held_by(&fixture.cluster, "second").await;
    // It renews every sixth of the duration: so long ago the last time may have been.
    assert!(waited > LEASE_DURATION * 2 / 3, "{waited:?}");
    assert!(waited < LEASE_DURATION + AT_ONCE, "{waited:?}");
    second.running.abort();
}

#[tokio::test]
async fn missing_definition_is_waited_for_and_named() {
    let fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.reject_kind("chatrooms", 404);
    let operator = Operator::start(&fixture.cluster, "a").await;
    until("it says what it waits for", async || {
        operator.get("/readyz").await.is_some_and(|answer| {
            answer.contains("503") && answer.contains("chatrooms.papo.chat is not installed")
        })
    })
    .await;
    assert!(
        operator
            .get("/livez")
            .await
            .expect("an answer")
            .contains("200 OK")
    );
    assert!(
        fixture.cluster.get(LEASE).is_none(),
        "it leads nobody meanwhile"
    );

    fixture.cluster.accept_kind("chatrooms");
    until_deployed(&fixture.cluster, "geral").await;
    assert!(
        operator
            .get("/readyz")
            .await
            .expect("an answer")
            .contains("200 OK")
    );
    operator.running.abort();
}

#[tokio::test]
async fn unwatched_kind_is_reported_by_the_rooms_that_need_it() {
    for (kind, code, spec, condition, reason, words) in [
        (
            "httproutes",
            404,
            json!({"gateway": {"parentRefs": [{"name": "public"}]}}),
            "RouteAccepted",
            "KindMissing",
            "HTTPRoute",
        ),
        (
            "httproutes",
            403,
            json!({"gateway": {"parentRefs": [{"name": "public"}]}}),
            "RouteAccepted",
            "Forbidden",
            "httproutes.gateway.networking.k8s.io is forbidden",
        ),
        (
            "poddisruptionbudgets",
            403,
            json!({"replicas": 2}),
            "Available",
            "Forbidden",
            "poddisruptionbudgets.policy is forbidden",
        ),
    ] {
        let fixture = Fixture::new(room(json!({}))).await;
        fixture.cluster.reject_kind(kind, code);
        let needy = put_room(&fixture.cluster, "needy", spec);
        let operator = Operator::start(&fixture.cluster, "a").await;
        until("the room that needs it says so", async || {
            let (status, given, message) = fixture.cluster.condition_of(&needy, condition);
            status == "False" && given == reason && message.contains(words)
        })
        .await;
        until_deployed(&fixture.cluster, "geral").await;
        until_deployed(&fixture.cluster, "needy").await;
        until("the other has nothing to say", async || {
            fixture.cluster.condition("Available").1 == "Starting"
        })
        .await;
        assert_eq!(
            operator.failures().await,
            0,
            "it is no failure to be retried: {kind}"
        );

        fixture.cluster.accept_kind(kind);
        until("the room has it once it may", async || {
            !fixture.cluster.list(kind).is_empty()
        })
        .await;
        operator.running.abort();
    }
}

#[tokio::test]
async fn settled_room_reports_a_watch_that_is_lost() {
    let fixture = Fixture::new(room(json!({}))).await;
    let first = Operator::start(&fixture.cluster, "first").await;
    until_deployed(&fixture.cluster, "geral").await;
    first.stop().await;
    fixture.cluster.edit(DEPLOYMENT, |it| {
        it["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    // Its first list has everything.
    let operator = Operator::start(&fixture.cluster, "second").await;
    until("the room is ready", async || {
        fixture.cluster.condition("Ready").0 == "True"
    })
    .await;
    let reconciles = operator.successes().await;
    until("the room has settled", async || {
        operator.successes().await > reconciles + 1
    })
    .await;

    fixture.cluster.reject_kind("deployments", 403);
    fixture.cluster.end_watches();
    until(
        "the room says that its servers are not watched",
        async || {
            let (status, reason, message) = fixture.cluster.condition("Available");
            status == "False"
                && reason == "Forbidden"
                && message.contains("deployments.apps is forbidden")
        },
    )
    .await;
    assert_eq!(fixture.cluster.condition("Ready").0, "False");
    operator.running.abort();
}

#[tokio::test]
async fn unwatched_kind_shows_in_readyz_and_metrics_of_a_ready_operator() {
    let fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.reject_kind("httproutes", 404);
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_deployed(&fixture.cluster, "geral").await;
    until("the probe names the kind", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("200 OK")
            && ready.contains("watch of HTTPRoute: the cluster does not have this kind")
    })
    .await;
    let gauge = |value: u8| {
        format!("papo_operator_kind_watched{{kind=\"HTTPRoute\",namespace=\"\"}} {value}\n")
    };
    let metrics = operator.get("/metrics").await.expect("metrics");
    assert!(metrics.contains(&gauge(0)), "{metrics}");

    fixture.cluster.accept_kind("httproutes");
    until("the kind is watched", async || {
        let metrics = operator.get("/metrics").await.unwrap_or_default();
        metrics.contains(&gauge(1))
    })
    .await;
    let ready = operator.get("/readyz").await.expect("an answer");
    assert!(!ready.contains("HTTPRoute"), "{ready}");
    operator.running.abort();
}

#[tokio::test]
async fn kind_that_cannot_be_listed_keeps_no_room_from_being_served() {
    let fixture = Fixture::new(room(json!({}))).await;
    for kind in ["httproutes", "ingresses", "poddisruptionbudgets"] {
        fixture.cluster.reject_kind(kind, 503);
    }
    let needy = put_room(
        &fixture.cluster,
        "needy",
        json!({"ingress": {"host": "needy.example"}}),
    );
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_deployed(&fixture.cluster, "geral").await;
    until_deployed(&fixture.cluster, "needy").await;
    until("the room that needs it says so", async || {
        let (_, reason, message) = fixture.cluster.condition_of(&needy, "RouteAccepted");
        reason == "ApiError" && message.contains("not listed yet")
    })
    .await;
    fixture.cluster.accept_kind("ingresses");
    until("the room has its Ingress", async || {
        !fixture.cluster.list("ingresses").is_empty()
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn rooms_of_an_unwatched_kind_are_reconciled_when_its_watch_works() {
    let fixture = Fixture::new(room(
        json!({"gateway": {"parentRefs": [{"name": "public"}]}}),
    ))
    .await;
    fixture.cluster.reject_kind("httproutes", 404);
    // The resync is an hour away: only the watch can be the reason.
    let operator = Operator::start_with(&fixture.cluster, "a", &["--resync-period", "3600"]).await;
    until("the room says what is missing", async || {
        fixture.cluster.condition("RouteAccepted").1 == "KindMissing"
    })
    .await;
    // A room whose servers are starting is requeued after seconds: these are available.
    fixture.cluster.edit(DEPLOYMENT, |it| {
        it["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    until("the servers are available without the route", async || {
        fixture.cluster.condition("UpToDate").0 == "True"
            && fixture.cluster.condition("Available").0 == "True"
    })
    .await;
    fixture.cluster.accept_kind("httproutes");
    until("the room has its HTTPRoute", async || {
        !fixture.cluster.list("httproutes").is_empty()
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn kind_that_may_be_listed_and_later_watched_recovers() {
    let fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.reject_watch("services");
    let operator = Operator::start(&fixture.cluster, "a").await;
    let note = "watch of Service: services is forbidden";
    until("the probe names the kind", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains(note)
    })
    .await;
    fixture.cluster.accept_watch("services");
    until("the probe names it no longer", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("200 OK") && !ready.contains("watch of Service")
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn leader_that_cannot_watch_rooms_is_not_ready() {
    let fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.reject_watch("chatrooms");
    let operator = Operator::start(&fixture.cluster, "a").await;
    until("the probe says so", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("503") && ready.contains("rooms: chat rooms cannot be watched")
    })
    .await;
    fixture.cluster.accept_watch("chatrooms");
    until("it is ready", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("200 OK")
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn stalled_leader_is_not_ready_and_says_so() {
    let fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.hold_answers(BROKER_SECRET);
    let operator = Operator::start_with(&fixture.cluster, "a", &["--stall-timeout", "1"]).await;
    until("the probe reports the stall", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("503") && ready.contains("rooms wait (1), and no reconcile has finished")
    })
    .await;
    let metrics = operator.get("/metrics").await.expect("metrics");
    assert!(
        metrics.contains("papo_operator_stalled{namespace=\"\"} 1\n"),
        "{metrics}"
    );
    operator.running.abort();
}

#[tokio::test]
async fn silent_broker_does_not_delay_rooms_of_another_broker() {
    let fixture = Fixture::new(room(json!({}))).await;
    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let mut secret = fixture.cluster.get(BROKER_SECRET).expect("the Secret");
    secret["data"]["managementPort"] =
        json!(k8s_openapi::ByteString(port.to_string().into_bytes()));
    fixture
        .cluster
        .put("/api/v1/namespaces/team/secrets/silent", secret);
    let dead: Vec<String> = (0..40)
        .map(|n| {
            put_room(
                &fixture.cluster,
                &format!("a{n}"),
                json!({"broker": {"secretName": "silent"}}),
            )
        })
        .collect();
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_deployed(&fixture.cluster, "geral").await;
    until("every dead room says so", async || {
        dead.iter()
            .all(|room| fixture.cluster.condition_of(room, "BrokerReady").1 == "BrokerUnreachable")
    })
    .await;
    // The broker is still silent, and the other room is reconciled as before.
    for _ in 0..5 {
        fixture.broker.remove("exchanges", EXCHANGE);
        let waited = until("the exchange is back", async || {
            fixture.broker.get("exchanges", EXCHANGE).is_some()
        })
        .await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
    operator.running.abort();
}
