//! Properties of the room's log, each against a model that is too simple to be wrong: the whole log in a list, and the rule
//! of which records are copies applied to it record by record.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use papo_protocol::{Epoch, Record, SenderId, topology::DEDUP_WINDOW};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Closing, Fanout, Log, MemberId, Message, Push, Room, Sink, Tail,
    attendance::Attendance,
    demand::Demand,
    outcome::Outcomes,
    window::{self, Size, Window},
};
use crate::{
    broker::{Broker, Start, Stored, local::Local},
    chat::Resume,
    frame::Frame,
    metrics::Metrics,
    parts::Parts,
};

/// One record of a log to be made.
#[derive(Clone, Debug)]
struct Entry {
    /// How far behind the one before: more than one where the broker keeps entries of its own.
    step: u64,
    /// Its id; `None` for what is not ours.
    id: Option<u8>,
    text: usize,
}

fn entry(step: impl Strategy<Value = u64>) -> impl Strategy<Value = Entry> {
    let id = prop_oneof![9 => any::<u8>().prop_map(|id| Some(id % 24)), 1 => Just(None)];
    (step, id, 0_usize..300).prop_map(|(step, id, text)| Entry { step, id, text })
}

fn log_of(entries: &[Entry]) -> Vec<Stored> {
    let mut next = 0;
    let stored = |entry: &Entry| {
        let offset = next + entry.step - 1;
        next = offset + 1;
        Stored {
            offset,
            record: entry.id.map(|id| Arc::new(record(id.into(), entry.text))),
            trace: None,
        }
    };
    entries.iter().map(stored).collect()
}

fn record(id: u64, text: usize) -> Record {
    Record {
        id: format!("m{id}").parse().expect("valid"),
        sender: SenderId::from_trusted("s"),
        user: "Ana".parse().expect("valid"),
        text: "x".repeat(text),
        at: 0,
    }
}

/// The offsets of what a log shows: every record of ours without another of its id in the window before it.
fn model(log: &[Stored]) -> Vec<u64> {
    let is_copy = |stored: &Stored, id| {
        log.iter().any(|other| {
            let before =
                (stored.offset.saturating_sub(DEDUP_WINDOW)..stored.offset).contains(&other.offset);
            before && other.record.as_ref().is_some_and(|other| other.id == id)
        })
    };
    log.iter()
        .filter(|stored| {
            let id = stored.record.as_ref().map(|record| record.id.clone());
            id.is_some_and(|id| !is_copy(stored, id))
        })
        .map(|stored| stored.offset)
        .collect()
}

fn offsets(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(Message::offset).collect()
}

fn last(offsets: &[u64], most: usize) -> Vec<u64> {
    offsets[offsets.len().saturating_sub(most)..].to_vec()
}

fn epoch() -> Epoch {
    "e1".parse().expect("valid")
}

/// A socket with a buffer of its own whose reader reads when it likes.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Buffer>>);

#[derive(Default)]
struct Buffer {
    room: usize,
    waiting: VecDeque<u64>,
    seen: Vec<u64>,
    closed: Option<Closing>,
}

impl Socket {
    fn with_room(room: usize) -> Self {
        let socket = Self::default();
        socket.0.lock().room = room;
        socket
    }

    fn read(&self, most: usize) {
        let mut buffer = self.0.lock();
        let taken = most.min(buffer.waiting.len());
        let read: Vec<u64> = buffer.waiting.drain(..taken).collect();
        buffer.seen.extend(read);
    }
}

impl Sink for Socket {
    fn push(&self, packet: &Frame) -> Push {
        let arguments: serde_json::Value =
            serde_json::from_str(&packet.packet()[1..]).expect("an event");
        let mut buffer = self.0.lock();
        if buffer.waiting.len() >= buffer.room {
            return Push::Full;
        }
        let offset = arguments[2]["offset"].as_u64().expect("a message");
        buffer.waiting.push_back(offset);
        Push::Taken
    }

    fn close(&self, why: Closing) {
        self.0.lock().closed = Some(why);
    }

    fn is(&self, _: &SenderId) -> bool {
        false
    }
}

/// What a server has, with a window of the size wanted, and nobody but the test to fill it.
struct Server {
    room: Room<Local, Socket>,
    _parts: Parts,
}

fn server(broker: Local, window: Window) -> Server {
    let log = Log {
        window: Arc::new(Some(window).into()),
        tail: watch::Sender::new(Tail::default()),
    };
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let (attendance, mut parts) = (Attendance::new(), Parts::new(CancellationToken::new()));
    let patience = Duration::from_hours(1);
    let fanout = Fanout::start(&log, patience, &metrics, &attendance, &mut parts);
    let room = Room {
        broker,
        log,
        demand: Demand::default(),
        reader_idle_timeout: patience,
        outcomes: Outcomes::default(),
        deep_reads: Semaphore::new(1),
        fanout,
        attendance,
        metrics,
        page: 5,
        publish_timeout: patience,
    };
    let server = Server {
        room,
        _parts: parts,
    };
    server.take_in(&[]);
    server
}

impl Server {
    fn take_in(&self, records: &[Stored]) {
        let mut window = self.room.log.window.write();
        let window = window.as_mut().expect("there");
        for stored in records {
            window.push(stored);
        }
        let next = Some(window.next());
        self.room.log.tail.send_modify(|tail| tail.next = next);
    }
}

/// Runs a future in a time of its own, which passes only while everybody waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Lets everybody do what there is to do: in a paused time this ends when all of them wait.
async fn all_wait() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever its bounds, after every record: what it serves is what the log shows, it serves its end, and it keeps its bounds.
    #[test]
    fn a_window_is_the_end_of_the_log(
        entries in prop::collection::vec(entry(prop_oneof![9 => 1_u64..3, 1 => 3_u64..60]), 1..80),
        records in 1_usize..50, bytes in 100_usize..20_000, reach in 0_u64..60, most in 1_usize..20,
    ) {
        let log = log_of(&entries);
        let shown = model(&log);
        let mut window = Window::new(epoch(), &(0..0), 0, Size { records, bytes });
        for stored in &log {
            window.push(stored);
            let next = stored.offset + 1;
            prop_assert_eq!(window.next(), next);
            let (held, size) = window.extent();
            prop_assert!(held <= records && (size <= bytes || held == 1));
            for cursor in [next.saturating_sub(reach), window.first(), next, next + 1] {
                let slice = window.after(cursor, Size::records(most));
                prop_assert_eq!(slice.is_none(), cursor < window.first());
                let Some(slice) = slice else { continue };
                let due: Vec<u64> = shown.iter().copied().filter(|offset| (cursor..next).contains(offset)).collect();
                prop_assert_eq!(offsets(&slice.messages), &due[..most.min(due.len())]);
                let passed = due.iter().filter(|offset| **offset < slice.next).count();
                prop_assert_eq!(passed, slice.messages.len(), "a cursor passes what it was given, and nothing else");
                let (page, exhausted) = window.before(cursor, most);
                let older: Vec<u64> = shown.iter().copied().filter(|offset| (window.first()..cursor.min(next)).contains(offset)).collect();
                prop_assert_eq!(offsets(&page), last(&older, most));
                prop_assert_eq!(exhausted, older.len() < most);
            }
        }
    }

    /// Wherever two servers begin to read, they show the same of what both can show, and so does what is read back from the broker.
    #[test]
    fn all_readers_hide_the_same_copies(
        entries in prop::collection::vec(entry(1..DEDUP_WINDOW / 3), 1..40), begins in prop::array::uniform2(0_u64..4 * DEDUP_WINDOW), back in 0..DEDUP_WINDOW,
    ) {
        let log = log_of(&entries);
        let (shown, end) = (model(&log), log.last().map_or(0, |stored| stored.offset + 1));
        for from in begins.map(|from| from.min(end)) {
            let mut window = Window::new(epoch(), &(0..end), from, Size { records: usize::MAX, bytes: usize::MAX });
            for stored in log.iter().filter(|stored| stored.offset >= from) {
                window.push(stored);
            }
            let due: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= window.first()).collect();
            let slice = window.after(window.first(), Size::records(usize::MAX)).expect("in reach");
            prop_assert_eq!(offsets(&slice.messages), due);
        }
        let start = end.saturating_sub(back);
        let read: Vec<Stored> = log.iter().filter(|stored| stored.offset + DEDUP_WINDOW >= start).cloned().collect();
        let due: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= start).collect();
        prop_assert_eq!(offsets(&window::shown(&read, &(start..end))), due);
    }

    /// Members that come at any place and read at any pace: each sees a run of the log from its cursor on without a hole. One that
    /// is still a member in the end has seen all of it, and one that is not was closed for being slow.
    #[test]
    fn a_member_sees_an_unbroken_run_or_is_closed(
        entries in prop::collection::vec(entry(1_u64..3), 1..150), records in 2_usize..40,
        members in prop::collection::vec((0_u64..20, 1_usize..30, 0_usize..12), 1..8), batches in prop::collection::vec(1_usize..25, 1..12),
    ) {
        let log = log_of(&entries);
        let (shown, end) = (model(&log), log.last().map_or(0, |stored| stored.offset + 1));
        let sockets = run(async {
            let server = server(Local::new(1), Window::new(epoch(), &(0..0), 0, Size { records, bytes: usize::MAX }));
            let (mut left, mut batches, mut sockets) = (log.as_slice(), batches.iter().cycle(), Vec::new());
            let mut coming = members.iter();
            while !left.is_empty() {
                let (now, later) = left.split_at(batches.next().map_or(1, |batch| *batch.min(&left.len())));
                server.take_in(now);
                left = later;
                if let Some((back, room, pace)) = coming.next() {
                    let place = server.room.log.window.read().as_ref().map(|window| (window.first(), window.next()));
                    let (first, next) = place.expect("there");
                    let cursor = next.saturating_sub(*back).max(first);
                    let socket = Socket::with_room(*room);
                    server.room.join(MemberId::next(), socket.clone(), cursor);
                    sockets.push((cursor, *pace, socket));
                }
                all_wait().await;
                for (_, pace, socket) in &sockets {
                    socket.read(*pace);
                }
                all_wait().await;
            }
            for _ in 0..log.len() {
                for (_, _, socket) in &sockets {
                    socket.read(usize::MAX);
                }
                all_wait().await;
            }
            sockets
        });
        for (cursor, pace, socket) in sockets {
            let Buffer { seen, closed, .. } = std::mem::take(&mut *socket.0.lock());
            let due: Vec<u64> = shown.iter().copied().filter(|offset| (cursor..end).contains(offset)).collect();
            prop_assert_eq!(&seen, &due[..seen.len().min(due.len())], "pace {}", pace);
            match closed {
                None => prop_assert_eq!(seen.len(), due.len()),
                Some(why) => prop_assert_eq!(why, Closing::SlowReader),
            }
        }
    }

    /// One who comes back with any position: gets exactly what it has missed; or the newest page, with a gap if what it has missed is
    /// no longer there.
    ///
    /// Where retention has removed messages there are no copies here: of the first records that are left nobody can know whether
    /// they are copies of removed ones.
    #[test]
    fn whoever_comes_back_gets_what_was_missed_or_is_told(
        entries in prop::collection::vec(entry(Just(1)), 1..120), attached in 0_usize..120, records in 1_usize..60,
        retention in prop_oneof![Just(u64::MAX), 3_000_u64..40_000], ours: bool,
        offset in prop_oneof![8 => 0_u64..130, 1 => any::<u64>(), 1 => Just(u64::MAX)],
    ) {
        let unique = retention < u64::MAX;
        let (opening, shown, next, reach) = run(async {
            let broker = Local::new(retention);
            let (mut window, mut log) = (None, Vec::new());
            for (place, entry) in entries.iter().enumerate() {
                if place == attached.min(entries.len() - 1) {
                    let found = broker.attach(Start::BeforeEnd(u64::MAX)).await.expect("attached");
                    window = Some((Window::new(found.epoch.clone(), &found.bounds, found.from, Size { records, bytes: usize::MAX }), found));
                }
                let id = if unique { place as u64 } else { entry.id.unwrap_or_default().into() };
                let record = Arc::new(record(id, entry.text));
                log.push(Stored { offset: place as u64, record: Some(record.clone()), trace: None });
                broker.publish(record, None).await.expect("stored");
            }
            let (window, found) = window.expect("attached at some point");
            let server = server(broker.clone(), window);
            server.take_in(&log[usize::try_from(found.from).expect("small")..]);
            let epoch = if ours { found.epoch } else { epoch() };
            let opening = server.room.open(Some(&Resume { epoch, offset })).await.expect("opened");
            let head = broker.attach(Start::BeforeEnd(u64::MAX)).await.expect("attached").bounds.start;
            let first = server.room.log.window.read().as_ref().expect("there").first();
            (opening, model(&log), log.len() as u64, head.min(first))
        });
        let page = offsets(&opening.page.messages);
        let from = offset.saturating_add(1);
        if ours && offset < next && from >= reach {
            let missed: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= from).collect();
            let follows = shown.iter().copied().filter(|offset| *offset >= opening.cursor);
            prop_assert!(opening.recovered && opening.gap.is_none());
            prop_assert_eq!(page.into_iter().chain(follows).collect::<Vec<_>>(), missed);
        } else {
            let retained: Vec<u64> = shown.iter().copied().filter(|offset| *offset >= reach).collect();
            let newest = last(&retained, 5);
            let gap = (ours && offset < next).then(|| (from, newest[0] - 1));
            prop_assert!(!opening.recovered);
            prop_assert_eq!((page, opening.gap, opening.cursor), (newest, gap, next));
        }
    }
}
