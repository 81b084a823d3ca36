//! What reconciles of a room change, and what they do not.

use papo_operator::broker::Policy;
use serde_json::{Value, json};

use crate::fake::{BROKER_SECRET, Fixture, ROOM, ROOM_SECRET, room};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/team/ingresses/chat-geral";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/team/httproutes/chat-geral";
const EXCHANGE: &str = "papo.team.geral";

/// A room after the reconciles that create its objects.
async fn created(spec: serde_json::Value) -> Fixture {
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.reconcile().await.expect("a first reconcile");
    fixture
        .reconcile()
        .await
        .expect("a second reconcile, which observes the children");
    fixture
}

#[tokio::test]
async fn steady_state_writes_nothing() {
    let full = json!({"replicas": 3, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}, "resources": {"requests": {"cpu": "1000m"}}});
    let mut fixture = created(full).await;
    let before = (fixture.cluster.writes(), fixture.broker.writes());
    for _ in 0..10 {
        fixture.reconcile().await.expect("a reconcile");
    }
    assert_eq!((fixture.cluster.writes(), fixture.broker.writes()), before);
}

#[tokio::test]
async fn restarted_operator_writes_nothing() {
    let mut fixture = created(json!({"replicas": 2, "ingress": {}})).await;
    let before = (fixture.cluster.writes(), fixture.broker.writes());
    fixture.restart(i64::MAX);
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!((fixture.cluster.writes(), fixture.broker.writes()), before);
}

#[tokio::test]
async fn objects_removed_from_the_cluster_are_created_again() {
    let mut fixture = created(
        json!({"replicas": 2, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}}),
    )
    .await;
    let children = fixture.children();
    assert_eq!(children.len(), 7, "{children:?}");
    for child in children {
        fixture.cluster.remove(&child);
        fixture.reconcile().await.expect("a reconcile");
        assert!(fixture.cluster.get(&child).is_some(), "{child}");
    }
}

#[tokio::test]
async fn objects_removed_from_the_broker_are_created_again() {
    let mut fixture = created(json!({})).await;
    // Only a changed retention needs a policy.
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["retention"] = json!({"maxBytes": "2M"});
    });
    fixture.reconcile().await.expect("a reconcile");
    let before = fixture.broker.all();
    let (connections, channels) = (
        format!("{EXCHANGE} max-connections"),
        format!("{EXCHANGE} max-channels"),
    );
    for (kind, name) in [
        ("exchanges", EXCHANGE),
        ("policies", EXCHANGE),
        ("policies", "papo.signals"),
        ("policies", "papo.signals.streams"),
        ("users", EXCHANGE),
        ("permissions", EXCHANGE),
        ("user-limits", &connections),
        ("user-limits", &channels),
    ] {
        fixture.broker.remove(kind, name);
        assert_ne!(fixture.broker.all(), before, "there is no {kind} {name}");
        fixture.reconcile().await.expect("a reconcile");
        assert_eq!(fixture.broker.all(), before, "{kind} {name}");
    }
    fixture.broker.remove_bindings();
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.broker.all(), before, "bindings");
}

#[tokio::test]
async fn lost_log_is_created_again_under_another_epoch() {
    let mut fixture = created(json!({})).await;
    let epoch = |fixture: &Fixture| {
        fixture.cluster.status()["epoch"]
            .as_str()
            .expect("an epoch")
            .to_owned()
    };
    let old = epoch(&fixture);
    fixture
        .broker
        .remove("queues", &format!("{EXCHANGE}.log.{old}"));
    fixture.reconcile().await.expect("a reconcile");
    let new = epoch(&fixture);
    assert_ne!(old, new);
    let servers = fixture
        .cluster
        .get(DEPLOYMENT)
        .expect("servers")
        .to_string();
    assert!(
        servers.contains(&new) && !servers.contains(&old),
        "{servers}"
    );
}

#[tokio::test]
async fn changed_child_is_changed_back() {
    let mut fixture = created(json!({"replicas": 2})).await;
    for _ in 0..3 {
        fixture.reconcile().await.expect("a resync");
    }
    fixture
        .cluster
        .edit(DEPLOYMENT, |servers| servers["spec"]["replicas"] = json!(7));
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(
        fixture.cluster.get(DEPLOYMENT).expect("servers")["spec"]["replicas"],
        2
    );
}

#[tokio::test]
async fn children_that_the_spec_drops_are_removed() {
    let mut fixture = created(
        json!({"replicas": 2, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}}),
    )
    .await;
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"] = json!({"replicas": 1}));
    fixture.reconcile().await.expect("a reconcile");
    for gone in [
        INGRESS,
        ROUTE,
        "/apis/policy/v1/namespaces/team/poddisruptionbudgets/chat-geral",
    ] {
        assert!(fixture.cluster.get(gone).is_none(), "{gone}");
    }
}

#[tokio::test]
async fn object_of_another_owner_is_reported_and_not_changed() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat-geral", "namespace": "team", "uid": "x"}, "spec": {"replicas": 9, "selector": {}, "template": {}}});
    fixture.cluster.put(DEPLOYMENT, theirs.clone());
    fixture.reconcile().await.expect_err("a conflict");
    assert_eq!(fixture.cluster.get(DEPLOYMENT), Some(theirs));
    assert_eq!(fixture.cluster.condition("Available").1, "Conflict");
}

#[tokio::test]
async fn exchange_of_another_owner_is_reported_and_not_changed() {
    for theirs in [
        json!({"name": EXCHANGE, "vhost": "/", "type": "fanout", "durable": true, "auto_delete": false, "arguments": {}}),
        json!({"name": EXCHANGE, "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "u-2"}}),
    ] {
        let mut fixture = Fixture::new(room(json!({}))).await;
        fixture.broker.put("exchanges", EXCHANGE, theirs.clone());
        fixture.reconcile().await.expect_err("a conflict");
        let (status, reason, message) = fixture.cluster.condition("BrokerReady");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "Conflict"),
            "{message}"
        );
        assert_eq!(fixture.broker.get("exchanges", EXCHANGE), Some(theirs));
        assert!(fixture.broker.writes().is_empty());
    }
}

#[tokio::test]
async fn failing_broker_is_explained_and_servers_still_scale() {
    let mut fixture = created(json!({})).await;
    fixture.broker.set_down(true);
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["replicas"] = json!(3));
    fixture.reconcile().await.expect_err("the broker is down");
    let (status, reason, message) = fixture.cluster.condition("BrokerReady");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "BrokerRejected")
    );
    assert_eq!(
        message,
        "cannot read the exchange: the management API answered 503: the broker cannot work at present; its log says why"
    );
    assert_eq!(
        fixture.cluster.get(DEPLOYMENT).expect("servers")["spec"]["replicas"],
        3
    );

    fixture.broker.set_down(false);
    fixture.reconcile().await.expect("the broker is back");
    assert_eq!(fixture.cluster.condition("BrokerReady").0, "True");
}

#[tokio::test]
async fn rejection_by_the_api_server_is_quoted() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    fixture.cluster.reject(
        DEPLOYMENT,
        422,
        "spec.template.spec.priorityClassName: no such class",
    );
    fixture.reconcile().await.expect_err("rejected");
    let (_, reason, message) = fixture.cluster.condition("Available");
    assert_eq!(reason, "Invalid");
    assert!(message.contains("no such class"), "{message}");
    fixture.cluster.accept(DEPLOYMENT);
    fixture.reconcile().await.expect("mended");
    assert_eq!(fixture.cluster.condition("Available").1, "Starting");
}

#[tokio::test]
async fn invalid_spec_is_reported_and_changes_nothing() {
    let mut fixture = created(json!({})).await;
    let before = fixture.broker.writes();
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["retention"] = json!({"maxAge": "soon"});
    });
    fixture.reconcile().await.expect("nothing to retry");
    let (status, reason, message) = fixture.cluster.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(message.contains("maxAge"), "{message}");
    assert_eq!(fixture.broker.writes(), before);
}

#[tokio::test]
async fn paused_room_is_not_changed() {
    let mut fixture = created(json!({})).await;
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["paused"] = json!(true));
    fixture.cluster.remove(DEPLOYMENT);
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.cluster.get(DEPLOYMENT).is_none());
    assert_eq!(fixture.cluster.condition("Accepted").1, "Paused");
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["paused"] = json!(false));
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.cluster.get(DEPLOYMENT).is_some());
}

/// The definition of the policy over the room's log.
fn log_policy(fixture: &Fixture) -> Option<Value> {
    let policy = fixture.broker.get("policies", EXCHANGE);
    policy.map(|policy| policy["definition"].clone())
}

async fn set_retention(fixture: &mut Fixture, retention: Value) {
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["retention"] = retention);
    fixture.reconcile().await.expect("a reconcile");
}

#[tokio::test]
async fn retention_is_in_the_arguments_of_a_new_log() {
    let spec = json!({"retention": {"maxAge": "7D", "maxBytes": "2M"}, "broker": {"replicas": 5}});
    let fixture = created(spec).await;
    let epoch = fixture.cluster.status()["epoch"].clone();
    let log = format!("{EXCHANGE}.log.{}", epoch.as_str().expect("an epoch"));
    assert_eq!(
        fixture.broker.get("queues", &log).expect("a log")["arguments"],
        json!({
            "x-queue-type": "stream",
            "x-max-length-bytes": 2_000_000,
            "x-max-age": "7D",
            "x-stream-max-segment-size-bytes": 1_000_000,
            "x-queue-leader-locator": "balanced",
            "x-initial-cluster-size": 5,
        })
    );
    assert_eq!(log_policy(&fixture), None);
}

#[tokio::test]
async fn changed_retention_is_a_policy_until_it_is_changed_back() {
    let created_with = json!({"maxAge": "7D", "maxBytes": "3M"});
    let mut fixture = created(json!({"retention": created_with})).await;
    let epoch = fixture.cluster.status()["epoch"].clone();
    for (retention, definition) in [
        (
            json!({"maxAge": "1D", "maxBytes": "2M"}),
            json!({"max-age": "1D", "max-length-bytes": 2_000_000}),
        ),
        (
            json!({"maxAge": "9D", "maxBytes": "4M"}),
            json!({"max-age": "9D", "max-length-bytes": 4_000_000}),
        ),
        // A policy without an age would leave that of the argument.
        (
            json!({"maxBytes": "3M"}),
            json!({"max-age": "999999Y", "max-length-bytes": 3_000_000}),
        ),
    ] {
        set_retention(&mut fixture, retention).await;
        assert_eq!(log_policy(&fixture), Some(definition));
    }
    set_retention(&mut fixture, created_with).await;
    assert_eq!(log_policy(&fixture), None);
    assert_eq!(fixture.cluster.status()["epoch"], epoch);
}

#[tokio::test]
async fn log_without_retention_in_its_arguments_keeps_its_policy() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    let log = format!("{EXCHANGE}.log.0a");
    let segments = json!({"x-stream-max-segment-size-bytes": 1_000_000});
    fixture.broker.put(
        "queues",
        &log,
        json!({"name": log, "vhost": "/", "type": "stream", "arguments": segments}),
    );
    let definition = json!({"max-length-bytes": 100_000_000});
    fixture.broker.put("policies", EXCHANGE, json!({"pattern": r"^papo\.team\.geral\.log\.[a-z0-9]+$", "apply-to": "streams", "definition": definition}));
    fixture.settle().await;
    assert_eq!(fixture.cluster.status()["epoch"], "0a");
    let writes = fixture.broker.writes();
    let of_policy = writes.iter().filter(|write| write.ends_with(EXCHANGE));
    let of_policy: Vec<_> = of_policy.filter(|it| it.contains("policies")).collect();
    assert!(of_policy.is_empty(), "{of_policy:?}");

    fixture.broker.remove("policies", EXCHANGE);
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(log_policy(&fixture), Some(definition));
}

#[tokio::test]
async fn image_pull_failure_is_reported_in_the_words_of_the_node() {
    let mut fixture = created(json!({})).await;
    fixture.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("Ready").0, "True");

    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["image"] = json!("missing"));
    fixture.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1});
    });
    fixture.cluster.put(
        "/api/v1/namespaces/team/pods/chat-geral-1",
        json!({"metadata": {"name": "chat-geral-1"}, "status": {"containerStatuses": [{
            "name": "server", "image": "missing", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        }]}}),
    );
    fixture
        .reconcile()
        .await
        .expect("nothing that a retry may mend");
    let (status, reason, message) = fixture.cluster.condition("UpToDate");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ServersFailing")
    );
    assert!(
        message.starts_with("pod chat-geral-1: ErrImagePull: not found. The nodes cannot get the image missing: load it"),
        "{message}"
    );
    assert_eq!(fixture.cluster.condition("Ready").0, "False");
    assert_eq!(fixture.cluster.condition("Available").0, "True");
}

#[tokio::test]
async fn thousand_failed_reconciles_keep_no_connections() {
    let mut fixture = created(json!({})).await;
    fixture.broker.set_down(true);
    for _ in 0..1_000 {
        fixture.reconcile().await.expect_err("the broker is down");
    }
    let connections = fixture.broker.connections();
    assert!(connections <= 2, "{connections} connections");
    // A Secret that is rewritten without a change is no reason for another connection either.
    fixture.cluster.edit(BROKER_SECRET, |secret| {
        secret["metadata"]["labels"] = json!({"new": "yes"});
    });
    fixture.reconcile().await.expect_err("the broker is down");
    assert_eq!(fixture.broker.connections(), connections);
}

#[tokio::test]
async fn steady_state_costs_nothing_for_a_while() {
    // The bulk read of the broker and the read of its Secret serve all rooms, and only now and then. The room's Secret is read in each resync.
    let spec = room(json!({"replicas": 2, "ingress": {}}));
    let mut fixture = Fixture::with_policy(spec, Policy::default()).await;
    fixture.settle().await;
    let before = (fixture.cluster.requests(), fixture.broker.requests());
    fixture.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    });
    fixture.reconcile().await.expect("the status is written");
    let between = (fixture.cluster.requests(), fixture.broker.requests());
    fixture.reconcile().await.expect("a reconcile");
    let after = (fixture.cluster.requests(), fixture.broker.requests());
    assert!(between.0 > before.0 + 1, "the status was written");
    assert_eq!((after.0 - between.0, after.1 - between.1), (0, 0));
}

#[tokio::test]
async fn room_uses_the_broker_that_its_spec_names() {
    let mut fixture = Fixture::new(room(json!({"broker": {"secretName": "mine"}}))).await;
    fixture
        .reconcile()
        .await
        .expect_err("there is no such Secret");
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "SecretNotFound");
    assert!(
        fixture.broker.writes().is_empty(),
        "the default broker is not touched"
    );
    let secret = fixture.cluster.get(BROKER_SECRET).expect("the Secret");
    fixture
        .cluster
        .put("/api/v1/namespaces/team/secrets/mine", secret);
    fixture.reconcile().await.expect("now there is");
    assert!(fixture.broker.get("exchanges", EXCHANGE).is_some());
}

#[tokio::test]
async fn room_scaled_to_zero_keeps_its_log_and_is_ready() {
    let mut fixture = created(json!({"replicas": 3})).await;
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["replicas"] = json!(0));
    fixture.reconcile().await.expect("a reconcile");
    let servers = fixture.cluster.get(DEPLOYMENT).expect("servers");
    assert_eq!(servers["spec"]["replicas"], 0);
    let budget = "/apis/policy/v1/namespaces/team/poddisruptionbudgets/chat-geral";
    assert!(fixture.cluster.get(budget).is_none());
    let log = fixture.cluster.status()["epoch"]
        .as_str()
        .map(str::to_owned);
    let log = format!("{EXCHANGE}.log.{}", log.expect("an epoch"));
    assert!(fixture.broker.get("queues", &log).is_some());

    fixture.cluster.edit(DEPLOYMENT, |it| {
        it["status"] = json!({"observedGeneration": 1});
    });
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("Available").1, "ScaledToZero");
    assert_eq!(fixture.cluster.condition("Ready").0, "True");
}

#[tokio::test(start_paused = true)]
async fn reconcile_that_hangs_ends_and_is_no_progress() {
    let mut fixture = Fixture::new(room(json!({}))).await;
    let before = fixture.last_progress();
    fixture.cluster.hold_answers(BROKER_SECRET);
    let error = fixture.reconcile().await.expect_err("no answer");
    assert!(
        error.to_string().contains("did not finish within 180 s"),
        "{error}"
    );
    assert_eq!(fixture.last_progress(), before);
}

#[tokio::test]
async fn rejected_route_does_not_make_the_servers_unavailable() {
    let mut fixture = created(json!({"ingress": {}})).await;
    fixture.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    fixture
        .cluster
        .reject(INGRESS, 422, "spec.rules[0].host: invalid");
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["ingress"]["host"] = json!("other.example");
    });
    fixture.reconcile().await.expect_err("rejected");
    let (status, reason, message) = fixture.cluster.condition("RouteAccepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(message.starts_with("Ingress chat-geral: "), "{message}");
    assert_eq!(fixture.cluster.condition("Available").0, "True");
    assert_eq!(fixture.cluster.condition("Ready").0, "False");
}

#[tokio::test]
async fn rejected_secret_leaves_the_broker_as_it_is() {
    let mut fixture = created(json!({})).await;
    let before = fixture.broker.get("users", EXCHANGE);
    fixture.cluster.remove(ROOM_SECRET);
    fixture.cluster.reject(ROOM_SECRET, 403, "exceeded quota");
    fixture.reconcile().await.expect_err("rejected");
    assert_eq!(fixture.broker.get("users", EXCHANGE), before);
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "Forbidden");
    assert!(fixture.cluster.get(DEPLOYMENT).is_some());
    fixture.cluster.accept(ROOM_SECRET);
    fixture.reconcile().await.expect("accepted");
    assert!(fixture.is_password_set());
}

#[tokio::test]
async fn session_key_is_drawn_once_unless_servers_cannot_use_it() {
    let mut fixture = created(json!({})).await;
    let data =
        |fixture: &Fixture| fixture.cluster.get(ROOM_SECRET).expect("a Secret")["data"].clone();
    let first = data(&fixture);
    // 32 bytes in Base64: what `papo-server --session-key` needs at least.
    let key = first["session-key"].as_str().expect("text");
    assert_eq!(key.trim_end_matches('=').len(), 43);
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(data(&fixture), first);
    // That of an older operator, and one of three bytes.
    for unusable in [Value::Null, json!("a2V5")] {
        fixture.cluster.edit(ROOM_SECRET, |secret| {
            secret["data"]["session-key"] = unusable.clone();
        });
        fixture.reconcile().await.expect("a reconcile");
        let second = data(&fixture);
        assert_eq!(second["password"], first["password"]);
        let key = second["session-key"].as_str().expect("text");
        assert_eq!(key.trim_end_matches('=').len(), 43);
        assert_ne!(second["session-key"], first["session-key"]);
    }
}

#[tokio::test]
async fn new_password_is_set_although_the_broker_hides_hashes() {
    let mut fixture = created(json!({})).await;
    fixture.cluster.remove(ROOM_SECRET);
    fixture.broker.hide_password_hashes();
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.is_password_set());
}

#[tokio::test]
async fn new_password_is_set_although_the_first_attempt_fails() {
    for hides_hashes in [false, true] {
        let mut fixture = created(json!({})).await;
        if hides_hashes {
            fixture.broker.hide_password_hashes();
        }
        fixture.settle().await;
        fixture.cluster.remove(ROOM_SECRET);
        fixture.broker.set_down(true);
        fixture.reconcile().await.expect_err("the broker is down");
        assert!(fixture.cluster.get(ROOM_SECRET).is_some());
        fixture.broker.set_down(false);
        assert!(!fixture.is_password_set());
        let before = fixture.broker.writes();
        fixture.settle().await;
        assert!(fixture.is_password_set(), "hides: {hides_hashes}");
        let users = fixture.broker.writes().split_off(before.len());
        assert_eq!(users, ["PUT /api/users/papo.team.geral"]);
    }
}

#[tokio::test]
async fn user_without_the_digest_of_its_password_is_set_once() {
    for hides_hashes in [false, true] {
        let mut fixture = created(json!({})).await;
        if hides_hashes {
            fixture.broker.hide_password_hashes();
        }
        let ours = fixture.broker.get("users", EXCHANGE).expect("a user");
        let mut older = ours.clone();
        older["tags"] = json!(["papo-owner:u-1"]);
        fixture.broker.put("users", EXCHANGE, older);
        let before = fixture.broker.writes();
        fixture.settle().await;
        assert_eq!(fixture.broker.get("users", EXCHANGE), Some(ours));
        let written = fixture.broker.writes().split_off(before.len());
        assert_eq!(written, ["PUT /api/users/papo.team.geral"]);
    }
}
