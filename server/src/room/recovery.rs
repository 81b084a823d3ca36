//! Recovery: what a client gets first, and how a member that is behind the window is brought up to it.

use std::time::Duration;

use papo_engineio::Push;
use papo_protocol::{Epoch, event::Code, topology::DEDUP_WINDOW};
use tokio::time::{sleep, timeout};

use super::{
    InitialHistory, Page, Room,
    history::{ReadBack, log_not_found},
};
use crate::{
    broker::Broker,
    chat::{Rejection, Resume},
    fanout::Sink,
    log::{Message, MissedInMemory},
};

/// Most missed messages in the initial history; the rest of them follows as `message` events.
pub(super) const MOST_RECOVERED: usize = 1_000;
/// How long a client waits for the log to be found, and to be read to its end if the reader was idle.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for an offset that another server has delivered and this one has not read yet.
const BEHIND_ANOTHER_SERVER: Duration = Duration::from_secs(2);
/// How soon a socket that was full is tried again.
const RETRY: Duration = Duration::from_millis(20);

impl<B: Broker, S: Sink> Room<B, S> {
    /// What a member gets first: what it has missed, if it names an offset of this log, or else the newest page. The caller holds
    /// a reader guard.
    pub(super) async fn initial_history(
        &self,
        resume: Option<&Resume>,
    ) -> Result<InitialHistory, Rejection> {
        self.wait_for_log().await?;
        if let Some(resume) = resume
            && self.reaches(resume).await
        {
            return self.recover(resume.offset + 1).await;
        }
        self.newest_page(None).await
    }

    async fn wait_for_log(&self) -> Result<(), Rejection> {
        let mut end = self.log.watch();
        let is_read = end.wait_for(|end| end.next.is_some() && !end.is_idle);
        let in_time = timeout(LOG_TIMEOUT, is_read).await.is_ok();
        // Without the broker, the messages in memory are better than none: the rest follows when the broker is back.
        if in_time || self.log.end().next.is_some() {
            return Ok(());
        }
        Err(Rejection::new(
            Code::Unavailable,
            "the server cannot reach the room's log yet; try again",
        ))
    }

    /// Is this a position in the current log? For an offset just beyond the end it waits: another server may have read more.
    async fn reaches(&self, resume: &Resume) -> bool {
        let is_same_log = || self.log.epoch().as_ref() == Some(&resume.epoch);
        let mut end = self.log.watch();
        let is_read = end.wait_for(|end| end.next.is_some_and(|next| resume.offset < next));
        is_same_log() && timeout(BEHIND_ANOTHER_SERVER, is_read).await.is_ok() && is_same_log()
    }

    async fn recover(&self, from: u64) -> Result<InitialHistory, Rejection> {
        let MissedInMemory {
            epoch,
            first,
            slice,
        } = self
            .log
            .missed(from, MOST_RECOVERED)
            .ok_or_else(log_not_found)?;
        if let Some(slice) = slice {
            return Ok(recovered(epoch, slice.messages, slice.next));
        }
        let ReadBack {
            mut messages,
            is_whole,
        } = self.read_back(&epoch, from..first).await?;
        if !is_whole {
            return self.newest_page(Some(from)).await;
        }
        let cursor = messages.get(MOST_RECOVERED).map_or(first, Message::offset);
        messages.truncate(MOST_RECOVERED);
        Ok(recovered(epoch, messages, cursor))
    }

    /// Brings a member whose cursor is behind the window up to it, as fast as the member reads. Returns its new cursor, or `None`
    /// when the member has left, or has to resume again.
    pub(crate) async fn catch_up(&self, history: &InitialHistory, sink: &S) -> Option<u64> {
        let (epoch, mut cursor) = (&history.epoch, history.cursor);
        loop {
            let first = self.log.first_of(epoch)?;
            if cursor >= first {
                return Some(cursor);
            }
            let end = first.min(cursor + DEDUP_WINDOW);
            let ReadBack { messages, is_whole } = self.read_back(epoch, cursor..end).await.ok()?;
            if !is_whole {
                return None;
            }
            for message in messages {
                push_in_time(sink, &message, self.slow_reader_timeout).await?;
            }
            cursor = end;
        }
    }
}

async fn push_in_time<S: Sink>(
    sink: &S,
    message: &Message,
    slow_reader_timeout: Duration,
) -> Option<()> {
    let pushed = async {
        loop {
            match sink.push(message.frame()) {
                Push::Taken => return Some(()),
                Push::Gone => return None,
                Push::Full => sleep(RETRY).await,
            }
        }
    };
    timeout(slow_reader_timeout, pushed).await.ok().flatten()
}

fn recovered(epoch: Epoch, messages: Vec<Message>, cursor: u64) -> InitialHistory {
    InitialHistory {
        epoch,
        page: Page {
            messages,
            more: true,
        },
        recovered: true,
        gap: None,
        cursor,
    }
}
