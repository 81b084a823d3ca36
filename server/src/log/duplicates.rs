//! Which records are duplicates. A pure function of the log, so that every server hides the same ones.
//!
//! A record is a duplicate when another record with the same sender and id stands at most [`DEDUP_WINDOW`] records before it,
//! duplicate or not. To decide this for the record at offset X, a reader must have observed all records from
//! X - [`DEDUP_WINDOW`] on.
//!
//! Records that retention has removed cannot be observed. So a reader that begins at the head of a log may show a duplicate
//! as new, if it was stored at most [`DEDUP_WINDOW`] records after the removed message.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use papo_protocol::{MessageId, Record, SenderId, topology::DEDUP_WINDOW};

/// What two records of one message have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Arc<(SenderId, MessageId)>);

impl Key {
    /// The key of a sender's message.
    pub(crate) fn new(sender: &SenderId, id: &MessageId) -> Self {
        Self(Arc::new((sender.clone(), id.clone())))
    }

    /// The key of a record.
    pub(crate) fn of(record: &Record) -> Self {
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
pub(super) struct Duplicates {
    seen: HashMap<Key, Seen>,
    order: VecDeque<(u64, Key)>,
}

impl Duplicates {
    /// Observes the record at `offset`; if it is a duplicate, returns the offset of the message. Offsets must rise.
    pub(super) fn observe(&mut self, offset: u64, key: Key) -> Option<u64> {
        self.forget_before(offset.saturating_sub(DEDUP_WINDOW));
        let original = self.seen.get(&key).map(|seen| seen.shown);
        self.seen.insert(
            key.clone(),
            Seen {
                latest: offset,
                shown: original.unwrap_or(offset),
            },
        );
        self.order.push_back((offset, key));
        original
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
    fn same_id_of_another_sender_is_not_a_duplicate() {
        let mut duplicates = Duplicates::default();
        let id: MessageId = "m".parse().expect("valid");
        assert_eq!(
            duplicates.observe(0, Key::new(&SenderId::from_trusted("a"), &id)),
            None
        );
        assert_eq!(
            duplicates.observe(1, Key::new(&SenderId::from_trusted("b"), &id)),
            None
        );
        assert_eq!(
            duplicates.observe(2, Key::new(&SenderId::from_trusted("a"), &id)),
            Some(0)
        );
    }

    #[test]
    fn duplicates_are_found_up_to_the_window() {
        let mut duplicates = Duplicates::default();
        duplicates.observe(0, key(1));
        assert_eq!(duplicates.observe(DEDUP_WINDOW, key(1)), Some(0));
        let mut duplicates = Duplicates::default();
        duplicates.observe(0, key(1));
        assert_eq!(duplicates.observe(DEDUP_WINDOW + 1, key(1)), None);
    }

    proptest! {
        /// Offsets jump by up to a window, so that forgetting is part of what is tested.
        #[test]
        fn warmed_up_reader_agrees_with_a_complete_one(
            steps in prop::collection::vec((1..DEDUP_WINDOW / 2, 0_u8..6), 1..80), split in 0_usize..80
        ) {
            let mut offset = 0;
            let log: Vec<(u64, Key)> = steps.into_iter().map(|(step, n)| { offset += step; (offset, key(n)) }).collect();
            let start = log.get(split).map_or(0, |(offset, _)| *offset);
            let (mut whole, mut warm) = (Duplicates::default(), Duplicates::default());
            for (offset, key) in log {
                let all = whole.observe(offset, key.clone()).is_some();
                if offset + DEDUP_WINDOW >= start {
                    let late = warm.observe(offset, key).is_some();
                    prop_assert!(offset < start || all == late);
                }
            }
        }

        #[test]
        fn duplicates_follow_the_rule(steps in prop::collection::vec((1..DEDUP_WINDOW / 2, 0_u8..6), 1..80)) {
            let (mut duplicates, mut log, mut offset) = (Duplicates::default(), Vec::<(u64, u8)>::new(), 0);
            for (step, n) in steps {
                offset += step;
                let by_rule = log.iter().any(|(at, m)| *m == n && at + DEDUP_WINDOW >= offset);
                prop_assert_eq!(duplicates.observe(offset, key(n)).is_some(), by_rule);
                log.push((offset, n));
            }
        }
    }
}
