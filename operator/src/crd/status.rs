//! A room's status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use papo_protocol::BasePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Types of conditions.
pub mod condition {
    /// The room is as its spec says: none of the others is false.
    pub const READY: &str = "Ready";
    /// The spec is one the operator can follow.
    pub const ACCEPTED: &str = "Accepted";
    /// Exchange, log and user are on the broker as they should be.
    pub const BROKER_READY: &str = "BrokerReady";
    /// The servers and what they need are as they should be in the cluster, and as many servers as the spec asks for are available.
    pub const AVAILABLE: &str = "Available";
    /// All servers are of the latest spec. While it is false, older ones may go on serving.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// The ingress controller serves the room's Ingress, and the Gateway has accepted its HTTPRoute. Missing if the room has neither. Unknown
    /// as long as neither reports anything, which does not keep the room from being `Ready`: some ingress controllers never do.
    pub const ROUTE_ACCEPTED: &str = "RouteAccepted";
}

/// The state of a chat room.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatRoomStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` sums up; `Accepted`, `BrokerReady`, `Available`, `UpToDate` and `RouteAccepted` say what is missing, in the words of the API server or the Gateway where they have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Where the room is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// Hosts that the room has, each with the room's path if it is not `/`. No other room gets them as long as this one asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(max = 253 + BasePath::MAX_LENGTH)))]
    pub hosts: Vec<String>,
    /// Servers that exist, ready or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Servers that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Selector of the servers' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Epoch of the log that the servers use. It changes when the log was lost and created again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub epoch: Option<String>,
    /// On how many nodes of the broker the log is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_replicas: Option<LogReplicas>,
}

/// On how many nodes of the broker a log is, in RabbitMQ's terms.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogReplicas {
    /// Nodes that it should be on: `spec.broker.replicas`, or as many as the broker has.
    pub desired: u32,
    /// Nodes that have a replica of it.
    pub members: u32,
    /// Nodes whose replica runs, and follows its leader.
    pub online: u32,
}
