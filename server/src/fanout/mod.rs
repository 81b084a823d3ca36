//! The fan-out: delivers new messages to the members of this server.
//!
//! - Each member is a cursor on the log. Each shard is a task that owns some of the members and moves their cursors.
//! - A message is never skipped for a member that stays. A message that a socket does not take stays the next one for its
//!   cursor; a member whose cursor does not move for too long, or that the window leaves behind, is closed with a reason and
//!   resumes from its offset.
//! - Notices (presence, typing) may be lost.

mod deliver;
mod drain;
#[cfg(test)]
mod fixed_run;
mod flush_timer;
mod notice;
mod shard;
mod sink;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{num::NonZero, sync::Arc, time::Duration};

use papo_engineio::Frame;
use tokio::sync::{mpsc, oneshot};

use crate::{log::Log, metrics::Metrics, task_set::TaskSet};
use deliver::Delivery;
use shard::{Command, Shard};

pub(crate) use notice::{Notice, Notices};
pub(crate) use sink::{CloseReason, MemberId, OnClose, Sink};

/// Most tasks that share the members between them.
const MOST_SHARDS: usize = 8;

/// All members of the room on this server. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Fanout<S> {
    shards: Arc<[mpsc::UnboundedSender<Command<S>>]>,
    notices: Notices,
}

impl<S: Sink> Fanout<S> {
    /// Starts the shards. A member that takes nothing for `slow_reader_timeout` is closed.
    pub(crate) fn start(
        log: &Log,
        slow_reader_timeout: Duration,
        metrics: &Arc<Metrics>,
        on_close: &OnClose,
        tasks: &mut TaskSet,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let notices = Notices::new();
        let shards = (0..cores.min(MOST_SHARDS))
            .map(|_| {
                let (commands, inbox) = mpsc::unbounded_channel();
                let delivery = Delivery::new(
                    log.clone(),
                    slow_reader_timeout,
                    metrics.clone(),
                    on_close.clone(),
                );
                let shard = Shard::new(delivery, notices.subscribe());
                tasks.spawn("fan-out shard", shard.run(inbox));
                commands
            })
            .collect();
        Self { shards, notices }
    }

    /// What notifies all members.
    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Adds a member that has been sent everything before `cursor`.
    pub(crate) fn join(&self, id: MemberId, sink: S, cursor: u64) {
        self.command(id, Command::Join { id, sink, cursor });
    }

    /// Removes a member.
    pub(crate) fn leave(&self, id: MemberId) {
        self.command(id, Command::Leave(id));
    }

    /// Sends a packet to all members, then closes them one by one over `period`; done when the last is closed.
    pub(crate) async fn drain(&self, packet: Frame, period: Duration) {
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
        // A shard ends only with the server: then there is nothing left to do.
        let _ = self.shards[id.shard(self.shards.len())].send(command);
    }
}
