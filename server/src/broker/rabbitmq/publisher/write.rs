//! Publishing on one connection, until it fails or all records are settled.

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::{BoxStream, FuturesUnordered},
};
use lapin::{
    Channel, Confirmation, Connection, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use papo_protocol::topology;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{
    super::{
        codec,
        connection::{METHOD_TIMEOUT, Open},
        reaction::Reason,
    },
    task::{Failure, Task},
};
use crate::broker::{PublishError, Publishing, Signal};

/// Records written and not confirmed: the most that are written again after a connection was lost.
pub(super) const UNCONFIRMED: usize = 4_096;
/// How often a publisher that was closed checks whether a caller still waits.
const CLOSING: Duration = Duration::from_millis(100);
/// How long after a failed write the confirms may take to say why.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a record that the broker does not accept is logged at most.
const LOGGED: Duration = Duration::from_secs(10);

/// How long a node may confirm nothing before it must show that it is among most nodes of its cluster.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the only address may confirm nothing: behind it may be other nodes.
const ONLY_PATIENCE: Duration = Duration::from_secs(20);
/// How long a node among most nodes may confirm nothing: the others need time to give up a leader that does not answer. A move would not help, and
/// each one stores the same records again.
const MOST_PATIENCE: Duration = Duration::from_secs(30);

type Events = BoxStream<'static, Event>;
type Check = BoxFuture<'static, Result<(), Failure>>;
type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

/// A channel for records.
struct RecordChannel {
    channel: Channel,
    confirms: Confirms,
    /// Records that were written on it and have no confirm.
    in_flight: BTreeSet<u64>,
    /// Unconfirmed records of earlier channels, which are written first.
    rewrites: VecDeque<u64>,
    /// Since when records have been without a confirm: the latest confirm, or the first record after it.
    waiting_since: Instant,
    /// When the node has shown that it is among most nodes of its cluster, if it had to.
    checked_at: Option<Instant>,
    /// The node has confirmed a record of this channel, and was not silent for long since.
    is_storing: bool,
}

impl Task {
    /// Publishes on one connection until it fails (`Err`), or all records are settled (`Ok`).
    pub(super) async fn serve(&mut self, open: &Arc<Open>) -> Result<(), Failure> {
        let connection = &open.connection;
        let mut checked_at = None;
        if self.has_stalled && self.connector.has_others() {
            // Nothing is written before to a node that may be cut off.
            self.check(open).await?;
            checked_at = Some(Instant::now());
        }
        let mut records = self.record_channel(connection, checked_at).await?;
        let mut signalling = open_channel(connection).await?;
        let mut events: Events = connection.events_listener().boxed();
        self.is_blocked = false;
        info!("publishing");
        self.state.send_replace(Publishing::Up);
        loop {
            let published = self.publish(open, &mut records, &mut signalling, &mut events);
            match published.await {
                Err(Failure::Rejected(reason)) if !records.in_flight.is_empty() => {
                    self.isolate(&records.in_flight, reason);
                    records = self.record_channel(connection, records.checked_at).await?;
                }
                ended => return ended,
            }
        }
    }

    /// Opens a channel for records: those that have no confirm are written on it first.
    async fn record_channel(
        &self,
        connection: &Connection,
        checked_at: Option<Instant>,
    ) -> Result<RecordChannel, Failure> {
        let channel = open_channel(connection).await?;
        let selected = timeout(
            METHOD_TIMEOUT,
            channel.confirm_select(ConfirmSelectOptions::default()),
        );
        let selected = selected.await;
        selected.map_err(|_| unanswered())??;
        Ok(RecordChannel {
            channel,
            confirms: Confirms::new(),
            in_flight: BTreeSet::new(),
            rewrites: self.unconfirmed.keys().copied().collect(),
            waiting_since: Instant::now(),
            checked_at,
            is_storing: false,
        })
    }

    /// Whether the node is among most nodes of its cluster.
    fn check(&self, open: &Arc<Open>) -> Check {
        let (connector, open) = (self.connector.clone(), open.clone());
        async move {
            let checked = connector.check_majority(&open.node).await;
            checked.map_err(|cause| Failure::Broken(Reason::Stalled, cause))
        }
        .boxed()
    }

    /// How long the node of this channel may confirm nothing.
    fn patience(&self, records: &RecordChannel) -> Duration {
        // Longer than it is kept for that.
        let is_checked = |at: Instant| at.elapsed() < 2 * MOST_PATIENCE;
        if !self.connector.has_others() {
            ONLY_PATIENCE
        } else if records.checked_at.is_some_and(is_checked) {
            MOST_PATIENCE
        } else {
            PATIENCE
        }
    }

    /// Publishes until a channel or the connection fails, or all records are settled.
    async fn publish(
        &mut self,
        open: &Arc<Open>,
        records: &mut RecordChannel,
        signalling: &mut Channel,
        events: &mut Events,
    ) -> Result<(), Failure> {
        let mut check: Option<Check> = None;
        loop {
            if self.is_done() {
                return Ok(());
            }
            let has_room = records.in_flight.len() < self.window;
            let is_waiting = !records.in_flight.is_empty() && !self.is_blocked;
            let patience = self.patience(records);
            if has_room && let Some(sequence) = records.rewrites.pop_front() {
                self.write(sequence, records, events).await?;
                continue;
            }
            tokio::select! {
                biased;
                Some((sequence, confirmation)) = records.confirms.next() => {
                    self.settle(sequence, confirmation, &mut records.in_flight)?;
                    if !mem::replace(&mut records.is_storing, true) {
                        self.has_stalled = false;
                        self.connector.set_storing(&open.node, true);
                    }
                    records.waiting_since = Instant::now();
                    (records.checked_at, check) = (None, None);
                }
                event = events.next() => {
                    self.notice(event)?;
                    // A broker that has blocked publishers had no reason to confirm.
                    records.waiting_since = Instant::now();
                    check = check.filter(|_| !self.is_blocked);
                }
                Some(pending) = self.records.recv(), if !self.is_blocked && has_room => {
                    let sequence = self.keep(pending);
                    self.write(sequence, records, events).await?;
                }
                Some(signal) = self.signals.recv() => if !self.is_blocked {
                    self.send(signal, &open.connection, signalling, events).await?;
                },
                () = self.closing.cancelled(), if !self.closing.is_cancelled() => {}
                // No event tells that the last caller has stopped waiting.
                () = sleep(CLOSING), if self.closing.is_cancelled() => {}
                Some(checked) = OptionFuture::from(check.as_mut()) => {
                    check = None;
                    checked?;
                    records.checked_at = Some(Instant::now());
                }
                () = sleep_until(records.waiting_since + patience), if is_waiting && check.is_none() => {
                    (self.has_stalled, records.is_storing) = (true, false);
                    self.connector.set_storing(&open.node, false);
                    if patience > PATIENCE {
                        let cause = format!("the broker has confirmed nothing for {} s", patience.as_secs());
                        return Err(Failure::Broken(Reason::Stalled, cause));
                    }
                    check = Some(self.check(open));
                }
            }
        }
    }

    async fn write(
        &mut self,
        sequence: u64,
        records: &mut RecordChannel,
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
        if records.in_flight.is_empty() {
            records.waiting_since = Instant::now();
        }
        records.in_flight.insert(sequence);
        let channel = &records.channel;
        let written =
            channel.basic_publish(exchange, key, options, record.text.as_bytes(), properties);
        let confirm = match self.taken(written, events).await {
            Ok(confirm) => confirm,
            Err(failure) if channel.status().connected() => return Err(failure),
            Err(failure) => return Err(reason(&mut records.confirms, failure).await),
        };
        records.confirms.push(
            confirm
                .map(move |confirmation| (sequence, confirmation))
                .boxed(),
        );
        Ok(())
    }

    /// Finds the record that the broker does not accept. If there is one on the channel, this record is rejected for good. Otherwise the next
    /// ones are written one at a time, and more with each that is confirmed.
    fn isolate(&mut self, in_flight: &BTreeSet<u64>, cause: String) {
        self.window = 1;
        let mut suspects = in_flight.iter();
        let (Some(sequence), None) = (suspects.next(), suspects.next()) else {
            return;
        };
        let Some(pending) = self.unconfirmed.remove(sequence) else {
            return;
        };
        if self.logged_at.is_none_or(|at| at.elapsed() > LOGGED) {
            self.logged_at = Some(Instant::now());
            let bytes = pending.record.text.len();
            warn!(
                cause,
                bytes,
                "the broker does not accept a message; check its max_message_size and the permissions of the server's user"
            );
        }
        // A caller that has stopped waiting will retry, and then learn it.
        let _ = pending.confirm.send(Err(PublishError::Rejected(cause)));
    }

    /// Sends a signal. It is lost if the broker does not accept it, and its channel is opened again for the next one.
    async fn send(
        &mut self,
        signal: Signal,
        connection: &Connection,
        channel: &mut Channel,
        events: &mut Events,
    ) -> Result<(), Failure> {
        if !channel.status().connected() {
            *channel = open_channel(connection).await?;
        }
        let exchange = self.exchange.as_str().into();
        let sent = channel.basic_publish(
            exchange,
            signal.key.as_str().into(),
            BasicPublishOptions::default(),
            &signal.body,
            lapin::BasicProperties::default(),
        );
        match self.taken(sent, events).await {
            Err(failure) if channel.status().connected() => Err(failure),
            // Without the connection, the next event says so.
            _ => Ok(()),
        }
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
                    return Err(Failure::Broken(Reason::Timeout, "the broker does not read".to_owned()));
                }
            }
        }
    }

    /// Takes the broker's answer to a record. Any answer but a confirm ends the channel or the connection: all unconfirmed records are
    /// written again, in order, as long as their callers wait.
    fn settle(
        &mut self,
        sequence: u64,
        confirmation: lapin::Result<Confirmation>,
        in_flight: &mut BTreeSet<u64>,
    ) -> Result<(), Failure> {
        match confirmation? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) => return Err(self.returned(sequence)),
            Confirmation::Nack(_) => {
                return Err(Failure::Broken(
                    Reason::NotStored,
                    "the broker could not store a message".to_owned(),
                ));
            }
            Confirmation::NotRequested => {
                return Err(Failure::Broken(
                    Reason::Internal,
                    "the channel does not confirm".to_owned(),
                ));
            }
        }
        in_flight.remove(&sequence);
        self.window = (2 * self.window).min(UNCONFIRMED);
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
            Some(Event::Error(error)) => match Failure::from(error) {
                // The end of a channel, which may be of the one before: the confirms of its records have said so.
                Failure::Rejected(_) => {}
                failure => return Err(failure),
            },
            None => {
                return Err(Failure::Broken(
                    Reason::Lost,
                    "the connection has ended".to_owned(),
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// Why a record could not be written: if the broker has closed the channel, the confirms of the records before say it, though maybe a moment later.
async fn reason(confirms: &mut Confirms, failure: Failure) -> Failure {
    while let Ok(Some((_, confirmation))) = timeout(REASON_TIMEOUT, confirms.next()).await {
        if let Err(error) = confirmation {
            return error.into();
        }
    }
    failure
}

async fn open_channel(connection: &Connection) -> Result<Channel, Failure> {
    let channel = timeout(METHOD_TIMEOUT, connection.create_channel()).await;
    Ok(channel.map_err(|_| unanswered())??)
}

fn unanswered() -> Failure {
    Failure::Broken(Reason::Timeout, "the broker does not answer".to_owned())
}
