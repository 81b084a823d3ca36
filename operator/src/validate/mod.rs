//! From what users write to what the operator works with: the only place that reads a raw spec, and the only source of [`Invalid`].
//!
//! The API server's schema has rejected most mistakes already. These checks also hold for rooms that were stored while an older schema was
//! installed.

mod invalid;
mod limits;
mod room;

use kube::{Resource, ResourceExt};
use papo_protocol::{
    RoomName,
    limits::{DEFAULT_RETENTION_BYTES, MAX_RETENTION_BYTES, MIN_RETENTION_BYTES},
};

use crate::{
    config::{Defaults, SecretRef},
    crd::{self, ChatRoom},
    quantity,
};

pub use invalid::Invalid;
use limits::limits;
pub use room::{Ingress, Pods, Retention, Room, Route};

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
        limits: limits(spec.limits.as_ref())?,
        broker: broker(chat_room, defaults).ok_or(Invalid::NoBroker)?,
        pods: pods(chat_room, defaults),
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
        deletion_policy: spec.deletion_policy.unwrap_or_default(),
        name,
    })
}

/// The Secret with the broker's administrator.
fn broker(chat_room: &ChatRoom, defaults: &Defaults) -> Option<SecretRef> {
    let own = chat_room.spec.broker.as_ref().map(|broker| SecretRef {
        namespace: chat_room.namespace().unwrap_or_default(),
        name: broker.secret_name.clone(),
    });
    own.or_else(|| defaults.broker_secret.clone())
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

fn pods(chat_room: &ChatRoom, defaults: &Defaults) -> Pods {
    let spec = &chat_room.spec;
    Pods {
        image: spec
            .image
            .clone()
            .unwrap_or_else(|| defaults.server_image.clone()),
        image_pull_policy: spec.image_pull_policy.or(defaults.server_image_pull_policy),
        image_pull_secrets: defaults.server_image_pull_secrets.clone(),
        resources: spec.resources.clone().unwrap_or_default(),
        placement: spec.placement.clone().unwrap_or_default(),
        trusted_proxies: defaults.server_trusted_proxies.clone(),
        log_filter: defaults.server_log_filter.clone(),
    }
}

fn default_host(name: &RoomName, defaults: &Defaults) -> Option<String> {
    let domain = defaults.domain.as_ref()?;
    Some(format!("{}.{domain}", name.name()))
}

fn ingress(spec: &crd::Ingress, name: &RoomName, defaults: &Defaults) -> Result<Ingress, Invalid> {
    let mut annotations = defaults.ingress_annotations.0.clone();
    annotations.extend(spec.annotations.clone().unwrap_or_default());
    let host = spec.host.clone().or_else(|| default_host(name, defaults));
    Ok(Ingress {
        host: host.ok_or(Invalid::NoHost)?,
        class_name: spec
            .class_name
            .clone()
            .or_else(|| defaults.ingress_class.clone()),
        annotations,
        tls_secret_name: spec
            .tls_secret_name
            .clone()
            .or_else(|| defaults.ingress_tls_secret.clone()),
    })
}

fn route(spec: &crd::Gateway, name: &RoomName, defaults: &Defaults) -> Result<Route, Invalid> {
    let parents = spec
        .parent_refs
        .clone()
        .unwrap_or_else(|| defaults.gateway_parent_refs.0.clone());
    if parents.is_empty() {
        return Err(Invalid::NoParent);
    }
    let hostnames = spec
        .hostnames
        .clone()
        .unwrap_or_else(|| default_host(name, defaults).into_iter().collect());
    Ok(Route { parents, hostnames })
}

#[cfg(test)]
mod tests {
    use papo_protocol::Limits;
    use proptest::prelude::*;

    use super::*;
    use crate::crd::ChatRoomSpec;

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
        assert_eq!(ingress.host, "geral.chat.example");
    }

    #[test]
    fn room_without_any_broker_is_invalid() {
        let none = Defaults::default();
        assert_eq!(
            validate(&chat_room("geral", ChatRoomSpec::default()), &none),
            Err(Invalid::NoBroker)
        );
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
