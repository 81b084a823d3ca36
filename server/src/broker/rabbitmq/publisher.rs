//! Publishing: one task, one connection, confirmations in a pipeline.
//!
//! Records wait in a queue until they are written, and among the unconfirmed until the broker confirms them. When the
//! connection is lost, all unconfirmed are written again first, in their order and with their ids: whether the broker had
//! them is unknown, and readers hide second copies. Each caller waits no longer than the publish timeout; one that has
//! stopped waiting is not written any more.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation, Connection, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use papo_protocol::{Record, RoomName, topology};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    codec,
    connection::{Connector, METHOD_TIMEOUT},
};
use crate::{
    backoff::Backoff,
    broker::{PublishError, Publishing, Signal, TraceContext},
};

/// Records that may wait to be written; more are refused at once.
const QUEUE: usize = 16_384;
/// Records written and not confirmed: what has to be written again after a cut.
const UNCONFIRMED: usize = 4_096;
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
    exchange: String,
    jobs: mpsc::Receiver<Job>,
    signals: mpsc::Receiver<Signal>,
    unconfirmed: BTreeMap<u64, Job>,
    sequence: u64,
    state: watch::Sender<Publishing>,
    closing: CancellationToken,
}

type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

impl Publisher {
    /// The handle, and the work that the caller runs as a task among `tasks`.
    pub(super) fn new(
        connector: Arc<Connector>,
        room: &RoomName,
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
            exchange: topology::exchange(room),
            jobs: job_queue,
            signals: signal_queue,
            unconfirmed: BTreeMap::new(),
            sequence: 0,
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
        Publishing::Down(reason) => reason.clone(),
        Publishing::Up => "the broker takes messages too slowly".to_owned(),
    }))
}

impl Work {
    /// Publishes until closed and nothing is left.
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while !self.is_done() {
            let reason = match self.connector.connect("publisher").await {
                Err(error) => error.to_string(),
                Ok(connection) => {
                    backoff.reset();
                    match self.serve(&connection).await {
                        Ok(()) => return close(&connection).await,
                        Err(error) => error,
                    }
                }
            };
            self.pause(reason, backoff.delay()).await;
        }
    }

    fn is_done(&mut self) -> bool {
        self.unconfirmed.retain(|_, job| !job.tell.is_closed());
        self.closing.is_cancelled() && self.unconfirmed.is_empty() && self.jobs.is_empty()
    }

    /// Not connected: who waits goes on waiting, signals are lost.
    async fn pause(&mut self, reason: String, wait: Duration) {
        warn!(reason, retry_in = ?wait, unconfirmed = self.unconfirmed.len(), "cannot publish");
        self.state.send_replace(Publishing::Down(reason));
        sleep(wait).await;
        while self.signals.try_recv().is_ok() {}
        if self.closing.is_cancelled() {
            while let Ok(job) = self.jobs.try_recv() {
                self.keep(job);
            }
        }
    }

    /// Publishes on one connection until it fails (`Err`), or all is done (`Ok`).
    async fn serve(&mut self, connection: &Connection) -> Result<(), String> {
        let (channel, signalling) = (open(connection).await?, open(connection).await?);
        let selected = timeout(
            METHOD_TIMEOUT,
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await;
        selected
            .map_err(|_| "the broker does not answer".to_owned())?
            .map_err(|error| error.to_string())?;
        let mut confirms = Confirms::new();
        let mut events = Box::pin(connection.events_listener());
        self.write_again(&channel, &mut confirms).await?;
        info!("publishing");
        self.state.send_replace(Publishing::Up);
        loop {
            if self.closing.is_cancelled() && confirms.is_empty() && self.jobs.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some((sequence, confirmation)) = confirms.next() => self.settle(sequence, confirmation)?,
                event = events.next() => self.notice(event)?,
                Some(job) = self.jobs.recv(), if confirms.len() < UNCONFIRMED => {
                    let sequence = self.keep(job);
                    self.write(sequence, &channel, &mut confirms).await?;
                }
                Some(signal) = self.signals.recv() => send(&signalling, &self.exchange, signal).await?,
                () = self.closing.cancelled(), if !self.closing.is_cancelled() => {}
            }
        }
    }

    fn keep(&mut self, job: Job) -> u64 {
        self.sequence += 1;
        self.unconfirmed.insert(self.sequence, job);
        self.sequence
    }

    async fn write_again(
        &mut self,
        channel: &Channel,
        confirms: &mut Confirms,
    ) -> Result<(), String> {
        let sequences: Vec<u64> = self.unconfirmed.keys().copied().collect();
        for sequence in sequences {
            self.write(sequence, channel, confirms).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        sequence: u64,
        channel: &Channel,
        confirms: &mut Confirms,
    ) -> Result<(), String> {
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
        let key = topology::MESSAGE_KEY.into();
        let written = channel.basic_publish(
            self.exchange.as_str().into(),
            key,
            options,
            job.record.text.as_bytes(),
            properties,
        );
        let confirm = timeout(METHOD_TIMEOUT, written)
            .await
            .map_err(|_| "the broker takes nothing".to_owned())?;
        let confirm = confirm.map_err(|error| error.to_string())?;
        confirms.push(
            confirm
                .map(move |confirmation| (sequence, confirmation))
                .boxed(),
        );
        Ok(())
    }

    /// What the broker says of a record. Anything but a confirmation ends the connection: everything unconfirmed is
    /// written again, in order, for as long as somebody waits for it.
    fn settle(
        &mut self,
        sequence: u64,
        confirmation: lapin::Result<Confirmation>,
    ) -> Result<(), String> {
        match confirmation {
            Ok(Confirmation::Ack(None)) => {}
            Ok(Confirmation::Ack(Some(_))) => return Err(self.returned(sequence)),
            Ok(Confirmation::Nack(_)) => {
                return Err("the broker could not store a message".to_owned());
            }
            Ok(Confirmation::NotRequested) => return Err("the channel confirms nothing".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        if let Some(job) = self.unconfirmed.remove(&sequence) {
            // One who has stopped waiting will ask again.
            let _ = job.tell.send(Ok(()));
        }
        Ok(())
    }

    /// A record that came back is certainly not stored, unless an earlier try was.
    fn returned(&self, sequence: u64) -> String {
        if let Some(job) = self.unconfirmed.get(&sequence).filter(|job| !job.again) {
            job.written.store(false, Ordering::SeqCst);
        }
        format!("exchange {} leads to no log", self.exchange)
    }

    fn notice(&self, event: Option<Event>) -> Result<(), String> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                warn!(reason, "the broker blocks publishing");
                self.state.send_replace(Publishing::Down(format!(
                    "the broker blocks publishing: {reason}"
                )));
            }
            Some(Event::ConnectionUnblocked) => {
                info!("the broker takes messages again");
                self.state.send_replace(Publishing::Up);
            }
            Some(Event::Error(error)) => return Err(error.to_string()),
            None => return Err("the connection has ended".to_owned()),
            Some(_) => {}
        }
        Ok(())
    }
}

async fn open(connection: &Connection) -> Result<Channel, String> {
    let channel = timeout(METHOD_TIMEOUT, connection.create_channel()).await;
    channel
        .map_err(|_| "the broker does not answer".to_owned())?
        .map_err(|error| error.to_string())
}

async fn send(channel: &Channel, exchange: &str, signal: Signal) -> Result<(), String> {
    let sent = channel.basic_publish(
        exchange.into(),
        signal.key.as_str().into(),
        BasicPublishOptions::default(),
        &signal.body,
        lapin::BasicProperties::default(),
    );
    let sent = timeout(METHOD_TIMEOUT, sent)
        .await
        .map_err(|_| "the broker takes nothing".to_owned())?;
    sent.map(drop).map_err(|error| error.to_string())
}

async fn close(connection: &Connection) {
    // Everything is confirmed; a broker that does not say goodbye makes no difference.
    let _ = timeout(METHOD_TIMEOUT, connection.close(200, "goodbye".into())).await;
}
