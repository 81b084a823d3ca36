//! A session that begins with long-polling: its packets wait for the client's next request, until it upgrades to WebSocket.
//!
//! - Packets leave in the order in which they were pushed, on either transport. After the upgrade a push is one of [`Outgoing`].
//! - What waits for a client is bounded in number ([`MOST_WAITING`]) and in bytes ([`Budget`]), also while it is being sent.
//! - A client has one GET and one POST at a time. The session ends with a second GET, because nobody could say which of the two has
//!   which packets, and with a GET whose client has gone.
//! - A browser or a proxy may send a request again when it has lost the answer (RFC 9110, 9.2.2). Of a GET the packets are lost, so the
//!   session ends; of a POST the packets have been taken, so it is only answered.
//! - HTTP is the caller's: it finds the session of a request, and bounds and reads the body.

#[cfg(test)]
mod tests;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Batch, Budget, CloseCode, Frame, Incoming, Kept, Message, Outgoing, Push, Settings, Upgrade,
    UpgradeError,
    incoming::open_packet,
    outgoing::binary,
    payload::{self, Received},
};

/// Packets that may wait for a client.
const MOST_WAITING: usize = 64;
/// Packets in one answer. python-engineio rejects an answer with more, and loses its session.
const MOST_ANSWERED: usize = 16;
/// What a waiting packet costs beside its bytes.
const PACKET: usize = 128;
/// How long a client may take to upgrade on a WebSocket that it has opened. Engine.IO's own.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last packets wait for a client that polls again.
const LINGER: Duration = Duration::from_secs(5);

const CLOSE: &str = "1";
const PING: &str = "2";
const NOOP: &str = "6";

/// One session. Any number of tasks may push; one task must [`run`](Self::run) it.
#[derive(Debug)]
pub struct Polling {
    settings: Arc<Settings>,
    budget: Arc<Budget>,
    state: Mutex<State>,
    /// Where all packets go once the client has upgraded.
    websocket: OnceLock<Arc<Outgoing>>,
    /// The client has answered since the last ping.
    is_alive: AtomicBool,
    /// There is something for the GET that waits.
    changed: Notify,
    /// The session no longer polls.
    left: Notify,
    /// The client has got the last packets.
    finished: Notify,
    post: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    is_pinged: bool,
    /// When the next ping is due; `None` before the first one.
    next_ping: Option<Instant>,
    /// The last GET and the last POST that had an identity of their own ([`fingerprint`]).
    last_get: Option<u64>,
    last_post: Option<u64>,
    /// A GET waits.
    is_polled: bool,
    /// The client tries a WebSocket: its GET must end, for the client waits for that.
    is_probed: bool,
    /// The WebSocket that the client has upgraded to, until [`Polling::run`] returns it.
    incoming: Option<Incoming>,
    end: Option<End>,
}

#[derive(Debug)]
struct Waiting {
    packet: Packet,
    kept: Kept,
}

#[derive(Debug)]
enum Packet {
    Message(Frame),
    Binary(Bytes),
}

#[derive(Clone, Copy, Debug)]
struct End {
    code: CloseCode,
    /// The last packet to the client.
    packet: &'static str,
    /// The client has got it, or will not ask for it.
    is_over: bool,
}

/// Why a GET gets no packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// The session has ended, or has upgraded.
    #[error("the session has ended, or uses another transport")]
    Gone,
    /// Another GET waits already, or this one was answered before. The session ends.
    #[error("the session has another request already, or had this one before")]
    Twice,
}

impl Polling {
    /// A session. What waits for its client is kept of `budget`.
    pub fn new(settings: &Arc<Settings>, budget: &Arc<Budget>) -> Self {
        Self {
            settings: settings.clone(),
            budget: budget.clone(),
            state: Mutex::default(),
            websocket: OnceLock::new(),
            is_alive: AtomicBool::new(true),
            changed: Notify::new(),
            left: Notify::new(),
            finished: Notify::new(),
            post: tokio::sync::Mutex::default(),
        }
    }

    /// The answer to the request that opens the session `sid`.
    pub fn open_packet(&self, sid: &str) -> String {
        open_packet(sid, &["websocket"], &self.settings)
    }

    /// Sends a frame that has nowhere else to wait.
    pub fn push(&self, frame: &Frame) -> Push {
        self.push_packet(
            |socket| socket.push(frame),
            || Packet::Message(frame.clone()),
        )
    }

    /// Sends a binary message, which waits as in [`push`](Self::push).
    pub fn push_binary(&self, data: &[u8]) -> Push {
        let packet = || Packet::Binary(Bytes::copy_from_slice(data));
        self.push_packet(|socket| socket.push_binary(data), packet)
    }

    fn push_packet(
        &self,
        send: impl Fn(&Outgoing) -> Push,
        packet: impl FnOnce() -> Packet,
    ) -> Push {
        if let Some(socket) = self.websocket.get() {
            return send(socket);
        }
        let mut state = self.state.lock();
        match self.websocket.get() {
            Some(socket) => send(socket),
            None => self.keep(&mut state, packet(), false),
        }
    }

    /// Sends as many frames of a batch as there is room for, and says how many. If nothing waits, the first one has room however
    /// large it is: otherwise a frame that is larger than the rest of the budget would never be sent.
    pub fn push_all(&self, batch: &Batch) -> (usize, Push) {
        if let Some(socket) = self.websocket.get() {
            return socket.push_all(batch);
        }
        let mut state = self.state.lock();
        if let Some(socket) = self.websocket.get() {
            return socket.push_all(batch);
        }
        for (taken, frame) in batch.frames().iter().enumerate() {
            let is_first = state.waiting.is_empty();
            let push = self.keep(&mut state, Packet::Message(frame.clone()), is_first);
            if push != Push::Taken {
                return (taken, push);
            }
        }
        (batch.frames().len(), Push::Taken)
    }

    fn keep(&self, state: &mut State, packet: Packet, is_kept_anyway: bool) -> Push {
        if state.end.is_some() {
            return Push::Gone;
        }
        let mut kept = Kept::nothing(&self.budget);
        let cost = PACKET + packet.length();
        if is_kept_anyway {
            kept.add_anyway(cost);
        } else if state.waiting.len() >= MOST_WAITING || !kept.add(cost) {
            return Push::Full;
        }
        state.waiting.push(Waiting { packet, kept });
        self.changed.notify_one();
        Push::Taken
    }

    /// Asks the task that runs the session to close it. The first request decides the code.
    pub fn close(&self, code: CloseCode) {
        self.end(&mut self.state.lock(), code, CLOSE);
    }

    /// The session ends because of its client, which gets an answer if it has a GET that waits, and no other.
    fn end_now(&self, code: CloseCode, packet: &'static str) {
        let mut state = self.state.lock();
        if self.websocket.get().is_some() {
            return;
        }
        self.end(&mut state, code, packet);
        if !state.is_polled
            && let Some(end) = &mut state.end
        {
            end.is_over = true;
            self.finished.notify_one();
        }
    }

    fn end(&self, state: &mut State, code: CloseCode, packet: &'static str) {
        if let Some(socket) = self.websocket.get() {
            socket.close(code);
        } else if state.end.is_none() {
            state.end = Some(End {
                code,
                packet,
                is_over: false,
            });
            self.changed.notify_one();
            self.left.notify_one();
        }
    }

    /// Sends pings until the session no longer polls: returns the WebSocket that the client has upgraded to, or the reason to end
    /// the session. Then call [`finish`](Self::finish).
    pub async fn run(&self) -> Result<Incoming, CloseCode> {
        tokio::select! {
            left = self.left() => left,
            () = self.heartbeat() => {
                self.end_now(CloseCode::GoingAway, CLOSE);
                self.left().await
            }
        }
    }

    async fn left(&self) -> Result<Incoming, CloseCode> {
        loop {
            if let Some(left) = self.state.lock().left() {
                return left;
            }
            self.left.notified().await;
        }
    }

    /// Returns when the client has not answered a ping.
    async fn heartbeat(&self) {
        let Settings {
            ping_interval,
            ping_timeout,
            ..
        } = *self.settings;
        let mut due = Instant::now() + ping_interval;
        self.state.lock().next_ping = Some(due);
        loop {
            sleep_until(due).await;
            self.is_alive.store(false, Ordering::Relaxed);
            due += ping_interval.max(ping_timeout);
            self.ping(due);
            sleep(ping_timeout).await;
            if !self.is_alive.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Sends a ping with the next answer.
    fn ping(&self, next: Instant) {
        let mut state = self.state.lock();
        state.is_pinged = true;
        state.next_ping = Some(next);
        self.changed.notify_one();
    }

    /// Waits until the client has got the last packets, or does not ask for them in time.
    pub async fn finish(&self) {
        let _ = timeout(LINGER, self.finished.notified()).await;
    }

    /// The answer to a GET: the packets that wait (at most [`MOST_ANSWERED`]), as soon as there is one. To drop the future ends the session.
    /// `request` tells one GET from the next ([`Query::request`](crate::Query)), if the client says it.
    pub async fn poll(&self, request: Option<&str>) -> Result<Bytes, PollError> {
        let mut turn = self.begin_poll(request)?;
        loop {
            if let Some(body) = self.take() {
                turn.is_answered = true;
                return Ok(body);
            }
            self.changed.notified().await;
        }
    }

    fn begin_poll(&self, request: Option<&str>) -> Result<Turn<'_>, PollError> {
        let mut state = self.state.lock();
        if self.websocket.get().is_some() || state.end.is_some_and(|end| end.is_over) {
            return Err(PollError::Gone);
        }
        let request = request.map(|request| fingerprint(request, ""));
        let is_repeated = request.is_some() && request == state.last_get;
        if is_repeated || state.is_polled {
            self.end(&mut state, CloseCode::ProtocolError, CLOSE);
            return Err(PollError::Twice);
        }
        state.is_polled = true;
        state.last_get = request;
        Ok(Turn {
            session: self,
            is_answered: false,
        })
    }

    /// What there is to answer to a GET, as far as it may be in one answer.
    fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        let State {
            waiting,
            is_pinged,
            end,
            ..
        } = &mut *state;
        let mut body = Body::default();
        let taken = waiting.len().min(MOST_ANSWERED - usize::from(*is_pinged));
        for Waiting { packet, kept } in waiting.drain(..taken) {
            packet.add_to(&mut body.text);
            body.kept.push(kept);
        }
        if mem::take(is_pinged) {
            payload::add(&mut body.text, PING);
        }
        // A body of its own: clients handle the close of a body before its messages, which come to the program only afterwards.
        if body.text.is_empty()
            && let Some(end) = end
        {
            payload::add(&mut body.text, end.packet);
            end.is_over = true;
            self.finished.notify_one();
        }
        // A GET that waits while the client upgrades.
        let is_in_the_way = state.is_probed || self.websocket.get().is_some();
        if body.text.is_empty() && is_in_the_way {
            payload::add(&mut body.text, NOOP);
        }
        (!body.text.is_empty()).then(|| Bytes::from_owner(body))
    }

    /// Takes the packets of a POST, unless it was the last one already. An error is the reason why the session ends.
    /// `request`: as for [`poll`](Self::poll).
    pub fn receive(
        &self,
        request: Option<&str>,
        body: &str,
        mut on_message: impl FnMut(Message),
    ) -> Result<(), CloseCode> {
        if let Some(request) = request.map(|request| fingerprint(request, body)) {
            let last = self.state.lock().last_post.replace(request);
            if last == Some(request) {
                return Ok(());
            }
        }
        for received in payload::decode(body) {
            match received {
                Ok(Received::Message(message)) => on_message(message),
                Ok(Received::Alive) => self.is_alive.store(true, Ordering::Relaxed),
                Ok(Received::Close) => {
                    self.end_now(CloseCode::Normal, NOOP);
                    return Ok(());
                }
                Err(code) => {
                    self.end_now(code, CLOSE);
                    return Err(code);
                }
            }
        }
        Ok(())
    }

    /// Held while the body of a POST is read, so that packets keep their order; `None` while another one is.
    pub fn begin_post(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.post.try_lock().ok()
    }

    /// Whether the session polls still.
    pub fn is_polling(&self) -> bool {
        let state = self.state.lock();
        state.end.is_none() && self.websocket.get().is_none()
    }

    /// Lets the client upgrade on a WebSocket that it has opened, and returns whether it has. If not, the session goes on as before: a
    /// WebSocket of a session that no longer polls is closed at once.
    pub async fn upgrade(&self, upgrade: Upgrade) -> Result<bool, UpgradeError> {
        let (socket, incoming) = upgrade.accept(&self.settings, &self.budget).await?;
        Ok(self.upgrade_on(socket, incoming).await)
    }

    async fn upgrade_on(&self, socket: Arc<Outgoing>, mut incoming: Incoming) -> bool {
        if !self.is_polling() {
            incoming.close(CloseCode::GoingAway).await;
            return false;
        }
        let probe = incoming.probe(|| self.set_probed(true));
        let probed = timeout(UPGRADE_TIMEOUT, probe).await;
        let (code, incoming) = match probed {
            Ok(Ok(())) => match self.switch_to(socket, incoming) {
                None => return true,
                Some(incoming) => (CloseCode::GoingAway, incoming),
            },
            Ok(Err(code)) => (code, incoming),
            Err(_) => (CloseCode::GoingAway, incoming),
        };
        self.set_probed(false);
        incoming.close(code).await;
        false
    }

    fn set_probed(&self, is_probed: bool) {
        self.state.lock().is_probed = is_probed;
        self.changed.notify_one();
    }

    /// Moves the session, with the packets that wait. Returns the WebSocket if the session has ended, or has another one.
    fn switch_to(&self, socket: Arc<Outgoing>, mut incoming: Incoming) -> Option<Incoming> {
        let mut state = self.state.lock();
        if state.end.is_some() || self.websocket.get().is_some() {
            return Some(incoming);
        }
        for Waiting { packet, kept } in mem::take(&mut state.waiting) {
            drop(kept);
            if socket.push_raw(packet.frame()) != Push::Taken {
                socket.close(CloseCode::TryAgainLater);
                break;
            }
        }
        // The client expects the next ping when it would have come without the upgrade.
        incoming.ping_at(mem::take(&mut state.is_pinged), state.next_ping);
        // Under the lock, so that nothing is pushed between what has waited and what comes next.
        let _ = self.websocket.set(socket);
        state.incoming = Some(incoming);
        self.left.notify_one();
        self.changed.notify_one();
        None
    }
}

/// Tells two requests of a client apart. A client can only deceive itself.
fn fingerprint(request: &str, body: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (request, body).hash(&mut hasher);
    hasher.finish()
}

impl State {
    fn left(&mut self) -> Option<Result<Incoming, CloseCode>> {
        let incoming = self.incoming.take().map(Ok);
        incoming.or_else(|| self.end.map(|end| Err(end.code)))
    }
}

impl Packet {
    fn length(&self) -> usize {
        match self {
            Self::Message(frame) => frame.bytes().len(),
            Self::Binary(data) => data.len(),
        }
    }

    fn add_to(&self, body: &mut String) {
        match self {
            Self::Message(frame) => payload::add(body, frame.message()),
            Self::Binary(data) => payload::add_binary(body, data),
        }
    }

    fn frame(&self) -> Bytes {
        match self {
            Self::Message(frame) => frame.bytes().clone(),
            Self::Binary(data) => binary(data),
        }
    }
}

/// A GET that waits.
struct Turn<'a> {
    session: &'a Polling,
    is_answered: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.session.state.lock().is_polled = false;
        if !self.is_answered {
            self.session.end_now(CloseCode::Normal, NOOP);
        }
    }
}

/// The body of an answer, which is kept of the budget until it is sent.
#[derive(Default)]
struct Body {
    text: String,
    kept: Vec<Kept>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}
