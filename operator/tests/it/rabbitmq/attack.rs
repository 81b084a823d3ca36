//! What somebody with the credentials of a room's servers tries.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::Vhost;

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(30);
/// AMQP's reply code for a lack of rights.
const ACCESS_REFUSED: u16 = 403;

pub(super) struct Attacker {
    exchange: String,
    url: String,
    connection: Connection,
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    timeout(LIMIT, call)
        .await
        .expect("the broker answers in time")
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    in_time(Connection::connect(url, ConnectionProperties::default())).await
}

fn arguments(texts: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in texts {
        table.insert((*key).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..Default::default()
    }
}

impl Attacker {
    pub(super) async fn connect(vhost: &Vhost, user: &str, password: &str) -> Self {
        let url = format!("amqp://{user}:{password}@{}/{}", vhost.amqp, vhost.name);
        Self {
            exchange: user.to_owned(),
            connection: connect(&url).await.expect("the credentials are right"),
            url,
        }
    }

    async fn channel(&self) -> Channel {
        in_time(self.connection.create_channel())
            .await
            .expect("a channel")
    }

    fn signal_queue(&self, number: usize) -> String {
        format!("{}.signal.{number:02x}", self.exchange)
    }

    /// All that servers do is allowed.
    pub(super) async fn works_as_a_server(&self, log: &str) {
        let (channel, queue) = (self.channel().await, self.signal_queue(7));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..Default::default()
        };
        let declared = channel.queue_declare(queue.as_str().into(), options, FieldTable::default());
        in_time(declared).await.expect("declared");
        self.bind(&channel, &queue, &self.exchange)
            .await
            .expect("bound");
        let options = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..Default::default()
        };
        let consuming = channel.basic_consume(
            queue.as_str().into(),
            "".into(),
            options,
            FieldTable::default(),
        );
        in_time(consuming).await.expect("consumed");
        self.publish(&channel, &self.exchange, "message", b"a")
            .await
            .expect("published");

        let channel = self.channel().await;
        self.consume(&channel, log).await.expect("the log is read");
        in_time(channel.close(200, "done".into()))
            .await
            .expect("closed");
    }

    pub(super) async fn cannot_reach_another_room(&self) {
        let (exchange, log, queue) = (
            "papo.team.other",
            "papo.team.other.log.0a",
            "papo.team.other.signal.00",
        );
        let own = self.signal_queue(8);
        let none = FieldTable::default;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        in_time(
            self.channel()
                .await
                .queue_declare(own.as_str().into(), options, none()),
        )
        .await
        .expect("declared");

        let channel = self.channel().await;
        refused(
            "publish",
            self.publish(&channel, exchange, "message", b"a").await,
        );
        let channel = self.channel().await;
        refused(
            "publish past the exchange",
            self.publish(&channel, "", log, b"a").await,
        );
        refused(
            "read the log",
            self.consume(&self.channel().await, log).await,
        );
        refused(
            "listen",
            self.bind(&self.channel().await, &own, exchange).await,
        );
        refused(
            "divert",
            self.bind(&self.channel().await, queue, &self.exchange)
                .await,
        );
        let channel = self.channel().await;
        refused(
            "declare",
            in_time(channel.queue_declare("papo.team.other.signal.01".into(), durable(), none()))
                .await,
        );
        let channel = self.channel().await;
        refused(
            "delete the log",
            in_time(channel.queue_delete(log.into(), QueueDeleteOptions::default())).await,
        );
        let channel = self.channel().await;
        refused(
            "delete a queue",
            in_time(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await,
        );
        let channel = self.channel().await;
        refused(
            "purge a queue",
            in_time(channel.queue_purge(queue.into(), QueuePurgeOptions::default())).await,
        );
        let channel = self.channel().await;
        refused(
            "delete the exchange",
            in_time(channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()))
                .await,
        );
        let channel = self.channel().await;
        let dead_letters = arguments(&[("x-dead-letter-exchange", exchange)]);
        refused(
            "send dead letters",
            in_time(channel.queue_declare(
                self.signal_queue(9).as_str().into(),
                durable(),
                dead_letters,
            ))
            .await,
        );
        let elsewhere = self.url.rsplit_once('/').expect("a path").0;
        let error = connect(&format!("{elsewhere}/%2f"))
            .await
            .expect_err("another virtual host");
        assert!(
            error.to_string().contains("NOT_ALLOWED") || error.to_string().contains("access"),
            "{error}"
        );
    }

    /// Tries to create 500 queues that the broker names, and 500 queues of all types under names as servers use, and returns how many there are.
    pub(super) async fn create_500_queues(&self) -> usize {
        let mut created = 0;
        for number in 0..500 {
            // Quorum queues are the slowest.
            let kind = match number % 16 {
                0 => "quorum",
                1..8 => "stream",
                _ => "classic",
            };
            let table = || arguments(&[("x-queue-type", kind)]);
            let channel = self.channel().await;
            // The broker names no queues of other types.
            let named = channel.queue_declare("".into(), durable(), FieldTable::default());
            refused("named by the broker", in_time(named).await);
            let channel = self.channel().await;
            let name = self.signal_queue(number);
            match in_time(channel.queue_declare(name.as_str().into(), durable(), table())).await {
                Ok(_) => {
                    created += 1;
                    in_time(channel.close(200, "done".into()))
                        .await
                        .expect("closed");
                }
                // Those of `works_as_a_server` and `cannot_reach_another_room`, which are exclusive.
                Err(error) if code(&error) == Some(406) || code(&error) == Some(405) => {
                    created += 1;
                }
                Err(error) => refused::<()>("declare", Err(error)),
            }
        }
        created
    }

    pub(super) async fn create_an_exchange(&self) {
        let channel = self.channel().await;
        let name = self.signal_queue(10);
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        in_time(channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        ))
        .await
        .expect("allowed by the name");
    }

    /// Fills a quorum queue, a stream and a classic queue.
    pub(super) async fn publish_200_mb(&self) {
        let channel = self.channel().await;
        for number in [16, 17, 24] {
            self.bind(&channel, &self.signal_queue(number), &self.exchange)
                .await
                .expect("bound");
        }
        // A quorum queue adds some bytes to each, and would keep none of 1 MB.
        let body = vec![0; 400_000];
        for _ in 0..500 {
            self.publish(&channel, &self.exchange, "signal.typing", &body)
                .await
                .expect("published");
        }
    }

    /// How many of 300 connections the broker accepts.
    pub(super) async fn open_300_connections(&self) -> usize {
        let mut open = Vec::new();
        for _ in 0..300 {
            open.extend(connect(&self.url).await.ok());
        }
        let accepted = open.len();
        for connection in open {
            in_time(connection.close(200, "done".into()))
                .await
                .expect("closed");
        }
        accepted
    }

    /// How many of 300 channels the broker opens before it closes the connection.
    pub(super) async fn open_300_channels(&self) -> usize {
        let connection = connect(&self.url).await.expect("a connection");
        let mut channels = Vec::new();
        for _ in 0..300 {
            match in_time(connection.create_channel()).await {
                Ok(channel) => channels.push(channel),
                Err(_) => break,
            }
        }
        channels.len()
    }

    pub(super) async fn hang_up(self) {
        in_time(self.connection.close(200, "done".into()))
            .await
            .expect("closed");
    }

    async fn bind(&self, channel: &Channel, queue: &str, exchange: &str) -> lapin::Result<()> {
        let bound = channel.queue_bind(
            queue.into(),
            exchange.into(),
            "signal.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        in_time(bound).await
    }

    async fn consume(&self, channel: &Channel, stream: &str) -> lapin::Result<()> {
        in_time(channel.basic_qos(10, BasicQosOptions::default())).await?;
        let consuming = channel.basic_consume(
            stream.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        in_time(consuming).await.map(drop)
    }

    /// Publishes, and waits for the confirm.
    async fn publish(
        &self,
        channel: &Channel,
        exchange: &str,
        key: &str,
        body: &[u8],
    ) -> lapin::Result<()> {
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let published = channel.basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        );
        let confirm = in_time(published).await?;
        in_time(confirm).await.map(drop)
    }
}

fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => Some(protocol.get_id()),
        _ => None,
    }
}

/// Checks that the broker has refused an attempt for lack of rights.
fn refused<T>(attempt: &str, result: lapin::Result<T>) {
    match result {
        Ok(_) => panic!("{attempt}: allowed"),
        Err(error) => assert_eq!(code(&error), Some(ACCESS_REFUSED), "{attempt}: {error}"),
    }
}
