//! The fan-out's sink for one connection. A push never waits.

use std::{fmt, sync::Arc, time::Duration};

use papo_engineio::{Batch, CloseCode, Frame, Push};
use papo_protocol::SenderId;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Connection;
use crate::room::{CloseReason, Sink};

/// How soon a push is tried again when there was no room.
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

    /// Closes the transport, not the namespace: clients reconnect by themselves only after the first.
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

/// Pushes a packet that the client cannot do without. If there is no room for it, the server closes the connection, and the client
/// asks again when it has reconnected.
pub(super) fn push_or_close(connection: &Connection, frame: &Frame) {
    if connection.push(frame) == Push::Full {
        debug!(sid = %connection.sid, "closing a connection that does not read its answers");
        connection.close(CloseCode::GoingAway);
    }
}

/// Pushes an answer to a client that sends faster than it reads: tries until there is room for it, and closes the connection when
/// that takes longer than `limit`.
pub(super) async fn push_in_time(connection: &Connection, frame: Frame, limit: Duration) {
    let pushed = async {
        while connection.push(&frame) == Push::Full {
            sleep(RETRY).await;
        }
    };
    if timeout(limit, pushed).await.is_err() {
        push_or_close(connection, &frame);
    }
}
