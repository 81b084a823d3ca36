//! From what users write to what the operator works with: the only place that reads a raw spec, and the only source of [`Invalid`].
//!
//! The API server's schema has rejected most mistakes already. These checks also hold for rooms that were stored while an older schema was
//! installed.

mod access;
mod host_path;
mod invalid;
mod limits;
mod room;
mod serving;

use std::collections::{BTreeMap, BTreeSet};

use kube::{Resource, ResourceExt};
use papo_protocol::{
    RoomName,
    limits::{
        DEFAULT_RETENTION_BYTES, LOG_FILTER_LENGTH_MAX, LOG_REPLICAS, MAX_RETENTION_BYTES,
        MIN_RETENTION_BYTES,
    },
};

use crate::{
    config::{self, Defaults, SecretRef},
    crd::{self, ChatRoom},
    quantity,
};

pub use access::{Access, InvalidAccess, IssuerFile, check_default_access};
pub use host_path::HostPath;
pub use invalid::Invalid;
use limits::limits;
pub use room::{Ingress, Network, Pods, Retention, Room, Route, Serving};
use serving::serving;

/// The longest label of a host name (RFC 1035, section 2.3.4), in bytes.
const LABEL_MAX: usize = 63;

/// Checks a room, and fills in the operator's defaults for what its spec leaves out.
pub fn validate(chat_room: &ChatRoom, defaults: &Defaults) -> Result<Room, Invalid> {
    let namespace = chat_room.namespace().unwrap_or_default();
    let name = RoomName::new(&namespace, &chat_room.name_any())?;
    let spec = &chat_room.spec;
    if spec
        .title
        .as_ref()
        .is_some_and(|title| title.contains('\0'))
    {
        return Err(Invalid::Title);
    }
    if spec.replicas < 0 {
        return Err(Invalid::Replicas(spec.replicas));
    }
    Ok(Room {
        uid: chat_room.uid().ok_or(Invalid::Uid)?,
        owner: chat_room.controller_owner_ref(&()).ok_or(Invalid::Uid)?,
        title: spec.title.clone(),
        replicas: spec.replicas,
        retention: retention(spec.retention.as_ref())?,
        log_replicas: log_replicas(spec.broker.as_ref())?,
        limits: limits(spec.limits.as_ref())?,
        serving: serving(spec)?,
        access: access::access(&name, spec.access.as_ref(), &defaults.server_access.0)?,
        broker: broker(chat_room, defaults).ok_or(Invalid::NoBroker)?,
        pods: pods(chat_room, defaults)?,
        network: network(&defaults.network),
        ingress: spec
            .ingress
            .as_ref()
            .map(|spec| ingress(spec, &name, defaults))
            .transpose()?,
        route: spec
            .gateway
            .as_ref()
            .map(|spec| route(spec, &name, defaults))
            .transpose()?,
        host_conflict: None,
        deletion_policy: spec.deletion_policy.unwrap_or_default(),
        name,
    })
}

/// The Secret with the broker's administrator.
fn broker(chat_room: &ChatRoom, defaults: &Defaults) -> Option<SecretRef> {
    let named = chat_room.spec.broker.as_ref();
    let own = named
        .and_then(|broker| broker.secret_name.clone())
        .map(|name| SecretRef {
            namespace: chat_room.namespace().unwrap_or_default(),
            name,
        });
    own.or_else(|| defaults.broker_secret.clone())
}

fn log_replicas(spec: Option<&crd::Broker>) -> Result<u32, Invalid> {
    let replicas = spec.and_then(|spec| spec.replicas);
    match replicas.unwrap_or(LOG_REPLICAS.default) {
        count if (LOG_REPLICAS.min..=LOG_REPLICAS.max).contains(&count) => Ok(count),
        count => Err(Invalid::LogReplicas(count)),
    }
}

fn retention(spec: Option<&crd::Retention>) -> Result<Retention, Invalid> {
    let max_age = spec.and_then(|spec| spec.max_age.clone());
    if let Some(age) = &max_age
        && !is_age(age)
    {
        return Err(Invalid::MaxAge(age.clone()));
    }
    let max_bytes = match spec.and_then(|spec| spec.max_bytes.as_ref()) {
        None => DEFAULT_RETENTION_BYTES,
        Some(text) => {
            bytes(&text.to_string()).ok_or_else(|| Invalid::MaxBytes(text.to_string()))?
        }
    };
    Ok(Retention { max_age, max_bytes })
}

/// RabbitMQ's age: a number of at most six digits and a unit.
fn is_age(text: &str) -> bool {
    let Some(number) = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']) else {
        return false;
    };
    (1..=6).contains(&number.len())
        && !number.starts_with('0')
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// A size within the bounds, in bytes.
fn bytes(text: &str) -> Option<u64> {
    quantity::bytes(text)
        .filter(|bytes| (MIN_RETENTION_BYTES..=MAX_RETENTION_BYTES).contains(bytes))
}

fn pods(chat_room: &ChatRoom, defaults: &Defaults) -> Result<Pods, Invalid> {
    let spec = &chat_room.spec;
    let placement = spec.placement.clone().unwrap_or_default();
    if let Some(class) = &placement.priority_class_name
        && !defaults.allowed.has_priority_class(class)
    {
        return Err(Invalid::PriorityClass(class.clone()));
    }
    Ok(Pods {
        image: spec
            .image
            .clone()
            .unwrap_or_else(|| defaults.server_image.clone()),
        image_pull_policy: spec.image_pull_policy.or(defaults.server_image_pull_policy),
        image_pull_secrets: defaults.server_image_pull_secrets.clone(),
        resources: spec.resources.clone().unwrap_or_default(),
        placement,
        trusted_proxies: defaults.server_trusted_proxies.clone(),
        hsts_max_age: defaults.server_hsts_max_age,
        log_filter: log_filter(spec.log_filter.as_deref())?
            .unwrap_or(&defaults.server_log_filter)
            .to_owned(),
    })
}

/// The filter of a spec, if the servers would start with it.
fn log_filter(spec: Option<&str>) -> Result<Option<&str>, Invalid> {
    let is_valid =
        |text: &str| text.len() <= LOG_FILTER_LENGTH_MAX && papo_telemetry::is_log_filter(text);
    match spec {
        Some(text) if !is_valid(text) => Err(Invalid::LogFilter(text.to_owned())),
        valid => Ok(valid),
    }
}

fn network(settings: &config::Network) -> Network {
    let egress = &settings.server_egress_rules.0;
    Network {
        metrics_from: settings.server_metrics_from.0.clone(),
        egress: (!settings.server_open_egress).then(|| egress.clone()),
    }
}

/// The host of a room that names none; `None` without a default domain. One label stands for name and namespace, so that a wildcard certificate
/// of the domain is valid for all rooms. Two rooms can have the same (`a-b` in `c`, and `a` in `b-c`): then the younger one gets none.
fn default_host(name: &RoomName, defaults: &Defaults) -> Result<Option<String>, Invalid> {
    let Some(domain) = &defaults.domain else {
        return Ok(None);
    };
    let label = format!("{}-{}", name.name(), name.namespace());
    if label.len() > LABEL_MAX {
        return Err(Invalid::LongHost(label));
    }
    Ok(Some(format!("{label}.{domain}")))
}

/// The hosts and paths that a room's spec asks for, whether the rest of it is valid or not.
pub fn addresses_of(chat_room: &ChatRoom, defaults: &Defaults) -> BTreeSet<HostPath> {
    let namespace = chat_room.namespace().unwrap_or_default();
    let name = RoomName::new(&namespace, &chat_room.name_any());
    let default = name
        .ok()
        .and_then(|name| default_host(&name, defaults).ok()?);
    let spec = &chat_room.spec;
    let mut addresses = BTreeSet::new();
    let mut add = |path: Option<&str>, hosts: &mut dyn Iterator<Item = &String>| {
        // A path that is invalid is one that nobody has.
        if let Ok(path) = serving::path("path", path) {
            addresses.extend(hosts.map(|host| HostPath {
                host: host.clone(),
                path: path.clone(),
            }));
        }
    };
    if let Some(ingress) = &spec.ingress {
        let host = ingress.host.as_ref().or(default.as_ref());
        add(ingress.path.as_deref(), &mut host.into_iter());
    }
    if let Some(gateway) = &spec.gateway {
        let path = gateway.path.as_deref();
        match &gateway.hostnames {
            Some(named) => add(path, &mut named.iter()),
            None => add(path, &mut default.iter()),
        }
    }
    addresses
}

fn ingress(spec: &crd::Ingress, name: &RoomName, defaults: &Defaults) -> Result<Ingress, Invalid> {
    let host = match &spec.host {
        Some(host) => Some(host.clone()),
        None => default_host(name, defaults)?,
    };
    Ok(Ingress {
        host: host.ok_or(Invalid::NoHost)?,
        class_name: spec
            .class_name
            .clone()
            .or_else(|| defaults.ingress_class.clone()),
        annotations: annotations(spec, defaults)?,
        tls_secret_name: spec
            .tls_secret_name
            .clone()
            .or_else(|| defaults.ingress_tls_secret.clone()),
    })
}

/// The operator's annotations, and those of the room, as far as rooms may set them.
fn annotations(
    spec: &crd::Ingress,
    defaults: &Defaults,
) -> Result<BTreeMap<String, String>, Invalid> {
    let mut annotations = defaults.ingress_annotations.0.clone();
    for (key, value) in spec.annotations.iter().flatten() {
        let is_default = annotations.get(key) == Some(value);
        if !is_default && !defaults.allowed.has_ingress_annotation(key) {
            return Err(Invalid::Annotation(key.clone()));
        }
        annotations.insert(key.clone(), value.clone());
    }
    Ok(annotations)
}

fn route(spec: &crd::Gateway, name: &RoomName, defaults: &Defaults) -> Result<Route, Invalid> {
    let parents = spec
        .parent_refs
        .clone()
        .unwrap_or_else(|| defaults.gateway_parent_refs.0.clone());
    if parents.is_empty() {
        return Err(Invalid::NoParent);
    }
    let hostnames = match &spec.hostnames {
        Some(hostnames) => hostnames.clone(),
        None => default_host(name, defaults)?.into_iter().collect(),
    };
    Ok(Route { parents, hostnames })
}

#[cfg(test)]
mod tests {
    use papo_protocol::Limits;
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Allowed, crd::ChatRoomSpec};

    fn defaults() -> Defaults {
        Defaults {
            server_image: "papo-server".to_owned(),
            broker_secret: Some("papo/broker".parse().expect("valid")),
            ..Defaults::default()
        }
    }

    fn chat_room(name: &str, spec: ChatRoomSpec) -> ChatRoom {
        let mut room = ChatRoom::new(name, spec);
        room.metadata.namespace = Some("team".to_owned());
        room.metadata.uid = Some("u-1".to_owned());
        room
    }

    #[test]
    fn empty_spec_gets_every_default() {
        let room =
            validate(&chat_room("geral", ChatRoomSpec::default()), &defaults()).expect("valid");
        assert_eq!(room.limits, Limits::default());
        assert_eq!(room.retention.max_bytes, 100_000_000);
        assert_eq!(room.broker.to_string(), "papo/broker");
        assert_eq!((room.ingress, room.route), (None, None));
    }

    #[test]
    fn sizes_outside_the_bounds_are_invalid() {
        for (text, expected) in [
            ("1M", Some(1_000_000)),
            ("1024Ti", Some(1 << 50)),
            ("1Pi", Some(1 << 50)),
            ("999999", None),
            ("1k", None),
            ("1025Ti", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ages_have_the_format_of_rabbitmq() {
        for text in ["7D", "1Y", "90s", "999999h"] {
            assert!(is_age(text), "{text:?}");
        }
        for text in ["", "D", "7", "7d", "0D", "7 D", "1234567s", "7é", "+7D"] {
            assert!(!is_age(text), "{text:?}");
        }
    }

    #[test]
    fn title_with_a_null_character_is_invalid() {
        let spec = ChatRoomSpec {
            title: Some("a\0b".to_owned()),
            ..ChatRoomSpec::default()
        };
        let room = chat_room("geral", spec);
        assert_eq!(validate(&room, &defaults()), Err(Invalid::Title));
    }

    #[test]
    fn ingress_without_a_host_needs_a_default_domain() {
        let spec = ChatRoomSpec {
            ingress: Some(crd::Ingress::default()),
            ..ChatRoomSpec::default()
        };
        let room = chat_room("geral", spec);
        assert_eq!(validate(&room, &defaults()), Err(Invalid::NoHost));
        let with_domain = Defaults {
            domain: Some("chat.example".to_owned()),
            ..defaults()
        };
        let ingress = validate(&room, &with_domain)
            .expect("valid")
            .ingress
            .expect("asked for");
        assert_eq!(ingress.host, "geral-team.chat.example");
    }

    #[test]
    fn room_without_any_broker_is_invalid() {
        let none = Defaults::default();
        assert_eq!(
            validate(&chat_room("geral", ChatRoomSpec::default()), &none),
            Err(Invalid::NoBroker)
        );
    }

    fn with_annotation(key: &str, value: &str) -> ChatRoomSpec {
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        ChatRoomSpec {
            ingress: Some(crd::Ingress {
                host: Some("a.example".to_owned()),
                annotations: Some(annotations),
                ..crd::Ingress::default()
            }),
            ..ChatRoomSpec::default()
        }
    }

    #[test]
    fn only_allowed_annotations_are_valid() {
        let defaults = Defaults {
            ingress_annotations: r#"{"chart/own": "1"}"#.parse().expect("JSON"),
            allowed: Allowed {
                ingress_annotations: vec!["good/one".to_owned(), "all/*".to_owned()],
                ..Allowed::default()
            },
            ..defaults()
        };
        let annotations = |key, value| {
            let room = chat_room("geral", with_annotation(key, value));
            validate(&room, &defaults).map(|room| room.ingress.expect("asked for").annotations)
        };
        for (key, value) in [("good/one", "x"), ("all/two", "x"), ("chart/own", "1")] {
            let annotations = annotations(key, value).expect("allowed");
            assert_eq!(annotations.get(key).map(String::as_str), Some(value));
            assert_eq!(annotations.get("chart/own").map(String::as_str), Some("1"));
        }
        for (key, value) in [("bad/snippet", "x"), ("chart/own", "2")] {
            let invalid = annotations(key, value).expect_err("not allowed");
            assert_eq!(invalid, Invalid::Annotation(key.to_owned()));
            assert!(
                invalid
                    .to_string()
                    .contains("operator.allowedIngressAnnotations"),
                "{invalid}"
            );
        }
    }

    #[test]
    fn only_allowed_priority_classes_are_valid() {
        let defaults = Defaults {
            allowed: Allowed {
                priority_classes: vec!["chat".to_owned()],
                ..Allowed::default()
            },
            ..defaults()
        };
        for (class, is_valid) in [("chat", true), ("system-cluster-critical", false)] {
            let placement = crd::Placement {
                priority_class_name: Some(class.to_owned()),
                ..crd::Placement::default()
            };
            let spec = ChatRoomSpec {
                placement: Some(placement),
                ..ChatRoomSpec::default()
            };
            let valid = validate(&chat_room("geral", spec), &defaults);
            assert_eq!(valid.is_ok(), is_valid, "{class}: {valid:?}");
        }
    }

    #[test]
    fn default_host_that_is_no_label_is_invalid() {
        let mut room = chat_room(
            &"a".repeat(45),
            ChatRoomSpec {
                ingress: Some(crd::Ingress::default()),
                ..ChatRoomSpec::default()
            },
        );
        room.metadata.namespace = Some("n".repeat(18));
        let with_domain = Defaults {
            domain: Some("chat.example".to_owned()),
            ..defaults()
        };
        let invalid = validate(&room, &with_domain).expect_err("64 characters");
        assert!(matches!(invalid, Invalid::LongHost(_)), "{invalid}");
        room.metadata.namespace = Some("n".repeat(17));
        assert!(validate(&room, &with_domain).is_ok());
    }

    proptest! {
        #[test]
        fn every_spec_is_invalid_or_safe_to_build_from(
            name in "\\PC{0,60}|[a-z0-9-]{0,300}|amq\\..{0,9}",
            replicas in any::<i32>(),
            max_age in proptest::option::of("\\PC{0,9}"),
            max_bytes in proptest::option::of("\\PC{0,9}|[0-9]{0,25}(k|M|G|T|Ki|Mi|Gi|Ti)?"),
            message_length in proptest::option::of(any::<u32>()),
            frame_size in proptest::option::of(any::<u32>()),
        ) {
            let limits = crd::Limits { message_length, frame_size, ..crd::Limits::default() };
            let retention = crd::Retention { max_age, max_bytes: max_bytes.map(crd::IntOrText::Text) };
            let spec = ChatRoomSpec { replicas, limits: Some(limits), retention: Some(retention), ..ChatRoomSpec::default() };
            if let Ok(room) = validate(&chat_room(&name, spec), &defaults()) {
                prop_assert!(room.name.name().len() <= RoomName::MAX_NAME && room.name.name().is_ascii());
                prop_assert!(room.replicas >= 0);
                prop_assert!(room.retention.max_bytes >= MIN_RETENTION_BYTES);
                prop_assert!(u64::from(room.limits.frame_size) >= 4 * u64::from(room.limits.message_length));
            }
        }
    }
}
