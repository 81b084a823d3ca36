//! The one suite that every adapter of the broker port passes.

use std::sync::Arc;

use papo_protocol::{Position, Record};
use papo_server::broker::{Attached, Broker, PublishError, Publishing, ReadError, Signal, Start};

use crate::fixture::{Fixture, InProcess, Real, in_time, publish, record, take, texts, until};

/// Bytes that no test reaches.
const LARGE: u64 = 100_000_000;
/// The least number of bytes that may be set.
const SMALL: u64 = 1_000_000;

macro_rules! conformance {
    ($($retention:ident: $($name:ident),+;)+) => {
        mod local {
            use super::*;
            $($(#[tokio::test]
            async fn $name() {
                super::$name(InProcess::retaining($retention)).await;
            })+)+
        }
        mod rabbitmq {
            use super::*;
            $($(#[tokio::test]
            #[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
            async fn $name() {
                super::$name(Real::retaining($retention)).await;
            })+)+
        }
    };
}

conformance! {
    LARGE:
        records_are_read_in_the_order_they_were_published,
        offsets_rise_and_are_the_same_for_every_reader,
        reader_waits_for_new_records,
        attaching_before_the_end_gives_the_last_records,
        attaching_at_an_offset_continues_there,
        offset_beyond_the_end_is_an_error,
        another_epoch_is_an_error,
        range_can_be_read_back,
        publishing_twice_stores_twice,
        publishers_keep_their_own_order,
        slow_reader_gets_every_record,
        signals_reach_other_servers_and_are_not_stored,
        closing_stores_accepted_records_and_rejects_others,
        texts_are_stored_unchanged,
        records_keep_where_the_log_ended;
    SMALL:
        start_before_the_head_begins_at_the_head;
}

async fn attach<B: Broker>(broker: &B, start: Start) -> Attached<B::Reader> {
    in_time(broker.attach(start)).await.expect("attached")
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

async fn records_are_read_in_the_order_they_were_published(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..500)).await;
    let mut attached = attach(&broker, Start::BeforeEnd(1_000)).await;
    let records = take(&mut attached.reader, 500).await;
    assert_eq!(texts(&records), numbers(0..500).collect::<Vec<_>>());
}

async fn offsets_rise_and_are_the_same_for_every_reader(fixture: impl Fixture) {
    let (one, other) = (fixture.broker().await, fixture.broker().await);
    publish(&one, "a", numbers(0..50)).await;
    publish(&other, "b", numbers(50..100)).await;
    let mut first = attach(&one, Start::BeforeEnd(1_000)).await;
    let mut second = attach(&other, Start::BeforeEnd(1_000)).await;
    let records = take(&mut first.reader, 100).await;
    assert_eq!(records, take(&mut second.reader, 100).await);
    assert!(records.is_sorted_by(|one, next| one.offset < next.offset));
    assert_eq!(first.epoch, second.epoch);
}

async fn reader_waits_for_new_records(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    assert_eq!((attached.bounds.clone(), attached.from), (0..0, 0));
    let (records, ()) = tokio::join!(
        take(&mut attached.reader, 1),
        publish(&broker, "a", numbers(7..8))
    );
    assert_eq!(texts(&records), ["7"]);
}

async fn attaching_before_the_end_gives_the_last_records(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..100)).await;
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    assert_eq!((attached.from, attached.bounds.clone()), (90, 0..100));
    assert_eq!(
        texts(&take(&mut attached.reader, 10).await),
        numbers(90..100).collect::<Vec<_>>()
    );
}

async fn attaching_at_an_offset_continues_there(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..20)).await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let mut attached = attach(&broker, Start::At(epoch.clone(), 13)).await;
    assert_eq!(
        texts(&take(&mut attached.reader, 7).await),
        numbers(13..20).collect::<Vec<_>>()
    );
    let mut at_the_end = attach(&broker, Start::At(epoch, 20)).await;
    publish(&broker, "a", numbers(20..21)).await;
    assert_eq!(texts(&take(&mut at_the_end.reader, 1).await), ["20"]);
}

async fn offset_beyond_the_end_is_an_error(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..3)).await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    for beyond in [4, 1_000_000, i64::MAX.unsigned_abs()] {
        let error = in_time(broker.attach(Start::At(epoch.clone(), beyond)))
            .await
            .err();
        assert_eq!(error, Some(ReadError::BeyondEnd { end: 3 }), "{beyond}");
    }
}

async fn another_epoch_is_an_error(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let current = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let old = "0123456789abcdef0".parse().expect("valid");
    let error = in_time(broker.attach(Start::At(old, 0))).await.err();
    assert_eq!(error, Some(ReadError::EpochChanged { current }));
}

async fn start_before_the_head_begins_at_the_head(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let long = "x".repeat(3_000);
    let mut round = 0_u32;
    until("removal by retention", async || {
        round += 1;
        publish(
            &broker,
            "a",
            (0..100).map(|number| format!("{round}-{number}")),
        )
        .await;
        let bulk: Vec<_> = (0..100)
            .map(|number| broker.publish(record("b", &format!("{round}-{number}"), &long), None))
            .collect();
        for stored in bulk {
            in_time(stored).await.expect("stored");
        }
        let bounds = attach(&broker, Start::BeforeEnd(1)).await.bounds;
        (bounds.start > 0).then_some(())
    })
    .await;
    let mut attached = attach(&broker, Start::At(epoch.clone(), 0)).await;
    assert!(attached.from > 0 && attached.from == attached.bounds.start);
    assert_eq!(take(&mut attached.reader, 1).await[0].offset, attached.from);
    let end = attached.bounds.end;
    let read = in_time(broker.read(&epoch, 0..end))
        .await
        .expect("readable");
    assert!(read.first().is_some_and(|stored| stored.offset > 0));
    assert_eq!(read.last().map(|stored| stored.offset), Some(end - 1));
}

async fn range_can_be_read_back(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..100)).await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    for (range, expected) in [
        (10..20, 10..20),
        (0..1, 0..1),
        (99..100, 99..100),
        (5..5, 5..5),
    ] {
        let records = in_time(broker.read(&epoch, range)).await.expect("readable");
        assert_eq!(texts(&records), numbers(expected).collect::<Vec<_>>());
    }
}

async fn publishing_twice_stores_twice(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    for _ in 0..2 {
        in_time(broker.publish(record("a", "same", "once"), None))
            .await
            .expect("stored");
    }
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    assert_eq!(
        texts(&take(&mut attached.reader, 2).await),
        ["once", "once"]
    );
}

async fn publishers_keep_their_own_order(fixture: impl Fixture) {
    let (one, other) = (fixture.broker().await, fixture.broker().await);
    tokio::join!(
        publish(&one, "a", numbers(0..300)),
        publish(&other, "b", numbers(0..300)),
        publish(&one, "c", numbers(0..300)),
    );
    let mut attached = attach(&one, Start::BeforeEnd(1_000)).await;
    let records = take(&mut attached.reader, 900).await;
    for sender in ["a", "b", "c"] {
        let own: Vec<_> = records
            .iter()
            .filter(|stored| {
                stored
                    .record
                    .as_ref()
                    .is_some_and(|record| record.sender.as_str() == sender)
            })
            .cloned()
            .collect();
        assert_eq!(texts(&own), numbers(0..300).collect::<Vec<_>>(), "{sender}");
    }
}

async fn slow_reader_gets_every_record(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let mut attached = attach(&broker, Start::BeforeEnd(1)).await;
    publish(&broker, "a", numbers(0..6_000)).await;
    let records = take(&mut attached.reader, 6_000).await;
    assert_eq!(texts(&records), numbers(0..6_000).collect::<Vec<_>>());
}

async fn signals_reach_other_servers_and_are_not_stored(fixture: impl Fixture) {
    let (one, other) = (fixture.broker().await, fixture.broker().await);
    let mut received = other.signals();
    let signal = Signal {
        key: "signal.typing".to_owned(),
        body: "{}".into(),
    };
    // The queue of signals is declared in the background: a signal that is sent before is lost, as signals may be.
    let got = in_time(async {
        loop {
            one.signal(signal.clone());
            if let Ok(got) =
                tokio::time::timeout(std::time::Duration::from_millis(200), received.recv()).await
            {
                return got.expect("received");
            }
        }
    });
    assert_eq!(got.await, signal);
    publish(&one, "a", numbers(0..1)).await;
    let mut attached = attach(&one, Start::BeforeEnd(10)).await;
    assert_eq!(texts(&take(&mut attached.reader, 1).await), ["0"]);
}

async fn closing_stores_accepted_records_and_rejects_others(fixture: impl Fixture) {
    let (broker, other) = (fixture.broker().await, fixture.broker().await);
    let mut up = broker.publishing();
    in_time(up.wait_for(|state| *state == Publishing::Up))
        .await
        .expect("up");
    let taken: Vec<_> = (0..200)
        .map(|number: u32| broker.publish(record("a", &number.to_string(), "x"), None))
        .collect();
    in_time(broker.close()).await;
    for confirm in taken {
        in_time(confirm).await.expect("stored");
    }
    // The in-process log is shared by all its servers and closed for all; with RabbitMQ other servers go on.
    let error = in_time(broker.publish(record("a", "late", "x"), None)).await;
    assert!(
        matches!(error, Err(PublishError::Unavailable(_))),
        "{error:?}"
    );
    let mut attached = attach(&other, Start::BeforeEnd(1_000)).await;
    assert_eq!(take(&mut attached.reader, 200).await.len(), 200);
}

async fn texts_are_stored_unchanged(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let long = "ção ".repeat(10_000);
    let given = [
        "olá",
        " ",
        "<img src=x onerror=alert(1)>",
        "👩‍🚀\u{0}\n",
        &long,
    ];
    for (place, text) in given.iter().enumerate() {
        in_time(broker.publish(record("a", &place.to_string(), text), None))
            .await
            .expect("stored");
    }
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    let records = take(&mut attached.reader, given.len()).await;
    assert_eq!(texts(&records), given);
    assert_eq!(
        records[0].record.as_deref(),
        Some(&*record("a", "0", "olá"))
    );
}

async fn records_keep_where_the_log_ended(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let since = Some(Position { epoch, offset: 7 });
    let known = Record {
        since,
        ..(*record("a", "1", "x")).clone()
    };
    let unknown = record("a", "2", "y");
    for record in [Arc::new(known.clone()), unknown.clone()] {
        in_time(broker.publish(record, None)).await.expect("stored");
    }
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    let records = take(&mut attached.reader, 2).await;
    assert_eq!(records[0].record.as_deref(), Some(&known));
    assert_eq!(records[1].record, Some(unknown));
}
