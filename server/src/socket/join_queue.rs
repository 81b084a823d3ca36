//! The queue of clients that join: at most so many in a second, so that present members keep their share of the processor when all clients
//! reconnect at once.
//!
//! Addresses take turns, and each has a rate of its own: every client that joins gets a page of history, up to a megabyte, so one address
//! that sends many clients delays its own and no others. A client that has gone has no turn, and a full queue rejects.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use papo_protocol::{event::Code, limits::AddressLimits};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::{bounds::now, rates::Rates};
use crate::{
    address::Address,
    chat::{Rate, Rejection},
    metrics::Counted,
};

/// Clients that may join in a second, and at once.
const JOINS: (u32, u32) = (1_000, 200);
/// The clients of an address join so many times as fast as it may open connections.
const ADDRESS_JOINS: u32 = 5;
/// A tenth of its burst of connections may join at once.
const ADDRESS_BURST_PART: u32 = 10;
/// The rest of the burst joins in so many seconds, whatever the rate of connections.
const ADDRESS_BURST_SECONDS: u32 = 2;
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
    address_rates: Rates<Address>,
    by_address: HashMap<Address, VecDeque<oneshot::Sender<()>>>,
    /// The addresses of `by_address`, the next one first.
    ring: VecDeque<Address>,
}

impl JoinQueue {
    /// A queue that counts in a gauge the clients that wait.
    pub(super) fn new(limits: &AddressLimits, waiting: Gauge) -> Self {
        let per_second = limits
            .connects_per_second
            .saturating_mul(ADDRESS_JOINS)
            .max(limits.connect_burst / ADDRESS_BURST_SECONDS);
        let burst = limits.connect_burst / ADDRESS_BURST_PART;
        Self::with_rates(JOINS, (per_second, burst), waiting)
    }

    /// A queue from which so many clients join in a second, and at once: of all addresses, and of each.
    pub(super) fn with_rates(all: (u32, u32), of_address: (u32, u32), waiting: Gauge) -> Self {
        Self {
            turns: Mutex::new(Turns {
                rate: Rate::new(all.0, all.1),
                address_rates: Rates::new(of_address.0, of_address.1),
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
            if turns.by_address.is_empty() && turns.take(address, now()).is_ok() {
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
            let next = self.turns.lock().give(now());
            let comes = self.is_waiting.notified();
            match next {
                None => comes.await,
                Some(wait) => tokio::select! {
                    () = sleep(wait) => {}
                    () = comes => {}
                },
            }
        }
    }
}

impl Turns {
    /// Gives a turn to each client that may join now. Returns how long the next one waits, if one does.
    fn give(&mut self, now: Instant) -> Option<Duration> {
        let mut soonest: Option<Duration> = None;
        // Addresses in a row that have used up their rate.
        let mut passed = 0;
        while passed < self.ring.len() {
            let address = self.ring.pop_front()?;
            if self.forget_gone(address) {
                continue;
            }
            match self.take(address, now) {
                Ok(()) => {
                    passed = 0;
                    let waiting = self.by_address.get_mut(&address);
                    let turn = waiting.and_then(VecDeque::pop_front);
                    // A client that goes at this moment has had its turn.
                    let _ = turn.map(|turn| turn.send(()));
                    if self.forget_gone(address) {
                        continue;
                    }
                }
                Err(Full::Server(wait)) => {
                    self.ring.push_front(address);
                    return Some(wait);
                }
                Err(Full::Address(wait)) => {
                    soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                    passed += 1;
                }
            }
            self.ring.push_back(address);
        }
        soonest
    }

    /// Forgets the clients of an address that have gone, up to the first that has not. Returns whether none is left, and forgets the address then.
    fn forget_gone(&mut self, address: Address) -> bool {
        let Some(waiting) = self.by_address.get_mut(&address) else {
            return true;
        };
        while waiting.front().is_some_and(oneshot::Sender::is_closed) {
            waiting.pop_front();
        }
        let is_none_left = waiting.is_empty();
        if is_none_left {
            self.by_address.remove(&address);
        }
        is_none_left
    }

    /// Takes a turn for a client of an address, or nothing.
    fn take(&mut self, address: Address, now: Instant) -> Result<(), Full> {
        let mut rate = self.rate.clone();
        rate.take(now).map_err(Full::Server)?;
        let taken = self.address_rates.take(&address, 1, now);
        taken.map_err(Full::Address)?;
        self.rate = rate;
        Ok(())
    }

    fn wait(&mut self, address: Address, turn: oneshot::Sender<()>) {
        let waiting = self.by_address.entry(address).or_default();
        if waiting.is_empty() {
            self.ring.push_back(address);
        }
        waiting.push_back(turn);
    }
}

/// Whose rate is used up, and how long until there is a turn.
enum Full {
    Server(Duration),
    Address(Duration),
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::Arc,
    };

    use futures::{FutureExt, future::join_all};
    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    /// A queue without a burst that is left, and clients of address 1 that wait in it.
    fn crowded(clients: usize) -> (Arc<JoinQueue>, JoinSet<u8>) {
        let (all, of_address) = ((1_000, 1), (1_000, 1_000));
        let queue = Arc::new(JoinQueue::with_rates(all, of_address, Gauge::default()));
        queue.turns.lock().rate.take(now()).expect("the burst");
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
        let running = queue.clone();
        let running = tokio::spawn(async move { running.run().await });
        let mut order = Vec::new();
        while let Some(joined) = joining.join_next().await {
            order.push(joined.expect("no panic"));
        }
        assert_eq!(order, (1..=50).collect::<Vec<u8>>());
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn crowd_of_one_address_joins_at_its_rate() {
        let queue = JoinQueue::with_rates((1_000, 200), (100, 20), Gauge::default());
        let queue = Arc::new(queue);
        let running = queue.clone();
        let running = tokio::spawn(async move { running.run().await });
        let began = tokio::time::Instant::now();
        let joins = |last: u8| {
            let queue = queue.clone();
            async move {
                queue.turn(address(last)).await.expect("a place");
                began.elapsed()
            }
        };
        let crowd = tokio::spawn(join_all((0..200).map(|_| joins(1))));
        tokio::task::yield_now().await;
        let others = join_all((2..=20).map(joins)).await;
        assert!(
            others.iter().all(|waited| waited.as_millis() <= 1),
            "{others:?}"
        );
        let waited = crowd.await.expect("no panic");
        let at_once = waited.iter().filter(|waited| waited.is_zero());
        assert_eq!(at_once.count(), 20);
        let last = waited.iter().max().expect("200");
        assert!((1_800..2_000).contains(&last.as_millis()), "{last:?}");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn burst_of_an_address_joins_in_two_seconds() {
        for (connects_per_second, connect_burst) in [(20, 200), (5, 2_000), (1, 1)] {
            let limits = AddressLimits {
                connects_per_second,
                connect_burst,
                ..AddressLimits::default()
            };
            let queue = JoinQueue::new(&limits, Gauge::default());
            // The rate of the server is another matter.
            queue.turns.lock().rate = Rate::new(1_000_000, 1_000_000);
            let began = tokio::time::Instant::now();
            tokio::select! {
                () = queue.run() => {}
                _ = join_all((0..connect_burst).map(|_| queue.turn(address(1)))) => {}
            }
            let waited = began.elapsed();
            assert!(
                waited <= Duration::from_secs(2),
                "{connect_burst}: {waited:?}"
            );
        }
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
