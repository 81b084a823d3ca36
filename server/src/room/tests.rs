//! Tests of history, recovery and the idle reader, on the in-process broker.

use std::{ops::Range, sync::Arc, time::Duration};

use papo_engineio::Push;
use papo_protocol::{Launch, SenderId, topology::DEDUP_WINDOW};
use papo_telemetry::Readiness;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{recovery::MOST_RECOVERED, *};
use crate::{
    broker::local::Local,
    chat::Resume,
    log::{
        End, Message,
        testing::{offsets, record},
    },
};

/// More messages than a window holds.
const LONG: u64 = 30_000;

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

struct Fixture {
    room: Arc<Room<Local, Socket>>,
    broker: Local,
    _tasks: TaskSet,
}

/// A room in whose log there are this many messages already.
async fn room_with(messages: u64, retention: u64) -> Fixture {
    let broker = Local::new(retention);
    store(&broker, 0..messages).await;
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let mut tasks = TaskSet::new(CancellationToken::new());
    let launch = Launch::default();
    let room = Room::start(
        broker.clone(),
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
    fixture.read_to(messages).await;
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

impl Fixture {
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
            .initial_history(Some(&Resume { epoch, offset }))
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
    assert_eq!((history.recovered, seen.len()), (true, MOST_RECOVERED));
    let socket = Socket::default();
    let cursor = fixture.room.catch_up(&history, &socket).await;
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
        let page = fixture.room.page(before, 500).await.expect("readable");
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
