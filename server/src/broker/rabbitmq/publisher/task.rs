//! The publisher's task: connects, and publishes until the publisher was closed and all records are settled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lapin::{Connection, ErrorKind};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    super::{
        connection::{Connector, METHOD_TIMEOUT},
        nodes::{Node, Purpose},
        reaction::{Reaction, Reason, reaction},
        topology::Topology,
    },
    pending::PendingRecord,
};
use crate::{
    backoff::Backoff,
    broker::{Publishing, Signal},
};

/// A connection that lasted longer was a good one, and the next attempt does not wait.
const LASTING: Duration = Duration::from_secs(5);

/// What the task owns.
pub(super) struct Task {
    pub(super) connector: Arc<Connector>,
    pub(super) topology: Arc<Topology>,
    pub(super) exchange: String,
    pub(super) records: mpsc::Receiver<PendingRecord>,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) unconfirmed: BTreeMap<u64, PendingRecord>,
    pub(super) sequence: u64,
    /// The broker blocks publishers.
    pub(super) is_blocked: bool,
    /// The broker has confirmed nothing for too long, and nothing since.
    pub(super) has_stalled: bool,
    /// Most records that may be on a channel without a confirm.
    pub(super) window: usize,
    /// When a record that the broker does not accept was logged last.
    pub(super) logged_at: Option<Instant>,
    pub(super) state: watch::Sender<Publishing>,
    pub(super) closing: CancellationToken,
}

/// Why a connection cannot be used any more.
pub(super) enum Failure {
    /// It ended, or the node of the broker does not answer as it must: why, and in which words.
    Broken(Reason, String),
    /// The exchange, its binding or the stream does not exist.
    NoLog,
    /// The broker does not accept one of the records on a channel, and has closed the channel: why, in its own words.
    Rejected(String),
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        match (reaction(&error), error.kind()) {
            (Reaction::Look, _) => Self::NoLog,
            (Reaction::Correct, ErrorKind::ProtocolError(protocol))
                if error.is_amqp_soft_error() =>
            {
                Self::Rejected(protocol.get_message().as_str().to_owned())
            }
            (Reaction::Correct, _) => Self::Broken(Reason::Rejected, error.to_string()),
            (Reaction::Move(reason), _) => Self::Broken(reason, error.to_string()),
        }
    }
}

impl Failure {
    fn reason(&self) -> Reason {
        match self {
            Self::Broken(reason, _) => *reason,
            // A node may not know yet what was declared on another one.
            Self::NoLog => Reason::NoLeader,
            Self::Rejected(_) => Reason::Rejected,
        }
    }

    /// Names the node.
    fn at(self, node: &Node) -> Self {
        match self {
            Self::Broken(reason, cause) => Self::Broken(reason, format!("{node}: {cause}")),
            other => other,
        }
    }
}

impl Task {
    /// Publishes until closed and all records are settled.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        while !self.is_done() {
            let began = Instant::now();
            let failure = match self
                .connector
                .connect(Purpose::Publisher)
                .await
                .map(Arc::new)
            {
                Err(error) => Failure::Broken(Reason::Unreachable, error.to_string()),
                Ok(open) => match self.serve(&open).await {
                    Ok(()) => return close(&open.connection).await,
                    Err(failure) => {
                        let reason = failure.reason();
                        self.connector
                            .failed(&open.node, Purpose::Publisher, reason);
                        failure.at(&open.node)
                    }
                },
            };
            if began.elapsed() > LASTING {
                backoff.reset();
            }
            self.recover(failure, backoff.delay()).await;
        }
    }

    async fn recover(&mut self, failure: Failure, wait: Duration) {
        match failure {
            Failure::Broken(_, cause) | Failure::Rejected(cause) => self.pause(cause, wait).await,
            Failure::NoLog => {
                let missing = format!("no log is bound to the exchange {}", self.exchange);
                self.pause(missing, wait).await;
                if let Err(error) = self.topology.restore().await {
                    warn!(%error, "cannot declare the room's exchange and log again");
                }
            }
        }
    }

    /// Closed, and no caller waits for a record any more.
    pub(super) fn is_done(&mut self) -> bool {
        if !self.closing.is_cancelled() {
            return false;
        }
        if self.is_blocked {
            self.keep_all();
        }
        self.unconfirmed
            .retain(|_, pending| !pending.confirm.is_closed());
        self.unconfirmed.is_empty() && self.records.is_empty()
    }

    /// Not connected: records wait, signals are lost.
    async fn pause(&mut self, reason: String, wait: Duration) {
        warn!(reason, retry_in = ?wait, unconfirmed = self.unconfirmed.len(), "cannot publish");
        self.state.send_replace(Publishing::Down(reason));
        sleep(wait).await;
        while self.signals.try_recv().is_ok() {}
        if self.closing.is_cancelled() {
            self.keep_all();
        }
    }

    /// Adds a record to the unconfirmed, and returns its number.
    pub(super) fn keep(&mut self, pending: PendingRecord) -> u64 {
        self.sequence += 1;
        self.unconfirmed.insert(self.sequence, pending);
        self.sequence
    }

    /// Moves all queued records to the unconfirmed, where those of callers that have stopped waiting are found.
    fn keep_all(&mut self) {
        while let Ok(pending) = self.records.try_recv() {
            self.keep(pending);
        }
    }
}

async fn close(connection: &Connection) {
    // All records are settled: a broker that does not answer makes no difference.
    let _ = timeout(METHOD_TIMEOUT, connection.close(200, "goodbye".into())).await;
}
