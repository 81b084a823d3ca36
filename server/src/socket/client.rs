//! A Socket.IO client that sends one message to a room: Engine.IO 4 over WebSocket, Socket.IO protocol 5.

use axum::http::Uri;
use futures::{SinkExt, StreamExt};
use papo_protocol::event;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error as WebSocketError, Message},
};

/// The acknowledgement that the client asks for: its number.
const ACK: u32 = 0;

/// The server's acknowledgement of a message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Acknowledgement {
    /// The message's id.
    pub(crate) id: String,
    /// Its place in the log.
    pub(crate) offset: u64,
    /// The log.
    pub(crate) epoch: String,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No WebSocket: the server cannot be reached, or is no room.
    #[error("cannot connect to {url}")]
    Connect {
        url: Uri,
        #[source]
        source: Box<WebSocketError>,
    },
    /// The connection broke before the acknowledgement.
    #[error("the connection ended before the message was acknowledged")]
    Ended,
    /// The server does not take the client or the message.
    #[error("the server rejected {what}: {message} ({code})")]
    Rejected {
        what: &'static str,
        code: String,
        message: String,
    },
    /// The server said something that the protocol does not have here.
    #[error("the server sent what Socket.IO does not have here: {0}")]
    Protocol(String),
}

/// A connection that has been told to be a member.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Opens a connection to the socket server of the room at `room`, its page's URL.
    pub(crate) async fn connect(room: &Uri) -> Result<Self, SendError> {
        let url = socket_url(room);
        let connected = connect_async(url.clone()).await;
        let (socket, _) = connected.map_err(|source| SendError::Connect {
            url,
            source: source.into(),
        })?;
        Ok(Self { socket })
    }

    /// Enters the room as `name`: returns when its history has come, after which every message of the room is received.
    pub(crate) async fn enter(&mut self, name: &str) -> Result<(), SendError> {
        loop {
            match self.receive().await? {
                Packet::Open => self.send(format!("40{}", json!({ "name": name }))).await?,
                Packet::ConnectError(error) => return Err(rejected("the connection", &error)),
                Packet::Event(arguments) if arguments[0] == event::HISTORY => return Ok(()),
                Packet::Event(_) | Packet::Ack(_) | Packet::Other => {}
            }
        }
    }

    /// Sends a message; returns when the server has acknowledged it and the room has received it.
    pub(crate) async fn say(&mut self, id: &str, text: &str) -> Result<Acknowledgement, SendError> {
        let message = json!([event::MESSAGE, { "text": text, "id": id }]);
        self.send(format!("42{ACK}{message}")).await?;
        let (mut acknowledgement, mut is_received) = (None, false);
        loop {
            match self.receive().await? {
                Packet::Event(arguments) => is_received |= is_message(&arguments, id),
                Packet::Ack(answer) => acknowledgement = Some(read_answer(&answer)?),
                Packet::ConnectError(_) | Packet::Open | Packet::Other => {}
            }
            if let (Some(acknowledgement), true) = (&acknowledgement, is_received) {
                return Ok(acknowledgement.clone());
            }
        }
    }

    async fn send(&mut self, packet: String) -> Result<(), SendError> {
        let sent = self.socket.send(Message::text(packet)).await;
        sent.map_err(|_| SendError::Ended)
    }

    async fn receive(&mut self) -> Result<Packet, SendError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with('2') => {
                    self.send("3".to_owned()).await?;
                }
                Some(Ok(Message::Text(text))) => return Packet::parse(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(SendError::Ended),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// A packet from the server.
#[derive(Debug, PartialEq)]
enum Packet {
    /// Engine.IO's `open`.
    Open,
    /// `CONNECT_ERROR` and its body.
    ConnectError(Json),
    /// EVENT: its name and what follows it.
    Event(Vec<Json>),
    /// ACK and its first argument.
    Ack(Json),
    /// Nothing that this client acts on.
    Other,
}

impl Packet {
    fn parse(packet: &str) -> Result<Self, SendError> {
        let json = |text: &str| {
            serde_json::from_str::<Json>(text)
                .map_err(|_| SendError::Protocol(packet.chars().take(100).collect()))
        };
        let ack = format!("43{ACK}");
        Ok(if packet.starts_with('0') {
            Self::Open
        } else if let Some(body) = packet.strip_prefix("44") {
            Self::ConnectError(json(body)?)
        } else if let Some(arguments) = packet.strip_prefix("42") {
            match json(arguments)? {
                Json::Array(arguments) if !arguments.is_empty() => Self::Event(arguments),
                _ => Self::Other,
            }
        } else if let Some(arguments) = packet.strip_prefix(&ack) {
            Self::Ack(json(arguments)?[0].take())
        } else {
            Self::Other
        })
    }
}

/// Whether this event is the message with this id.
fn is_message(arguments: &[Json], id: &str) -> bool {
    arguments[0] == event::MESSAGE && arguments.get(2).is_some_and(|meta| meta["id"] == id)
}

fn read_answer(answer: &Json) -> Result<Acknowledgement, SendError> {
    if answer["ok"] != true {
        return Err(rejected("the message", answer));
    }
    Acknowledgement::deserialize(answer).map_err(|_| SendError::Protocol(answer.to_string()))
}

/// From `{ message, code }`, or `{ message, data: { code } }`.
fn rejected(what: &'static str, body: &Json) -> SendError {
    let text = |value: &Json| value.as_str().unwrap_or("unknown").to_owned();
    let code = body.get("code").unwrap_or(&body["data"]["code"]);
    SendError::Rejected {
        what,
        code: text(code),
        message: text(&body["message"]),
    }
}

/// The socket server's URL beside the page: `ws://HOST/socket.io/?EIO=4&transport=websocket`.
fn socket_url(room: &Uri) -> Uri {
    let scheme = if room.scheme_str() == Some("https") {
        "wss"
    } else {
        "ws"
    };
    let authority = room.authority().map_or("", |authority| authority.as_str());
    let folder = room.path().trim_end_matches('/');
    format!(
        "{scheme}://{authority}{folder}{}/?EIO=4&transport=websocket",
        papo_protocol::ports::SOCKET_IO_PATH
    )
    .parse()
    .expect("parts of a URL make a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_url_is_below_the_page() {
        for (room, expected) in [
            ("http://chat-geral:80", "ws://chat-geral:80/socket.io/"),
            ("https://a.example/chat/", "wss://a.example/chat/socket.io/"),
        ] {
            let url = socket_url(&room.parse().expect("valid"));
            assert_eq!(
                url.to_string(),
                format!("{expected}?EIO=4&transport=websocket")
            );
        }
    }

    #[test]
    fn packets_are_told_apart() {
        for (packet, expected) in [
            (r#"0{"sid":"a"}"#, Packet::Open),
            (r#"40{"sid":"a"}"#, Packet::Other),
            (
                r#"44{"message":"full"}"#,
                Packet::ConnectError(json!({ "message": "full" })),
            ),
            (
                r#"42["message","olá"]"#,
                Packet::Event(vec![json!("message"), json!("olá")]),
            ),
            (r#"430[{"ok":true}]"#, Packet::Ack(json!({ "ok": true }))),
            ("42[]", Packet::Other),
        ] {
            assert_eq!(Packet::parse(packet).expect("valid"), expected, "{packet}");
        }
        assert!(matches!(
            Packet::parse("42nonsense"),
            Err(SendError::Protocol(_))
        ));
    }

    #[test]
    fn rejection_is_read_from_both_shapes() {
        for body in [
            json!({ "ok": false, "code": "rate_limited", "message": "too fast" }),
            json!({ "message": "too fast", "data": { "code": "rate_limited" } }),
        ] {
            assert_eq!(
                rejected("the message", &body).to_string(),
                "the server rejected the message: too fast (rate_limited)"
            );
        }
    }
}
