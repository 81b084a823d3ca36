//! A client's connection, over either transport.

use std::sync::{Arc, Weak};

use engineioxide::{DisconnectReason, Str, sid::Sid};
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;

use super::{Ending, EngineSocket, packet::Parser, session::Session, websocket::Outgoing};
use crate::{
    frame::{Batch, Frame},
    room::{Push, push_each},
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
    /// A member of the room.
    Joined(Arc<Session>),
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
        matches!(*self.state.lock(), State::Joined(_) | State::Connecting)
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
