//! Reading the stream: from an offset on, in batches, every record or an error.

use std::{ops::Range, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::join};
use lapin::{
    Consumer,
    message::Delivery,
    options::BasicAckOptions,
    types::{AMQPValue, DeliveryTag},
};
use papo_protocol::{Epoch, topology};
use tokio::time::{Instant, sleep};

use super::{
    codec,
    objects::{Objects, OwnChannel, close, in_time},
    reaction::Reason,
    topology::Topology,
};
use crate::broker::{Attached, ReadError, Reader, Start, Stored};

/// Deliveries that the broker may send without acknowledgement: this keeps it from sending the whole log at once.
const PREFETCH: u16 = 2_000;
/// All deliveries are acknowledged at once after one part in this many of the prefetch. To a stream an acknowledgement only means
/// that more may be sent, so that one for each message would be wasted work.
const ACKNOWLEDGED_AT_ONCE: u16 = 4;
/// Most records in one batch.
const BATCH: usize = 500;

/// How long an offset must be beyond the end of the log, on whatever node, before it counts as such: the replica of a node that has just
/// started may end long before.
const LAGGING: Duration = Duration::from_secs(10);
/// How often the end of the log is read in this time, at least.
const END_READS: u32 = 3;
/// How long after each read of the end the next one is.
const READ_END_AGAIN: Duration = Duration::from_millis(500);

/// Finds where the reader starts, and begins to read there.
pub(super) async fn attach(
    topology: &Topology,
    start: Start,
) -> Result<Attached<StreamReader>, ReadError> {
    let attached = attach_here(topology, start).await;
    if let Err(ReadError::Missing(_)) = &attached {
        topology.objects.look_elsewhere(Reason::NoReplica);
    }
    attached
}

async fn attach_here(
    topology: &Topology,
    start: Start,
) -> Result<Attached<StreamReader>, ReadError> {
    let objects = &topology.objects;
    if let Start::At(epoch, offset) = &start
        && topology.can_be_current(epoch)
    {
        // A log that exists was not replaced. While a node of the cluster does not answer, each question takes RabbitMQ seconds.
        match resume(objects, epoch, *offset).await {
            Err(ReadError::Missing(_)) => {}
            resumed => return resumed,
        }
    }
    let epoch = topology.current_epoch().await?;
    let records = match start {
        Start::BeforeEnd(records) => records,
        Start::At(asked, offset) if asked == epoch => {
            return resume(objects, &epoch, offset).await;
        }
        Start::At(..) => return Err(ReadError::EpochChanged { current: epoch }),
    };
    let due = objects.read_to(&topology::log(objects.room(), &epoch));
    let bounds = bounds_reaching(objects, &epoch, due).await?;
    let from = bounds.end.saturating_sub(records).max(bounds.start);
    let reader = StreamReader::begin(objects, &epoch, from..u64::MAX, PREFETCH).await?;
    Ok(Attached {
        epoch,
        bounds,
        from,
        reader,
    })
}

/// Begins to read at an offset of a log that is known, or at the first one that is retained.
async fn resume(
    objects: &Arc<Objects>,
    epoch: &Epoch,
    offset: u64,
) -> Result<Attached<StreamReader>, ReadError> {
    let bounds = bounds_reaching(objects, epoch, offset).boxed();
    let reader = StreamReader::begin(objects, epoch, offset..u64::MAX, PREFETCH).boxed();
    // Both to their ends: lapin gives up the connection when a channel is dropped while the broker closes it.
    let (bounds, reader) = join(bounds, reader).await;
    let bounds = bounds?;
    if offset > bounds.end {
        return Err(ReadError::BeyondEnd { end: bounds.end });
    }
    let mut reader = match reader {
        Ok(reader) if reader.channel.status().connected() => reader,
        // The bounds were found at another node.
        _ => StreamReader::begin(objects, epoch, offset..u64::MAX, PREFETCH).await?,
    };
    let from = offset.max(bounds.start);
    reader.due = from;
    Ok(Attached {
        epoch: epoch.clone(),
        bounds,
        from,
        reader,
    })
}

/// The bounds of the log, which reach this offset unless no node has a replica that does.
async fn bounds_reaching(
    objects: &Objects,
    epoch: &Epoch,
    offset: u64,
) -> Result<Range<u64>, ReadError> {
    let deadline = Instant::now() + LAGGING;
    let mut reads = 0;
    loop {
        let bounds = objects.bounds(epoch).await?;
        reads += 1;
        if offset <= bounds.end {
            return Ok(bounds);
        }
        if reads >= END_READS && Instant::now() > deadline {
            objects.was_cut_short(&topology::log(objects.room(), epoch), bounds.end);
            return Ok(bounds);
        }
        objects.look_elsewhere(Reason::Lagging);
        sleep(READ_END_AGAIN).await;
    }
}

/// Reads the records of a range that are retained.
pub(super) async fn read(
    topology: &Topology,
    epoch: &Epoch,
    offsets: Range<u64>,
) -> Result<Vec<Stored>, ReadError> {
    let objects = &topology.objects;
    let log = topology::log(objects.room(), epoch);
    let head = objects.head_of(&log).await?;
    let from = offsets.start.max(head.unwrap_or(0));
    if from >= offsets.end {
        return Ok(Vec::new());
    }
    let prefetch = u16::try_from(offsets.end - from)
        .unwrap_or(PREFETCH)
        .min(PREFETCH);
    let mut reader = StreamReader::begin(objects, epoch, from..offsets.end, prefetch).await?;
    let mut records = Vec::new();
    while reader.due < offsets.end {
        match in_time(reader.next()).await {
            Ok(batch) => records.append(&mut batch?),
            // No record comes when the log ends before the range does, or the replica of this node does.
            Err(late) => {
                let (end, read_to) = (objects.bounds(epoch).await?.end, objects.read_to(&log));
                if reader.due >= end.max(read_to) {
                    break;
                }
                let is_lagging = end < read_to;
                let reason = if is_lagging {
                    Reason::Lagging
                } else {
                    Reason::Timeout
                };
                objects.leave(&reader.channel, reason);
                return Err(late);
            }
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
    objects: Arc<Objects>,
    stream: String,
    channel: OwnChannel,
    consumer: Consumer,
    /// The least offset that may come next.
    due: u64,
    /// The first offset that is not needed.
    end: u64,
    /// Deliveries that the broker sends without acknowledgement.
    prefetch: u16,
    /// Taken from the consumer and not returned yet: kept here so that no record is lost when the call is cancelled.
    batch: Vec<Stored>,
    /// An offset that was due and did not come, until the reason is known.
    missing: Option<u64>,
    /// The latest delivery, and how many are not acknowledged, with it.
    latest: Option<DeliveryTag>,
    unacknowledged: u16,
    /// How many of them are acknowledged at once.
    most_unacknowledged: u16,
}

impl StreamReader {
    async fn begin(
        objects: &Arc<Objects>,
        epoch: &Epoch,
        offsets: Range<u64>,
        prefetch: u16,
    ) -> Result<Self, ReadError> {
        let channel = objects.channel().await?;
        let stream = topology::log(objects.room(), epoch);
        let from = i64::try_from(offsets.start).unwrap_or(i64::MAX);
        let offset = AMQPValue::LongLongInt(from);
        let consumer = objects.consume(&channel, &stream, offset, prefetch).await?;
        Ok(Self {
            objects: objects.clone(),
            stream,
            channel,
            consumer,
            due: offsets.start,
            end: offsets.end,
            prefetch,
            batch: Vec::new(),
            missing: None,
            latest: None,
            unacknowledged: 0,
            most_unacknowledged: (prefetch / ACKNOWLEDGED_AT_ONCE).max(1),
        })
    }

    /// Adds a delivery to the batch, unless its offset is too low: the broker begins with a whole chunk.
    fn take(&mut self, delivery: Option<lapin::Result<Delivery>>) -> Result<(), ReadError> {
        let delivery = delivery.ok_or_else(|| cut("cancelled"))?;
        let delivery = delivery.map_err(|error| self.ended(&error))?;
        self.latest = Some(delivery.delivery_tag);
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

    /// Acknowledges the deliveries if there are enough of them, so that the broker sends more. It sends no more than is needed.
    async fn acknowledge(&mut self) -> Result<(), ReadError> {
        let needed = self.end.saturating_sub(self.due);
        let is_enough = needed <= u64::from(self.prefetch.saturating_sub(self.unacknowledged));
        if self.unacknowledged < self.most_unacknowledged || is_enough {
            return Ok(());
        }
        let Some(latest) = self.latest.take() else {
            return Ok(());
        };
        self.unacknowledged = 0;
        // By the channel, which queues it before it waits. A delivery's own method leaves it to a task: that of the next one may be faster if this
        // call is cancelled, and the broker closes a channel on which an older delivery is acknowledged after a newer one.
        let options = BasicAckOptions { multiple: true };
        let acknowledged = self.channel.basic_ack(latest, options).await;
        acknowledged.map_err(|error| self.ended(&error))
    }

    /// Why the broker ended the reader. Leaves the node if another one may do better.
    fn ended(&self, error: &lapin::Error) -> ReadError {
        match self.objects.explain(&self.channel, error, &self.stream) {
            ReadError::Unavailable(cause) => cut(&cause),
            lasting => lasting,
        }
    }

    /// An offset that did not come and is still retained is an entry of the broker's own; else records were lost.
    async fn account_for_missing(&mut self) -> Result<(), ReadError> {
        if let Some(missing) = self.missing {
            let head = self.objects.head_of(&self.stream).await?;
            if head.is_none_or(|head| head > missing) {
                return Err(cut(&format!(
                    "retention removed offset {missing} before it was read"
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
                // Deliveries that were passed over count against the prefetch too.
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
    /// The records of the last call may be acknowledged now.
    async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        self.acknowledge().await?;
        self.fill_batch().await?;
        self.account_for_missing().await?;
        self.objects.has_read(&self.stream, self.due);
        Ok(std::mem::take(&mut self.batch))
    }

    async fn can_deliver(&mut self) -> bool {
        self.objects.can_serve(&self.channel).await
    }

    fn give_up(&mut self) {
        self.objects.leave(&self.channel, Reason::Stalled);
    }
}

fn cut(cause: &str) -> ReadError {
    ReadError::Unavailable(format!("the broker ended the reader: {cause}"))
}
