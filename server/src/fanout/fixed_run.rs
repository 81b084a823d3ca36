//! A fixed run of the fan-out, which does the same work on every machine: one shard, sockets that take everything, and time
//! paused. `tests/bench/instructions/run` counts its instructions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use papo_protocol::SenderId;
use prometheus_client::registry::Registry;
use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};

use super::{
    deliver::Delivery,
    shard::{Command, Shard},
    *,
};
use papo_engineio::{Batch, Push};

use crate::log::{Size, testing};

const MEMBERS: usize = 100;
/// Messages that the shard finds when it wakes: one, few, and many.
const BURSTS: [u64; 4] = [1, 1, 4, 32];
/// Longer than messages gather, so that a burst is one flush.
const BETWEEN_BURSTS: Duration = Duration::from_millis(50);
const TEXT: &str = "Obrigada! Levo o bolo de fubá, e chego uns dez minutos depois.";

/// Counts the messages it takes.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Sink for Counter {
    fn push(&self, frame: &Frame) -> Push {
        std::hint::black_box(frame.bytes().clone());
        self.0.fetch_add(1, Ordering::Relaxed);
        Push::Taken
    }

    fn push_all(&self, batch: &Batch) -> (usize, Push) {
        std::hint::black_box(batch.joined().clone());
        let taken = batch.frames().len();
        self.0.fetch_add(taken as u64, Ordering::Relaxed);
        (taken, Push::Taken)
    }

    fn close(&self, _reason: CloseReason) {}

    fn is_sender(&self, _sender: &SenderId) -> bool {
        false
    }
}

#[test]
fn every_member_gets_every_message() {
    let rounds = std::env::var("PAPO_ROUNDS").map_or(2, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let counters = runtime.expect("a runtime").block_on(run(rounds));
    let messages = rounds * BURSTS.iter().sum::<u64>();
    for counter in counters {
        assert_eq!(counter.0.load(Ordering::Relaxed), messages);
    }
}

async fn run(rounds: u64) -> Vec<Counter> {
    let log = testing::log(&(0..0), 0, Size::default());
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let on_close: OnClose = Arc::new(|_| {});
    let delivery = Delivery::new(log.clone(), Duration::from_secs(30), metrics, on_close);
    let notices = broadcast::Sender::new(1);
    let (commands, inbox) = mpsc::unbounded_channel();
    let shard = tokio::spawn(Shard::new(delivery, notices.subscribe()).run(inbox));
    let counters: Vec<Counter> = (0..MEMBERS).map(|_| Counter::default()).collect();
    for sink in &counters {
        let (id, sink, cursor) = (MemberId::next(), sink.clone(), 0);
        commands.send(Command::Join { id, sink, cursor }).ok();
    }
    sleep(BETWEEN_BURSTS).await;
    let mut next = 0;
    for _ in 0..rounds {
        for burst in BURSTS {
            let records: Vec<_> = (next..next + burst)
                .map(|offset| testing::stored(offset, offset, TEXT))
                .collect();
            log.append(&records);
            next += burst;
            sleep(BETWEEN_BURSTS).await;
        }
    }
    shard.abort();
    counters
}
