//! A message as clients get it: encoded once, when it is read from the log, and shared by every socket.

use papo_protocol::{Record, event};
use serde::Serialize;

use crate::frame::Frame;

/// The encoded form of one record at its offset.
///
/// Holds the whole Socket.IO packet `2["message",TEXT,{...}]`; an entry of `history`, `{"text":TEXT,...}`, is cut out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    offset: u64,
    at: i64,
    frame: Frame,
    text_end: usize,
}

#[derive(Serialize)]
struct Meta<'a> {
    id: &'a str,
    offset: u64,
    user: &'a str,
    sender: &'a str,
    at: i64,
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
        };
        let mut packet = packet_head();
        packet += &json(&record.text);
        let text_end = packet.len();
        packet.push(',');
        packet += &json(&meta);
        packet.push(']');
        Self {
            offset,
            at: record.at,
            frame: packet.into(),
            text_end,
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

    /// The Socket.IO packet, ready to send. Cloning it copies nothing.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Appends the entry of a `history` page.
    pub(crate) fn write_entry(&self, page: &mut String) {
        let packet = self.frame.packet();
        let text = &packet[packet_head().len()..self.text_end];
        let meta_fields = &packet[self.text_end + ",{".len()..packet.len() - "]".len()];
        *page += r#"{"text":"#;
        *page += text;
        page.push(',');
        *page += meta_fields;
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.frame.bytes().len() + size_of::<Self>()
    }
}

fn packet_head() -> String {
    format!(r#"2["{}","#, event::MESSAGE)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and integers always encode")
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

    proptest! {
        #[test]
        fn packet_and_history_entry_agree(text in ".{0,60}", user in "[a-zçé\"\\\\]{1,10}") {
            let message = Message::encode(3, &record(&text, &user));
            let arguments: Value = serde_json::from_str(&message.frame().packet()[1..]).expect("JSON");
            let mut entry = String::new();
            message.write_entry(&mut entry);
            let entry: Value = serde_json::from_str(&entry).expect("JSON");
            prop_assert_eq!(&arguments[1], &json!(text));
            prop_assert_eq!(&entry["text"], &json!(text));
            prop_assert_eq!(&arguments[2]["user"], &json!(user));
            for field in ["id", "offset", "user", "sender", "at"] {
                prop_assert_eq!(&entry[field], &arguments[2][field]);
            }
        }
    }
}
