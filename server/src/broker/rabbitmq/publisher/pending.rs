//! A record on its way to the log.

use std::sync::{Arc, atomic::AtomicBool};

use papo_protocol::Record;
use tokio::sync::oneshot;

use crate::broker::{PublishError, TraceContext};

/// A record on its way to the log.
#[derive(Debug)]
pub(super) struct PendingRecord {
    pub(super) record: Arc<Record>,
    pub(super) trace: Option<TraceContext>,
    /// The broker may have it.
    pub(super) written: Arc<AtomicBool>,
    /// It was written on an earlier connection before, which was lost before the confirm.
    pub(super) is_rewritten: bool,
    pub(super) confirm: oneshot::Sender<Result<(), PublishError>>,
}
