//! The deletion of a room, each of whose steps has a time limit.

use std::time::{Duration, Instant};

use papo_operator::{
    broker::{Brokers, Policy},
    config::{Namespaces, SecretRef},
    metrics::Metrics,
};
use serde_json::{Value, json};

use crate::{
    fake::{BROKER_SECRET, Fault, Fixture, LEFTOVERS, ROOM, room},
    process::put_room,
};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const EXCHANGE: &str = "papo.team.geral";

/// A room that has been made, and then deleted so many seconds ago.
async fn deleted(spec: Value, seconds_ago: i64) -> Fixture {
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.reconcile().await.expect("a reconcile");
    delete(&fixture, seconds_ago);
    fixture
}

/// Deletes the room, so many seconds ago.
fn delete(fixture: &Fixture, seconds_ago: i64) {
    let now = k8s_openapi::jiff::Timestamp::now();
    let then = now - k8s_openapi::jiff::SignedDuration::from_secs(seconds_ago);
    fixture.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!(format!("{then:.0}"));
    });
}

/// By an event.
fn assert_an_event_was_written(fixture: &Fixture) {
    let writes = fixture.cluster.writes();
    assert!(
        writes.iter().any(|write| write.contains("/events")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn deleted_room_leaves_nothing_on_the_broker() {
    let mut fixture = deleted(json!({}), 0).await;
    fixture.reconcile().await.expect("the servers are deleted");
    assert!(fixture.cluster.get(DEPLOYMENT).is_none());
    assert!(
        fixture.broker.get("exchanges", EXCHANGE).is_some(),
        "not before the servers have left"
    );
    fixture.reconcile().await.expect("the broker is cleared");
    let left = fixture.broker.all();
    assert!(left.is_empty(), "{left:?}");
    assert!(fixture.cluster.get(ROOM).is_none());
}

#[tokio::test]
async fn room_that_never_had_servers_is_cleared_at_once() {
    let mut fixture = deleted(json!({"replicas": 0}), 0).await;
    fixture.reconcile().await.expect("there is no server");
    assert!(fixture.cluster.get(DEPLOYMENT).is_none());
    let left = fixture.broker.all();
    assert!(left.is_empty(), "{left:?}");
    assert!(fixture.cluster.get(ROOM).is_none());
}

#[tokio::test]
async fn servers_that_a_room_has_had_or_adopted_are_waited_for() {
    for (generation, servers) in [(2, 0), (1, 1)] {
        let mut fixture = deleted(json!({"replicas": 0}), 0).await;
        fixture.cluster.edit(DEPLOYMENT, |deployment| {
            deployment["metadata"]["generation"] = json!(generation);
            deployment["status"] = json!({"replicas": servers});
        });
        fixture.reconcile().await.expect("the servers are deleted");
        let is_there = fixture.broker.get("exchanges", EXCHANGE).is_some();
        assert!(is_there, "{generation} {servers}");
    }
}

/// The cache of the operator is a moment behind.
#[tokio::test]
async fn old_state_of_a_cleared_room_creates_nothing() {
    let mut fixture = deleted(json!({}), 0).await;
    fixture.reconcile().await.expect("the servers are deleted");
    let old = fixture.cluster.get(ROOM).expect("its finalizer keeps it");
    fixture.reconcile().await.expect("the broker is cleared");
    assert!(fixture.cluster.get(ROOM).is_none());
    fixture.cluster.put(ROOM, old);
    fixture.reconcile().await.expect("nothing is to be done");
    let left = fixture.broker.all();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn retained_log_is_continued_by_a_room_of_its_name() {
    let mut fixture = Fixture::new(room(json!({"deletionPolicy": "Retain"}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["retention"] = json!({"maxBytes": "2M"});
    });
    fixture.reconcile().await.expect("a policy");
    delete(&fixture, 0);
    let epoch = fixture.cluster.status()["epoch"].clone();
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.cluster.get(ROOM).is_none());
    assert!(
        fixture.broker.get("exchanges", EXCHANGE).is_none()
            && fixture.broker.get("users", EXCHANGE).is_none()
    );
    assert!(
        fixture.broker.get("policies", EXCHANGE).is_some(),
        "what bounds the log stays with it"
    );

    for collected in fixture.children() {
        fixture.cluster.remove(&collected);
    }
    let mut next = room(json!({}));
    next["metadata"]["uid"] = json!("u-2");
    fixture.cluster.put(ROOM, next);
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.status()["epoch"], epoch);
}

#[tokio::test]
async fn failing_broker_delays_deletion_until_the_cleanup_timeout() {
    for (cleanup_timeout, goes) in [(Duration::from_mins(2), false), (Duration::ZERO, true)] {
        // It does not matter when the room was deleted: an operator that starts has all its patience.
        let mut fixture = deleted(json!({}), 600).await;
        fixture.restart_with_cleanup_timeout(cleanup_timeout);
        fixture.broker.set_down(true);
        for _ in 0..2 {
            if fixture.cluster.get(ROOM).is_some() {
                let _ = fixture.reconcile().await;
            }
        }
        let is_gone = fixture.cluster.get(ROOM).is_none();
        assert_eq!(is_gone, goes, "{cleanup_timeout:?}");
    }
}

#[tokio::test]
async fn servers_that_have_ended_are_not_looked_for_again() {
    let mut fixture = deleted(json!({}), 0).await;
    fixture.broker.set_down(true);
    fixture.reconcile().await.expect("the servers are deleted");
    fixture.reconcile().await.expect_err("no broker");
    let before = fixture.cluster.requests();
    for _ in 0..10 {
        fixture.reconcile().await.expect_err("no broker");
    }
    // The broker's Secret, which nobody watches.
    let requests = fixture.cluster.requests() - before;
    assert!(requests <= 10, "{requests} requests");
}

#[tokio::test]
async fn slow_broker_is_cleared_however_long_it_takes() {
    const PATIENCE: Duration = Duration::from_secs(5);
    // An attempt is cut after three requests.
    let policy = Policy {
        timeout: Duration::from_millis(3_500),
        ..Policy::default()
    };
    let slow = Fault::Slow(Duration::from_secs(1));
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.delete(ROOM);
    fixture.reconcile().await.expect("the servers are deleted");
    fixture.restart_with_cleanup_timeout(PATIENCE);
    fixture.broker.set_fault(Some(slow));
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        fixture
            .reconcile()
            .await
            .expect("an attempt that is cut is no failure");
    }
    fixture.broker.set_down(true);
    fixture.reconcile().await.expect_err("a failure");
    assert!(
        fixture.cluster.get(ROOM).is_some(),
        "patience counts from the last progress"
    );
    fixture.broker.set_fault(Some(slow));
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    assert!(
        fixture.cluster.get(LEFTOVERS).is_none(),
        "it was not given up"
    );
}

#[tokio::test]
async fn deletion_of_many_rooms_costs_six_requests_each_and_few_lists() {
    const ROOMS: usize = 40;
    let policy = Policy {
        listing_period: Duration::from_secs(1),
        ..Policy::default()
    };
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    let mut rooms = vec![ROOM.to_owned()];
    rooms.extend((1..ROOMS).map(|n| put_room(&fixture.cluster, &format!("a{n}"), json!({}))));
    for room in &rooms {
        fixture.reconcile_room(room).await.expect("a reconcile");
        fixture.delete(room);
    }
    for room in &rooms {
        fixture
            .reconcile_room(room)
            .await
            .expect("its servers are deleted");
    }
    let before = (fixture.broker.requests(), fixture.broker.lists());
    fixture.reconcile_until_gone(&rooms).await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    let requests = fixture.broker.requests() - before.0;
    let lists = fixture.broker.lists() - before.1;
    // The policies of all rooms with the last one.
    let most = 6 * ROOMS + 2;
    assert!(
        requests - lists <= most,
        "{requests} requests, {lists} of them lists"
    );
    // One a second. Without sharing there would be one for each room.
    assert!(lists <= ROOMS / 2, "{lists} lists");
}

#[tokio::test]
async fn definitions_that_fail_once_are_read_again_for_all_rooms() {
    const ROOMS: usize = 8;
    let policy = Policy {
        listing_period: Duration::from_secs(3),
        ..Policy::default()
    };
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    let paths = (0..ROOMS).map(|n| put_room(&fixture.cluster, &format!("a{n}"), json!({})));
    let rooms: Vec<String> = paths.collect();
    for room in &rooms {
        fixture.reconcile_room(room).await.expect("a reconcile");
        fixture.delete(room);
    }
    // The servers, and then the users: the first room is removed by a list, for which the users of the others were there too early.
    for room in rooms.iter().chain(&rooms) {
        fixture.reconcile_room(room).await.expect("a reconcile");
    }
    let left = rooms
        .iter()
        .filter(|room| fixture.cluster.get(room).is_some());
    assert_eq!(left.count(), ROOMS - 1);
    fixture.broker.fail_definitions(1);
    let before = fixture.broker.lists();
    fixture.reconcile_until_gone(&rooms[1..]).await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    // The definitions a few times, the lists of one room, and whether any room is left. Three lists of each room would be 21.
    let lists = fixture.broker.lists() - before;
    assert!(lists < 10, "{lists} lists");
}

#[tokio::test]
async fn operator_that_dies_after_any_write_of_a_deletion_leaves_nothing() {
    let mut undisturbed = deleted(json!({}), 0).await;
    let before = undisturbed.cluster.writes().len() + undisturbed.broker.writes().len();
    undisturbed.reconcile_until_gone(&[ROOM.to_owned()]).await;
    let after = undisturbed.cluster.writes().len() + undisturbed.broker.writes().len();
    for survived in 0..i64::try_from(after - before).expect("few") {
        let mut fixture = deleted(json!({}), 0).await;
        fixture.restart(survived);
        for _ in 0..3 {
            if fixture.cluster.get(ROOM).is_some() {
                let _ = fixture.reconcile().await;
            }
        }
        fixture.restart(i64::MAX);
        fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
        assert_eq!(
            fixture.broker.all(),
            Vec::<String>::new(),
            "after {survived} writes"
        );
        assert!(fixture.cluster.get(LEFTOVERS).is_none());
    }
}

#[tokio::test]
async fn deleted_room_leaves_an_exchange_of_another_owner() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    let theirs = json!({"name": EXCHANGE, "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "u-2"}});
    fixture.broker.put("exchanges", EXCHANGE, theirs);
    fixture.broker.put(
        "users",
        EXCHANGE,
        json!({"name": EXCHANGE, "tags": [], "password_hash": "x"}),
    );
    let _ = fixture.reconcile().await;
    fixture.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.cluster.get(ROOM).is_none());
    assert!(
        fixture.broker.get("exchanges", EXCHANGE).is_some()
            && fixture.broker.get("users", EXCHANGE).is_some()
    );
}

#[tokio::test]
async fn operator_is_installed_while_its_deployment_stays() {
    const OPERATOR: &str = "/apis/apps/v1/namespaces/papo-system/deployments/papo-operator";
    let fixture = Fixture::new(room(json!({}))).await;
    let deployment = "papo-system/papo-operator".parse().expect("valid");
    let is_installed = async || {
        let client = fixture.cluster.client();
        papo_operator::remove_finalizers::is_installed(&client, &deployment)
            .await
            .expect("an answer")
    };
    assert!(!is_installed().await);
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "papo-operator", "namespace": "papo-system", "resourceVersion": "1", "generation": 1}});
    fixture.cluster.put(OPERATOR, object);
    assert!(is_installed().await);
    fixture.cluster.edit(OPERATOR, |deployment| {
        deployment["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    assert!(!is_installed().await, "it is being deleted");
}

#[tokio::test]
async fn remove_finalizers_keeps_finalizers_of_others() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.cluster.edit(ROOM, |room| {
        room["metadata"]["finalizers"]
            .as_array_mut()
            .expect("ours")
            .push(json!("others/theirs"));
    });
    let before = fixture.broker.all();
    let remove = |namespace: &str| {
        let client = fixture.cluster.client();
        let namespaces = Namespaces {
            watch_namespaces: vec![namespace.to_owned()],
        };
        async move { papo_operator::remove_finalizers::remove_finalizers(&client, &namespaces).await }
    };
    assert_eq!(remove("elsewhere").await.expect("nothing to do"), 0);
    assert_eq!(remove("").await.expect("all namespaces"), 1);
    let left = &fixture.cluster.get(ROOM).expect("it stays")["metadata"]["finalizers"];
    assert_eq!(left, &json!(["others/theirs"]));
    assert_eq!(fixture.broker.all(), before);
    assert_an_event_was_written(&fixture);
    fixture.reconcile().await.expect("an operator is back");
    let finalizers =
        fixture.cluster.get(ROOM).expect("it stays")["metadata"]["finalizers"].to_string();
    assert!(finalizers.contains("papo.chat/broker"), "{finalizers}");
}

/// As by `kubectl delete namespace`, which deletes Secrets first.
#[tokio::test]
async fn deleted_room_is_cleared_although_its_secret_is_gone() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.cluster.remove(BROKER_SECRET);
    fixture.reconcile().await.expect_err("it is not deleted");
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "SecretNotFound");
    fixture.delete(ROOM);
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    assert!(fixture.cluster.get(LEFTOVERS).is_none());
}

#[tokio::test]
async fn broker_is_forgotten_some_time_after_its_secret() {
    let fixture = Fixture::new(room(json!({}))).await;
    let secret = serde_json::from_value(fixture.broker.secret()).expect("a Secret");
    let brokers = Brokers::new(Policy::default());
    let name: SecretRef = "papo/broker".parse().expect("valid");
    brokers
        .get(&name, &secret, &Metrics::default())
        .expect("a broker");
    brokers.forget_after(&name, Duration::from_mins(1));
    assert!(brokers.last_known(&name).is_some());
    brokers.forget_after(&name, Duration::ZERO);
    assert!(brokers.last_known(&name).is_none());
}

#[tokio::test]
async fn room_without_the_default_broker_says_that_its_log_is_left() {
    let mut fixture = deleted(json!({}), 600).await;
    fixture.restart_without_default_broker();
    let before = fixture.broker.all();
    fixture.reconcile().await.expect("nothing to wait for");
    assert!(fixture.cluster.get(ROOM).is_none());
    assert_eq!(fixture.broker.all(), before);
    let events = fixture.cluster.events();
    let mut events = events.as_array().into_iter().flatten();
    let event = events.find(|event| event["reason"] == "LeftOnBroker");
    let note = event.expect("an event")["note"].to_string();
    for part in ["papo.team.geral", "no default broker", "remove them there"] {
        assert!(note.contains(part), "{note}");
    }
}

#[tokio::test]
async fn room_that_never_had_a_log_ends_in_silence() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.cluster.edit(ROOM, |room| {
        room["status"]["epoch"] = Value::Null;
    });
    delete(&fixture, 600);
    fixture.restart_without_default_broker();
    fixture.reconcile().await.expect("nothing to wait for");
    assert!(fixture.cluster.get(ROOM).is_none());
    let events = fixture.cluster.events().to_string();
    assert!(!events.contains("LeftOnBroker"), "{events}");
}

#[tokio::test]
async fn plain_404_for_the_broker_secret_does_not_end_the_cleanup() {
    let mut fixture = deleted(json!({}), 0).await;
    fixture.reconcile().await.expect("the servers are deleted");
    fixture.cluster.hide(BROKER_SECRET);
    fixture
        .reconcile()
        .await
        .expect_err("nothing is known of the Secret");
    assert!(fixture.cluster.get(ROOM).is_some());
    fixture.cluster.show(BROKER_SECRET);
    fixture.reconcile().await.expect("the broker is cleared");
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_none());
    assert!(fixture.cluster.get(ROOM).is_none());
}

#[tokio::test]
async fn plain_404_for_the_servers_does_not_clear_the_broker() {
    let mut fixture = deleted(json!({}), 0).await;
    fixture.cluster.hide(DEPLOYMENT);
    fixture
        .reconcile()
        .await
        .expect_err("nothing is known of the servers");
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_some());
    assert!(fixture.cluster.get(ROOM).is_some());
}

#[tokio::test]
async fn undeletable_servers_delay_cleanup_until_grace_ends() {
    for (seconds_ago, is_waiting) in [(0, true), (600, false)] {
        let mut fixture = deleted(json!({}), seconds_ago).await;
        fixture.cluster.reject(DEPLOYMENT, 500, "cannot delete");
        let result = fixture.reconcile().await;
        assert_eq!(result.is_err(), is_waiting, "{seconds_ago} s: {result:?}");
        let is_there = fixture.cluster.get(ROOM).is_some();
        assert_eq!(is_there, is_waiting, "{seconds_ago} s");
    }
}
