//! The bounds on brokers: a room's Secret may name any host, and what answers there must not hurt other rooms, nor be read out by a status.

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use k8s_openapi::ByteString;
use papo_operator::broker::Policy;
use serde_json::json;

use crate::{
    fake::{BROKER_SECRET, Broker, Cluster, Fault, Fixture, ROOM, WORDS, room},
    process::{Operator, put_room, until, until_deployed},
};

const EXCHANGE: &str = "papo.team.geral";
const TENANTS_SECRET: &str = "/api/v1/namespaces/team/secrets/mine";

/// Reconciles once with a fault, and returns reason and message of `BrokerReady`.
async fn with_fault(policy: Policy, fault: Fault) -> (Fixture, String, String) {
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    fixture.broker.set_fault(Some(fault));
    fixture.reconcile().await.expect_err("a fault");
    let (status, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(status, "False");
    (fixture, reason, message)
}

/// Takes the room's status, as when a backup is restored: then its log is searched for.
fn lose_status(fixture: &Fixture) {
    fixture
        .cluster
        .edit(ROOM, |room| room["status"] = json!({}));
}

#[tokio::test]
async fn list_that_never_ends_is_cut_after_20_pages() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    lose_status(&fixture);
    fixture.broker.set_fault(Some(Fault::EndlessPages));
    let before = fixture.broker.requests();
    fixture.reconcile().await.expect_err("a fault");
    let (_, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(reason, "BrokerLimitExceeded");
    assert!(
        message.contains("more than 20 pages (10000 queues)"),
        "{message}"
    );
    let requests = fixture.broker.requests() - before;
    assert!(requests < 40, "{requests} requests");
}

#[tokio::test]
async fn page_larger_than_asked_for_is_over_the_bound() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.settle().await;
    fixture.broker.set_fault(Some(Fault::ManyUsers));
    let before = fixture.broker.requests();
    fixture.reconcile().await.expect("the room alone is read");
    let requests = fixture.broker.requests() - before;
    assert!(requests < 15, "{requests} requests: one page is enough");
    let label = r#"papo_operator_broker_bounds_exceeded_total{bound="page_size"}"#;
    assert_eq!(fixture.metric(label), Some(1));
    assert_eq!(fixture.cluster.condition("BrokerReady").0, "True");
}

/// The most memory that this process has had, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    kib.expect("a peak").parse::<u64>().expect("a number") >> 10
}

#[tokio::test]
async fn broker_cannot_fill_the_memory() {
    const TEST: &str = "bounds::broker_cannot_fill_the_memory";
    // Alone in a process, whose memory other tests do not use.
    if env::var_os("PAPO_TEST_ALONE").is_none() {
        let this = env::current_exe().expect("a path");
        let mut alone = Command::new(this);
        alone.args(["--exact", TEST]).env("PAPO_TEST_ALONE", "1");
        let output = alone.output().expect("it runs").stdout;
        let output = String::from_utf8_lossy(&output);
        assert!(output.contains("1 passed"), "{output}");
        return;
    }
    let mut fixture = Fixture::new(room(json!({}))).await;
    let before = peak_memory();
    fixture.reconcile().await.expect("a reconcile");
    lose_status(&fixture);
    for fault in [Fault::EndlessLogs, Fault::ManyUsers, Fault::ManyQueues] {
        fixture.broker.set_fault(Some(fault));
        let reconciled = fixture.reconcile().await;
        // Without users the room is read alone.
        assert_eq!(reconciled.is_err(), fault == Fault::EndlessLogs);
        let used = peak_memory() - before;
        // A few answers of 4 MiB, in this process, which is the broker too.
        assert!(used < 80, "{used} MiB more than before");
    }
}

#[tokio::test]
async fn ninth_broker_of_a_namespace_is_reported_and_not_used() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    for number in 0..9 {
        let secret = format!("mine-{number}");
        let path = format!("/api/v1/namespaces/team/secrets/{secret}");
        fixture.cluster.put(&path, fixture.broker.secret());
        let spec = json!({"broker": {"secretName": secret}});
        let path = put_room(&fixture.cluster, &format!("a{number}"), spec);
        let reconciled = fixture.reconcile_room(&path).await;
        assert_eq!(reconciled.is_err(), number == 8, "broker {number}");
        let (_, reason, message) = fixture.cluster.condition_of(&path, "BrokerReady");
        if number < 8 {
            assert_eq!(reason, "Synced");
        } else {
            assert_eq!(reason, "BrokerLimitExceeded");
            assert!(message.starts_with("Secret team/mine-8: "), "{message}");
        }
    }
    let label = r#"papo_operator_broker_bounds_exceeded_total{bound="brokers"}"#;
    assert!(fixture.metric(label).is_some());
    fixture
        .reconcile()
        .await
        .expect("the operator's own broker");
}

#[tokio::test]
async fn answer_of_400_mb_is_cut_at_4_mib() {
    let (fixture, reason, message) = with_fault(Policy::default(), Fault::Huge(400 << 20)).await;
    assert_eq!(reason, "BrokerLimitExceeded");
    assert!(message.contains("larger than 4 MiB"), "{message}");
    // What the sockets' buffers hold was sent too.
    let sent = fixture.broker.huge_bytes() / fixture.broker.requests();
    assert!(
        sent < 32 << 20,
        "{sent} bytes were sent for each of {} requests",
        fixture.broker.requests()
    );
}

#[tokio::test]
async fn slow_answers_end_at_the_timeout_of_the_room() {
    let policy = Policy {
        timeout: Duration::from_secs(1),
        ..Policy::default()
    };
    let began = Instant::now();
    let slow = Fault::Slow(Duration::from_millis(700));
    let (_, reason, message) = with_fault(policy, slow).await;
    let took = began.elapsed();
    assert_eq!(reason, "BrokerUnreachable");
    assert!(message.contains("took longer than 1 s"), "{message}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn words_of_the_broker_are_never_shown() {
    for (code, meaning) in [
        (400, "the broker rejects the request"),
        (401, "the Secret's user or password is wrong"),
        (403, "lacks a right"),
        (302, "RabbitMQ does not redirect"),
        (418, "the operator does not expect this from RabbitMQ"),
        (500, "the broker cannot work at present"),
    ] {
        let (fixture, reason, message) = with_fault(Policy::default(), Fault::Status(code)).await;
        assert_eq!(reason, "BrokerRejected");
        assert!(message.contains(&format!("answered {code}: ")), "{message}");
        assert!(message.contains(meaning), "{message}");
        let everything = fixture.everything().to_string();
        assert!(!everything.contains(WORDS), "{everything}");
        let events = fixture.cluster.events().to_string();
        assert!(!events.contains(WORDS), "{events}");
    }
}

#[tokio::test]
async fn properties_of_a_foreign_exchange_are_not_shown() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    let theirs = json!({"name": EXCHANGE, "vhost": "/", "type": "secret-type", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "secret-owner"}});
    fixture.broker.put("exchanges", EXCHANGE, theirs);
    fixture.reconcile().await.expect_err("a conflict");
    let status = fixture.cluster.status().to_string();
    assert!(!status.contains("secret-"), "{status}");
}

/// A broker of a tenant with 40 rooms beside `geral`, and how slow it is.
async fn tenant(fixture: &Fixture, fault: Fault) -> (Broker, Vec<String>) {
    let broker = fixture.another_broker().await;
    broker.set_fault(Some(fault));
    let rooms = (0..40).map(|n| {
        let spec = json!({"broker": {"secretName": format!("mine-{}", n % 4)}});
        put_room(&fixture.cluster, &format!("a{n}"), spec)
    });
    let rooms = rooms.collect();
    for n in 0..4 {
        let path = format!("/api/v1/namespaces/team/secrets/mine-{n}");
        fixture.cluster.put(&path, broker.secret());
    }
    (broker, rooms)
}

#[tokio::test]
async fn slow_broker_takes_only_the_slots_of_its_namespace() {
    let fixture = Fixture::new(room(json!({}))).await;
    // Slower than a healthy one, and just fast enough to be waited for; under four names.
    let (_slow, rooms) = tenant(&fixture, Fault::Slow(Duration::from_secs(6))).await;
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_deployed(&fixture.cluster, "geral").await;
    // Long enough for the slow rooms to occupy all that they can.
    for _ in 0..4 {
        fixture.broker.remove("exchanges", EXCHANGE);
        let waited = until("the exchange is back", async || {
            fixture.broker.get("exchanges", EXCHANGE).is_some()
        })
        .await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
    let metrics = operator.get("/metrics").await.expect("metrics");
    assert!(
        metrics.contains("papo_operator_broker_bounds_exceeded_total{bound=\"slots\"}"),
        "{metrics}"
    );
    until("a room that waits for long says so", async || {
        let reasons = rooms
            .iter()
            .map(|room| fixture.cluster.condition_of(room, "BrokerReady").1);
        reasons.into_iter().any(|reason| reason == "BrokerBusy")
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn waiting_for_a_moment_is_not_reported() {
    let fixture = Fixture::new(room(json!({}))).await;
    let quick = Fault::Slow(Duration::from_millis(1));
    let (_broker, rooms) = tenant(&fixture, quick).await;
    // As in a cluster: rooms are not reconciled again while others wait.
    let operator = Operator::start_with(&fixture.cluster, "a", &["--resync-period", "60"]).await;
    until("all rooms are on their broker", async || {
        rooms.iter().all(|room| {
            let (status, reason, _) = fixture.cluster.condition_of(room, "BrokerReady");
            assert_ne!(reason, "BrokerBusy", "{room}");
            status == "True"
        })
    })
    .await;
    operator.running.abort();
}

fn tenants_broker(cluster: &Cluster, host: &str) {
    let mut secret = cluster.get(BROKER_SECRET).expect("the Secret");
    secret["data"]["host"] = json!(ByteString(host.as_bytes().to_vec()));
    cluster.put(TENANTS_SECRET, secret);
}

#[tokio::test]
async fn broker_host_that_is_not_allowed_is_not_connected_to() {
    let policy = Policy {
        allowed_hosts: vec!["*.team.svc".parse().expect("always")],
        default_secret: Some("papo/broker".parse().expect("valid")),
        ..Policy::default()
    };
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    fixture
        .reconcile()
        .await
        .expect("the default is always allowed");
    let mut fixture2 = Fixture::with_policy(
        room(json!({"broker": {"secretName": "mine"}})),
        Policy {
            allowed_hosts: vec!["*.team.svc".parse().expect("always")],
            ..Policy::default()
        },
    )
    .await;
    tenants_broker(&fixture2.cluster, "127.0.0.1");
    fixture2.reconcile().await.expect_err("not allowed");
    let (_, reason, message) = fixture2.cluster.condition("BrokerReady");
    assert_eq!(reason, "BrokerNotAllowed");
    assert!(
        message.contains("127.0.0.1") && message.contains("operator.allowedBrokerHosts"),
        "{message}"
    );
    assert_eq!(fixture2.broker.connections(), 0);
    // It can be deleted all the same.
    fixture2.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    fixture2.reconcile().await.expect("nothing to wait for");
    assert!(fixture2.cluster.get(ROOM).is_none());
}

#[tokio::test]
async fn annotation_that_is_not_allowed_makes_no_ingress() {
    let spec = json!({"ingress": {"annotations": {"nginx.ingress.kubernetes.io/server-snippet": "return 200;"}}});
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.reconcile().await.expect("nothing to retry");
    let (status, reason, message) = fixture.cluster.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(message.contains("server-snippet"), "{message}");
    assert!(fixture.cluster.list("ingresses").is_empty());
}
