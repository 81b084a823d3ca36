//! Requests to the management API: what a failure says to users.

use crate::{
    broker::{Bound, Failure},
    error::BrokerError,
};

/// The object, or `None` if it does not exist.
pub(super) fn optional<T>(
    attempt: &str,
    result: Result<T, Failure>,
) -> Result<Option<T>, BrokerError> {
    match result {
        Err(Failure::Status(status)) if status == 404 => Ok(None),
        result => done(attempt, result).map(Some),
    }
}

/// The answer, or why the attempt failed.
pub(super) fn done<T>(attempt: &str, result: Result<T, Failure>) -> Result<T, BrokerError> {
    result.map_err(|failure| {
        let (attempt, message) = (format!("cannot {attempt}"), failure.to_string());
        match failure {
            Failure::NoAnswer(_) => BrokerError::Unreachable { attempt, message },
            Failure::Status(_) | Failure::NotUnderstood => {
                BrokerError::Rejected { attempt, message }
            }
            Failure::TooLarge => BrokerError::OverBound {
                attempt,
                bound: Bound::AnswerSize,
            },
        }
    })
}
