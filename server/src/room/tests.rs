//! Tests of history, recovery and the idle reader, on the in-process broker.

use std::{ops::Range, sync::Arc, time::Duration};

use papo_engineio::Push;
use papo_protocol::{Launch, Position, Record, SenderId, event::Code, topology::DEDUP_WINDOW};
use papo_telemetry::Readiness;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{
    history::{MARGIN, STEP},
    recovery::MOST_RECOVERED,
    *,
};
use crate::{
    broker::{
        Start,
        local::Local,
        testing::{Silent, Slow},
    },
    chat::Resume,
    fanout::testing::Socket as SlowSocket,
    log::{
        End, Message,
        testing::{offsets, record},
    },
};

/// More messages than a window holds.
const LONG: u64 = 30_000;
/// Somebody who reads the past.
const ANA: Requester = 1;

/// Keeps the packets that it is given.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Vec<Frame>>>);

impl Sink for Socket {
    fn push(&self, packet: &Frame) -> Push {
        self.0.lock().push(packet.clone());
        Push::Taken
    }
    fn close(&self, _: CloseReason) {}
    fn is_sender(&self, _: &SenderId) -> bool {
        false
    }
}

struct Fixture<S: Sink = Socket> {
    room: Arc<Room<Slow, S>>,
    broker: Local,
    _tasks: TaskSet,
}

/// A room in whose log there are this many messages already.
async fn room_with(messages: u64, retention: u64) -> Fixture {
    let broker = Local::new(retention);
    store(&broker, 0..messages).await;
    room_on(broker, Duration::ZERO).await
}

/// A room on a broker that needs this long for each record of the past.
async fn room_on<S: Sink>(broker: Local, per_record: Duration) -> Fixture<S> {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let mut tasks = TaskSet::new(CancellationToken::new());
    let launch = Launch::default();
    let attached = broker.attach(Start::BeforeEnd(0)).await.expect("a log");
    let room = Room::start(
        Slow(broker.clone(), per_record),
        &launch,
        &Readiness::default(),
        metrics,
        &mut tasks,
    );
    let fixture = Fixture {
        room,
        broker,
        _tasks: tasks,
    };
    fixture.read_to(attached.bounds.end).await;
    fixture
}

/// Publishes messages as another server does.
async fn store(broker: &Local, numbers: Range<u64>) {
    for number in numbers {
        let record = record(number, &number.to_string());
        broker
            .publish(Arc::new(record), None)
            .await
            .expect("stored");
    }
}

/// Publishes messages as a server that has read all but `late` records of the log.
async fn store_late(broker: &Local, numbers: Range<u64>, late: u64) {
    let attached = broker.attach(Start::BeforeEnd(0)).await.expect("a log");
    for (next, number) in (attached.bounds.end..).zip(numbers) {
        let since = Position {
            epoch: attached.epoch.clone(),
            offset: next.saturating_sub(late),
        };
        let record = Record {
            since: Some(since),
            ..record(number, &number.to_string())
        };
        broker
            .publish(Arc::new(record), None)
            .await
            .expect("stored");
    }
}

/// Where a member stands after its initial history.
fn end_of(history: &InitialHistory) -> Position {
    Position {
        epoch: history.epoch.clone(),
        offset: history.cursor,
    }
}

impl<S: Sink> Fixture<S> {
    /// Waits until the reader is idle, as there is no member.
    async fn wait_until_idle(&self) {
        self.wait_for(|end| end.is_idle).await;
    }

    /// Waits for a state of the log, which takes no time but the paused clock's.
    async fn wait_for(&self, is_wanted: impl FnMut(&End) -> bool) {
        let mut end = self.room.log.watch();
        tokio::time::timeout(Duration::from_hours(1), end.wait_for(is_wanted))
            .await
            .expect("in time")
            .expect("a log");
    }

    async fn read_to(&self, next: u64) {
        self.wait_for(|end| end.next == Some(next)).await;
    }

    async fn resume(&self, offset: u64) -> InitialHistory {
        let epoch = self.room.log.epoch().expect("found");
        let history = self
            .room
            .initial_history(Some(&Resume { epoch, offset }), ANA)
            .await;
        history.expect("readable")
    }
}

#[tokio::test]
async fn resume_recovers_what_was_missed() {
    let fixture = room_with(300, u64::MAX).await;
    let history = fixture.resume(99).await;
    assert_eq!(
        offsets(&history.page.messages),
        (100..300).collect::<Vec<_>>()
    );
    assert_eq!(
        (history.recovered, history.gap, history.cursor),
        (true, None, 300)
    );
}

#[tokio::test]
async fn resume_beyond_the_window_recovers_from_the_broker() {
    let fixture = room_with(LONG, u64::MAX).await;
    let history = fixture.resume(9).await;
    let mut seen = offsets(&history.page.messages);
    assert!(history.recovered && seen.len() > MOST_RECOVERED.records / 2);
    let socket = Socket::default();
    let cursor = fixture.room.catch_up(end_of(&history), &socket, ANA).await;
    let cursor = cursor.expect("caught up");
    let packets = socket.0.lock().clone();
    let offset = |packet: &Frame| {
        packet
            .packet()
            .split("\"offset\":")
            .nth(1)
            .and_then(|rest| rest.split(',').next()?.parse::<u64>().ok())
    };
    seen.extend(packets.iter().filter_map(offset));
    assert_eq!(seen, (10..cursor).collect::<Vec<_>>());
    let first = fixture.room.log.first_of(&history.epoch);
    assert!(first.is_some_and(|first| cursor >= first));
}

#[tokio::test]
async fn removed_messages_are_a_gap_with_bounds() {
    let fixture = room_with(LONG, 1_000_000).await;
    let history = fixture.resume(9).await;
    let shown = offsets(&history.page.messages);
    assert_eq!((history.recovered, shown.len()), (false, 50));
    assert_eq!(history.gap, Some((10, shown[0] - 1)));
    assert_eq!(history.cursor, LONG);
}

#[tokio::test]
async fn pages_reach_the_beginning_of_the_log() {
    let fixture = room_with(LONG, u64::MAX).await;
    let (mut before, mut pages) = (u64::MAX, Vec::new());
    loop {
        let page = fixture.room.page(before, 500, ANA).await.expect("readable");
        before = page.messages.first().map_or(0, Message::offset);
        pages.push(offsets(&page.messages));
        if !page.more {
            break;
        }
    }
    pages.reverse();
    assert_eq!(pages.concat(), (0..LONG).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn idle_reader_resumes_without_a_gap() {
    let fixture = room_with(10, u64::MAX).await;
    let member = fixture.room.reader_guards.acquire();
    tokio::time::sleep(Duration::from_hours(1)).await;
    store(&fixture.broker, 10..20).await;
    fixture.read_to(20).await;
    drop(member);
    fixture.wait_until_idle().await;
    store(&fixture.broker, 20..30).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(fixture.room.log.end().next, Some(20));
    let _member = fixture.room.reader_guards.acquire();
    let history = fixture.resume(15).await;
    assert_eq!(
        offsets(&history.page.messages),
        (16..30).collect::<Vec<_>>()
    );
    assert_eq!((history.recovered, history.cursor), (true, 30));
}

#[tokio::test(start_paused = true)]
async fn long_idle_reader_starts_near_the_end() {
    let fixture = room_with(10, u64::MAX).await;
    fixture.wait_until_idle().await;
    let end = 10 + 4 * DEDUP_WINDOW;
    store(&fixture.broker, 10..end).await;
    let _member = fixture.room.reader_guards.acquire();
    let history = fixture.resume(end - 5).await;
    assert_eq!(
        offsets(&history.page.messages),
        (end - 4..end).collect::<Vec<_>>()
    );
    let generation = fixture.room.log.end().generation;
    assert_eq!(generation, 2, "the window was replaced");
}

#[tokio::test(start_paused = true)]
async fn resume_beyond_the_end_gets_the_newest_page() {
    let fixture = room_with(100, u64::MAX).await;
    for offset in [100, 1_000_000, u64::MAX] {
        let history = fixture.resume(offset).await;
        assert_eq!((history.recovered, history.gap), (false, None), "{offset}");
    }
}

#[tokio::test]
async fn page_of_the_past_costs_its_own_length() {
    let broker = Local::new(u64::MAX);
    store_late(&broker, 0..LONG, 5).await;
    let fixture: Fixture = room_on(broker, Duration::ZERO).await;
    for most in [1, 50, 500] {
        let before = fixture.room.metrics.past_records();
        let page = fixture.room.page(10_000, most, ANA).await;
        let shown = offsets(&page.expect("readable").messages);
        let first = 10_000 - most as u64;
        assert_eq!(shown, (first..10_000).collect::<Vec<_>>());
        let read = fixture.room.metrics.past_records() - before;
        assert!(read <= most as u64 + MARGIN, "{read} records for {most}");
    }
}

#[tokio::test]
async fn page_looks_back_as_far_as_its_records_are_late() {
    let broker = Local::new(u64::MAX);
    store_late(&broker, 0..5_000, 5).await;
    // The message of offset 2,100 again, by a server that had read up to 2,000.
    store_late(&broker, 2_100..2_101, 3_000).await;
    // And a new one, as late.
    store_late(&broker, 9_000_000..9_000_001, 3_000).await;
    store_late(&broker, 5_000..LONG, 5).await;
    let fixture: Fixture = room_on(broker, Duration::ZERO).await;
    let page = fixture.room.page(5_003, 3, ANA).await.expect("readable");
    assert_eq!(offsets(&page.messages), [4_999, 5_001, 5_002]);
    let read = fixture.room.metrics.past_records();
    assert!((2_900..3_300).contains(&read), "{read} records");
}

#[tokio::test(start_paused = true)]
async fn resume_reads_no_more_than_the_client_takes() {
    let broker = Local::new(u64::MAX);
    store_late(&broker, 0..LONG, 5).await;
    let fixture: Fixture<SlowSocket> = room_on(broker, Duration::ZERO).await;
    let history = fixture.resume(0).await;
    let after_first = fixture.room.metrics.past_records();
    assert!(after_first <= STEP + MARGIN, "{after_first} records");
    let socket = SlowSocket::with_capacity(10);
    let catch_up = fixture.room.catch_up(end_of(&history), &socket, ANA);
    let gave_up = tokio::time::timeout(Duration::from_hours(1), catch_up).await;
    assert_eq!(gave_up.expect("a slow reader is given up"), None);
    let read = fixture.room.metrics.past_records() - after_first;
    assert!(read <= STEP + MARGIN, "{read} records");
    assert_eq!(socket.packets().len(), 10);
    assert_eq!(fixture.room.metrics.past_reads.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn page_does_not_wait_for_resumes_of_others() {
    let broker = Local::new(u64::MAX);
    store_late(&broker, 0..300_000, 5).await;
    // As RabbitMQ: 1,000 records in 20 ms.
    let fixture: Fixture = room_on(broker, Duration::from_micros(20)).await;
    let mut resumes = tokio::task::JoinSet::new();
    for requester in 100..108 {
        let room = fixture.room.clone();
        let history = fixture.resume(0).await;
        resumes.spawn(async move {
            let socket = Socket::default();
            room.catch_up(end_of(&history), &socket, requester).await
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let running = fixture.room.metrics.past_reads.get();
    let waiting = fixture.room.metrics.past_reads_waiting.get();
    assert_eq!((running, waiting), (4, 4));
    let mut before = 200_000;
    for _ in 0..20 {
        let began = tokio::time::Instant::now();
        let page = fixture.room.page(before, 50, ANA).await.expect("readable");
        before = page.messages[0].offset();
        let took = began.elapsed();
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
    assert!(resumes.try_join_next().is_none(), "the resumes go on");
}

#[tokio::test(start_paused = true)]
async fn full_queue_rejects_reads_and_recovers() {
    let broker = Local::new(u64::MAX);
    store_late(&broker, 0..LONG, 5).await;
    let fixture: Fixture = room_on(broker, Duration::from_millis(1)).await;
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let room = fixture.room.clone();
        reads.spawn(async move { room.page(10_000, 50, ANA).await.map(drop) });
    }
    let answers = reads.join_all().await;
    let rejected: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(rejected.len(), 200 - 104);
    for rejection in rejected {
        assert_eq!(rejection.code, Code::Unavailable);
        assert!(rejection.message.contains("try again"), "{rejection:?}");
    }
    assert!(fixture.room.page(10_000, 50, ANA).await.is_ok());
}

/// Two servers of one room: the reader of the second one gets nothing, until it hears how far the first one has read.
#[tokio::test(start_paused = true)]
async fn server_that_reads_nothing_learns_from_another_that_there_is_something() {
    let local = Local::new(1 << 20);
    let server = |silent_readers: usize, tasks: &mut TaskSet| {
        let broker = Silent::new(local.clone(), silent_readers, false);
        let room = Room::<_, Socket>::start(
            broker.clone(),
            &Launch::default(),
            &Readiness::default(),
            Arc::new(Metrics::register(&mut Registry::default())),
            tasks,
        );
        (broker, room)
    };
    let mut tasks = TaskSet::new(CancellationToken::new());
    let (_, one) = server(0, &mut tasks);
    let (silent, other) = server(1, &mut tasks);
    let _members = [&one, &other].map(|room| room.reader_guards.acquire());
    let mut end = other.log.watch();
    let found = end.wait_for(|end| end.next == Some(0)).await;
    found.expect("a log");
    store(&local, 0..1).await;
    let read = end.wait_for(|end| end.next == Some(1));
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("in time").expect("a log");
    assert_eq!(silent.given_up(), 1);
}
