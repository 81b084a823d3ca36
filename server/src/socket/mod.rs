//! The Socket.IO edge: packets in, chat rules and the room behind them, packets out.
//!
//! Built on socketioxide's engine (`engineioxide`) and its parser rather than on `socketioxide` itself, which cannot send
//! `data` with a `CONNECT_ERROR`, runs each event of a socket as a task of its own (so that one sender's messages lose their
//! order), and encodes a packet anew for every socket. Here events are handled in the order they arrive, a message is
//! encoded once, and each answer either gets its place in the socket's buffer or ends the connection: never silence.

mod connect;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod packet;
mod session;
mod sink;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use engineioxide::{
    DisconnectReason, Str, TransportType, config::EngineIoConfig, handler::EngineIoHandler,
    service::EngineIoService,
};
use papo_protocol::{Launch, ports::SOCKET_IO_PATH};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{broker::Broker, metrics::Metrics, room::Room};
use packet::{Incoming, Malformed, Parser};
use session::Session;

pub(crate) use sink::EngineSink;

/// How long a connection may take to send its CONNECT packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Packets that may wait in a socket's own buffer; the room holds the rest.
const SOCKET_BUFFER: usize = 512;

type EngineSocket = engineioxide::Socket<Connection>;

/// All connections of one server to one room.
pub(crate) struct Edge<B: Broker> {
    room: Arc<Room<B, EngineSink>>,
    launch: Arc<Launch>,
    metrics: Arc<Metrics>,
    connections: AtomicU32,
    draining: AtomicBool,
    tasks: TaskTracker,
}

/// What the engine keeps for us beside each of its sockets.
#[derive(Default)]
pub(crate) struct Connection {
    parser: Parser,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
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

impl<B: Broker> Edge<B> {
    /// An edge on a room.
    pub(crate) fn new(
        room: Arc<Room<B, EngineSink>>,
        launch: Arc<Launch>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            room,
            launch,
            metrics,
            connections: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        })
    }

    /// The HTTP service that speaks Engine.IO under `/socket.io`.
    pub(crate) fn service(self: &Arc<Self>) -> EngineIoService<Self> {
        let frame_size = self.launch.limits.frame_size;
        let config = EngineIoConfig::builder()
            .req_path(SOCKET_IO_PATH)
            .max_buffer_size(SOCKET_BUFFER)
            // For long-polling requests; WebSocket frames have limits of their own.
            .max_payload(frame_size.into())
            .ws_max_frame_size(frame_size as usize)
            .ws_max_message_size(frame_size as usize);
        let config = if self.launch.long_polling {
            config.transports([TransportType::Websocket, TransportType::Polling])
        } else {
            config.transports([TransportType::Websocket])
        };
        EngineIoService::with_config(self.clone(), config.build())
    }

    /// Refuses newcomers from now on, sends the members away over `period`, and waits for what they have sent to be stored.
    pub(crate) async fn drain(&self, period: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        self.room.drain(packet::draining(period), period).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Connections at present.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    fn receive(
        self: &Arc<Self>,
        packet: Result<Option<Incoming>, Malformed>,
        socket: &Arc<EngineSocket>,
    ) {
        match packet {
            Ok(None) => {}
            Ok(Some(Incoming::Connect { auth })) => self.connect(auth, socket),
            Ok(Some(Incoming::OtherNamespace)) => {
                sink::push_or_close(socket, packet::invalid_namespace());
            }
            Ok(Some(Incoming::Event { arguments, ack })) => self.event(&arguments, ack, socket),
            Ok(Some(Incoming::Disconnect)) => socket.close(DisconnectReason::TransportClose),
            Err(malformed) => {
                debug!(sid = %socket.id, %malformed, "closing a connection");
                socket.close(DisconnectReason::PacketParsingError);
            }
        }
    }

    fn event(
        self: &Arc<Self>,
        arguments: &[serde_json::Value],
        ack: Option<i64>,
        socket: &Arc<EngineSocket>,
    ) {
        let session = match &*socket.data.state.lock() {
            State::Joined(session) => Some(session.clone()),
            State::Opened | State::Connecting | State::Closed => None,
        };
        match session {
            Some(session) => event::handle(self, &session, arguments, ack, socket),
            // No client does this: it may send once it was told that it is connected.
            None => socket.close(DisconnectReason::PacketParsingError),
        }
    }
}

impl<B: Broker> EngineIoHandler for Edge<B> {
    type Data = Connection;

    fn on_connect(self: Arc<Self>, socket: Arc<EngineSocket>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
        self.tasks.spawn(async move {
            let connected = async {
                tokio::time::sleep(CONNECT_TIMEOUT).await;
                matches!(*socket.data.state.lock(), State::Joined(_) | State::Connecting)
            };
            tokio::select! {
                connected = connected => if !connected { socket.close(DisconnectReason::TransportClose) },
                () = socket.closed() => {}
            }
        });
    }

    fn on_disconnect(&self, socket: Arc<EngineSocket>, reason: DisconnectReason) {
        debug!(sid = %socket.id, ?reason, "disconnected");
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
        if let State::Joined(session) =
            std::mem::replace(&mut *socket.data.state.lock(), State::Closed)
        {
            self.room.leave(session.id);
        }
    }

    fn on_message(self: &Arc<Self>, text: Str, socket: Arc<EngineSocket>) {
        self.receive(socket.data.parser.text(text), &socket);
    }

    fn on_binary(self: &Arc<Self>, data: Bytes, socket: Arc<EngineSocket>) {
        self.receive(socket.data.parser.binary(data), &socket);
    }
}

impl<B: Broker> fmt::Debug for Edge<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
