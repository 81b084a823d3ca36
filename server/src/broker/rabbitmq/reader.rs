//! Reading the stream: from an offset on, in batches, every record or an error.

use std::{ops::Range, sync::Arc};

use futures::{FutureExt, StreamExt};
use lapin::{
    Acker, Channel, Consumer, message::Delivery, options::BasicAckOptions, types::AMQPValue,
};
use papo_protocol::{Epoch, topology};

use super::{
    codec,
    topology::{Topology, close, in_time},
};
use crate::broker::{Attached, ReadError, Reader, Start, Stored};

/// Deliveries that may be under way without being acknowledged: what keeps the broker from sending all at once.
const PREFETCH: u16 = 2_000;
/// Part of them after which all are acknowledged at once. To a stream an acknowledgement only says that more may come, so
/// that one for each message would be work for nothing.
const ACKNOWLEDGED_AT_ONCE: u16 = 4;
/// Most records in one batch.
const BATCH: usize = 500;

/// How often the end of the log is looked for before an offset is believed to be beyond it.
const LOOKS: u32 = 3;

/// Finds the reader's place, and begins to read there.
pub(super) async fn attach(
    topology: &Arc<Topology>,
    start: Start,
) -> Result<Attached<StreamReader>, ReadError> {
    let epoch = topology.current_epoch().await?;
    if let Start::At(asked, _) = &start
        && *asked != epoch
    {
        return Err(ReadError::EpochChanged { current: epoch });
    }
    let (bounds, from) = match start {
        Start::BeforeEnd(records) => {
            let bounds = topology.bounds(&epoch).await?;
            let from = bounds.end.saturating_sub(records).max(bounds.start);
            (bounds, from)
        }
        Start::At(_, offset) => {
            let bounds = bounds_reaching(topology, &epoch, offset).await?;
            let from = offset.max(bounds.start);
            (bounds, from)
        }
    };
    let reader = StreamReader::begin(topology, &epoch, from, PREFETCH).await?;
    Ok(Attached {
        epoch,
        bounds,
        from,
        reader,
    })
}

async fn bounds_reaching(
    topology: &Topology,
    epoch: &Epoch,
    offset: u64,
) -> Result<Range<u64>, ReadError> {
    let mut end = 0;
    for _ in 0..LOOKS {
        let bounds = topology.bounds(epoch).await?;
        if offset <= bounds.end {
            return Ok(bounds);
        }
        end = bounds.end;
    }
    Err(ReadError::BeyondEnd { end })
}

/// Reads what is retained of a range.
pub(super) async fn read(
    topology: &Arc<Topology>,
    epoch: &Epoch,
    offsets: Range<u64>,
) -> Result<Vec<Stored>, ReadError> {
    let head = topology
        .head_of(&topology::log(&topology.room, epoch))
        .await?;
    let from = offsets.start.max(head.unwrap_or(0));
    if from >= offsets.end {
        return Ok(Vec::new());
    }
    let prefetch = u16::try_from(offsets.end - from)
        .unwrap_or(PREFETCH)
        .min(PREFETCH);
    let mut reader = StreamReader::begin(topology, epoch, from, prefetch).await?;
    let mut records = Vec::new();
    while reader.due < offsets.end {
        match in_time(reader.next()).await {
            Ok(batch) => records.append(&mut batch?),
            // Nothing comes when the log ends before the range does.
            Err(late) if reader.due < topology.bounds(epoch).await?.end => return Err(late),
            Err(_) => break,
        }
    }
    close(&reader.channel).await;
    records.retain(|stored| stored.offset < offsets.end);
    Ok(records)
}

/// A consumer of the stream on a channel of its own.
///
/// Offsets may jump: RabbitMQ keeps entries of its own in a stream (a snapshot of its writers at the beginning of each
/// segment) that take an offset and are not delivered. A jump is a hole only if retention has come as far as it.
#[derive(Debug)]
pub struct StreamReader {
    topology: Arc<Topology>,
    stream: String,
    channel: Channel,
    consumer: Consumer,
    /// The least offset that may come next.
    due: u64,
    /// Taken from the consumer and not handed over yet: kept here so that nothing is lost when waiting is given up.
    batch: Vec<Stored>,
    /// An offset that was due and did not come, while it is not known why.
    missing: Option<u64>,
    /// The latest delivery, and how many are not acknowledged, with it.
    latest: Option<Acker>,
    unacknowledged: u16,
    /// How many of them are acknowledged at once.
    most_unacknowledged: u16,
}

impl StreamReader {
    async fn begin(
        topology: &Arc<Topology>,
        epoch: &Epoch,
        from: u64,
        prefetch: u16,
    ) -> Result<Self, ReadError> {
        let channel = topology.channel().await?;
        let stream = topology::log(&topology.room, epoch);
        let offset = AMQPValue::LongLongInt(i64::try_from(from).unwrap_or(i64::MAX));
        let consumer = topology
            .consume(&channel, &stream, offset, prefetch)
            .await?;
        Ok(Self {
            topology: topology.clone(),
            stream,
            channel,
            consumer,
            due: from,
            batch: Vec::new(),
            missing: None,
            latest: None,
            unacknowledged: 0,
            most_unacknowledged: (prefetch / ACKNOWLEDGED_AT_ONCE).max(1),
        })
    }

    /// Takes a delivery into the batch, unless it comes before what was asked for: the broker begins with a whole chunk.
    fn take(&mut self, delivery: Option<lapin::Result<Delivery>>) -> Result<(), ReadError> {
        let delivery = delivery.ok_or_else(|| cut("cancelled"))?;
        let delivery = delivery.map_err(|error| cut(&error.to_string()))?;
        self.latest = Some(delivery.acker.clone());
        self.unacknowledged += 1;
        let stored = codec::stored(delivery).ok_or_else(|| cut("a delivery without an offset"))?;
        if stored.offset < self.due {
            return Ok(());
        }
        if stored.offset > self.due {
            self.missing.get_or_insert(self.due);
        }
        self.due = stored.offset + 1;
        self.batch.push(stored);
        Ok(())
    }

    /// Lets the broker send more, when it is time.
    async fn acknowledge(&mut self) -> Result<(), ReadError> {
        if self.unacknowledged < self.most_unacknowledged {
            return Ok(());
        }
        let Some(acker) = self.latest.take() else {
            return Ok(());
        };
        self.unacknowledged = 0;
        let acknowledged = acker.ack(BasicAckOptions { multiple: true }).await;
        acknowledged
            .map(drop)
            .map_err(|error| cut(&error.to_string()))
    }

    /// Is what did not come still retained? Then it was none of the log's records.
    async fn account_for_missing(&mut self) -> Result<(), ReadError> {
        if let Some(missing) = self.missing {
            let head = self.topology.head_of(&self.stream).await?;
            if head.is_none_or(|head| head > missing) {
                return Err(cut(&format!(
                    "retention has overtaken it at offset {missing}"
                )));
            }
            self.missing = None;
        }
        Ok(())
    }

    async fn fill_batch(&mut self) -> Result<(), ReadError> {
        while self.batch.is_empty() {
            let delivery = self.consumer.next().await;
            self.take(delivery)?;
            if self.batch.is_empty() {
                // What was passed over counts against the prefetch too.
                self.acknowledge().await?;
            }
        }
        while self.batch.len() < BATCH {
            let Some(delivery) = self.consumer.next().now_or_never() else {
                break;
            };
            self.take(delivery)?;
        }
        Ok(())
    }
}

impl Reader for StreamReader {
    /// What was handed over may be acknowledged when more is asked for.
    async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        self.acknowledge().await?;
        self.fill_batch().await?;
        self.account_for_missing().await?;
        Ok(std::mem::take(&mut self.batch))
    }
}

fn cut(cause: &str) -> ReadError {
    ReadError::Unavailable(format!("the broker has ended the reading: {cause}"))
}
