//! A stored room that this operator cannot read: it says so, and no other room notices.

use papo_operator::{config::Namespaces, remove_finalizers::remove_finalizers};
use serde_json::{Value, json};

use crate::{
    fake::{Fixture, ROOM, room},
    process::{Operator, put_room, until, until_deployed},
};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const EXCHANGE: &str = "papo.team.geral";

/// What an older or newer definition may have let pass.
fn unreadable() -> Value {
    json!({"deletionPolicy": "Perhaps", "replicas": "many"})
}

#[tokio::test]
async fn unreadable_room_says_so_and_others_are_served() {
    let fixture = Fixture::new(room(json!({}))).await;
    let strange = put_room(&fixture.cluster, "strange", unreadable());
    let operator = Operator::start(&fixture.cluster, "a").await;
    until_deployed(&fixture.cluster, "geral").await;
    until("the room says what is wrong", async || {
        let (status, reason, message) = fixture.cluster.condition_of(&strange, "Accepted");
        (status.as_str(), reason.as_str()) == ("False", "Invalid")
            && message.contains("spec.deletionPolicy: unknown variant `Perhaps`")
            && message.contains("spec.replicas: ")
    })
    .await;
    until("the operator is ready", async || {
        let ready = operator.get("/readyz").await.unwrap_or_default();
        ready.contains("200 OK")
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn finalizer_of_an_unreadable_room_can_be_removed() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"] = unreadable());
    let all = Namespaces {
        watch_namespaces: Vec::new(),
    };
    let changed = remove_finalizers(&fixture.cluster.client(), &all).await;
    assert_eq!(changed.expect("it can be listed"), 1);
    let room = fixture.cluster.get(ROOM).expect("it stays");
    assert_eq!(room["metadata"]["finalizers"], json!([]));
}

/// A room that becomes unreadable and is then deleted.
async fn deleted(spec: Value) -> Fixture {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    let now = k8s_openapi::jiff::Timestamp::now();
    fixture.cluster.edit(ROOM, |room| {
        room["spec"] = spec;
        room["metadata"]["deletionTimestamp"] = json!(format!("{now:.0}"));
    });
    fixture.reconcile().await.expect("the servers are deleted");
    assert!(fixture.cluster.get(DEPLOYMENT).is_none());
    fixture.reconcile().await.expect("the broker is cleared");
    assert!(fixture.cluster.get(ROOM).is_none());
    fixture
}

fn has_log(fixture: &Fixture) -> bool {
    let all = fixture.broker.all();
    all.iter().any(|object| object.starts_with("queues "))
}

#[tokio::test]
async fn deleted_unreadable_room_is_cleared_from_its_broker() {
    let fixture = deleted(json!({"replicas": "many"})).await;
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_none());
    assert!(!has_log(&fixture));
}

#[tokio::test]
async fn unreadable_deletion_policy_keeps_the_log() {
    let fixture = deleted(json!({"deletionPolicy": "Perhaps"})).await;
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_none());
    assert!(has_log(&fixture), "nobody asked for it to be deleted");
}

#[tokio::test]
async fn unreadable_broker_leaves_the_default_broker_alone() {
    let fixture = deleted(json!({"broker": "mine"})).await;
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_some());
    let events = fixture.cluster.events().to_string();
    assert!(
        events.contains("LeftOnBroker") && events.contains("cannot read spec.broker"),
        "{events}"
    );
}
