//! Pending publishes: callers that wait for the offset of their message.
//!
//! RabbitMQ confirms a record without its offset. The server learns the offset by reading its own record back, which also
//! proves that it is stored.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::log::Key;

/// All callers that wait for the offset of a message. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingPublishes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiters: HashMap<Key, Vec<(u64, oneshot::Sender<u64>)>>,
    next_ticket: u64,
}

/// One caller that waits. Dropping it is giving up.
#[derive(Debug)]
pub(super) struct PendingPublish {
    key: Key,
    ticket: u64,
    publishes: PendingPublishes,
    /// The offset, once the message was read from the log.
    pub(super) offset: oneshot::Receiver<u64>,
}

impl PendingPublishes {
    /// Begins to wait for a message; call it before publishing, or the record may be read first.
    pub(super) fn add(&self, key: Key) -> PendingPublish {
        let (resolve, offset) = oneshot::channel();
        let mut state = self.0.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let waiters = state.waiters.entry(key.clone()).or_default();
        waiters.push((ticket, resolve));
        PendingPublish {
            key,
            ticket,
            publishes: self.clone(),
            offset,
        }
    }

    /// Gives the message's offset to all callers that wait for it.
    pub(super) fn resolve(&self, key: &Key, offset: u64) {
        let waiters = self.0.lock().waiters.remove(key);
        for (_, waiter) in waiters.unwrap_or_default() {
            // A caller may have given up meanwhile.
            let _ = waiter.send(offset);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().waiters.len()
    }
}

impl Drop for PendingPublish {
    fn drop(&mut self) {
        let waiters = &mut self.publishes.0.lock().waiters;
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
    fn every_caller_of_one_message_gets_its_offset() {
        let pending = PendingPublishes::default();
        let (mut first, mut second) = (pending.add(key("a")), pending.add(key("a")));
        let mut other = pending.add(key("b"));
        pending.resolve(&key("a"), 7);
        assert_eq!(
            (first.offset.try_recv(), second.offset.try_recv()),
            (Ok(7), Ok(7))
        );
        assert!(other.offset.try_recv().is_err());
    }

    #[test]
    fn dropped_publish_leaves_nothing_behind() {
        let pending = PendingPublishes::default();
        let kept = pending.add(key("a"));
        drop(pending.add(key("a")));
        drop(pending.add(key("b")));
        assert_eq!(pending.len(), 1);
        drop(kept);
        assert_eq!(pending.len(), 0);
    }
}
