//! A sink: where a member's packets go. The one thing that the fan-out knows of a socket.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use papo_engineio::{Batch, Frame, Push};
use papo_protocol::SenderId;

/// Where a member's packets go.
pub(crate) trait Sink: Clone + Send + Sync + 'static {
    /// Takes a packet if there is room for it; never waits.
    fn push(&self, frame: &Frame) -> Push;
    /// Takes packets one after the other as long as there is room, and returns how many it took.
    fn push_all(&self, batch: &Batch) -> (usize, Push) {
        push_each(batch, |frame| self.push(frame))
    }
    /// Closes the connection.
    fn close(&self, reason: CloseReason);
    /// Is this a connection of the sender?
    fn is_sender(&self, sender: &SenderId) -> bool;
}

/// Pushes packets one after the other as long as they are taken, and returns how many were.
pub(crate) fn push_each(batch: &Batch, push: impl Fn(&Frame) -> Push) -> (usize, Push) {
    let mut taken = 0;
    let stopped = batch.frames().iter().find_map(|frame| match push(frame) {
        Push::Taken => {
            taken += 1;
            None
        }
        other => Some(other),
    });
    (taken, stopped.unwrap_or(Push::Taken))
}

/// Why the server closes a member's connection. After each of them a client resumes from its offset, here or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CloseReason {
    /// The member reads too slowly, or not at all.
    SlowReader,
    /// The log was replaced, or has a gap that the member must be told of.
    Resync,
    /// This server shuts down.
    Draining,
}

impl CloseReason {
    /// For logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Resync => "resync",
            Self::Draining => "draining",
        }
    }
}

/// Called with each member that a shard has closed.
pub(crate) type OnClose = Arc<dyn Fn(MemberId) + Send + Sync>;

/// A member on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemberId(u64);

impl MemberId {
    /// An id that no other member of this process has.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Which of `count` shards has the member.
    pub(super) fn shard(self, count: usize) -> usize {
        usize::try_from(self.0 % count as u64).expect("less than the number of shards")
    }
}
