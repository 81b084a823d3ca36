//! Reading the past: what a member gets when it comes or comes back, and pages further back.

use std::{ops::Range, time::Duration};

use papo_protocol::{Epoch, event::Code, topology::DEDUP_WINDOW};
use tokio::time::timeout;

use super::{
    Room,
    fanout::{Push, Sink},
    message::Message,
    window::{self, Size},
};
use crate::{
    broker::{Broker, ReadError},
    chat::{Refusal, Resume},
};

/// Most missed messages in the first `history`; what is missing beyond follows as `message`s.
const MOST_RECOVERED: usize = 1_000;
/// How long one who comes may wait for the log to be found, and to be read to its end if nobody needed it lately.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for an offset that another server has already shown and this one has not read yet.
const BEHIND_ANOTHER: Duration = Duration::from_secs(2);
/// How often a full buffer is tried again while catching up.
const RETRY: Duration = Duration::from_millis(20);

/// What a member gets first, and where its cursor stands after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The log.
    pub epoch: Epoch,
    /// In order.
    pub page: Page,
    /// These are exactly the messages it has missed, or the first of them.
    pub recovered: bool,
    /// Offsets that were missed and are not among the messages, because the log no longer has them.
    pub gap: Option<(u64, u64)>,
    /// Everything before this was sent.
    pub cursor: u64,
}

/// Some messages in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub messages: Vec<Message>,
    /// There are older ones.
    pub more: bool,
}

/// What a range of the log shows.
struct Shown {
    messages: Vec<Message>,
    /// Its beginning is still retained.
    whole: bool,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// What a member gets first: what it has missed, if it says truly what it saw last, or else the newest page. Whoever
    /// asks holds a [`Claim`](super::Claim).
    pub async fn open(&self, resume: Option<&Resume>) -> Result<Opening, Refusal> {
        self.wait_for_log().await?;
        if let Some(resume) = resume
            && self.reaches(resume).await
        {
            return self.recover(resume.offset + 1).await;
        }
        self.newest_page(None).await
    }

    async fn wait_for_log(&self) -> Result<(), Refusal> {
        let mut tail = self.log.tail.subscribe();
        let awake = tail.wait_for(|tail| tail.next.is_some() && !tail.asleep);
        let in_time = timeout(PATIENCE, awake).await.is_ok();
        // Without the broker, what is in memory is better than nothing: the rest follows when the broker is back.
        if in_time || self.log.tail.borrow().next.is_some() {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Unavailable,
            "the room's log cannot be reached yet; try again",
        ))
    }

    /// Is this a position in the current log? One just beyond the end is given a moment: another server may be ahead.
    async fn reaches(&self, resume: &Resume) -> bool {
        let same_log = |room: &Self| {
            room.log
                .window
                .read()
                .as_ref()
                .is_some_and(|window| *window.epoch() == resume.epoch)
        };
        let mut tail = self.log.tail.subscribe();
        let beyond = |next: Option<u64>| next.is_none_or(|next| resume.offset >= next);
        same_log(self)
            && timeout(BEHIND_ANOTHER, tail.wait_for(|tail| !beyond(tail.next)))
                .await
                .is_ok()
            && same_log(self)
    }

    async fn recover(&self, from: u64) -> Result<Opening, Refusal> {
        let in_memory = {
            let window = self.log.window.read();
            window.as_ref().map(|window| {
                (
                    window.epoch().clone(),
                    window.first(),
                    window.after(from, Size::records(MOST_RECOVERED)),
                )
            })
        };
        match in_memory {
            None => Err(unreadable(&ReadError::Unavailable(
                "the log is being looked for".to_owned(),
            ))),
            Some((epoch, _, Some(slice))) => Ok(recovered(epoch, slice.messages, slice.next)),
            Some((epoch, first, None)) => match self.read_shown(&epoch, from..first).await? {
                Shown {
                    mut messages,
                    whole: true,
                } => {
                    let cursor = messages.get(MOST_RECOVERED).map_or(first, Message::offset);
                    messages.truncate(MOST_RECOVERED);
                    Ok(recovered(epoch, messages, cursor))
                }
                Shown { whole: false, .. } => self.newest_page(Some(from)).await,
            },
        }
    }

    /// The newest page; for one who has missed everything since `missed_from`, with the gap named.
    async fn newest_page(&self, missed_from: Option<u64>) -> Result<Opening, Refusal> {
        // The cursor is taken first: what comes while the page is read follows it, and is in no page.
        let (epoch, cursor) = self.place()?;
        let page = self.page(cursor, self.page).await?;
        let first = page.messages.first().map_or(cursor, Message::offset);
        let gap = missed_from
            .filter(|from| *from < first)
            .map(|from| (from, first - 1));
        Ok(Opening {
            epoch,
            page,
            recovered: false,
            gap,
            cursor,
        })
    }

    fn place(&self) -> Result<(Epoch, u64), Refusal> {
        let window = self.log.window.read();
        let place = window
            .as_ref()
            .map(|window| (window.epoch().clone(), window.next()));
        place.ok_or_else(|| {
            unreadable(&ReadError::Unavailable(
                "the log is being looked for".to_owned(),
            ))
        })
    }

    /// The last `most` messages before an offset.
    pub async fn page(&self, before: u64, most: usize) -> Result<Page, Refusal> {
        let (epoch, head, first, (mut messages, exhausted)) = {
            let window = self.log.window.read();
            let window = window.as_ref().ok_or_else(|| {
                unreadable(&ReadError::Unavailable(
                    "the log is being looked for".to_owned(),
                ))
            })?;
            (
                window.epoch().clone(),
                window.head(),
                window.first(),
                window.before(before, most),
            )
        };
        if exhausted && first > head {
            let mut older = self
                .page_from_broker(&epoch, head..first.min(before), most - messages.len())
                .await?;
            older.messages.append(&mut messages);
            return Ok(older);
        }
        let more = messages
            .first()
            .is_some_and(|message| message.offset() > head);
        Ok(Page { messages, more })
    }

    /// The last `most` messages of a range that is no longer in memory.
    async fn page_from_broker(
        &self,
        epoch: &Epoch,
        range: Range<u64>,
        most: usize,
    ) -> Result<Page, Refusal> {
        let mut span = most as u64;
        loop {
            let start = range.end.saturating_sub(span).max(range.start);
            let reaches_head = start == range.start;
            let Shown { messages, whole } = self.read_shown(epoch, start..range.end).await?;
            // When retention has come this far, what is left of the range is all there is.
            let all = reaches_head || !whole;
            if messages.len() >= most || all {
                let dropped = messages.len().saturating_sub(most);
                return Ok(Page {
                    messages: messages[dropped..].to_vec(),
                    more: dropped > 0 || !all,
                });
            }
            span *= 2;
        }
    }

    /// What a range of the log shows, read back from the broker.
    async fn read_shown(&self, epoch: &Epoch, range: Range<u64>) -> Result<Shown, Refusal> {
        if range.is_empty() {
            return Ok(Shown {
                messages: Vec::new(),
                whole: true,
            });
        }
        let _permit = self.deep_reads.acquire().await;
        let warm_up = range.start.saturating_sub(DEDUP_WINDOW);
        let records = self
            .broker
            .read(epoch, warm_up..range.end)
            .await
            .map_err(|error| unreadable(&error))?;
        let whole = records
            .first()
            .is_some_and(|stored| stored.offset <= range.start);
        Ok(Shown {
            messages: window::shown(&records, &range),
            whole,
        })
    }

    /// Brings a member whose cursor is before the window up to it, at the member's pace. Returns where its cursor stands,
    /// or `None` when the member is gone, or has to begin anew.
    pub async fn catch_up(
        &self,
        epoch: &Epoch,
        mut cursor: u64,
        sink: &S,
        stall: Duration,
    ) -> Option<u64> {
        loop {
            let first = self
                .log
                .window
                .read()
                .as_ref()
                .filter(|window| window.epoch() == epoch)?
                .first();
            if cursor >= first {
                return Some(cursor);
            }
            let end = first.min(cursor + DEDUP_WINDOW);
            let Shown { messages, whole } = self.read_shown(epoch, cursor..end).await.ok()?;
            if !whole {
                return None;
            }
            for message in messages {
                push_in_time(sink, &message, stall).await?;
            }
            cursor = end;
        }
    }
}

async fn push_in_time<S: Sink>(sink: &S, message: &Message, stall: Duration) -> Option<()> {
    let pushed = async {
        loop {
            match sink.push(message.frame()) {
                Push::Taken => return Some(()),
                Push::Gone => return None,
                Push::Full => tokio::time::sleep(RETRY).await,
            }
        }
    };
    timeout(stall, pushed).await.ok().flatten()
}

fn recovered(epoch: Epoch, messages: Vec<Message>, cursor: u64) -> Opening {
    Opening {
        epoch,
        page: Page {
            messages,
            more: true,
        },
        recovered: true,
        gap: None,
        cursor,
    }
}

fn unreadable(error: &ReadError) -> Refusal {
    Refusal::new(
        Code::Unavailable,
        format!("the past cannot be read now: {error}; try again"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use papo_protocol::{Launch, Record, SenderId};
    use papo_telemetry::Readiness;
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::frame::Frame;
    use crate::{
        broker::local::Local,
        metrics::Metrics,
        parts::Parts,
        room::{Closing, Tail},
    };

    /// More than a window holds.
    const LONG: u64 = 30_000;

    /// Counts the packets it is given.
    #[derive(Clone, Default)]
    struct Reader(Arc<Mutex<Vec<Frame>>>);

    impl Sink for Reader {
        fn push(&self, packet: &Frame) -> Push {
            self.0.lock().push(packet.clone());
            Push::Taken
        }
        fn close(&self, _: Closing) {}
        fn is(&self, _: &SenderId) -> bool {
            false
        }
    }

    struct Fixture {
        room: Arc<Room<Local, Reader>>,
        broker: Local,
        _parts: Parts,
    }

    /// A room in whose log there are this many messages already.
    async fn room_with(messages: u64, retention: u64) -> Fixture {
        let broker = Local::new(retention);
        store(&broker, 0..messages).await;
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let mut parts = Parts::new(CancellationToken::new());
        let launch = Launch::default();
        let room = Room::start(
            broker.clone(),
            &launch,
            &Readiness::default(),
            metrics,
            &mut parts,
        );
        let fixture = Fixture {
            room,
            broker,
            _parts: parts,
        };
        fixture.read_to(messages).await;
        fixture
    }

    /// Messages that come by way of another server.
    async fn store(broker: &Local, numbers: Range<u64>) {
        for number in numbers {
            let record = Record {
                id: format!("m{number}").parse().expect("valid"),
                sender: SenderId::from_trusted("s"),
                user: "Ana".parse().expect("valid"),
                text: number.to_string(),
                at: 0,
            };
            broker
                .publish(Arc::new(record), None)
                .await
                .expect("stored");
        }
    }

    impl Fixture {
        /// Waits until the log is not read any more, as nobody is here.
        async fn fall_asleep(&self) {
            self.wait_for(|tail| tail.asleep).await;
        }

        /// Nothing that takes longer than this on the paused clock happens at all.
        async fn wait_for(&self, state: impl FnMut(&Tail) -> bool) {
            let mut tail = self.room.log.tail.subscribe();
            tokio::time::timeout(Duration::from_hours(1), tail.wait_for(state))
                .await
                .expect("in time")
                .expect("followed");
        }

        async fn read_to(&self, next: u64) {
            self.wait_for(|tail| tail.next == Some(next)).await;
        }

        fn read_up_to(&self) -> Option<u64> {
            self.room.log.tail.borrow().next
        }

        async fn resume(&self, offset: u64) -> Opening {
            let (epoch, _) = self.room.place().expect("found");
            let opening = self.room.open(Some(&Resume { epoch, offset })).await;
            opening.expect("opened")
        }
    }

    fn offsets(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(Message::offset).collect()
    }

    #[tokio::test]
    async fn whoever_missed_a_little_gets_exactly_that() {
        let fixture = room_with(300, u64::MAX).await;
        let opening = fixture.resume(99).await;
        assert_eq!(
            offsets(&opening.page.messages),
            (100..300).collect::<Vec<_>>()
        );
        assert_eq!(
            (opening.recovered, opening.gap, opening.cursor),
            (true, None, 300)
        );
    }

    #[tokio::test]
    async fn whoever_missed_more_than_is_in_memory_gets_it_all_from_the_broker() {
        let fixture = room_with(LONG, u64::MAX).await;
        let opening = fixture.resume(9).await;
        let mut seen = offsets(&opening.page.messages);
        assert_eq!((opening.recovered, seen.len()), (true, MOST_RECOVERED));
        let reader = Reader::default();
        let patience = Duration::from_secs(10);
        let cursor = fixture
            .room
            .catch_up(&opening.epoch, opening.cursor, &reader, patience)
            .await
            .expect("caught up");
        let packets = reader.0.lock().clone();
        let offset = |packet: &Frame| {
            packet
                .packet()
                .split("\"offset\":")
                .nth(1)
                .and_then(|rest| rest.split(',').next()?.parse::<u64>().ok())
        };
        seen.extend(packets.iter().filter_map(offset));
        assert_eq!(seen, (10..cursor).collect::<Vec<_>>());
        let window = fixture.room.log.window.read();
        assert!(
            window
                .as_ref()
                .is_some_and(|window| cursor >= window.first())
        );
    }

    #[tokio::test]
    async fn what_retention_has_removed_is_a_gap_with_bounds() {
        let fixture = room_with(LONG, 1_000_000).await;
        let opening = fixture.resume(9).await;
        let shown = offsets(&opening.page.messages);
        assert_eq!((opening.recovered, shown.len()), (false, 50));
        assert_eq!(opening.gap, Some((10, shown[0] - 1)));
        assert_eq!(opening.cursor, LONG);
    }

    #[tokio::test]
    async fn scrolling_back_reaches_the_beginning_of_the_log() {
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
    async fn where_nobody_is_nothing_is_read_and_whoever_comes_misses_nothing() {
        let fixture = room_with(10, u64::MAX).await;
        let member = fixture.room.claim();
        tokio::time::sleep(Duration::from_hours(1)).await;
        store(&fixture.broker, 10..20).await;
        fixture.read_to(20).await;
        drop(member);
        fixture.fall_asleep().await;
        store(&fixture.broker, 20..30).await;
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(fixture.read_up_to(), Some(20));
        let _member = fixture.room.claim();
        let opening = fixture.resume(15).await;
        assert_eq!(
            offsets(&opening.page.messages),
            (16..30).collect::<Vec<_>>()
        );
        assert_eq!((opening.recovered, opening.cursor), (true, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_slept_through_more_than_a_window_begins_near_the_end() {
        let fixture = room_with(10, u64::MAX).await;
        fixture.fall_asleep().await;
        let end = 10 + 2 * window::Window::WARM_UP;
        store(&fixture.broker, 10..end).await;
        let _member = fixture.room.claim();
        let opening = fixture.resume(end - 5).await;
        assert_eq!(
            offsets(&opening.page.messages),
            (end - 4..end).collect::<Vec<_>>()
        );
        let generation = fixture.room.log.tail.borrow().generation;
        assert_eq!(generation, 2, "all of it was read");
    }

    #[tokio::test(start_paused = true)]
    async fn an_offset_that_nobody_can_have_seen_means_the_newest_page() {
        let fixture = room_with(100, u64::MAX).await;
        for offset in [100, 1_000_000, u64::MAX] {
            let opening = fixture.resume(offset).await;
            assert_eq!((opening.recovered, opening.gap), (false, None), "{offset}");
        }
    }
}
