//! Where packets for one connection go: the engine's buffer of that socket, never waiting for it.

use std::{fmt, sync::Arc};

use engineioxide::{DisconnectReason, Str};
use papo_protocol::SenderId;
use tokio::sync::mpsc::error::TrySendError;
use tracing::debug;

use super::EngineSocket;
use crate::room::{Closing, Push, Sink};

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

fn push(socket: &EngineSocket, packet: Str) -> Push {
    match socket.reserve() {
        Ok(permit) => {
            permit.emit(packet);
            Push::Taken
        }
        Err(TrySendError::Full(())) => Push::Full,
        Err(TrySendError::Closed(())) => Push::Gone,
    }
}

/// For answers, which may not be lost: a client that does not take its answers is closed, and will ask again.
pub(super) fn push_or_close(socket: &EngineSocket, packet: Str) {
    if push(socket, packet) == Push::Full {
        debug!(sid = %socket.id, "closing a connection that does not take its answers");
        socket.close(DisconnectReason::ClosingServer);
    }
}
