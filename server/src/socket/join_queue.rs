//! The queue of clients that join: at most so many in a second, so that present members keep their share of the processor when all clients
//! reconnect at once.
//!
//! Addresses take turns, so that one that sends many clients delays its own and no others. A client that has gone has no turn, and a full queue
//! rejects.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use papo_protocol::event::Code;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use crate::{
    address::Address,
    chat::{Rate, Rejection},
    metrics::Counted,
};

/// Clients that may join in a second, and at once.
const JOINS: (u32, u32) = (1_000, 200);
/// Clients that may wait: those of ten seconds.
const MOST: i64 = 10_000;

/// Clients that wait to join.
pub(super) struct JoinQueue {
    turns: Mutex<Turns>,
    /// Clients that wait and have not gone.
    waiting: Gauge,
    is_waiting: Notify,
}

struct Turns {
    rate: Rate,
    by_address: HashMap<Address, VecDeque<oneshot::Sender<()>>>,
    /// The addresses of `by_address`, the next one first.
    ring: VecDeque<Address>,
}

impl JoinQueue {
    /// A queue that counts in a gauge the clients that wait.
    pub(super) fn new(waiting: Gauge) -> Self {
        Self::with_rate(JOINS.0, JOINS.1, waiting)
    }

    /// A queue from which so many clients join in a second, and at once.
    pub(super) fn with_rate(per_second: u32, burst: u32, waiting: Gauge) -> Self {
        Self {
            turns: Mutex::new(Turns {
                rate: Rate::new(per_second, burst),
                by_address: HashMap::new(),
                ring: VecDeque::new(),
            }),
            waiting,
            is_waiting: Notify::new(),
        }
    }

    /// Waits for the client's turn. Dropping the future gives the place up.
    pub(super) async fn turn(&self, address: Address) -> Result<(), Rejection> {
        let waits = Counted::new(&self.waiting);
        if waits.before >= MOST {
            return Err(Rejection::new(
                Code::Unavailable,
                "too many clients are joining; try again in a few seconds",
            ));
        }
        let turn = {
            let mut turns = self.turns.lock();
            if turns.by_address.is_empty() && turns.rate.take(Instant::now()).is_ok() {
                return Ok(());
            }
            let (turn, comes) = oneshot::channel();
            turns.wait(address, turn);
            comes
        };
        self.is_waiting.notify_one();
        // It fails only if the server stops.
        let _ = turn.await;
        Ok(())
    }

    /// Gives the turns, for as long as the server runs.
    pub(super) async fn run(&self) {
        loop {
            self.is_waiting.notified().await;
            while let Some(mut turn) = self.next() {
                self.wait_for_rate().await;
                // A client that went away meanwhile leaves its turn to the next one.
                while turn.send(()).is_err() {
                    match self.next() {
                        Some(next) => turn = next,
                        None => break,
                    }
                }
            }
        }
    }

    async fn wait_for_rate(&self) {
        loop {
            let taken = self.turns.lock().rate.take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(wait) => sleep(wait).await,
            }
        }
    }

    /// The first client that has not gone of the address whose turn it is.
    fn next(&self) -> Option<oneshot::Sender<()>> {
        self.turns.lock().next()
    }
}

impl Turns {
    fn next(&mut self) -> Option<oneshot::Sender<()>> {
        while let Some(address) = self.ring.pop_front() {
            let waiting = self.by_address.get_mut(&address)?;
            let turn = std::iter::from_fn(|| waiting.pop_front()).find(|turn| !turn.is_closed());
            if waiting.is_empty() {
                self.by_address.remove(&address);
            } else {
                self.ring.push_back(address);
            }
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    fn wait(&mut self, address: Address, turn: oneshot::Sender<()>) {
        let waiting = self.by_address.entry(address).or_default();
        if waiting.is_empty() {
            self.ring.push_back(address);
        }
        waiting.push_back(turn);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::Arc,
    };

    use futures::FutureExt;
    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    /// A queue without a burst that is left, and clients of address 1 that wait in it.
    fn crowded(clients: usize) -> (Arc<JoinQueue>, JoinSet<u8>) {
        let queue = Arc::new(JoinQueue::with_rate(1_000, 1, Gauge::default()));
        queue
            .turns
            .lock()
            .rate
            .take(Instant::now())
            .expect("the burst");
        let mut joining = JoinSet::new();
        for _ in 0..clients {
            join(&queue, &mut joining, 1);
        }
        (queue, joining)
    }

    fn join(queue: &Arc<JoinQueue>, joining: &mut JoinSet<u8>, last: u8) {
        let queue = queue.clone();
        joining.spawn(async move {
            queue.turn(address(last)).await.expect("a place");
            last
        });
    }

    #[tokio::test]
    async fn addresses_take_turns() {
        let (queue, mut joining) = crowded(50);
        tokio::task::yield_now().await;
        join(&queue, &mut joining, 2);
        tokio::task::yield_now().await;
        let running = queue.clone();
        let running = tokio::spawn(async move { running.run().await });
        let mut before = 0;
        while joining.join_next().await.expect("one").expect("no panic") != 2 {
            before += 1;
        }
        assert!(
            before <= 2,
            "{before} clients of another address came first"
        );
        running.abort();
    }

    #[tokio::test]
    async fn addresses_join_in_the_order_of_their_arrival() {
        let (queue, mut joining) = crowded(0);
        for last in 1..=50 {
            join(&queue, &mut joining, last);
            tokio::task::yield_now().await;
        }
        let mut order = Vec::new();
        let mut turns = queue.turns.lock();
        while let Some(address) = turns.ring.front().copied() {
            turns.next().expect("a client waits");
            order.push(address);
        }
        let expected: Vec<Address> = (1..=50).map(address).collect();
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn client_that_went_away_has_no_turn() {
        let (queue, mut joining) = crowded(5_000);
        tokio::task::yield_now().await;
        joining.shutdown().await;
        assert_eq!(queue.waiting.get(), 0);
        let running = queue.clone();
        let running = tokio::spawn(async move { running.run().await });
        let turn = timeout(std::time::Duration::from_mins(1), queue.turn(address(1)));
        turn.await.expect("in time").expect("a place");
        assert!(queue.turns.lock().by_address.is_empty());
        running.abort();
    }

    #[tokio::test]
    async fn full_queue_rejects() {
        let (queue, _joining) = crowded(0);
        let waiting: Vec<_> = (0..MOST)
            .map(|_| {
                let mut turn = Box::pin(queue.turn(address(1)));
                assert!(turn.as_mut().now_or_never().is_none());
                turn
            })
            .collect();
        let rejection = queue.turn(address(2)).await.expect_err("full");
        assert_eq!(rejection.code, Code::Unavailable);
        drop(waiting);
        assert!(
            queue
                .turn(address(2))
                .now_or_never()
                .is_none_or(|turn| turn.is_ok())
        );
    }
}
