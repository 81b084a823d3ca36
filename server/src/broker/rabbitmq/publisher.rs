//! Publishing: one task, one connection, confirmations in a pipeline.
//!
//! Records wait in a queue until they are written, and among the unconfirmed until the broker confirms them. When the
//! connection is lost, all unconfirmed are written again first, in their order and with their ids: whether the broker had
//! them is unknown, and readers hide second copies. Each caller waits no longer than the publish timeout; one that has
//! stopped waiting is not written any more.
//!
//! A broker that blocks publishers (a memory or disk alarm) is waited for on the connection there is: it may store what
//! it was handed as soon as the alarm is over, and every further connection would hand it the same records once more.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use lapin::{
    Channel, Confirmation, Connection, ErrorKind, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use papo_protocol::{Record, topology};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    codec,
    connection::{Connector, METHOD_TIMEOUT},
    topology::{NOT_FOUND, Topology},
};
use crate::{
    backoff::Backoff,
    broker::{PublishError, Publishing, Signal, TraceContext},
};

/// Records that may wait to be written; more are refused at once.
const QUEUE: usize = 16_384;
/// Records written and not confirmed: what has to be written again after a cut.
const UNCONFIRMED: usize = 4_096;
/// A connection that lasted longer did work, and the next one need not be waited for.
const LASTING: Duration = Duration::from_secs(5);
/// How often a publisher that is to leave looks whether anybody still waits for it.
const LEAVING: Duration = Duration::from_millis(100);
/// Signals that may wait; more are lost.
const SIGNALS: usize = 256;

/// The handle. Clones share the task.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    jobs: mpsc::Sender<Job>,
    signals: mpsc::Sender<Signal>,
    state: watch::Receiver<Publishing>,
    closing: CancellationToken,
    tasks: TaskTracker,
    timeout: Duration,
}

/// A record on its way.
#[derive(Debug)]
struct Job {
    record: Arc<Record>,
    trace: Option<TraceContext>,
    /// It may have reached the broker.
    written: Arc<AtomicBool>,
    /// It was written on an earlier connection already, with an outcome that nobody knows.
    again: bool,
    tell: oneshot::Sender<Result<(), PublishError>>,
}

/// The task's side.
struct Work {
    connector: Arc<Connector>,
    topology: Arc<Topology>,
    exchange: String,
    jobs: mpsc::Receiver<Job>,
    signals: mpsc::Receiver<Signal>,
    unconfirmed: BTreeMap<u64, Job>,
    sequence: u64,
    /// The broker has said that it takes no messages for now.
    blocked: bool,
    state: watch::Sender<Publishing>,
    closing: CancellationToken,
}

/// Why a connection is of no use any more.
enum Failure {
    /// It ended, or the broker does not do its part.
    Broken(String),
    /// Messages lead nowhere: exchange, binding or stream is not there.
    NoLog,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(protocol) if protocol.get_id() == NOT_FOUND => Self::NoLog,
            _ => Self::Broken(error.to_string()),
        }
    }
}

type Events = BoxStream<'static, Event>;
type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

impl Publisher {
    /// The handle, and the work that the caller runs as a task among `tasks`.
    pub(super) fn new(
        connector: Arc<Connector>,
        topology: Arc<Topology>,
        timeout: Duration,
        tasks: TaskTracker,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (jobs, job_queue) = mpsc::channel(QUEUE);
        let (signals, signal_queue) = mpsc::channel(SIGNALS);
        let (report, state) =
            watch::channel(Publishing::Down("connecting to the broker".to_owned()));
        let closing = CancellationToken::new();
        let work = Work {
            connector,
            exchange: topology::exchange(&topology.room),
            topology,
            jobs: job_queue,
            signals: signal_queue,
            unconfirmed: BTreeMap::new(),
            sequence: 0,
            blocked: false,
            state: report,
            closing: closing.clone(),
        };
        (
            Self {
                jobs,
                signals,
                state,
                closing,
                tasks,
                timeout,
            },
            work.run(),
        )
    }

    /// Queues a record; see [`crate::broker::Broker::publish`].
    pub(super) fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let (tell, told) = oneshot::channel();
        let written = Arc::new(AtomicBool::new(false));
        let job = Job {
            record,
            trace,
            written: written.clone(),
            again: false,
            tell,
        };
        let queued = if self.closing.is_cancelled() {
            Err("the server is going away".to_owned())
        } else {
            self.jobs
                .try_send(job)
                .map_err(|_| "too many messages wait for the broker already".to_owned())
        };
        let (state, deadline) = (self.state.clone(), Instant::now() + self.timeout);
        async move {
            queued.map_err(PublishError::Unavailable)?;
            wait(told, &written, deadline, &state).await
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // Lost when the queue is full or nobody takes from it, as signals may be.
        let _ = self.signals.try_send(signal);
    }

    pub(super) fn state(&self) -> watch::Receiver<Publishing> {
        self.state.clone()
    }

    /// Resolves once the publisher was closed and has nothing left to do.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let (closing, mut state) = (self.closing.clone(), self.state.clone());
        async move {
            closing.cancelled().await;
            // Ends when the work is done, and its side of the channel with it.
            while state.changed().await.is_ok() {}
        }
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }
}

/// Waits for the outcome until the deadline. Giving up comes before looking whether it was written, and the writer does
/// it the other way round, so that what is reported as not stored is never written afterwards.
async fn wait(
    mut told: oneshot::Receiver<Result<(), PublishError>>,
    written: &AtomicBool,
    deadline: Instant,
    state: &watch::Receiver<Publishing>,
) -> Result<(), PublishError> {
    if let Ok(outcome) = timeout_at(deadline, &mut told).await {
        return outcome.unwrap_or(Err(PublishError::Unknown));
    }
    told.close();
    if let Ok(outcome) = told.try_recv() {
        return outcome;
    }
    if written.load(Ordering::SeqCst) {
        return Err(PublishError::Unknown);
    }
    Err(PublishError::Unavailable(match &*state.borrow() {
        Publishing::Down(reason) | Publishing::Blocked(reason) => reason.clone(),
        Publishing::Up => "the broker takes messages too slowly".to_owned(),
    }))
}

impl Work {
    /// Publishes until closed and nothing is left.
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        while !self.is_done() {
            let begun = Instant::now();
            let failure = match self.connector.connect("publisher").await {
                Err(error) => Failure::Broken(error.to_string()),
                Ok(connection) => match self.serve(&connection).await {
                    Ok(()) => return close(&connection).await,
                    Err(failure) => failure,
                },
            };
            if begun.elapsed() > LASTING {
                backoff.reset();
            }
            self.recover(failure, backoff.delay()).await;
        }
    }

    async fn recover(&mut self, failure: Failure, wait: Duration) {
        match failure {
            Failure::Broken(reason) => self.pause(reason, wait).await,
            Failure::NoLog => {
                let missing = format!("exchange {} leads to no log", self.exchange);
                self.pause(missing, wait).await;
                if let Err(error) = self.topology.restore().await {
                    warn!(%error, "cannot restore what the room needs on the broker");
                }
            }
        }
    }

    /// Closed, and nobody waits for anything any more.
    fn is_done(&mut self) -> bool {
        if !self.closing.is_cancelled() {
            return false;
        }
        if self.blocked {
            self.keep_all();
        }
        self.unconfirmed.retain(|_, job| !job.tell.is_closed());
        self.unconfirmed.is_empty() && self.jobs.is_empty()
    }

    /// Not connected: who waits goes on waiting, signals are lost.
    async fn pause(&mut self, reason: String, wait: Duration) {
        warn!(reason, retry_in = ?wait, unconfirmed = self.unconfirmed.len(), "cannot publish");
        self.state.send_replace(Publishing::Down(reason));
        sleep(wait).await;
        while self.signals.try_recv().is_ok() {}
        if self.closing.is_cancelled() {
            self.keep_all();
        }
    }

    /// Publishes on one connection until it fails (`Err`), or all is done (`Ok`).
    async fn serve(&mut self, connection: &Connection) -> Result<(), Failure> {
        let (channel, signalling) = (open(connection).await?, open(connection).await?);
        let selected = timeout(
            METHOD_TIMEOUT,
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await;
        selected.map_err(|_| "the broker does not answer".to_owned())??;
        let mut confirms = Confirms::new();
        let mut events: Events = connection.events_listener().boxed();
        self.blocked = false;
        info!("publishing");
        self.state.send_replace(Publishing::Up);
        self.write_again(&channel, &mut confirms, &mut events)
            .await?;
        loop {
            if self.is_done() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some((sequence, confirmation)) = confirms.next() => self.settle(sequence, confirmation)?,
                event = events.next() => self.notice(event)?,
                Some(job) = self.jobs.recv(), if !self.blocked && confirms.len() < UNCONFIRMED => {
                    let sequence = self.keep(job);
                    self.write(sequence, &channel, &mut confirms, &mut events).await?;
                }
                Some(signal) = self.signals.recv() => if !self.blocked {
                    self.send(signal, &signalling, &mut events).await?;
                },
                () = self.closing.cancelled(), if !self.closing.is_cancelled() => {}
                // Nothing else tells that the last caller has stopped waiting.
                () = sleep(LEAVING), if self.closing.is_cancelled() => {}
            }
        }
    }

    fn keep(&mut self, job: Job) -> u64 {
        self.sequence += 1;
        self.unconfirmed.insert(self.sequence, job);
        self.sequence
    }

    /// Takes what waits to be written among the unconfirmed, where one sees who has stopped waiting.
    fn keep_all(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.keep(job);
        }
    }

    async fn write_again(
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
        let Some(job) = self.unconfirmed.get_mut(&sequence) else {
            return Ok(());
        };
        let before = job.written.swap(true, Ordering::SeqCst);
        if job.tell.is_closed() {
            job.written.store(before, Ordering::SeqCst);
            self.unconfirmed.remove(&sequence);
            return Ok(());
        }
        job.again = before;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let properties = codec::properties(&job.record, job.trace.as_ref());
        let record = job.record.clone();
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

    /// Waits until something is written. While the broker blocks, only the end of the connection (which heartbeats
    /// watch over) ends the wait.
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
                () = sleep(METHOD_TIMEOUT), if !self.blocked => {
                    return Err("the broker takes nothing".to_owned().into());
                }
            }
        }
    }

    /// What the broker says of a record. Anything but a confirmation ends the connection: everything unconfirmed is
    /// written again, in order, for as long as somebody waits for it.
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
                return Err("the channel confirms nothing".to_owned().into());
            }
        }
        if let Some(job) = self.unconfirmed.remove(&sequence) {
            // One who has stopped waiting will ask again.
            let _ = job.tell.send(Ok(()));
        }
        Ok(())
    }

    /// A record that came back is certainly not stored, unless an earlier try was.
    fn returned(&self, sequence: u64) -> Failure {
        if let Some(job) = self.unconfirmed.get(&sequence).filter(|job| !job.again) {
            job.written.store(false, Ordering::SeqCst);
        }
        Failure::NoLog
    }

    fn notice(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                warn!(reason, "the broker blocks publishing");
                self.blocked = true;
                self.state.send_replace(Publishing::Blocked(format!(
                    "the broker blocks publishing: {reason}"
                )));
            }
            Some(Event::ConnectionUnblocked) => {
                info!("the broker takes messages again");
                self.blocked = false;
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

async fn close(connection: &Connection) {
    // Everything is confirmed; a broker that does not say goodbye makes no difference.
    let _ = timeout(METHOD_TIMEOUT, connection.close(200, "goodbye".into())).await;
}
