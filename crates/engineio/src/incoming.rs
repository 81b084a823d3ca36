//! The receiving half of a connection: its messages, its heartbeat and its end.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    Budget, CloseCode, Kept, Outgoing, Settings,
    decoder::{Decoder, Received},
    outgoing::{PING, pong, text},
};

/// How much is read at once, in bytes. Most packets are smaller, and the buffer lives on the stack.
const READ_AT_ONCE: usize = 4_096;
/// Bytes that each connection may hold of what has not arrived completely. It may hold more if the budget allows.
const ALLOWANCE: usize = READ_AT_ONCE;
/// How long a client may take to close its side after the server has closed its own.
const LINGER: Duration = Duration::from_secs(2);

/// What a client sends to try a WebSocket before it upgrades to it, the answer, and what it sends when it has upgraded.
const PROBE: &str = "2probe";
const PROBE_ANSWER: &str = "3probe";
const UPGRADE: &str = "5";

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The payload of Engine.IO's packet `message`; of [`Incoming::websocket_message`], the whole text.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

/// The receiving half of a connection. It also sends the pings and what waits in [`Outgoing`], so a task must take from it
/// for as long as the connection is open.
#[derive(Debug)]
pub struct Incoming {
    socket: Arc<Outgoing>,
    settings: Arc<Settings>,
    decoder: Decoder,
    /// The memory of the decoder beyond [`ALLOWANCE`].
    kept: Kept,
    clock: Pin<Box<Sleep>>,
    next_beat: Beat,
    /// The client has answered since the last ping.
    is_alive: bool,
}

/// What the connection's clock does next.
#[derive(Clone, Copy, Debug)]
enum Beat {
    /// It sends a ping.
    Ping,
    /// It closes the connection if the client has not answered.
    Check,
}

/// Opens the session `sid` on a TCP connection after the handshake: sends Engine.IO's `open` packet. `already_read` is what
/// was read from the connection beyond the handshake. What waits for the client, and large messages that have not arrived
/// completely, are kept of `budget`.
///
/// Set `TCP_NODELAY` on the stream: every push is one write.
pub fn open(
    stream: TcpStream,
    already_read: &[u8],
    sid: &str,
    settings: &Arc<Settings>,
    budget: &Arc<Budget>,
) -> (Arc<Outgoing>, Incoming) {
    let (socket, incoming) = resume(stream, already_read, settings, budget);
    socket.push_raw(text(&open_packet(sid, &[], settings)));
    (socket, incoming)
}

/// A session on a TCP connection as [`open`] has it, without an `open` packet: the client has had one on another transport.
pub(crate) fn resume(
    stream: TcpStream,
    already_read: &[u8],
    settings: &Arc<Settings>,
    budget: &Arc<Budget>,
) -> (Arc<Outgoing>, Incoming) {
    let socket = Arc::new(Outgoing::new(stream, budget));
    let mut decoder = Decoder::new(settings.max_payload as usize);
    decoder.extend(already_read);
    let incoming = Incoming {
        socket: socket.clone(),
        settings: settings.clone(),
        decoder,
        kept: Kept::nothing(budget),
        clock: Box::pin(sleep(settings.ping_interval)),
        next_beat: Beat::Ping,
        is_alive: true,
    };
    (socket, incoming)
}

/// The first packet of a session: what the client must know of it, and the transports to which it may upgrade.
pub(crate) fn open_packet(sid: &str, upgrades: &[&str], settings: &Settings) -> String {
    let open = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": settings.ping_interval.as_millis(),
        "pingTimeout": settings.ping_timeout.as_millis(),
        "maxPayload": settings.max_payload,
    });
    format!("0{open}")
}

impl Incoming {
    /// Waits for the next message, or for a reason to close the connection: then call [`Incoming::close`] with it. Dropping
    /// the future loses nothing.
    pub async fn next(&mut self) -> Result<Message, CloseCode> {
        loop {
            match self.websocket_message().await? {
                Message::Text(packet) => {
                    if let Some(message) = self.packet(packet)? {
                        return Ok(message);
                    }
                }
                binary @ Message::Binary(_) => return Ok(binary),
            }
        }
    }

    /// Waits for the next WebSocket message, which need not be a packet of Engine.IO: for servers without sessions. Engine.IO's pings
    /// are sent nevertheless; [`Settings::ping_interval`] can put them off.
    pub async fn websocket_message(&mut self) -> Result<Message, CloseCode> {
        loop {
            match self.received().await? {
                Received::Text(text) => return Ok(Message::Text(text)),
                Received::Binary(data) => return Ok(Message::Binary(data)),
                Received::Ping(data) => drop(self.socket.push_raw(pong(&data))),
                Received::Pong => {}
                Received::Close => return Err(CloseCode::Normal),
            }
        }
    }

    /// Reads nothing for so long, while the connection goes on sending: TCP then holds back a client that sends too fast. The end of the
    /// connection by the client is noticed only afterwards.
    pub async fn pause(&mut self, wait: Duration) -> Result<(), CloseCode> {
        let mut over = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = over.as_mut() => return Ok(()),
                _ = self.socket.flush() => return Err(CloseCode::Normal),
                code = self.socket.close_requested() => return Err(code),
                () = self.clock.as_mut() => self.beat()?,
            }
        }
    }

    /// Answers the probe of a client that upgrades, and waits until it moves its session here (Engine.IO 4, "Upgrade").
    /// `on_probe` is called when the probe has come.
    pub(crate) async fn probe(&mut self, on_probe: impl FnOnce()) -> Result<(), CloseCode> {
        self.expect(PROBE).await?;
        on_probe();
        self.socket.push_raw(text(PROBE_ANSWER));
        self.expect(UPGRADE).await
    }

    /// Waits for one packet, and takes no other.
    async fn expect(&mut self, packet: &str) -> Result<(), CloseCode> {
        match self.websocket_message().await? {
            Message::Text(text) if text == packet => Ok(()),
            Message::Text(_) | Message::Binary(_) => Err(CloseCode::ProtocolError),
        }
    }

    /// Waits for the next WebSocket message or control frame.
    async fn received(&mut self) -> Result<Received, CloseCode> {
        loop {
            if let Some(received) = self.decoder.next()? {
                return Ok(received);
            }
            let memory = self.decoder.memory().saturating_sub(ALLOWANCE);
            if !self.kept.set(memory) {
                return Err(CloseCode::TryAgainLater);
            }
            tokio::select! {
                read = self.socket.readable() => {
                    read.map_err(|_| CloseCode::Normal)?;
                    self.read()?;
                }
                _ = self.socket.flush() => return Err(CloseCode::Normal),
                code = self.socket.close_requested() => return Err(code),
                () = self.clock.as_mut() => self.beat()?,
            }
        }
    }

    /// Closes the connection: sends the close frame, then waits a moment for the client to close its side. Bytes that the
    /// client has sent meanwhile are read and dropped, because a reset would take from it what it has not read yet.
    pub async fn close(self, code: CloseCode) {
        self.socket.finish(code);
        let _ = timeout(LINGER, self.socket.peer_closed()).await;
    }

    fn read(&mut self) -> Result<(), CloseCode> {
        let mut buffer = [0; READ_AT_ONCE];
        match self.socket.try_read(&mut buffer) {
            Ok(count @ 1..) => self.decoder.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Err(CloseCode::Normal),
        }
        Ok(())
    }

    /// An Engine.IO packet: its type is the first character.
    fn packet(&mut self, mut packet: String) -> Result<Option<Message>, CloseCode> {
        match packet.as_bytes().first() {
            Some(b'4') => {
                packet.remove(0);
                Ok(Some(Message::Text(packet)))
            }
            Some(b'2' | b'3' | b'6') => {
                self.is_alive = true;
                Ok(None)
            }
            Some(b'1') => Err(CloseCode::Normal),
            _ => Err(CloseCode::ProtocolError),
        }
    }

    /// When it does next what the heartbeat needs.
    #[cfg(test)]
    pub(crate) fn next_beat_at(&self) -> Instant {
        self.clock.deadline()
    }

    /// Sends the next ping at this time, or now.
    pub(crate) fn ping_at(&mut self, is_due: bool, next: Option<Instant>) {
        let now = Instant::now();
        let next = if is_due { now } else { next.unwrap_or(now) };
        self.next_beat = Beat::Ping;
        self.clock.as_mut().reset(next);
    }

    /// Does what is due, and sets the clock for what comes next.
    fn beat(&mut self) -> Result<(), CloseCode> {
        let Settings {
            ping_interval,
            ping_timeout,
            ..
        } = *self.settings;
        let (next_beat, wait) = match self.next_beat {
            Beat::Ping => {
                self.is_alive = false;
                self.socket.push_raw(PING.clone());
                (Beat::Check, ping_timeout)
            }
            Beat::Check if !self.is_alive => return Err(CloseCode::GoingAway),
            Beat::Check => (Beat::Ping, ping_interval.saturating_sub(ping_timeout)),
        };
        self.next_beat = next_beat;
        self.clock.as_mut().reset(Instant::now() + wait);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use serde_json::Value;
    use tokio::net::TcpListener;
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message as WsMessage, protocol::Role},
    };

    use super::*;
    use crate::{Frame, Push};

    type Client = WebSocketStream<TcpStream>;

    const BUDGET: usize = 100_000;

    const SETTINGS: Settings = Settings {
        ping_interval: Duration::from_millis(40),
        ping_timeout: Duration::from_millis(30),
        max_payload: 100,
    };

    /// Both halves of a new session, and its client, which has read the `open` packet.
    async fn session(settings: Settings) -> (Arc<Outgoing>, Incoming, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let server = server.expect("accepted").0;
        let mut client =
            Client::from_raw_socket(client.expect("connected"), Role::Client, None).await;
        let expected = json!({
            "sid": "s1",
            "upgrades": [],
            "pingInterval": settings.ping_interval.as_millis(),
            "pingTimeout": settings.ping_timeout.as_millis(),
            "maxPayload": settings.max_payload,
        });
        let budget = Arc::new(Budget::new(BUDGET));
        let (outgoing, incoming) = open(server, &[], "s1", &Arc::new(settings), &budget);
        let packet = text_of(&mut client).await;
        let open = packet.strip_prefix('0').expect("an open packet");
        assert_eq!(serde_json::from_str::<Value>(open).expect("JSON"), expected);
        (outgoing, incoming, client)
    }

    async fn text_of(client: &mut Client) -> String {
        let message = client.next().await.expect("open").expect("received");
        message.into_text().expect("text").to_string()
    }

    /// Sends a packet, and lets the connection be closed because of it.
    async fn closed_by(packet: WsMessage) -> CloseCode {
        let (_outgoing, mut incoming, mut client) = session(Settings {
            max_payload: SETTINGS.max_payload,
            ..Settings::default()
        })
        .await;
        client.send(packet).await.expect("sent");
        let code = incoming.next().await.expect_err("no message");
        let closing = tokio::spawn(incoming.close(code));
        if let Some(Ok(WsMessage::Close(Some(frame)))) = client.next().await {
            assert_eq!(u16::from(frame.code), code as u16);
        }
        drop(client);
        closing.await.expect("closed");
        code
    }

    #[tokio::test]
    async fn paused_connection_reads_nothing_and_sends() {
        let (outgoing, mut incoming, mut client) = session(Settings::default()).await;
        client.send("4first".into()).await.expect("sent");
        let pause = Duration::from_millis(50);
        let (began, frame) = (Instant::now(), crate::socketio::event(&("x",)));
        let (paused, received) = tokio::join!(incoming.pause(pause), async {
            assert_eq!(outgoing.push(&frame), Push::Taken);
            text_of(&mut client).await
        });
        assert_eq!(paused, Ok(()));
        assert!(began.elapsed() >= pause && received.contains('x'));
        assert_eq!(incoming.next().await, Ok(Message::Text("first".to_owned())));
    }

    #[tokio::test]
    async fn paused_connection_is_closed_when_asked() {
        let (outgoing, mut incoming, _client) = session(Settings::default()).await;
        outgoing.close(CloseCode::GoingAway);
        let paused = incoming.pause(Duration::from_mins(10)).await;
        assert_eq!(paused, Err(CloseCode::GoingAway));
    }

    #[tokio::test]
    async fn messages_pass_both_ways() {
        let (outgoing, mut incoming, mut client) = session(Settings::default()).await;
        client.send("4olá".into()).await.expect("sent");
        client
            .send(WsMessage::Binary(Bytes::from_static(b"x")))
            .await
            .expect("sent");
        assert_eq!(incoming.next().await, Ok(Message::Text("olá".to_owned())));
        let binary = Message::Binary(Bytes::from_static(b"x"));
        assert_eq!(incoming.next().await, Ok(binary));
        assert_eq!(outgoing.push(&Frame::new("olá")), Push::Taken);
        assert_eq!(text_of(&mut client).await, "4olá");
    }

    #[tokio::test]
    async fn websocket_messages_pass_as_they_are() {
        let (outgoing, mut incoming, mut client) = session(Settings::default()).await;
        for text in ["", "9", "olá"] {
            client.send(text.into()).await.expect("sent");
            let message = incoming.websocket_message().await;
            assert_eq!(message, Ok(Message::Text(text.to_owned())));
            assert_eq!(outgoing.push_text(text), Push::Taken);
            assert_eq!(text_of(&mut client).await, text);
        }
    }

    #[tokio::test]
    async fn client_that_answers_pings_stays() {
        let (outgoing, mut incoming, mut client) = session(SETTINGS).await;
        let answering = async {
            for _ in 0..4 {
                assert_eq!(text_of(&mut client).await, "2");
                client.send("3".into()).await.expect("sent");
            }
            outgoing.close(CloseCode::GoingAway);
        };
        let (ended, ()) = tokio::join!(incoming.next(), answering);
        assert_eq!(ended, Err(CloseCode::GoingAway));
    }

    #[tokio::test]
    async fn client_that_answers_no_ping_is_closed() {
        let (_outgoing, mut incoming, mut client) = session(SETTINGS).await;
        let began = Instant::now();
        assert_eq!(incoming.next().await, Err(CloseCode::GoingAway));
        assert!(began.elapsed() >= SETTINGS.ping_interval + SETTINGS.ping_timeout);
        assert_eq!(text_of(&mut client).await, "2");
    }

    #[tokio::test]
    async fn close_code_says_why() {
        let long = format!("4{}", "x".repeat(100));
        for (packet, code) in [
            ("1".into(), CloseCode::Normal),
            ("9".into(), CloseCode::ProtocolError),
            ("".into(), CloseCode::ProtocolError),
            (WsMessage::text(long), CloseCode::TooBig),
            (WsMessage::Close(None), CloseCode::Normal),
        ] {
            assert_eq!(closed_by(packet.clone()).await, code, "{packet:?}");
        }
    }

    #[tokio::test]
    async fn message_beyond_the_budget_closes_the_connection() {
        let (_outgoing, mut incoming, mut client) = session(Settings::default()).await;
        let text = format!("4{}", "x".repeat(2 * BUDGET));
        let sending = tokio::spawn(async move {
            // The server may close the connection during the write.
            let _ = client.send(WsMessage::text(text)).await;
            client
        });
        assert_eq!(incoming.next().await, Err(CloseCode::TryAgainLater));
        assert!(incoming.kept.set(0), "what was kept is released");
        drop(incoming);
        sending.await.expect("no panic");
    }

    #[tokio::test]
    async fn websocket_ping_is_answered_with_its_payload() {
        let (_outgoing, mut incoming, mut client) = session(Settings::default()).await;
        let payload = Bytes::from_static(b"abc");
        client
            .send(WsMessage::Ping(payload.clone()))
            .await
            .expect("sent");
        let pong = tokio::select! {
            _ = incoming.next() => None,
            pong = client.next() => pong,
        };
        let pong = pong.expect("open").expect("received");
        assert_eq!(pong, WsMessage::Pong(payload));
    }
}
