//! The socket server: packets in, chat rules and the room behind them, packets out.
//!
//! - Events of one connection are handled in the order in which they arrive.
//! - Every request gets an answer: when a client does not take it, the server closes the connection.
//! - A message is encoded once, and over WebSocket ([`websocket`], on [`papo_engineio`]) costs one copy into the kernel.
//!
//! It uses socketioxide's parser and, for long-polling, its engine (`engineioxide`). It does not use `socketioxide` itself, which
//! cannot send `data` with a `CONNECT_ERROR`, handles each event of a socket in a task of its own, so that one sender's
//! messages lose their order, and encodes a packet again for every socket.

mod bounds;
pub(crate) mod client;
mod connect;
mod connection;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod join_queue;
mod packet;
mod places;
mod push;
mod rates;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use engineioxide::{
    DisconnectReason, Str, TransportType, config::EngineIoConfig, handler::EngineIoHandler,
    service::EngineIoService,
};
use papo_engineio::{CloseCode, Settings};
use papo_listener::Exceeded;
use papo_protocol::{Launch, event::Code, ports::SOCKET_IO_PATH};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    address::Address,
    broker::Broker,
    chat::Rejection,
    metrics::{Bound, Metrics},
    room::{Requester, Room},
};
use bounds::Bounds;
use connection::{EngineSocket, State, Transport};
use join_queue::JoinQueue;
use packet::{Incoming, Malformed};

pub(crate) use connection::{Connection, SocketSink};
#[cfg(any(test, fuzzing))]
pub(crate) use websocket::has_session;
pub(crate) use websocket::{admit, upgrade};

/// Sockets that one peer may have beyond its connections, to load the page.
const PAGE_SOCKETS: usize = 64;
/// Packets that may wait for a client that polls. Messages beyond wait in the log. They are copies, and not counted by their size.
const SOCKET_BUFFER: usize = 64;

/// All connections of one server to one room.
pub(crate) struct SocketServer<B: Broker> {
    room: Arc<Room<B, SocketSink>>,
    launch: Arc<Launch>,
    engine_settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    connections: AtomicU32,
    draining: AtomicBool,
    joins: JoinQueue,
    bounds: Bounds,
    tasks: TaskTracker,
}

impl<B: Broker> SocketServer<B> {
    /// A socket server of a room.
    pub(crate) fn new(
        room: Arc<Room<B, SocketSink>>,
        launch: Arc<Launch>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let limits = &launch.limits;
        let bounds = Bounds::new(limits, metrics.clone());
        let joins = JoinQueue::new(metrics.joins_waiting.clone());
        let engine_settings = Settings {
            max_payload: limits.frame_size,
            ..Settings::default()
        };
        Arc::new(Self {
            room,
            launch,
            engine_settings: engine_settings.into(),
            metrics,
            connections: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            joins,
            bounds,
            tasks: TaskTracker::new(),
        })
    }

    /// engineioxide's HTTP service under `/socket.io`: every request that [`upgrade`] does not take.
    pub(crate) fn service(self: &Arc<Self>) -> EngineIoService<Self> {
        let frame_size = self.launch.limits.frame_size;
        let config = EngineIoConfig::builder()
            .req_path(SOCKET_IO_PATH)
            .max_buffer_size(SOCKET_BUFFER)
            // The limit of long-polling requests; WebSocket frames have their own.
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

    /// Rejects new members from now on, closes the members' connections over `period`, and waits until the messages that they have
    /// sent are stored.
    pub(crate) async fn drain(&self, period: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        self.room.drain(packet::draining(period), period).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Lets waiting clients join, one after the other, for as long as the server runs.
    pub(crate) async fn run_join_queue(self: Arc<Self>) {
        self.joins.run().await;
    }

    /// Counts what exceeded a bound of the listener. A socket that got no place is a rejection.
    pub(crate) fn listener_exceeded(&self, peer: SocketAddr, exceeded: Exceeded) {
        let (bound, rejected) = match exceeded {
            Exceeded::Sockets => (Bound::Sockets, Some("the server has")),
            Exceeded::SocketsOfPeer => (Bound::PeerSockets, Some("this peer has")),
            Exceeded::HeadTime => (Bound::HeadTime, None),
            Exceeded::HeadSize => (Bound::HeadSize, None),
            Exceeded::RequestTime => (Bound::RequestTime, None),
            Exceeded::AnswerTime => (Bound::AnswerTime, None),
        };
        self.metrics.exceeded(bound);
        if let Some(who) = rejected {
            let message = format!("{who} as many sockets as it may have");
            self.bounds
                .reject(Code::ServerFull, peer.ip().into(), &message);
        }
    }

    /// Counts a connection that was closed because the server keeps too much for the clients of its address, or for all.
    fn reject_memory(&self, connection: &Connection) {
        self.metrics.exceeded(Bound::ClientMemory);
        let message = "the server keeps too much for clients of this address, or for all";
        self.bounds
            .reject(Code::Unavailable, connection.place.address, message);
    }

    /// Bytes that the server keeps for clients that do not read, or do not send the rest of a message.
    pub(crate) fn client_memory(&self) -> usize {
        self.bounds.client_memory()
    }

    /// Sockets that one peer may have: a proxy brings those of many clients.
    pub(crate) fn sockets_of(&self, peer: SocketAddr) -> usize {
        if self.launch.trusted_proxies.contains(peer.ip()) {
            return usize::MAX;
        }
        self.launch.limits.address_connections() as usize + PAGE_SOCKETS
    }

    /// The settings.
    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
    }

    fn left(&self, connection: &Connection) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
        connection.end();
    }

    fn receive(
        self: &Arc<Self>,
        packet: Result<Option<Incoming>, Malformed>,
        connection: &Arc<Connection>,
    ) {
        match packet {
            Ok(None) => {}
            Ok(Some(Incoming::Connect { auth })) => self.connect(auth, connection),
            Ok(Some(Incoming::OtherNamespace)) => {
                push::push_or_close(connection, &packet::invalid_namespace());
            }
            Ok(Some(Incoming::Event { arguments, ack })) => {
                self.event(Ok(&arguments), ack, connection);
            }
            Ok(Some(Incoming::Unreadable { rejection, ack })) => {
                self.event(Err(&rejection), ack, connection);
            }
            Ok(Some(Incoming::Disconnect)) => connection.close(CloseCode::Normal),
            Err(malformed) => {
                debug!(sid = %connection.sid, %malformed, "closing a connection");
                connection.close(CloseCode::ProtocolError);
            }
        }
    }

    fn event(
        self: &Arc<Self>,
        event: Result<&[serde_json::Value], &Rejection>,
        ack: Option<i64>,
        connection: &Arc<Connection>,
    ) {
        let session = match &*connection.state.lock() {
            State::Joined(session, _) => Some(session.clone()),
            State::Opened | State::Connecting | State::Closed => None,
        };
        match (session, event) {
            (Some(session), Ok(arguments)) => {
                event::handle(self, &session, arguments, ack, connection);
            }
            (Some(session), Err(rejection)) => {
                event::reject(self, &session, rejection, ack, connection);
            }
            // A client may send events only after the answer to its CONNECT packet.
            (None, _) => connection.close(CloseCode::ProtocolError),
        }
    }
}

/// Who reads the past, for the turns of the room.
fn requester(address: Address) -> Requester {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}

/// The connection that a socket of engineioxide carries.
fn carried<'a>(bounds: &Bounds, socket: &'a Arc<EngineSocket>) -> &'a Arc<Connection> {
    socket.data.get_or_init(|| {
        let address = socket.req_parts.extensions.get::<Address>();
        let place = bounds.open(address.copied().unwrap_or_default());
        let transport = Transport::Polling(Arc::downgrade(socket));
        Connection::new(socket.id, transport, place)
    })
}

impl<B: Broker> EngineIoHandler for SocketServer<B> {
    type Data = OnceLock<Arc<Connection>>;

    fn on_connect(self: Arc<Self>, socket: Arc<EngineSocket>) {
        self.opened();
        let connection = carried(&self.bounds, &socket).clone();
        let metrics = self.metrics.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                has_joined = connection.joins_in_time() => if !has_joined {
                    metrics.exceeded(Bound::ConnectTime);
                    socket.close(DisconnectReason::TransportClose);
                },
                () = socket.closed() => {}
            }
        });
    }

    fn on_disconnect(&self, socket: Arc<EngineSocket>, reason: DisconnectReason) {
        debug!(sid = %socket.id, ?reason, "disconnected");
        self.left(carried(&self.bounds, &socket));
    }

    fn on_message(self: &Arc<Self>, text: Str, socket: Arc<EngineSocket>) {
        let connection = carried(&self.bounds, &socket);
        self.receive(connection.parser.text(text), connection);
    }

    fn on_binary(self: &Arc<Self>, data: Bytes, socket: Arc<EngineSocket>) {
        let connection = carried(&self.bounds, &socket);
        self.receive(connection.parser.binary(data), connection);
    }
}

impl<B: Broker> fmt::Debug for SocketServer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
