//! On how many nodes of the broker a log is, and what is said if there are too few.

use serde_json::{Value, json};

use crate::fake::{Fixture, ROOM, room};

const EXCHANGE: &str = "papo.team.geral";
const NODES: [&str; 3] = ["rabbit@a", "rabbit@b", "rabbit@c"];

fn log_of(fixture: &Fixture) -> String {
    let epoch = fixture.cluster.status()["epoch"].clone();
    format!("{EXCHANGE}.log.{}", epoch.as_str().expect("an epoch"))
}

/// The log is on so many nodes, and runs on so many of them.
fn set_replicas(fixture: &Fixture, members: usize, online: usize) {
    let log = log_of(fixture);
    let mut queue = fixture.broker.get("queues", &log).expect("a log");
    queue["members"] = json!(NODES[..members]);
    queue["online"] = json!(NODES[..online]);
    fixture.broker.put("queues", &log, queue);
}

fn counts(fixture: &Fixture) -> Value {
    fixture.cluster.status()["logReplicas"].clone()
}

#[tokio::test]
async fn new_log_is_on_as_many_nodes_as_there_are() {
    for (nodes, spec, expected) in [
        (1, json!({}), 1),
        (2, json!({}), 2),
        (3, json!({}), 3),
        (3, json!({"broker": {"replicas": 2}}), 2),
        (3, json!({"broker": {"replicas": 5}}), 3),
    ] {
        let mut fixture = Fixture::new(room(spec)).await;
        fixture.broker.set_nodes(&NODES[..nodes]);
        fixture.reconcile().await.expect("a reconcile");
        let all = json!({"desired": expected, "members": expected, "online": expected});
        assert_eq!(counts(&fixture), all, "{nodes} nodes");
        assert_eq!(fixture.cluster.condition("BrokerReady").1, "Synced");
    }
}

#[tokio::test]
async fn log_on_too_few_nodes_is_reported_with_the_command() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.settle().await;
    fixture.broker.set_nodes(&NODES);
    set_replicas(&fixture, 1, 1);
    fixture.settle().await;
    let (status, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "FewReplicas"));
    let command = format!(
        "run on the broker: rabbitmq-streams add_replica --vhost '/' {} NODE",
        log_of(&fixture)
    );
    assert!(
        message.starts_with("the log is on 1 of 3 nodes"),
        "{message}"
    );
    assert!(message.ends_with(&command), "{message}");
    assert_eq!(
        counts(&fixture),
        json!({"desired": 3, "members": 1, "online": 1})
    );

    set_replicas(&fixture, 3, 2);
    fixture.settle().await;
    let (_, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!((reason.as_str(), message.as_str()), ("Synced", ""));
    assert_eq!(
        counts(&fixture),
        json!({"desired": 3, "members": 3, "online": 2})
    );
}

#[tokio::test]
async fn desired_replicas_follow_the_spec() {
    let mut fixture = Fixture::new(room(json!({"broker": {"replicas": 1}}))).await;
    fixture.broker.set_nodes(&NODES);
    fixture.settle().await;
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "Synced");
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["broker"]["replicas"] = json!(3);
    });
    fixture.settle().await;
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "FewReplicas");
}

#[tokio::test]
async fn bulk_read_that_fails_once_does_not_change_the_status() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.settle().await;
    fixture.broker.set_nodes(&NODES);
    set_replicas(&fixture, 1, 1);
    fixture.settle().await;
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "FewReplicas");
    let before = fixture.cluster.writes();
    fixture.broker.fail_definitions(1);
    for _ in 0..3 {
        fixture.reconcile().await.expect("a reconcile");
        assert_eq!(fixture.cluster.condition("BrokerReady").1, "FewReplicas");
    }
    assert_eq!(fixture.cluster.writes(), before);
}
