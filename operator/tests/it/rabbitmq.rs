//! The credentials of a room's servers in wrong hands, on a real RabbitMQ: the operator sets permissions, limits and policies, and then somebody
//! does with the credentials what they can.

mod attack;
mod vhost;

use std::time::{Duration, Instant};

use papo_protocol::topology;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    fake::{BROKER_SECRET, Fixture, LEFTOVERS, ROOM, room},
    process::put_room,
};
use attack::Attacker;
use vhost::Vhost;

const EXCHANGE: &str = "papo.team.geral";
const SECRET: &str = "/api/v1/namespaces/team/secrets/chat-geral";
/// What nobody uses must be gone in this time.
const MINUTE: Duration = Duration::from_mins(1);
/// The tests have the same user, which is known in all virtual hosts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// An operator with a room in a virtual host of its own.
async fn operator(vhost: &Vhost, uid: &str) -> Fixture {
    let mut room = room(json!({}));
    room["metadata"]["uid"] = json!(uid);
    let fixture = Fixture::new(room).await;
    fixture.cluster.put(BROKER_SECRET, vhost.secret());
    fixture
}

/// Deletes the room, and checks that nothing of it is left on the broker.
async fn delete(mut fixture: Fixture, vhost: Vhost) {
    fixture.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    for _ in 0..3 {
        if fixture.cluster.get(ROOM).is_some() {
            fixture.reconcile().await.expect("a reconcile");
        }
    }
    assert!(fixture.cluster.get(ROOM).is_none());
    assert_no_object_is_left(&vhost).await;
    vhost.delete().await;
}

/// Of any room, in the virtual host. Users belong to none.
async fn assert_no_object_is_left(vhost: &Vhost) {
    for kind in ["queues", "exchanges", "policies"] {
        let mut left: Vec<String> = vhost.names(kind).await;
        left.retain(|name| name.starts_with("papo."));
        assert!(left.is_empty(), "{kind}: {left:?}");
    }
}

fn password(fixture: &Fixture) -> String {
    let secret = fixture.cluster.get(SECRET).expect("the room's Secret");
    let encoded = secret["data"]["password"].clone();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(encoded).expect("bytes");
    String::from_utf8(bytes.0).expect("text")
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and PAPO_TEST_MANAGEMENT"]
async fn stolen_credentials_are_bounded_and_leave_nothing_after_a_minute() {
    let _alone = alone().await;
    let vhost = Vhost::create().await;
    let mut fixture = operator(&vhost, "u-1").await;
    fixture.settle().await;
    let writes = fixture.broker_writes();
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.broker_writes(), writes, "a steady state");
    vhost.put_other_room().await;

    let attacker = Attacker::connect(&vhost, EXCHANGE, &password(&fixture)).await;
    attacker.works_as_a_server(&log_of(&fixture)).await;
    attacker.cannot_reach_another_room().await;
    // 256 queues of all types under the names that a server may use, and not one more.
    assert_eq!(
        attacker.create_500_queues().await,
        usize::from(topology::SIGNAL_QUEUES)
    );
    attacker.create_an_exchange().await;
    attacker.publish_200_mb().await;
    for kind in ["classic", "quorum"] {
        let held = vhost.largest_queue(kind).await;
        assert!(held <= 1_000_000, "{held} bytes in a {kind} queue");
    }
    let connections = attacker.open_300_connections().await;
    assert_eq!(connections, 15, "with the one that was open, 16");
    let channels = attacker.open_300_channels().await;
    // The limit is 128, and the broker counts with a delay.
    assert!(channels < 200, "{channels} channels");

    attacker.hang_up().await;
    let began = Instant::now();
    // The broker's part, without the operator.
    vhost
        .until(MINUTE, "queue other than a stream", async || {
            vhost
                .leftovers()
                .await
                .iter()
                .all(|(_, kind)| kind == "stream")
        })
        .await;
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(vhost.leftovers().await, []);
    assert!(began.elapsed() < MINUTE, "{:?}", began.elapsed());
    assert_eq!(fixture.cluster.condition("BrokerReady").0, "True");
    vhost.delete_other_room().await;
    delete(fixture, vhost).await;
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and PAPO_TEST_MANAGEMENT"]
async fn cluster_leaves_the_user_of_another_virtual_host() {
    let _alone = alone().await;
    let (ours, theirs) = (Vhost::create().await, Vhost::create().await);
    let mut first = operator(&theirs, "u-1").await;
    first.settle().await;
    let before = theirs.user(EXCHANGE).await;

    let mut second = operator(&ours, "u-2").await;
    second.reconcile().await.expect_err("a conflict");
    let (status, reason, message) = second.cluster.condition("BrokerReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Conflict"));
    assert!(message.contains("belongs to another ChatRoom"), "{message}");
    delete(second, ours).await;
    assert_eq!(theirs.user(EXCHANGE).await, before);
    delete(first, theirs).await;
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and PAPO_TEST_MANAGEMENT"]
async fn retention_changes_up_and_down_and_back() {
    let _alone = alone().await;
    let vhost = Vhost::create().await;
    let mut fixture = operator(&vhost, "u-1").await;
    let created_with = json!({"maxBytes": "2M"});
    let set = |fixture: &Fixture, retention: &Value| {
        fixture
            .cluster
            .edit(ROOM, |room| room["spec"]["retention"] = retention.clone());
    };
    set(&fixture, &created_with);
    fixture.settle().await;
    let log = log_of(&fixture);
    // Segments of 1 MB hold twenty messages, and retention removes whole segments.
    for (retention, kept, has_policy) in [
        (&created_with, 40, false),
        (&json!({"maxBytes": "5M"}), 100, true),
        (&json!({"maxBytes": "3M"}), 60, true),
        (&created_with, 40, false),
    ] {
        set(&fixture, retention);
        fixture.settle().await;
        assert_eq!(
            vhost.names("policies").await.contains(&EXCHANGE.to_owned()),
            has_policy,
            "{retention}"
        );
        let wrong = format!("log that does not keep {retention}");
        vhost
            .until(MINUTE, &wrong, async || {
                vhost.publish_messages(EXCHANGE, 20, 50_000).await;
                let held = vhost.messages(&log).await;
                (kept - 20..=kept + 20).contains(&held)
            })
            .await;
    }
    assert_eq!(log_of(&fixture), log);
    delete(fixture, vhost).await;
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and PAPO_TEST_MANAGEMENT"]
async fn two_hundred_deleted_rooms_leave_nothing() {
    const ROOMS: usize = 200;
    let _alone = alone().await;
    let vhost = Vhost::create().await;
    let mut fixture = operator(&vhost, "u-1").await;
    let mut rooms = vec![ROOM.to_owned()];
    rooms.extend((1..ROOMS).map(|n| put_room(&fixture.cluster, &format!("a{n}"), json!({}))));
    for room in &rooms {
        fixture.reconcile_room(room).await.expect("a reconcile");
        fixture.delete(room);
    }
    // What somebody with the credentials of a room's servers may have left.
    for name in ["papo.team.a7.signal.0a", "papo.team.a8.log.0a"] {
        vhost.put_stream(name).await;
    }
    for room in &rooms {
        fixture
            .reconcile_room(room)
            .await
            .expect("its servers are deleted");
    }
    let before = fixture.broker_requests();
    let began = Instant::now();
    fixture.reconcile_until_gone(&rooms).await;
    let (took, requests) = (began.elapsed(), fixture.broker_requests() - before);
    println!("{ROOMS} rooms were removed in {took:?} with {requests} requests");
    assert!(
        fixture.cluster.get(LEFTOVERS).is_none(),
        "none was given up"
    );
    // Lists of 500 names are three requests each.
    assert!(requests < 8 * ROOMS as u64, "{requests} requests");
    assert_no_object_is_left(&vhost).await;
    let users = vhost.users().await;
    let is_ours = |name: &&String| name.starts_with("papo.team.a") || *name == EXCHANGE;
    let left: Vec<&String> = users.iter().filter(is_ours).collect();
    assert!(left.is_empty(), "users: {left:?}");
    vhost.delete().await;
}

fn log_of(fixture: &Fixture) -> String {
    let status: Value = fixture.cluster.status();
    format!(
        "{EXCHANGE}.log.{}",
        status["epoch"].as_str().expect("an epoch")
    )
}
