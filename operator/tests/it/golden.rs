//! The objects of the sample rooms, kept in files: `UPDATE_GOLDEN=1 cargo test -p papo-operator golden` writes them again.

use std::{fs, path::Path};

use papo_operator::{
    crd::{self, ChatRoom},
    desired::{self, Credentials, Desired, Log},
    validate::validate,
};
use serde::Serialize;

use crate::fake::defaults;

/// One sample and its golden file.
fn check(sample: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text =
        fs::read_to_string(here.join("../manifests/samples").join(sample)).expect("a sample");
    let mut chat_room: ChatRoom = serde_saphyr::from_str(&text).expect("a room");
    chat_room.metadata.namespace = Some("team".to_owned());
    chat_room.metadata.uid = Some("u-1".to_owned());
    let rendered = render(&chat_room);

    let golden = here.join("tests/golden").join(sample);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &rendered).expect("written");
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(
        rendered,
        expected,
        "{} differs; UPDATE_GOLDEN=1 writes it again",
        golden.display()
    );
}

fn render(chat_room: &ChatRoom) -> String {
    let room = validate(chat_room, &defaults()).expect("a valid sample");
    let log = Log {
        nodes: vec!["amqp://mq.papo.svc:5672/%2F".parse().expect("valid")],
        private_ca: false,
        epoch: "0123456789abcdef".parse().expect("valid"),
    };
    let credentials = Credentials {
        password: "password".to_owned(),
        session_key: "key".to_owned(),
        ca: None,
    };
    let desired::Children {
        deployment,
        service,
        network_policy,
        pod_disruption_budget,
        ingress,
        http_route,
    } = desired::children(&room, Some(&log));
    let (Desired::Object(deployment), Desired::Object(network_policy)) =
        (deployment, network_policy)
    else {
        panic!("the log is known");
    };
    let mut documents = vec![
        document(&*deployment),
        document(&service),
        document(&*network_policy),
        document(&desired::secret(&room, &credentials)),
    ];
    documents.extend(pod_disruption_budget.as_ref().map(document));
    documents.extend(ingress.as_ref().map(document));
    documents.extend(http_route.as_ref().map(document));
    documents.join("---\n")
}

fn document(object: &impl Serialize) -> String {
    let value = serde_json::to_value(object).expect("JSON");
    serde_saphyr::to_string(&value).expect("YAML")
}

#[test]
fn golden_minimal_room() {
    check("geral.yaml");
}

#[test]
fn golden_full_room() {
    check("full.yaml");
}

#[test]
fn golden_company_room() {
    check("company.yaml");
}

#[test]
fn golden_stage() {
    check("stage.yaml");
}

#[test]
fn golden_definition_bounds_every_string_and_list() {
    let crd = crd::definition().expect("JSON");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut unbounded = Vec::new();
    walk(spec, "spec", &mut unbounded);
    assert!(unbounded.is_empty(), "without a bound: {unbounded:?}");
}

/// Kubernetes' own types are bounded by the API server when they arrive in a pod.
fn walk(schema: &serde_json::Value, path: &str, unbounded: &mut Vec<String>) {
    if ["affinity", "tolerations", "topologySpreadConstraints"]
        .iter()
        .any(|theirs| path.ends_with(theirs))
    {
        return;
    }
    let bounded = match schema["type"].as_str() {
        Some("string") => schema["maxLength"].is_number() || schema["enum"].is_array(),
        Some("array") => schema["maxItems"].is_number(),
        Some("integer") => schema["maximum"].is_number(),
        _ => true,
    };
    if !bounded {
        unbounded.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), unbounded);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], path, unbounded);
        }
    }
}
