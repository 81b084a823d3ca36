//! Which records are duplicates. A pure function of the log, so that every server hides the same ones.
//!
//! A record is a duplicate when another record with the same sender and id, duplicate or not, stands before it and not before its
//! [`look_back`]. To decide this, a reader must have observed all records from the look-back on: a few, because a server publishes
//! no message that it has found in the duplicate window, and writes into the record how far it had read ([`Record::since`]).
//!
//! Records that retention has removed cannot be observed. So a reader that begins at the head of a log may show a duplicate
//! as new, if it was stored at most [`DEDUP_WINDOW`] records after the removed message.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use papo_protocol::{Epoch, MessageId, Position, Record, SenderId, topology::DEDUP_WINDOW};

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

/// The least offset at which another record makes the record at `offset` a duplicate: where the log ended when a server received the
/// message, or else the beginning of the duplicate window. A position in another log, or behind the record, means nothing.
pub(super) fn look_back(epoch: &Epoch, offset: u64, record: &Record) -> u64 {
    let window = offset.saturating_sub(DEDUP_WINDOW);
    match &record.since {
        Some(since) if since.epoch == *epoch && since.offset <= offset => since.offset.max(window),
        _ => window,
    }
}

/// What is known of a message that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It was stored lately, here.
    Stored(Position),
    /// The duplicate window before `since` has no record of it; `None` if that part of the log was not read.
    Missing {
        /// The end of the log as far as it was read.
        since: Option<Position>,
    },
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
    /// Observes the record at `offset` with its look-back; if it is a duplicate, returns the offset of the message. Offsets must
    /// rise.
    pub(super) fn observe(&mut self, offset: u64, look_back: u64, key: Key) -> Option<u64> {
        self.forget_before(offset.saturating_sub(DEDUP_WINDOW));
        let earlier = self.seen.get(&key);
        let original = earlier
            .filter(|seen| seen.latest >= look_back)
            .map(|seen| seen.shown);
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
        let of = |sender| Key::new(&SenderId::from_trusted(sender), &id);
        assert_eq!(duplicates.observe(0, 0, of("a")), None);
        assert_eq!(duplicates.observe(1, 0, of("b")), None);
        assert_eq!(duplicates.observe(2, 0, of("a")), Some(0));
    }

    #[test]
    fn duplicates_are_found_up_to_the_window() {
        let mut duplicates = Duplicates::default();
        duplicates.observe(0, 0, key(1));
        assert_eq!(duplicates.observe(DEDUP_WINDOW, 0, key(1)), Some(0));
        let mut duplicates = Duplicates::default();
        duplicates.observe(0, 0, key(1));
        assert_eq!(duplicates.observe(DEDUP_WINDOW + 1, 0, key(1)), None);
    }

    #[test]
    fn records_before_the_look_back_are_not_compared() {
        let mut duplicates = Duplicates::default();
        assert_eq!(duplicates.observe(5, 0, key(1)), None);
        assert_eq!(duplicates.observe(7, 6, key(1)), None);
        assert_eq!(duplicates.observe(9, 7, key(1)), Some(7));
    }

    #[test]
    fn look_back_is_a_position_in_this_log_before_the_record() {
        let epoch = |text: &str| text.parse::<Epoch>().expect("valid");
        let far = 10 * DEDUP_WINDOW;
        for (since, expected) in [
            (Some(("e1", far - 3)), far - 3),
            (Some(("e1", far)), far),
            (Some(("e1", far + 1)), far - DEDUP_WINDOW),
            (Some(("e1", 3)), far - DEDUP_WINDOW),
            (Some(("e2", far - 3)), far - DEDUP_WINDOW),
            (None, far - DEDUP_WINDOW),
        ] {
            let mut record = crate::log::testing::record(1, "x");
            record.since = since.map(|(log, offset)| Position {
                epoch: epoch(log),
                offset,
            });
            assert_eq!(look_back(&epoch("e1"), far, &record), expected, "{since:?}");
        }
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
                let all = whole.observe(offset, 0, key.clone()).is_some();
                if offset + DEDUP_WINDOW >= start {
                    let late = warm.observe(offset, 0, key).is_some();
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
                prop_assert_eq!(duplicates.observe(offset, 0, key(n)).is_some(), by_rule);
                log.push((offset, n));
            }
        }
    }
}
