//! What can go wrong on the broker and in the cluster, each with the reason that a condition gives.

use crate::{
    answer::{self, Answer},
    cache::Unwatched,
    config::SecretRef,
};

/// The broker's side.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
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
    /// The broker did not answer.
    #[error("{attempt}: {message}")]
    Unreachable {
        /// What was attempted.
        attempt: String,
        /// What the client says.
        message: String,
    },
    /// The broker said no.
    #[error("{attempt}: {message}")]
    Rejected {
        /// What was attempted.
        attempt: String,
        /// What the broker says.
        message: String,
    },
    /// The API server, about one of the Secrets.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl BrokerError {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSecret(_) => "SecretNotFound",
            Self::BadSecret { .. } => "SecretInvalid",
            Self::Conflict(_) => "Conflict",
            Self::Unreachable { .. } => "BrokerUnreachable",
            Self::Rejected { .. } => "BrokerRejected",
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
