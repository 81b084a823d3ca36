//! Delivery: moves one member's cursor along the log as far as its socket takes the messages.

use std::{sync::Arc, time::Duration};

use papo_engineio::{Batch, Push};
use tokio::time::Instant;

use super::sink::{CloseReason, MemberId, OnClose, Sink};
use crate::{
    log::{CursorLost, End, Log, Message, Size, Slice},
    metrics::Metrics,
};

/// What one member is given at once: more than comes during a flush, so that members at the same cursor share one batch.
const MOST: Size = Size {
    records: 512,
    bytes: 256 << 10,
};
/// The same for a member whose socket was full, which takes little at a time.
pub(super) const MOST_OF_STALLED: Size = Size {
    records: 64,
    bytes: 16 << 10,
};
/// How soon a member whose socket was full is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(10);

/// A member, and how far it has got.
pub(super) struct Member<S> {
    pub(super) id: MemberId,
    pub(super) sink: S,
    /// Offset of the next record to deliver.
    cursor: u64,
    generation: u64,
    /// Since when its socket has been full, with nothing taken.
    stalled: Option<Instant>,
}

impl<S> Member<S> {
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }
}

/// What the last member was given: most members stand at the same cursor.
pub(super) struct SharedBatch {
    cursor: u64,
    end: End,
    slice: Slice,
    batch: Batch,
}

/// Moves cursors, and closes members that cannot follow.
pub(super) struct Delivery {
    log: Log,
    slow_reader_timeout: Duration,
    metrics: Arc<Metrics>,
    on_close: OnClose,
    shared: Option<SharedBatch>,
    /// When stalled members are tried again.
    pub(super) retry_at: Option<Instant>,
    /// Messages that sockets took since [`Delivery::count_delivered`].
    delivered: u64,
}

enum Handed {
    All(u64),
    Some(u64),
    Gone,
}

impl Delivery {
    pub(super) fn new(
        log: Log,
        slow_reader_timeout: Duration,
        metrics: Arc<Metrics>,
        on_close: OnClose,
    ) -> Self {
        Self {
            log,
            slow_reader_timeout,
            metrics,
            on_close,
            shared: None,
            retry_at: None,
            delivered: 0,
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// A new member that has been sent everything before `cursor`, brought up to the end of the log; `None` when it was closed
    /// already.
    pub(super) fn join<S: Sink>(
        &mut self,
        id: MemberId,
        sink: S,
        cursor: u64,
    ) -> Option<Member<S>> {
        let mut member = Member {
            id,
            sink,
            cursor,
            generation: self.log.end().generation,
            stalled: None,
        };
        self.advance(&mut member).then_some(member)
    }

    /// Moves one cursor; false when the member is no longer one.
    pub(super) fn advance<S: Sink>(&mut self, member: &mut Member<S>) -> bool {
        loop {
            let end = self.log.end();
            if member.generation != end.generation {
                return self.close(member, CloseReason::Resync);
            }
            if end.next.is_none_or(|next| member.cursor >= next) {
                member.stalled = None;
                return true;
            }
            // A batch for a member that lags behind is of no use to the others.
            let mut own = None;
            let (place, most) = match member.stalled {
                None => (&mut self.shared, MOST),
                Some(_) => (&mut own, MOST_OF_STALLED),
            };
            let shared = match shared_batch(place, &self.log, member.cursor, end, most) {
                Ok(shared) => shared,
                Err(lost) => return self.close(member, close_reason(lost)),
            };
            match hand_over(member, shared) {
                Handed::All(count) => self.delivered += count,
                Handed::Some(count) => {
                    self.delivered += count;
                    return self.wait_for(member, count > 0);
                }
                Handed::Gone => return false,
            }
        }
    }

    fn wait_for<S: Sink>(&mut self, member: &mut Member<S>, has_progress: bool) -> bool {
        let now = Instant::now();
        let since = if has_progress {
            now
        } else {
            member.stalled.unwrap_or(now)
        };
        member.stalled = Some(since);
        self.retry_at = Some(now + RETRY);
        now.duration_since(since) < self.slow_reader_timeout
            || self.close(member, CloseReason::SlowReader)
    }

    /// Closes a member; false, as it is no longer one.
    pub(super) fn close<S: Sink>(&self, member: &Member<S>, reason: CloseReason) -> bool {
        self.metrics.connection_closed(reason.as_str());
        member.sink.close(reason);
        (self.on_close)(member.id);
        false
    }

    /// Ends a round over the members: frees the shared batch, and returns how many messages were delivered.
    pub(super) fn finish(&mut self) -> u64 {
        self.shared = None;
        self.count_delivered()
    }

    /// Adds what was delivered since the last call to the metrics, and returns it.
    pub(super) fn count_delivered(&mut self) -> u64 {
        let delivered = std::mem::take(&mut self.delivered);
        self.metrics.delivered(delivered);
        delivered
    }

    /// Observes for each message from one end of the log to another how long it took until the sockets had it.
    pub(super) fn observe(&self, from: End, to: End) {
        if let (Some(first), Some(next)) = (from.next, to.next)
            && from.generation == to.generation
        {
            for sent_at in self.log.sent_at(first..next) {
                self.metrics.delivery(crate::clock::since_millis(sent_at));
            }
        }
    }
}

fn close_reason(lost: CursorLost) -> CloseReason {
    match lost {
        CursorLost::Behind => CloseReason::SlowReader,
        CursorLost::Replaced => CloseReason::Resync,
    }
}

/// The messages from a cursor on: the batch of the member before, if it began at the same cursor.
pub(super) fn shared_batch<'a>(
    shared: &'a mut Option<SharedBatch>,
    log: &Log,
    cursor: u64,
    end: End,
    most: Size,
) -> Result<&'a SharedBatch, CursorLost> {
    let is_current = |shared: &SharedBatch| (shared.cursor, shared.end) == (cursor, end);
    if !shared.as_ref().is_some_and(is_current) {
        *shared = None;
        let slice = log.slice(cursor, end.generation, most)?;
        *shared = Some(SharedBatch {
            cursor,
            end,
            batch: Batch::new(slice.messages.iter().map(Message::frame)),
            slice,
        });
    }
    shared.as_ref().ok_or(CursorLost::Behind)
}

/// Gives a member the messages of a slice that begins at its cursor, as far as its socket takes them.
fn hand_over<S: Sink>(
    member: &mut Member<S>,
    SharedBatch { slice, batch, .. }: &SharedBatch,
) -> Handed {
    if slice.messages.is_empty() {
        member.cursor = slice.next;
        return Handed::All(0);
    }
    let (taken, push) = member.sink.push_all(batch);
    let count = taken as u64;
    match (push, slice.messages.get(taken)) {
        (Push::Gone, _) => Handed::Gone,
        (Push::Full, Some(next)) => {
            member.cursor = next.offset();
            Handed::Some(count)
        }
        (Push::Full, None) => {
            member.cursor = slice.next;
            Handed::Some(count)
        }
        (Push::Taken, _) => {
            member.cursor = slice.next;
            Handed::All(count)
        }
    }
}
