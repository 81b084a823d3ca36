//! Recovery: what a client gets first, and how a member that is behind the window is brought up to it.

use std::time::Duration;

use papo_engineio::{Batch, Push};
use papo_protocol::{Epoch, Position, event::Code};
use tokio::time::{Instant, sleep, timeout};

use super::{
    InitialHistory, Page, Requester, Room,
    history::{STEP, log_not_found},
};
use crate::{
    broker::Broker,
    chat::{Rejection, Resume},
    fanout::Sink,
    log::{Message, MissedInMemory, Size},
};

/// Most missed messages in the initial history; the rest of them follows as `message` events, no more of which wait in memory than
/// the client's socket takes.
pub(super) const MOST_RECOVERED: Size = Size {
    records: 1_000,
    bytes: 256 << 10,
};
/// How long a client waits for the log to be found, and to be read to its end if the reader was idle.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for an offset that another server has delivered and this one has not read yet.
const BEHIND_ANOTHER_SERVER: Duration = Duration::from_secs(2);
/// How long a client has to take what was read for it. After that the rest is read again when the client has room for it: so a client
/// that reads slowly keeps no turn from others, and costs no memory.
const HAND_OVER: Duration = Duration::from_millis(50);
/// How soon a socket that was full is tried again within that time.
const RETRY_SOON: Duration = Duration::from_millis(2);
/// How soon it is tried again after that time.
const RETRY: Duration = Duration::from_millis(20);
/// How many messages a socket is handed at once.
const HANDED_AT_ONCE: usize = 64;

impl<B: Broker, S: Sink> Room<B, S> {
    /// What a member gets first: what it has missed, if it names an offset of this log, or else the newest page. The caller holds
    /// a reader guard.
    pub(super) async fn initial_history(
        &self,
        resume: Option<&Resume>,
        requester: Requester,
    ) -> Result<InitialHistory, Rejection> {
        self.wait_for_log().await?;
        if let Some(resume) = resume
            && self.reaches(resume).await
        {
            return self.recover(resume.offset + 1, requester).await;
        }
        self.newest_page(None, requester).await
    }

    /// Is this a position in the log that is no longer in memory?
    pub(crate) fn is_past(&self, resume: &Resume) -> bool {
        let first = self.log.first_of(&resume.epoch);
        first.is_some_and(|first| resume.offset.saturating_add(1) < first)
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

    async fn recover(&self, from: u64, requester: Requester) -> Result<InitialHistory, Rejection> {
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
        let end = first.min(from + STEP);
        let mut read = self.read_back(&epoch, from..end, requester).await?;
        if !read.is_whole {
            drop(read);
            return self.newest_page(Some(from), requester).await;
        }
        let fitting = fitting(&read.messages);
        let cursor = read.messages.get(fitting).map_or(end, Message::offset);
        read.messages.truncate(fitting);
        Ok(recovered(epoch, read.messages, cursor))
    }

    /// Brings a member whose cursor is behind the window up to it, as fast as the member reads. Returns its new cursor, or `None`
    /// when the member has left, or has to resume again.
    pub(crate) async fn catch_up(
        &self,
        from: Position,
        sink: &S,
        requester: Requester,
    ) -> Option<u64> {
        let Position {
            epoch,
            offset: mut cursor,
        } = from;
        loop {
            let first = self.log.first_of(&epoch)?;
            if cursor >= first {
                return Some(cursor);
            }
            let end = first.min(cursor + STEP);
            let read = self.read_back(&epoch, cursor..end, requester).await.ok()?;
            if !read.is_whole {
                return None;
            }
            let taken = hand_over(sink, &read.messages).await?;
            let next = read.messages.get(taken).cloned();
            drop(read);
            cursor = match next {
                None => end,
                Some(next) => {
                    push_in_time(sink, &next, self.slow_reader_timeout).await?;
                    next.offset() + 1
                }
            };
        }
    }
}

/// How many of the messages fit into the initial history.
fn fitting(messages: &[Message]) -> usize {
    let mut bytes = 0;
    let fitting = messages.iter().take_while(|message| {
        bytes += message.size();
        bytes <= MOST_RECOVERED.bytes
    });
    fitting.count().max(1)
}

/// Hands messages to a socket as long as it takes them; how many it took, or `None` when it has gone.
async fn hand_over<S: Sink>(sink: &S, messages: &[Message]) -> Option<usize> {
    let (mut taken, deadline) = (0, Instant::now() + HAND_OVER);
    while taken < messages.len() {
        let next = messages[taken..].iter().take(HANDED_AT_ONCE);
        let (count, push) = sink.push_all(&Batch::new(next.map(Message::frame)));
        taken += count;
        match push {
            Push::Taken => {}
            Push::Gone => return None,
            Push::Full if Instant::now() < deadline => sleep(RETRY_SOON).await,
            Push::Full => break,
        }
    }
    Some(taken)
}

/// Waits until a socket takes a message. Nothing else waits in the socket after that.
async fn push_in_time<S: Sink>(
    sink: &S,
    message: &Message,
    slow_reader_timeout: Duration,
) -> Option<()> {
    let batch = Batch::new([message.frame()].into_iter());
    let pushed = async {
        loop {
            match sink.push_all(&batch) {
                (1.., _) => return Some(()),
                (0, Push::Gone) => return None,
                (0, Push::Taken | Push::Full) => sleep(RETRY).await,
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
