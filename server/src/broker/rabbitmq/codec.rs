//! Records as AMQP messages: the body is the bare text, so that any AMQP tool shows the conversation; the rest is in properties and
//! headers. Any client may have published a delivery: decoding one that is not a record gives `None`. Every field is checked, because clients
//! rely on what a server sends.

use std::sync::Arc;

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};
use papo_protocol::{
    Record,
    topology::{
        AT_HEADER, SENDER_HEADER, SINCE_HEADER, STREAM_OFFSET_HEADER, USER_HEADER, VERIFIED_HEADER,
    },
};

use crate::{
    broker::{
        Stored, TraceContext,
        trace::{TRACE_PARENT_HEADER, TRACE_STATE_HEADER},
    },
    clock,
};

/// AMQP's delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// The properties of a record's message; its body is the text.
pub(super) fn properties(record: &Record, trace: Option<&TraceContext>) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    put(SENDER_HEADER, record.sender.as_str());
    put(USER_HEADER, record.user.as_str());
    if let Some(since) = &record.since {
        put(SINCE_HEADER, &since.to_string());
    }
    if let Some(TraceContext { parent, state }) = trace {
        put(TRACE_PARENT_HEADER, parent);
        put(TRACE_STATE_HEADER, state);
    }
    headers.insert(AT_HEADER.into(), AMQPValue::LongLongInt(record.at));
    if record.verified {
        headers.insert(VERIFIED_HEADER.into(), AMQPValue::Boolean(true));
    }
    BasicProperties::default()
        .with_app_id("papo".into())
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(record.id.as_str().into())
        .with_timestamp(clock::unix_now().as_secs())
        .with_headers(headers)
}

/// A delivery from the stream; `None` when it has no offset, which RabbitMQ always sets.
pub(super) fn stored(delivery: Delivery) -> Option<Stored> {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let offset = integer(&headers, STREAM_OFFSET_HEADER)?.try_into().ok()?;
    let trace = text(&headers, TRACE_PARENT_HEADER).map(|parent| TraceContext {
        parent,
        state: text(&headers, TRACE_STATE_HEADER).unwrap_or_default(),
    });
    let record = record(&delivery.properties, &headers, delivery.data).map(Arc::new);
    Some(Stored {
        offset,
        record,
        trace,
    })
}

fn record(properties: &BasicProperties, headers: &FieldTable, body: Vec<u8>) -> Option<Record> {
    Some(Record {
        id: properties
            .message_id()
            .as_ref()
            .map(ShortString::as_str)?
            .parse()
            .ok()?,
        sender: text(headers, SENDER_HEADER)?.parse().ok()?,
        user: text(headers, USER_HEADER)?.parse().ok()?,
        verified: matches!(
            headers.inner().get(VERIFIED_HEADER),
            Some(AMQPValue::Boolean(true))
        ),
        text: String::from_utf8(body).ok()?,
        at: integer(headers, AT_HEADER).filter(|at| Record::TIMES.contains(at))?,
        since: text(headers, SINCE_HEADER).and_then(|since| since.parse().ok()),
    })
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => String::from_utf8(value.as_bytes().to_vec()).ok(),
        _ => None,
    }
}

fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    headers.inner().get(name)?.as_long_long_int()
}

#[cfg(test)]
mod tests {
    use papo_protocol::{Position, SenderId};
    use proptest::prelude::*;

    use super::*;

    fn sample_record(text: &str) -> Record {
        Record {
            id: "m-1".parse().expect("valid"),
            sender: SenderId::from_trusted("abc"),
            user: "Ana Çã".parse().expect("valid"),
            text: text.to_owned(),
            at: 1_700_000_000_123,
            since: None,
            verified: false,
        }
    }

    fn delivered(properties: BasicProperties, body: &[u8], offset: Option<i64>) -> Delivery {
        let mut headers = properties.headers().clone().unwrap_or_default();
        if let Some(offset) = offset {
            headers.insert(STREAM_OFFSET_HEADER.into(), AMQPValue::LongLongInt(offset));
        }
        let mut delivery = Delivery::mock(1, "x".into(), "message".into(), false, body.to_vec());
        delivery.properties = properties.with_headers(headers);
        delivery
    }

    #[test]
    fn foreign_message_keeps_its_offset_and_has_no_record() {
        let whole = properties(&sample_record("x"), None);
        let cases = [
            delivered(BasicProperties::default(), b"hello", Some(3)),
            delivered(whole.clone(), b"\xff\xfe", Some(3)),
            delivered(
                whole.clone().with_message_id("bad id".into()),
                b"x",
                Some(3),
            ),
            delivered(whole.with_headers(FieldTable::default()), b"x", Some(3)),
        ];
        for delivery in cases {
            assert_eq!(
                stored(delivery),
                Some(Stored {
                    offset: 3,
                    record: None,
                    trace: None
                })
            );
        }
        assert_eq!(
            stored(delivered(BasicProperties::default(), b"", None)),
            None
        );
        assert_eq!(
            stored(delivered(BasicProperties::default(), b"", Some(-1))),
            None
        );
    }

    #[test]
    fn record_with_an_invalid_field_is_none() {
        let put = |name: &str, value: AMQPValue| {
            let properties = properties(&sample_record("x"), None);
            let mut headers = properties.headers().clone().unwrap_or_default();
            headers.insert(name.into(), value);
            let stored = stored(delivered(properties.with_headers(headers), b"x", Some(3)));
            stored.expect("it has an offset").record.is_some()
        };
        let text = |text: &str| AMQPValue::LongString(text.into());
        for (name, value, is_record) in [
            (AT_HEADER, AMQPValue::LongLongInt(1_700_000_000_123), true),
            (
                AT_HEADER,
                AMQPValue::LongLongInt(1_700_000_000_123_456),
                false,
            ),
            (
                AT_HEADER,
                AMQPValue::LongLongInt(1_700_000_000_123_456_789),
                false,
            ),
            (AT_HEADER, AMQPValue::LongLongInt(-1), false),
            (AT_HEADER, AMQPValue::LongLongInt(i64::MIN), false),
            (AT_HEADER, AMQPValue::Timestamp(1_700_000_000), false),
            (AT_HEADER, text("1700000000123"), false),
            (SENDER_HEADER, text("abc"), true),
            (SENDER_HEADER, text(""), false),
            (SENDER_HEADER, text("a b"), false),
            (SENDER_HEADER, text(&"a".repeat(65)), false),
            (USER_HEADER, text("Ana"), true),
            (USER_HEADER, text(" "), false),
            (USER_HEADER, text("Ana\u{202e}"), false),
            (USER_HEADER, text(&"a".repeat(1_000)), false),
            (VERIFIED_HEADER, text("true"), true),
        ] {
            assert_eq!(put(name, value.clone()), is_record, "{name} {value:?}");
        }
    }

    proptest! {
        #[test]
        fn encoded_record_decodes_to_itself(
            id in "[!-~]{1,64}", sender in "[0-9a-f]{1,24}", user in "[^\\p{C}\\s]{1,40}", text in any::<String>(), at in Record::TIMES,
            since in prop::option::of(("[a-z0-9]{1,32}", any::<u64>())), verified: bool, offset in 0_i64.., trace in prop::option::of((".{0,60}", ".{0,60}")),
        ) {
            let Ok(user) = user.parse() else { return Ok(()) };
            let since = since.map(|(epoch, offset)| Position { epoch: epoch.parse().expect("valid"), offset });
            let record = Record { id: id.parse().expect("valid"), sender: SenderId::from_trusted(sender), user, verified, text, at, since };
            let trace = trace.map(|(parent, state)| TraceContext { parent, state });
            let delivery = delivered(properties(&record, trace.as_ref()), record.text.as_bytes(), Some(offset));
            let read = stored(delivery).expect("it has an offset");
            prop_assert_eq!(read, Stored { offset: offset.unsigned_abs(), record: Some(Arc::new(record)), trace });
        }
    }
}
