//! Who may enter a room: what the servers read, when they read it again, and what a change restarts.

use std::time::Duration;

use k8s_openapi::ByteString;
use papo_operator::broker::Policy;
use papo_protocol::Access;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fake::{BROKER_SECRET, Fixture, ROOM, ROOM_SECRET, room};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/chat-geral";
const NETWORK_POLICY: &str =
    "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/chat-geral";
const PODS: &str = "/api/v1/namespaces/team/pods";
const ANNOTATION: &str = "papo.chat/access";

/// A company's room.
fn company() -> Value {
    json!({
        "guests": "None",
        "issuers": [{"issuer": "https://id.example/realms/staff", "audiences": ["papo"]}],
        "write": ["group:staff"],
        "denied": {"subjects": ["mallory"]},
    })
}

/// A room that has been made, with two pods and one that ends.
async fn created(spec: Value) -> Fixture {
    let mut fixture = Fixture::new(room(spec)).await;
    fixture.settle().await;
    for (name, ends) in [
        ("chat-geral-1", false),
        ("chat-geral-2", false),
        ("chat-geral-0", true),
    ] {
        let mut pod = json!({"metadata": {"name": name, "namespace": "team"}, "spec": {}});
        if ends {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        fixture.cluster.put(&format!("{PODS}/{name}"), pod);
    }
    fixture
}

fn set_access(fixture: &Fixture, access: Value) {
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["access"] = access);
}

/// What the servers read.
fn file(fixture: &Fixture) -> Access {
    let secret = fixture.cluster.get(ROOM_SECRET).expect("the room's Secret");
    let bytes: ByteString =
        serde_json::from_value(secret["data"]["access.json"].clone()).expect("a file");
    serde_json::from_slice(&bytes.0).expect("rules")
}

fn template(fixture: &Fixture) -> Value {
    let servers = fixture.cluster.get(DEPLOYMENT).expect("servers");
    servers["spec"]["template"].clone()
}

/// Pods that were patched, in the order of their names.
fn told(fixture: &Fixture, since: usize) -> Vec<String> {
    let prefix = format!("PATCH {PODS}/");
    let writes = fixture.cluster.writes();
    let names = writes[since..]
        .iter()
        .filter_map(|write| write.strip_prefix(&prefix));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn open_room_has_a_file_that_says_so() {
    let fixture = created(json!({})).await;
    assert_eq!(file(&fixture), Access::open());
    let container = &template(&fixture)["spec"]["containers"][0];
    let variables = container["env"].as_array().expect("variables");
    let access = variables.iter().find(|one| one["name"] == "PAPO_ACCESS");
    assert_eq!(
        access.expect("it is always set")["value"],
        "/etc/papo/broker/access.json"
    );
}

#[tokio::test]
async fn changed_access_restarts_nothing_and_is_told_to_running_pods_once() {
    let mut fixture = created(json!({"replicas": 2})).await;
    let before = template(&fixture);
    for access in [company(), json!({"guests": "Read"}), Value::Null] {
        let since = fixture.cluster.writes().len();
        set_access(&fixture, access.clone());
        fixture.settle().await;
        assert_eq!(
            told(&fixture, since),
            ["chat-geral-1", "chat-geral-2"],
            "{access}"
        );
        assert_eq!(template(&fixture), before, "{access}");
    }
    assert_eq!(file(&fixture), Access::open());
    let annotation = |name: &str| {
        let pod = fixture
            .cluster
            .get(&format!("{PODS}/{name}"))
            .expect("a pod");
        pod["metadata"]["annotations"][ANNOTATION].clone()
    };
    assert!(annotation("chat-geral-1").is_string());
    assert_eq!(annotation("chat-geral-1"), annotation("chat-geral-2"));
    assert_eq!(annotation("chat-geral-0"), Value::Null);
}

#[tokio::test]
async fn room_at_rest_asks_for_no_pods() {
    let mut fixture = created(json!({"access": company()})).await;
    // All servers are available, so that nobody asks what keeps them from it.
    fixture.cluster.edit(DEPLOYMENT, |servers| {
        let generation = servers["metadata"]["generation"].clone();
        servers["status"] = json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    fixture.settle().await;
    fixture.cluster.reject_kind("pods", 403);
    let (writes, requests) = (fixture.cluster.writes(), fixture.cluster.requests());
    fixture.reconcile().await.expect("a reconcile");
    let of_one_reconcile = fixture.cluster.requests() - requests;
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.requests() - requests, 2 * of_one_reconcile);
    // The Secrets of the broker and of the room.
    assert_eq!(of_one_reconcile, 2);
    assert_eq!(fixture.cluster.writes(), writes);
}

#[tokio::test]
async fn edited_file_is_written_again_and_told_to_pods() {
    let mut fixture = created(json!({"access": company()})).await;
    let ours = file(&fixture);
    for edit in [json!("e30="), Value::Null] {
        let since = fixture.cluster.writes().len();
        fixture
            .cluster
            .edit(ROOM_SECRET, |secret| secret["data"]["access.json"] = edit);
        fixture.settle().await;
        assert_eq!(file(&fixture), ours);
        assert_eq!(told(&fixture, since).len(), 2);
    }
    // A change of other keys is none of the pods' business.
    let since = fixture.cluster.writes().len();
    fixture.cluster.edit(ROOM_SECRET, |secret| {
        secret["data"]["username"] = json!("e30=");
    });
    fixture.settle().await;
    assert_eq!(told(&fixture, since), Vec::<String>::new());
}

#[tokio::test]
async fn pods_that_cannot_be_told_do_not_fail_the_room() {
    let mut fixture = created(json!({})).await;
    fixture
        .cluster
        .reject(&format!("{PODS}/chat-geral-1"), 403, "no");
    set_access(&fixture, company());
    fixture.reconcile().await.expect("the file is written");
    fixture.cluster.reject_kind("pods", 403);
    set_access(&fixture, json!({"guests": "Read"}));
    fixture.reconcile().await.expect("the file is written");
    assert_eq!(file(&fixture).guests, papo_protocol::access::Guests::Read);
}

#[tokio::test]
async fn access_changes_while_the_broker_is_not_known() {
    let mut fixture = created(json!({"access": {"guests": "Write"}})).await;
    let credentials = |fixture: &Fixture| {
        let secret = fixture.cluster.get(ROOM_SECRET).expect("the room's Secret");
        (
            secret["data"]["password"].clone(),
            secret["data"]["session-key"].clone(),
        )
    };
    let before = credentials(&fixture);
    fixture.cluster.remove(BROKER_SECRET);
    set_access(&fixture, company());
    fixture.reconcile().await.expect_err("there is no broker");
    assert_eq!(fixture.cluster.condition("BrokerReady").1, "SecretNotFound");
    assert_eq!(file(&fixture).denied.subjects, ["mallory"]);
    assert_eq!(credentials(&fixture), before);
}

#[tokio::test]
async fn access_changes_although_the_secret_was_just_read() {
    let policy = Policy {
        secret_period: Duration::from_hours(1),
        ..Policy::default()
    };
    let mut fixture = Fixture::with_policy(room(json!({})), policy).await;
    fixture.reconcile().await.expect("a reconcile");
    set_access(&fixture, company());
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(file(&fixture).denied.subjects, ["mallory"]);
}

#[tokio::test]
async fn room_without_a_broker_gets_no_secret() {
    let mut fixture = Fixture::new(room(json!({"access": company()}))).await;
    fixture.cluster.remove(BROKER_SECRET);
    fixture.reconcile().await.expect_err("there is no broker");
    assert_eq!(fixture.cluster.get(ROOM_SECRET), None);
}

#[tokio::test]
async fn only_another_set_of_secrets_changes_the_pods() {
    let issuer =
        |url: &str, ca: &str| json!({"issuer": url, "audiences": ["papo"], "caSecretName": ca});
    let (a, b) = (
        issuer("https://a.example", "a-ca"),
        issuer("https://b.example", "b-ca"),
    );
    let mut fixture = created(json!({"access": {"issuers": [a, b]}})).await;
    let before = template(&fixture);
    let volume = &before["spec"]["volumes"][1];
    let source = |name: &str| {
        let items = json!([{"key": "ca.crt", "path": format!("{name}/ca.crt")}]);
        json!({"secret": {"name": name, "optional": true, "items": items}})
    };
    let sources = &volume["projected"]["sources"];
    assert_eq!(*sources, json!([source("a-ca"), source("b-ca")]));
    let mount = &before["spec"]["containers"][0]["volumeMounts"][1];
    assert_eq!(
        *mount,
        json!({"name": volume["name"], "mountPath": "/etc/papo/issuers", "readOnly": true})
    );
    let ca = file(&fixture).issuers[0].ca_file.clone().expect("a file");
    assert_eq!(ca.to_str(), Some("/etc/papo/issuers/a-ca/ca.crt"));

    let mut renamed = issuer("https://c.example", "a-ca");
    renamed["audiences"] = json!(["other"]);
    for issuers in [json!([b, a]), json!([renamed, b]), json!([a, b, renamed])] {
        set_access(&fixture, json!({ "issuers": issuers }));
        fixture.settle().await;
        assert_eq!(template(&fixture), before, "{issuers}");
    }
    set_access(&fixture, json!({"issuers": [b]}));
    fixture.settle().await;
    let sources = &template(&fixture)["spec"]["volumes"][1]["projected"]["sources"];
    assert_eq!(*sources, json!([source("b-ca")]));
    set_access(&fixture, Value::Null);
    fixture.settle().await;
    let volumes = &template(&fixture)["spec"]["volumes"];
    assert_eq!(volumes.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn invalid_access_is_reported_and_the_former_rules_stay() {
    let mut fixture = created(json!({"access": company()})).await;
    let before = file(&fixture);
    for (access, words) in [
        (
            json!({"guests": "None"}),
            "spec.access: nobody may enter: name an issuer, or let guests read or write",
        ),
        (
            json!({"guests": "Read", "read": ["staff"]}),
            "spec.access: read: \"staff\" names nobody",
        ),
        // A rule of a later version must not be left out of account.
        (
            json!({"guests": "Write", "denied": {"addresses": ["192.0.2.1"]}}),
            "cannot read spec.access: unknown field `addresses`",
        ),
    ] {
        set_access(&fixture, access);
        fixture.reconcile().await.expect("a report");
        let (status, reason, message) = fixture.cluster.condition("Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
        assert!(message.contains(words), "{message}");
        assert_eq!(file(&fixture), before);
    }
    set_access(&fixture, company());
    fixture.settle().await;
    assert_eq!(fixture.cluster.condition("Accepted").1, "Valid");
}

#[tokio::test]
async fn operator_never_connects_to_what_a_room_names() {
    let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", issuer.local_addr().expect("an address"));
    let access = json!({
        "issuers": [{"issuer": url, "audiences": ["papo"]}, {"issuer": "https://id.example", "audiences": ["papo"], "jwksUri": format!("{url}/keys")}],
        "signIn": {"clientId": "papo", "issuer": url},
    });
    let mut fixture = created(json!({"access": access})).await;
    fixture.restart(i64::MAX);
    fixture.settle().await;
    assert_eq!(file(&fixture).issuers.len(), 2);
    let connected = tokio::time::timeout(std::time::Duration::from_millis(200), issuer.accept());
    assert!(connected.await.is_err(), "somebody has connected");
}

#[tokio::test]
async fn policy_opens_the_ports_of_issuers() {
    let mut access = company();
    access["issuers"][0]["jwksUri"] = json!("https://id.example:8443/keys");
    let mut fixture = created(json!({"access": access})).await;
    let opens = |fixture: &Fixture, port: u16| {
        let policy = fixture.cluster.get(NETWORK_POLICY).expect("a policy");
        let rules = policy["spec"]["egress"].as_array().expect("rules");
        let expected = json!({"ports": [{"port": port, "protocol": "TCP"}]});
        rules.contains(&expected)
    };
    assert!(opens(&fixture, 8443));
    set_access(&fixture, company());
    fixture.settle().await;
    assert!(opens(&fixture, 443) && !opens(&fixture, 8443));
    set_access(&fixture, Value::Null);
    fixture.settle().await;
    assert!(!opens(&fixture, 443));
}
