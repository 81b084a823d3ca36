//! The body of a long-polling request: packets in one text (Engine.IO 4, "HTTP long-polling").

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;

use crate::{CloseCode, Message};

/// What stands between packets.
const SEPARATOR: char = '\u{1e}';

/// A packet from a client that polls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Message),
    /// The answer to a ping, or a packet that says nothing: the client is there. Swift's client sends one before it upgrades.
    Alive,
    Close,
}

/// The packets of a body, in order.
pub(crate) fn decode(body: &str) -> impl Iterator<Item = Result<Received, CloseCode>> {
    body.split(SEPARATOR).map(packet)
}

fn packet(packet: &str) -> Result<Received, CloseCode> {
    match packet.split_at_checked(1) {
        Some(("4", text)) => Ok(Received::Message(Message::Text(text.to_owned()))),
        Some(("b", data)) => {
            let data = BASE64_STANDARD.decode(data);
            let data = data.map_err(|_| CloseCode::ProtocolError)?;
            Ok(Received::Message(Message::Binary(Bytes::from(data))))
        }
        Some(("2" | "3" | "6", _)) => Ok(Received::Alive),
        Some(("1", _)) => Ok(Received::Close),
        _ => Err(CloseCode::ProtocolError),
    }
}

/// Adds a packet to a body.
pub(crate) fn add(body: &mut String, packet: &str) {
    if !body.is_empty() {
        body.push(SEPARATOR);
    }
    body.push_str(packet);
}

/// Adds a binary message to a body.
pub(crate) fn add_binary(body: &mut String, data: &[u8]) {
    add(body, "b");
    BASE64_STANDARD.encode_string(data, body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Received {
        Received::Message(Message::Text(text.to_owned()))
    }

    #[test]
    fn packets_of_a_body_are_decoded_in_order() {
        let decoded: Result<Vec<_>, _> = decode("4olá\u{1e}3\u{1e}bAQID\u{1e}4\u{1e}1").collect();
        let binary = Received::Message(Message::Binary(Bytes::from_static(&[1, 2, 3])));
        assert_eq!(
            decoded,
            Ok(vec![
                text("olá"),
                Received::Alive,
                binary,
                text(""),
                Received::Close
            ])
        );
    }

    #[test]
    fn body_that_has_no_packet_is_an_error() {
        for body in ["", "x", "é", "5", "4a\u{1e}", "b*", "bAQI"] {
            let decoded: Result<Vec<_>, _> = decode(body).collect();
            assert_eq!(decoded, Err(CloseCode::ProtocolError), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn encoded_packets_are_decoded_again(texts in prop::collection::vec("[^\u{1e}]{0,20}", 1..5), data in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut body = String::new();
            for text in &texts {
                add(&mut body, &format!("4{text}"));
            }
            add_binary(&mut body, &data);
            let mut expected: Vec<_> = texts.iter().map(|one| text(one)).collect();
            expected.push(Received::Message(Message::Binary(data.into())));
            let decoded: Result<Vec<_>, _> = decode(&body).collect();
            prop_assert_eq!(decoded, Ok(expected));
        }

        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,60}") {
            decode(&body).for_each(drop);
        }
    }
}
