//! How Socket.IO spells the packets that a server sends (protocol 5). Packets are of the namespace `/` if they name no other.
//!
//! Every function gives a [`Frame`]: the packet is encoded once, however many clients get it.

use serde::Serialize;
use serde_json::json;

use crate::Frame;

/// CONNECT: the server has accepted the client.
pub fn connect(sid: &str) -> Frame {
    packet("0", &json!({ "sid": sid }))
}

/// `CONNECT_ERROR`: the server has rejected the client. `error` is an object with a `message` and, if it has one, `data`.
pub fn connect_error(error: &impl Serialize) -> Frame {
    packet("4", error)
}

/// `CONNECT_ERROR` for a namespace other than `/`, which begins with a slash and has no comma.
pub fn connect_error_in(namespace: &str, error: &impl Serialize) -> Frame {
    packet(&format!("4{namespace},"), error)
}

/// DISCONNECT: the server has taken the client out of the namespace. A client that gets it does not reconnect by itself.
pub fn disconnect() -> Frame {
    Frame::new("1")
}

/// EVENT: `arguments` is a tuple of the event's name and what follows it.
pub fn event(arguments: &impl Serialize) -> Frame {
    packet("2", arguments)
}

/// ACK: the answer to the event that the client sent under this number.
pub fn ack(id: i64, answer: &impl Serialize) -> Frame {
    packet(&format!("3{id}"), &(answer,))
}

/// # Panics
///
/// When the body cannot be written as JSON: a map whose keys are no strings, or a `Serialize` that fails.
fn packet(head: &str, body: &impl Serialize) -> Frame {
    let mut packet = head.as_bytes().to_vec();
    serde_json::to_writer(&mut packet, body).expect("a server sends only what JSON can hold");
    let packet = String::from_utf8(packet).expect("JSON is UTF-8");
    Frame::new(&packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_spelled_as_protocol_5_has_them() {
        let error = json!({ "message": "full" });
        for (frame, expected) in [
            (connect("abc"), r#"0{"sid":"abc"}"#),
            (connect_error(&error), r#"4{"message":"full"}"#),
            (disconnect(), "1"),
            (
                connect_error_in("/other", &error),
                r#"4/other,{"message":"full"}"#,
            ),
            (
                event(&("message", "olá", json!({ "offset": 7 }))),
                r#"2["message","olá",{"offset":7}]"#,
            ),
            (ack(7, &json!({ "ok": true })), r#"37[{"ok":true}]"#),
            (ack(-1, &json!(null)), "3-1[null]"),
        ] {
            assert_eq!(frame.packet(), expected);
        }
    }
}
