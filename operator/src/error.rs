//! What can go wrong on either side, each with the reason users read in a condition.

use crate::{cache::Refusal, config::SecretRef};

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
    Refused {
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
            Self::Refused { .. } => "BrokerRefused",
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
    #[error("{}", message(.0))]
    Api(#[source] Box<kube::Error>),
    /// The name is taken by an object that does not belong to the room.
    #[error("exists and does not belong to this room; it is left as it is")]
    Foreign,
    /// Nothing is known of objects of this kind, and so none is written.
    #[error(transparent)]
    Unwatched(#[from] Refusal),
}

impl ClusterError {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match &self.problem {
            Problem::Foreign => "Conflict",
            Problem::Unwatched(Refusal::NoSuchKind) => "KindMissing",
            Problem::Unwatched(Refusal::Forbidden(_)) => "Forbidden",
            Problem::Api(error) => match error.as_ref() {
                kube::Error::Api(status) if status.is_invalid() => "Invalid",
                kube::Error::Api(status) if status.is_forbidden() => "Forbidden",
                _ => "ApiError",
            },
        }
    }
}

/// The API server's own words, without the client's wrapping.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
