//! The task set: the long-lived tasks of a server, each with a name. All of them must run; if one ends by itself, the server
//! ends, and its error names the task.

use std::future::Future;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The long-lived tasks of a server. Dropping it aborts them.
#[derive(Debug)]
pub(crate) struct TaskSet {
    tasks: JoinSet<&'static str>,
    shutdown: CancellationToken,
}

/// A task has ended that should have run until shutdown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// It returned.
    #[error("the task {0:?} ended by itself")]
    Returned(&'static str),
    /// It panicked.
    #[error("a task of the server panicked")]
    Panicked(#[source] JoinError),
    /// There was none to begin with.
    #[error("the server has no tasks")]
    None,
}

impl TaskSet {
    /// An empty task set, whose tasks run until `shutdown`.
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            shutdown,
        }
    }

    /// Starts a task. It is dropped at its next await when the server shuts down.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
            name
        });
    }

    /// Waits until a task has ended.
    pub(crate) async fn ended(&mut self) -> Ended {
        match self.tasks.join_next().await {
            Some(Ok(name)) => Ended::Returned(name),
            Some(Err(error)) => Ended::Panicked(error),
            None => Ended::None,
        }
    }

    /// What stops the tasks when it is cancelled.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Stops all tasks, and waits for them.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn error_names_the_task_that_ended() {
        let mut tasks = TaskSet::new(CancellationToken::new());
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("other", async {});
        assert_eq!(
            tasks.ended().await.to_string(),
            "the task \"other\" ended by itself"
        );
        tasks.stop().await;
    }

    #[tokio::test]
    async fn panic_of_a_task_is_reported() {
        let mut tasks = TaskSet::new(CancellationToken::new());
        tasks.spawn("task", async { panic!("on purpose") });
        assert!(matches!(tasks.ended().await, Ended::Panicked(_)));
    }
}
