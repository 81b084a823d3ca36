//! History: pages of the past, from memory and, beyond that, from the broker.
//!
//! Reading the past back from the broker is bounded, whatever is asked for:
//! - It goes in steps of at most [`STEP`] records, each in a turn of its own ([`Turns`](super::turns::Turns)); what a step has read is
//!   handed on before the next one.
//! - A step costs its own records and [`MARGIN`] before them. It reads further back only to records that may be duplicates of one
//!   that was stored late ([`PastRecords`]).
//! - Dropping the future stops the read, or gives up the place in the queue.

use std::ops::Range;

use papo_protocol::{Epoch, Position, event::Code};

use super::{
    Requester, Room,
    turns::{Crowded, Turn},
};
use crate::{
    broker::{Broker, ReadError, Stored},
    chat::Rejection,
    fanout::Sink,
    log::{Message, PastRecords},
};

/// Most records that are read back from the broker at once.
pub(super) const STEP: u64 = 1_000;
/// Records that are read before each range with it. As many are on their way from the servers to the log at once in a busy room, so
/// that one read is usually enough to know the duplicates.
pub(super) const MARGIN: u64 = 100;
/// Most bytes of encoded messages in a page.
const PAGE_BYTES: usize = 1 << 20;
/// Messages that a page may have whatever their size: the web page requests so many, and expects all of them.
const ANY_SIZE: usize = 50;

/// What a member gets first, and where its cursor stands after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialHistory {
    /// The log.
    pub(crate) epoch: Epoch,
    /// In order.
    pub(crate) page: Page,
    /// The messages are exactly those that the member has missed, or the first of them.
    pub(crate) recovered: bool,
    /// Offsets that were missed and are not among the messages, because the log no longer has them.
    pub(crate) gap: Option<(u64, u64)>,
    /// The member has been sent everything before this offset.
    pub(crate) cursor: u64,
}

/// Some messages in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// In order.
    pub(crate) messages: Vec<Message>,
    /// There are older ones.
    pub(crate) more: bool,
}

/// The messages of a range of the log, read back from the broker.
#[derive(Debug)]
pub(super) struct ReadBack {
    pub(super) messages: Vec<Message>,
    /// The beginning of the range is still retained.
    pub(super) is_whole: bool,
    /// Ends when this is dropped: others read then.
    pub(super) _turn: Turn<Requester>,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// The newest page; for a member that has missed everything since `missed_from`, with the gap.
    pub(super) async fn newest_page(
        &self,
        missed_from: Option<u64>,
        requester: Requester,
    ) -> Result<InitialHistory, Rejection> {
        // The cursor is taken first: a message that is stored while the page is read comes after it, and is in no page.
        let end = self.log.end_position().ok_or_else(log_not_found)?;
        let Position {
            epoch,
            offset: cursor,
        } = end;
        let page = self.page(cursor, self.history_page, requester).await?;
        let first = page.messages.first().map_or(cursor, Message::offset);
        let gap = missed_from
            .filter(|from| *from < first)
            .map(|from| (from, first - 1));
        Ok(InitialHistory {
            epoch,
            page,
            recovered: false,
            gap,
            cursor,
        })
    }

    /// The last messages before an offset: `most`, or fewer if they are large.
    pub(crate) async fn page(
        &self,
        before: u64,
        most: usize,
        requester: Requester,
    ) -> Result<Page, Rejection> {
        let found = self.log.page(before, most).ok_or_else(log_not_found)?;
        let older = found.older.start..found.older.end.min(before);
        if found.is_short && !older.is_empty() {
            let newer = found.messages;
            return self
                .page_from_broker(&found.epoch, older, newer, most, requester)
                .await;
        }
        let more = found
            .messages
            .first()
            .is_some_and(|message| message.offset() > older.start);
        Ok(bounded(found.messages, most, more))
    }

    /// The last `most` messages of a range that is no longer in memory, and of the newer ones after it.
    async fn page_from_broker(
        &self,
        epoch: &Epoch,
        range: Range<u64>,
        newer: Vec<Message>,
        most: usize,
        requester: Requester,
    ) -> Result<Page, Rejection> {
        let (mut messages, mut end) = (newer, range.end);
        let mut span = (most - messages.len()) as u64;
        loop {
            let start = end.saturating_sub(span.min(STEP)).max(range.start);
            let mut read = self.read_back(epoch, start..end, requester).await?;
            read.messages.append(&mut messages);
            messages = read.messages;
            // When retention has removed the beginning of the range, the rest of it is all there is.
            let is_all = start == range.start || !read.is_whole;
            if is_all || messages.len() >= most || bytes(&messages) >= PAGE_BYTES {
                return Ok(bounded(messages, most, !is_all));
            }
            (end, span) = (start, 2 * span);
        }
    }

    /// The messages of a range of at most [`STEP`] records, read back from the broker.
    pub(super) async fn read_back(
        &self,
        epoch: &Epoch,
        range: Range<u64>,
        requester: Requester,
    ) -> Result<ReadBack, Rejection> {
        let mut turn = self.turn(requester).await?;
        let from = range.start.saturating_sub(MARGIN);
        let stored = self.read(epoch, from..range.end).await?;
        let is_whole = stored
            .first()
            .is_some_and(|stored| stored.offset <= range.start);
        let mut records = PastRecords::new(epoch, &stored, from, &range);
        drop(stored);
        while let Some(older) = records.look_back() {
            // Each step back is a turn of its own too.
            drop(turn);
            turn = self.turn(requester).await?;
            let from = older.end.saturating_sub(STEP).max(older.start);
            let stored = self.read(epoch, from..older.end).await?;
            records.observe_older(&stored, from);
        }
        Ok(ReadBack {
            messages: records.messages(),
            is_whole,
            _turn: turn,
        })
    }

    async fn turn(&self, requester: Requester) -> Result<Turn<Requester>, Rejection> {
        let turn = self.turns.acquire(requester).await;
        turn.map_err(|Crowded| {
            self.metrics.past_read_rejected();
            Rejection::new(
                Code::Unavailable,
                "too many clients read the history of this room; try again in a second",
            )
        })
    }

    async fn read(&self, epoch: &Epoch, range: Range<u64>) -> Result<Vec<Stored>, Rejection> {
        let records = self.broker.read(epoch, range).await;
        let records = records.map_err(|error| unreadable(&error))?;
        self.metrics.past_records_read(records.len());
        Ok(records)
    }
}

/// The last `most` messages as far as they fit into [`PAGE_BYTES`]; `more` if there are older ones than these.
fn bounded(mut messages: Vec<Message>, most: usize, more: bool) -> Page {
    let mut bytes = 0;
    let fitting = messages.iter().rev().take(most).take_while(|message| {
        bytes += message.size();
        bytes <= PAGE_BYTES
    });
    let kept = fitting.count().max(ANY_SIZE.min(most));
    let dropped = messages.len().saturating_sub(kept);
    Page {
        messages: messages.split_off(dropped),
        more: more || dropped > 0,
    }
}

fn bytes(messages: &[Message]) -> usize {
    messages.iter().map(Message::size).sum()
}

pub(super) fn log_not_found() -> Rejection {
    unreadable(&ReadError::Unavailable(
        "the server has not found the log yet".to_owned(),
    ))
}

fn unreadable(error: &ReadError) -> Rejection {
    Rejection::new(
        Code::Unavailable,
        format!("the history cannot be read now: {error}; try again"),
    )
}
