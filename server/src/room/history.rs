//! History: pages of the past, from memory and, beyond that, from the broker.

use std::ops::Range;

use papo_protocol::{Epoch, event::Code, topology::DEDUP_WINDOW};

use super::Room;
use crate::{
    broker::{Broker, ReadError},
    chat::Rejection,
    fanout::Sink,
    log::{self, Message, Position},
};

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
pub(super) struct ReadBack {
    pub(super) messages: Vec<Message>,
    /// The beginning of the range is still retained.
    pub(super) is_whole: bool,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// The newest page; for a member that has missed everything since `missed_from`, with the gap.
    pub(super) async fn newest_page(
        &self,
        missed_from: Option<u64>,
    ) -> Result<InitialHistory, Rejection> {
        // The cursor is taken first: a message that is stored while the page is read comes after it, and is in no page.
        let end = self.log.end_position().ok_or_else(log_not_found)?;
        let Position {
            epoch,
            offset: cursor,
        } = end;
        let page = self.page(cursor, self.history_page).await?;
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

    /// The last `most` messages before an offset.
    pub(crate) async fn page(&self, before: u64, most: usize) -> Result<Page, Rejection> {
        let mut found = self.log.page(before, most).ok_or_else(log_not_found)?;
        let older = found.older.start..found.older.end.min(before);
        if found.is_short && found.older.end > found.older.start {
            let most = most - found.messages.len();
            let mut page = self.page_from_broker(&found.epoch, older, most).await?;
            page.messages.append(&mut found.messages);
            return Ok(page);
        }
        let more = found
            .messages
            .first()
            .is_some_and(|message| message.offset() > older.start);
        Ok(Page {
            messages: found.messages,
            more,
        })
    }

    /// The last `most` messages of a range that is no longer in memory.
    async fn page_from_broker(
        &self,
        epoch: &Epoch,
        range: Range<u64>,
        most: usize,
    ) -> Result<Page, Rejection> {
        let mut span = most as u64;
        loop {
            let start = range.end.saturating_sub(span).max(range.start);
            let reaches_head = start == range.start;
            let ReadBack { messages, is_whole } = self.read_back(epoch, start..range.end).await?;
            // When retention has removed the beginning of the range, the rest of it is all there is.
            let is_all = reaches_head || !is_whole;
            if messages.len() >= most || is_all {
                let dropped = messages.len().saturating_sub(most);
                return Ok(Page {
                    messages: messages[dropped..].to_vec(),
                    more: dropped > 0 || !is_all,
                });
            }
            span *= 2;
        }
    }

    /// The messages of a range of the log, read back from the broker. Costs it the range and the duplicate window before it.
    pub(super) async fn read_back(
        &self,
        epoch: &Epoch,
        range: Range<u64>,
    ) -> Result<ReadBack, Rejection> {
        if range.is_empty() {
            return Ok(ReadBack {
                messages: Vec::new(),
                is_whole: true,
            });
        }
        let _permit = self.deep_reads.acquire().await;
        let warm_up = range.start.saturating_sub(DEDUP_WINDOW);
        let records = self
            .broker
            .read(epoch, warm_up..range.end)
            .await
            .map_err(|error| unreadable(&error))?;
        let is_whole = records
            .first()
            .is_some_and(|stored| stored.offset <= range.start);
        Ok(ReadBack {
            messages: log::shown(&records, &range),
            is_whole,
        })
    }
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
