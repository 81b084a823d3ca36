//! A client's connection, over WebSocket or long-polling.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use engineioxide::{DisconnectReason, Str, sid::Sid};
use papo_engineio::{Batch, CloseCode, Frame, Outgoing, Push};
use papo_protocol::SenderId;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{bounds::Place, packet::Parser, session::Session};
use crate::room::{CloseReason, Membership, Sink, push_each};

/// A socket of engineioxide, with the connection that it carries.
pub(super) type EngineSocket = engineioxide::Socket<OnceLock<Arc<Connection>>>;

/// One client's connection.
pub(crate) struct Connection {
    pub(super) sid: Sid,
    pub(super) parser: Parser,
    pub(super) state: Mutex<State>,
    pub(super) transport: Transport,
    /// Among the connections of its address.
    pub(super) place: Place,
    /// Cancelled when the connection has ended: what is done only for its client stops.
    pub(super) ended: CancellationToken,
}

/// The transport of its packets.
pub(super) enum Transport {
    WebSocket(Arc<Outgoing>),
    /// Long-polling, and the WebSocket that the client upgrades to: engineioxide owns this socket.
    Polling(Weak<EngineSocket>),
}

#[derive(Default)]
pub(super) enum State {
    /// No CONNECT packet yet.
    #[default]
    Opened,
    /// The CONNECT packet has come, and the answer is being prepared.
    Connecting,
    /// A member of the room until the membership is dropped, which leaves it.
    Joined(Arc<Session>, Membership<SocketSink>),
    /// The connection has ended.
    Closed,
}

impl Connection {
    pub(super) fn new(sid: Sid, transport: Transport, place: Place) -> Arc<Self> {
        Arc::new(Self {
            sid,
            parser: Parser::default(),
            state: Mutex::default(),
            transport,
            place,
            ended: CancellationToken::new(),
        })
    }

    /// Whether its CONNECT packet was accepted, or is being answered.
    pub(super) fn has_connected(&self) -> bool {
        matches!(*self.state.lock(), State::Joined(..) | State::Connecting)
    }

    /// Whether it is a member's.
    pub(super) fn has_joined(&self) -> bool {
        matches!(*self.state.lock(), State::Joined(..))
    }

    /// Makes the connection a member's; false, with the membership dropped, when it has ended meanwhile.
    pub(super) fn join(&self, session: Arc<Session>, membership: Membership<SocketSink>) -> bool {
        let mut state = self.state.lock();
        let is_waiting = matches!(*state, State::Connecting);
        if is_waiting {
            *state = State::Joined(session, membership);
        }
        is_waiting
    }

    /// Has new messages delivered, unless the connection has ended meanwhile.
    pub(super) fn deliver(&self, sink: SocketSink, cursor: u64) {
        if let State::Joined(_, membership) = &*self.state.lock() {
            membership.deliver_to(sink, cursor);
        }
    }

    pub(super) fn push(&self, frame: &Frame) -> Push {
        match &self.transport {
            Transport::WebSocket(socket) => socket.push(frame),
            Transport::Polling(socket) => match socket.upgrade() {
                Some(socket) => emit(&socket, frame),
                None => Push::Gone,
            },
        }
    }

    /// Pushes frames in order for as long as they are taken, and returns how many were.
    pub(super) fn push_all(&self, batch: &Batch) -> (usize, Push) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.push_all(batch),
            Transport::Polling(_) => push_each(batch, |frame| self.push(frame)),
        }
    }

    pub(super) fn close(&self, code: CloseCode) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.close(code),
            Transport::Polling(socket) => {
                if let Some(socket) = socket.upgrade() {
                    socket.close(disconnect_reason(code));
                }
            }
        }
    }
}

fn emit(socket: &EngineSocket, frame: &Frame) -> Push {
    match socket.reserve() {
        Ok(permit) => {
            permit.emit(Str::from(frame.packet().to_owned()));
            Push::Taken
        }
        Err(TrySendError::Full(())) => Push::Full,
        Err(TrySendError::Closed(())) => Push::Gone,
    }
}

fn disconnect_reason(code: CloseCode) -> DisconnectReason {
    match code {
        CloseCode::Normal => DisconnectReason::TransportClose,
        CloseCode::GoingAway => DisconnectReason::ClosingServer,
        CloseCode::ProtocolError | CloseCode::InvalidData | CloseCode::TooBig => {
            DisconnectReason::PacketParsingError
        }
    }
}

/// The fan-out's sink for one member: its connection. A push never waits.
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
