//! Requests to the management API: what a failure says to users.

use rabbitmq_http_client::api::HttpClientError;

use crate::error::BrokerError;

/// The object, or `None` if it does not exist.
pub(super) fn optional<T>(
    attempt: &str,
    result: Result<T, HttpClientError>,
) -> Result<Option<T>, BrokerError> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        result => done(attempt, result).map(Some),
    }
}

/// The answer, or why the attempt failed.
pub(super) fn done<T>(attempt: &str, result: Result<T, HttpClientError>) -> Result<T, BrokerError> {
    result.map_err(|error| {
        let attempt = format!("cannot {attempt}");
        match &error {
            HttpClientError::RequestError { error, .. } => BrokerError::Unreachable {
                attempt,
                message: chain(error),
            },
            other => BrokerError::Rejected {
                attempt,
                message: other.user_message(),
            },
        }
    })
}

/// An error and its causes: the client's own text says only that sending failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
