//! A message as clients get it: encoded once, when it is read from the log, and shared by every socket.

use std::sync::Arc;

use papo_engineio::{Frame, socketio};
use papo_protocol::{Record, event};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The two encoded forms of one record at its offset: the `message` event, and the entry of a `history` page.
///
/// A clone shares both.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    offset: u64,
    at: i64,
    frame: Frame,
    entry: Arc<RawValue>,
}

impl PartialEq for Message {
    /// The entry says what the event says.
    fn eq(&self, other: &Self) -> bool {
        (self.offset, &self.frame) == (other.offset, &other.frame)
    }
}

impl Eq for Message {}

/// What follows the text in a `message` event.
#[derive(Serialize)]
struct Meta<'a> {
    id: &'a str,
    offset: u64,
    user: &'a str,
    sender: &'a str,
    at: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verified: bool,
}

/// An entry of `history`.
#[derive(Serialize)]
struct Entry<'a> {
    text: &'a str,
    #[serde(flatten)]
    meta: &'a Meta<'a>,
}

impl Message {
    /// Encodes a record.
    pub(crate) fn encode(offset: u64, record: &Record) -> Self {
        let meta = Meta {
            id: record.id.as_str(),
            offset,
            user: record.user.as_str(),
            sender: record.sender.as_str(),
            at: record.at,
            verified: record.verified,
        };
        let entry = Entry {
            text: &record.text,
            meta: &meta,
        };
        Self {
            offset,
            at: record.at,
            entry: to_raw_value(&entry)
                .expect("strings and integers always encode")
                .into(),
            // The bare text comes first, as in the original page.
            frame: socketio::event(&(event::MESSAGE, &record.text, &meta)),
        }
    }

    /// Its offset in the log.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// When a server received it, in milliseconds since the Unix epoch.
    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    /// The `message` event, ready to send. A clone shares its bytes.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The entry of a `history` page: `{ text, id, offset, user, sender, at, verified? }`.
    pub(crate) fn entry(&self) -> &RawValue {
        &self.entry
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.frame.bytes().len() + self.entry.get().len() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use papo_protocol::SenderId;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn record(text: &str, user: &str) -> Record {
        Record {
            id: "m-1".parse().expect("valid"),
            sender: SenderId::from_trusted("abc"),
            user: user.parse().expect("valid"),
            text: text.to_owned(),
            at: 1_700_000_000_123,
            since: None,
            verified: false,
        }
    }

    #[test]
    fn bare_text_is_the_first_argument() {
        let message = Message::encode(7, &record("olá", "Ana"));
        assert_eq!(
            message.frame().packet(),
            r#"2["message","olá",{"id":"m-1","offset":7,"user":"Ana","sender":"abc","at":1700000000123}]"#
        );
    }

    #[test]
    fn message_of_somebody_signed_in_is_verified() {
        let record = Record {
            verified: true,
            ..record("olá", "Ana")
        };
        let message = Message::encode(7, &record);
        assert_eq!(
            message.frame().packet(),
            r#"2["message","olá",{"id":"m-1","offset":7,"user":"Ana","sender":"abc","at":1700000000123,"verified":true}]"#
        );
        assert_eq!(
            message.entry().get(),
            r#"{"text":"olá","id":"m-1","offset":7,"user":"Ana","sender":"abc","at":1700000000123,"verified":true}"#
        );
    }

    proptest! {
        #[test]
        fn packet_and_history_entry_agree(text in ".{0,60}", user in "[a-zçé\"\\\\]{1,10}") {
            let message = Message::encode(3, &record(&text, &user));
            let arguments: Value = serde_json::from_str(&message.frame().packet()[1..]).expect("JSON");
            let entry: Value = serde_json::from_str(message.entry().get()).expect("JSON");
            prop_assert_eq!(&arguments[1], &json!(text));
            prop_assert_eq!(&entry["text"], &json!(text));
            prop_assert_eq!(&arguments[2]["user"], &json!(user));
            for field in ["id", "offset", "user", "sender", "at"] {
                prop_assert_eq!(&entry[field], &arguments[2][field]);
            }
        }
    }
}
