//! A shard: one task that owns some of the room's members and delivers to them.

use std::{future, time::Duration};

use indexmap::IndexMap;
use papo_engineio::Frame;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    deliver::{Delivery, Member, RETRY},
    drain::{Drain, next_step},
    flush_timer::FlushTimer,
    notice::Notice,
    sink::{CloseReason, MemberId, Sink},
};

/// Members that are served in a row. Then other tasks run: a flush to thousands of members takes tens of milliseconds, in which
/// new records from the broker would wait at each of their steps.
pub(super) const MEMBERS_IN_A_ROW: usize = 32;

/// What a shard is asked to do.
#[derive(Debug)]
pub(super) enum Command<S> {
    Join {
        id: MemberId,
        sink: S,
        cursor: u64,
    },
    Leave(MemberId),
    Drain {
        packet: Frame,
        period: Duration,
        done: oneshot::Sender<()>,
    },
}

/// Some of the members.
pub(super) struct Shard<S> {
    pub(super) members: IndexMap<MemberId, Member<S>>,
    pub(super) delivery: Delivery,
    pub(super) flush_timer: FlushTimer,
    pub(super) notices: broadcast::Receiver<Notice>,
    drain: Option<Drain>,
}

impl<S: Sink> Shard<S> {
    pub(super) fn new(delivery: Delivery, notices: broadcast::Receiver<Notice>) -> Self {
        Self {
            members: IndexMap::new(),
            delivery,
            flush_timer: FlushTimer::new(),
            notices,
            drain: None,
        }
    }

    /// Runs for as long as there is a fan-out.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command<S>>) {
        let mut end = self.delivery.log().watch();
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Ok(()) = self.flush_timer.due(&mut end) => self.flush().await,
                notice = self.notices.recv() => self.notify(notice).await,
                () = wait_until(self.delivery.retry_at) => {
                    self.deliver(Member::is_stalled).await;
                }
                () = next_step(&mut self.drain) => self.close_due(),
            }
        }
    }

    pub(super) fn obey(&mut self, command: Command<S>) {
        match command {
            Command::Join { id, sink, cursor } => {
                self.members.extend(
                    self.delivery
                        .join(id, sink, cursor)
                        .map(|member| (id, member)),
                );
                self.delivery.count_delivered();
            }
            Command::Leave(id) => {
                self.members.swap_remove(&id);
            }
            Command::Drain {
                packet,
                period,
                done,
            } => {
                for member in self.members.values() {
                    member.sink.push(&packet);
                }
                self.drain = Some(Drain::begin(self.members.len(), period, done));
            }
        }
    }

    /// Brings every member up to the end of the log.
    async fn flush(&mut self) {
        let (end, began) = (self.delivery.log().end(), Instant::now());
        if self.deliver(|_| true).await > 0 {
            self.delivery.observe(self.flush_timer.flushed_to(), end);
        }
        self.flush_timer.flushed(end, began);
    }

    /// Delivers to some members as far as their sockets take it, closes those that cannot follow, and returns how many
    /// messages were taken.
    pub(super) async fn deliver(&mut self, is_chosen: impl Fn(&Member<S>) -> bool) -> u64 {
        let Self {
            members, delivery, ..
        } = self;
        delivery.retry_at = None;
        let (mut next, mut in_a_row) = (0, 0);
        while let Some((_, member)) = members.get_index_mut(next) {
            if !is_chosen(member) || delivery.advance(member) {
                next += 1;
            } else {
                members.swap_remove_index(next);
            }
            in_a_row += 1;
            if in_a_row == MEMBERS_IN_A_ROW {
                in_a_row = 0;
                yield_now().await;
            }
        }
        if delivery.retry_at.is_none() && members.values().any(Member::is_stalled) {
            delivery.retry_at = Some(Instant::now() + RETRY);
        }
        delivery.finish()
    }

    pub(super) async fn notify(&self, notice: Result<Notice, broadcast::error::RecvError>) {
        // Lagging means that notices were lost, which they may be.
        let Ok(Notice { packet, except }) = notice else {
            return;
        };
        let is_notified = |member: &&Member<S>| {
            !member.is_stalled()
                && except
                    .as_ref()
                    .is_none_or(|sender| !member.sink.is_sender(sender))
        };
        for (notified, member) in self.members.values().filter(is_notified).enumerate() {
            member.sink.push(&packet);
            if notified % MEMBERS_IN_A_ROW == MEMBERS_IN_A_ROW - 1 {
                yield_now().await;
            }
        }
    }

    /// Closes the members that are due while draining.
    fn close_due(&mut self) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        for _ in 0..drain.due(self.members.len()) {
            if let Some((_, member)) = self.members.swap_remove_index(0) {
                self.delivery.close(&member, CloseReason::Draining);
            }
        }
        if self.members.is_empty() {
            drain.finish();
        } else {
            self.drain = Some(drain);
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}
