//! The port to the broker, which keeps a room's log, and the guarantees of every adapter. One conformance suite tests them all.
//!
//! - **One order.** Offsets rise, the same for every reader, but not always by one: a broker may keep entries of its own
//!   among the records. An offset means something only together with the [`Epoch`] of its log.
//! - **At least once.** [`Broker::publish`] succeeds only when the record is stored for good. When it fails with
//!   [`PublishError::Unknown`] the record may be there or not, and publishing it again may store it twice: readers hide
//!   duplicates (`crate::log`), adapters do not.
//! - **Order of calls.** Records published through one handle are stored in the order of the calls, even across the
//!   adapter's own retries.
//! - **No silent loss in reading.** A [`Reader`] yields every record from where it began, or ends with an error; it never skips. The
//!   caller reconnects, because it knows the last offset that it has read.
//! - **Signals may be lost**, and sending one never waits.

pub mod local;
pub mod rabbitmq;
#[cfg(test)]
pub(crate) mod testing;
mod trace;

use std::{future::Future, ops::Range, sync::Arc};

use bytes::Bytes;
use papo_protocol::{Epoch, Record};
use tokio::sync::{broadcast, watch};

pub use trace::TraceContext;

/// An entry of the log as it was read: its offset, and the record there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Place in the log.
    pub offset: u64,
    /// The record; `None` when the entry is not one of our records.
    pub record: Option<Arc<Record>>,
    /// Trace context that the publisher sent along (W3C `traceparent`, `tracestate`), if any.
    pub trace: Option<TraceContext>,
}

/// Where to begin reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// This many records before the end of the current log, or at its head if it has fewer.
    BeforeEnd(u64),
    /// Exactly at this offset of this epoch's log.
    At(Epoch, u64),
}

/// A reader that has attached to the log.
#[derive(Debug)]
pub struct Attached<R> {
    /// The log's epoch.
    pub epoch: Epoch,
    /// Offset of the oldest record retained, and the offset that the next record would get, when the reader attached.
    pub bounds: Range<u64>,
    /// Offset of the first record the reader will yield.
    pub from: u64,
    /// Yields records from `from` on, then waits for more.
    pub reader: R,
}

/// Yields a log's records in order, until the broker is lost.
pub trait Reader: Send + 'static {
    /// The next records, at least one; waits while there are none. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Stored>, ReadError>> + Send;

    /// Whether the node of the broker that the reader uses may still deliver what it has not yet.
    fn can_deliver(&mut self) -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }

    /// The reader gets nothing although there is something: the next one is attached to another node of the broker, if there is one.
    fn give_up(&mut self) {}
}

/// A message that is not stored: presence, typing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Routing key, one of [`papo_protocol::topology`]'s.
    pub key: String,
    /// JSON.
    pub body: Bytes,
}

/// The state of publishing, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Connected, and the broker confirms.
    Up,
    /// The broker is short of memory or disk and takes no messages for now, in its own words. The log can be read.
    Blocked(String),
    /// Not possible now, and why, in the broker's own words.
    Down(String),
}

/// A connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConnection {
    /// What it is for: `publisher` or `reader`.
    pub purpose: &'static str,
    /// The node of the broker, as host and port; `None` while there is no connection.
    pub node: Option<String>,
    /// How often the connection has moved to another node, by reason. There are few reasons.
    pub moves: Vec<(&'static str, u64)>,
}

/// Keeps a room's log and carries its signals.
pub trait Broker: Clone + Send + Sync + 'static {
    /// Reads the log.
    type Reader: Reader;

    /// Attaches a reader.
    ///
    /// [`Start::At`] an offset below the head begins at the head, and at an offset beyond the end is
    /// [`ReadError::BeyondEnd`]: the caller compares [`Attached::from`] with what it asked for.
    fn attach(
        &self,
        start: Start,
    ) -> impl Future<Output = Result<Attached<Self::Reader>, ReadError>> + Send;

    /// Reads the records of `offsets` that are still retained, for history beyond what is in memory.
    fn read(
        &self,
        epoch: &Epoch,
        offsets: Range<u64>,
    ) -> impl Future<Output = Result<Vec<Stored>, ReadError>> + Send;

    /// Stores a record. It takes its place in the order when this is called, not when the future is polled; the future
    /// resolves when the record is stored, or cannot be before the adapter's deadline.
    fn publish(
        &self,
        record: Arc<Record>,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static;

    /// Sends a signal to every server of the room, this one included. It is lost if it cannot be sent at once.
    fn signal(&self, signal: Signal);

    /// Signals from now on.
    fn signals(&self) -> broadcast::Receiver<Signal>;

    /// The state of publishing.
    fn publishing(&self) -> watch::Receiver<Publishing>;

    /// The connections, for metrics; none if the broker is in this process.
    fn connections(&self) -> Vec<BrokerConnection> {
        Vec::new()
    }

    /// Takes no more records, and waits until each one taken is stored or has failed. Idempotent.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Why a record was not stored, or may not have been.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublishError {
    /// The record may be stored or not: publish it again with the same id.
    #[error("the broker did not confirm in time")]
    Unknown,
    /// The record is certainly not stored.
    #[error("{0}")]
    Unavailable(String),
    /// The broker does not accept this record, and will not: why, in its own words. Other records are not affected.
    #[error("{0}")]
    Rejected(String),
}

/// Why the log cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// The broker cannot be reached, or the connection was lost. Try again.
    #[error("{0}")]
    Unavailable(String),
    /// The room has no log: it was never created, or it was deleted.
    #[error("{0}")]
    Missing(String),
    /// The broker does not accept the request until a person corrects something, in its own words.
    #[error("{0}")]
    Rejected(String),
    /// The requested log is not the room's current one.
    #[error("the log's epoch is {current}")]
    EpochChanged {
        /// The current epoch.
        current: Epoch,
    },
    /// No record has this offset yet.
    #[error("offset beyond the end of the log, which is {end}")]
    BeyondEnd {
        /// The offset that the next record would get.
        end: u64,
    },
}
