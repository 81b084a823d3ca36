//! Properties of the room: what members get of a log, against the model of [`testing`].

use std::{sync::Arc, time::Duration};

use papo_protocol::Launch;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{CloseReason, Room};
use crate::{
    broker::{Broker, Start, Stored, local::Local},
    chat::Resume,
    fanout::{MemberId, testing::Socket},
    log::{
        Log, Size,
        testing::{self, entry, epoch, last, offsets, record, records_of, shown_offsets, text},
    },
    metrics::Metrics,
    task_set::TaskSet,
};

/// The offset of the message in a packet.
fn offset_of(packet: &str) -> u64 {
    let arguments: serde_json::Value = serde_json::from_str(&packet[1..]).expect("an event");
    arguments[2]["offset"].as_u64().expect("a message")
}

/// A server whose log only the test fills.
struct Server {
    room: Room<Local, Socket>,
    _tasks: TaskSet,
}

fn server(broker: Local, log: Log) -> Server {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let mut tasks = TaskSet::new(CancellationToken::new());
    let launch = Launch {
        slow_reader_timeout: 3_600,
        publish_timeout: 3_600,
        history_page: 5,
        ..Launch::default()
    };
    let room = Room::new(broker, log, &launch, metrics, &mut tasks);
    Server {
        room,
        _tasks: tasks,
    }
}

/// Runs a future in a time of its own, which passes only while all tasks wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Lets all tasks do what there is to do: paused time passes when all of them wait.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Members that join at any cursor and read at any speed: each gets the messages from its cursor on without a gap. A member that
    /// is left at the end has got all of them; any other was closed as a slow reader.
    #[test]
    fn member_gets_messages_without_a_gap_or_is_closed(
        entries in prop::collection::vec(entry(1_u64..3), 1..150), records in 2_usize..40,
        members in prop::collection::vec((0_u64..20, 1_usize..30, 0_usize..12), 1..8), batches in prop::collection::vec(1_usize..25, 1..12),
    ) {
        let log = records_of(&entries);
        let (shown, end) = (shown_offsets(&log), log.last().map_or(0, |stored| stored.offset + 1));
        let sockets = run(async {
            let server = server(Local::new(1), testing::log(&(0..0), 0, Size { records, bytes: usize::MAX }));
            let (mut left, mut batches, mut sockets) = (log.as_slice(), batches.iter().cycle(), Vec::new());
            let mut joining = members.iter();
            while !left.is_empty() {
                let (now, later) = left.split_at(batches.next().map_or(1, |batch| *batch.min(&left.len())));
                server.room.log.append(now);
                left = later;
                if let Some((back, capacity, speed)) = joining.next() {
                    let stats = server.room.log.stats().expect("a log");
                    let (first, next) = (stats.window, stats.tail);
                    let cursor = next.saturating_sub(*back).max(first);
                    let socket = Socket::with_capacity(*capacity);
                    server.room.fanout.join(MemberId::next(), socket.clone(), cursor);
                    sockets.push((cursor, *speed, socket));
                }
                settle().await;
                for (_, speed, socket) in &sockets {
                    socket.read(*speed);
                }
                settle().await;
            }
            for _ in 0..log.len() {
                for (_, _, socket) in &sockets {
                    socket.read(usize::MAX);
                }
                settle().await;
            }
            sockets
        });
        for (cursor, speed, socket) in sockets {
            let closed = socket.closed();
            let packets = socket.read_so_far();
            let seen: Vec<u64> = packets.iter().map(|packet| offset_of(packet)).collect();
            let due: Vec<u64> = shown.iter().copied().filter(|offset| (cursor..end).contains(offset)).collect();
            prop_assert_eq!(&seen, &due[..seen.len().min(due.len())], "speed {}", speed);
            match closed {
                None => prop_assert_eq!(seen.len(), due.len()),
                Some(reason) => prop_assert_eq!(reason, CloseReason::SlowReader),
            }
        }
    }

    /// A client that resumes at any position gets exactly what it has missed; or the newest page, with a gap if what it has missed
    /// was removed.
    ///
    /// Where retention has removed messages there are no duplicates here: of the first records that are left no reader can know
    /// whether they are duplicates of removed ones.
    #[test]
    fn resume_recovers_what_was_missed_or_names_the_gap(
        entries in prop::collection::vec(entry(Just(1)), 1..120), attached in 0_usize..120, records in 1_usize..60,
        retention in prop_oneof![Just(u64::MAX), 3_000_u64..40_000], ours: bool,
        offset in prop_oneof![8 => 0_u64..130, 1 => any::<u64>(), 1 => Just(u64::MAX)],
    ) {
        let unique = retention < u64::MAX;
        let (history, shown, next, reach) = run(async {
            let broker = Local::new(retention);
            let (mut attached_log, mut log) = (None, Vec::new());
            for (place, entry) in entries.iter().enumerate() {
                if place == attached.min(entries.len() - 1) {
                    let found = broker.attach(Start::BeforeEnd(u64::MAX)).await.expect("attached");
                    let size = Size { records, bytes: usize::MAX };
                    attached_log = Some((testing::log_of_epoch(found.epoch.clone(), &found.bounds, found.from, size), found));
                }
                let id = if unique { place as u64 } else { entry.id.unwrap_or_default().into() };
                let record = Arc::new(record(id, &text(entry.length)));
                log.push(Stored { offset: place as u64, record: Some(record.clone()), trace: None });
                broker.publish(record, None).await.expect("stored");
            }
            let (attached_log, found) = attached_log.expect("attached at some point");
            let server = server(broker.clone(), attached_log);
            server.room.log.append(&log[usize::try_from(found.from).expect("small")..]);
            let epoch = if ours { found.epoch } else { epoch() };
            let history = server.room.initial_history(Some(&Resume { epoch, offset }), 1).await.expect("readable");
            let head = broker.attach(Start::BeforeEnd(u64::MAX)).await.expect("attached").bounds.start;
            let first = server.room.log.stats().expect("a log").window;
            (history, shown_offsets(&log), log.len() as u64, head.min(first))
        });
        let page = offsets(&history.page.messages);
        let from = offset.saturating_add(1);
        if ours && offset < next && from >= reach {
            let missed: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= from).collect();
            let follows = shown.iter().copied().filter(|offset| *offset >= history.cursor);
            prop_assert!(history.recovered && history.gap.is_none());
            prop_assert_eq!(page.into_iter().chain(follows).collect::<Vec<_>>(), missed);
        } else {
            let retained: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= reach).collect();
            let newest = last(&retained, 5);
            let gap = (ours && offset < next).then(|| (from, newest[0] - 1));
            prop_assert!(!history.recovered);
            prop_assert_eq!((page, history.gap, history.cursor), (newest, gap, next));
        }
    }
}
