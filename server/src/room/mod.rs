//! The room: the one log all its members read, as one server serves it.
//!
//! [`follow`] reads the log into the [`window`], once per server. The [`fanout`] moves every member's cursor along it.
//! [`Room::publish`] puts a message in and learns its offset by reading it back. No member has state of its own beyond
//! its cursor, so any server can take over any member at any time.

mod attendance;
mod dedup;
mod demand;
mod fanout;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod message;
mod outcome;
mod pace;
mod presence;
#[cfg(test)]
mod properties;
mod publish;
mod read;
mod shard;
mod window;

use std::{sync::Arc, time::Duration};

use papo_protocol::{Launch, UserName};
use papo_telemetry::Readiness;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, watch};

use crate::{broker::Broker, frame::Frame, metrics::Metrics, parts::Parts};
use attendance::Attendance;
use demand::Demand;
use outcome::Outcomes;
use window::Window;

pub use demand::Claim;
pub use fanout::{Closing, Fanout, MemberId, Push, Sink, push_each};
pub use message::Message;
pub use publish::Receipt;
pub use read::{Opening, Page};

/// How many reads of the distant past may run at once: they are the only ones that cost the broker per client.
const DEEP_READS: usize = 4;

/// One room on one server.
pub struct Room<B: Broker, S: Sink> {
    broker: B,
    log: Log,
    demand: Demand,
    reader_idle_timeout: Duration,
    outcomes: Outcomes,
    deep_reads: Semaphore,
    fanout: Fanout<S>,
    attendance: Attendance,
    metrics: Arc<Metrics>,
    page: usize,
    publish_timeout: Duration,
}

/// The window, and the news that it has grown.
#[derive(Clone)]
struct Log {
    window: Arc<RwLock<Option<Window>>>,
    tail: watch::Sender<Tail>,
}

/// How far the window reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tail {
    /// Rises when the window was begun anew: cursors from before mean nothing in it.
    generation: u64,
    /// The offset of the record that would come next; `None` until the log was found.
    next: Option<u64>,
    /// Nobody has needed the log for a while: it may have grown since it was read.
    asleep: bool,
}

/// Where and how big a room's log is, for `/stats`.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStats {
    /// The log's epoch.
    pub epoch: String,
    /// Oldest offset known to be retained.
    pub head: u64,
    /// Oldest offset in memory.
    pub window: u64,
    /// The offset that the next message will get.
    pub tail: u64,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// A room on a broker, with its long-lived tasks among the server's `parts`.
    pub fn start(
        broker: B,
        launch: &Launch,
        readiness: &Readiness,
        metrics: Arc<Metrics>,
        parts: &mut Parts,
    ) -> Arc<Self> {
        let log = Log {
            window: Arc::default(),
            tail: watch::Sender::new(Tail::default()),
        };
        let stall = Duration::from_secs(launch.slow_reader_timeout.into());
        let attendance = Attendance::new();
        let fanout = Fanout::start(&log, stall, &metrics, &attendance, parts);
        let room = Arc::new(Self {
            broker,
            log,
            demand: Demand::default(),
            reader_idle_timeout: Duration::from_secs(launch.reader_idle_timeout.into()),
            outcomes: Outcomes::default(),
            deep_reads: Semaphore::new(DEEP_READS),
            fanout,
            attendance,
            metrics,
            page: launch.history_page as usize,
            publish_timeout: Duration::from_secs(launch.publish_timeout.into()),
        });
        let (latch, follower) = (readiness.latch("log"), room.clone());
        parts.spawn("log follower", async move {
            follow::follow(&follower, latch).await;
        });
        let (latch, watcher) = (readiness.latch("publisher"), room.clone());
        parts.spawn("publisher watch", async move {
            publish::watch_publisher(&watcher, latch).await;
        });
        let keeper = room.clone();
        parts.spawn("attendance", async move { attendance::keep(&keeper).await });
        room
    }

    /// Has the log read for as long as the claim is held. Every member, and whoever is about to become one, holds one.
    pub fn claim(&self) -> Claim {
        self.demand.claim()
    }

    /// Counts a member in; it gets nothing yet.
    pub fn arrive(&self, id: MemberId, user: &UserName) {
        self.attendance.join(id, user);
    }

    /// Lets a member that has been sent everything before `cursor` follow the log.
    pub fn join(&self, id: MemberId, sink: S, cursor: u64) {
        self.fanout.join(id, sink, cursor);
    }

    /// Removes a member; once is enough, and one that is not here does not matter.
    pub fn leave(&self, id: MemberId) {
        self.fanout.leave(id);
        self.attendance.leave(id);
    }

    /// Tells every member of this server that it is going, and closes them one by one over `period`.
    pub async fn drain(&self, packet: Frame, period: Duration) {
        self.fanout.drain(packet, period).await;
        self.broker.close().await;
    }

    /// The log as this server sees it; `None` until it was found.
    pub fn stats(&self) -> Option<LogStats> {
        self.log.window.read().as_ref().map(|window| LogStats {
            epoch: window.epoch().to_string(),
            head: window.head(),
            window: window.first(),
            tail: window.next(),
        })
    }

    /// Members on all servers.
    pub fn present(&self) -> u64 {
        self.attendance.count()
    }
}
