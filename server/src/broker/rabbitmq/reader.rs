//! Reading the stream: from an offset on, in batches, every record or an error.

use std::ops::Range;

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

/// Deliveries under way that are not acknowledged: what keeps the broker from sending all at once.
const PREFETCH: u16 = 2_000;
/// Most records in one batch: acknowledged as one.
const BATCH: usize = 500;

/// How often the end of the log is looked for before an offset is believed to be beyond it.
const LOOKS: u32 = 3;

/// Finds the reader's place, and begins to read there.
pub(super) async fn attach(
    topology: &Topology,
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
    topology: &Topology,
    epoch: &Epoch,
    offsets: Range<u64>,
) -> Result<Vec<Stored>, ReadError> {
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    let prefetch = u16::try_from(offsets.end - offsets.start)
        .unwrap_or(PREFETCH)
        .min(PREFETCH);
    let mut reader = StreamReader::begin(topology, epoch, offsets.start, prefetch).await?;
    reader.may_begin_later = true;
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
#[derive(Debug)]
pub struct StreamReader {
    channel: Channel,
    consumer: Consumer,
    /// The offset that comes next.
    due: u64,
    /// The first record may be a later one: retention has removed what is before it.
    may_begin_later: bool,
    unacknowledged: Option<Acker>,
}

impl StreamReader {
    async fn begin(
        topology: &Topology,
        epoch: &Epoch,
        from: u64,
        prefetch: u16,
    ) -> Result<Self, ReadError> {
        let channel = topology.channel().await?;
        let offset = AMQPValue::LongLongInt(i64::try_from(from).unwrap_or(i64::MAX));
        let consumer = topology
            .consume(
                &channel,
                &topology::log(&topology.room, epoch),
                offset,
                prefetch,
            )
            .await?;
        Ok(Self {
            channel,
            consumer,
            due: from,
            may_begin_later: false,
            unacknowledged: None,
        })
    }

    /// The record of a delivery, `None` if it comes before what was asked for: the broker begins at a chunk of records.
    fn take(
        &mut self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<Stored>, ReadError> {
        let cut = |cause: &str| {
            ReadError::Unavailable(format!("the broker has ended the reading: {cause}"))
        };
        let delivery = delivery
            .ok_or_else(|| cut("cancelled"))?
            .map_err(|error| cut(&error.to_string()))?;
        self.unacknowledged = Some(delivery.acker.clone());
        let stored = codec::stored(delivery).ok_or_else(|| cut("a delivery without an offset"))?;
        if stored.offset < self.due {
            return Ok(None);
        }
        if std::mem::take(&mut self.may_begin_later) {
            self.due = stored.offset;
        }
        if stored.offset > self.due {
            return Err(cut(&format!(
                "offset {} where {} was due",
                stored.offset, self.due
            )));
        }
        self.due += 1;
        Ok(Some(stored))
    }
}

impl Reader for StreamReader {
    /// A batch is acknowledged when the next one is asked for, so that nothing is lost if this is dropped while it waits.
    async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        if let Some(acker) = self.unacknowledged.take() {
            let acknowledged = acker.ack(BasicAckOptions { multiple: true }).await;
            acknowledged.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        }
        let mut records = Vec::new();
        while records.is_empty() {
            let delivery = self.consumer.next().await;
            records.extend(self.take(delivery)?);
        }
        while records.len() < BATCH {
            let Some(delivery) = self.consumer.next().now_or_never() else {
                break;
            };
            records.extend(self.take(delivery)?);
        }
        Ok(records)
    }
}
