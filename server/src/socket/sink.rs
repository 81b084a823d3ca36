//! Where packets for one connection go, never waiting for it.

use std::{fmt, sync::Arc, time::Duration};

use papo_engineio::{Batch, CloseCode, Frame, Push};
use papo_protocol::SenderId;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Connection;
use crate::room::{CloseReason, Sink};

/// How soon a full buffer is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// One member's connection.
#[derive(Clone)]
pub(crate) struct SocketSink {
    connection: Arc<Connection>,
    sender: SenderId,
}

impl SocketSink {
    pub(super) fn new(connection: Arc<Connection>, sender: SenderId) -> Self {
        Self { connection, sender }
    }
}

impl Sink for SocketSink {
    fn push(&self, frame: &Frame) -> Push {
        self.connection.push(frame)
    }

    fn push_all(&self, batch: &Batch) -> (usize, Push) {
        self.connection.push_all(batch)
    }

    /// Ends the transport, not the namespace: a client comes back by itself after the one, and not after the other.
    fn close(&self, reason: CloseReason) {
        debug!(sid = %self.connection.sid, reason = reason.as_str(), "closing a connection");
        self.connection.close(CloseCode::GoingAway);
    }

    fn is_sender(&self, sender: &SenderId) -> bool {
        self.sender == *sender
    }
}

impl fmt::Debug for SocketSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketSink")
            .field(&self.connection.sid)
            .finish()
    }
}

/// For what a client needs before it can go on: one that does not take it is closed, and will ask again.
pub(super) fn push_or_close(connection: &Connection, frame: &Frame) {
    if connection.push(frame) == Push::Full {
        debug!(sid = %connection.sid, "closing a connection that does not take its answers");
        connection.close(CloseCode::GoingAway);
    }
}

/// For answers to a client that asks faster than it listens: waits for it, and closes it if that takes longer than `patience`.
pub(super) async fn push_in_time(connection: &Connection, frame: Frame, patience: Duration) {
    let pushed = async {
        while connection.push(&frame) == Push::Full {
            sleep(RETRY).await;
        }
    };
    if timeout(patience, pushed).await.is_err() {
        push_or_close(connection, &frame);
    }
}
