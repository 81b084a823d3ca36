//! Fuzz targets of the broker's deliveries: any AMQP client may have published them.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use lapin::{message::Delivery, protocol::basic::parse_properties};

use super::{codec, epochs};
use crate::fuzzing::SEPARATOR;

/// A delivery from the stream: AMQP's encoding of its properties, then the body.
pub fn delivery(data: &[u8]) {
    let Ok((body, properties)) = parse_properties(data) else {
        return;
    };
    let Some(stored) = codec::stored(delivered(properties, body)) else {
        return;
    };
    assert!(i64::try_from(stored.offset).is_ok());
    let Some(record) = stored.record else {
        return;
    };
    assert_eq!(record.text.as_bytes(), body);
    let mut again = codec::properties(&record, stored.trace.as_ref());
    let mut headers = again.headers().clone().unwrap_or_default();
    headers.insert(
        papo_protocol::topology::STREAM_OFFSET_HEADER.into(),
        lapin::types::AMQPValue::LongLongInt(stored.offset.try_into().expect("checked above")),
    );
    again = again.with_headers(headers);
    let read = codec::stored(delivered(again, body)).expect("it has an offset");
    assert_eq!((read.record, read.trace), (Some(record), stored.trace));
}

fn delivered(properties: lapin::BasicProperties, body: &[u8]) -> Delivery {
    let mut delivery = Delivery::mock(1, "x".into(), "message".into(), false, body.to_vec());
    delivery.properties = properties;
    delivery
}

/// The entries of a register of epochs.
pub fn epochs(data: &[u8]) {
    let draws: Vec<epochs::Draw> = data
        .split(|byte| *byte == SEPARATOR)
        .filter_map(|entry| serde_json::from_slice(entry).ok())
        .collect();
    match epochs::valid(&draws) {
        Some(epoch) => assert!(draws.iter().any(|draw| draw.epoch == epoch)),
        None => assert!(draws.iter().all(|draw| draw.replaces.is_some())),
    }
}
