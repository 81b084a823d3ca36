//! The window: the recent part of the room's log, kept once per server and shared by all its sockets.
//!
//! Every offset has its slot. The slots of duplicates ([`Duplicates`]), and of entries that the broker keeps for itself, are
//! empty: no member gets anything for them. Nothing here waits or does I/O.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use papo_protocol::{Epoch, Position, Record, topology::DEDUP_WINDOW};

use super::{
    duplicates::{Duplicates, Key, Lookup, look_back},
    message::Message,
};
use crate::broker::Stored;

/// How much of the log is kept in memory, or handed to a member at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Most records.
    pub(crate) records: usize,
    /// Most bytes of encoded messages.
    pub(crate) bytes: usize,
}

impl Size {
    /// A number of records of any size.
    #[cfg(test)]
    pub(crate) fn records(records: usize) -> Self {
        let bytes = usize::MAX;
        Self { records, bytes }
    }
}

impl Default for Size {
    fn default() -> Self {
        Self {
            records: 16_384,
            bytes: 16 << 20,
        }
    }
}

/// The recent part of one log.
#[derive(Debug)]
pub(super) struct Window {
    epoch: Epoch,
    size: Size,
    /// Oldest offset retained by the log when it was attached.
    head: u64,
    /// Offsets below are only observed for [`Duplicates`]: which of them are duplicates is not known here.
    shown_from: u64,
    /// Offset of the first slot.
    base: u64,
    slots: VecDeque<Option<Message>>,
    bytes: usize,
    duplicates: Duplicates,
}

/// A record on its way into the window, encoded before the log is locked.
#[derive(Debug)]
pub(super) struct Prepared {
    offset: u64,
    /// `None` when what is stored at this offset is not one of our records.
    message: Option<(Arc<Record>, Key, Message)>,
}

impl From<&Stored> for Prepared {
    fn from(stored: &Stored) -> Self {
        let record = stored.record.as_ref();
        Self {
            offset: stored.offset,
            message: record.map(|record| {
                let message = Message::encode(stored.offset, record);
                (record.clone(), Key::of(record), message)
            }),
        }
    }
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A message that members get.
    New(Key),
    /// A second stored copy of the message at `original`.
    Duplicate {
        /// The message's.
        key: Key,
        /// The offset of the message that members get.
        original: u64,
    },
    /// Nothing that members could get: not one of our records, or read before.
    Nothing,
}

/// Messages from a cursor on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// In order.
    pub(crate) messages: Vec<Message>,
    /// The cursor after them.
    pub(crate) next: u64,
}

impl Window {
    /// How many records before the end a reader must begin, so that a whole duplicate window of records can be served.
    pub(super) const WARM_UP: u64 = 2 * DEDUP_WINDOW;

    /// An empty window on a log that retains `bounds`, to be filled from `from` on.
    pub(super) fn new(epoch: Epoch, bounds: &Range<u64>, from: u64, size: Size) -> Self {
        let whole_log = from == bounds.start;
        let shown_from = if whole_log { from } else { from + DEDUP_WINDOW };
        Self {
            epoch,
            size,
            head: bounds.start,
            shown_from,
            base: from,
            slots: VecDeque::new(),
            bytes: 0,
            duplicates: Duplicates::default(),
        }
    }

    /// The log this is a part of.
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The offset of the record that would come next.
    pub(super) fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The oldest offset that can be served from here.
    pub(super) fn first(&self) -> u64 {
        self.base.max(self.shown_from.min(self.next()))
    }

    /// The oldest offset that the log is known to have retained.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// How many records it holds, and how many bytes of them.
    #[cfg(test)]
    pub(super) fn extent(&self) -> (usize, usize) {
        (self.slots.len(), self.bytes)
    }

    /// Whether a message was stored in the duplicate window before the end.
    pub(super) fn look_up(&self, key: &Key) -> Lookup {
        let position = |offset| Position {
            epoch: self.epoch.clone(),
            offset,
        };
        if let Some(offset) = self.duplicates.find(key) {
            return Lookup::Stored(position(offset));
        }
        let is_observed = self.next() >= self.shown_from;
        Lookup::Missing {
            since: is_observed.then(|| position(self.next())),
        }
    }

    /// Appends a record, unless it was appended before.
    pub(super) fn push(&mut self, record: impl Into<Prepared>) -> Pushed {
        let Prepared { offset, message } = record.into();
        if offset < self.next() {
            return Pushed::Nothing;
        }
        self.pass_over(offset);
        let Some((record, key, message)) = message else {
            self.append(None);
            return Pushed::Nothing;
        };
        let look_back = look_back(&self.epoch, offset, &record);
        if let Some(original) = self.duplicates.observe(offset, look_back, key.clone()) {
            self.append(None);
            return Pushed::Duplicate { key, original };
        }
        self.append(Some(message));
        Pushed::New(key)
    }

    /// Gives the offsets before `offset` that hold no record their empty slots.
    fn pass_over(&mut self, offset: u64) {
        if offset - self.next() > self.size.records as u64 {
            self.slots.clear();
            self.bytes = 0;
            self.base = offset;
        }
        while self.next() < offset {
            self.append(None);
        }
    }

    fn append(&mut self, slot: Option<Message>) {
        self.bytes += slot.as_ref().map_or(0, Message::size);
        self.slots.push_back(slot);
        while self.slots.len() > self.size.records
            || (self.bytes > self.size.bytes && self.slots.len() > 1)
        {
            let evicted = self.slots.pop_front().flatten();
            self.bytes -= evicted.map_or(0, |message| message.size());
            self.base += 1;
        }
    }

    /// Messages from `cursor` on, at least one if there is any and at most `most`; `None` when the window begins after it.
    pub(super) fn after(&self, cursor: u64, most: Size) -> Option<Slice> {
        if cursor < self.first() {
            return None;
        }
        let mut slice = Slice {
            messages: Vec::new(),
            next: cursor.min(self.next()),
        };
        let skipped = usize::try_from(slice.next - self.base).ok()?;
        let mut bytes = 0;
        for slot in self.slots.iter().skip(skipped) {
            bytes += slot.as_ref().map_or(0, Message::size);
            let count = slice.messages.len();
            if count == most.records || (count > 0 && bytes > most.bytes) {
                break;
            }
            slice.messages.extend(slot.clone());
            slice.next += 1;
        }
        Some(slice)
    }

    /// The last `most` messages before `before`, in order, and whether they are fewer because the window has no more.
    pub(super) fn before(&self, before: u64, most: usize) -> (Vec<Message>, bool) {
        let end = usize::try_from(before.saturating_sub(self.base))
            .unwrap_or(usize::MAX)
            .min(self.slots.len());
        let hidden = usize::try_from(self.first() - self.base).unwrap_or(usize::MAX);
        let shown = self.slots.iter().take(end).skip(hidden).rev().flatten();
        let mut messages: Vec<Message> = shown.take(most).cloned().collect();
        messages.reverse();
        let is_short = messages.len() < most;
        (messages, is_short)
    }

    /// The messages of a range of offsets, as far as they are here.
    pub(super) fn messages(&self, offsets: Range<u64>) -> impl Iterator<Item = &Message> {
        let slot = |offset: u64| {
            usize::try_from(offset.saturating_sub(self.base))
                .unwrap_or(usize::MAX)
                .min(self.slots.len())
        };
        let (start, end) = (slot(offsets.start), slot(offsets.end));
        self.slots.range(start..end.max(start)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::testing::{self, offsets, shown};

    fn stored(offset: u64, id: u64) -> Stored {
        testing::stored(offset, id, &format!("text {id}"))
    }

    fn window(from: u64, records: usize) -> Window {
        let epoch = "e1".parse().expect("valid");
        Window::new(
            epoch,
            &(from..from),
            from,
            Size {
                records,
                bytes: usize::MAX,
            },
        )
    }

    #[test]
    fn offsets_without_records_are_skipped() {
        let mut window = window(5, 10);
        for offset in [5, 7, 8] {
            assert!(matches!(
                window.push(&stored(offset, offset)),
                Pushed::New(_)
            ));
        }
        let slice = window.after(5, Size::records(10)).expect("in the window");
        assert_eq!((offsets(&slice.messages), slice.next), (vec![5, 7, 8], 9));
        window.push(&stored(1_000_000, 9));
        assert_eq!((window.first(), window.slots.len()), (1_000_000, 1));
    }

    #[test]
    fn redelivered_record_is_ignored() {
        let mut window = window(0, 10);
        window.push(&stored(0, 1));
        assert_eq!(window.push(&stored(0, 1)), Pushed::Nothing);
        assert_eq!(
            offsets(
                &window
                    .after(0, Size::records(10))
                    .expect("in the window")
                    .messages
            ),
            [0]
        );
    }

    #[test]
    fn duplicate_takes_an_offset_and_is_hidden() {
        let mut window = window(0, 10);
        for (offset, id) in [(0, 1), (1, 2), (2, 1), (3, 3)] {
            window.push(&stored(offset, id));
        }
        let slice = window.after(0, Size::records(10)).expect("in the window");
        assert_eq!((offsets(&slice.messages), slice.next), (vec![0, 1, 3], 4));
    }

    #[test]
    fn cursor_before_the_window_gets_none() {
        let mut window = window(0, 3);
        for offset in 0..5 {
            window.push(&stored(offset, offset));
        }
        assert_eq!(window.after(1, Size::records(10)), None);
        assert_eq!(
            window
                .after(2, Size::records(10))
                .map(|slice| offsets(&slice.messages)),
            Some(vec![2, 3, 4])
        );
        assert_eq!(
            window.after(9, Size::records(10)).map(|slice| slice.next),
            Some(5)
        );
    }

    #[test]
    fn window_is_bounded_in_bytes() {
        let epoch = "e1".parse().expect("valid");
        let mut window = Window::new(
            epoch,
            &(0..0),
            0,
            Size {
                records: 1000,
                bytes: 2000,
            },
        );
        for offset in 0..100 {
            window.push(&stored(offset, offset));
            assert!(window.bytes <= 2000);
        }
        assert!(window.first() > 80, "the oldest messages are evicted");
    }

    #[test]
    fn records_of_the_warm_up_are_not_served() {
        let epoch = "e1".parse().expect("valid");
        let mut window = Window::new(epoch, &(0..100_000), 50_000, Size::default());
        for offset in 50_000..50_000 + DEDUP_WINDOW + 10 {
            window.push(&stored(offset, offset));
        }
        assert_eq!(window.first(), 50_000 + DEDUP_WINDOW);
        assert_eq!(window.before(u64::MAX, 1000).0.len(), 10);
    }

    proptest! {
        /// The model is the whole log with the rule applied to it.
        #[test]
        fn window_serves_the_log_without_duplicates(
            ids in prop::collection::vec(0_u64..30, 0..120), records in 1_usize..60, cursor in 0_u64..130, most in 1_usize..40
        ) {
            let log: Vec<Stored> = ids.iter().zip(0..).map(|(id, offset)| stored(offset, *id)).collect();
            let mut window = window(0, records);
            for record in &log {
                window.push(record);
            }
            let end = log.len() as u64;
            let model = offsets(&shown(&log, &(0..end)));
            match window.after(cursor, Size::records(most)) {
                None => prop_assert!(cursor < end.saturating_sub(records as u64)),
                Some(slice) => {
                    let expected: Vec<u64> = model.iter().copied().filter(|offset| *offset >= cursor).take(most).collect();
                    prop_assert_eq!(offsets(&slice.messages), expected);
                }
            }
            let (page, _) = window.before(cursor, most);
            let held: Vec<u64> = model.iter().copied().filter(|offset| *offset >= window.first() && *offset < cursor).collect();
            prop_assert_eq!(offsets(&page), held[held.len().saturating_sub(most)..].to_vec());
        }

        /// A cursor that takes any number of messages or bytes at a time.
        #[test]
        fn cursor_gets_each_message_once_in_order(
            ids in prop::collection::vec(0_u64..20, 0..100), steps in prop::collection::vec(1_usize..7, 1..200), bytes in prop_oneof![0_usize..1_000, Just(usize::MAX)]
        ) {
            let mut window = window(0, 1000);
            let log: Vec<Stored> = ids.iter().zip(0..).map(|(id, offset)| stored(offset, *id)).collect();
            let (mut cursor, mut seen, mut pushes) = (0, Vec::new(), log.iter());
            for step in steps.iter().cycle().take(400) {
                for record in pushes.by_ref().take(*step) {
                    window.push(record);
                }
                let slice = window.after(cursor, Size { records: *step, bytes }).expect("in the window");
                let size: usize = slice.messages.iter().map(Message::size).sum();
                prop_assert!(size <= bytes || slice.messages.len() == 1);
                let next = window.after(slice.next, Size::records(1)).expect("in the window").messages;
                let would_fit = next.first().is_some_and(|next| size + next.size() <= bytes);
                prop_assert!(!would_fit || slice.messages.len() == *step, "as much as fits");
                seen.extend(offsets(&slice.messages));
                cursor = slice.next;
            }
            prop_assert_eq!(seen, offsets(&shown(&log, &(0..log.len() as u64))));
        }
    }
}
