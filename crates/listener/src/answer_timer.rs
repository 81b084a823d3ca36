//! The clock of answers: how long a client may take to read one. hyper has none.

use std::{future, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How long a client may take to read an answer, from when the server begins to send it. A slow mobile connection takes some megabytes
/// in this time.
pub const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// The deadline of the answer that a connection sends. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct AnswerTimer(watch::Sender<Option<Instant>>);

impl AnswerTimer {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A request has come. All earlier answers are sent, or wait in hyper, which reads no further request until there is room for its
    /// answer.
    pub(crate) fn stop(&self) {
        self.0.send_replace(None);
    }

    /// An answer is ready. It need not be said when it is sent: the time between two requests is shorter.
    pub(crate) fn start(&self) {
        self.0.send_replace(Some(Instant::now() + ANSWER_TIMEOUT));
    }

    /// Waits until a client has had its time.
    pub(crate) async fn elapsed(&self) {
        let mut deadline = self.0.subscribe();
        loop {
            let until = *deadline.borrow_and_update();
            let elapsed = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = elapsed => return,
                // The sender lives in `self`, so that this never fails.
                _ = deadline.changed() => {}
            }
        }
    }
}
