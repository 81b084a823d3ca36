//! What can go wrong on the broker and in the cluster, each with the reason that a condition gives.

use crate::{
    answer::{self, Answer},
    broker::{BROKER_IDLE, BROKERS, Bound},
    cache::Unwatched,
    config::SecretRef,
};

/// The broker's side.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The room's spec cannot be read where it names its broker.
    #[error("this operator cannot read spec.broker")]
    Unknown,
    /// The broker's Secret is not there.
    #[error("Secret {0} does not exist")]
    NoSecret(SecretRef),
    /// The broker's Secret lacks something.
    #[error("Secret {secret}: {problem}")]
    BadSecret {
        /// Which.
        secret: SecretRef,
        /// What is wrong with it.
        problem: String,
    },
    /// An object is there already, and it is somebody else's or of another kind.
    #[error("{0}")]
    Conflict(String),
    /// The operator has not removed yet what an earlier room of this name has left.
    #[error(
        "an earlier ChatRoom of this name has left objects on the broker, which the operator removes first: {0}"
    )]
    EarlierRoom(String),
    /// The broker did not answer in time. Our words, as in all errors of a broker: its Secret may name any host.
    #[error("{attempt}: {message}")]
    Unreachable {
        /// What was attempted.
        attempt: String,
        /// Why there is no answer.
        message: String,
    },
    /// The broker said no.
    #[error("{attempt}: {message}")]
    Rejected {
        /// What was attempted.
        attempt: String,
        /// The status code, and what it means.
        message: String,
    },
    /// The broker sends more than the operator reads.
    #[error("{attempt}: {bound}")]
    OverBound {
        /// What was attempted.
        attempt: String,
        /// The bound.
        bound: Bound,
    },
    /// Rooms use too many brokers whose Secrets are in one namespace.
    #[error(
        "Secret {0}: rooms use {count} other brokers already whose Secrets are in this namespace, which is the most that the operator connects to; \
         it can use this one {minutes} minutes after the last room on one of the others is deleted or names another Secret",
        count = BROKERS,
        minutes = BROKER_IDLE.as_secs() / 60
    )]
    TooManyBrokers(SecretRef),
    /// Other rooms of brokers of the same namespace take up all that the operator does for it at once.
    #[error(
        "the operator is at work for as many rooms of this namespace's brokers as it may be at once; it tries again"
    )]
    Busy,
    /// The administrator of the operator does not allow this broker.
    #[error(
        "Secret {secret}: rooms may not use the broker {host}; the chart's value operator.allowedBrokerHosts (--allow-broker-host) lists the hosts that they may use"
    )]
    NotAllowed {
        /// The Secret.
        secret: SecretRef,
        /// The host that it names.
        host: String,
    },
    /// The API server, about one of the Secrets.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl BrokerError {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "Invalid",
            Self::NoSecret(_) => "SecretNotFound",
            Self::BadSecret { .. } => "SecretInvalid",
            Self::Conflict(_) => "Conflict",
            Self::EarlierRoom(_) => "EarlierRoom",
            Self::Unreachable { .. } => "BrokerUnreachable",
            Self::Rejected { .. } => "BrokerRejected",
            Self::OverBound { .. } | Self::TooManyBrokers(_) => "BrokerLimitExceeded",
            Self::Busy => "BrokerBusy",
            Self::NotAllowed { .. } => "BrokerNotAllowed",
            Self::Cluster(error) => error.reason(),
        }
    }
}

/// The cluster's side.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name}: {problem}")]
pub struct ClusterError {
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is the matter.
    pub problem: Problem,
}

/// What is the matter with an object in the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The API server said no, or did not answer.
    #[error("{}", answer::message(.0))]
    Api(#[source] Box<kube::Error>),
    /// The name is taken by an object that does not belong to the room.
    #[error("exists and does not belong to this room; it is left as it is")]
    NotOwned,
    /// The kind is not watched: what exists is not known, so nothing is written.
    #[error(transparent)]
    Unwatched(#[from] Unwatched),
}

impl ClusterError {
    /// Whether it is about a route from outside the cluster, without which the servers run all the same.
    pub fn is_about_route(&self) -> bool {
        matches!(self.kind.as_str(), "Ingress" | "HTTPRoute")
    }

    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match &self.problem {
            Problem::NotOwned => "Conflict",
            Problem::Unwatched(Unwatched::KindMissing) => "KindMissing",
            Problem::Unwatched(Unwatched::Forbidden(_)) => "Forbidden",
            Problem::Unwatched(Unwatched::NotListed(_)) => "ApiError",
            Problem::Api(error) => match Answer::of(error) {
                Answer::KindMissing => "KindMissing",
                Answer::Forbidden => "Forbidden",
                Answer::Invalid => "Invalid",
                Answer::NotFound
                | Answer::Conflict
                | Answer::Expired
                | Answer::TooManyRequests
                | Answer::Unavailable => "ApiError",
            },
        }
    }

    /// Whether only a change of the cluster helps, which a watch reports: a retry would fail the same way.
    pub fn waits_for_a_watch(&self) -> bool {
        matches!(
            &self.problem,
            Problem::Unwatched(Unwatched::KindMissing | Unwatched::Forbidden(_))
        )
    }
}
