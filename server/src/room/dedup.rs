//! Which records are second copies. A pure function of the log, so that every server hides the same ones.
//!
//! A record is a copy when one of the same sender and id stands at most [`DEDUP_WINDOW`] records before it, copy or not.
//! Whoever wants to know this of the record at offset X must have observed all records from X - [`DEDUP_WINDOW`] on.
//!
//! What retention has removed nobody can observe any more: whoever begins to read at the head of a log may show as new a
//! copy, stored at most [`DEDUP_WINDOW`] records later, of a message that was removed.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use papo_protocol::{MessageId, Record, SenderId, topology::DEDUP_WINDOW};

/// What makes two records copies of one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<(SenderId, MessageId)>);

impl Key {
    /// The key of a sender's message.
    pub(super) fn new(sender: &SenderId, id: &MessageId) -> Self {
        Self(Arc::new((sender.clone(), id.clone())))
    }

    /// The key of a record.
    pub(super) fn of(record: &Record) -> Self {
        Self::new(&record.sender, &record.id)
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    latest: u64,
    shown: u64,
}

/// The keys of the last [`DEDUP_WINDOW`] records.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: HashMap<Key, Seen>,
    order: VecDeque<(u64, Key)>,
}

impl Dedup {
    /// Takes note of the record at `offset`, and says of which earlier one it is a copy. Offsets must rise.
    pub(super) fn observe(&mut self, offset: u64, key: Key) -> Option<u64> {
        self.forget_before(offset.saturating_sub(DEDUP_WINDOW));
        let earlier = self.seen.get(&key).map(|seen| seen.shown);
        self.seen.insert(
            key.clone(),
            Seen {
                latest: offset,
                shown: earlier.unwrap_or(offset),
            },
        );
        self.order.push_back((offset, key));
        earlier
    }

    /// Where a message is that was stored lately.
    pub(super) fn find(&self, key: &Key) -> Option<u64> {
        self.seen.get(key).map(|seen| seen.shown)
    }

    fn forget_before(&mut self, first: u64) {
        while let Some((offset, _)) = self.order.front()
            && *offset < first
            && let Some((offset, key)) = self.order.pop_front()
        {
            if self
                .seen
                .get(&key)
                .is_some_and(|seen| seen.latest == offset)
            {
                self.seen.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        Key::new(
            &SenderId::from_trusted("s"),
            &format!("m{n}").parse().expect("valid"),
        )
    }

    #[test]
    fn the_same_id_of_another_sender_is_no_copy() {
        let mut dedup = Dedup::default();
        let id: MessageId = "m".parse().expect("valid");
        assert_eq!(
            dedup.observe(0, Key::new(&SenderId::from_trusted("a"), &id)),
            None
        );
        assert_eq!(
            dedup.observe(1, Key::new(&SenderId::from_trusted("b"), &id)),
            None
        );
        assert_eq!(
            dedup.observe(2, Key::new(&SenderId::from_trusted("a"), &id)),
            Some(0)
        );
    }

    #[test]
    fn a_copy_is_recognised_up_to_the_window_and_not_beyond() {
        let mut dedup = Dedup::default();
        dedup.observe(0, key(1));
        assert_eq!(dedup.observe(DEDUP_WINDOW, key(1)), Some(0));
        let mut dedup = Dedup::default();
        dedup.observe(0, key(1));
        assert_eq!(dedup.observe(DEDUP_WINDOW + 1, key(1)), None);
    }

    proptest! {
        /// Offsets jump by up to a window, so that forgetting is part of what is tested.
        #[test]
        fn whoever_warmed_up_by_a_window_agrees_with_whoever_saw_all(
            steps in prop::collection::vec((1..DEDUP_WINDOW / 2, 0_u8..6), 1..80), split in 0_usize..80
        ) {
            let mut offset = 0;
            let log: Vec<(u64, Key)> = steps.into_iter().map(|(step, n)| { offset += step; (offset, key(n)) }).collect();
            let start = log.get(split).map_or(0, |(offset, _)| *offset);
            let (mut whole, mut warm) = (Dedup::default(), Dedup::default());
            for (offset, key) in log {
                let all = whole.observe(offset, key.clone()).is_some();
                if offset + DEDUP_WINDOW >= start {
                    let late = warm.observe(offset, key).is_some();
                    prop_assert!(offset < start || all == late);
                }
            }
        }

        #[test]
        fn it_is_what_the_rule_says(steps in prop::collection::vec((1..DEDUP_WINDOW / 2, 0_u8..6), 1..80)) {
            let (mut dedup, mut log, mut offset) = (Dedup::default(), Vec::<(u64, u8)>::new(), 0);
            for (step, n) in steps {
                offset += step;
                let by_rule = log.iter().any(|(at, m)| *m == n && at + DEDUP_WINDOW >= offset);
                prop_assert_eq!(dedup.observe(offset, key(n)).is_some(), by_rule);
                log.push((offset, n));
            }
        }
    }
}
