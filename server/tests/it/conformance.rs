//! The one suite that every adapter of the broker port passes.

use papo_server::broker::{Attached, Broker, PublishError, Publishing, ReadError, Signal, Start};

use crate::fixture::{Fixture, InProcess, Real, in_time, publish, record, take, texts};

/// Plenty.
const LARGE: u64 = 100_000_000;
/// The least that may be set.
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
        a_reader_waits_for_what_comes,
        attaching_before_the_end_gives_the_last_ones,
        reading_goes_on_at_an_offset,
        an_offset_beyond_the_end_is_refused,
        another_epoch_is_refused,
        a_range_can_be_read_again,
        publishing_twice_stores_twice,
        each_publisher_keeps_its_order_among_many,
        a_slow_reader_loses_nothing,
        signals_reach_the_other_servers_and_are_not_stored,
        closing_stores_what_was_taken_and_refuses_the_rest,
        what_people_write_comes_back_to_the_letter;
    SMALL:
        a_start_before_the_head_is_told_by_where_it_begins;
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

async fn a_reader_waits_for_what_comes(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    assert_eq!((attached.bounds.clone(), attached.from), (0..0, 0));
    let (records, ()) = tokio::join!(
        take(&mut attached.reader, 1),
        publish(&broker, "a", numbers(7..8))
    );
    assert_eq!(texts(&records), ["7"]);
}

async fn attaching_before_the_end_gives_the_last_ones(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..100)).await;
    let mut attached = attach(&broker, Start::BeforeEnd(10)).await;
    assert_eq!((attached.from, attached.bounds.clone()), (90, 0..100));
    assert_eq!(
        texts(&take(&mut attached.reader, 10).await),
        numbers(90..100).collect::<Vec<_>>()
    );
}

async fn reading_goes_on_at_an_offset(fixture: impl Fixture) {
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

async fn an_offset_beyond_the_end_is_refused(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    publish(&broker, "a", numbers(0..3)).await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    for beyond in [4, 1_000_000, i64::MAX.unsigned_abs()] {
        let refused = in_time(broker.attach(Start::At(epoch.clone(), beyond)))
            .await
            .err();
        assert_eq!(refused, Some(ReadError::BeyondEnd { end: 3 }), "{beyond}");
    }
}

async fn another_epoch_is_refused(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let current = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let old = "0123456789abcdef0".parse().expect("valid");
    let refused = in_time(broker.attach(Start::At(old, 0))).await.err();
    assert_eq!(refused, Some(ReadError::EpochChanged { current }));
}

async fn a_start_before_the_head_is_told_by_where_it_begins(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let long = "x".repeat(3_000);
    let mut bounds = 0..0;
    for round in 0..40_u32 {
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
        bounds = attach(&broker, Start::BeforeEnd(1)).await.bounds;
        if bounds.start > 0 {
            break;
        }
    }
    assert!(
        bounds.start > 0,
        "retention has removed something: {bounds:?}"
    );
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

async fn a_range_can_be_read_again(fixture: impl Fixture) {
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

async fn each_publisher_keeps_its_order_among_many(fixture: impl Fixture) {
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

async fn a_slow_reader_loses_nothing(fixture: impl Fixture) {
    let broker = fixture.broker().await;
    let mut attached = attach(&broker, Start::BeforeEnd(1)).await;
    publish(&broker, "a", numbers(0..6_000)).await;
    let records = take(&mut attached.reader, 6_000).await;
    assert_eq!(texts(&records), numbers(0..6_000).collect::<Vec<_>>());
}

async fn signals_reach_the_other_servers_and_are_not_stored(fixture: impl Fixture) {
    let (one, other) = (fixture.broker().await, fixture.broker().await);
    let mut heard = other.signals();
    let signal = Signal {
        key: "signal.typing".to_owned(),
        body: "{}".into(),
    };
    // The queue that hears is made in the background: a signal sent before is lost, as signals may be.
    let got = in_time(async {
        loop {
            one.signal(signal.clone());
            if let Ok(got) =
                tokio::time::timeout(std::time::Duration::from_millis(200), heard.recv()).await
            {
                return got.expect("heard");
            }
        }
    });
    assert_eq!(got.await, signal);
    publish(&one, "a", numbers(0..1)).await;
    let mut attached = attach(&one, Start::BeforeEnd(10)).await;
    assert_eq!(texts(&take(&mut attached.reader, 1).await), ["0"]);
}

async fn closing_stores_what_was_taken_and_refuses_the_rest(fixture: impl Fixture) {
    let (broker, other) = (fixture.broker().await, fixture.broker().await);
    let mut up = broker.publishing();
    in_time(up.wait_for(|state| *state == Publishing::Up))
        .await
        .expect("up");
    let taken: Vec<_> = (0..200)
        .map(|number: u32| broker.publish(record("a", &number.to_string(), "x"), None))
        .collect();
    in_time(broker.close()).await;
    for outcome in taken {
        in_time(outcome).await.expect("stored");
    }
    // The in-process log is one for all its servers, and closed for all; in RabbitMQ the others go on.
    let refused = in_time(broker.publish(record("a", "late", "x"), None)).await;
    assert!(
        matches!(refused, Err(PublishError::Unavailable(_))),
        "{refused:?}"
    );
    let mut attached = attach(&other, Start::BeforeEnd(1_000)).await;
    assert_eq!(take(&mut attached.reader, 200).await.len(), 200);
}

async fn what_people_write_comes_back_to_the_letter(fixture: impl Fixture) {
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
