//! The hosts that the servers of a room accept.

use papo_operator::{crd::ChatRoom, desired, validate::validate};
use serde_json::{Value, json};

use crate::fake::{defaults, room};

/// The variable of a room's servers.
fn allowed(spec: &Value) -> Option<String> {
    let chat_room: ChatRoom = serde_json::from_value(room(spec.clone())).expect("a room");
    let room = validate(&chat_room, &defaults()).expect("valid");
    let log = desired::Log {
        nodes: vec!["amqp://mq:5672/%2F".parse().expect("valid")],
        private_ca: false,
        epoch: "0123456789abcdef".parse().expect("valid"),
    };
    let deployment = serde_json::to_value(desired::deployment(&room, &log)).expect("JSON");
    let variables = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let variables = variables.as_array().expect("a list");
    let variable = |name: &str| variables.iter().find(|one| one["name"] == name);
    let admin = variable("PAPO_ADMIN_LISTEN").expect("given");
    assert_eq!(admin["value"], "[::]:5001", "the kubelet probes it");
    let value = variable("PAPO_ALLOW_HOST")?["value"].as_str()?;
    Some(value.to_owned())
}

const SERVICE: &str =
    "chat-geral,chat-geral.team,chat-geral.team.svc,chat-geral.team.svc.cluster.local";

#[test]
fn servers_accept_the_hosts_of_the_routes_and_the_service() {
    let gateway =
        |hosts: &[&str]| json!({ "parentRefs": [{ "name": "public" }], "hostnames": hosts });
    for (spec, hosts) in [
        (
            json!({ "ingress": { "host": "sala.example" } }),
            "sala.example",
        ),
        (
            json!({ "gateway": gateway(&["a.example", "*.b.example"]) }),
            "a.example,*.b.example",
        ),
        (
            json!({ "ingress": { "host": "sala.example" }, "gateway": gateway(&["a.example"]) }),
            "sala.example,a.example",
        ),
    ] {
        assert_eq!(allowed(&spec), Some(format!("{hosts},{SERVICE}")), "{spec}");
    }
}

#[test]
fn servers_accept_every_host_of_a_route_that_the_operator_does_not_know() {
    let every_host = json!({ "parentRefs": [{ "name": "public" }], "hostnames": [] });
    for spec in [
        json!({}),
        json!({ "ingress": { "host": "sala.example" }, "gateway": every_host }),
    ] {
        assert_eq!(allowed(&spec), None, "{spec}");
    }
}
