//! The bulk read of a virtual host: what many rooms at rest cost, and that what it has found is never a reason to write.

use std::time::Duration;

use papo_operator::broker::Policy;
use serde_json::{Value, json};

use crate::fake::{Fault, Fixture, ROOM, room};

const EXCHANGE: &str = "papo.team.geral";
const ROOMS: usize = 200;
/// Definitions, permissions, one page of users, and nodes.
const BULK_READ: usize = 4;
/// Exchange, log, policy, bindings, user and permissions.
const ROOM_READ: usize = 6;

/// A bulk read is good enough for the whole test, and so are the Secrets that were read.
fn long_periods() -> Policy {
    Policy {
        inventory_period: Duration::from_hours(1),
        secret_period: Duration::from_hours(1),
        ..Policy::default()
    }
}

/// A room without servers.
fn numbered(number: usize) -> (String, Value) {
    let mut room = room(json!({"replicas": 0}));
    let name = format!("room-{number}");
    room["metadata"]["name"] = json!(name);
    room["metadata"]["uid"] = json!(format!("u-room-{number}"));
    (format!("{}/{name}", ROOM.trim_end_matches("/geral")), room)
}

/// Rooms that have been made, and their paths.
async fn rooms() -> (Fixture, Vec<String>) {
    let mut fixture = Fixture::with_policy(room(json!({"replicas": 0})), long_periods()).await;
    let mut paths = vec![ROOM.to_owned()];
    for (path, room) in (1..ROOMS).map(numbered) {
        fixture.cluster.put(&path, room);
        paths.push(path);
    }
    fixture.reconcile_rooms(&paths).await;
    for servers in fixture.cluster.list("deployments") {
        let name = servers["metadata"]["name"].as_str().expect("a name");
        let path = format!("/apis/apps/v1/namespaces/team/deployments/{name}");
        fixture.cluster.edit(&path, |servers| {
            servers["status"] = json!({"observedGeneration": 1, "replicas": 0, "updatedReplicas": 0, "availableReplicas": 0});
        });
    }
    fixture.reconcile_rooms(&paths).await;
    (fixture, paths)
}

/// Requests to the broker and to the API server so far, and all writes.
fn costs(fixture: &Fixture) -> (usize, usize, usize) {
    let writes = fixture.broker.writes().len() + fixture.cluster.writes().len();
    (
        fixture.broker.requests(),
        fixture.cluster.requests(),
        writes,
    )
}

/// What these reconciles cost.
async fn cost(fixture: &mut Fixture, paths: &[String]) -> (usize, usize, usize) {
    let before = costs(fixture);
    fixture.reconcile_rooms(paths).await;
    let after = costs(fixture);
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[tokio::test]
async fn one_bulk_read_serves_all_rooms_at_rest() {
    let (mut fixture, paths) = rooms().await;
    assert_eq!(
        cost(&mut fixture, &paths).await,
        (0, 0, 0),
        "their Secrets were read a short time ago"
    );
    fixture.restart(i64::MAX);
    assert_eq!(
        cost(&mut fixture, &paths).await,
        (BULK_READ, ROOMS + 2, 0),
        "also the broker's Secret and the list of leftovers"
    );

    fixture.broker.remove_bindings_of(EXCHANGE);
    fixture.restart(i64::MAX);
    assert_eq!(
        cost(&mut fixture, &paths).await,
        (BULK_READ + ROOM_READ + 1, ROOMS + 2, 1),
        "one room is repaired"
    );
    let last = fixture.broker.writes().pop().expect("a write");
    assert!(last.contains(EXCHANGE), "{last}");
    assert_eq!(cost(&mut fixture, &paths).await, (0, 0, 0));
}

#[tokio::test]
async fn room_at_rest_is_ready_while_new_rooms_have_their_turn() {
    let policy = Policy {
        concurrency: 1,
        inventory_period: Duration::ZERO,
        ..long_periods()
    };
    let mut fixture = Fixture::with_policy(room(json!({"replicas": 0})), policy).await;
    fixture.reconcile().await.expect("a reconcile");
    let (path, mut room) = numbered(1);
    room["metadata"]["finalizers"] = json!(["papo.chat/broker"]);
    fixture.cluster.put(&path, room);
    fixture
        .broker
        .set_fault(Some(Fault::Slow(Duration::from_secs(1))));
    // The new room takes the only slot.
    let [new, at_rest] = fixture.reconcile_both([&path, ROOM]).await;
    new.expect("a reconcile");
    at_rest.expect("a reconcile");
}

#[tokio::test]
async fn changed_and_new_rooms_cost_their_own_objects_only() {
    let (mut fixture, _) = rooms().await;
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["replicas"] = json!(100));
    let changed = [ROOM.to_owned()];
    let (broker, ..) = cost(&mut fixture, &changed).await;
    // The names of its queues, and both limits.
    assert_eq!(broker, ROOM_READ + 3);
    assert_eq!(cost(&mut fixture, &changed).await.0, 0);

    let (path, room) = numbered(ROOMS);
    fixture.cluster.put(&path, room);
    let (broker, ..) = cost(&mut fixture, std::slice::from_ref(&path)).await;
    // Reads: exchange before and after, policy, user. Writes: exchange, log, binding, user, two limits, permissions.
    assert_eq!(broker, 4 + 7);
    assert_eq!(cost(&mut fixture, std::slice::from_ref(&path)).await.0, 0);
}

#[tokio::test]
async fn status_that_the_watch_has_not_reported_is_known() {
    let (mut fixture, _) = rooms().await;
    let (path, mut room) = numbered(ROOMS);
    room["metadata"]["finalizers"] = json!(["papo.chat/broker"]);
    fixture.cluster.put(&path, room);
    let before = fixture.cluster.get(&path).expect("the room");
    fixture.reconcile_room(&path).await.expect("a reconcile");
    let written = fixture.cluster.get(&path).expect("the room")["status"].clone();
    assert!(written["epoch"].is_string(), "{written}");
    let costs_before = costs(&fixture);
    fixture.reconcile_as(before).await.expect("a reconcile");
    assert_eq!(costs(&fixture), costs_before);
    let known = fixture.cluster.get(&path).expect("the room")["status"].clone();
    assert_eq!(known, written);
}

#[tokio::test]
async fn spec_that_changes_back_within_a_period_is_followed() {
    let mut fixture = Fixture::with_policy(room(json!({})), long_periods()).await;
    let limits = |fixture: &Fixture| {
        fixture
            .broker
            .get("user-limits", &format!("{EXCHANGE} max-connections"))
    };
    fixture.reconcile().await.expect("a reconcile");
    let of_one_server = limits(&fixture);
    fixture.restart(i64::MAX);
    for replicas in [1, 3, 1] {
        fixture
            .cluster
            .edit(ROOM, |room| room["spec"]["replicas"] = json!(replicas));
        fixture.reconcile().await.expect("a reconcile");
        assert_eq!(
            limits(&fixture) == of_one_server,
            replicas == 1,
            "{replicas}"
        );
    }
}

#[tokio::test]
async fn old_inventory_takes_nothing_of_another_room() {
    let (mut fixture, _) = rooms().await;
    // After the bulk read.
    let (path, room) = numbered(ROOMS);
    let exchange = format!("papo.team.room-{ROOMS}");
    let theirs = json!({"name": exchange, "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "u-other"}});
    fixture.broker.put("exchanges", &exchange, theirs);
    fixture.cluster.put(&path, room);
    let before = fixture.broker.writes();
    let error = fixture
        .reconcile_room(&path)
        .await
        .expect_err("a conflict")
        .to_string();
    assert!(error.contains("belongs to another ChatRoom"), "{error}");
    assert_eq!(fixture.broker.writes(), before);
}

#[tokio::test]
async fn old_inventory_makes_no_second_log() {
    let (mut fixture, _) = rooms().await;
    let epoch = fixture.cluster.status()["epoch"].clone();
    // The status of a room is lost, as when a backup is restored.
    fixture
        .cluster
        .edit(ROOM, |room| room["status"] = json!({}));
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.status()["epoch"], epoch);
}

#[tokio::test]
async fn virtual_host_beyond_the_bounds_is_read_room_by_room() {
    let (mut fixture, paths) = rooms().await;
    fixture.broker.set_definitions_size(5 << 20);
    fixture.restart(i64::MAX);
    let (.., writes) = cost(&mut fixture, &paths).await;
    assert_eq!(writes, 0);
    fixture.broker.remove_bindings_of(EXCHANGE);
    fixture.restart(i64::MAX);
    let (.., writes) = cost(&mut fixture, &paths).await;
    assert_eq!(writes, 1, "the binding");
}
