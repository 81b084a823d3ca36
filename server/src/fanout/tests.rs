//! Tests of a shard with its delivery, against sockets that take and read as much as a test says.

use std::{sync::Arc, time::Duration};

use papo_protocol::SenderId;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::yield_now,
    time::{Instant, advance, sleep},
};

use super::{
    deliver::{Delivery, MOST_OF_STALLED, Member, shared_batch},
    shard::{Command, MEMBERS_IN_A_ROW, Shard},
    testing::Socket,
    *,
};
use crate::log::{self, CursorLost, Size};

const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(5);

/// The texts of the messages that a socket was sent.
fn seen(socket: &Socket) -> Vec<String> {
    let packets = socket.packets().into_iter();
    packets
        .map(|packet| packet.split('"').nth(3).unwrap_or_default().to_owned())
        .collect()
}

struct Fixture {
    shard: Shard<Socket>,
    log: Log,
    notices: broadcast::Sender<Notice>,
}

fn fixture(window: Size) -> Fixture {
    let log = log::testing::log(&(0..0), 0, window);
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let notices = broadcast::Sender::new(8);
    let on_close: OnClose = Arc::new(|_| {});
    let delivery = Delivery::new(log.clone(), SLOW_READER_TIMEOUT, metrics, on_close);
    Fixture {
        shard: Shard::new(delivery, notices.subscribe()),
        log,
        notices,
    }
}

impl Fixture {
    async fn deliver(&mut self, offsets: std::ops::Range<u64>) {
        self.log.append_range(offsets);
        self.shard.deliver(|_| true).await;
    }

    fn join(&mut self, socket: &Socket, cursor: u64) -> MemberId {
        let id = MemberId::next();
        self.shard.obey(Command::Join {
            id,
            sink: socket.clone(),
            cursor,
        });
        id
    }

    async fn retry(&mut self) {
        self.shard.deliver(Member::is_stalled).await;
    }
}

fn texts(offsets: std::ops::Range<u64>) -> Vec<String> {
    offsets.map(|offset| offset.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn member_gets_every_message_from_its_cursor() {
    let mut fixture = fixture(Size::default());
    fixture.deliver(0..5).await;
    let socket = Socket::with_capacity(1000);
    fixture.join(&socket, 3);
    fixture.deliver(5..200).await;
    assert_eq!(seen(&socket), texts(3..200));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_gets_every_message_in_order() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(3);
    fixture.join(&socket, 0);
    fixture.deliver(0..50).await;
    for _ in 0..50 {
        socket.read(usize::MAX);
        fixture.retry().await;
    }
    assert_eq!((seen(&socket), socket.closed()), (texts(0..50), None));
}

#[tokio::test(start_paused = true)]
async fn stalled_member_is_closed_and_others_are_not_affected() {
    let mut fixture = fixture(Size::default());
    let (stalled, lively) = (Socket::with_capacity(2), Socket::with_capacity(1000));
    fixture.join(&stalled, 0);
    fixture.join(&lively, 0);
    fixture.deliver(0..10).await;
    assert_eq!(seen(&lively), texts(0..10));
    advance(SLOW_READER_TIMEOUT / 2).await;
    fixture.retry().await;
    assert_eq!(stalled.closed(), None);
    advance(SLOW_READER_TIMEOUT).await;
    fixture.retry().await;
    assert_eq!(stalled.closed(), Some(CloseReason::SlowReader));
    assert_eq!(fixture.shard.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn member_that_reads_a_little_stays() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(1);
    fixture.join(&socket, 0);
    fixture.deliver(0..10).await;
    for _ in 0..10 {
        advance(SLOW_READER_TIMEOUT * 9 / 10).await;
        socket.read(usize::MAX);
        fixture.retry().await;
    }
    assert_eq!((seen(&socket), socket.closed()), (texts(0..10), None));
}

#[tokio::test(start_paused = true)]
async fn member_behind_the_window_is_closed_not_skipped() {
    let mut fixture = fixture(Size {
        records: 10,
        bytes: usize::MAX,
    });
    let socket = Socket::with_capacity(2);
    fixture.join(&socket, 0);
    fixture.deliver(0..5).await;
    fixture.deliver(5..30).await;
    socket.read(usize::MAX);
    fixture.retry().await;
    assert_eq!(
        (seen(&socket), socket.closed()),
        (texts(0..2), Some(CloseReason::SlowReader))
    );
}

#[tokio::test(start_paused = true)]
async fn replaced_log_closes_members_for_resync() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(10);
    fixture.join(&socket, 0);
    fixture.log.invalidate_cursors();
    fixture.shard.deliver(|_| true).await;
    assert_eq!(socket.closed(), Some(CloseReason::Resync));
}

#[tokio::test(start_paused = true)]
async fn cursor_of_a_replaced_log_gets_no_messages() {
    let mut fixture = fixture(Size::default());
    fixture.deliver(0..5).await;
    let before = fixture.log.end();
    fixture.log.invalidate_cursors();
    let mut none = None;
    let shared = shared_batch(&mut none, &fixture.log, 3, before, Size::default());
    assert_eq!(shared.err(), Some(CursorLost::Replaced));
}

#[tokio::test]
async fn other_tasks_run_during_a_flush() {
    let mut fixture = fixture(Size::default());
    let sockets: Vec<Socket> = (0..10 * MEMBERS_IN_A_ROW)
        .map(|_| Socket::with_capacity(10))
        .collect();
    for socket in &sockets {
        fixture.join(socket, 0);
    }
    let runs = Arc::new(Mutex::new(0));
    let counted = runs.clone();
    let other = tokio::spawn(async move {
        loop {
            *counted.lock() += 1;
            yield_now().await;
        }
    });
    fixture.deliver(0..1).await;
    assert!(*runs.lock() >= 10, "{}", runs.lock());
    assert!(sockets.iter().all(|socket| seen(socket) == ["0"]));
    other.abort();
}

#[tokio::test(start_paused = true)]
async fn messages_between_flushes_share_one_batch() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(10);
    fixture.join(&socket, 0);
    // As if the last flush had taken long.
    let began = Instant::now() - Duration::from_millis(5);
    fixture.shard.flush_timer.flushed(fixture.log.end(), began);
    let (log, (_commands, inbox)) = (fixture.log, mpsc::unbounded_channel());
    let shard = tokio::spawn(fixture.shard.run(inbox));
    for offset in 0..4 {
        log.append_range(offset..offset + 1);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(seen(&socket).is_empty(), "before the flush");
    sleep(Duration::from_millis(4)).await;
    assert_eq!(seen(&socket), texts(0..4));
    assert_eq!(socket.given().len(), 1);
    shard.abort();
}

#[tokio::test(start_paused = true)]
async fn message_during_a_flush_reaches_all_members() {
    let fixture = fixture(Size::default());
    let sockets: Vec<Socket> = (0..3 * MEMBERS_IN_A_ROW)
        .map(|_| Socket::with_capacity(10))
        .collect();
    let (commands, inbox) = mpsc::unbounded_channel();
    for sink in &sockets {
        let (id, sink, cursor) = (MemberId::next(), sink.clone(), 0);
        commands.send(Command::Join { id, sink, cursor }).ok();
    }
    let log = fixture.log.clone();
    let shard = tokio::spawn(fixture.shard.run(inbox));
    yield_now().await;
    log.append_range(0..1);
    while seen(&sockets[0]).is_empty() {
        yield_now().await;
    }
    assert!(
        seen(&sockets[MEMBERS_IN_A_ROW]).is_empty(),
        "during the flush"
    );
    log.append_range(1..2);
    sleep(Duration::from_millis(20)).await;
    assert!(sockets.iter().all(|socket| seen(socket) == ["0", "1"]));
    shard.abort();
}

#[tokio::test(start_paused = true)]
async fn members_at_one_cursor_share_one_batch() {
    let mut fixture = fixture(Size::default());
    let sockets = [1_000, 1_000, 2, 1_000].map(Socket::with_capacity);
    for socket in &sockets {
        fixture.join(socket, 0);
    }
    fixture.deliver(0..1).await;
    fixture.deliver(1..3).await;
    fixture.deliver(3..203).await;
    let [(first, count), second, (_, few), last] =
        sockets.map(|socket| socket.given().pop().expect("given"));
    assert_eq!(count, 200);
    assert!(
        [second, last]
            .iter()
            .all(|(bytes, _)| bytes.as_ptr() == first.as_ptr())
    );
    assert!(few <= MOST_OF_STALLED.records, "{few}");
}

#[tokio::test(start_paused = true)]
async fn member_that_left_gets_nothing() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(10);
    let id = fixture.join(&socket, 0);
    fixture.shard.obey(Command::Leave(id));
    fixture.deliver(0..3).await;
    assert!(seen(&socket).is_empty());
}

#[tokio::test(start_paused = true)]
async fn notice_skips_the_excepted_sender() {
    let mut fixture = fixture(Size::default());
    let socket = Socket::with_capacity(10);
    fixture.join(&socket, 0);
    for (text, except) in [("a", None), ("b", Some("reader")), ("c", Some("other"))] {
        let packet = format!(r#"2["typing","{text}"]"#).into();
        let notice = Notice {
            packet,
            except: except.map(SenderId::from_trusted),
        };
        fixture.notices.send(notice).expect("a shard");
        let notice = fixture.shard.notices.recv().await;
        fixture.shard.notify(notice).await;
    }
    assert_eq!(seen(&socket), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn drain_notifies_members_then_closes_them_over_the_period() {
    let fixture = fixture(Size::default());
    let sockets: Vec<Socket> = (0..10).map(|_| Socket::with_capacity(10)).collect();
    let (commands, inbox) = mpsc::unbounded_channel();
    let shard = tokio::spawn(fixture.shard.run(inbox));
    for sink in &sockets {
        commands
            .send(Command::Join {
                id: MemberId::next(),
                sink: sink.clone(),
                cursor: 0,
            })
            .ok();
    }
    let (done, drained) = oneshot::channel();
    let begun = Instant::now();
    commands
        .send(Command::Drain {
            packet: r#"2["draining","x"]"#.into(),
            period: Duration::from_secs(1),
            done,
        })
        .ok();
    drained.await.expect("drained");
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "spread out, not at once: {:?}",
        begun.elapsed()
    );
    assert!(
        sockets
            .iter()
            .all(|socket| seen(socket) == ["x"] && socket.closed() == Some(CloseReason::Draining))
    );
    shard.abort();
}
