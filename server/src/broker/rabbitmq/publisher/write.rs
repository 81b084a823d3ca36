//! Publishing on one connection, until it fails or all records are settled.

use std::{future::Future, pin::pin, sync::atomic::Ordering, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use lapin::{
    Channel, Confirmation, Connection, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use papo_protocol::topology;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    super::{codec, connection::METHOD_TIMEOUT},
    task::{Failure, Task},
};
use crate::broker::{Publishing, Signal};

/// Records written and not confirmed: the most that are written again after a connection was lost.
const UNCONFIRMED: usize = 4_096;
/// How often a publisher that was closed checks whether a caller still waits.
const CLOSING: Duration = Duration::from_millis(100);

type Events = BoxStream<'static, Event>;
type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

impl Task {
    /// Publishes on one connection until it fails (`Err`), or all records are settled (`Ok`).
    pub(super) async fn serve(&mut self, connection: &Connection) -> Result<(), Failure> {
        let (channel, signalling) = (open(connection).await?, open(connection).await?);
        let selected = timeout(
            METHOD_TIMEOUT,
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await;
        selected.map_err(|_| "the broker does not answer".to_owned())??;
        let mut confirms = Confirms::new();
        let mut events: Events = connection.events_listener().boxed();
        self.is_blocked = false;
        info!("publishing");
        self.state.send_replace(Publishing::Up);
        self.rewrite(&channel, &mut confirms, &mut events).await?;
        loop {
            if self.is_done() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some((sequence, confirmation)) = confirms.next() => self.settle(sequence, confirmation)?,
                event = events.next() => self.notice(event)?,
                Some(pending) = self.records.recv(), if !self.is_blocked && confirms.len() < UNCONFIRMED => {
                    let sequence = self.keep(pending);
                    self.write(sequence, &channel, &mut confirms, &mut events).await?;
                }
                Some(signal) = self.signals.recv() => if !self.is_blocked {
                    self.send(signal, &signalling, &mut events).await?;
                },
                () = self.closing.cancelled(), if !self.closing.is_cancelled() => {}
                // No event tells that the last caller has stopped waiting.
                () = sleep(CLOSING), if self.closing.is_cancelled() => {}
            }
        }
    }

    async fn rewrite(
        &mut self,
        channel: &Channel,
        confirms: &mut Confirms,
        events: &mut Events,
    ) -> Result<(), Failure> {
        let sequences: Vec<u64> = self.unconfirmed.keys().copied().collect();
        for sequence in sequences {
            self.write(sequence, channel, confirms, events).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        sequence: u64,
        channel: &Channel,
        confirms: &mut Confirms,
        events: &mut Events,
    ) -> Result<(), Failure> {
        let Some(pending) = self.unconfirmed.get_mut(&sequence) else {
            return Ok(());
        };
        let before = pending.written.swap(true, Ordering::SeqCst);
        if pending.confirm.is_closed() {
            pending.written.store(before, Ordering::SeqCst);
            self.unconfirmed.remove(&sequence);
            return Ok(());
        }
        pending.is_rewritten = before;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let properties = codec::properties(&pending.record, pending.trace.as_ref());
        let record = pending.record.clone();
        let exchange = self.exchange.as_str().into();
        let key = topology::MESSAGE_KEY.into();
        let written =
            channel.basic_publish(exchange, key, options, record.text.as_bytes(), properties);
        let confirm = self.taken(written, events).await?;
        confirms.push(
            confirm
                .map(move |confirmation| (sequence, confirmation))
                .boxed(),
        );
        Ok(())
    }

    async fn send(
        &mut self,
        signal: Signal,
        channel: &Channel,
        events: &mut Events,
    ) -> Result<(), Failure> {
        let exchange = self.exchange.as_str().into();
        let sent = channel.basic_publish(
            exchange,
            signal.key.as_str().into(),
            BasicPublishOptions::default(),
            &signal.body,
            lapin::BasicProperties::default(),
        );
        self.taken(sent, events).await.map(drop)
    }

    /// Waits until a frame is written. While the broker blocks publishers, only the end of the connection (which heartbeats detect)
    /// ends the wait.
    async fn taken<T>(
        &mut self,
        written: impl Future<Output = lapin::Result<T>>,
        events: &mut Events,
    ) -> Result<T, Failure> {
        let mut written = pin!(written);
        loop {
            tokio::select! {
                biased;
                written = &mut written => return Ok(written?),
                event = events.next() => self.notice(event)?,
                () = sleep(METHOD_TIMEOUT), if !self.is_blocked => {
                    return Err("the broker does not read".to_owned().into());
                }
            }
        }
    }

    /// Takes the broker's answer to a record. Any answer but a confirm ends the connection: all unconfirmed records are written again,
    /// in order, as long as their callers wait.
    fn settle(
        &mut self,
        sequence: u64,
        confirmation: lapin::Result<Confirmation>,
    ) -> Result<(), Failure> {
        match confirmation? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) => return Err(self.returned(sequence)),
            Confirmation::Nack(_) => {
                return Err("the broker could not store a message".to_owned().into());
            }
            Confirmation::NotRequested => {
                return Err("the channel does not confirm".to_owned().into());
            }
        }
        if let Some(pending) = self.unconfirmed.remove(&sequence) {
            // A caller that has stopped waiting will retry.
            let _ = pending.confirm.send(Ok(()));
        }
        Ok(())
    }

    /// A record that was returned is certainly not stored, unless it was written before.
    fn returned(&self, sequence: u64) -> Failure {
        if let Some(pending) = self
            .unconfirmed
            .get(&sequence)
            .filter(|pending| !pending.is_rewritten)
        {
            pending.written.store(false, Ordering::SeqCst);
        }
        Failure::NoLog
    }

    fn notice(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                warn!(reason, "the broker blocks publishers");
                self.is_blocked = true;
                self.state.send_replace(Publishing::Blocked(format!(
                    "the broker blocks publishers: {reason}"
                )));
            }
            Some(Event::ConnectionUnblocked) => {
                info!("the broker no longer blocks publishers");
                self.is_blocked = false;
                self.state.send_replace(Publishing::Up);
            }
            Some(Event::Error(error)) => return Err(error.into()),
            None => return Err("the connection has ended".to_owned().into()),
            Some(_) => {}
        }
        Ok(())
    }
}

async fn open(connection: &Connection) -> Result<Channel, Failure> {
    let channel = timeout(METHOD_TIMEOUT, connection.create_channel()).await;
    Ok(channel.map_err(|_| "the broker does not answer".to_owned())??)
}
