//! Socket.IO packets (protocol 5): those of clients, decoded by socketioxide's parser, and the bodies of those of the server.

use std::time::Duration;

use bytes::Bytes;
use papo_engineio::{Frame, socketio};
use papo_protocol::event::{self, Code};
use serde::Serialize;
use serde_json::{Value as Json, json, value::RawValue};
use socketioxide_core::{
    Str, Value,
    packet::{Packet, PacketData},
    parser::{Parse, ParseConfig, ParseError, ParserState},
};
use socketioxide_parser_common::CommonParser;

use crate::{
    chat::Rejection,
    json::{self, AnyJson, JsonError},
    room::{Message, Page},
};

/// Longest packet that attachments may follow, in bytes. The parser keeps it until they have come, however long that takes.
const LONGEST_BINARY_EVENT: usize = 1_024;
/// Binary attachments are parsed only so that their event can be rejected: a few bytes are enough.
const PARSE: ParseConfig = ParseConfig {
    max_incoming_binary_buf_size: 4_096,
    max_incoming_binaries: 4,
    packet_completion_timeout: Duration::from_secs(10),
};

/// The parser of one connection. It keeps a packet until its attachments have arrived.
#[derive(Default)]
pub(super) struct Parser(ParserState);

/// A packet from a client.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// CONNECT to the namespace `/`.
    Connect {
        /// `auth` as JSON.
        auth: Option<Str>,
    },
    /// CONNECT to this namespace, which does not exist.
    OtherNamespace(Str),
    /// EVENT: the event's name, then its arguments.
    Event {
        /// At least one, a string.
        arguments: Vec<Json>,
        /// The number of the acknowledgement that the client expects.
        ack: Option<i64>,
    },
    /// EVENT that cannot be handled, although its payload is a JSON list.
    Unreadable {
        /// Why.
        rejection: Rejection,
        /// The number of the acknowledgement that the client expects.
        ack: Option<i64>,
    },
    /// DISCONNECT.
    Disconnect,
}

/// Why a packet cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// Its type, namespace or number.
    #[error("malformed packet: {0}")]
    Packet(ParseError),
    /// Its payload is not a JSON list with at least one element.
    #[error("malformed payload")]
    Payload,
}

impl Parser {
    /// Decodes a text message. `None` when attachments are still to come, and for packets that need no answer.
    pub(super) fn text(&self, text: Str) -> Result<Option<Incoming>, Malformed> {
        // BINARY_EVENT and BINARY_ACK.
        if text.starts_with(['5', '6']) && text.len() > LONGEST_BINARY_EVENT {
            return Err(Malformed::Payload);
        }
        incoming(CommonParser.decode_str(&PARSE, &self.0, text))
    }

    /// Decodes a binary message: an attachment.
    pub(super) fn binary(&self, data: Bytes) -> Result<Option<Incoming>, Malformed> {
        incoming(CommonParser.decode_bin(&PARSE, &self.0, data))
    }
}

fn incoming(decoded: Result<Packet, ParseError>) -> Result<Option<Incoming>, Malformed> {
    let packet = match decoded {
        Ok(packet) => packet,
        Err(ParseError::NeedsMoreBinaryData) => return Ok(None),
        Err(error) => return Err(Malformed::Packet(error)),
    };
    let root = packet.ns.as_str() == "/";
    match packet.inner {
        PacketData::Connect(auth) if root => Ok(Some(Incoming::Connect {
            auth: auth.as_ref().and_then(text_of).cloned(),
        })),
        PacketData::Connect(_) => Ok(Some(Incoming::OtherNamespace(packet.ns))),
        PacketData::Event(payload, ack) | PacketData::BinaryEvent(payload, ack) if root => {
            event_of(&payload, ack).map(Some)
        }
        PacketData::Disconnect if root => Ok(Some(Incoming::Disconnect)),
        // Acknowledgements, which the server never asks for, and packets of other namespaces.
        _ => Ok(None),
    }
}

fn text_of(value: &Value) -> Option<&Str> {
    match value {
        Value::Str(text, _) => Some(text),
        Value::Bytes(_) => None,
    }
}

/// Only a packet that is none of Socket.IO's is malformed. What clients put into one is read or rejected.
fn event_of(payload: &Value, ack: Option<i64>) -> Result<Incoming, Malformed> {
    let text = text_of(payload).ok_or(Malformed::Payload)?;
    let unreadable = |message: String| {
        let rejection = Rejection::new(Code::BadRequest, message);
        Ok(Incoming::Unreadable { rejection, ack })
    };
    let arguments = match json::read::<Vec<AnyJson>>(text) {
        Ok(arguments) => arguments,
        Err(error @ JsonError::Content) if text.trim_start().starts_with('[') => {
            return unreadable(format!("the event cannot be read: {error}"));
        }
        Err(_) => return Err(Malformed::Payload),
    };
    let arguments: Vec<Json> = arguments
        .into_iter()
        .map(|AnyJson(argument)| argument)
        .collect();
    match arguments.first() {
        None => Err(Malformed::Payload),
        Some(Json::String(_)) => Ok(Incoming::Event { arguments, ack }),
        Some(_) => unreadable("an event begins with its name, which is a string".to_owned()),
    }
}

/// `CONNECT_ERROR` with `data`, so that programs need not read sentences.
pub(super) fn connect_error(rejection: &Rejection) -> Frame {
    socketio::connect_error(&json!({ "message": rejection.message, "data": rejection }))
}

/// `CONNECT_ERROR` for any namespace but `/`, in Socket.IO's own words.
pub(super) fn invalid_namespace(namespace: &str) -> Frame {
    socketio::connect_error_in(namespace, &json!({ "message": "Invalid namespace" }))
}

/// The answer to a rejected request.
pub(super) fn rejection(rejection: &Rejection) -> Json {
    json!({ "ok": false, "code": rejection.code.as_str(), "message": rejection.message })
}

/// `draining`.
pub(super) fn draining(after: Duration) -> Frame {
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    socketio::event(&(event::DRAINING, json!({ "after": after })))
}

/// The `history` event: a page, and the fields of `rest`.
pub(super) fn history(page: &Page, rest: &Json) -> Frame {
    socketio::event(&(event::HISTORY, History::new(page, rest)))
}

/// The answer to a `history` request: a page, and the fields of `rest`.
pub(super) fn history_ack(id: i64, page: &Page, rest: &Json) -> Frame {
    socketio::ack(id, &History::new(page, rest))
}

/// The body of both: the messages as they were encoded when they were read from the log.
#[derive(Serialize)]
struct History<'a> {
    messages: Vec<&'a RawValue>,
    more: bool,
    #[serde(flatten)]
    rest: &'a Json,
}

impl<'a> History<'a> {
    fn new(page: &'a Page, rest: &'a Json) -> Self {
        Self {
            messages: page.messages.iter().map(Message::entry).collect(),
            more: page.more,
            rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(packet: &str) -> Result<Option<Incoming>, String> {
        Parser::default()
            .text(packet.to_owned().into())
            .map_err(|malformed| malformed.to_string())
    }

    #[test]
    fn event_keeps_its_arguments_and_ack_number() {
        let event = text(r#"27["message","olá"]"#);
        assert_eq!(
            event,
            Ok(Some(Incoming::Event {
                arguments: vec![json!("message"), json!("olá")],
                ack: Some(7)
            }))
        );
    }

    #[test]
    fn connect_to_another_namespace_is_recognised() {
        assert_eq!(text("0"), Ok(Some(Incoming::Connect { auth: None })));
        assert_eq!(
            text(r#"0{"name":"Ana"}"#),
            Ok(Some(Incoming::Connect {
                auth: Some(r#"{"name":"Ana"}"#.into())
            }))
        );
        for packet in ["0/admin", "0/admin,", r#"0/admin,{"name":"Ana"}"#] {
            let expected = Incoming::OtherNamespace("/admin".into());
            assert_eq!(text(packet), Ok(Some(expected)), "{packet}");
        }
    }

    #[test]
    fn text_that_is_no_packet_is_malformed() {
        for packet in [
            "",
            "9",
            "x",
            "2",
            "2[]",
            "2{}",
            "2[\"message\",]",
            "2[\"\\ud83d]",
            "2nonsense",
            "5-",
            "599-[\"message\"]",
        ] {
            assert!(text(packet).is_err(), "{packet:?}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_replaced_wherever_it_is() {
        let event = text(r#"27["message",{"text":"ok \ud83d","id":"\udc00","x":["\ud83d"]}]"#);
        let message = json!({ "text": "ok \u{fffd}", "id": "\u{fffd}", "x": ["\u{fffd}"] });
        assert_eq!(
            event,
            Ok(Some(Incoming::Event {
                arguments: vec![json!("message"), message],
                ack: Some(7)
            }))
        );
    }

    #[test]
    fn list_that_is_no_event_is_rejected() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        for payload in [
            "[1]",
            "[null]",
            r#"[{"_placeholder":true,"num":0}]"#,
            r#"["message","x",1e999]"#,
            &format!(r#"["message","x",{nested}]"#),
            &nested,
        ] {
            let packet = text(&format!("27{payload}"));
            assert!(
                matches!(&packet, Ok(Some(Incoming::Unreadable { rejection, ack: Some(7) })) if rejection.code == Code::BadRequest),
                "{payload}: {packet:?}"
            );
        }
    }

    #[test]
    fn attachment_completes_its_event_and_nothing_else() {
        let parser = Parser::default();
        let header = parser.text(r#"51-["message",{"_placeholder":true,"num":0}]"#.into());
        assert!(matches!(header, Ok(None)));
        assert!(matches!(
            parser.binary(Bytes::from_static(b"x")),
            Ok(Some(Incoming::Event { .. }))
        ));
        assert!(parser.binary(Bytes::from_static(b"x")).is_err());
    }

    #[test]
    fn packet_that_waits_for_attachments_is_small() {
        let parser = Parser::default();
        let long = "x".repeat(LONGEST_BINARY_EVENT);
        let event = format!(r#"51-["message","{long}",{{"_placeholder":true,"num":0}}]"#);
        assert!(parser.text(event.into()).is_err());
        let header = parser.text(r#"51-["message",{"_placeholder":true,"num":0}]"#.into());
        assert!(matches!(header, Ok(None)));
        assert!(parser.binary(Bytes::from(vec![0; 5_000])).is_err());
    }

    #[test]
    fn connect_error_holds_the_rejection_code() {
        let packet = connect_error(&Rejection::new(Code::ServerFull, "full"));
        let body: Json = serde_json::from_str(&packet.packet()[1..]).expect("JSON");
        assert_eq!(
            (&body["message"], &body["data"]["code"]),
            (&json!("full"), &json!("server_full"))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(packet in "[0-6]?[/a-z0-9,\\-]{0,12}[\\[{\"a-zé0-9,}\\]]{0,30}", data in prop::collection::vec(any::<u8>(), 0..20)) {
            let parser = Parser::default();
            let _ = parser.text(packet.into());
            let _ = parser.binary(data.into());
        }
    }
}
