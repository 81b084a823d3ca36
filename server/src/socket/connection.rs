//! A client's connection, over WebSocket or long-polling.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use papo_engineio::{Batch, CloseCode, Frame, Message, Outgoing, Polling, Push};
use papo_protocol::SenderId;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tracing::debug;

use super::{
    bearer::Bearer,
    bounds::TooFast,
    packet::{Incoming, Malformed, Parser},
    places::Place,
    session::Session,
    sid::Sid,
};
use crate::{
    chat::{Member, Rejection},
    room::{CloseReason, Membership, Sink},
};

/// How long a connection may take to send its CONNECT packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many of these times a connection may wait for the answer to its CONNECT packet.
const CONNECT_PERIODS: u32 = 12;

/// One client's connection.
pub(crate) struct Connection {
    pub(super) sid: Sid,
    parser: Parser,
    pub(super) state: Mutex<State>,
    pub(super) transport: Transport,
    /// Among the connections of its address.
    pub(super) place: Place,
    /// Notified when the connection has ended.
    ended: Notify,
    /// For how long nothing is read from it next, in milliseconds.
    pause: AtomicU32,
}

/// The transport of its packets.
pub(super) enum Transport {
    WebSocket(Arc<Outgoing>),
    /// Long-polling, and the WebSocket that the client upgrades to.
    Polling(Arc<Polling>),
}

pub(super) enum State {
    /// No CONNECT packet yet.
    Opened(Option<Bearer>),
    /// The CONNECT packet has come, and the answer is being prepared.
    Connecting,
    /// A member of the room until the membership is dropped, which leaves it.
    Joined(Arc<Session>, Membership<SocketSink>),
    /// The connection has ended.
    Closed,
}

impl Connection {
    pub(super) fn new(
        sid: Sid,
        transport: Transport,
        place: Place,
        bearer: Option<Bearer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            sid,
            parser: Parser::default(),
            state: Mutex::new(State::Opened(bearer)),
            transport,
            place,
            ended: Notify::new(),
            pause: AtomicU32::new(0),
        })
    }

    /// Decodes a message of the client.
    pub(super) fn decode(&self, message: Message) -> Result<Option<Incoming>, Malformed> {
        match message {
            Message::Text(text) => self.parser.text(text.into()),
            Message::Binary(data) => self.parser.binary(data),
        }
    }

    /// Lets the connection be read more slowly, if its address sends too much. A client that polls is slowed down by its requests.
    pub(super) fn slow_down(&self, TooFast { rejection, pause }: TooFast) -> Rejection {
        let pause = pause.unwrap_or_default().as_millis();
        let pause = u32::try_from(pause).unwrap_or(u32::MAX);
        self.pause.store(pause, Ordering::Relaxed);
        rejection
    }

    /// For how long nothing is to be read from the connection: once.
    pub(super) fn take_pause(&self) -> Option<Duration> {
        let pause = self.pause.swap(0, Ordering::Relaxed);
        (pause > 0).then(|| Duration::from_millis(pause.into()))
    }

    /// Runs a future that only its client needs for as long as the connection is open.
    pub(super) async fn while_open<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        // From here on it is notified: the connection may end before the future is polled.
        let ended = self.ended.notified();
        if matches!(*self.state.lock(), State::Closed) {
            return None;
        }
        tokio::select! {
            done = future => Some(done),
            () = ended => None,
        }
    }

    /// The connection has ended: its client leaves the room, if it has joined it, and what is done only for the client stops.
    /// Returns the member's session.
    pub(super) fn end(&self) -> Option<Arc<Session>> {
        let before = std::mem::replace(&mut *self.state.lock(), State::Closed);
        self.ended.notify_waiters();
        match before {
            State::Joined(session, _) => Some(session),
            State::Opened(_) | State::Connecting | State::Closed => None,
        }
    }

    /// The session of a member.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        match &*self.state.lock() {
            State::Joined(session, _) => Some(session.clone()),
            State::Opened(_) | State::Connecting | State::Closed => None,
        }
    }

    /// Waits until the client has joined (true), or has had its time to do so.
    pub(super) async fn joins_in_time(&self) -> bool {
        for _ in 0..CONNECT_PERIODS {
            sleep(CONNECT_TIMEOUT).await;
            match *self.state.lock() {
                State::Joined(..) => return true,
                // Its turn to join has not come yet, or the past is read for it.
                State::Connecting => {}
                State::Opened(_) | State::Closed => return false,
            }
        }
        false
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

    /// Gives a member another name; `None` if it has left.
    pub(super) fn rename(&self, member: Member) -> Option<Arc<Member>> {
        match &*self.state.lock() {
            State::Joined(_, membership) => membership.rename(member),
            State::Opened(_) | State::Connecting | State::Closed => None,
        }
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
            Transport::Polling(session) => session.push(frame),
        }
    }

    /// Pushes frames in order for as long as they are taken, and returns how many were.
    pub(super) fn push_all(&self, batch: &Batch) -> (usize, Push) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.push_all(batch),
            Transport::Polling(session) => session.push_all(batch),
        }
    }

    pub(super) fn close(&self, code: CloseCode) {
        match &self.transport {
            Transport::WebSocket(socket) => socket.close(code),
            Transport::Polling(session) => session.close(code),
        }
    }
}

/// The fan-out's sink for one member: its connection. A push never waits.
#[derive(Clone)]
pub(crate) struct SocketSink {
    connection: Arc<Connection>,
    member: Arc<Member>,
}

impl SocketSink {
    pub(super) fn new(connection: Arc<Connection>, member: Arc<Member>) -> Self {
        Self { connection, member }
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
        self.member.sender == *sender
    }
}

impl fmt::Debug for SocketSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketSink")
            .field(&self.connection.sid)
            .finish()
    }
}
