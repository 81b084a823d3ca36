//! How far the watch of a kind has come, and what each of its events changes in that.

use kube::{core::Status, runtime::watcher};

use crate::answer::{self, Answer};

/// Why a kind is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwatched {
    /// The cluster does not have it.
    #[error("the cluster does not have this kind")]
    KindMissing,
    /// The operator's account may not list or watch it: the API server's own words.
    #[error("{0}")]
    Forbidden(String),
    /// The API server has not listed it yet, for a reason that may pass by itself.
    #[error("not listed yet: {0}")]
    NotListed(String),
}

/// How far the watch of a kind has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// No answer yet.
    Pending,
    /// It was listed, and changes are reported.
    Yes,
    /// It cannot be watched.
    No(Unwatched),
}

impl Watched {
    /// What it becomes by an event of the watch; `None` if the event changes nothing.
    pub(super) fn changed_by<K>(
        &self,
        event: &Result<watcher::Event<K>, watcher::Error>,
    ) -> Option<Self> {
        after(event, self).filter(|now| now != self)
    }
}

fn after<K>(event: &Result<watcher::Event<K>, watcher::Error>, known: &Watched) -> Option<Watched> {
    let (error, answer) = match event {
        Ok(watcher::Event::InitDone) => return Some(Watched::Yes),
        Ok(_) => return None,
        Err(error) => (error, status_of(error)),
    };
    match answer.map(|status| (Answer::of_status(status), status)) {
        Some((Answer::KindMissing | Answer::NotFound, _)) => {
            Some(Watched::No(Unwatched::KindMissing))
        }
        Some((Answer::Forbidden, status)) => {
            Some(Watched::No(Unwatched::Forbidden(status.message.clone())))
        }
        // What was listed once stays known: the watch is resumed or the list repeated when the API server answers again.
        _ if *known == Watched::Yes => None,
        Some((_, status)) => Some(Watched::No(Unwatched::NotListed(answer::status_message(
            status,
        )))),
        None => Some(Watched::No(Unwatched::NotListed(error.to_string()))),
    }
}

/// The answer of the API server in an error of a watch.
pub(super) fn status_of(error: &watcher::Error) -> Option<&Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status),
        _ => None,
    }
}
