//! The room as one server serves it: the facade over the log, the fan-out and presence.
//!
//! A member has no state beyond its cursor on the log, so that any server can serve any member at any time. [`Room::enter`] gives
//! a client its initial history and a [`Membership`]; dropping the membership is leaving. [`Room::publish`] stores a message and
//! learns its offset by reading it back.

mod history;
mod membership;
mod pending;
#[cfg(test)]
mod properties;
mod publish;
mod recovery;
#[cfg(test)]
mod tests;
mod turns;

use std::{sync::Arc, time::Duration};

use papo_engineio::Frame;
use papo_protocol::Launch;
use papo_telemetry::Readiness;

use crate::{
    broker::Broker,
    chat::Member,
    fanout::{Fanout, OnClose},
    log::{Log, LogReader, ReaderGuards, Unread},
    metrics::Metrics,
    presence::{self, Exchange, Presence},
    task_set::TaskSet,
};
use pending::PendingPublishes;
use turns::Turns;

pub(crate) use crate::{
    fanout::{CloseReason, Sink},
    log::{LogStats, Message},
};
pub(crate) use history::{InitialHistory, Page};
pub(crate) use membership::Membership;

/// Who reads the past: reads of one requester wait for each other, not for those of others.
///
/// A hash of the client's network address, made in `socket`: the room knows no addresses.
pub(crate) type Requester = u64;

/// One room on one server.
pub(crate) struct Room<B: Broker, S: Sink> {
    broker: B,
    log: Log,
    reader_guards: ReaderGuards,
    fanout: Fanout<S>,
    presence: Presence,
    pending: PendingPublishes,
    unread: Unread,
    turns: Turns<Requester>,
    metrics: Arc<Metrics>,
    history_page: usize,
    publish_timeout: Duration,
    slow_reader_timeout: Duration,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// A room on a broker. Its long-lived tasks are added to the server's task set.
    pub(crate) fn start(
        broker: B,
        launch: &Launch,
        readiness: &Readiness,
        metrics: Arc<Metrics>,
        tasks: &mut TaskSet,
    ) -> Arc<Self> {
        let room = Self::new(broker, Log::default(), launch, metrics, tasks);
        let pending = room.pending.clone();
        let reader = LogReader {
            broker: room.broker.clone(),
            log: room.log.clone(),
            guards: room.reader_guards.clone(),
            idle_timeout: Duration::from_secs(launch.reader_idle_timeout.into()),
            metrics: room.metrics.clone(),
            on_stored: move |key: &_, offset| pending.resolve(key, offset),
            unread: room.unread.clone(),
        };
        tasks.spawn("log reader", reader.run(readiness.latch("log")));
        let watch = publish::watch_publisher(
            room.broker.publishing(),
            room.metrics.clone(),
            readiness.latch("publisher"),
        );
        tasks.spawn("publisher watch", watch);
        let exchange = Exchange {
            broker: room.broker.clone(),
            presence: room.presence.clone(),
            notices: room.fanout.notices().clone(),
            end: {
                let log = room.log.clone();
                move || log.end_position()
            },
            on_reported: {
                let (log, unread) = (room.log.clone(), room.unread.clone());
                move |position| unread.reported(position, log.end_position().as_ref())
            },
        };
        tasks.spawn("presence exchange", exchange.run());
        Arc::new(room)
    }

    /// A room whose log is not read yet.
    fn new(
        broker: B,
        log: Log,
        launch: &Launch,
        metrics: Arc<Metrics>,
        tasks: &mut TaskSet,
    ) -> Self {
        let slow_reader_timeout = Duration::from_secs(launch.slow_reader_timeout.into());
        let presence = Presence::new();
        let roster = presence.clone();
        let on_close: OnClose = Arc::new(move |id| roster.leave(id));
        let fanout = Fanout::start(&log, slow_reader_timeout, &metrics, &on_close, tasks);
        Self {
            broker,
            log,
            reader_guards: ReaderGuards::default(),
            fanout,
            presence,
            pending: PendingPublishes::default(),
            unread: Unread::default(),
            turns: Turns::new(
                metrics.past_reads.clone(),
                metrics.past_reads_waiting.clone(),
            ),
            metrics,
            history_page: launch.history_page as usize,
            publish_timeout: Duration::from_secs(launch.publish_timeout.into()),
            slow_reader_timeout,
        }
    }

    /// The first `presence` event of a new member.
    pub(crate) fn presence(&self) -> Frame {
        self.presence.first_event()
    }

    /// Notifies the other members that a member is typing. May be lost.
    pub(crate) fn typing(&self, member: &Member) {
        presence::send_typing(&self.broker, member);
    }

    /// Sends a packet to every member of this server, closes them one by one over `period`, and waits until the broker has
    /// stored what was published.
    pub(crate) async fn drain(&self, packet: Frame, period: Duration) {
        self.fanout.drain(packet, period).await;
        self.broker.close().await;
    }

    /// The log as this server sees it; `None` until it was found.
    pub(crate) fn stats(&self) -> Option<LogStats> {
        self.log.stats()
    }

    /// Members on all servers.
    pub(crate) fn member_count(&self) -> u64 {
        self.presence.count()
    }
}
