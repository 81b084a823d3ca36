//! Logs without a broker, for tests; and the model of what members get of a log.

use std::{ops::Range, sync::Arc};

use papo_protocol::{Epoch, Position, Record, SenderId, topology::DEDUP_WINDOW};
use proptest::prelude::*;

use super::{Log, Message, PastRecords, Size, Window};
use crate::broker::Stored;

/// The epoch of logs that name none.
pub(crate) fn epoch() -> Epoch {
    "e1".parse().expect("valid")
}

/// A log with a window of this size, that only the test fills, from `from` on.
pub(crate) fn log(bounds: &Range<u64>, from: u64, size: Size) -> Log {
    log_of_epoch(epoch(), bounds, from, size)
}

pub(crate) fn log_of_epoch(epoch: Epoch, bounds: &Range<u64>, from: u64, size: Size) -> Log {
    let log = Log::default();
    log.replace_window(Window::new(epoch, bounds, from, size));
    log
}

/// A record with an offset.
pub(crate) fn stored(offset: u64, id: u64, text: &str) -> Stored {
    Stored {
        offset,
        record: Some(Arc::new(record(id, text))),
        trace: None,
    }
}

/// The message `mID` of one sender.
pub(crate) fn record(id: u64, text: &str) -> Record {
    Record {
        id: format!("m{id}").parse().expect("valid"),
        sender: SenderId::from_trusted("s"),
        user: "Ana".parse().expect("valid"),
        text: text.to_owned(),
        at: 0,
        since: None,
        verified: false,
    }
}

pub(crate) fn offsets(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(Message::offset).collect()
}

impl Log {
    /// Appends one record for each offset, with the offset as its text.
    pub(crate) fn append_range(&self, offsets: Range<u64>) {
        for offset in offsets {
            self.append(&[stored(offset, offset, &offset.to_string())]);
        }
    }

    /// Makes all cursors invalid, as when the log was replaced.
    pub(crate) fn invalidate_cursors(&self) {
        self.0.send_modify(|state| state.end.generation += 1);
    }
}

/// One record of a log to be made.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// How far after the one before: more than one where the broker keeps entries of its own.
    pub(crate) step: u64,
    /// Its id; `None` for an entry that is not a record.
    pub(crate) id: Option<u8>,
    /// How far before the record the log ended for the server that published it; `None` if it did not know.
    pub(crate) late: Option<u64>,
    /// Bytes of its text.
    pub(crate) length: usize,
}

pub(crate) fn entry(step: impl Strategy<Value = u64>) -> impl Strategy<Value = Entry> {
    let id = prop_oneof![9 => any::<u8>().prop_map(|id| Some(id % 24)), 1 => Just(None)];
    let late =
        prop::option::of(prop_oneof![4 => 0_u64..4, 2 => 0_u64..60, 1 => 0..2 * DEDUP_WINDOW]);
    (step, id, late, 0_usize..300).prop_map(|(step, id, late, length)| Entry {
        step,
        id,
        late,
        length,
    })
}

/// The records of a log with these entries.
pub(crate) fn records_of(entries: &[Entry]) -> Vec<Stored> {
    let mut next = 0;
    let stored = |entry: &Entry| {
        let offset = next + entry.step - 1;
        next = offset + 1;
        let since = entry.late.map(|late| position(offset.saturating_sub(late)));
        let record = |id: u8| Record {
            since: since.clone(),
            ..record(id.into(), &text(entry.length))
        };
        Stored {
            offset,
            record: entry.id.map(record).map(Arc::new),
            trace: None,
        }
    };
    entries.iter().map(stored).collect()
}

/// A position in the log of [`epoch`].
pub(crate) fn position(offset: u64) -> Position {
    let epoch = epoch();
    Position { epoch, offset }
}

/// The messages of a range whose records were all read back.
pub(crate) fn shown(records: &[Stored], range: &Range<u64>) -> Vec<Message> {
    PastRecords::new(&epoch(), records, 0, range).messages()
}

pub(crate) fn text(length: usize) -> String {
    "x".repeat(length)
}

/// The model: the offsets of all records of ours without another of the same id before them, as far back as the log may have grown
/// since a server received the message, and no further than the duplicate window.
pub(crate) fn shown_offsets(records: &[Stored]) -> Vec<u64> {
    shown_by_rule(records, |stored, other| {
        let since = stored
            .record
            .as_ref()
            .and_then(|record| record.since.as_ref());
        since.is_none_or(|since| other.offset >= since.offset)
    })
}

/// The offsets of all records of ours without another of the same id in the duplicate window before them that counts.
pub(crate) fn shown_by_rule(
    records: &[Stored],
    counts: impl Fn(&Stored, &Stored) -> bool,
) -> Vec<u64> {
    let is_duplicate = |stored: &Stored, id| {
        let window = stored.offset.saturating_sub(DEDUP_WINDOW)..stored.offset;
        records.iter().any(|other| {
            window.contains(&other.offset)
                && other.record.as_ref().is_some_and(|other| other.id == id)
                && counts(stored, other)
        })
    };
    records
        .iter()
        .filter(|stored| {
            let id = stored.record.as_ref().map(|record| record.id.clone());
            id.is_some_and(|id| !is_duplicate(stored, id))
        })
        .map(|stored| stored.offset)
        .collect()
}

/// The last `most` of some offsets.
pub(crate) fn last(offsets: &[u64], most: usize) -> Vec<u64> {
    offsets[offsets.len().saturating_sub(most)..].to_vec()
}
