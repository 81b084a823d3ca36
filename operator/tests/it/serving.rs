//! How the servers of a room are started, and where its routes lead.

use std::collections::BTreeMap;

use papo_operator::{
    crd::ChatRoom,
    desired::{self, Children, Desired},
    validate::{Room, validate},
};
use serde_json::{Value, json};

use crate::fake::{defaults, room};

fn valid(spec: Value) -> Room {
    let chat_room: ChatRoom = serde_json::from_value(room(spec)).expect("a room");
    validate(&chat_room, &defaults()).expect("valid")
}

fn children(room: &Room) -> Children {
    let log = desired::Log {
        nodes: vec!["amqp://mq:5672/%2F".parse().expect("valid")],
        private_ca: false,
        epoch: "0123456789abcdef".parse().expect("valid"),
    };
    desired::children(room, Some(&log))
}

/// The environment of the room's servers.
fn environment(spec: Value) -> BTreeMap<String, String> {
    let Desired::Object(deployment) = children(&valid(spec)).deployment else {
        panic!("the log is known");
    };
    let pod = deployment.spec.template.spec.expect("a pod");
    let variables = pod.containers[0].env.clone().expect("variables");
    let pairs = variables.into_iter();
    pairs
        .filter_map(|variable| Some((variable.name, variable.value?)))
        .collect()
}

#[test]
fn servers_are_started_with_the_settings_of_the_room() {
    let environment = environment(json!({
        "allowedOrigins": ["https://a.example", "https://b.example"],
        "longPolling": false,
        "drainPeriod": 20,
        "logFilter": "papo_server=debug,warn",
        "limits": {"historyPage": 5, "slowReaderTimeout": 6},
        "gateway": {"path": "/chat/geral/"},
    }));
    for (name, value) in [
        ("PAPO_ALLOW_ORIGIN", "https://a.example,https://b.example"),
        ("PAPO_LONG_POLLING", "false"),
        ("PAPO_DRAIN_PERIOD", "20"),
        ("PAPO_LOG_FILTER", "papo_server=debug,warn"),
        ("PAPO_HISTORY_PAGE", "5"),
        ("PAPO_SLOW_READER_TIMEOUT", "6"),
        ("PAPO_BASE_PATH", "/chat/geral"),
    ] {
        assert_eq!(
            environment.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
}

#[test]
fn servers_listen_on_both_families_of_addresses() {
    let environment = environment(json!({}));
    assert_eq!(environment["PAPO_LISTEN"], "[::]:5000");
    assert_eq!(environment["PAPO_ADMIN_LISTEN"], "[::]:5001");
    assert_eq!(environment.get("PAPO_BASE_PATH"), None);
}

#[test]
fn routes_lead_to_the_path_of_the_room() {
    for (path, page, socket_io) in [
        (None, "/", "/socket.io/"),
        (Some("/chat/geral"), "/chat/geral", "/chat/geral/socket.io/"),
        (
            Some("/chat/geral/"),
            "/chat/geral",
            "/chat/geral/socket.io/",
        ),
    ] {
        let room = valid(json!({"ingress": {"path": path}, "gateway": {"path": path}}));
        let Children {
            ingress,
            http_route,
            ..
        } = children(&room);
        let ingress = serde_json::to_value(ingress).expect("JSON");
        let paths = &ingress["spec"]["rules"][0]["http"]["paths"];
        assert_eq!(
            (&paths[0]["path"], &paths[1]["path"]),
            (&json!(socket_io), &json!(page))
        );
        let route = serde_json::to_value(http_route).expect("JSON");
        let matched = &route["spec"]["rules"][0]["matches"][0]["path"];
        assert_eq!(*matched, json!({"type": "PathPrefix", "value": page}));
        let slash = if path.is_some() { "/" } else { "" };
        let url = format!("http://geral-team.chat.example{page}{slash}");
        assert_eq!(desired::url(&room), url);
    }
}

#[test]
fn room_without_a_route_has_the_url_of_its_service() {
    assert_eq!(
        desired::url(&valid(json!({}))),
        "http://chat-geral.team.svc/"
    );
}
