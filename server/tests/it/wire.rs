//! A client that can also send invalid packets.

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::fixture::{LIMIT, Server, in_time};

/// A client on the wire: Engine.IO packets in WebSocket frames, nothing more.
pub(crate) struct Wire(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Wire {
    pub(crate) async fn open(server: &Server) -> Self {
        let url = format!(
            "ws://{}/socket.io/?EIO=4&transport=websocket",
            server.address
        );
        let (socket, _) = in_time(Box::pin(connect_async(url)))
            .await
            .expect("upgraded");
        let mut wire = Self(socket);
        assert!(
            wire.receive()
                .await
                .is_some_and(|packet| packet.starts_with('0')),
            "the engine's handshake"
        );
        wire
    }

    /// Connects with `auth`; the answer's packet.
    pub(crate) async fn connect(server: &Server, auth: Value) -> (Self, String) {
        let mut wire = Self::open(server).await;
        wire.send(&format!("40{auth}")).await;
        let answer = wire.receive().await.expect("an answer");
        (wire, answer)
    }

    /// A member that has its history.
    pub(crate) async fn join(server: &Server, auth: Value) -> (Self, Value) {
        let (mut wire, answer) = Self::connect(server, auth).await;
        assert!(answer.starts_with("40{"), "{answer}");
        let history = wire.event("history").await;
        (wire, history[1].clone())
    }

    pub(crate) async fn send(&mut self, packet: &str) {
        self.0.send(Message::text(packet)).await.expect("sent");
    }

    /// The next packet, pings answered; `None` when the connection has ended.
    pub(crate) async fn receive(&mut self) -> Option<String> {
        loop {
            match timeout(LIMIT, self.0.next()).await.expect("in time") {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    // The other side may have hung up meanwhile: the next frame tells.
                    let _ = self.0.send(Message::text("3")).await;
                }
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next event of this name, with its arguments.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        loop {
            let packet = self.receive().await.expect("an event");
            let event: Option<Value> = packet
                .strip_prefix("42")
                .and_then(|json| serde_json::from_str(json).ok());
            if let Some(event) = event.filter(|event| event[0] == name) {
                return event;
            }
        }
    }

    /// Sends an event and waits for its acknowledgement.
    pub(crate) async fn ask(&mut self, number: u32, event: &Value) -> Value {
        self.send(&format!("42{number}{event}")).await;
        let prefix = format!("43{number}[");
        loop {
            let packet = self.receive().await.expect("an acknowledgement");
            if let Some(answer) = packet.strip_prefix(&prefix) {
                return serde_json::from_str(answer.trim_end_matches(']')).expect("JSON");
            }
        }
    }

    pub(crate) async fn has_ended(&mut self) -> bool {
        timeout(LIMIT, async { while self.receive().await.is_some() {} })
            .await
            .is_ok()
    }
}
