//! The socket server: packets in, chat rules and the room behind them, packets out.
//!
//! - Events of one connection are handled in the order in which they arrive.
//! - Every request gets an answer: when a client does not take it, the server closes the connection.
//! - A message is encoded once, and over WebSocket ([`websocket`], on [`papo_engineio`]) costs one copy into the kernel.
//!
//! Clients that begin with long-polling have sessions that name their server ([`polling`], [`sid`]); a request that reaches another
//! server of the room is forwarded ([`forward`]).
//!
//! It uses socketioxide's parser. It does not use `socketioxide` itself for members, which cannot send `data` with a `CONNECT_ERROR`, handles each
//! event of a socket in a task of its own, so that one sender's messages lose their order, and encodes a packet again for every socket.

mod bearer;
mod bounds;
pub(crate) mod client;
mod connect;
mod connection;
mod directory;
mod event;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod join_queue;
mod members;
mod packet;
mod places;
mod polling;
mod push;
mod rates;
mod session;
mod sid;
mod sign_in;
mod standing;
#[cfg(test)]
mod tests;
mod websocket;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use papo_engineio::{CloseCode, Settings};
use papo_listener::Exceeded;
use papo_protocol::{Launch, event::Code};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    access::AccessControl,
    address::Address,
    broker::Broker,
    chat::Rejection,
    metrics::{Bound, Metrics},
    room::{Requester, Room},
};
use bounds::Bounds;
use connection::{State, Transport};
use forward::Forwarder;
use join_queue::JoinQueue;
use members::Members;
use packet::{Incoming, Malformed};
use places::Place;
use polling::Sessions;
use session::Session;

pub(crate) use connection::{Connection, SocketSink};
#[cfg(test)]
pub(crate) use directory::CHANGES;
pub(crate) use directory::{Change, Directory, Entry, Seen};
pub(crate) use polling::poll;
pub(crate) use rates::Rates;
pub(crate) use sid::Sids;
pub(crate) use websocket::{admit, has_session, upgrade};

/// Sockets that one peer may have beyond its connections, to load the page.
const PAGE_SOCKETS: usize = 64;

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
    sessions: Sessions,
    sids: Sids,
    forwarder: Forwarder,
    /// The members' sockets, if the Admin UI is on.
    directory: Option<Arc<Directory>>,
    access: Arc<AccessControl>,
    /// The members whose rights can change, if those of any can.
    members: Option<Members>,
    tasks: TaskTracker,
}

/// Sockets beyond the members': those of clients that load the page, or that are about to be rejected with a reason.
pub(crate) fn wanted_sockets(connections: u32) -> usize {
    connections as usize + connections as usize / 10 + 16
}

/// How the servers of a room find each other's sessions.
pub(crate) struct Sharing {
    /// Make and read the ids of sessions.
    pub(crate) sids: Sids,
    /// Requests and WebSockets that may be forwarded to other servers at once.
    pub(crate) forwarded: usize,
}

impl<B: Broker> SocketServer<B> {
    /// A socket server of a room.
    pub(crate) fn new(
        room: Arc<Room<B, SocketSink>>,
        launch: Arc<Launch>,
        sharing: Sharing,
        access: Arc<AccessControl>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let limits = &launch.limits;
        let drain_period = Duration::from_secs(launch.drain_period.into());
        let forwarder = Forwarder::new(sharing.forwarded, drain_period, metrics.clone());
        let bounds = Bounds::new(limits, metrics.clone());
        let joins = JoinQueue::new(&limits.address, metrics.joins_waiting.clone());
        let engine_settings = Settings {
            max_payload: limits.frame_size,
            ..Settings::default()
        };
        let directory = launch.has_admin_ui().then(Arc::default);
        let members = access.has_file().then(Members::default);
        Arc::new(Self {
            room,
            launch,
            engine_settings: engine_settings.into(),
            metrics,
            connections: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            joins,
            bounds,
            sessions: Sessions::default(),
            sids: sharing.sids,
            forwarder,
            directory,
            access,
            members,
            tasks: TaskTracker::new(),
        })
    }

    /// Rejects new members from now on, closes the members' connections over `period`, and waits until the messages that they have
    /// sent are stored.
    pub(crate) async fn drain(&self, period: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        tokio::join!(
            self.forwarder.drain(),
            self.room.drain(packet::draining(period), period),
        );
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Lets waiting clients join, one after the other, for as long as the server runs.
    pub(crate) async fn run_join_queue(self: Arc<Self>) {
        self.joins.run().await;
    }

    /// Counts what exceeded a bound of the listener.
    pub(crate) fn listener_exceeded(&self, peer: SocketAddr, exceeded: Exceeded) {
        self.exceeded(peer.ip().into(), exceeded);
    }

    /// The bound that a session without a socket has exceeded: there may be no more of them than sockets.
    fn exceeded_by_session(&self, place: &Place) -> Option<Exceeded> {
        if self.connections() as usize >= wanted_sockets(self.launch.limits.connections) {
            return Some(Exceeded::Sockets);
        }
        let is_above = !self
            .bounds
            .has_connections(place, self.sockets_of_address());
        is_above.then_some(Exceeded::SocketsOfPeer)
    }

    /// Counts what exceeded a bound. A socket, or a session, that got no place is a rejection.
    fn exceeded(&self, address: Address, exceeded: Exceeded) {
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
            self.bounds.reject(Code::ServerFull, address, &message);
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

    /// Sockets that one peer may have: a proxy, and another server of the room, brings those of many clients.
    pub(crate) fn sockets_of(&self, peer: SocketAddr) -> usize {
        let ip = peer.ip();
        if self.launch.trusted_proxies.contains(ip) || self.forwarder.is_server(ip) {
            return usize::MAX;
        }
        self.sockets_of_address()
    }

    fn sockets_of_address(&self) -> usize {
        self.launch.limits.address_connections() as usize + PAGE_SOCKETS
    }

    /// The settings.
    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Who may enter.
    pub(crate) fn access(&self) -> &AccessControl {
        &self.access
    }

    /// The members' sockets, if the Admin UI is on.
    pub(crate) fn directory(&self) -> Option<&Arc<Directory>> {
        self.directory.as_ref()
    }

    /// Connections that poll.
    pub(crate) fn polling(&self) -> usize {
        self.sessions.len()
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
    }

    /// A connection was closed.
    fn closed(&self, connection: &Connection, close_code: CloseCode) {
        debug!(sid = %connection.sid, ?close_code, "disconnected");
        match close_code {
            CloseCode::TryAgainLater => self.reject_memory(connection),
            CloseCode::TooBig => self.metrics.exceeded(Bound::FrameSize),
            _ => {}
        }
        self.left(connection, close_code);
    }

    fn left(&self, connection: &Connection, close_code: CloseCode) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
        if let Some(session) = connection.end() {
            self.unlist(&session, close_code);
        }
    }

    /// A member has left: the Admin UI no longer shows its socket.
    fn unlist(&self, session: &Session, close_code: CloseCode) {
        if let (Some(directory), Some(id)) = (&self.directory, &session.listed) {
            directory.remove(id, close_code);
        }
    }

    /// A client that polled has upgraded to WebSocket.
    fn upgraded(&self, connection: &Connection) {
        let Some(directory) = &self.directory else {
            return;
        };
        let session = connection.session();
        if let Some(id) = session.as_ref().and_then(|session| session.listed.as_ref()) {
            directory.upgraded(id);
        }
    }

    fn receive(
        self: &Arc<Self>,
        packet: Result<Option<Incoming>, Malformed>,
        connection: &Arc<Connection>,
    ) {
        match packet {
            Ok(None) => {}
            Ok(Some(Incoming::Connect { auth })) => self.connect(auth, connection),
            Ok(Some(Incoming::OtherNamespace(namespace))) => {
                push::push_or_close(connection, &packet::invalid_namespace(&namespace));
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
        match (connection.session(), event) {
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

impl<B: Broker> fmt::Debug for SocketServer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
