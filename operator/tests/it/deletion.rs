//! The end of a room comes in any order.

use papo_operator::config::Namespaces;
use serde_json::{Value, json};

use crate::fake::{Lab, ROOM, room};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const EXCHANGE: &str = "papo.team.geral";

/// A room that has been made, and then deleted so many seconds ago.
async fn deleted(spec: Value, seconds_ago: i64) -> Lab {
    let mut lab = Lab::new(room(spec)).await;
    lab.pass().await.expect("a pass");
    let now = k8s_openapi::jiff::Timestamp::now();
    let then = now - k8s_openapi::jiff::SignedDuration::from_secs(seconds_ago);
    lab.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!(format!("{then:.0}"));
    });
    lab
}

/// By an event.
fn assert_somebody_is_told(lab: &Lab) {
    let writes = lab.cluster.writes();
    assert!(
        writes.iter().any(|write| write.contains("/events")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn nothing_is_left_on_the_broker() {
    let mut lab = deleted(json!({}), 0).await;
    lab.pass().await.expect("the servers are told to go");
    assert!(lab.cluster.get(DEPLOYMENT).is_none());
    assert!(
        lab.broker.get("exchanges", EXCHANGE).is_some(),
        "not before the servers have left"
    );
    lab.pass().await.expect("the broker is cleared");
    let left: Vec<String> = lab
        .broker
        .all()
        .into_iter()
        .filter(|object| !object.starts_with("permissions"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(lab.cluster.get(ROOM).is_none());
}

#[tokio::test]
async fn a_log_that_is_retained_is_continued_by_the_next_room_of_the_name() {
    let mut lab = deleted(json!({"deletionPolicy": "Retain"}), 0).await;
    let epoch = lab.cluster.status()["epoch"].clone();
    lab.pass().await.expect("a pass");
    lab.pass().await.expect("a pass");
    assert!(lab.cluster.get(ROOM).is_none());
    assert!(
        lab.broker.get("exchanges", EXCHANGE).is_none()
            && lab.broker.get("users", EXCHANGE).is_none()
    );
    assert!(
        lab.broker.get("policies", EXCHANGE).is_some(),
        "what bounds the log stays with it"
    );

    let children: Vec<String> = lab
        .cluster
        .paths()
        .into_iter()
        .filter(|path| path.ends_with("/chat-geral"))
        .collect();
    for collected in children {
        lab.cluster.remove(&collected);
    }
    let mut next = room(json!({}));
    next["metadata"]["uid"] = json!("u-2");
    lab.cluster.put(ROOM, next);
    lab.pass().await.expect("a pass");
    assert_eq!(lab.cluster.status()["epoch"], epoch);
}

#[tokio::test]
async fn a_room_whose_broker_secret_is_gone_goes_at_once() {
    let mut lab = deleted(json!({}), 0).await;
    lab.cluster.remove("/api/v1/namespaces/papo/secrets/broker");
    lab.pass().await.expect("the servers are told to go");
    lab.pass().await.expect("there is nothing to wait for");
    assert!(lab.cluster.get(ROOM).is_none());
    assert_somebody_is_told(&lab);
}

#[tokio::test]
async fn a_broker_that_fails_is_waited_for_but_not_for_ever() {
    for (seconds_ago, goes) in [(10, false), (200, true)] {
        let mut lab = deleted(json!({}), seconds_ago).await;
        lab.broker.set_down(true);
        for _ in 0..2 {
            if lab.cluster.get(ROOM).is_some() {
                let _ = lab.pass().await;
            }
        }
        assert_eq!(lab.cluster.get(ROOM).is_none(), goes, "{seconds_ago} s");
    }
}

#[tokio::test]
async fn the_loser_of_an_exchange_leaves_it_to_the_winner() {
    let mut lab = Lab::new(room(json!({}))).await;
    let theirs = json!({"name": EXCHANGE, "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "u-2"}});
    lab.broker.put("exchanges", EXCHANGE, theirs);
    lab.broker.put(
        "users",
        EXCHANGE,
        json!({"name": EXCHANGE, "tags": [], "password_hash": "x"}),
    );
    let _ = lab.pass().await;
    lab.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    lab.pass().await.expect("a pass");
    assert!(lab.cluster.get(ROOM).is_none());
    assert!(
        lab.broker.get("exchanges", EXCHANGE).is_some()
            && lab.broker.get("users", EXCHANGE).is_some()
    );
}

#[tokio::test]
async fn an_operator_that_is_uninstalled_lets_its_rooms_go_and_keeps_finalizers_of_others() {
    let mut lab = Lab::new(room(json!({}))).await;
    lab.pass().await.expect("a pass");
    lab.cluster.edit(ROOM, |room| {
        room["metadata"]["finalizers"]
            .as_array_mut()
            .expect("ours")
            .push(json!("others/theirs"));
    });
    let before = lab.broker.all();
    let release = |namespace: &str| {
        let client = lab.cluster.client();
        let namespaces = Namespaces {
            watch_namespaces: vec![namespace.to_owned()],
        };
        async move { papo_operator::remove_finalizers::remove_finalizers(&client, &namespaces).await }
    };
    assert_eq!(release("elsewhere").await.expect("nothing to do"), 0);
    assert_eq!(release("").await.expect("all namespaces"), 1);
    let left = &lab.cluster.get(ROOM).expect("it stays")["metadata"]["finalizers"];
    assert_eq!(left, &json!(["others/theirs"]));
    assert_eq!(lab.broker.all(), before);
    assert_somebody_is_told(&lab);
    lab.pass().await.expect("an operator is back");
    let held = lab.cluster.get(ROOM).expect("it stays")["metadata"]["finalizers"].to_string();
    assert!(held.contains("papo.chat/broker"), "{held}");
}
