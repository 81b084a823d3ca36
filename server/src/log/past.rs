//! Records of the past: read back from the broker, without the duplicates, by the same rule as in the window.
//!
//! A range of the log says itself how far before it records must be read to know its duplicates ([`PastRecords::look_back`]): not at
//! all, or a few records, unless a record was stored long after a server received its message.

use std::{collections::HashMap, ops::Range, sync::Arc};

use papo_protocol::{Epoch, Record};

use super::{
    duplicates::{Key, look_back},
    message::Message,
};
use crate::broker::Stored;

/// The records of a range that are not known to be duplicates.
#[derive(Debug)]
pub(crate) struct PastRecords {
    records: Vec<PastRecord>,
    /// All records from here to the end of the range were observed.
    observed_from: u64,
}

#[derive(Debug)]
struct PastRecord {
    offset: u64,
    look_back: u64,
    key: Key,
    record: Arc<Record>,
}

impl PastRecords {
    /// The records of `range`. `stored` are all records from `observed_from`, at most the beginning of the range, to its end.
    pub(crate) fn new(
        epoch: &Epoch,
        stored: &[Stored],
        observed_from: u64,
        range: &Range<u64>,
    ) -> Self {
        let mut latest = HashMap::new();
        let mut records = Vec::new();
        for (offset, record) in ours(stored) {
            let (key, look_back) = (Key::of(record), look_back(epoch, offset, record));
            let earlier = latest.insert(key.clone(), offset);
            let is_duplicate = earlier.is_some_and(|earlier| earlier >= look_back);
            if range.contains(&offset) && !is_duplicate {
                let record = record.clone();
                records.push(PastRecord {
                    offset,
                    look_back,
                    key,
                    record,
                });
            }
        }
        Self {
            records,
            observed_from,
        }
    }

    /// The offset from which the records before those observed must be observed too; `None` when the duplicates are known.
    pub(crate) fn look_back(&self) -> Option<Range<u64>> {
        let first = self.records.iter().map(|record| record.look_back).min();
        first
            .filter(|first| *first < self.observed_from)
            .map(|first| first..self.observed_from)
    }

    /// Observes all records from `from` on that stand before those observed.
    pub(crate) fn observe_older(&mut self, stored: &[Stored], from: u64) {
        let older = ours(stored).filter(|(offset, _)| *offset < self.observed_from);
        let latest: HashMap<Key, u64> = older
            .map(|(offset, record)| (Key::of(record), offset))
            .collect();
        self.records.retain(|record| {
            let is_known = record.look_back >= self.observed_from;
            let earlier = latest.get(&record.key);
            is_known || earlier.is_none_or(|earlier| *earlier < record.look_back)
        });
        self.observed_from = from.min(self.observed_from);
    }

    /// The messages: call it when the duplicates are known.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let encode = |past: &PastRecord| Message::encode(past.offset, &past.record);
        self.records.iter().map(encode).collect()
    }
}

/// The entries that are records of ours.
fn ours(stored: &[Stored]) -> impl Iterator<Item = (u64, &Arc<Record>)> {
    stored
        .iter()
        .filter_map(|stored| Some((stored.offset, stored.record.as_ref()?)))
}
