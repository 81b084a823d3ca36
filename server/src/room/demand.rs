//! Demand for the log: while a server has no members, it does not read it.
//!
//! Reading costs the broker a delivery per message and server, also for servers where nobody listens. What is in memory
//! stays, and whoever comes waits until what came meanwhile has been read after it.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// How many need the log. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand(watch::Sender<usize>);

/// One who needs the log, until dropped.
#[derive(Debug)]
pub struct Claim(Demand);

impl Demand {
    pub(super) fn claim(&self) -> Claim {
        self.0.send_modify(|claims| *claims += 1);
        Claim(self.clone())
    }

    /// Waits until somebody needs the log.
    pub(super) async fn wanted(&self) {
        // The sender is here, so there is nothing to fail.
        let _ = self.0.subscribe().wait_for(|claims| *claims > 0).await;
    }

    /// Waits until nobody has needed it for so long.
    pub(super) async fn unwanted(&self, patience: Duration) {
        loop {
            let _ = self.0.subscribe().wait_for(|claims| *claims == 0).await;
            if timeout(patience, self.wanted()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.0.send_modify(|claims| *claims -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_last_one_has_been_gone_for_long_enough() {
        let demand = Demand::default();
        let (first, second) = (demand.claim(), demand.claim());
        let mut unwanted = pin!(demand.unwanted(PATIENCE));
        drop(first);
        advance(2 * PATIENCE).await;
        assert!(unwanted.as_mut().now_or_never().is_none(), "one is here");
        drop(second);
        assert!(unwanted.as_mut().now_or_never().is_none(), "just gone");
        advance(PATIENCE / 2).await;
        let third = demand.claim();
        assert!(unwanted.as_mut().now_or_never().is_none(), "one is back");
        drop(third);
        assert!(unwanted.as_mut().now_or_never().is_none(), "just gone");
        advance(PATIENCE).await;
        assert!(unwanted.now_or_never().is_some());
    }
}
