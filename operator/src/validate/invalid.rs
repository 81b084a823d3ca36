//! Why a room is not valid.

use papo_protocol::{BasePath, InvalidBasePath, InvalidOrigin, InvalidRoomName, limits};

use super::access::InvalidAccess;

/// Why a room is not valid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// The name cannot be part of the names of the room's objects.
    #[error("metadata.name: {0}")]
    Name(#[from] InvalidRoomName),
    /// Not an object that the API server has stored.
    #[error("metadata.uid is missing")]
    Uid,
    /// A title that cannot be an environment variable.
    #[error("spec.title contains the character U+0000")]
    Title,
    /// Not a number of nodes that a log can be on.
    #[error("spec.broker.replicas is {0}; it must be from {min} to {max}", min = limits::LOG_REPLICAS.min, max = limits::LOG_REPLICAS.max)]
    LogReplicas(u32),
    /// A negative number of servers.
    #[error("spec.replicas is {0}, which is less than zero")]
    Replicas(i32),
    /// Not an age that RabbitMQ accepts.
    #[error(
        "spec.retention.maxAge is {0:?}; it is a number and one of Y, M, D, h, m, s, such as 7D"
    )]
    MaxAge(String),
    /// Not a size, or one that is too small or too large.
    #[error(
        "spec.retention.maxBytes is {0:?}; it is a number of bytes between 1M and 1Pi, such as 500M or 2Gi"
    )]
    MaxBytes(String),
    /// A number with which the server would not start.
    #[error("spec.{field} is {value}; it must be between {min} and {max}")]
    Limit {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The smallest value.
        min: u32,
        /// The largest value.
        max: u32,
    },
    /// Not a path that a room can have.
    #[error("spec.{field}: {problem}")]
    Path {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: InvalidBasePath,
    },
    /// Two routes with different paths.
    #[error(
        "spec.ingress.path is {0} and spec.gateway.path is {1}; they must be the same, because the servers of a room serve one path"
    )]
    Paths(BasePath, BasePath),
    /// Too many origins.
    #[error("spec.allowedOrigins has {0} origins; it may have {max}", max = limits::ALLOWED_ORIGINS_MAX)]
    Origins(usize),
    /// An origin that is too long.
    #[error("spec.allowedOrigins has an origin of {0} characters; it may have {max}", max = limits::ORIGIN_LENGTH_MAX)]
    OriginLength(usize),
    /// Not an origin.
    #[error("spec.allowedOrigins has {text:?}: {problem}; or * for any")]
    Origin {
        /// What it says.
        text: String,
        /// What is wrong with it.
        problem: InvalidOrigin,
    },
    /// Rules of access that the servers would not take.
    #[error("spec.access: {0}")]
    Access(#[from] InvalidAccess),
    /// A log filter with which the server would not start, or one of spans and fields.
    #[error(
        "spec.logFilter is {0:?}; it is a level, or levels of targets, such as info or papo_server=debug,warn"
    )]
    LogFilter(String),
    /// Neither the room nor the operator names a broker.
    #[error("spec.broker is needed: the operator has no default broker")]
    NoBroker,
    /// Neither the room nor the operator names a host.
    #[error("spec.ingress.host is needed: the operator has no default domain")]
    NoHost,
    /// The default host would have a label that no host name can have.
    #[error(
        "spec.ingress.host or spec.gateway.hostnames is needed: the default host would begin with {0}, which is longer than 63 characters"
    )]
    LongHost(String),
    /// An annotation that rooms may not set.
    #[error(
        "spec.ingress.annotations has the key {0}, which rooms may not set; the chart's value operator.allowedIngressAnnotations (--allow-ingress-annotation) lists those that they may"
    )]
    Annotation(String),
    /// A priority class that rooms may not have.
    #[error(
        "spec.placement.priorityClassName is {0}, which rooms may not have; the chart's value operator.allowedPriorityClasses (--allow-priority-class) lists those that they may"
    )]
    PriorityClass(String),
    /// Fields that this operator cannot read.
    #[error(
        "this operator cannot read {0}; correct it, or install the operator of the version that it was written for"
    )]
    Unreadable(String),
    /// Neither the room nor the operator names a Gateway.
    #[error("spec.gateway.parentRefs is needed: the operator has no default Gateway")]
    NoParent,
}
