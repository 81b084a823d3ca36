//! Where packets for one connection go: the engine's buffer of that socket, never waiting for it.

use std::{fmt, sync::Arc, time::Duration};

use engineioxide::{DisconnectReason, Str};
use papo_protocol::SenderId;
use tokio::{
    sync::mpsc::error::TrySendError,
    time::{sleep, timeout},
};
use tracing::debug;

use super::EngineSocket;
use crate::room::{Closing, Push, Sink};

/// How soon a full buffer is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// One member's connection.
#[derive(Clone)]
pub(crate) struct EngineSink {
    socket: Arc<EngineSocket>,
    sender: SenderId,
}

impl EngineSink {
    pub(super) fn new(socket: Arc<EngineSocket>, sender: SenderId) -> Self {
        Self { socket, sender }
    }
}

impl Sink for EngineSink {
    fn push(&self, packet: &Str) -> Push {
        push(&self.socket, packet.clone())
    }

    /// Ends the transport, not the namespace: a client comes back by itself after the one, and not after the other.
    fn close(&self, why: Closing) {
        debug!(sid = %self.socket.id, reason = why.as_str(), "closing a connection");
        self.socket.close(DisconnectReason::ClosingServer);
    }

    fn is(&self, sender: &SenderId) -> bool {
        self.sender == *sender
    }
}

impl fmt::Debug for EngineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EngineSink").field(&self.socket.id).finish()
    }
}

pub(super) fn push(socket: &EngineSocket, packet: Str) -> Push {
    match socket.reserve() {
        Ok(permit) => {
            permit.emit(packet);
            Push::Taken
        }
        Err(TrySendError::Full(())) => Push::Full,
        Err(TrySendError::Closed(())) => Push::Gone,
    }
}

/// For what a client needs before it can go on: one that does not take it is closed, and will ask again.
pub(super) fn push_or_close(socket: &EngineSocket, packet: Str) {
    if push(socket, packet) == Push::Full {
        debug!(sid = %socket.id, "closing a connection that does not take its answers");
        socket.close(DisconnectReason::ClosingServer);
    }
}

/// For answers to a client that asks faster than it listens: waits for it, and closes it if that takes longer than `patience`.
pub(super) async fn push_in_time(socket: &EngineSocket, packet: Str, patience: Duration) {
    let pushed = async {
        while push(socket, packet.clone()) == Push::Full {
            sleep(RETRY).await;
        }
    };
    if timeout(patience, pushed).await.is_err() {
        push_or_close(socket, packet);
    }
}
