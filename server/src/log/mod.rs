//! The log as one server sees it: its recent part in memory, and the task that reads it from the broker.
//!
//! - [`Log`] owns the window, its epoch and its end behind one lock, so that all of them are always of the same moment.
//! - A [`Message`] is encoded once, outside that lock, and shared by every socket.
//! - Every server hides the same [`duplicates`].
//! - The [`reader`] runs while there is a [`ReaderGuard`], and goes to another node of the broker when it does not get what is [`Unread`].

mod duplicates;
mod message;
mod past;
#[cfg(test)]
mod properties;
mod reader;
mod reader_guard;
#[cfg(test)]
pub(crate) mod testing;
mod unread;
mod window;

use std::ops::Range;

use papo_protocol::{Epoch, Position};
use tokio::sync::watch::{self, error::RecvError};

use crate::broker::{Attached, Stored};
use window::{Prepared, Window};

pub(crate) use duplicates::{Key, Lookup};
pub(crate) use message::Message;
pub(crate) use past::PastRecords;
pub(crate) use reader::LogReader;
pub(crate) use reader_guard::{ReaderGuard, ReaderGuards};
pub(crate) use unread::Unread;
pub(crate) use window::{Pushed, Size, Slice};

/// The recent part of the room's log. Clones share it.
///
/// The lock is the one of a `watch` channel: a change of the log and the notification of those who wait for it are one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    end: End,
    /// `None` until the log was found.
    window: Option<Window>,
}

/// How far the window reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Rises when the window was replaced: cursors from before mean nothing in the new one.
    pub(crate) generation: u64,
    /// The offset of the record that would come next; `None` until the log was found.
    pub(crate) next: Option<u64>,
    /// The reader is stopped, because no member needs it: the log may have grown since it was read.
    pub(crate) is_idle: bool,
}

/// Why a cursor cannot be served from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorLost {
    /// The window begins after it.
    Behind,
    /// The window was replaced since the cursor was set.
    Replaced,
}

/// What the window holds of a page of history.
#[derive(Debug)]
pub(crate) struct PageInMemory {
    /// The log.
    pub(crate) epoch: Epoch,
    /// In order.
    pub(crate) messages: Vec<Message>,
    /// What the log retains and the window no longer holds.
    pub(crate) older: Range<u64>,
    /// The page is not full: the rest of it is older than the window.
    pub(crate) is_short: bool,
}

/// What the window holds from an offset on.
#[derive(Debug)]
pub(crate) struct MissedInMemory {
    /// The log.
    pub(crate) epoch: Epoch,
    /// The oldest offset in memory.
    pub(crate) first: u64,
    /// `None` when the window begins after the offset.
    pub(crate) slice: Option<Slice>,
}

/// Where and how big a room's log is, for `/stats`.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogStats {
    /// The log's epoch.
    pub(crate) epoch: String,
    /// Oldest offset known to be retained.
    pub(crate) head: u64,
    /// Oldest offset in memory.
    pub(crate) window: u64,
    /// The offset that the next message will get.
    pub(crate) tail: u64,
}

impl Log {
    /// How far the window reaches now.
    pub(crate) fn end(&self) -> End {
        self.0.borrow().end
    }

    /// The end of the log; `None` until the log was found.
    pub(crate) fn end_position(&self) -> Option<Position> {
        self.read(|window| Position {
            epoch: window.epoch().clone(),
            offset: window.next(),
        })
    }

    /// The epoch; `None` until the log was found.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.read(|window| window.epoch().clone())
    }

    /// The oldest offset in memory, if the log is still the one of this epoch.
    pub(crate) fn first_of(&self, epoch: &Epoch) -> Option<u64> {
        self.read(|window| (window.epoch() == epoch).then(|| window.first()))?
    }

    /// Whether a message was stored lately, as of the end of the log at the same moment.
    pub(crate) fn look_up(&self, key: &Key) -> Lookup {
        self.read(|window| window.look_up(key))
            .unwrap_or(Lookup::Missing { since: None })
    }

    /// At most `most` messages from `cursor` on, for a cursor of this generation.
    pub(crate) fn slice(
        &self,
        cursor: u64,
        generation: u64,
        most: Size,
    ) -> Result<Slice, CursorLost> {
        let state = self.0.borrow();
        if state.end.generation != generation {
            return Err(CursorLost::Replaced);
        }
        let window = state.window.as_ref();
        window
            .and_then(|window| window.after(cursor, most))
            .ok_or(CursorLost::Behind)
    }

    /// When the messages of a range of offsets were sent (milliseconds since the Unix epoch), as far as they are in memory.
    pub(crate) fn sent_at(&self, offsets: Range<u64>) -> Vec<i64> {
        self.read(|window| window.messages(offsets).map(Message::at).collect())
            .unwrap_or_default()
    }

    /// The last `most` messages before an offset; `None` until the log was found.
    pub(crate) fn page(&self, before: u64, most: usize) -> Option<PageInMemory> {
        self.read(|window| {
            let (messages, is_short) = window.before(before, most);
            PageInMemory {
                epoch: window.epoch().clone(),
                messages,
                older: window.head()..window.first(),
                is_short,
            }
        })
    }

    /// At most `most` messages from an offset on; `None` until the log was found.
    pub(crate) fn missed(&self, from: u64, most: Size) -> Option<MissedInMemory> {
        self.read(|window| MissedInMemory {
            epoch: window.epoch().clone(),
            first: window.first(),
            slice: window.after(from, most),
        })
    }

    /// `None` until the log was found.
    pub(crate) fn stats(&self) -> Option<LogStats> {
        self.read(|window| LogStats {
            epoch: window.epoch().to_string(),
            head: window.head(),
            window: window.first(),
            tail: window.next(),
        })
    }

    /// Waits for changes of the end.
    pub(crate) fn watch(&self) -> EndWatch {
        EndWatch(self.0.subscribe())
    }

    /// Appends records and wakes the members' cursors; what became of each, in order.
    pub(crate) fn append(&self, records: &[Stored]) -> Vec<Pushed> {
        let prepared: Vec<Prepared> = records.iter().map(Prepared::from).collect();
        let mut pushed = Vec::with_capacity(prepared.len());
        self.0.send_modify(|State { end, window }| {
            let Some(window) = window else { return };
            pushed.extend(prepared.into_iter().map(|record| window.push(record)));
            end.next = Some(window.next());
        });
        pushed
    }

    /// Begins a window at the place where a reader has attached. Cursors of before mean nothing in it.
    fn replace<R>(&self, attached: &Attached<R>) {
        let window = Window::new(
            attached.epoch.clone(),
            &attached.bounds,
            attached.from,
            Size::default(),
        );
        self.replace_window(window);
    }

    fn replace_window(&self, window: Window) {
        self.0.send_modify(|state| {
            state.end.generation += 1;
            state.end.next = Some(window.next());
            state.window = Some(window);
        });
    }

    fn set_idle(&self, is_idle: bool) {
        self.0.send_modify(|state| state.end.is_idle = is_idle);
    }

    fn read<T>(&self, read: impl FnOnce(&Window) -> T) -> Option<T> {
        self.0.borrow().window.as_ref().map(read)
    }
}

/// Waits for changes of a log's end.
#[derive(Debug)]
pub(crate) struct EndWatch(watch::Receiver<State>);

impl EndWatch {
    /// Waits until the end is as wanted. Can be dropped and called again: no change is missed.
    pub(crate) async fn wait_for(
        &mut self,
        mut is_wanted: impl FnMut(&End) -> bool,
    ) -> Result<End, RecvError> {
        let state = self.0.wait_for(|state| is_wanted(&state.end)).await?;
        Ok(state.end)
    }
}
