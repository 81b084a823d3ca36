//! Properties of the window, against the model of [`testing`](super::testing): the whole log in a list, and the rule of which
//! records are duplicates applied to it record by record.

use papo_protocol::topology::DEDUP_WINDOW;
use proptest::prelude::*;

use super::{
    Size, Window, shown as shown_in,
    testing::{entry, epoch, last, offsets, records_of, shown_offsets},
};
use crate::broker::Stored;

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
        let read: Vec<Stored> = log.iter().filter(|stored| stored.offset + DEDUP_WINDOW >= start).cloned().collect();
        let due: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= start).collect();
        prop_assert_eq!(offsets(&shown_in(&read, &(start..end))), due);
    }
}
