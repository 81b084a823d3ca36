//! Turns: who may read the past of the log now.
//!
//! - At most [`AT_ONCE`] reads run; at most [`QUEUE`] wait.
//! - Turns go round the keys that wait (a key is a person or an address): one that asks for much does not delay the others.
//! - When the queue is full, the key that waits for most loses its latest request to a key that waits for less.
//! - A turn ends when it is dropped, and so does waiting for one.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::metrics::Counted;

/// Reads of the past that run at once: only they cost the broker work for a single client.
const AT_ONCE: usize = 4;
/// Requests that may wait for a turn.
const QUEUE: usize = 100;

/// The turns of one server. Clones share them.
#[derive(Clone)]
pub(super) struct Turns<K: Key>(Arc<Shared<K>>);

/// By what turns are distributed.
pub(super) trait Key: Copy + Eq + Send + 'static {}

impl<K: Copy + Eq + Send + 'static> Key for K {}

struct Shared<K: Key> {
    state: Mutex<State<K>>,
    /// Turns that run.
    running: Gauge,
    /// Requests that wait.
    waiting: Gauge,
}

struct State<K: Key> {
    running: usize,
    /// The keys that wait, the next one first, each with its requests in their order. No key is without a request.
    waiting: VecDeque<(K, VecDeque<Request<K>>)>,
}

type Request<K> = oneshot::Sender<Turn<K>>;

/// Permission to read, until it is dropped.
pub(super) struct Turn<K: Key>(Turns<K>);

/// Too many requests wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl<K: Key> Turns<K> {
    /// Turns that count themselves in two gauges: those that run, and the requests that wait.
    pub(super) fn new(running: Gauge, waiting: Gauge) -> Self {
        let state = State {
            running: 0,
            waiting: VecDeque::new(),
        };
        Self(Arc::new(Shared {
            state: state.into(),
            running,
            waiting,
        }))
    }

    /// Waits for a turn.
    pub(super) async fn acquire(&self, key: K) -> Result<Turn<K>, Crowded> {
        let (request, granted) = oneshot::channel();
        self.0.state.lock().enqueue(key, request)?;
        let _waiting = Counted::new(&self.0.waiting);
        self.grant();
        granted.await.map_err(|_| Crowded)
    }

    /// Gives the turns that are free to the requests that wait.
    fn grant(&self) {
        loop {
            let next = self.0.state.lock().next();
            let Some(request) = next else { return };
            self.0.running.inc();
            // A turn for a request that was given up is dropped, which makes it free again.
            let _ = request.send(Turn(self.clone()));
        }
    }
}

impl<K: Key> State<K> {
    fn enqueue(&mut self, key: K, request: Request<K>) -> Result<(), Crowded> {
        if self.len() >= QUEUE {
            self.remove_given_up();
        }
        if self.len() >= QUEUE {
            self.make_room(key)?;
        }
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == key) {
            Some((_, requests)) => requests.push_back(request),
            None => self.waiting.push_back((key, VecDeque::from([request]))),
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.waiting
            .iter()
            .map(|(_, requests)| requests.len())
            .sum()
    }

    fn remove_given_up(&mut self) {
        for (_, requests) in &mut self.waiting {
            requests.retain(|request| !request.is_closed());
        }
        self.waiting.retain(|(_, requests)| !requests.is_empty());
    }

    /// Removes the latest request of the key that has most of them, if that is more than `key` will have.
    fn make_room(&mut self, key: K) -> Result<(), Crowded> {
        let own = self.waiting.iter().find(|(waiting, _)| *waiting == key);
        let own = own.map_or(0, |(_, requests)| requests.len());
        let longest = self.waiting.iter_mut().map(|(_, requests)| requests);
        let longest = longest.max_by_key(|requests| requests.len());
        let removed = longest
            .filter(|requests| requests.len() > own + 1)
            .and_then(VecDeque::pop_back);
        removed.map(drop).ok_or(Crowded)
    }

    /// The request that gets the next turn, if one is free.
    fn next(&mut self) -> Option<Request<K>> {
        if self.running == AT_ONCE {
            return None;
        }
        let (key, mut requests) = self.waiting.pop_front()?;
        let request = requests.pop_front()?;
        if !requests.is_empty() {
            self.waiting.push_back((key, requests));
        }
        self.running += 1;
        Some(request)
    }
}

impl<K: Key> Drop for Turn<K> {
    fn drop(&mut self) {
        let Self(turns) = self;
        turns.0.running.dec();
        turns.0.state.lock().running -= 1;
        turns.grant();
    }
}

impl<K: Key> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Result<Turn<u8>, Crowded>>>>;

    fn turns() -> Turns<u8> {
        Turns::new(Gauge::default(), Gauge::default())
    }

    /// A request that has been made.
    fn ask(turns: &Turns<u8>, key: u8) -> Waiting {
        let turns = turns.clone();
        let mut waiting: Waiting = Box::pin(async move { turns.acquire(key).await });
        let first = waiting.as_mut().now_or_never();
        match first {
            Some(granted) => Box::pin(std::future::ready(granted)),
            None => waiting,
        }
    }

    fn take(waiting: &mut Waiting) -> Option<Result<Turn<u8>, Crowded>> {
        waiting.as_mut().now_or_never()
    }

    fn running(turns: &Turns<u8>, key: u8) -> Vec<Turn<u8>> {
        let granted = (0..AT_ONCE).map(|_| take(&mut ask(turns, key)));
        granted
            .map(|turn| turn.expect("free").expect("free"))
            .collect()
    }

    #[test]
    fn no_more_turns_run_than_may() {
        let turns = turns();
        let mut first = running(&turns, 1);
        let mut next = ask(&turns, 2);
        assert!(take(&mut next).is_none());
        assert_eq!((turns.0.running.get(), turns.0.waiting.get()), (4, 1));
        first.pop();
        let granted = take(&mut next);
        assert!(granted.is_some_and(|turn| turn.is_ok()));
        drop((first, next));
        assert_eq!((turns.0.running.get(), turns.0.waiting.get()), (0, 0));
    }

    #[test]
    fn turns_go_round_the_keys_that_wait() {
        let turns = turns();
        let mut granted = running(&turns, 1);
        let mut greedy: Vec<Waiting> = (0..50).map(|_| ask(&turns, 1)).collect();
        let mut modest = ask(&turns, 2);
        granted.pop();
        let first = take(&mut greedy[0]).expect("it waited longest");
        drop(first);
        assert!(take(&mut modest).is_some_and(|turn| turn.is_ok()));
    }

    #[test]
    fn given_up_requests_take_no_turn_and_no_place() {
        let turns = turns();
        let mut granted = running(&turns, 1);
        let given_up: Vec<Waiting> = (0..QUEUE).map(|_| ask(&turns, 2)).collect();
        assert_eq!(turns.0.waiting.get(), 100);
        drop(given_up);
        assert_eq!(turns.0.waiting.get(), 0);
        let mut waiting: Vec<Waiting> = (0..QUEUE).map(|_| ask(&turns, 2)).collect();
        granted.pop();
        assert!(take(&mut waiting[0]).is_some_and(|turn| turn.is_ok()));
    }

    #[test]
    fn granted_turn_that_is_not_taken_goes_to_the_next() {
        let turns = turns();
        let granted = running(&turns, 1);
        let (gone, mut next) = (ask(&turns, 2), ask(&turns, 3));
        let all: Vec<Waiting> = (0..3).map(|_| ask(&turns, 4)).collect();
        drop(granted);
        drop((gone, all));
        assert!(take(&mut next).is_some_and(|turn| turn.is_ok()));
    }

    #[test]
    fn full_queue_rejects_the_key_that_waits_for_most() {
        let turns = turns();
        let _granted = running(&turns, 1);
        let mut greedy: Vec<Waiting> = (0..QUEUE).map(|_| ask(&turns, 1)).collect();
        assert_eq!(
            take(&mut ask(&turns, 1)).and_then(Result::err),
            Some(Crowded)
        );
        let mut modest = ask(&turns, 2);
        assert!(take(&mut modest).is_none(), "it waits");
        let last = take(&mut greedy[QUEUE - 1]);
        assert_eq!(last.and_then(Result::err), Some(Crowded));
        assert!(take(&mut greedy[QUEUE - 2]).is_none(), "the others wait");
    }

    proptest! {
        /// Whatever is asked for, taken and given up in whatever order: bounds hold, and no turn is lost.
        #[test]
        fn turns_are_bounded_and_never_lost(steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_usize..200), 1..400)) {
            let turns = turns();
            let (mut waiting, mut granted) = (Vec::new(), Vec::new());
            for (step, key, place) in steps {
                match step {
                    0 | 1 => waiting.push(ask(&turns, key)),
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(place % waiting.len())),
                    3 if !granted.is_empty() => drop(granted.swap_remove(place % granted.len())),
                    _ => {}
                }
                waiting.retain_mut(|one| match take(one) {
                    Some(turn) => {
                        granted.extend(turn.ok());
                        false
                    }
                    None => true,
                });
                prop_assert!(granted.len() <= AT_ONCE && waiting.len() <= QUEUE);
                prop_assert!(waiting.is_empty() || granted.len() == AT_ONCE, "no turn is idle while somebody waits");
            }
            drop((waiting, granted));
            prop_assert_eq!(turns.0.state.lock().running, 0);
            prop_assert_eq!((turns.0.running.get(), turns.0.waiting.get()), (0, 0));
        }

        /// In each round, every key that waits gets one turn, in the order in which the keys came.
        #[test]
        fn keys_take_turns_in_rounds(keys in prop::collection::vec(0_u8..5, 1..90)) {
            let turns = turns();
            let mut running = running(&turns, 9);
            let mut waiting: Vec<(u8, Waiting)> = keys.iter().map(|key| (*key, ask(&turns, *key))).collect();
            let mut order = Vec::new();
            while !waiting.is_empty() {
                running.pop();
                waiting.retain_mut(|(key, one)| match take(one) {
                    Some(turn) => {
                        order.push(*key);
                        running.push(turn.expect("a turn"));
                        false
                    }
                    None => true,
                });
            }
            let mut first_seen = keys.clone();
            let mut seen = Vec::new();
            first_seen.retain(|key| !seen.contains(key) && { seen.push(*key); true });
            let count = |key: &u8| keys.iter().map(|other| usize::from(other == key)).sum::<usize>();
            let expected: Vec<u8> = (0..keys.len())
                .flat_map(|round| first_seen.iter().filter(move |key| count(key) > round).copied().collect::<Vec<_>>())
                .collect();
            prop_assert_eq!(order, expected);
        }
    }
}
