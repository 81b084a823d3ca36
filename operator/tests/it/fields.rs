//! Each field of a room: set, it changes an object in the cluster or on the broker; unset again, all objects are as before (classes B6 and B7 of
//! the faults). The fields are those of the schema, so that a new one cannot be forgotten.

use std::collections::BTreeSet;

use papo_operator::crd;
use serde_json::{Value, json};

use crate::fake::{Fixture, ROOM, room};

/// Where a field takes effect.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    /// In a child or an object on the broker.
    Object,
    /// Only in what the operator does: another test checks that.
    Behaviour,
}

/// Each field with a value that is not its default, and the rest of a spec in which it means something.
fn table() -> Vec<(&'static str, Value, Value)> {
    let none = || json!({});
    let ingress = || json!({"ingress": {}});
    let gateway = || json!({"gateway": {"parentRefs": [{"name": "public"}]}});
    let issuers = || json!([{"issuer": "https://id.example", "audiences": ["papo"]}]);
    let access = || json!({"access": {"guests": "Read", "issuers": issuers()}});
    vec![
        ("title", json!("Sala"), none()),
        ("replicas", json!(3), none()),
        ("retention.maxAge", json!("7D"), none()),
        ("retention.maxBytes", json!("2Gi"), none()),
        ("limits.messageLength", json!(100), none()),
        ("limits.nameLength", json!(10), none()),
        ("limits.messagesPerSecond", json!(3), none()),
        ("limits.messageBurst", json!(4), none()),
        ("limits.historyPerSecond", json!(6), none()),
        ("limits.historyBurst", json!(7), none()),
        ("limits.frameSize", json!(100_000), none()),
        ("limits.connections", json!(5), none()),
        ("limits.address.messagesPerSecond", json!(6), none()),
        ("limits.address.messageBurst", json!(7), none()),
        ("limits.address.bytesPerSecond", json!(8_000), none()),
        ("limits.address.byteBurst", json!(300_000), none()),
        ("limits.address.connections", json!(9), none()),
        ("limits.address.connectsPerSecond", json!(10), none()),
        ("limits.address.connectBurst", json!(11), none()),
        ("limits.historyPage", json!(20), none()),
        ("limits.slowReaderTimeout", json!(30), none()),
        ("allowedOrigins", json!(["https://a.example"]), none()),
        ("longPolling", json!(false), none()),
        ("drainPeriod", json!(20), none()),
        ("logFilter", json!("papo_server=debug,warn"), none()),
        ("image", json!("mine"), none()),
        ("imagePullPolicy", json!("Always"), none()),
        ("resources.requests", json!({"cpu": "50m"}), none()),
        ("resources.limits", json!({"memory": "64Mi"}), none()),
        ("placement.nodeSelector", json!({"disk": "ssd"}), none()),
        ("placement.tolerations", json!([{"key": "chat"}]), none()),
        ("placement.affinity", json!({"podAntiAffinity": {}}), none()),
        (
            "placement.topologySpreadConstraints",
            json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]),
            none(),
        ),
        ("placement.priorityClassName", json!("chat"), none()),
        ("ingress", json!({}), none()),
        ("ingress.host", json!("sala.example"), ingress()),
        ("ingress.path", json!("/chat/geral"), ingress()),
        ("ingress.className", json!("nginx"), ingress()),
        (
            "ingress.annotations",
            json!({"projectcontour.io/websocket-routes": "/"}),
            ingress(),
        ),
        ("ingress.tlsSecretName", json!("cert"), ingress()),
        ("gateway", gateway()["gateway"].clone(), none()),
        (
            "gateway.parentRefs",
            json!([{"name": "other"}]),
            json!({"gateway": {}}),
        ),
        ("gateway.hostnames", json!(["sala.example"]), gateway()),
        ("gateway.path", json!("/chat/geral"), gateway()),
        ("access.guests", json!("Read"), none()),
        (
            "access.issuers",
            issuers(),
            json!({"access": {"guests": "Read"}}),
        ),
        ("access.read", json!(["group:staff"]), access()),
        ("access.write", json!(["group:staff"]), access()),
        ("access.moderate", json!(["subject:ana"]), access()),
        ("access.denied.subjects", json!(["mallory"]), access()),
        ("access.denied.tokenIds", json!(["t-1"]), access()),
        (
            "access.denied.senders",
            json!(["00112233445566778899aabb"]),
            access(),
        ),
        ("access.signIn", json!({"clientId": "papo"}), access()),
        // A room has one broker for life: another one is refused, and so is none.
        ("broker.secretName", json!("mine"), none()),
        ("broker.replicas", json!(5), none()),
        ("deletionPolicy", json!("Retain"), none()),
        ("paused", json!(true), none()),
    ]
}

fn effect(field: &str) -> Effect {
    match field {
        // deletion::retained_log_is_continued_by_the_next_room_of_the_name, reconcile::paused_room_is_not_changed,
        // reconcile::room_uses_the_broker_that_its_spec_names, and reconcile::retention_is_in_the_arguments_of_a_new_log.
        "deletionPolicy" | "paused" | "broker.secretName" | "broker.replicas" => Effect::Behaviour,
        _ => Effect::Object,
    }
}

/// Paths of everything a user can set. Lists, maps, and Kubernetes' own types are one field each.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let whole = [
        "placement.tolerations",
        "placement.affinity",
        "placement.topologySpreadConstraints",
        // A part of it is required.
        "access.signIn",
    ];
    // Present and empty they already mean something.
    let switches = ["ingress", "gateway"];
    let properties = schema["properties"].as_object();
    match properties {
        Some(properties) if !whole.contains(&path) => {
            if switches.contains(&path) {
                found.insert(path.to_owned());
            }
            for (name, inner) in properties {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                fields(inner, &below, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn pointer(field: &str) -> (String, &str) {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let parent = parent.split('.').filter(|step| !step.is_empty());
    (
        parent.fold("/spec".to_owned(), |path, step| path + "/" + step),
        name,
    )
}

fn set(room: &mut Value, field: &str, value: Value) {
    let place = field
        .split('.')
        .fold(&mut room["spec"], |place, step| &mut place[step]);
    *place = value;
}

/// Takes the field away, and the objects around it that hold nothing else.
fn unset(room: &mut Value, field: &str) {
    let (parent, name) = pointer(field);
    let Some(Value::Object(parent_object)) = room.pointer_mut(&parent) else {
        panic!("{field} is set");
    };
    parent_object.remove(name);
    let is_switch = ["/spec/ingress", "/spec/gateway"].contains(&parent.as_str());
    if parent_object.is_empty() && parent != "/spec" && !is_switch {
        unset(room, parent.trim_start_matches("/spec/"));
    }
}

/// Everything but the room itself: what it has made of others.
fn children(fixture: &Fixture) -> Value {
    let mut everything = fixture.everything();
    if let Some(objects) = everything["cluster"].as_object_mut() {
        objects.remove(ROOM);
    }
    everything["policy"] = fixture
        .broker
        .get("policies", "papo.team.geral")
        .unwrap_or_default();
    everything
}

#[test]
fn table_has_every_field_of_the_schema() {
    let crd = crd::definition().expect("JSON");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut expected = BTreeSet::new();
    fields(spec, "", &mut expected);
    let ours: BTreeSet<String> = table()
        .iter()
        .map(|(field, ..)| (*field).to_owned())
        .collect();
    assert_eq!(ours, expected);
}

#[tokio::test]
async fn each_field_takes_effect_and_unset_leaves_no_trace() {
    for (field, value, rest) in table() {
        if effect(field) == Effect::Behaviour {
            continue;
        }
        let mut fixture = Fixture::new(room(rest)).await;
        fixture.settle().await;
        let never_set = children(&fixture);

        fixture.cluster.edit(ROOM, |room| set(room, field, value));
        fixture.settle().await;
        assert_ne!(
            children(&fixture),
            never_set,
            "{field} is accepted and ignored"
        );

        fixture.cluster.edit(ROOM, |room| unset(room, field));
        fixture.settle().await;
        assert_eq!(
            children(&fixture),
            never_set,
            "{field} stays in effect after it was taken away"
        );
    }
}
