//! The parts a server is made of: long-lived tasks, each with a name. All of them must run; if one ends by itself, the
//! server ends, and says which.

use std::future::Future;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The long-lived tasks of a server. Dropping it aborts them.
#[derive(Debug)]
pub struct Parts {
    tasks: JoinSet<&'static str>,
    shutdown: CancellationToken,
}

/// A part has ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It returned.
    #[error("the {0} ended by itself")]
    Returned(&'static str),
    /// It panicked.
    #[error("a part of the server panicked")]
    Panicked(#[source] JoinError),
    /// There was none to begin with.
    #[error("the server has no parts")]
    None,
}

impl Parts {
    /// No parts yet; those to come run until `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            shutdown,
        }
    }

    /// Starts a part. It is dropped where it waits when the server shuts down.
    pub fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(part).await;
            name
        });
    }

    /// Waits until a part has ended.
    pub async fn ended(&mut self) -> Ended {
        match self.tasks.join_next().await {
            Some(Ok(name)) => Ended::Returned(name),
            Some(Err(error)) => Ended::Panicked(error),
            None => Ended::None,
        }
    }

    /// What tells the parts to stop.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Stops all parts, and waits for them.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_named() {
        let mut parts = Parts::new(CancellationToken::new());
        parts.spawn("steady part", std::future::pending());
        parts.spawn("other part", async {});
        assert_eq!(
            parts.ended().await.to_string(),
            "the other part ended by itself"
        );
        parts.stop().await;
    }

    #[tokio::test]
    async fn a_panic_is_an_end_too() {
        let mut parts = Parts::new(CancellationToken::new());
        parts.spawn("part", async { panic!("on purpose") });
        assert!(matches!(parts.ended().await, Ended::Panicked(_)));
    }
}
