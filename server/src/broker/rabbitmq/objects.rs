//! The objects of one room on the broker, and what can be done with one of them: declare, bind, delete, find, consume.
//!
//! Each call uses a channel of its own: an error closes the channel, and no other call is affected.

use std::{
    future::Future,
    ops::{Deref, Range},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::join};
use lapin::{
    Channel, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use papo_protocol::{
    Epoch, RoomName,
    topology::{self, Argument, Stream},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{
    codec,
    connection::{Link, METHOD_TIMEOUT, Open},
    reaction::{Reaction, Reason, reaction},
};
use crate::broker::ReadError;

/// How long a stream that has records may take to deliver the next one of them.
const IDLE: Duration = Duration::from_millis(300);
/// How long to follow a stream's last chunk at most.
const LAST_CHUNK_TIME: Duration = Duration::from_secs(1);
/// Enough for the largest chunk that RabbitMQ writes of small messages, all delivered without acknowledgement.
const LAST_CHUNK: u16 = 10_000;

/// How often an object must be missing, one look after the other, before it counts as deleted: a node may not know yet what was declared on
/// another one.
const LOOKS: u32 = 3;
/// How long after each look the next one is.
const LOOK_AGAIN: Duration = Duration::from_millis(700);

/// The broker's side of a room.
#[derive(Debug)]
pub(super) struct Objects {
    link: Link,
    room: RoomName,
    /// How far a stream was read, whatever the node: no replica of it may end before.
    read: Mutex<Option<(String, u64)>>,
}

impl Objects {
    pub(super) fn new(link: Link, room: RoomName) -> Self {
        Self {
            link,
            room,
            read: Mutex::default(),
        }
    }

    pub(super) fn room(&self) -> &RoomName {
        &self.room
    }

    /// The connection that reads.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Is the room's exchange there?
    pub(super) async fn check_exchange(&self) -> Result<(), ReadError> {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.exchange_declare(options).await
    }

    pub(super) async fn declare_exchange(&self) -> Result<(), ReadError> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.exchange_declare(options).await
    }

    async fn exchange_declare(&self, options: ExchangeDeclareOptions) -> Result<(), ReadError> {
        let name = topology::exchange(&self.room);
        let channel = self.channel().await?;
        let declared = channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        self.call(&channel, &name, declared).await?;
        close(&channel).await;
        Ok(())
    }

    /// Deletes a log that was never used.
    pub(super) async fn delete_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
        let name = topology::log(&self.room, epoch);
        let channel = self.channel().await?;
        let deleted = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
        self.call(&channel, &name, deleted).await?;
        close(&channel).await;
        Ok(())
    }

    pub(super) async fn bind_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
        let name = topology::log(&self.room, epoch);
        let channel = self.channel().await?;
        let exchange = topology::exchange(&self.room);
        let bound = channel.queue_bind(
            name.as_str().into(),
            exchange.as_str().into(),
            topology::MESSAGE_KEY.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.call(&channel, &name, bound).await?;
        close(&channel).await;
        Ok(())
    }

    pub(super) async fn declare_stream(&self, stream: &Stream) -> Result<(), ReadError> {
        let (queue_type, stream_type) = topology::STREAM_TYPE;
        let mut table = FieldTable::default();
        table.insert(queue_type.into(), AMQPValue::LongString(stream_type.into()));
        for (argument, value) in &stream.arguments {
            let value = match value {
                Argument::Number(number) => {
                    AMQPValue::LongLongInt(i64::try_from(*number).unwrap_or(i64::MAX))
                }
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            };
            table.insert((*argument).into(), value);
        }
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let name = stream.name.as_str();
        let declared = channel.queue_declare(name.into(), options, table);
        self.call(&channel, name, declared).await?;
        close(&channel).await;
        Ok(())
    }

    pub(super) async fn has_stream(&self, name: &str) -> Result<bool, ReadError> {
        match self.find_stream(name).await {
            Ok(()) => Ok(true),
            Err(ReadError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Is the stream certainly not there? It must be missing several times, on more than one node if there are several: each look leaves a
    /// node that does not know it.
    pub(super) async fn is_deleted(&self, name: &str) -> Result<bool, ReadError> {
        for look in 0..LOOKS {
            if look > 0 {
                sleep(LOOK_AGAIN).await;
            }
            if self.has_stream(name).await? {
                return Ok(false);
            }
            self.look_elsewhere(Reason::NoReplica);
        }
        Ok(true)
    }

    /// A stream was read up to this offset.
    pub(super) fn has_read(&self, stream: &str, next: u64) {
        let mut read = self.read.lock();
        match &mut *read {
            Some((name, end)) if name == stream => *end = next.max(*end),
            other => *other = Some((stream.to_owned(), next)),
        }
    }

    /// No node has the stream as far as it was read.
    pub(super) fn was_cut_short(&self, stream: &str, end: u64) {
        *self.read.lock() = Some((stream.to_owned(), end));
    }

    /// How far a stream was read at most.
    pub(super) fn read_to(&self, stream: &str) -> u64 {
        let read = self.read.lock();
        let of_stream = read.as_ref().filter(|(name, _)| name == stream);
        of_stream.map_or(0, |(_, end)| *end)
    }

    /// The offsets that the log retains.
    pub(super) async fn bounds(&self, epoch: &Epoch) -> Result<Range<u64>, ReadError> {
        self.bounds_of(&topology::log(&self.room, epoch)).await
    }

    /// The offsets that a stream retains. AMQP has no method for this, and the count of a passive declaration is seconds old. So
    /// this reads the stream's first record, and its last chunk until no more records come.
    pub(super) async fn bounds_of(&self, stream: &str) -> Result<Range<u64>, ReadError> {
        let last = self.deliveries(stream, "last", LAST_CHUNK).boxed();
        let (first, last) = join(self.head_of(stream).boxed(), last).await;
        let Some(first) = first? else {
            return Ok(0..0);
        };
        let end = last?.last().map_or(first, |last| last + 1);
        Ok(first..end.max(first))
    }

    /// The oldest offset that a stream retains; `None` when nothing was ever written to it.
    pub(super) async fn head_of(&self, stream: &str) -> Result<Option<u64>, ReadError> {
        Ok(self.deliveries(stream, "first", 1).await?.first().copied())
    }

    /// The offsets of the deliveries from a place on, until there are `most`, or no more come.
    async fn deliveries(&self, stream: &str, from: &str, most: u16) -> Result<Vec<u64>, ReadError> {
        let channel = self.channel().await?;
        let mut consumer = self
            .consume(&channel, stream, AMQPValue::LongString(from.into()), most)
            .await?;
        let mut offsets = Vec::new();
        // In a busy room more records always come: then the last one within this time is taken for the end.
        let deadline = Instant::now() + LAST_CHUNK_TIME;
        while offsets.len() < most.into()
            && Instant::now() < deadline
            && let Ok(delivery) = timeout(IDLE, consumer.next()).await
        {
            let delivery =
                delivery.ok_or_else(|| ReadError::Unavailable(format!("{stream} was deleted")))?;
            let delivery = delivery.map_err(|error| self.explain(&channel, &error, stream))?;
            offsets.extend(codec::stored(delivery).map(|stored| stored.offset));
        }
        close(&channel).await;
        Ok(offsets)
    }

    /// Is the stream there?
    pub(super) async fn find_stream(&self, stream: &str) -> Result<(), ReadError> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let declared = channel.queue_declare(stream.into(), options, FieldTable::default());
        self.call(&channel, stream, declared).await?;
        close(&channel).await;
        Ok(())
    }

    /// Begins to consume a stream. The broker delivers at most `prefetch` records that are not acknowledged.
    pub(super) async fn consume(
        &self,
        channel: &OwnChannel,
        stream: &str,
        from: AMQPValue,
        prefetch: u16,
    ) -> Result<lapin::Consumer, ReadError> {
        let limited = channel.basic_qos(prefetch, BasicQosOptions::default());
        self.call(channel, stream, limited).await?;
        let mut arguments = FieldTable::default();
        arguments.insert(topology::STREAM_OFFSET_HEADER.into(), from);
        let consumer = channel.basic_consume(
            stream.into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        self.call(channel, stream, consumer).await
    }

    pub(super) async fn channel(&self) -> Result<OwnChannel, ReadError> {
        match self.link.channel().await {
            Ok((channel, open)) => Ok(OwnChannel { channel, open }),
            Err(error) => Err(ReadError::Unavailable(error.to_string())),
        }
    }

    /// Waits for the broker's answer to a method about the object `name`. Leaves the node if it cannot answer.
    pub(super) async fn call<T>(
        &self,
        channel: &OwnChannel,
        name: &str,
        method: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, ReadError> {
        match in_time(method).await {
            Ok(answer) => answer.map_err(|error| self.explain(channel, &error, name)),
            Err(late) => {
                self.leave(channel, Reason::Timeout);
                Err(late)
            }
        }
    }

    /// What an error about the object `name` means. Leaves the node if another one may do better.
    pub(super) fn explain(
        &self,
        channel: &OwnChannel,
        error: &lapin::Error,
        name: &str,
    ) -> ReadError {
        let node = &channel.open.node;
        match reaction(error) {
            Reaction::Look => self.missing(name),
            Reaction::Correct => ReadError::Rejected(format!("{node}: {error}")),
            Reaction::Move(reason) => {
                self.leave(channel, reason);
                ReadError::Unavailable(format!("{node}: {error}"))
            }
        }
    }

    /// Whether the node of a channel is among most nodes of its cluster, if there is another one to go to.
    pub(super) async fn can_serve(&self, channel: &OwnChannel) -> bool {
        self.link.can_serve(&channel.open.node).await
    }

    /// Leaves the current node if there is another one, which may know more.
    pub(super) fn look_elsewhere(&self, reason: Reason) {
        if self.link.has_others() {
            self.link.leave_current(reason);
        }
    }

    /// Leaves the node of a channel, which does not serve the log as it must.
    pub(super) fn leave(&self, channel: &OwnChannel, reason: Reason) {
        let is_useless = match reason {
            // The end of a channel is not that of its connection, which others use.
            Reason::Lost => !channel.open.connection.status().connected(),
            // A node that is slow is better than none.
            Reason::Timeout => self.link.has_others(),
            _ => true,
        };
        if is_useless {
            self.link.leave(&channel.open, reason);
        }
    }

    /// The object `name` does not exist.
    pub(super) fn missing(&self, name: &str) -> ReadError {
        let room = &self.room;
        ReadError::Missing(format!(
            "RabbitMQ has no {name} for room {room}; create it with --declare, or let the operator create it"
        ))
    }
}

/// A channel that is closed when it is dropped, whatever its call had come to.
///
/// lapin closes a channel when nothing refers to it. But it keeps a consumer whose call was dropped before the broker's answer, and the
/// consumer refers to the channel: both would stay, with the records that the broker sends, until the connection ends.
#[derive(Debug)]
pub(super) struct OwnChannel {
    channel: Channel,
    open: Arc<Open>,
}

impl Deref for OwnChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for OwnChannel {
    fn drop(&mut self) {
        // The first poll queues the request, before those of the next channel. Nobody waits for the answer.
        let _ = self.channel.close(200, "dropped".into()).now_or_never();
    }
}

/// Closes a channel. If that fails, the channel has ended with its connection.
pub(super) async fn close(channel: &Channel) {
    let _ = in_time(channel.close(200, "done".into())).await;
}

/// Bounds a call to a broker that may never answer, not even with an error.
pub(super) async fn in_time<T>(method: impl Future<Output = T>) -> Result<T, ReadError> {
    timeout(METHOD_TIMEOUT, method)
        .await
        .map_err(|_| ReadError::Unavailable("the broker does not answer".to_owned()))
}
