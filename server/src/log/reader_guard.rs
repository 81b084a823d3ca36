//! What keeps the reader running: a guard for each member, and for each client that is about to become one.
//!
//! Reading costs the broker one delivery per message and server, also for servers without members. So a server without
//! members does not read. What is in memory stays; a client that joins waits until the rest has been read after it.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// How many guards there are. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReaderGuards(watch::Sender<usize>);

/// Keeps the reader running until it is dropped.
#[derive(Debug)]
pub(crate) struct ReaderGuard(ReaderGuards);

impl ReaderGuards {
    pub(crate) fn acquire(&self) -> ReaderGuard {
        self.0.send_modify(|guards| *guards += 1);
        ReaderGuard(self.clone())
    }

    /// Waits until there is a guard.
    pub(super) async fn wait_until_needed(&self) {
        // The sender lives in `self`, so that the channel cannot be closed.
        let _ = self.0.subscribe().wait_for(|guards| *guards > 0).await;
    }

    /// Waits until there has been no guard for this long.
    pub(super) async fn wait_until_idle(&self, idle_timeout: Duration) {
        loop {
            let _ = self.0.subscribe().wait_for(|guards| *guards == 0).await;
            if timeout(idle_timeout, self.wait_until_needed())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|guards| *guards -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::time::advance;

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn reader_is_idle_only_a_timeout_after_the_last_guard() {
        let guards = ReaderGuards::default();
        let (first, second) = (guards.acquire(), guards.acquire());
        let mut idle = pin!(guards.wait_until_idle(IDLE_TIMEOUT));
        drop(first);
        advance(2 * IDLE_TIMEOUT).await;
        assert!(idle.as_mut().now_or_never().is_none(), "one guard is left");
        drop(second);
        assert!(idle.as_mut().now_or_never().is_none(), "just dropped");
        advance(IDLE_TIMEOUT / 2).await;
        let third = guards.acquire();
        assert!(idle.as_mut().now_or_never().is_none(), "a new guard");
        drop(third);
        assert!(idle.as_mut().now_or_never().is_none(), "just dropped");
        advance(IDLE_TIMEOUT).await;
        assert!(idle.now_or_never().is_some());
    }
}
