//! Outcomes: who waits to hear where in the log their message came to stand.
//!
//! RabbitMQ confirms a record without naming its offset; the server learns it by reading its own record back, which also
//! proves that it is stored.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::dedup::Key;

type Waiters = HashMap<Key, Vec<(u64, oneshot::Sender<u64>)>>;

/// Everybody who waits for the offset of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes {
    waiters: Arc<Mutex<Waiters>>,
    tickets: Arc<AtomicU64>,
}

/// One who waits. Dropping it is giving up.
#[derive(Debug)]
pub(super) struct Outcome {
    key: Key,
    ticket: u64,
    waiters: Arc<Mutex<Waiters>>,
    /// The offset, once the message was read from the log.
    pub offset: oneshot::Receiver<u64>,
}

impl Outcomes {
    /// Begins to wait for a message; call it before publishing, or the news may come first.
    pub(super) fn expect(&self, key: Key) -> Outcome {
        let (tell, offset) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiters
            .lock()
            .entry(key.clone())
            .or_default()
            .push((ticket, tell));
        Outcome {
            key,
            ticket,
            waiters: self.waiters.clone(),
            offset,
        }
    }

    /// Tells all who wait for it that the message stands at `offset`.
    pub(super) fn tell(&self, key: &Key, offset: u64) {
        for (_, waiter) in self.waiters.lock().remove(key).unwrap_or_default() {
            // One who has given up meanwhile does not matter.
            let _ = waiter.send(offset);
        }
    }

    #[cfg(test)]
    fn pending(&self) -> usize {
        self.waiters.lock().len()
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        if let Some(of_key) = waiters.get_mut(&self.key) {
            of_key.retain(|(ticket, _)| *ticket != self.ticket);
            if of_key.is_empty() {
                waiters.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use papo_protocol::SenderId;

    use super::*;

    fn key(id: &str) -> Key {
        Key::new(&SenderId::from_trusted("s"), &id.parse().expect("valid"))
    }

    #[test]
    fn all_who_wait_for_one_message_hear_of_it() {
        let outcomes = Outcomes::default();
        let (mut first, mut second) = (outcomes.expect(key("a")), outcomes.expect(key("a")));
        let mut other = outcomes.expect(key("b"));
        outcomes.tell(&key("a"), 7);
        assert_eq!(
            (first.offset.try_recv(), second.offset.try_recv()),
            (Ok(7), Ok(7))
        );
        assert!(other.offset.try_recv().is_err());
    }

    #[test]
    fn giving_up_leaves_nothing_behind() {
        let outcomes = Outcomes::default();
        let kept = outcomes.expect(key("a"));
        drop(outcomes.expect(key("a")));
        drop(outcomes.expect(key("b")));
        assert_eq!(outcomes.pending(), 1);
        drop(kept);
        assert_eq!(outcomes.pending(), 0);
    }
}
