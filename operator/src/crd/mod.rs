//! The `ChatRoom` resource, `papo.chat/v1alpha1`: what users write and what they read back.
//!
//! Doc comments here are what `kubectl explain` shows. Every string, list and number is bounded in the schema, and what the schema
//! cannot say is a CEL rule, so that the API server rejects an invalid room. `papo-operator crd` prints the definition.

#![expect(
    unreachable_pub,
    reason = "KubeSchema derives from a hidden copy of each struct, which is public and out of reach"
)]

mod access;
mod definition;
mod pods;
mod route;
mod schema;
mod status;
mod stored;

use kube::{CustomResource, KubeSchema};
use papo_protocol::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{Access, Claims, Denied, Guests, Issuer, SignIn, SignInToken};
pub use definition::definition;
pub use pods::{ImagePullPolicy, Placement, Resources};
pub use route::{Gateway, Ingress, ParentRef};
pub use schema::IntOrText;
pub use status::{ChatRoomStatus, LogReplicas, condition};
pub use stored::{StoredRoom, Unreadable};

/// The plural and group under which the API server knows the resource.
pub const CRD_NAME: &str = "chatrooms.papo.chat";

/// What a chat room should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "papo.chat",
    version = "v1alpha1",
    kind = "ChatRoom",
    namespaced,
    status = "ChatRoomStatus",
    derive = "PartialEq",
    doc = "A chat room: a page, the servers behind it, and a durable log of messages on RabbitMQ.",
    shortname = "chat",
    category = "all",
    category = "papo",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Epoch", type_ = "string", json_path = ".status.epoch", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 45 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label (a-z, 0-9, '-') of at most 45 characters, because everything of the room is named after it"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.epoch) || (has(self.spec.broker) && has(self.spec.broker.secretName) ? self.spec.broker.secretName : '') == (has(oldSelf.spec.broker) && has(oldSelf.spec.broker.secretName) ? oldSelf.spec.broker.secretName : '')")
        .message("the broker cannot change once the room has a log, which would stay behind; create another room"),
    validation = Rule::new("!has(self.spec.ingress) || !has(self.spec.gateway) || (has(self.spec.ingress.path) ? self.spec.ingress.path : '/') == (has(self.spec.gateway.path) ? self.spec.gateway.path : '/')")
        .message("spec.ingress.path and spec.gateway.path must be the same: the servers of a room serve one path"),
)]
#[serde(rename_all = "camelCase")]
pub struct ChatRoomSpec {
    /// Heading of the page. The room's name if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub title: Option<String>,
    /// Number of servers. Any of them serves any client; more carry more connections and survive the loss of one.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000))]
    pub replicas: i32,
    /// How much of the past the log keeps. It may change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Bounds on what clients may do. What is left out has the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Origins of web pages that may connect besides the room's own, such as `https://example.com`; `*` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = limits::ALLOWED_ORIGINS_MAX),
        inner(
            length(min = 1, max = limits::ORIGIN_LENGTH_MAX),
            regex(pattern = r"^(\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^\s,/]*/?)$")
        )
    )]
    pub allowed_origins: Option<Vec<String>>,
    /// Accept Socket.IO's long-polling transport, with which clients begin by default; `true` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_polling: Option<bool>,
    /// How long a server that is stopped takes to close its connections, one after another, in seconds; 10 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::DRAIN_PERIOD.min, max = limits::DRAIN_PERIOD.max))]
    pub drain_period: Option<u32>,
    /// What the servers log: a level, or levels of targets, such as `info` or `papo_server=debug,warn`. The operator's default if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = limits::LOG_FILTER_LENGTH_MAX),
        regex(pattern = r"^[A-Za-z0-9_:=,-]+$")
    )]
    pub log_filter: Option<String>,
    /// Who may enter the room, and what they may do there. The operator's default if not given; everybody may read and write without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// RabbitMQ that keeps the log. The operator's default broker if not given. Fixed once the room has a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
    /// Container image of the servers. The operator's default if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When to pull the image. The operator's default if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// CPU and memory of each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the servers may run. Spread over nodes and zones if nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Publish the room through an Ingress. `{}` takes everything from the operator's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// Publish the room through an HTTPRoute of the Gateway API. `{}` takes everything from the operator's defaults. May stand beside `ingress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// What happens to the log when the room is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Leave everything as it is: the operator changes nothing of this room until this is false again. Deletion still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

fn one() -> i32 {
    1
}

/// How much of the past a log keeps: whichever bound is met first removes the oldest messages, a segment (about 1 MB) at a time.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Oldest message to keep: a number and a unit, which is Y, M, D, h, m or s (year, month, day, hour, minute, second), such as `7D`. No
    /// bound if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]{0,5}[YMDhms]$"))]
    pub max_age: Option<String>,
    /// Size of the log: bytes, as a number or a quantity such as `500M` or `2Gi`. At least 1M; 100M if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::byte_quantity")]
    pub max_bytes: Option<IntOrText>,
}

/// Bounds on what clients may do.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(frame_rule())
        .message(Message::Message(frame_message()))
)]
pub struct Limits {
    /// Longest message, in Unicode characters; 4000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::MESSAGE_LENGTH.min, max = limits::MESSAGE_LENGTH.max))]
    pub message_length: Option<u32>,
    /// Longest user name, in Unicode characters; 40 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::NAME_LENGTH.min, max = limits::NAME_LENGTH.max))]
    pub name_length: Option<u32>,
    /// Messages per second that one sender may send on average; 10 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::MESSAGES_PER_SECOND.min, max = limits::MESSAGES_PER_SECOND.max))]
    pub messages_per_second: Option<u32>,
    /// Messages that one sender may send at once before the average counts; 30 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::MESSAGE_BURST.min, max = limits::MESSAGE_BURST.max))]
    pub message_burst: Option<u32>,
    /// Requests for history per second that one sender may make on average; 2 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::HISTORY_PER_SECOND.min, max = limits::HISTORY_PER_SECOND.max))]
    pub history_per_second: Option<u32>,
    /// Requests for history that one sender may make at once before the average counts; 10 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::HISTORY_BURST.min, max = limits::HISTORY_BURST.max))]
    pub history_burst: Option<u32>,
    /// Largest frame a client may send, in bytes; 65536 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::FRAME_SIZE.min, max = limits::FRAME_SIZE.max))]
    pub frame_size: Option<u32>,
    /// Connections that one server accepts; 10000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::CONNECTIONS.min, max = limits::CONNECTIONS.max))]
    pub connections: Option<u32>,
    /// Messages in a page of history whose request names no number, and in the first one that a client gets; 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::HISTORY_PAGE.min, max = limits::HISTORY_PAGE.max))]
    pub history_page: Option<u32>,
    /// How long a connection that reads nothing is kept before the server closes it, in seconds; 15 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::SLOW_READER_TIMEOUT.min, max = limits::SLOW_READER_TIMEOUT.max))]
    pub slow_reader_timeout: Option<u32>,
    /// Bounds on what all clients of one address may do together, on each server. Many people may share an address (NAT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressLimits>,
}

/// Bounds on what all clients of one address may do together, on each server. IPv6 addresses count by /64 network.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressLimits {
    /// Messages per second that one address may send on average; 100 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_MESSAGES_PER_SECOND.min, max = limits::ADDRESS_MESSAGES_PER_SECOND.max))]
    pub messages_per_second: Option<u32>,
    /// Messages that one address may send at once before the average counts; 300 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_MESSAGE_BURST.min, max = limits::ADDRESS_MESSAGE_BURST.max))]
    pub message_burst: Option<u32>,
    /// Bytes of message texts per second that one address may send on average; 65536 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_BYTES_PER_SECOND.min, max = limits::ADDRESS_BYTES_PER_SECOND.max))]
    pub bytes_per_second: Option<u32>,
    /// Bytes of message texts that one address may send at once before the average counts; 1048576 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_BYTE_BURST.min, max = limits::ADDRESS_BYTE_BURST.max))]
    pub byte_burst: Option<u32>,
    /// Connections that one address may have; a tenth of `connections`, but at least 20, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_CONNECTIONS.min, max = limits::ADDRESS_CONNECTIONS.max))]
    pub connections: Option<u32>,
    /// New connections per second that one address may open on average; 20 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_CONNECTS_PER_SECOND.min, max = limits::ADDRESS_CONNECTS_PER_SECOND.max))]
    pub connects_per_second: Option<u32>,
    /// New connections that one address may open at once before the average counts; 200 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::ADDRESS_CONNECT_BURST.min, max = limits::ADDRESS_CONNECT_BURST.max))]
    pub connect_burst: Option<u32>,
}

/// The CEL rule that a frame holds the longest message.
fn frame_rule() -> String {
    format!(
        "(has(self.frameSize) ? self.frameSize : {}) >= 4 * (has(self.messageLength) ? self.messageLength : {})",
        limits::FRAME_SIZE.default,
        limits::MESSAGE_LENGTH.default
    )
}

fn frame_message() -> String {
    format!(
        "frameSize ({} if not given) must be at least four times messageLength: a character takes up to 4 bytes",
        limits::FRAME_SIZE.default
    )
}

/// Which RabbitMQ keeps the log, and on how many of its nodes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    /// Secret in the room's namespace with an administrator of the broker, in the keys of RabbitMQ's Cluster Operator: `username`, `password`,
    /// `host`, and optionally `port` (AMQP), `managementPort`, `vhost`, `tls` (`true` or `false`), `ca.crt` (PEM), and `nodes`, the hosts of a
    /// cluster's nodes, separated by commas. The servers never see it: each room gets a broker user of its own. The operator's default broker
    /// if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub secret_name: Option<String>,
    /// On how many nodes of the broker the log is kept, if there are as many; 3 if not given. A log that exists gets more of them only by the
    /// command that the condition `BrokerReady` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::LOG_REPLICAS.min, max = limits::LOG_REPLICAS.max))]
    pub replicas: Option<u32>,
}

/// What happens to the log when the room is deleted: `Delete` (if not given) removes it with everything else; `Retain` leaves it on the broker,
/// and a room created with the same namespace and name continues it.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// It is removed from the broker.
    #[default]
    Delete,
    /// It stays, for a room of the same name to continue.
    Retain,
}
