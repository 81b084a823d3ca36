//! The fan-out: every member of the room is a cursor on its log, and shards of tasks move the cursors.
//!
//! A socket's own buffer is never relied upon. A message it does not take stays the next one for its cursor; a member
//! whose cursor does not move for too long, or falls out of the window, is closed with a reason and resumes from its
//! offset. Messages are never skipped for a member that stays.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use papo_protocol::SenderId;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Log,
    attendance::Attendance,
    shard::{Command, Shard},
};
use crate::{
    frame::{Batch, Frame},
    metrics::Metrics,
    parts::Parts,
};

/// Most tasks that share the members between them.
const MOST_SHARDS: usize = 8;
/// Signals that may wait for a shard before the oldest are lost.
const SIGNAL_BUFFER: usize = 64;

/// Where a member's packets go.
pub trait Sink: Clone + Send + Sync + 'static {
    /// Takes a packet if there is room; never waits.
    fn push(&self, frame: &Frame) -> Push;
    /// Takes packets one after the other as long as there is room, and says how many.
    fn push_all(&self, batch: &Batch) -> (usize, Push) {
        push_each(batch, |frame| self.push(frame))
    }
    /// Ends the connection.
    fn close(&self, why: Closing);
    /// Is this one of the sender's connections?
    fn is(&self, sender: &SenderId) -> bool;
}

/// Pushes packets one after the other as long as they are taken, and says how many were.
pub fn push_each(batch: &Batch, push: impl Fn(&Frame) -> Push) -> (usize, Push) {
    let mut taken = 0;
    let ended = batch.frames().iter().find_map(|frame| match push(frame) {
        Push::Taken => {
            taken += 1;
            None
        }
        other => Some(other),
    });
    (taken, ended.unwrap_or(Push::Taken))
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It will be sent, in order.
    Taken,
    /// There is no room for it now.
    Full,
    /// There is nobody any more.
    Gone,
}

/// Why a server ends a member's connection. All of them resume from their offset, here or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    /// It reads too slowly, or not at all.
    SlowReader,
    /// The log was begun anew, or has a hole that must be announced.
    Resync,
    /// This server is going away.
    Draining,
}

impl Closing {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Resync => "resync",
            Self::Draining => "draining",
        }
    }
}

/// A member on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberId(u64);

impl MemberId {
    /// One that no other member of this process has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is told to all members and may be lost.
#[derive(Clone, Debug)]
pub(super) struct Tell {
    pub(super) packet: Frame,
    /// Who needs not hear it: the one it is about.
    pub(super) except: Option<SenderId>,
}

/// All members of the room on this server.
pub struct Fanout<S> {
    shards: Vec<mpsc::UnboundedSender<Command<S>>>,
    tells: broadcast::Sender<Tell>,
}

impl<S: Sink> Fanout<S> {
    /// Starts the shards. A member that takes nothing for `stall` is closed.
    pub(super) fn start(
        log: &Log,
        stall: Duration,
        metrics: &Arc<Metrics>,
        attendance: &Attendance,
        parts: &mut Parts,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let tells = broadcast::Sender::new(SIGNAL_BUFFER);
        let shards = (0..cores.min(MOST_SHARDS))
            .map(|_| {
                let (commands, inbox) = mpsc::unbounded_channel();
                let shard = Shard::new(
                    log.clone(),
                    stall,
                    metrics.clone(),
                    attendance.clone(),
                    tells.subscribe(),
                );
                parts.spawn("fan-out shard", shard.run(inbox));
                commands
            })
            .collect();
        Self { shards, tells }
    }

    /// Adds a member that has been sent everything before `cursor`.
    pub fn join(&self, id: MemberId, sink: S, cursor: u64) {
        self.command(id, Command::Join { id, sink, cursor });
    }

    /// Removes a member.
    pub fn leave(&self, id: MemberId) {
        self.command(id, Command::Leave(id));
    }

    /// Sends a packet to all members that have room for it.
    pub(super) fn tell(&self, tell: Tell) {
        // Nobody listening means that there is nobody to tell.
        let _ = self.tells.send(tell);
    }

    /// Sends a packet to all members, then closes them one by one over `period`; done when the last is closed.
    pub async fn drain(&self, packet: Frame, period: Duration) {
        let done = self.shards.iter().map(|shard| {
            let (done, drained) = oneshot::channel();
            // A shard that has ended has no members.
            let _ = shard.send(Command::Drain {
                packet: packet.clone(),
                period,
                done,
            });
            drained
        });
        for drained in done.collect::<Vec<_>>() {
            let _ = drained.await;
        }
    }

    fn command(&self, id: MemberId, command: Command<S>) {
        let shards = self.shards.len() as u64;
        let shard = usize::try_from(id.0 % shards).expect("less than the number of shards");
        // A shard ends only with the server: then there is nothing left to do.
        let _ = self.shards[shard].send(command);
    }
}
