//! A shard: one task that owns some of the room's members and moves their cursors.

use std::{future, sync::Arc, time::Duration};

use indexmap::IndexMap;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    Log, Tail,
    attendance::Attendance,
    fanout::{Closing, MemberId, Push, Sink, Tell},
    message::Message,
    pace::Pace,
    window::{Size, Slice},
};
use crate::{
    frame::{Batch, Frame},
    metrics::Metrics,
};

/// What is handed to one member at once: more than comes during a pass, so that members who stand at the same place share
/// what is put together.
const TURN: Size = Size {
    records: 512,
    bytes: 256 << 10,
};
/// The same for a member that takes little at a time.
const SMALL_TURN: Size = Size {
    records: 64,
    bytes: 16 << 10,
};
/// Members served in a row. Then whatever else is ready runs: a pass over thousands takes tens of milliseconds, in which
/// the broker's news would wait at each of their steps.
const MEMBERS_IN_A_ROW: usize = 32;
/// How soon a member whose buffer was full is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often some members are closed while draining.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// What a shard is asked to do.
pub(super) enum Command<S> {
    Join {
        id: MemberId,
        sink: S,
        cursor: u64,
    },
    Leave(MemberId),
    Drain {
        packet: Frame,
        period: Duration,
        done: oneshot::Sender<()>,
    },
}

struct Member<S> {
    id: MemberId,
    sink: S,
    /// Offset of the next record to hand over.
    cursor: u64,
    generation: u64,
    /// Since when its buffer has been full, with nothing taken.
    stalled: Option<Instant>,
}

struct Drain {
    steps: Interval,
    begun: Instant,
    period: Duration,
    /// How many there were to close, and how many are closed.
    members: usize,
    closed: usize,
    done: oneshot::Sender<()>,
}

/// What the last member was given: most members stand at the same place.
struct Shared {
    cursor: u64,
    tail: Tail,
    slice: Slice,
    batch: Batch,
}

/// Some of the members, and what their cursors move along.
pub(super) struct Shard<S> {
    members: IndexMap<MemberId, Member<S>>,
    log: Log,
    shared: Option<Shared>,
    pace: Pace,
    stall: Duration,
    metrics: Arc<Metrics>,
    attendance: Attendance,
    tells: broadcast::Receiver<Tell>,
    retry_at: Option<Instant>,
    drain: Option<Drain>,
}

impl<S: Sink> Shard<S> {
    pub(super) fn new(
        log: Log,
        stall: Duration,
        metrics: Arc<Metrics>,
        attendance: Attendance,
        tells: broadcast::Receiver<Tell>,
    ) -> Self {
        Self {
            members: IndexMap::new(),
            log,
            shared: None,
            pace: Pace::new(),
            stall,
            metrics,
            attendance,
            tells,
            retry_at: None,
            drain: None,
        }
    }

    /// Runs for as long as there is a fan-out.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command<S>>) {
        let mut tail = self.log.tail.subscribe();
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Ok(()) = self.pace.due(&mut tail) => self.pass().await,
                told = self.tells.recv() => self.tell(told).await,
                () = wait_until(self.retry_at) => self.deliver(|member| member.stalled.is_some()).await,
                () = next_step(&mut self.drain) => self.close_some(),
            }
        }
    }

    fn obey(&mut self, command: Command<S>) {
        match command {
            Command::Join { id, sink, cursor } => self.join(id, sink, cursor),
            Command::Leave(id) => {
                self.members.swap_remove(&id);
            }
            Command::Drain {
                packet,
                period,
                done,
            } => self.begin_drain(&packet, period, done),
        }
    }

    fn join(&mut self, id: MemberId, sink: S, cursor: u64) {
        let generation = self.log.tail.borrow().generation;
        let mut member = Member {
            id,
            sink,
            cursor,
            generation,
            stalled: None,
        };
        if self.advance(&mut member) {
            self.members.insert(id, member);
        }
    }

    /// Brings every member up to the end of the log.
    async fn pass(&mut self) {
        let (tail, began) = (*self.log.tail.borrow(), Instant::now());
        self.deliver(|_| true).await;
        self.pace.passed(tail, began);
    }

    /// Moves the chosen members' cursors as far as their buffers take it, and closes those that cannot follow.
    async fn deliver(&mut self, chosen: impl Fn(&Member<S>) -> bool) {
        self.retry_at = None;
        let mut members = std::mem::take(&mut self.members);
        let (mut next, mut in_a_row) = (0, 0);
        while let Some((_, member)) = members.get_index_mut(next) {
            if !chosen(member) || self.advance(member) {
                next += 1;
            } else {
                members.swap_remove_index(next);
            }
            in_a_row += 1;
            if in_a_row == MEMBERS_IN_A_ROW {
                in_a_row = 0;
                yield_now().await;
            }
        }
        self.shared = None;
        if self.retry_at.is_none() && members.values().any(|member| member.stalled.is_some()) {
            self.retry_at = Some(Instant::now() + RETRY);
        }
        self.members = members;
    }

    /// Moves one cursor; false when the member is no longer one.
    fn advance(&mut self, member: &mut Member<S>) -> bool {
        loop {
            let tail = *self.log.tail.borrow();
            if member.generation != tail.generation {
                return self.close(member, Closing::Resync);
            }
            if tail.next.is_none_or(|next| member.cursor >= next) {
                member.stalled = None;
                return true;
            }
            // What is put together for one that lags behind is of no use to the others.
            let mut own = None;
            let (place, most) = match member.stalled {
                None => (&mut self.shared, TURN),
                Some(_) => (&mut own, SMALL_TURN),
            };
            let shared = match shared(place, &self.log, member.cursor, tail, most) {
                Ok(shared) => shared,
                Err(why) => return self.close(member, why),
            };
            match hand_over(member, shared) {
                Handed::All(count) => self.metrics.delivered(count),
                Handed::Some(count) => {
                    self.metrics.delivered(count);
                    return self.wait_for(member, count > 0);
                }
                Handed::Gone => return false,
            }
        }
    }

    fn wait_for(&mut self, member: &mut Member<S>, progress: bool) -> bool {
        let now = Instant::now();
        let since = if progress {
            now
        } else {
            member.stalled.unwrap_or(now)
        };
        member.stalled = Some(since);
        self.retry_at = Some(now + RETRY);
        now.duration_since(since) < self.stall || self.close(member, Closing::SlowReader)
    }

    fn close(&self, member: &Member<S>, why: Closing) -> bool {
        self.metrics.closed(why);
        member.sink.close(why);
        self.attendance.leave(member.id);
        false
    }

    async fn tell(&self, told: Result<Tell, broadcast::error::RecvError>) {
        // Lagging means that signals were lost, which they may be.
        let Ok(Tell { packet, except }) = told else {
            return;
        };
        let hears = |member: &&Member<S>| {
            member.stalled.is_none() && except.as_ref().is_none_or(|one| !member.sink.is(one))
        };
        for (told, member) in self.members.values().filter(hears).enumerate() {
            member.sink.push(&packet);
            if told % MEMBERS_IN_A_ROW == MEMBERS_IN_A_ROW - 1 {
                yield_now().await;
            }
        }
    }

    fn begin_drain(&mut self, packet: &Frame, period: Duration, done: oneshot::Sender<()>) {
        for member in self.members.values() {
            member.sink.push(packet);
        }
        let begun = Instant::now();
        let mut steps = interval_at(begun + DRAIN_STEP, DRAIN_STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let members = self.members.len();
        self.drain = Some(Drain {
            steps,
            begun,
            period,
            members,
            closed: 0,
            done,
        });
    }

    /// Closes as many as are due; the last one when the period ends, so that each has had its chance to leave by itself.
    fn close_some(&mut self) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let passed = drain.begun.elapsed();
        let due = if passed >= drain.period {
            self.members.len()
        } else {
            let share =
                drain.members as u128 * passed.as_millis() / drain.period.as_millis().max(1);
            usize::try_from(share)
                .unwrap_or(usize::MAX)
                .saturating_sub(drain.closed)
        };
        let leaving: Vec<MemberId> = self.members.keys().take(due).copied().collect();
        drain.closed += leaving.len();
        for id in leaving {
            if let Some(member) = self.members.swap_remove(&id) {
                self.close(&member, Closing::Draining);
            }
        }
        if self.members.is_empty() {
            // The one who asked may have stopped waiting.
            let _ = drain.done.send(());
        } else {
            self.drain = Some(drain);
        }
    }
}

enum Handed {
    All(u64),
    Some(u64),
    Gone,
}

/// The messages from a cursor on, or why there are none: the window has left them behind, or is of another log by now.
fn shared<'a>(
    shared: &'a mut Option<Shared>,
    log: &Log,
    cursor: u64,
    tail: Tail,
    most: Size,
) -> Result<&'a Shared, Closing> {
    let current = |shared: &Shared| (shared.cursor, shared.tail) == (cursor, tail);
    if !shared.as_ref().is_some_and(current) {
        let window = log.window.read();
        if log.tail.borrow().generation != tail.generation {
            return Err(Closing::Resync);
        }
        *shared = window
            .as_ref()
            .and_then(|window| window.after(cursor, most))
            .map(|slice| Shared {
                cursor,
                tail,
                batch: Batch::new(slice.messages.iter().map(Message::frame)),
                slice,
            });
    }
    shared.as_ref().ok_or(Closing::SlowReader)
}

/// Gives a member the messages of a slice that begins at its cursor, as far as they fit.
fn hand_over<S: Sink>(member: &mut Member<S>, Shared { slice, batch, .. }: &Shared) -> Handed {
    if slice.messages.is_empty() {
        member.cursor = slice.next;
        return Handed::All(0);
    }
    let (taken, push) = member.sink.push_all(batch);
    let count = taken as u64;
    match (push, slice.messages.get(taken)) {
        (Push::Gone, _) => Handed::Gone,
        (Push::Full, Some(next)) => {
            member.cursor = next.offset();
            Handed::Some(count)
        }
        (Push::Full, None) => {
            member.cursor = slice.next;
            Handed::Some(count)
        }
        (Push::Taken, _) => {
            member.cursor = slice.next;
            Handed::All(count)
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

async fn next_step(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => {
            drain.steps.tick().await;
        }
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use papo_protocol::{Record, SenderId};
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use tokio::{
        sync::watch,
        time::{advance, sleep},
    };

    use super::*;
    use crate::{
        broker::Stored,
        room::{push_each, window::Window},
    };

    const STALL: Duration = Duration::from_secs(5);

    /// A socket with a buffer of its own, as the engine's have, and a reader that may pause.
    #[derive(Clone, Default)]
    struct Socket(Arc<Mutex<Buffer>>);

    #[derive(Default)]
    struct Buffer {
        room: usize,
        /// What it was given: the bytes, and how many messages.
        given: Vec<(Bytes, usize)>,
        waiting: VecDeque<Frame>,
        seen: Vec<String>,
        closed: Option<Closing>,
    }

    impl Socket {
        fn with_room(room: usize) -> Self {
            let socket = Self::default();
            socket.0.lock().room = room;
            socket
        }

        fn read(&self) {
            let mut buffer = self.0.lock();
            let Buffer { waiting, seen, .. } = &mut *buffer;
            seen.extend(
                waiting
                    .drain(..)
                    .map(|frame: Frame| frame.packet().to_owned()),
            );
        }

        /// The texts it has been sent.
        fn seen(&self) -> Vec<String> {
            self.read();
            let texts = self.0.lock().seen.clone();
            texts
                .iter()
                .map(|packet| packet.split('"').nth(3).unwrap_or_default().to_owned())
                .collect()
        }

        fn closed(&self) -> Option<Closing> {
            self.0.lock().closed
        }
    }

    impl Sink for Socket {
        fn push(&self, packet: &Frame) -> Push {
            let mut buffer = self.0.lock();
            if buffer.waiting.len() >= buffer.room {
                return Push::Full;
            }
            buffer.waiting.push_back(packet.clone());
            Push::Taken
        }

        fn push_all(&self, batch: &Batch) -> (usize, Push) {
            let given = (batch.joined().clone(), batch.frames().len());
            self.0.lock().given.push(given);
            push_each(batch, |frame| self.push(frame))
        }

        fn close(&self, why: Closing) {
            self.0.lock().closed = Some(why);
        }

        fn is(&self, sender: &SenderId) -> bool {
            sender.as_str() == "reader"
        }
    }

    struct Room {
        shard: Shard<Socket>,
        log: Log,
        tells: broadcast::Sender<Tell>,
    }

    fn room(size: Size) -> Room {
        let window = Window::new("e1".parse().expect("valid"), &(0..0), 0, size);
        let log = Log {
            window: Arc::new(Some(window).into()),
            tail: watch::Sender::new(Tail {
                generation: 1,
                next: Some(0),
                asleep: false,
            }),
        };
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let tells = broadcast::Sender::new(8);
        let shard = Shard::new(
            log.clone(),
            STALL,
            metrics,
            Attendance::new(),
            tells.subscribe(),
        );
        Room { shard, log, tells }
    }

    impl Log {
        fn append(&self, offsets: std::ops::Range<u64>) {
            for offset in offsets {
                let record = Record {
                    id: format!("m{offset}").parse().expect("valid"),
                    sender: SenderId::from_trusted("s"),
                    user: "Ana".parse().expect("valid"),
                    text: offset.to_string(),
                    at: 0,
                };
                let stored = Stored {
                    offset,
                    record: Some(Arc::new(record)),
                    trace: None,
                };
                let mut window = self.window.write();
                let window = window.as_mut().expect("there");
                window.push(&stored);
                let next = Some(window.next());
                self.tail.send_modify(|tail| tail.next = next);
            }
        }
    }

    impl Room {
        async fn say(&mut self, offsets: std::ops::Range<u64>) {
            self.log.append(offsets);
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
            self.shard.deliver(|member| member.stalled.is_some()).await;
        }
    }

    fn texts(offsets: std::ops::Range<u64>) -> Vec<String> {
        offsets.map(|offset| offset.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_gets_everything_from_its_cursor_on() {
        let mut room = room(Size::default());
        room.say(0..5).await;
        let socket = Socket::with_room(1000);
        room.join(&socket, 3);
        room.say(5..200).await;
        assert_eq!(socket.seen(), texts(3..200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_everything_in_order_however_small_its_buffer() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(3);
        room.join(&socket, 0);
        room.say(0..50).await;
        for _ in 0..50 {
            socket.read();
            room.retry().await;
        }
        assert_eq!((socket.seen(), socket.closed()), (texts(0..50), None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_nothing_is_closed_in_time_and_others_feel_nothing() {
        let mut room = room(Size::default());
        let (stalled, lively) = (Socket::with_room(2), Socket::with_room(1000));
        room.join(&stalled, 0);
        room.join(&lively, 0);
        room.say(0..10).await;
        assert_eq!(lively.seen(), texts(0..10));
        advance(STALL / 2).await;
        room.retry().await;
        assert_eq!(stalled.closed(), None);
        advance(STALL).await;
        room.retry().await;
        assert_eq!(stalled.closed(), Some(Closing::SlowReader));
        assert_eq!(room.shard.members.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_a_little_is_enough_to_stay() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(1);
        room.join(&socket, 0);
        room.say(0..10).await;
        for _ in 0..10 {
            advance(STALL * 9 / 10).await;
            socket.read();
            room.retry().await;
        }
        assert_eq!((socket.seen(), socket.closed()), (texts(0..10), None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_the_window_has_left_behind_is_closed_not_skipped() {
        let mut room = room(Size {
            records: 10,
            bytes: usize::MAX,
        });
        let socket = Socket::with_room(2);
        room.join(&socket, 0);
        room.say(0..5).await;
        room.say(5..30).await;
        socket.read();
        room.retry().await;
        assert_eq!(
            (socket.seen(), socket.closed()),
            (texts(0..2), Some(Closing::SlowReader))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_begun_anew_sends_everybody_to_resume() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(10);
        room.join(&socket, 0);
        room.log.tail.send_modify(|tail| tail.generation += 1);
        room.shard.deliver(|_| true).await;
        assert_eq!(socket.closed(), Some(Closing::Resync));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cursor_never_meets_the_window_of_another_log() {
        let mut room = room(Size::default());
        room.say(0..5).await;
        let before = *room.log.tail.borrow();
        room.log.tail.send_modify(|tail| tail.generation += 1);
        let mut none = None;
        let shared = shared(&mut none, &room.log, 3, before, TURN);
        assert_eq!(shared.err(), Some(Closing::Resync));
    }

    #[tokio::test]
    async fn others_have_their_turn_during_a_pass() {
        let mut room = room(Size::default());
        let sockets: Vec<Socket> = (0..10 * MEMBERS_IN_A_ROW)
            .map(|_| Socket::with_room(10))
            .collect();
        for socket in &sockets {
            room.join(socket, 0);
        }
        let turns = Arc::new(Mutex::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                *counted.lock() += 1;
                yield_now().await;
            }
        });
        room.say(0..1).await;
        assert!(*turns.lock() >= 10, "{}", turns.lock());
        assert!(sockets.iter().all(|socket| socket.seen() == ["0"]));
        other.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_a_shard_rests_shares_one_pass() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(10);
        room.join(&socket, 0);
        // As if the last pass had taken long.
        let began = Instant::now() - Duration::from_millis(5);
        room.shard.pace.passed(*room.log.tail.borrow(), began);
        let (log, (_commands, inbox)) = (room.log, mpsc::unbounded_channel());
        let shard = tokio::spawn(room.shard.run(inbox));
        for offset in 0..4 {
            log.append(offset..offset + 1);
            sleep(Duration::from_millis(1)).await;
        }
        assert!(socket.seen().is_empty(), "it rests");
        sleep(Duration::from_millis(2)).await;
        assert_eq!(socket.seen(), texts(0..4));
        assert_eq!(socket.0.lock().given.len(), 1);
        shard.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_during_a_pass_reaches_all_in_the_next_one() {
        let room = room(Size::default());
        let sockets: Vec<Socket> = (0..3 * MEMBERS_IN_A_ROW)
            .map(|_| Socket::with_room(10))
            .collect();
        let (commands, inbox) = mpsc::unbounded_channel();
        for sink in &sockets {
            let (id, sink, cursor) = (MemberId::next(), sink.clone(), 0);
            commands.send(Command::Join { id, sink, cursor }).ok();
        }
        let log = room.log.clone();
        let shard = tokio::spawn(room.shard.run(inbox));
        yield_now().await;
        log.append(0..1);
        while sockets[0].seen().is_empty() {
            yield_now().await;
        }
        assert!(
            sockets[MEMBERS_IN_A_ROW].seen().is_empty(),
            "a pass is under way"
        );
        log.append(1..2);
        sleep(Duration::from_millis(20)).await;
        assert!(sockets.iter().all(|socket| socket.seen() == ["0", "1"]));
        shard.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn members_share_what_is_put_together_whoever_lags_behind_among_them() {
        let mut room = room(Size::default());
        let sockets = [1_000, 1_000, 2, 1_000].map(Socket::with_room);
        for socket in &sockets {
            room.join(socket, 0);
        }
        room.say(0..1).await;
        room.say(1..3).await;
        room.say(3..203).await;
        let [(first, count), second, (_, few), last] =
            sockets.map(|socket| socket.0.lock().given.pop().expect("given"));
        assert_eq!(count, 200);
        assert!(
            [second, last]
                .iter()
                .all(|(bytes, _)| bytes.as_ptr() == first.as_ptr())
        );
        assert!(few <= SMALL_TURN.records, "{few}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_left_gets_nothing_more() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(10);
        let id = room.join(&socket, 0);
        room.shard.obey(Command::Leave(id));
        room.say(0..3).await;
        assert!(socket.seen().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn signals_reach_all_but_the_one_they_are_about() {
        let mut room = room(Size::default());
        let socket = Socket::with_room(10);
        room.join(&socket, 0);
        for (text, except) in [("a", None), ("b", Some("reader")), ("c", Some("other"))] {
            let packet = format!(r#"2["typing","{text}"]"#).into();
            let told = Tell {
                packet,
                except: except.map(SenderId::from_trusted),
            };
            room.tells.send(told).expect("heard");
            let told = room.shard.tells.recv().await;
            room.shard.tell(told).await;
        }
        assert_eq!(socket.seen(), ["a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_tells_all_first_and_closes_them_over_the_period() {
        let room = room(Size::default());
        let sockets: Vec<Socket> = (0..10).map(|_| Socket::with_room(10)).collect();
        let (commands, inbox) = mpsc::unbounded_channel();
        let shard = tokio::spawn(room.shard.run(inbox));
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
        drained.await.expect("told when done");
        assert!(
            begun.elapsed() >= Duration::from_millis(400),
            "spread out, not at once: {:?}",
            begun.elapsed()
        );
        assert!(
            sockets
                .iter()
                .all(|socket| socket.seen() == ["x"] && socket.closed() == Some(Closing::Draining))
        );
        shard.abort();
    }
}
