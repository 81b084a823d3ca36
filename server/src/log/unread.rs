//! What is stored and was not read: the proof that a reader gets nothing although there is something.
//!
//! The broker may deliver nothing, and say nothing, while its connection is open: the node is cut off from the others, or its replica of the
//! log hangs. So the health of a reader is judged by what it has read: records that were confirmed, and how far other servers have read.

use std::{collections::BTreeMap, sync::Arc};

use papo_protocol::Position;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is stored and was not read. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// When records were confirmed that nobody has read yet, in the order of the confirms.
    confirmed: BTreeMap<u64, Instant>,
    /// Where another server had read to that this one has not reached, and when it was heard of.
    reported: Option<(Position, Instant)>,
}

/// A record that is stored and not read yet, until this is dropped.
#[derive(Debug)]
pub(crate) struct UnreadRecord {
    unread: Unread,
    ticket: u64,
}

impl Unread {
    /// The broker has confirmed a record that was not read yet.
    pub(crate) fn confirmed(&self) -> UnreadRecord {
        let mut state = self.0.lock();
        let ticket = state.next;
        state.next += 1;
        state.confirmed.insert(ticket, Instant::now());
        UnreadRecord {
            unread: self.clone(),
            ticket,
        }
    }

    /// Another server has read the log to `position`, and this one to `end`.
    pub(crate) fn reported(&self, position: Position, end: Option<&Position>) {
        let mut state = self.0.lock();
        let is_unread = |of: &Position| is_beyond(of, end);
        if is_unread(&position) && !state.reported.as_ref().is_some_and(|(of, _)| is_unread(of)) {
            state.reported = Some((position, Instant::now()));
        }
    }

    /// Since when there has been something that was not read; the log was read to `end`.
    pub(super) fn since(&self, end: Option<&Position>) -> Option<Instant> {
        let state = self.0.lock();
        let confirmed = state.confirmed.values().next().copied();
        let reported = state.reported.as_ref();
        let reported = reported.filter(|(position, _)| is_beyond(position, end));
        confirmed
            .into_iter()
            .chain(reported.map(|(_, at)| *at))
            .min()
    }
}

/// A position in another log means nothing.
fn is_beyond(position: &Position, end: Option<&Position>) -> bool {
    end.is_some_and(|end| end.epoch == position.epoch && end.offset < position.offset)
}

impl Drop for UnreadRecord {
    fn drop(&mut self) {
        self.unread.0.lock().confirmed.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::log::testing::position;

    #[tokio::test(start_paused = true)]
    async fn confirmed_record_counts_until_it_is_read() {
        let (unread, began) = (Unread::default(), Instant::now());
        let end = position(7);
        let first = unread.confirmed();
        advance(Duration::from_secs(1)).await;
        let second = unread.confirmed();
        assert_eq!(unread.since(Some(&end)), Some(began));
        drop(first);
        assert_eq!(unread.since(Some(&end)), Some(Instant::now()));
        drop(second);
        assert_eq!(unread.since(Some(&end)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn report_of_another_server_counts_until_this_one_has_read_as_far() {
        let (unread, began) = (Unread::default(), Instant::now());
        unread.reported(position(7), Some(&position(7)));
        assert_eq!(unread.since(Some(&position(7))), None);
        unread.reported(position(9), Some(&position(7)));
        advance(Duration::from_secs(1)).await;
        unread.reported(position(12), Some(&position(8)));
        assert_eq!(unread.since(Some(&position(8))), Some(began));
        assert_eq!(unread.since(Some(&position(9))), None);
        unread.reported(position(12), Some(&position(9)));
        assert_eq!(unread.since(Some(&position(9))), Some(Instant::now()));
    }

    #[tokio::test]
    async fn report_of_another_log_means_nothing() {
        let unread = Unread::default();
        let other = Position {
            epoch: "other".parse().expect("valid"),
            offset: 9,
        };
        unread.reported(other, Some(&position(7)));
        unread.reported(position(9), None);
        assert_eq!(unread.since(Some(&position(7))), None);
    }
}
