//! A session: what the server keeps of one member from its CONNECT packet until its connection ends.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use papo_protocol::event::Code;

use super::{members::Registration, standing::Standing};
use crate::chat::Rejection;

/// Requests of one connection that may wait at once: messages for the broker, and answers for the client to read.
const MOST_PENDING: u32 = 4_096;

/// One member's connection.
pub(super) struct Session {
    /// Who the member is. Issuer and subject, or a guest's secret, fix it when the client connects, so that no event can claim another.
    pub(super) standing: Standing,
    /// Among the members, if there is an access file.
    pub(super) registration: Option<Registration>,
    /// Its socket in the directory, if there is one.
    pub(super) listed: Option<Arc<str>>,
    /// Held while a history request is answered: one after the other, however many the client sends.
    pub(super) history: tokio::sync::Mutex<()>,
    pending: AtomicU32,
}

impl Session {
    pub(super) fn new(
        standing: Standing,
        registration: Option<Registration>,
        listed: Option<Arc<str>>,
    ) -> Self {
        Self {
            standing,
            registration,
            listed,
            history: tokio::sync::Mutex::default(),
            pending: AtomicU32::new(0),
        }
    }

    /// Whether the member may have another message pending. The rates of messages are bounds of the sender, not of a connection.
    pub(super) fn may_send(&self) -> Result<(), Rejection> {
        if self.is_busy() {
            return Err(Rejection::new(
                Code::RateLimited,
                format!("{MOST_PENDING} requests are pending; wait for their acknowledgements"),
            ));
        }
        Ok(())
    }

    /// Whether as many requests wait as may.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= MOST_PENDING
    }

    /// Counts a request that waits.
    pub(super) fn begin_request(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// No longer counts one.
    pub(super) fn finish_request(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
