//! A client's connection, over either transport.

use std::sync::{Arc, Weak};

use engineioxide::{DisconnectReason, Str, sid::Sid};
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    Ending, EngineSocket, SocketSink, packet::Parser, session::Session, websocket::Outgoing,
};
use crate::{
    frame::{Batch, Frame},
    room::{Membership, Push, push_each},
};

/// One client's connection.
pub(crate) struct Connection {
    pub(super) sid: Sid,
    pub(super) parser: Parser,
    pub(super) state: Mutex<State>,
    pub(super) transport: Transport,
}

/// What carries its packets.
pub(super) enum Transport {
    WebSocket(Arc<Outgoing>),
    /// Long-polling, and what becomes of it when the client upgrades: the engine's, which owns it.
    Polling(Weak<EngineSocket>),
}

#[derive(Default)]
pub(super) enum State {
    /// No CONNECT packet yet.
    #[default]
    Opened,
    /// It came; the answer is being prepared.
    Connecting,
    /// A member of the room until the membership is dropped, which leaves it.
    Joined(Arc<Session>, Membership<SocketSink>),
    /// Over.
    Closed,
}

impl Connection {
    pub(super) fn new(sid: Sid, transport: Transport) -> Arc<Self> {
        Arc::new(Self {
            sid,
            parser: Parser::default(),
            state: Mutex::default(),
            transport,
        })
    }

    /// Has it sent its CONNECT packet?
    pub(super) fn has_connected(&self) -> bool {
        matches!(*self.state.lock(), State::Joined(..) | State::Connecting)
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

    /// Pushes one after the other as long as they are taken; says how many were.
    pub(super) fn push_all(&self, batch: &Batch) -> (usize, Push) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.push_all(batch),
            Transport::Polling(_) => push_each(batch, |frame| self.push(frame)),
        }
    }

    pub(super) fn close(&self, ending: Ending) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.end(ending),
            Transport::Polling(socket) => {
                if let Some(socket) = socket.upgrade() {
                    socket.close(reason(ending));
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

fn reason(ending: Ending) -> DisconnectReason {
    match ending {
        Ending::Normal => DisconnectReason::TransportClose,
        Ending::GoingAway => DisconnectReason::ClosingServer,
        Ending::ProtocolError | Ending::InvalidData | Ending::TooBig => {
            DisconnectReason::PacketParsingError
        }
    }
}
