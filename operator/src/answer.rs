//! What an answer of the API server means. Every decision of the operator that depends on such an answer is made here.
//!
//! The HTTP status code decides, never the `reason`. An API group or a kind that is not installed answers with the plain text
//! `404 page not found`, of which kube makes a [`Status`] with a reason of its own: `Status::is_not_found` is false for it.

use kube::core::Status;

/// The meaning of an answer that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 404 for the kind: its definition or its API group is not installed.
    KindMissing,
    /// 404 for one object, or for the namespace that it would be in.
    NotFound,
    /// 401 or 403: the operator's account lacks a right, or the namespace is being deleted.
    Forbidden,
    /// 409: somebody else has written the object since it was read, or it exists already.
    Conflict,
    /// 410: the version from which to watch or list is no longer kept.
    Expired,
    /// 400 or 422: the object itself is wrong, so the same request fails again.
    Invalid,
    /// 429: the API server asks for fewer requests.
    TooManyRequests,
    /// 5xx, or no answer at all.
    Unavailable,
}

impl Answer {
    /// What an error of the client means.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            _ => Self::Unavailable,
        }
    }

    /// What a `Status` means, of a response or within a watch.
    pub fn of_status(status: &Status) -> Self {
        match status.code {
            404 if names_object(status) => Self::NotFound,
            404 => Self::KindMissing,
            401 | 403 => Self::Forbidden,
            409 => Self::Conflict,
            410 => Self::Expired,
            429 => Self::TooManyRequests,
            400..=499 => Self::Invalid,
            _ => Self::Unavailable,
        }
    }

    /// Whether there is no such object, whatever the cause.
    pub fn is_missing(self) -> bool {
        matches!(self, Self::KindMissing | Self::NotFound)
    }
}

/// A missing object is named in the details. An unknown path is answered as plain text, and an unknown kind of a known group without a name.
fn names_object(status: &Status) -> bool {
    let details = status.details.as_ref();
    details.is_some_and(|details| !details.name.is_empty())
}

/// `None` if the object is missing. A kind that is missing is an error: of a kind that every cluster has, a proxy's plain 404 says nothing about
/// the object.
pub fn optional_object<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if Answer::of(&error) == Answer::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` if the object or its whole kind is missing: for writes that need no more than that it is gone.
pub fn optional<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if Answer::of(&error).is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The API server's own words without the client's wrapping, or what a missing kind means.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status_message(status),
        other => other.to_string(),
    }
}

/// As [`message`], for a `Status`.
pub fn status_message(status: &Status) -> String {
    match Answer::of_status(status) {
        Answer::KindMissing => "the cluster does not have this kind".to_owned(),
        _ => status.message.clone(),
    }
}
