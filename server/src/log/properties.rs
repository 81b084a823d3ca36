//! Properties of the window, against the model of [`testing`](super::testing): the whole log in a list, and the rule of which
//! records are duplicates applied to it record by record.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use papo_protocol::{Record, topology::DEDUP_WINDOW};
use proptest::prelude::*;

use super::{
    Key, Lookup, PastRecords, Size, Window,
    testing::{
        entry, epoch, last, offsets, record, records_of, shown, shown_by_rule, shown_offsets,
    },
};
use crate::broker::Stored;

/// What happens to one of several servers that share a log.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends the message with this id.
    Send(u64),
    /// The oldest message that is not stored yet is stored.
    Store,
    /// The connection is lost: what was stored since the last loss is stored again.
    StoreAgain,
    /// It reads so many records.
    Read(usize),
    /// It starts again, in the middle of the log if that is long enough.
    Restart,
    /// The log grows by so many offsets.
    Grow(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..8).prop_map(Step::Send),
        4 => Just(Step::Store),
        1 => Just(Step::StoreAgain),
        4 => (1_usize..20).prop_map(Step::Read),
        1 => Just(Step::Restart),
        2 => (1..DEDUP_WINDOW / 2).prop_map(Step::Grow),
    ]
}

/// One of several servers that share a log.
struct Publisher {
    window: Window,
    read: usize,
    waiting: VecDeque<Record>,
    unconfirmed: Vec<Record>,
}

impl Publisher {
    /// A server that starts to read a log whose next record gets the offset `next`.
    fn start(log: &[Stored], next: u64) -> Self {
        let size = Size {
            records: 10,
            bytes: usize::MAX,
        };
        let from = next.saturating_sub(Window::WARM_UP);
        Self {
            window: Window::new(epoch(), &(0..next), from, size),
            read: log.partition_point(|stored| stored.offset < from),
            waiting: VecDeque::new(),
            unconfirmed: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step, log: &mut Vec<Stored>, next: &mut u64) {
        match step {
            Step::Send(id) => {
                let record = record(*id, "x");
                if let Lookup::Missing { since } = self.window.look_up(&Key::of(&record)) {
                    self.waiting.push_back(Record { since, ..record });
                }
            }
            Step::Store => {
                if let Some(record) = self.waiting.pop_front() {
                    store(log, next, &record);
                    self.unconfirmed.push(record);
                }
            }
            Step::StoreAgain => {
                for record in self.unconfirmed.drain(..) {
                    store(log, next, &record);
                }
            }
            Step::Read(count) => {
                let end = log.len().min(self.read + count);
                for stored in &log[self.read..end] {
                    self.window.push(stored);
                }
                self.read = end;
            }
            Step::Restart => *self = Self::start(log, *next),
            Step::Grow(offsets) => *next += offsets,
        }
    }
}

fn store(log: &mut Vec<Stored>, next: &mut u64, record: &Record) {
    log.push(Stored {
        offset: *next,
        record: Some(Arc::new(record.clone())),
        trace: None,
    });
    *next += 1;
}

/// The messages of a range, read back in steps as a room reads them, and how many offsets that took.
fn read_back(log: &[Stored], range: &Range<u64>, margin: u64, most: u64) -> (Vec<u64>, u64) {
    let read = |range: Range<u64>| -> Vec<Stored> {
        let within = log.iter().filter(|stored| range.contains(&stored.offset));
        within.cloned().collect()
    };
    let mut from = range.start.saturating_sub(margin);
    let mut records = PastRecords::new(&epoch(), &read(from..range.end), from, range);
    while let Some(older) = records.look_back() {
        from = older.end.saturating_sub(most).max(older.start);
        records.observe_older(&read(from..older.end), from);
    }
    (offsets(&records.messages()), range.end - from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// With any bounds, after every record.
    #[test]
    fn window_serves_the_end_of_the_log_within_its_bounds(
        entries in prop::collection::vec(entry(prop_oneof![9 => 1_u64..3, 1 => 3_u64..60]), 1..80),
        records in 1_usize..50, bytes in 100_usize..20_000, reach in 0_u64..60, most in 1_usize..20,
    ) {
        let log = records_of(&entries);
        let shown = shown_offsets(&log);
        let mut window = Window::new(epoch(), &(0..0), 0, Size { records, bytes });
        for stored in &log {
            window.push(stored);
            let next = stored.offset + 1;
            prop_assert_eq!(window.next(), next);
            let (records_held, size) = window.extent();
            prop_assert!(records_held <= records && (size <= bytes || records_held == 1));
            for cursor in [next.saturating_sub(reach), window.first(), next, next + 1] {
                let slice = window.after(cursor, Size::records(most));
                prop_assert_eq!(slice.is_none(), cursor < window.first());
                let Some(slice) = slice else { continue };
                let due: Vec<u64> = shown.iter().copied().filter(|offset| (cursor..next).contains(offset)).collect();
                prop_assert_eq!(offsets(&slice.messages), &due[..most.min(due.len())]);
                let passed = due.iter().filter(|offset| **offset < slice.next).count();
                prop_assert_eq!(passed, slice.messages.len(), "a cursor passes the messages that were returned, and no others");
                let (page, is_short) = window.before(cursor, most);
                let older: Vec<u64> = shown.iter().copied().filter(|offset| (window.first()..cursor.min(next)).contains(offset)).collect();
                prop_assert_eq!(offsets(&page), last(&older, most));
                prop_assert_eq!(is_short, older.len() < most);
            }
        }
    }

    /// From any two places on, and for records that are read back from the broker.
    #[test]
    fn all_readers_hide_the_same_duplicates(
        entries in prop::collection::vec(entry(1..DEDUP_WINDOW / 3), 1..40), begins in prop::array::uniform2(0_u64..4 * DEDUP_WINDOW), back in 0..DEDUP_WINDOW,
        margin in 0..DEDUP_WINDOW, most in DEDUP_WINDOW / 20..DEDUP_WINDOW,
    ) {
        let log = records_of(&entries);
        let (shown, end) = (shown_offsets(&log), log.last().map_or(0, |stored| stored.offset + 1));
        for from in begins.map(|from| from.min(end)) {
            let mut window = Window::new(epoch(), &(0..end), from, Size { records: usize::MAX, bytes: usize::MAX });
            for stored in log.iter().filter(|stored| stored.offset >= from) {
                window.push(stored);
            }
            let due: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= window.first()).collect();
            let slice = window.after(window.first(), Size::records(usize::MAX)).expect("in the window");
            prop_assert_eq!(offsets(&slice.messages), due);
        }
        let start = end.saturating_sub(back);
        let due: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= start).collect();
        prop_assert_eq!(read_back(&log, &(start..end), margin, most).0, due);
    }

    /// A page costs what its records say that they need, and at most the duplicate window.
    #[test]
    fn look_back_is_no_longer_than_the_records_are_late(
        entries in prop::collection::vec(entry(1_u64..3), 1..200), start in 0_u64..200, length in 1_u64..50, margin in 0_u64..20, most in 1_u64..50,
    ) {
        let log = records_of(&entries);
        let range = start..start + length;
        let (_, cost) = read_back(&log, &range, margin, most);
        let within = log.iter().filter(|stored| range.contains(&stored.offset));
        let earliest = within.filter_map(|stored| {
            let since = stored.record.as_ref()?.since.as_ref();
            Some(since.map_or(0, |since| since.offset))
        });
        let needed = range.end - earliest.min().unwrap_or(range.start).min(range.start.saturating_sub(margin));
        prop_assert!(cost <= needed, "{cost} of {needed}");
    }

    /// Servers that publish, lose confirms and lag behind the log, and clients that send again through any of them: what a record
    /// says of the log before it is true, so that no look-back is too short.
    #[test]
    fn servers_write_how_far_they_looked_for_duplicates(steps in prop::collection::vec((0_usize..3, step()), 1..250)) {
        let (mut log, mut next) = (Vec::new(), 0);
        let mut servers: Vec<Publisher> = (0..3).map(|_| Publisher::start(&log, next)).collect();
        for (server, step) in &steps {
            servers[*server].step(step, &mut log, &mut next);
        }
        let in_whole_window = shown_by_rule(&log, |_, _| true);
        prop_assert_eq!(offsets(&shown(&log, &(0..next))), in_whole_window);
    }
}
