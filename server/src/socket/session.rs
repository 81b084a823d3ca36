//! A session: one member's connection, from its CONNECT packet to its end.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use papo_protocol::{Limits, event::Code};
use parking_lot::Mutex;

use crate::chat::{Member, Rate, Rejection};

/// Messages of one connection that may wait for the broker, and answers that may wait for it to listen, at once.
const MOST_PENDING: u32 = 4_096;
/// Requests for history: scrolling fast, not copying the log.
const HISTORY_RATE: (u32, u32) = (10, 30);
/// Typing signals: one every half second is all that anybody can see.
const TYPING_RATE: (u32, u32) = (2, 4);

/// One member's connection.
pub(super) struct Session {
    /// Who it is: fixed when it connected, so that no event can speak for another.
    pub(super) member: Member,
    rates: Mutex<Rates>,
    pending: AtomicU32,
}

struct Rates {
    messages: Rate,
    history: Rate,
    typing: Rate,
}

impl Session {
    pub(super) fn new(member: Member, limits: &Limits) -> Self {
        let rates = Rates {
            messages: Rate::new(limits.messages_per_second, limits.message_burst),
            history: Rate::new(HISTORY_RATE.0, HISTORY_RATE.1),
            typing: Rate::new(TYPING_RATE.0, TYPING_RATE.1),
        };
        Self {
            member,
            rates: Mutex::new(rates),
            pending: AtomicU32::new(0),
        }
    }

    /// May it send a message now?
    pub(super) fn may_send(&self) -> Result<(), Rejection> {
        if self.is_busy() {
            return Err(Rejection::new(
                Code::RateLimited,
                format!("{MOST_PENDING} messages wait already; wait for their acknowledgements"),
            ));
        }
        taken(self.rates.lock().messages.take(Instant::now()))
    }

    /// May it ask for history now?
    pub(super) fn may_read(&self) -> Result<(), Rejection> {
        taken(self.rates.lock().history.take(Instant::now()))
    }

    /// May it say that it is typing now?
    pub(super) fn may_type(&self) -> bool {
        self.rates.lock().typing.take(Instant::now()).is_ok()
    }

    /// As much waits for the broker, or for the client to listen, as may.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= MOST_PENDING
    }

    /// Something waits.
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// It no longer does.
    pub(super) fn finish(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

fn taken(taken: Result<(), std::time::Duration>) -> Result<(), Rejection> {
    taken.map_err(|wait| {
        Rejection::new(
            Code::RateLimited,
            format!("too fast; try again in {} ms", wait.as_millis().max(1)),
        )
    })
}
