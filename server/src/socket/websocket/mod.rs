//! Engine.IO over WebSocket (protocol 4, RFC 6455), without anything between a frame and the kernel.
//!
//! A room has one log, so its sockets have no queues of messages: the fan-out writes the same bytes to each TCP socket
//! itself, many messages with one system call, and what the kernel does not take stays in the log. Only the rest of a
//! frame that was taken in part, and answers, wait here. An idle connection holds no buffer at all.

pub(super) mod incoming;
mod outgoing;
mod upgrade;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use engineioxide::sid::Sid;
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};
use tracing::debug;

use super::{Connection, Edge, Transport};
use crate::broker::Broker;
use incoming::{Incoming, Received, Violation};

pub(super) use outgoing::Outgoing;
pub(crate) use upgrade::upgrade;

/// How often a client is asked whether it is there, and how long it may take to answer: Engine.IO's defaults.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How much is read at once. Most packets of a chat are smaller, and nothing of it is kept.
const READ_AT_ONCE: usize = 4_096;
/// How long a client may take to close its side after this one was closed.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection ends, as the code of WebSocket's close frame (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Normal = 1000,
    GoingAway = 1001,
    ProtocolError = 1002,
    InvalidData = 1007,
    TooBig = 1009,
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Frame => Self::ProtocolError,
            Violation::Encoding => Self::InvalidData,
            Violation::TooBig => Self::TooBig,
        }
    }
}

/// Serves one connection until it ends.
async fn serve<B: Broker>(edge: Arc<Edge<B>>, stream: TcpStream, already_read: Bytes) {
    let (sid, frame_size) = (Sid::new(), edge.launch.limits.frame_size);
    let socket = Arc::new(Outgoing::new(stream));
    let connection = Connection::new(sid, Transport::WebSocket(socket.clone()));
    socket.push_raw(open_packet(sid, frame_size));
    edge.opened();
    let ended = Serving {
        edge: &edge,
        connection: &connection,
        socket: &socket,
        incoming: Incoming::new(frame_size as usize),
        alive: true,
    }
    .run(already_read)
    .await;
    debug!(%sid, ?ended, "disconnected");
    edge.left(&connection);
    socket.close(ended);
    // What the client has sent meanwhile is read and dropped: a reset would take from it what it has not read yet.
    let _ = timeout(LINGER, socket.until_hung_up()).await;
}

/// Engine.IO's handshake.
fn open_packet(sid: Sid, frame_size: u32) -> Bytes {
    let open = json!({
        "sid": sid.as_str(),
        "upgrades": [],
        "pingInterval": PING_INTERVAL.as_millis(),
        "pingTimeout": PING_TIMEOUT.as_millis(),
        "maxPayload": frame_size,
    });
    outgoing::text(&format!("0{open}"))
}

struct Serving<'a, B: Broker> {
    edge: &'a Arc<Edge<B>>,
    connection: &'a Arc<Connection>,
    socket: &'a Outgoing,
    incoming: Incoming,
    /// It has answered since it was last asked.
    alive: bool,
}

impl<B: Broker> Serving<'_, B> {
    async fn run(mut self, already_read: Bytes) -> Ending {
        if let Err(ending) = self.take(&already_read) {
            return ending;
        }
        // Empty or not, it holds the buffer that the HTTP request was read into.
        drop(already_read);
        let socket = self.socket;
        let mut clock = Box::pin(sleep(super::CONNECT_TIMEOUT));
        let mut beat = Beat::Connect;
        loop {
            tokio::select! {
                read = socket.readable() => if let Err(ending) = read.map_err(|_| Ending::Normal).and_then(|()| self.read()) {
                    return ending;
                },
                _ = socket.flush() => return Ending::Normal,
                ending = socket.ended() => return ending,
                () = &mut clock => match self.beat(beat, clock.as_mut()) {
                    Some(next) => beat = next,
                    None => return Ending::GoingAway,
                },
            }
        }
    }

    /// What is due now; what comes next, or `None` when the client has been silent for too long.
    fn beat(&mut self, beat: Beat, clock: Pin<&mut Sleep>) -> Option<Beat> {
        let (next, wait) = match beat {
            Beat::Connect if !self.connection.has_connected() => return None,
            Beat::Connect => (
                Beat::Ping,
                PING_INTERVAL.saturating_sub(super::CONNECT_TIMEOUT),
            ),
            Beat::Ping => {
                self.alive = false;
                self.socket.push_raw(outgoing::PING.clone());
                (Beat::Pong, PING_TIMEOUT)
            }
            Beat::Pong if !self.alive => return None,
            Beat::Pong => (Beat::Ping, PING_INTERVAL.saturating_sub(PING_TIMEOUT)),
        };
        clock.reset(Instant::now() + wait);
        Some(next)
    }

    fn read(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; READ_AT_ONCE];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => Err(Ending::Normal),
            Ok(count) => self.take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Ending::Normal),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.incoming.extend(bytes);
        while let Some(received) = self.incoming.next()? {
            match received {
                Received::Text(packet) => self.packet(&packet)?,
                Received::Binary(data) => {
                    let packet = self.connection.parser.binary(data);
                    self.edge.receive(packet, self.connection);
                }
                Received::Ping(data) => drop(self.socket.push_raw(outgoing::pong(&data))),
                Received::Pong => {}
                Received::Close => return Err(Ending::Normal),
            }
        }
        Ok(())
    }

    /// An Engine.IO packet.
    fn packet(&mut self, packet: &str) -> Result<(), Ending> {
        match packet.split_at_checked(1) {
            Some(("4", message)) => {
                let packet = self.connection.parser.text(message.to_owned().into());
                self.edge.receive(packet, self.connection);
                Ok(())
            }
            Some(("2" | "3", _)) => {
                self.alive = true;
                Ok(())
            }
            Some(("1", _)) => Err(Ending::Normal),
            _ => Err(Ending::ProtocolError),
        }
    }
}

/// What a connection's clock strikes next.
#[derive(Clone, Copy)]
enum Beat {
    /// It must have sent its CONNECT packet.
    Connect,
    /// It is asked whether it is there.
    Ping,
    /// It must have answered.
    Pong,
}
