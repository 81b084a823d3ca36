//! Fuzz targets: one function for each decoder of bytes from users, the API server or the broker.
//!
//! Each accepts any bytes, and panics when a promise is broken that the rest of the operator relies on. Built for tests,
//! which replay the corpora, and for fuzzing; `tests/fuzz/README.md` says how.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use papo_protocol::{BrokerUrl, Epoch};
use serde_json::Value;

use crate::{
    broker::Settings,
    config::Defaults,
    crd::{ChatRoom, StoredRoom},
    desired::{self, Credentials, Desired, Log},
    validate::{Room, validate},
};

pub use crate::apply::fuzzing::{live_object, management_api};

/// What separates the parts of an input that has several.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// A `ChatRoom` as the API server hands it over.
pub fn chat_room(data: &[u8]) {
    let Ok(stored) = serde_json::from_slice::<StoredRoom>(data) else {
        return;
    };
    let chat_room = stored.room;
    if !stored.unreadable.is_empty() {
        assert!(serde_json::from_slice::<ChatRoom>(data).is_err());
        return;
    }
    let defaults = Defaults {
        server_image: "papo-server".to_owned(),
        broker_secret: Some("papo/broker".parse().expect("valid")),
        domain: Some("chat.example".to_owned()),
        ..Defaults::default()
    };
    if let Ok(room) = validate(&chat_room, &defaults) {
        check(&room);
    }
}

/// Everything that is built of a valid room is something that the API server, the kubelet and the broker can take.
fn check(room: &Room) {
    let topology = desired::topology(room);
    assert!(topology.exchange.len() <= 255 && topology.exchange.is_ascii());
    assert!(!desired::url(room).is_empty());
    let log = Log {
        nodes: vec!["amqp://mq:5672".parse().expect("valid")],
        private_ca: true,
        epoch: Epoch::from_bits(7),
    };
    let credentials = Credentials {
        password: "password".to_owned(),
        session_key: "key".to_owned(),
        ca: None,
    };
    let rules: papo_protocol::Access =
        serde_json::from_str(&room.access.json).expect("the servers can read it");
    assert!(rules.check().is_ok() && rules == room.access.rules);
    let children = desired::children(room, Some(&log));
    let (Desired::Object(deployment), Desired::Object(network_policy)) =
        (children.deployment, children.network_policy)
    else {
        panic!("the log is known");
    };
    let objects = [
        serde_json::to_value(desired::secret(room, &credentials)),
        serde_json::to_value(&deployment),
        serde_json::to_value(&children.service),
        serde_json::to_value(&network_policy),
        serde_json::to_value(&children.pod_disruption_budget),
        serde_json::to_value(&children.ingress),
        serde_json::to_value(&children.http_route),
    ];
    for object in objects {
        let object = object.expect("JSON");
        let name = object["metadata"]["name"].as_str();
        assert!(object.is_null() || name.is_some_and(|name| name.len() <= 63));
    }
    let pod = deployment.spec.template.spec.as_ref();
    let variables = pod.and_then(|pod| pod.containers[0].env.clone());
    let seen: BTreeMap<String, String> = variables
        .into_iter()
        .flatten()
        .filter(|variable| variable.value_from.is_none())
        .map(|variable| {
            let value = variable.value.expect("plain");
            assert!(!value.contains('\0'), "no program can be given that");
            (variable.name, expanded(&value))
        })
        .collect();
    assert_eq!(seen.get("PAPO_TITLE"), room.title.as_ref());
}

/// What a container sees of a variable: the kubelet puts values in the place of `$(NAME)`, and `$` in that of `$$`.
fn expanded(value: &str) -> String {
    let mut seen = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        seen += before;
        seen.push('$');
        assert!(!after.starts_with('('), "it refers to another variable");
        rest = after.strip_prefix('$').unwrap_or(after);
    }
    seen + rest
}

/// The values of a broker's Secret, in the order of their keys; what is left empty is missing.
pub fn broker_secret(data: &[u8]) {
    const KEYS: [&str; 9] = [
        "username",
        "password",
        "host",
        "port",
        "managementPort",
        "vhost",
        "tls",
        "ca.crt",
        "nodes",
    ];
    let values = data.split(|byte| *byte == SEPARATOR);
    let data = KEYS.iter().zip(values).map(|(key, value)| {
        let value = ByteString(value.to_vec());
        ((*key).to_owned(), value)
    });
    let secret = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    let Ok(settings) = Settings::parse(&secret) else {
        return;
    };
    let management: reqwest::Url = settings.endpoint().parse().expect("a URL");
    assert!(management.username().is_empty() && management.path() == "/api");
    let urls = settings.urls();
    BrokerUrl::check_nodes(urls).expect("servers accept them");
    let has_nodes = secret.data.is_some_and(|data| data.contains_key("nodes"));
    for url in urls {
        let amqp: reqwest::Url = url.as_str().parse().expect("a URL");
        assert!(amqp.username().is_empty() && url.as_str().ends_with(amqp.path()));
        let host = amqp.host_str().map(str::to_lowercase);
        assert!(has_nodes || host.as_deref() == management.host_str());
    }
    assert!(!urls.is_empty());
}

/// Two JSON values of an input.
pub(crate) fn two_values(data: &[u8]) -> Option<(Value, Value)> {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    let mut value = || serde_json::from_slice(parts.next()?).ok();
    Some((value()?, value()?))
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn corpus_of_rooms_breaks_no_promise() {
        replay("chat_room", chat_room);
    }

    #[test]
    fn corpus_of_broker_secrets_breaks_no_promise() {
        replay("broker_secret", broker_secret);
    }

    #[test]
    fn corpus_of_management_answers_breaks_no_promise() {
        replay("management_api", management_api);
    }

    #[test]
    fn corpus_of_live_objects_breaks_no_promise() {
        replay("live_object", live_object);
    }
}
