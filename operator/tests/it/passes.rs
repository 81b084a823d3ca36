//! What passes over a room do, and what they leave alone.

use serde_json::json;

use crate::fake::{BROKER_SECRET, Lab, ROOM, room};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/team/ingresses/chat-geral";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/team/httproutes/chat-geral";
const EXCHANGE: &str = "papo.team.geral";

/// A room after the passes that make it.
async fn made(spec: serde_json::Value) -> Lab {
    let mut lab = Lab::new(room(spec)).await;
    lab.pass().await.expect("a first pass");
    lab.pass()
        .await
        .expect("a second pass, which sees the first one's children");
    lab
}

#[tokio::test]
async fn a_steady_state_writes_nothing() {
    let full = json!({"replicas": 3, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}, "resources": {"requests": {"cpu": "1000m"}}});
    let mut lab = made(full).await;
    let before = (lab.cluster.writes(), lab.broker.writes());
    for _ in 0..10 {
        lab.pass().await.expect("a pass");
    }
    assert_eq!((lab.cluster.writes(), lab.broker.writes()), before);
}

#[tokio::test]
async fn an_operator_that_starts_anew_writes_nothing_either() {
    let mut lab = made(json!({"replicas": 2, "ingress": {}})).await;
    let before = (lab.cluster.writes(), lab.broker.writes());
    lab.restart(i64::MAX);
    lab.pass().await.expect("a pass");
    assert_eq!((lab.cluster.writes(), lab.broker.writes()), before);
}

#[tokio::test]
async fn whatever_is_taken_from_the_cluster_comes_back() {
    let mut lab = made(
        json!({"replicas": 2, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}}),
    )
    .await;
    let children: Vec<String> = lab
        .cluster
        .paths()
        .into_iter()
        .filter(|path| path.ends_with("/chat-geral"))
        .collect();
    assert_eq!(children.len(), 7, "{children:?}");
    for child in children {
        lab.cluster.remove(&child);
        lab.pass().await.expect("a pass");
        assert!(lab.cluster.get(&child).is_some(), "{child}");
    }
}

#[tokio::test]
async fn whatever_is_taken_from_the_broker_comes_back() {
    let mut lab = made(json!({})).await;
    let before = lab.broker.all();
    for kind in ["exchanges", "policies", "users", "permissions"] {
        lab.broker.remove(kind, EXCHANGE);
        lab.pass().await.expect("a pass");
        assert_eq!(lab.broker.all(), before, "{kind}");
    }
    lab.broker.remove_bindings();
    lab.pass().await.expect("a pass");
    assert_eq!(lab.broker.all(), before, "bindings");
}

#[tokio::test]
async fn a_log_that_is_lost_is_made_again_under_another_epoch() {
    let mut lab = made(json!({})).await;
    let epoch = |lab: &Lab| {
        lab.cluster.status()["epoch"]
            .as_str()
            .expect("an epoch")
            .to_owned()
    };
    let old = epoch(&lab);
    lab.broker
        .remove("queues", &format!("{EXCHANGE}.log.{old}"));
    lab.pass().await.expect("a pass");
    let new = epoch(&lab);
    assert_ne!(old, new);
    let servers = lab.cluster.get(DEPLOYMENT).expect("servers").to_string();
    assert!(
        servers.contains(&new) && !servers.contains(&old),
        "{servers}"
    );
}

#[tokio::test]
async fn what_somebody_changes_is_changed_back() {
    let mut lab = made(json!({"replicas": 2})).await;
    lab.cluster
        .edit(DEPLOYMENT, |servers| servers["spec"]["replicas"] = json!(7));
    lab.pass().await.expect("a pass");
    assert_eq!(
        lab.cluster.get(DEPLOYMENT).expect("servers")["spec"]["replicas"],
        2
    );
}

#[tokio::test]
async fn what_is_switched_off_is_removed() {
    let mut lab = made(
        json!({"replicas": 2, "ingress": {}, "gateway": {"parentRefs": [{"name": "public"}]}}),
    )
    .await;
    lab.cluster
        .edit(ROOM, |room| room["spec"] = json!({"replicas": 1}));
    lab.pass().await.expect("a pass");
    for gone in [
        INGRESS,
        ROUTE,
        "/apis/policy/v1/namespaces/team/poddisruptionbudgets/chat-geral",
    ] {
        assert!(lab.cluster.get(gone).is_none(), "{gone}");
    }
}

#[tokio::test]
async fn a_namesake_that_is_not_the_rooms_is_reported_and_left_alone() {
    let mut lab = Lab::new(room(json!({}))).await;
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat-geral", "namespace": "team", "uid": "x"}, "spec": {"replicas": 9, "selector": {}, "template": {}}});
    lab.cluster.put(DEPLOYMENT, theirs.clone());
    lab.pass().await.expect_err("a conflict");
    assert_eq!(lab.cluster.get(DEPLOYMENT), Some(theirs));
    assert_eq!(lab.cluster.condition("Available").1, "Conflict");
}

#[tokio::test]
async fn an_exchange_of_another_is_reported_and_left_alone() {
    for theirs in [
        json!({"name": EXCHANGE, "vhost": "/", "type": "fanout", "durable": true, "auto_delete": false, "arguments": {}}),
        json!({"name": EXCHANGE, "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "arguments": {"papo-owner": "u-2"}}),
    ] {
        let mut lab = Lab::new(room(json!({}))).await;
        lab.broker.put("exchanges", EXCHANGE, theirs.clone());
        lab.pass().await.expect_err("a conflict");
        let (status, reason, message) = lab.cluster.condition("BrokerReady");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "Conflict"),
            "{message}"
        );
        assert_eq!(lab.broker.get("exchanges", EXCHANGE), Some(theirs));
        assert!(lab.broker.writes().is_empty());
    }
}

#[tokio::test]
async fn a_broker_that_fails_is_quoted_and_servers_still_scale() {
    let mut lab = made(json!({})).await;
    lab.broker.set_down(true);
    lab.cluster
        .edit(ROOM, |room| room["spec"]["replicas"] = json!(3));
    lab.pass().await.expect_err("the broker is down");
    let (status, _, message) = lab.cluster.condition("BrokerReady");
    assert_eq!(status, "False");
    assert!(message.contains("the broker is on fire"), "{message}");
    assert_eq!(
        lab.cluster.get(DEPLOYMENT).expect("servers")["spec"]["replicas"],
        3
    );

    lab.broker.set_down(false);
    lab.pass().await.expect("the broker is back");
    assert_eq!(lab.cluster.condition("BrokerReady").0, "True");
}

#[tokio::test]
async fn a_refusal_of_the_api_server_is_quoted_and_goes_away_when_it_is_mended() {
    let mut lab = Lab::new(room(json!({}))).await;
    lab.cluster.refuse(
        DEPLOYMENT,
        422,
        "spec.template.spec.priorityClassName: no such class",
    );
    lab.pass().await.expect_err("refused");
    let (_, reason, message) = lab.cluster.condition("Available");
    assert_eq!(reason, "Invalid");
    assert!(message.contains("no such class"), "{message}");
    lab.cluster.accept(DEPLOYMENT);
    lab.pass().await.expect("mended");
    assert_eq!(lab.cluster.condition("Available").1, "Starting");
}

#[tokio::test]
async fn a_wrong_spec_is_refused_with_its_reason_and_changes_nothing() {
    let mut lab = made(json!({})).await;
    let before = lab.broker.writes();
    lab.cluster.edit(ROOM, |room| {
        room["spec"]["retention"] = json!({"maxAge": "soon"});
    });
    lab.pass().await.expect("nothing to retry");
    let (status, reason, message) = lab.cluster.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(message.contains("maxAge"), "{message}");
    assert_eq!(lab.broker.writes(), before);
}

#[tokio::test]
async fn a_paused_room_is_left_alone() {
    let mut lab = made(json!({})).await;
    lab.cluster
        .edit(ROOM, |room| room["spec"]["paused"] = json!(true));
    lab.cluster.remove(DEPLOYMENT);
    lab.pass().await.expect("a pass");
    assert!(lab.cluster.get(DEPLOYMENT).is_none());
    assert_eq!(lab.cluster.condition("Accepted").1, "Paused");
    lab.cluster
        .edit(ROOM, |room| room["spec"]["paused"] = json!(false));
    lab.pass().await.expect("a pass");
    assert!(lab.cluster.get(DEPLOYMENT).is_some());
}

#[tokio::test]
async fn retention_changes_without_another_log() {
    let mut lab = made(json!({})).await;
    let epoch = lab.cluster.status()["epoch"].clone();
    lab.cluster.edit(ROOM, |room| {
        room["spec"]["retention"] = json!({"maxAge": "7D", "maxBytes": "2M"});
    });
    lab.pass().await.expect("a pass");
    let policy = lab.broker.get("policies", EXCHANGE).expect("a policy");
    assert_eq!(
        policy["definition"],
        json!({"max-age": "7D", "max-length-bytes": 2_000_000})
    );
    assert_eq!(lab.cluster.status()["epoch"], epoch);
}

#[tokio::test]
async fn an_image_that_never_comes_is_told_in_the_words_of_the_node() {
    let mut lab = made(json!({})).await;
    lab.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    lab.pass().await.expect("a pass");
    assert_eq!(lab.cluster.condition("Ready").0, "True");

    lab.cluster
        .edit(ROOM, |room| room["spec"]["image"] = json!("missing"));
    lab.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1});
    });
    lab.cluster.put(
        "/api/v1/namespaces/team/pods/chat-geral-1",
        json!({"metadata": {"name": "chat-geral-1"}, "status": {"containerStatuses": [{
            "name": "server", "image": "missing", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        }]}}),
    );
    lab.pass().await.expect("nothing that a retry may mend");
    let (status, reason, message) = lab.cluster.condition("UpToDate");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ServersFailing")
    );
    assert!(
        message.starts_with("pod chat-geral-1: ErrImagePull: not found. The nodes cannot get the image missing: load it"),
        "{message}"
    );
    assert_eq!(lab.cluster.condition("Ready").0, "False");
    assert_eq!(lab.cluster.condition("Available").0, "True");
}

#[tokio::test]
async fn a_thousand_passes_that_fail_keep_no_connections() {
    let mut lab = made(json!({})).await;
    lab.broker.set_down(true);
    for _ in 0..1_000 {
        lab.pass().await.expect_err("the broker is down");
    }
    let made = lab.broker.connections();
    assert!(made <= 2, "{made} connections");
    // A Secret that is rewritten without a change is no reason for another connection either.
    lab.cluster.edit(BROKER_SECRET, |secret| {
        secret["metadata"]["labels"] = json!({"new": "yes"});
    });
    lab.pass().await.expect_err("the broker is down");
    assert_eq!(lab.broker.connections(), made);
}

#[tokio::test]
async fn a_pass_over_a_room_at_rest_costs_two_reads_of_the_cluster_and_six_of_the_broker() {
    let mut lab = made(json!({"replicas": 2, "ingress": {}})).await;
    let before = (lab.cluster.requests(), lab.broker.requests());
    lab.cluster.edit(DEPLOYMENT, |servers| {
        servers["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    });
    lab.pass().await.expect("the status is written");
    let between = (lab.cluster.requests(), lab.broker.requests());
    lab.pass().await.expect("a pass");
    let after = (lab.cluster.requests(), lab.broker.requests());
    assert!(between.0 > before.0 + 2, "the status was written");
    assert_eq!((after.0 - between.0, after.1 - between.1), (2, 6));
}

#[tokio::test]
async fn a_room_goes_to_the_broker_that_it_names() {
    let mut lab = Lab::new(room(json!({"broker": {"secretName": "mine"}}))).await;
    lab.pass().await.expect_err("there is no such Secret");
    assert_eq!(lab.cluster.condition("BrokerReady").1, "SecretNotFound");
    assert!(
        lab.broker.writes().is_empty(),
        "the default broker is not touched"
    );
    let secret = lab.cluster.get(BROKER_SECRET).expect("the Secret");
    lab.cluster
        .put("/api/v1/namespaces/team/secrets/mine", secret);
    lab.pass().await.expect("now there is");
    assert!(lab.broker.get("exchanges", EXCHANGE).is_some());
}

#[tokio::test]
async fn a_room_without_servers_keeps_its_log_and_is_as_its_spec_says() {
    let mut lab = made(json!({"replicas": 3})).await;
    lab.cluster
        .edit(ROOM, |room| room["spec"]["replicas"] = json!(0));
    lab.pass().await.expect("a pass");
    let servers = lab.cluster.get(DEPLOYMENT).expect("servers");
    assert_eq!(servers["spec"]["replicas"], 0);
    let budget = "/apis/policy/v1/namespaces/team/poddisruptionbudgets/chat-geral";
    assert!(lab.cluster.get(budget).is_none());
    let log = lab.cluster.status()["epoch"].as_str().map(str::to_owned);
    let log = format!("{EXCHANGE}.log.{}", log.expect("an epoch"));
    assert!(lab.broker.get("queues", &log).is_some());

    lab.cluster.edit(DEPLOYMENT, |it| {
        it["status"] = json!({"observedGeneration": 1});
    });
    lab.pass().await.expect("a pass");
    assert_eq!(lab.cluster.condition("Available").1, "ScaledToZero");
    assert_eq!(lab.cluster.condition("Ready").0, "True");
}
