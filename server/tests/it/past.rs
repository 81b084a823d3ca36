//! Clients that read the beginning of a long log (fault 42): others are not affected, and nothing goes on when they have gone.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use papo_protocol::{Position, Record};
use papo_server::broker::{Broker, Start, rabbitmq::RabbitMq};
use serde_json::{Value, json};

use crate::{
    fixture::{Server, amqp, in_time, launch, record, until},
    wire::Wire,
};

/// Records in the log.
const LONG: u64 = 300_000;
/// Clients that resume at its beginning.
const RESUMES: usize = 8;
/// Records that may be read from the time when a page is requested to its answer: it waits for two steps of each resume, of 1,000 records and
/// those before them, not for all that they read.
const BESIDE_A_PAGE: u64 = 2 * RESUMES as u64 * 1_100;

/// Stores records as servers do that have read the log up to a few records before.
async fn store(broker: &impl Broker) {
    let epoch = in_time(broker.attach(Start::BeforeEnd(1)))
        .await
        .expect("attached")
        .epoch;
    for group in 0..LONG / 10_000 {
        let numbers = group * 10_000..(group + 1) * 10_000;
        let stored: Vec<_> = numbers
            .map(|number| {
                let text = format!("message {number} of a long conversation");
                let since = Some(Position {
                    epoch: epoch.clone(),
                    offset: number.saturating_sub(5),
                });
                let plain = record("a", &number.to_string(), &text);
                let record = Record {
                    since,
                    ..(*plain).clone()
                };
                broker.publish(Arc::new(record), None)
            })
            .collect();
        for stored in stored {
            in_time(stored).await.expect("stored");
        }
    }
}

async fn metric(server: &Server, name: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    let line = metrics.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.expect("a metric")
}

/// Memory of a server, in kB, and the processor time that it has taken.
fn usage(server: &Server) -> (u64, Duration) {
    let read = |file: &str| {
        let path = format!("/proc/{}/{file}", server.child.id());
        fs::read_to_string(path).expect("Linux")
    };
    let status = read("status");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|memory| memory.trim().strip_suffix(" kB")?.parse().ok());
    let stat = read("stat");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    // Fields 14 and 15 (proc(5)), in hundredths of a second.
    let ticks = [fields[11], fields[12]].map(|ticks| ticks.parse::<u64>().expect("ticks"));
    (
        memory.expect("memory"),
        Duration::from_millis(10 * (ticks[0] + ticks[1])),
    )
}

/// Scrolls back through so many pages; how long the slowest took.
async fn scroll_back(wire: &mut Wire, pages: u32, epoch: &Value) -> Duration {
    let (mut before, mut slowest) = (LONG / 2, Duration::ZERO);
    for number in 0..pages {
        let began = Instant::now();
        let request = json!(["history", { "before": before, "limit": 50 }]);
        let page = wire.ask(number, &request).await;
        slowest = slowest.max(began.elapsed());
        assert_eq!(
            (&page["ok"], &page["epoch"]),
            (&json!(true), epoch),
            "{page}"
        );
        let messages = page["messages"].as_array().expect("messages");
        let first = messages[0]["offset"].as_u64().expect("an offset");
        assert_eq!(messages.len(), 50);
        assert!(before - first < 100, "from {first} to {before}");
        before = first;
    }
    slowest
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn reads_of_the_past_are_bounded() {
    let url = amqp();
    let launch = launch(
        &url,
        &[
            "--declare",
            "--retention-bytes=1000000000",
            "--publish-timeout=100",
        ],
    );
    let broker = in_time(RabbitMq::connect(&launch))
        .await
        .expect("RabbitMQ answers");
    store(&broker).await;
    let room = launch.room.to_string();
    let arguments = [
        "--room",
        &room,
        "--broker",
        &url,
        "--declare",
        "--history-burst=1000",
        "--slow-reader-timeout=600",
    ];
    let server = Server::start(&arguments, &[]).await;
    let (mut ana, history) = Wire::join(&server, json!({ "name": "Ana" })).await;
    let epoch = &history["epoch"];
    let alone = scroll_back(&mut ana, 20, epoch).await;
    let read_alone = metric(&server, "papo_past_records_read_total").await;
    // Each page and the records before it, and some of them twice: a log has holes, and a page that lacks a message is read on.
    assert!(
        read_alone <= 20 * 300,
        "{read_alone} records for 20 pages of 50"
    );

    let (memory, _) = usage(&server);
    let mut resumes = tokio::task::JoinSet::new();
    for number in 0..RESUMES {
        let auth = json!({ "token": format!("greedy client, number {number}"), "epoch": epoch, "offset": 0 });
        let (mut wire, history) = Wire::join(&server, auth).await;
        assert_eq!(history["recovered"], json!(true));
        resumes.spawn(async move { while wire.receive().await.is_some() {} });
    }
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for _ in 0..5 {
        slowest = slowest.max(scroll_back(&mut ana, 10, epoch).await);
        most = most.max(usage(&server).0);
    }
    let read = metric(&server, "papo_past_records_read_total").await;
    let read_beside = (read - read_alone) / 50;
    resumes.abort_all();
    while resumes.join_next().await.is_some() {}
    until("end of the reads", async || {
        (metric(&server, "papo_past_reads ").await == 0).then_some(())
    })
    .await;
    let stopped_at = metric(&server, "papo_past_records_read_total").await;
    // What the broker has sent already is still received, and thrown away.
    let idle = until("a second without work", async || {
        let (_, before) = usage(&server);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (_, after) = usage(&server);
        let taken = after.saturating_sub(before);
        (taken < Duration::from_millis(200)).then_some(taken)
    })
    .await;
    println!(
        "a page: {alone:?} alone, {slowest:?} at most beside {RESUMES} resumes; memory: {memory} kB, {most} kB at most; \
         {read_beside} records read for each page, {read} in all, {stopped_at} when the clients had gone; processor time in a second after that: {idle:?}"
    );
    // In records and not in seconds, because a busy machine reads all of them more slowly.
    assert!(
        read_beside <= BESIDE_A_PAGE,
        "{read_beside} records were read for each page"
    );
    assert!(
        most < memory + 40_000,
        "{memory} kB before, {most} kB at most"
    );
    assert!(stopped_at < RESUMES as u64 * LONG, "the resumes went on");
    assert_eq!(
        metric(&server, "papo_past_records_read_total").await,
        stopped_at
    );
}
