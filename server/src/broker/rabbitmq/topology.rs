//! What a room needs on the broker: found, or created when the server was told to.

use std::{future::Future, ops::Range, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use papo_protocol::{Epoch, Launch, RoomName, topology};
use tokio::time::{Instant, timeout};

use super::{
    codec,
    connection::{ConnectError, Link, METHOD_TIMEOUT},
    epochs,
};
use crate::broker::ReadError;

/// AMQP's reply code for what is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// How long a stream that has records may take to deliver the next one of them.
const IDLE: Duration = Duration::from_millis(300);
/// How long to follow a stream's last chunk at most.
const ENOUGH: Duration = Duration::from_secs(1);
/// Enough for the largest chunk that RabbitMQ writes of small messages, all delivered without acknowledgement.
const LAST_CHUNK: u16 = 10_000;

/// A room's place on the broker.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) link: Link,
    pub(super) room: RoomName,
    epoch: Option<Epoch>,
    declare: bool,
    retention_bytes: u64,
}

impl Topology {
    pub(super) fn new(link: Link, launch: &Launch) -> Self {
        Self {
            link,
            room: launch.room.clone(),
            epoch: launch.epoch.clone(),
            declare: launch.declare,
            retention_bytes: launch.retention_bytes,
        }
    }

    /// Is everything there? With `--declare` it is afterwards.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        close(&self.link.channel().await?).await;
        let epoch = self.current_epoch().await?;
        self.check_exchange().await?;
        Ok(self.find_stream(&topology::log(&self.room, &epoch)).await?)
    }

    /// The epoch of the room's log: the one given, or the one its servers have agreed on.
    pub(super) async fn current_epoch(&self) -> Result<Epoch, ReadError> {
        if let Some(epoch) = &self.epoch {
            return Ok(epoch.clone());
        }
        if !self.declare {
            return epochs::current(self)
                .await?
                .ok_or_else(|| self.missing(&topology::epochs(&self.room)));
        }
        self.declare_exchange().await?;
        let epoch = epochs::agree(self).await?;
        self.bind_log(&epoch).await?;
        Ok(epoch)
    }

    /// Puts back what was deleted behind our back, if that is ours to do (`--declare`) and not the operator's.
    pub(super) async fn restore(&self) -> Result<(), ReadError> {
        if self.declare {
            self.current_epoch().await?;
        }
        Ok(())
    }

    async fn check_exchange(&self) -> Result<(), ReadError> {
        let name = topology::exchange(&self.room);
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
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

    async fn declare_exchange(&self) -> Result<(), ReadError> {
        let name = topology::exchange(&self.room);
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
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

    pub(super) async fn create_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
        let arguments = [
            ("x-max-length-bytes", self.retention_bytes),
            ("x-stream-max-segment-size-bytes", topology::SEGMENT_BYTES),
        ];
        self.declare_stream(&topology::log(&self.room, epoch), &arguments)
            .await
    }

    /// For a log that nobody has used.
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

    async fn bind_log(&self, epoch: &Epoch) -> Result<(), ReadError> {
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

    pub(super) async fn declare_stream(
        &self,
        name: &str,
        arguments: &[(&str, u64)],
    ) -> Result<(), ReadError> {
        let mut table = FieldTable::default();
        table.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("stream".into()),
        );
        for (argument, value) in arguments {
            table.insert(
                (*argument).into(),
                AMQPValue::LongLongInt(i64::try_from(*value).unwrap_or(i64::MAX)),
            );
        }
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
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

    /// The offsets that a room's log retains.
    pub(super) async fn bounds(&self, epoch: &Epoch) -> Result<Range<u64>, ReadError> {
        self.bounds_of(&topology::log(&self.room, epoch)).await
    }

    /// AMQP has no question for this, and the count of a passive declaration lags behind by seconds. So the stream is
    /// asked for its first record, and for its last chunk until nothing more comes.
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

    /// The offsets of the deliveries from a place on, until `most` have come, or nothing more comes.
    async fn deliveries(&self, stream: &str, from: &str, most: u16) -> Result<Vec<u64>, ReadError> {
        let channel = self.channel().await?;
        let mut consumer = self
            .consume(&channel, stream, AMQPValue::LongString(from.into()), most)
            .await?;
        let mut offsets = Vec::new();
        // In a room where people talk something always comes: then what came within this time is late enough.
        let deadline = Instant::now() + ENOUGH;
        while offsets.len() < most.into()
            && Instant::now() < deadline
            && let Ok(delivery) = timeout(IDLE, consumer.next()).await
        {
            let delivery = delivery
                .ok_or_else(|| ReadError::Unavailable(format!("{stream} was taken away")))?;
            let delivery = delivery.map_err(|error| self.explain(&error, stream))?;
            offsets.extend(codec::stored(delivery).map(|stored| stored.offset));
        }
        close(&channel).await;
        Ok(offsets)
    }

    async fn find_stream(&self, stream: &str) -> Result<(), ReadError> {
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

    /// Begins to consume a stream. It delivers no more than `prefetch` that are not acknowledged, and asks for the
    /// acknowledgements.
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

    pub(super) async fn channel(&self) -> Result<Channel, ReadError> {
        self.link
            .channel()
            .await
            .map_err(|error| ReadError::Unavailable(error.to_string()))
    }

    pub(super) fn explain(&self, error: &lapin::Error, name: &str) -> ReadError {
        match error.kind() {
            ErrorKind::ProtocolError(protocol) if protocol.get_id() == NOT_FOUND => {
                self.missing(name)
            }
            _ => ReadError::Unavailable(error.to_string()),
        }
    }

    fn missing(&self, name: &str) -> ReadError {
        let room = &self.room;
        ReadError::Missing(format!(
            "RabbitMQ has no {name} for room {room}; create it with --declare, or let the operator create it"
        ))
    }
}

/// Gives a channel back. If that fails, it is gone with its connection anyway.
pub(super) async fn close(channel: &Channel) {
    let _ = in_time(channel.close(200, "done".into())).await;
}

/// A broker that has stopped in its tracks answers nothing, not even with an error.
pub(super) async fn in_time<T>(method: impl Future<Output = T>) -> Result<T, ReadError> {
    timeout(METHOD_TIMEOUT, method)
        .await
        .map_err(|_| ReadError::Unavailable("the broker does not answer".to_owned()))
}
