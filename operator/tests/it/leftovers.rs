//! Deleted rooms whose brokers could not be cleared: the list of them, and how they are cleared later.

use std::time::Duration;

use papo_operator::controller::Retries;
use serde_json::{Value, json};

use crate::{
    fake::{BROKER_SECRET, Broker, Fault, Fixture, LEFTOVERS, ROOM, room},
    process::{Operator, put_room, until},
};

const EXCHANGE: &str = "papo.team.geral";
/// The entry of the room.
const ENTRY: &str = "team.geral.u-1";
/// Less than an attempt on a broker that does not answer takes.
const SOON: Duration = Duration::from_secs(10);

/// A room that was deleted while its broker was down.
async fn left(spec: Value) -> Fixture {
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.delete(ROOM);
    fixture.restart_with_cleanup_timeout(Duration::ZERO);
    fixture.broker.set_down(true);
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    for collected in fixture.children() {
        fixture.cluster.remove(&collected);
    }
    fixture
}

/// The entries of the list, by their keys.
fn entries(fixture: &Fixture) -> Vec<String> {
    let list = fixture.cluster.get(LEFTOVERS).unwrap_or_default();
    let entries = list["data"].as_object().cloned().unwrap_or_default();
    entries.into_iter().map(|(key, _)| key).collect()
}

/// Puts a room of this name on the list, whose broker has this Secret.
fn add_entry(fixture: &Fixture, name: &str, secret: &str) {
    let uid = format!("u-{name}");
    let entry = json!({"namespace": "team", "name": name, "uid": uid, "secret": secret, "keepLog": false, "since": "2026-01-01T00:00:00Z"});
    fixture.cluster.edit(LEFTOVERS, |list| {
        list["data"][format!("team.{name}.{uid}")] = json!(entry.to_string());
    });
}

/// A broker that takes so long for each answer, and its Secret.
async fn slow_broker(fixture: &Fixture, secret: &str, delay: Duration) -> Broker {
    let (namespace, name) = secret.split_once('/').expect("NAMESPACE/NAME");
    let broker = fixture.another_broker().await;
    broker.set_fault(Some(Fault::Slow(delay)));
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    fixture.cluster.put(&path, broker.secret());
    broker
}

/// Another room of the same name.
fn put_next_room(fixture: &Fixture, spec: Value) {
    let mut next = room(spec);
    next["metadata"]["uid"] = json!("u-2");
    fixture.cluster.put(ROOM, next);
}

fn owner(fixture: &Fixture) -> Value {
    let exchange = fixture.broker.get("exchanges", EXCHANGE);
    exchange.unwrap_or_default()["arguments"]["papo-owner"].clone()
}

fn has_event(fixture: &Fixture, reason: &str) -> bool {
    let events = fixture.cluster.events();
    let mut events = events.as_array().into_iter().flatten();
    events.any(|event| event["reason"] == reason)
}

#[tokio::test]
async fn leftovers_survive_a_restart_and_are_cleared_when_the_broker_is_back() {
    let mut fixture = left(json!({})).await;
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_some());
    assert!(has_event(&fixture, "LeftOnBroker"));
    assert_eq!(
        fixture.metric("papo_operator_leftovers_recorded_total"),
        Some(1)
    );

    fixture.restart(i64::MAX);
    fixture.retry_leftovers().await;
    assert_eq!(entries(&fixture), ["team.geral.u-1"], "the broker is down");
    let gauge = "papo_operator_leftovers{secret_namespace=\"papo\"}";
    assert_eq!(fixture.metric(gauge), Some(1));

    fixture.broker.set_down(false);
    fixture.retry_leftovers().await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    assert_eq!(entries(&fixture), Vec::<String>::new());
    assert!(has_event(&fixture, "LeftoversCleared"));
    assert_eq!(fixture.metric(gauge), None);
    assert_eq!(
        fixture.metric("papo_operator_leftovers{secret_namespace=\"\"}"),
        Some(0)
    );
    assert_eq!(
        fixture.metric("papo_operator_leftovers_cleared_total"),
        Some(1)
    );
}

#[tokio::test]
async fn operator_clears_leftovers_by_itself() {
    let fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    let operator = Operator::start(&fixture.cluster, "a").await;
    until("the broker is cleared and the list is empty", async || {
        fixture.broker.all().is_empty() && entries(&fixture).is_empty()
    })
    .await;
    operator.running.abort();
}

#[tokio::test]
async fn operator_that_dies_while_it_records_a_leftover_loses_nothing() {
    for survived in 0..5 {
        let mut fixture = Fixture::new(room(json!({}))).await;
        fixture.reconcile().await.expect("a reconcile");
        fixture.delete(ROOM);
        fixture.reconcile().await.expect("the servers are deleted");
        fixture.restart_with_cleanup_timeout(Duration::ZERO);
        fixture.broker.set_down(true);
        fixture.restart(survived);
        let _ = fixture.reconcile().await;
        let is_gone = fixture.cluster.get(ROOM).is_none();
        assert!(
            !is_gone || !entries(&fixture).is_empty(),
            "after {survived} writes"
        );
        fixture.restart(i64::MAX);
        fixture.broker.set_down(false);
        if is_gone {
            fixture.retry_leftovers().await;
        } else {
            fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
        }
        assert_eq!(
            fixture.broker.all(),
            Vec::<String>::new(),
            "after {survived} writes"
        );
        assert_eq!(
            entries(&fixture),
            Vec::<String>::new(),
            "after {survived} writes"
        );
    }
}

#[tokio::test]
async fn retained_log_of_a_leftover_stays() {
    let fixture = left(json!({"deletionPolicy": "Retain"})).await;
    fixture.broker.set_down(false);
    fixture.retry_leftovers().await;
    let kept = fixture.broker.all();
    assert!(
        kept.iter()
            .any(|name| name.starts_with("queues papo.team.geral.log.")),
        "{kept:?}"
    );
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_none());
    assert!(fixture.broker.get("users", EXCHANGE).is_none());
}

#[tokio::test]
async fn leftover_without_its_secret_is_cleared_when_the_secret_is_back() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.delete(ROOM);
    let secret = fixture.cluster.remove(BROKER_SECRET).expect("the Secret");
    // One that does not know what the Secret said.
    fixture.restart(i64::MAX);
    fixture.reconcile().await.expect("the servers are deleted");
    fixture
        .reconcile()
        .await
        .expect("there is nothing to wait for");
    assert!(fixture.cluster.get(ROOM).is_none());
    assert!(has_event(&fixture, "LeftOnBroker"));
    fixture.retry_leftovers().await;
    assert_eq!(entries(&fixture), ["team.geral.u-1"]);
    fixture.cluster.put(BROKER_SECRET, secret);
    fixture.retry_leftovers().await;
    assert_eq!(fixture.broker.all(), Vec::<String>::new());
    assert_eq!(entries(&fixture), Vec::<String>::new());
}

#[tokio::test]
async fn room_that_never_had_a_broker_leaves_no_entry() {
    let spec = json!({"broker": {"secretName": "missing"}});
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.reconcile().await.expect_err("there is no Secret");
    fixture.delete(ROOM);
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    assert!(fixture.cluster.get(LEFTOVERS).is_none());
}

#[tokio::test]
async fn next_room_of_the_name_waits_until_the_broker_is_cleared() {
    let mut fixture = left(json!({})).await;
    let old: Vec<String> = fixture.broker.all();
    put_next_room(&fixture, json!({}));
    fixture.reconcile().await.expect_err("the broker is down");
    let (status, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "EarlierRoom"));
    assert!(
        message.contains("earlier ChatRoom of this name"),
        "{message}"
    );

    fixture.broker.set_down(false);
    fixture
        .reconcile()
        .await
        .expect("the broker is cleared first");
    assert_eq!(fixture.cluster.condition("BrokerReady").0, "True");
    assert_eq!(owner(&fixture), "u-2");
    assert_eq!(entries(&fixture), Vec::<String>::new());
    let is_log = |name: &&String| name.contains(".log.");
    let new = fixture.broker.all();
    let logs: Vec<&String> = new.iter().filter(is_log).collect();
    assert!(logs.iter().all(|log| !old.contains(log)), "{logs:?}");
}

#[tokio::test]
async fn next_room_does_not_adopt_a_log_that_is_to_be_removed() {
    let mut fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    // A person has followed the advice of a condition.
    fixture.broker.remove("exchanges", EXCHANGE);
    let before = fixture.broker.all();
    let old = before.iter().find(|name| name.starts_with("queues "));
    put_next_room(&fixture, json!({}));
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(owner(&fixture), "u-2");
    let after = fixture.broker.all();
    assert!(!after.contains(old.expect("the log")), "{after:?}");
}

#[tokio::test]
async fn leftover_does_not_touch_the_next_room_of_the_name() {
    let mut fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    // The same broker by another Secret, so that the room does not know of the leftover, and a person has removed the exchange that was in its way.
    let secret = fixture.cluster.get(BROKER_SECRET).expect("the Secret");
    fixture
        .cluster
        .put("/api/v1/namespaces/team/secrets/mine", secret);
    fixture.broker.remove("exchanges", EXCHANGE);
    put_next_room(&fixture, json!({"broker": {"secretName": "mine"}}));
    fixture
        .reconcile()
        .await
        .expect_err("the user is in its way too");
    let (_, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(reason, "Conflict", "{message}");
    let without_user = |names: Vec<String>| -> Vec<String> {
        let names = names.into_iter();
        names
            .filter(|name| !name.contains("user") && !name.starts_with("permissions "))
            .collect()
    };
    let before = without_user(fixture.broker.all());
    fixture.retry_leftovers().await;
    assert_eq!(without_user(fixture.broker.all()), before);
    assert!(fixture.broker.get("users", EXCHANGE).is_none());
    assert_eq!(
        entries(&fixture),
        Vec::<String>::new(),
        "nothing is left of it"
    );
    fixture
        .reconcile()
        .await
        .expect("nothing is in its way any more");
    assert_eq!(without_user(fixture.broker.all()), before);
}

#[tokio::test]
async fn slow_broker_does_not_delay_entries_of_another_namespace() {
    let fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    let slow = slow_broker(&fixture, "a-slow/broker", Duration::from_mins(1)).await;
    for name in ["a1", "a2", "a3"] {
        add_entry(&fixture, name, "a-slow/broker");
    }
    let retries = tokio::spawn(fixture.retry_leftovers());
    let waited = until("the entry of the other namespace is removed", async || {
        slow.requests() > 0 && !entries(&fixture).contains(&ENTRY.to_owned())
    })
    .await;
    assert!(waited < SOON, "{waited:?}");
    assert!(!retries.is_finished());
    assert_eq!(entries(&fixture).len(), 3);
    retries.abort();
}

#[tokio::test]
async fn namespace_begins_no_entry_beyond_its_budget() {
    let fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    add_entry(&fixture, "a", "papo/broker");
    add_entry(&fixture, "z", "papo/broker");
    for left in [2, 1, 0] {
        let retries = Retries::with_budget(Duration::ZERO);
        fixture.retry_leftovers_with(retries).await;
        assert_eq!(entries(&fixture).len(), left);
    }
}

#[tokio::test]
async fn next_room_of_the_name_does_not_wait_for_other_entries() {
    let mut fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    let slow = slow_broker(&fixture, "papo/slow", Duration::from_mins(1)).await;
    add_entry(&fixture, "slow", "papo/slow");
    let retries = tokio::spawn(fixture.retry_leftovers());
    let waited = until("the entry of the room is removed", async || {
        slow.requests() > 0 && !entries(&fixture).contains(&ENTRY.to_owned())
    })
    .await;
    assert!(waited < SOON, "{waited:?}");
    put_next_room(&fixture, json!({}));
    until("nobody is at work on the name", async || {
        fixture.reconcile().await.is_ok()
    })
    .await;
    assert!(!retries.is_finished());
    retries.abort();
}

#[tokio::test]
async fn entry_that_a_person_removes_during_a_round_is_not_cleared() {
    let fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    let slow = slow_broker(&fixture, "papo/slow", Duration::from_millis(500)).await;
    add_entry(&fixture, "a", "papo/slow");
    let before = fixture.broker.all();
    let retries = tokio::spawn(fixture.retry_leftovers());
    until("another entry is worked on", async || slow.requests() > 0).await;
    fixture.cluster.edit(LEFTOVERS, |list| {
        let data = list["data"].as_object_mut().expect("entries");
        data.remove(ENTRY);
    });
    retries.await.expect("no panic");
    assert_eq!(fixture.broker.all(), before);
    assert_eq!(entries(&fixture), Vec::<String>::new());
}

#[tokio::test]
async fn next_room_leaves_a_log_whose_entry_a_person_has_removed() {
    let mut fixture = left(json!({})).await;
    let before = fixture.broker.all();
    let old = before.iter().find(|name| name.starts_with("queues "));
    fixture
        .cluster
        .edit(LEFTOVERS, |list| list["data"] = json!({}));
    // Another room takes its time, so that the operator knows an old list.
    let slow = Fault::Slow(Duration::from_millis(500));
    fixture.broker.set_fault(Some(slow));
    let other = put_room(&fixture.cluster, "other", json!({}));
    fixture.reconcile_room(&other).await.expect("a reconcile");
    fixture.broker.set_fault(None);
    put_next_room(&fixture, json!({}));
    fixture.reconcile().await.expect_err("the old room's user");
    let (_, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(reason, "Conflict", "{message}");
    assert!(fixture.broker.all().contains(old.expect("the log")));
}

#[tokio::test]
async fn list_that_a_person_writes_meanwhile_is_read_again() {
    let mut fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    fixture.cluster.edit(LEFTOVERS, |list| {
        list["data"]["note"] = json!("mine");
    });
    put_next_room(&fixture, json!({}));
    fixture
        .reconcile()
        .await
        .expect("the broker is cleared first");
    assert_eq!(entries(&fixture), ["note"]);
}

#[tokio::test]
async fn full_list_keeps_the_room_and_says_so() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.delete(ROOM);
    fixture.reconcile().await.expect("the servers are deleted");
    let entry = |n: usize| {
        let (name, uid) = (format!("old{n}"), format!("u-old{n}"));
        let entry = json!({"namespace": "team", "name": name, "uid": uid, "secret": "papo/broker", "keepLog": false, "since": "2026-01-01T00:00:00Z"});
        (format!("team.{name}.{uid}"), json!(entry.to_string()))
    };
    let data: serde_json::Map<String, Value> = (0..1_200).map(entry).collect();
    let list = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "papo-operator-leftovers", "namespace": "papo", "resourceVersion": "7"}, "data": data});
    fixture.cluster.put(LEFTOVERS, list);
    fixture.restart_with_cleanup_timeout(Duration::ZERO);
    fixture.broker.set_down(true);
    for _ in 0..2 {
        fixture.reconcile().await.expect_err("the list is full");
    }
    assert!(fixture.cluster.get(ROOM).is_some());
    let (status, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "LeftoversNotRecorded")
    );
    assert!(
        message.contains("papo/papo-operator-leftovers: 1200 entries"),
        "{message}"
    );
    assert!(has_event(&fixture, "LeftoversNotRecorded"));
    let full = "papo_operator_broker_bounds_exceeded_total{bound=\"leftovers\"}";
    assert!(fixture.metric(full).is_some());

    // A person removes an entry, of which the operator does not know yet.
    fixture.cluster.edit(LEFTOVERS, |list| {
        let data = list["data"].as_object_mut().expect("entries");
        data.remove("team.old7.u-old7");
    });
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    let entries = entries(&fixture);
    assert_eq!(entries.len(), 1_200);
    assert!(entries.contains(&"team.geral.u-1".to_owned()));
    assert!(
        !entries.contains(&"team.old7.u-old7".to_owned()),
        "it stays removed"
    );
}

#[tokio::test]
async fn rejected_list_keeps_the_room_and_says_so() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.delete(ROOM);
    fixture.reconcile().await.expect("the servers are deleted");
    fixture.cluster.reject_kind("configmaps", 403);
    fixture.restart_with_cleanup_timeout(Duration::ZERO);
    fixture.broker.set_down(true);
    fixture.reconcile().await.expect_err("it cannot be noted");
    let (_, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(reason, "LeftoversNotRecorded");
    assert!(message.contains("configmaps is forbidden"), "{message}");
    fixture.cluster.accept_kind("configmaps");
    fixture.reconcile_until_gone(&[ROOM.to_owned()]).await;
    assert_eq!(entries(&fixture), ["team.geral.u-1"]);
}

#[tokio::test]
async fn entries_that_are_not_the_operators_stay() {
    let fixture = left(json!({})).await;
    fixture.broker.set_down(false);
    fixture.cluster.edit(LEFTOVERS, |list| {
        let entry = list["data"]["team.geral.u-1"].clone();
        list["data"]["note"] = json!("do not touch");
        list["data"]["team.other.u-9"] = entry;
    });
    fixture.retry_leftovers().await;
    assert_eq!(entries(&fixture), ["note", "team.other.u-9"]);
    assert_eq!(
        fixture.metric("papo_operator_leftovers{secret_namespace=\"\"}"),
        Some(2)
    );
}
