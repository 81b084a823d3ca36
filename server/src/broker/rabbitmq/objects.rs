//! The objects of one room on the broker, and what can be done with one of them: declare, bind, delete, find, consume.
//!
//! Each call uses a channel of its own: an error closes the channel, and no other call is affected.

use std::{
    future::Future,
    ops::{Deref, Range},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use lapin::{
    Channel, ErrorKind, ExchangeKind,
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
use tokio::time::{Instant, timeout};

use super::{
    codec,
    connection::{Link, METHOD_TIMEOUT},
};
use crate::broker::ReadError;

/// AMQP's reply code for an object that does not exist.
pub(super) const NOT_FOUND: u16 = 404;
/// How long a stream that has records may take to deliver the next one of them.
const IDLE: Duration = Duration::from_millis(300);
/// How long to follow a stream's last chunk at most.
const LAST_CHUNK_TIME: Duration = Duration::from_secs(1);
/// Enough for the largest chunk that RabbitMQ writes of small messages, all delivered without acknowledgement.
const LAST_CHUNK: u16 = 10_000;

/// The broker's side of a room.
#[derive(Debug)]
pub(super) struct Objects {
    link: Link,
    room: RoomName,
}

impl Objects {
    pub(super) fn new(link: Link, room: RoomName) -> Self {
        Self { link, room }
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
        let declared = in_time(channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        ))
        .await?;
        declared.map_err(|error| self.explain(&error, &name))?;
        close(&channel).await;
        Ok(())
    }

    /// Deletes a log that was never used.
    pub(super) async fn delete_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
        let name = topology::log(&self.room, epoch);
        let channel = self.channel().await?;
        let deleted =
            in_time(channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()))
                .await?;
        deleted.map_err(|error| self.explain(&error, &name))?;
        close(&channel).await;
        Ok(())
    }

    pub(super) async fn bind_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
        let name = topology::log(&self.room, epoch);
        let channel = self.channel().await?;
        let exchange = topology::exchange(&self.room);
        let bound = in_time(channel.queue_bind(
            name.as_str().into(),
            exchange.as_str().into(),
            topology::MESSAGE_KEY.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        ));
        bound.await?.map_err(|error| self.explain(&error, &name))?;
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
        let declared = in_time(channel.queue_declare(name.into(), options, table)).await?;
        declared.map_err(|error| self.explain(&error, name))?;
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

    /// The offsets that the log retains.
    pub(super) async fn bounds(&self, epoch: &Epoch) -> Result<Range<u64>, ReadError> {
        self.bounds_of(&topology::log(&self.room, epoch)).await
    }

    /// The offsets that a stream retains. AMQP has no method for this, and the count of a passive declaration is seconds old. So
    /// this reads the stream's first record, and its last chunk until no more records come.
    pub(super) async fn bounds_of(&self, stream: &str) -> Result<Range<u64>, ReadError> {
        let Some(first) = self.head_of(stream).await? else {
            return Ok(0..0);
        };
        let last = self
            .deliveries(stream, "last", LAST_CHUNK)
            .await?
            .last()
            .copied();
        Ok(first..last.map_or(first, |last| last + 1).max(first))
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
            let delivery = delivery.map_err(|error| self.explain(&error, stream))?;
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
        let declared =
            in_time(channel.queue_declare(stream.into(), options, FieldTable::default())).await?;
        declared.map_err(|error| self.explain(&error, stream))?;
        close(&channel).await;
        Ok(())
    }

    /// Begins to consume a stream. The broker delivers at most `prefetch` records that are not acknowledged.
    pub(super) async fn consume(
        &self,
        channel: &Channel,
        stream: &str,
        from: AMQPValue,
        prefetch: u16,
    ) -> Result<lapin::Consumer, ReadError> {
        in_time(channel.basic_qos(prefetch, BasicQosOptions::default()))
            .await?
            .map_err(|error| self.explain(&error, stream))?;
        let mut arguments = FieldTable::default();
        arguments.insert(topology::STREAM_OFFSET_HEADER.into(), from);
        let consumer = in_time(channel.basic_consume(
            stream.into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        ))
        .await?;
        consumer.map_err(|error| self.explain(&error, stream))
    }

    pub(super) async fn channel(&self) -> Result<OwnChannel, ReadError> {
        let channel = self.link.channel().await;
        channel
            .map(OwnChannel)
            .map_err(|error| ReadError::Unavailable(error.to_string()))
    }

    /// What an error about the object `name` means.
    pub(super) fn explain(&self, error: &lapin::Error, name: &str) -> ReadError {
        match error.kind() {
            ErrorKind::ProtocolError(protocol) if protocol.get_id() == NOT_FOUND => {
                self.missing(name)
            }
            _ => ReadError::Unavailable(error.to_string()),
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
pub(super) struct OwnChannel(Channel);

impl Deref for OwnChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.0
    }
}

impl Drop for OwnChannel {
    fn drop(&mut self) {
        // The first poll queues the request, before those of the next channel. Nobody waits for the answer.
        let _ = self.0.close(200, "dropped".into()).now_or_never();
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
