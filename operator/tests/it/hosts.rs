//! A host, or a path of it, belongs to one room: another room that asks for it is told so, and has no Ingress or HTTPRoute with it.

use serde_json::{Value, json};

use crate::fake::{Fixture, ROOM, room};

const OTHER: &str = "/apis/papo.chat/v1alpha1/namespaces/other/chatrooms/sala";

fn ingress(namespace: &str, name: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/chat-{name}")
}

/// `geral` of `team`, and `sala` of `other`, which is a day younger.
async fn two_rooms(geral: Value, sala: Value) -> Fixture {
    let mut older = room(geral);
    older["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let fixture = Fixture::new(older).await;
    let mut younger = room(sala);
    younger["metadata"]["name"] = json!("sala");
    younger["metadata"]["namespace"] = json!("other");
    younger["metadata"]["uid"] = json!("u-2");
    younger["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    fixture.cluster.put(OTHER, younger);
    fixture
}

#[tokio::test]
async fn host_of_an_older_room_is_refused_to_the_younger() {
    let asks = json!({"ingress": {"host": "sala.example"}});
    for sala in [
        asks.clone(),
        json!({"gateway": {"hostnames": ["x.example", "sala.example"]}}),
    ] {
        let mut fixture = two_rooms(asks.clone(), sala).await;
        // The younger is the first to be reconciled.
        fixture.reconcile_room(OTHER).await.expect("a reconcile");
        fixture.reconcile().await.expect("a reconcile");
        let (status, reason, message) = fixture.cluster.condition_of(OTHER, "RouteAccepted");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "HostConflict"),
            "{message}"
        );
        assert!(
            message.contains("sala.example") && message.contains("team/geral"),
            "{message}"
        );
        assert!(fixture.cluster.get(&ingress("other", "sala")).is_none());
        assert!(fixture.cluster.list("httproutes").is_empty());
        assert!(fixture.cluster.get(&ingress("team", "geral")).is_some());
        assert_eq!(fixture.cluster.status()["hosts"], json!(["sala.example"]));
    }
}

#[tokio::test]
async fn host_is_not_taken_from_the_room_that_has_it() {
    let mut fixture = two_rooms(
        json!({"ingress": {"host": "geral.example"}}),
        json!({"ingress": {"host": "sala.example"}}),
    )
    .await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    // The older room asks for the younger's host.
    fixture.cluster.edit(ROOM, |room| {
        room["spec"]["ingress"]["host"] = json!("sala.example");
    });
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("RouteAccepted").1, "HostConflict");
    assert!(
        fixture.cluster.get(&ingress("team", "geral")).is_none(),
        "the former Ingress is removed"
    );
    assert!(fixture.cluster.get(&ingress("other", "sala")).is_some());
    // It gets the host when the other room no longer asks for it.
    fixture.cluster.edit(OTHER, |room| {
        room["spec"] = json!({});
    });
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    fixture.reconcile().await.expect("a reconcile");
    assert!(fixture.cluster.get(&ingress("team", "geral")).is_some());
}

#[tokio::test]
async fn host_is_kept_with_another_path() {
    let asks = |path: &str| json!({"ingress": {"host": "sala.example", "path": path}});
    let mut fixture = two_rooms(json!({}), asks("/chat")).await;
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    // The older room asks for the host, too, and waits.
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"] = asks("/talk"));
    fixture.reconcile().await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("RouteAccepted").1, "HostConflict");
    fixture
        .cluster
        .edit(OTHER, |room| room["spec"] = asks("/talk"));
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("RouteAccepted").1, "HostConflict");
    assert!(fixture.cluster.get(&ingress("other", "sala")).is_some());
    assert!(fixture.cluster.get(&ingress("team", "geral")).is_none());
}

#[tokio::test]
async fn equal_default_hosts_go_to_the_older_room() {
    let mut fixture = two_rooms(json!({"ingress": {}}), json!({"ingress": {}})).await;
    // `geral` of `team`, and `geral-team`s double: `geral` and `team` split elsewhere.
    let mut double = room(json!({"ingress": {}}));
    double["metadata"]["name"] = json!("x-geral");
    double["metadata"]["uid"] = json!("u-3");
    double["metadata"]["creationTimestamp"] = json!("2026-01-03T00:00:00Z");
    let path = ROOM.replace("geral", "x-geral");
    fixture.cluster.put(&path, double);
    let mut first = room(json!({"ingress": {}}));
    first["metadata"]["name"] = json!("x");
    first["metadata"]["namespace"] = json!("geral-team");
    first["metadata"]["uid"] = json!("u-4");
    first["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    let older = "/apis/papo.chat/v1alpha1/namespaces/geral-team/chatrooms/x";
    fixture.cluster.put(older, first);
    fixture.reconcile_room(&path).await.expect("a reconcile");
    fixture.reconcile_room(older).await.expect("a reconcile");
    let (_, reason, message) = fixture.cluster.condition_of(&path, "RouteAccepted");
    assert_eq!(reason, "HostConflict");
    assert!(message.contains("x-geral-team.chat.example"), "{message}");
    assert!(fixture.cluster.get(&ingress("geral-team", "x")).is_some());
}

#[tokio::test]
async fn invalid_room_without_a_route_keeps_no_host_from_others() {
    let mut fixture = two_rooms(
        json!({"ingress": {"host": "sala.example"}, "retention": {"maxAge": "soon"}}),
        json!({"ingress": {"host": "sala.example"}}),
    )
    .await;
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    assert!(fixture.cluster.get(&ingress("other", "sala")).is_some());
}

fn at(path: &str) -> Value {
    json!({"ingress": {"host": "sala.example", "path": path}})
}

/// Adds a room to the namespace of `geral`, younger than that by so many days.
fn add(fixture: &Fixture, name: &str, days: u32, spec: Value) -> String {
    let mut another = room(spec);
    another["metadata"]["name"] = json!(name);
    another["metadata"]["uid"] = json!(format!("u-{name}"));
    another["metadata"]["creationTimestamp"] = json!(format!("2026-01-{:02}T00:00:00Z", 1 + days));
    let path = ROOM.replace("geral", name);
    fixture.cluster.put(&path, another);
    path
}

#[tokio::test]
async fn rooms_of_one_namespace_share_a_host_by_path() {
    let mut fixture = two_rooms(at("/"), json!({})).await;
    let below = add(&fixture, "below", 2, at("/a"));
    let beside = add(&fixture, "beside", 3, at("/a/b"));
    let same = add(&fixture, "same", 4, at("/a/"));
    for room in [&*same, &beside, &below, ROOM] {
        fixture.reconcile_room(room).await.expect("a reconcile");
    }
    for name in ["geral", "below", "beside"] {
        assert!(
            fixture.cluster.get(&ingress("team", name)).is_some(),
            "{name}"
        );
    }
    assert!(fixture.cluster.get(&ingress("team", "same")).is_none());
    let (_, reason, message) = fixture.cluster.condition_of(&same, "RouteAccepted");
    assert_eq!(reason, "HostConflict");
    assert!(
        message.contains("sala.example/a belongs to the ChatRoom team/below")
            && message.contains("spec.ingress.path"),
        "{message}"
    );
    let has = |room: &str| fixture.cluster.get(room).expect("a room")["status"]["hosts"].clone();
    assert_eq!(has(ROOM), json!(["sala.example"]));
    assert_eq!(has(&beside), json!(["sala.example/a/b"]));
    assert_eq!(has(&same), Value::Null);
}

#[tokio::test]
async fn rooms_of_two_namespaces_share_no_host() {
    let mut fixture = two_rooms(at("/"), at("/evil")).await;
    fixture.reconcile_room(OTHER).await.expect("a reconcile");
    fixture.reconcile().await.expect("a reconcile");
    let (_, reason, message) = fixture.cluster.condition_of(OTHER, "RouteAccepted");
    assert_eq!(reason, "HostConflict");
    assert!(
        message.contains(
            "the host sala.example belongs to the ChatRoom team/geral of another namespace"
        ),
        "{message}"
    );
    assert!(fixture.cluster.get(&ingress("other", "sala")).is_none());
    assert!(fixture.cluster.get(&ingress("team", "geral")).is_some());
}

#[tokio::test]
async fn path_is_not_taken_from_the_room_that_has_it() {
    let mut fixture = two_rooms(at("/"), json!({})).await;
    let younger = add(&fixture, "younger", 2, at("/a"));
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(&younger).await.expect("a reconcile");
    fixture
        .cluster
        .edit(ROOM, |room| room["spec"]["ingress"]["path"] = json!("/a"));
    fixture.reconcile().await.expect("a reconcile");
    fixture.reconcile_room(&younger).await.expect("a reconcile");
    assert_eq!(fixture.cluster.condition("RouteAccepted").1, "HostConflict");
    assert!(fixture.cluster.get(&ingress("team", "younger")).is_some());
}
