//! Fuzz targets of what clients send once they are connected.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use papo_protocol::{Limits, Record, SenderId};
use serde_json::Value as Json;

use super::{
    event::history_request,
    packet::{self, Parser},
};
use crate::{
    chat::{ConnectAuth, MessageRequest},
    fuzzing::SEPARATOR,
    log::Message,
};

/// The frames of one connection: text, or binary behind a `b`.
pub fn packet(data: &[u8]) {
    let parser = Parser::default();
    for frame in data.split(|byte| *byte == SEPARATOR) {
        let incoming = match (frame, std::str::from_utf8(frame)) {
            ([b'b', binary @ ..], _) => parser.binary(binary.to_vec().into()),
            (_, Ok(text)) => parser.text(text.to_owned().into()),
            (_, Err(_)) => continue,
        };
        match incoming {
            Ok(Some(packet::Incoming::Event { arguments, ack: _ })) => {
                assert!(arguments.first().is_some_and(Json::is_string));
                handle(&arguments[1..]);
            }
            Ok(Some(packet::Incoming::Connect { auth })) => {
                let room = "geral".parse().expect("valid");
                let _ = ConnectAuth::parse(auth.as_deref(), None, &room, &Limits::default());
            }
            Ok(_) => {}
            // The server closes the connection.
            Err(_) => return,
        }
    }
}

/// The arguments of one event, as a JSON list.
pub fn event(data: &[u8]) {
    if let Ok(arguments) = serde_json::from_slice::<Vec<Json>>(data) {
        handle(&arguments);
    }
}

fn handle(arguments: &[Json]) {
    if let Ok((_, limit)) = history_request(arguments, 50) {
        assert!((1..=500).contains(&limit));
    }
    let limits = Limits::default();
    let Ok(MessageRequest { id, text }) = MessageRequest::parse(arguments, &limits) else {
        return;
    };
    assert!(!text.trim().is_empty());
    assert!(text.chars().count() <= limits.message_length as usize);
    assert_eq!(id.as_str().parse().as_ref(), Ok(&id));
    let record = Record {
        id,
        sender: SenderId::from_trusted("s"),
        user: "Ana".parse().expect("valid"),
        text,
        at: 0,
        since: None,
        verified: false,
    };
    let message = Message::encode(7, &record);
    let sent: Json = serde_json::from_str(&message.frame().packet()[1..]).expect("an EVENT packet");
    assert_eq!(sent[1], record.text);
    assert_eq!(sent[2]["id"], record.id.as_str());
}
