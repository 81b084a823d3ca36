//! The user of a room's servers: whose it is, how much of the broker it may take, and what it may leave.

use serde_json::{Value, json};

use crate::fake::{Fixture, ROOM, room};

const EXCHANGE: &str = "papo.team.geral";

/// A room that has been made.
async fn created(spec: Value) -> Fixture {
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.settle().await;
    fixture
}

fn queue(kind: &str, exclusive: bool) -> Value {
    json!({"type": kind, "durable": !exclusive, "exclusive": exclusive})
}

fn put(fixture: &Fixture, kind: &str, name: &str, mut object: Value) {
    object["name"] = json!(name);
    fixture.broker.put(kind, name, object);
}

fn user(tags: &Value) -> Value {
    json!({"name": EXCHANGE, "tags": tags, "password_hash": "theirs"})
}

#[tokio::test]
async fn user_of_another_owner_is_reported_and_not_changed() {
    for tags in [
        json!(["papo-owner:u-2"]),
        json!([]),
        json!(["administrator"]),
    ] {
        let mut fixture = Fixture::new(room(json!({}))).await;
        fixture.broker.put("users", EXCHANGE, user(&tags));
        fixture.reconcile().await.expect_err("a conflict");
        let (status, reason, message) = fixture.cluster.condition("BrokerReady");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Conflict"));
        assert!(
            message.starts_with("user papo.team.geral exists already and "),
            "{message}"
        );
        assert_eq!(fixture.broker.get("users", EXCHANGE), Some(user(&tags)));
        let theirs = ["users", "permissions", "user-limits"];
        let writes = fixture.broker.writes();
        let is_theirs = |write: &String| {
            theirs
                .iter()
                .any(|kind| write.contains(&format!("/{kind}/")))
        };
        assert!(!writes.iter().any(is_theirs), "{writes:?}");
    }
}

#[tokio::test]
async fn deleted_room_leaves_a_user_of_another_owner() {
    let mut fixture = created(json!({})).await;
    let theirs = user(&json!(["papo-owner:u-2"]));
    fixture.broker.put("users", EXCHANGE, theirs.clone());
    fixture.cluster.edit(ROOM, |room| {
        room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    while fixture.cluster.get(ROOM).is_some() {
        fixture.reconcile().await.expect("a reconcile");
    }
    assert_eq!(fixture.broker.get("users", EXCHANGE), Some(theirs));
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_none());
}

#[tokio::test]
async fn changed_tags_and_limits_of_the_user_are_changed_back() {
    let mut fixture = created(json!({})).await;
    let limit = format!("{EXCHANGE} max-connections");
    let ours = fixture.broker.get("users", EXCHANGE).expect("a user");
    let [owner, password] = [&ours["tags"][0], &ours["tags"][1]];
    assert_eq!(owner, "papo-owner:u-1");
    let digest = password
        .as_str()
        .and_then(|tag| tag.strip_prefix("papo-password:"));
    assert_eq!(digest.map(str::len), Some(32));
    for tags in [
        json!([]),
        json!([owner]),
        json!([owner, password, "administrator"]),
        json!([owner, "papo-password:0"]),
    ] {
        let mut changed = ours.clone();
        changed["tags"] = tags;
        fixture.broker.put("users", EXCHANGE, changed);
        fixture.broker.put("user-limits", &limit, json!(-1));
        fixture.reconcile().await.expect("a reconcile");
        let tags = &fixture.broker.get("users", EXCHANGE).expect("a user")["tags"];
        assert_eq!(tags, &ours["tags"]);
        assert_eq!(fixture.broker.get("user-limits", &limit), Some(json!(16)));
    }
}

#[tokio::test]
async fn limits_of_the_user_grow_with_the_servers() {
    let mut fixture = created(json!({})).await;
    for (replicas, connections, channels, digits) in [
        (1, 16, 128, "{2}"),
        (3, 32, 256, "{2}"),
        (1_000, 8_008, 64_064, "{2,3}"),
    ] {
        fixture
            .cluster
            .edit(ROOM, |room| room["spec"]["replicas"] = json!(replicas));
        fixture.reconcile().await.expect("a reconcile");
        let limit = |name: &str| {
            fixture
                .broker
                .get("user-limits", &format!("{EXCHANGE} {name}"))
        };
        assert_eq!(limit("max-connections"), Some(json!(connections)));
        assert_eq!(limit("max-channels"), Some(json!(channels)));
        let permissions = fixture
            .broker
            .get("permissions", EXCHANGE)
            .expect("permissions");
        let queues = format!(r"papo\.team\.geral\.signal\.[0-9a-f]{digits}");
        assert_eq!(permissions["configure"], json!(format!("^{queues}$")));
        assert_eq!(
            permissions["write"],
            json!(format!(r"^(papo\.team\.geral|{queues})$"))
        );
    }
}

#[tokio::test]
async fn only_what_no_server_leaves_is_removed() {
    let mut fixture = created(json!({})).await;
    let kept = [
        (
            "queues",
            "papo.team.geral.signal.0a",
            queue("classic", true),
        ),
        (
            "queues",
            "papo.team.geral.signal.zz",
            queue("stream", false),
        ),
        (
            "queues",
            "papo.team.geral.signal.0a0a",
            queue("stream", false),
        ),
        (
            "queues",
            "papo.team.other.signal.0a",
            queue("stream", false),
        ),
        (
            "queues",
            "x.papo.team.geral.signal.0a",
            queue("stream", false),
        ),
        (
            "exchanges",
            "papo.team.other.signal.0a",
            json!({"type": "fanout"}),
        ),
    ];
    let left = [
        (
            "queues",
            "papo.team.geral.signal.00",
            queue("classic", false),
        ),
        (
            "queues",
            "papo.team.geral.signal.0b",
            queue("quorum", false),
        ),
        (
            "queues",
            "papo.team.geral.signal.fff",
            queue("stream", false),
        ),
        (
            "exchanges",
            "papo.team.geral.signal.0c",
            json!({"type": "fanout"}),
        ),
    ];
    for (kind, name, object) in kept.iter().chain(&left) {
        put(&fixture, kind, name, object.clone());
    }
    fixture.reconcile().await.expect("a reconcile");
    for (kind, name, _) in kept {
        assert!(fixture.broker.get(kind, name).is_some(), "{kind} {name}");
    }
    for (kind, name, _) in left {
        assert!(fixture.broker.get(kind, name).is_none(), "{kind} {name}");
    }
}

#[tokio::test]
async fn policies_of_signal_queues_go_with_the_last_room() {
    for (others, stay) in [(true, true), (false, false)] {
        let mut fixture = created(json!({})).await;
        if others {
            put(
                &fixture,
                "exchanges",
                "papo.team.other",
                json!({"type": "topic"}),
            );
        }
        put(
            &fixture,
            "queues",
            "papo.team.geral.signal.0a",
            queue("stream", false),
        );
        fixture.cluster.edit(ROOM, |room| {
            room["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        while fixture.cluster.get(ROOM).is_some() {
            fixture.reconcile().await.expect("a reconcile");
        }
        for policy in ["papo.signals", "papo.signals.streams"] {
            assert_eq!(
                fixture.broker.get("policies", policy).is_some(),
                stay,
                "{policy}"
            );
        }
        let left = fixture.broker.get("queues", "papo.team.geral.signal.0a");
        assert!(left.is_none(), "the room's own are removed");
    }
}
