//! From what users wrote to what the operator works with: the only place that reads a raw spec, and the only source of [`Invalid`].
//!
//! The API server's schema has refused most mistakes already; this holds also for rooms written while an older schema was installed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use papo_protocol::{InvalidRoomName, Limits, RoomName, topology};

use crate::{
    config::{Defaults, SecretRef},
    crd::{self, ChatRoom, DeletionPolicy, ImagePullPolicy, ParentRef, Placement, Resources},
};

/// A room whose spec holds together, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    /// The identity of the resource: a room that is deleted and made again has another.
    pub uid: String,
    /// What makes its children go with it.
    pub owner: OwnerReference,
    /// Heading of the page.
    pub title: Option<String>,
    /// Wanted servers.
    pub replicas: i32,
    /// Age and size its log may reach.
    pub retention: Retention,
    /// Limits of its clients.
    pub limits: Limits,
    /// Where to find the broker's administrator.
    pub broker: SecretRef,
    /// What its pods are made of.
    pub pods: Pods,
    /// Its Ingress, if it wants one.
    pub ingress: Option<Ingress>,
    /// Its HTTPRoute, if it wants one.
    pub route: Option<Route>,
    /// What becomes of its log in the end.
    pub deletion_policy: DeletionPolicy,
}

/// How much of the past a log keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// RabbitMQ's `max-age`.
    pub max_age: Option<String>,
    /// RabbitMQ's `max-length-bytes`.
    pub max_bytes: u64,
}

/// What a room's pods are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// Image of the server.
    pub image: String,
    /// When it is pulled; Kubernetes decides by its tag if `None`.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets to pull it with.
    pub image_pull_secrets: Vec<String>,
    /// CPU and memory.
    pub resources: Resources,
    /// Where they may run.
    pub placement: Placement,
    /// What they log, in tracing's filter syntax.
    pub log: String,
}

/// An Ingress to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Its host.
    pub host: String,
    /// Its class; the cluster's default if `None`.
    pub class_name: Option<String>,
    /// Its annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Secret with its certificate; no TLS if `None`.
    pub tls_secret_name: Option<String>,
}

/// An HTTPRoute to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Gateways to attach to; at least one.
    pub parents: Vec<ParentRef>,
    /// Hosts; every host of the listener if empty.
    pub hostnames: Vec<String>,
}

/// What a spec got wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// The name cannot stand in what is named after it.
    #[error("metadata.name: {0}")]
    Name(#[from] InvalidRoomName),
    /// Not an object the API server has stored.
    #[error("metadata.uid is missing")]
    Uid,
    /// A title that no program can be given.
    #[error("spec.title contains the character U+0000")]
    Title,
    /// A negative number of servers.
    #[error("spec.replicas is {0}, which is less than zero")]
    Replicas(i32),
    /// Not an age RabbitMQ understands.
    #[error(
        "spec.retention.maxAge is {0:?}; it is a number and one of Y, M, D, h, m, s, such as 7D"
    )]
    MaxAge(String),
    /// Not a size, or too small or large a one.
    #[error(
        "spec.retention.maxBytes is {0:?}; it is a number of bytes between 1M and 1Pi, such as 500M or 2Gi"
    )]
    MaxBytes(String),
    /// A limit the server would refuse to start with.
    #[error("spec.limits.{field} is {value}; it must be between {min} and {max}")]
    Limit {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The least.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// No broker named anywhere.
    #[error("spec.broker is needed: the operator has no default broker")]
    NoBroker,
    /// No host named anywhere.
    #[error("spec.ingress.host is needed: the operator has no default domain")]
    NoHost,
    /// No Gateway named anywhere.
    #[error("spec.gateway.parentRefs is needed: the operator has no default Gateway")]
    NoParent,
}

/// Checks a room and fills in what it leaves to the operator's defaults.
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
            .map(|wish| ingress(wish, &name, defaults))
            .transpose()?,
        route: spec
            .gateway
            .as_ref()
            .map(|wish| route(wish, &name, defaults))
            .transpose()?,
        deletion_policy: spec.deletion_policy.unwrap_or_default(),
        name,
    })
}

/// The Secret with the broker's administrator. Deletion asks this of rooms whose spec is wrong otherwise, too.
pub fn broker(chat_room: &ChatRoom, defaults: &Defaults) -> Option<SecretRef> {
    let own = chat_room.spec.broker.as_ref().map(|broker| SecretRef {
        namespace: chat_room.namespace().unwrap_or_default(),
        name: broker.secret_name.clone(),
    });
    own.or_else(|| defaults.broker_secret.clone())
}

fn retention(wish: Option<&crd::Retention>) -> Result<Retention, Invalid> {
    let max_age = wish.and_then(|wish| wish.max_age.clone());
    if let Some(age) = &max_age
        && !is_age(age)
    {
        return Err(Invalid::MaxAge(age.clone()));
    }
    let max_bytes = match wish.and_then(|wish| wish.max_bytes.as_ref()) {
        None => papo_protocol::Launch::default().retention_bytes,
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

/// A whole number of bytes with one of Kubernetes' suffixes, within the bounds of the schema.
fn bytes(text: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (number, unit) = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (topology::SEGMENT_BYTES..=1 << 50)
        .contains(&bytes)
        .then_some(bytes)
}

/// The server's own bounds, which the schema repeats for whoever writes a room.
fn limits(wish: Option<&crd::Limits>) -> Result<Limits, Invalid> {
    let crd::Limits {
        message_length,
        name_length,
        messages_per_second,
        message_burst,
        frame_size,
        connections,
    } = wish.cloned().unwrap_or_default();
    let default = Limits::default();
    let within = |field, wish: Option<u32>, default, min, max| match wish {
        None => Ok(default),
        Some(value) if (min..=max).contains(&value) => Ok(value),
        Some(value) => Err(Invalid::Limit {
            field,
            value,
            min,
            max,
        }),
    };
    let message_length = within(
        "messageLength",
        message_length,
        default.message_length,
        1,
        65_536,
    )?;
    Ok(Limits {
        message_length,
        name_length: within("nameLength", name_length, default.name_length, 1, 256)?,
        messages_per_second: within(
            "messagesPerSecond",
            messages_per_second,
            default.messages_per_second,
            1,
            100_000,
        )?,
        message_burst: within(
            "messageBurst",
            message_burst,
            default.message_burst,
            1,
            100_000,
        )?,
        // A character takes up to four bytes: a smaller frame could not hold the longest message.
        frame_size: within(
            "frameSize",
            frame_size,
            default.frame_size,
            1_024.max(4 * message_length),
            16_777_216,
        )?,
        connections: within(
            "connections",
            connections,
            default.connections,
            1,
            1_000_000,
        )?,
    })
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
        log: defaults.server_log_filter.clone(),
    }
}

fn default_host(name: &RoomName, defaults: &Defaults) -> Option<String> {
    let domain = defaults.domain.as_ref()?;
    Some(format!("{}.{domain}", name.name()))
}

fn ingress(wish: &crd::Ingress, name: &RoomName, defaults: &Defaults) -> Result<Ingress, Invalid> {
    let mut annotations = defaults.ingress_annotations.0.clone();
    annotations.extend(wish.annotations.clone().unwrap_or_default());
    let host = wish.host.clone().or_else(|| default_host(name, defaults));
    Ok(Ingress {
        host: host.ok_or(Invalid::NoHost)?,
        class_name: wish
            .class_name
            .clone()
            .or_else(|| defaults.ingress_class.clone()),
        annotations,
        tls_secret_name: wish
            .tls_secret_name
            .clone()
            .or_else(|| defaults.ingress_tls_secret.clone()),
    })
}

fn route(wish: &crd::Gateway, name: &RoomName, defaults: &Defaults) -> Result<Route, Invalid> {
    let parents = wish
        .parent_refs
        .clone()
        .unwrap_or_else(|| defaults.gateway_parent_refs.0.clone());
    if parents.is_empty() {
        return Err(Invalid::NoParent);
    }
    let hostnames = wish
        .hostnames
        .clone()
        .unwrap_or_else(|| default_host(name, defaults).into_iter().collect());
    Ok(Route { parents, hostnames })
}

#[cfg(test)]
mod tests {
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
    fn a_room_that_says_nothing_gets_every_default() {
        let room =
            validate(&chat_room("geral", ChatRoomSpec::default()), &defaults()).expect("valid");
        assert_eq!(room.limits, Limits::default());
        assert_eq!(room.retention.max_bytes, 100_000_000);
        assert_eq!(room.broker.to_string(), "papo/broker");
        assert_eq!((room.ingress, room.route), (None, None));
    }

    #[test]
    fn sizes_are_quantities() {
        for (text, expected) in [
            ("1M", Some(1_000_000)),
            ("2Gi", Some(2 << 30)),
            ("1000000", Some(1_000_000)),
            ("1k", None),
            ("", None),
            ("M", None),
            ("-1M", None),
            ("1.5G", None),
            ("99999999999Ti", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ages_are_those_of_rabbitmq() {
        for text in ["7D", "1Y", "90s", "999999h"] {
            assert!(is_age(text), "{text:?}");
        }
        for text in ["", "D", "7", "7d", "0D", "7 D", "1234567s", "7é", "+7D"] {
            assert!(!is_age(text), "{text:?}");
        }
    }

    #[test]
    fn a_title_that_no_program_can_be_given_is_refused() {
        let spec = ChatRoomSpec {
            title: Some("a\0b".to_owned()),
            ..ChatRoomSpec::default()
        };
        let room = chat_room("geral", spec);
        assert_eq!(validate(&room, &defaults()), Err(Invalid::Title));
    }

    #[test]
    fn a_room_published_without_a_host_needs_a_domain() {
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
    fn a_room_without_any_broker_is_refused() {
        let none = Defaults::default();
        assert_eq!(
            validate(&chat_room("geral", ChatRoomSpec::default()), &none),
            Err(Invalid::NoBroker)
        );
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_either_refused_or_safe_to_build_from(
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
                prop_assert!(room.retention.max_bytes >= topology::SEGMENT_BYTES);
                prop_assert!(u64::from(room.limits.frame_size) >= 4 * u64::from(room.limits.message_length));
            }
        }
    }
}
