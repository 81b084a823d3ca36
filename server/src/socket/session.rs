//! A session: what the server keeps of one member from its CONNECT packet until its connection ends.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use papo_protocol::event::Code;
use parking_lot::Mutex;

use crate::chat::{Member, Rate, Rejection};

/// Requests of one connection that may wait at once: messages for the broker, and answers for the client to read.
const MOST_PENDING: u32 = 4_096;
/// Typing signals, per second and at once: the page shows no more than one every half second.
const TYPING_RATE: (u32, u32) = (2, 4);

/// One member's connection.
pub(super) struct Session {
    /// The member's identity. It is fixed when the client connects, so no event can claim another.
    pub(super) member: Member,
    /// Held while a history request is answered: one after the other, however many the client sends.
    pub(super) history: tokio::sync::Mutex<()>,
    rates: Mutex<Rates>,
    pending: AtomicU32,
}

struct Rates {
    typing: Rate,
}

impl Session {
    pub(super) fn new(member: Member) -> Self {
        let rates = Rates {
            typing: Rate::new(TYPING_RATE.0, TYPING_RATE.1),
        };
        Self {
            member,
            history: tokio::sync::Mutex::default(),
            rates: Mutex::new(rates),
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

    /// Whether the member may send a typing signal now.
    pub(super) fn may_type(&self) -> bool {
        self.rates.lock().typing.take(Instant::now()).is_ok()
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
