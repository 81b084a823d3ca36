//! The audit log: who entered, who was rejected, who was put out. Lines of the target `papo::audit`, without tokens and texts.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use papo_protocol::{RoomName, SenderId, event::Code};
use parking_lot::Mutex;
use tracing::info;

use super::person::Person;
use crate::{address::Address, chat::Rate};

/// Lines about rejections, per second and at once: anybody can cause one.
const REJECTIONS: (u32, u32) = (20, 200);

/// The audit log of a room.
pub(crate) struct Audit {
    room: String,
    rejections: Mutex<Rate>,
    not_logged: AtomicU64,
}

/// Whom a line is about.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) sender: &'a SenderId,
    /// `None` for a guest.
    pub(crate) person: Option<&'a Person>,
    pub(crate) address: Address,
}

impl Audit {
    pub(super) fn new(room: &RoomName) -> Self {
        Self {
            room: room.to_string(),
            rejections: Mutex::new(Rate::new(REJECTIONS.0, REJECTIONS.1)),
            not_logged: AtomicU64::new(0),
        }
    }

    /// Somebody has entered the room.
    pub(crate) fn entered(&self, who: Who<'_>) {
        let (issuer, subject) = who.person();
        let Who {
            sender, address, ..
        } = who;
        info!(target: "papo::audit", room = self.room, %sender, issuer, subject, %address, "entered");
    }

    /// Somebody has presented a new token.
    pub(crate) fn refreshed(&self, who: Who<'_>) {
        let (issuer, subject) = who.person();
        let Who {
            sender, address, ..
        } = who;
        info!(target: "papo::audit", room = self.room, %sender, issuer, subject, %address, "refreshed");
    }

    /// Somebody was put out.
    pub(crate) fn closed(&self, who: Who<'_>, code: Code) {
        let (issuer, subject) = who.person();
        let Who {
            sender, address, ..
        } = who;
        let code = code.as_str();
        info!(target: "papo::audit", room = self.room, %sender, issuer, subject, %address, code, "closed");
    }

    /// Somebody was not let in, or a new token was not accepted. Nobody vouches for who it is.
    pub(crate) fn rejected(&self, address: Address, code: Code, reason: &str) {
        if self.rejections.lock().take(Instant::now()).is_err() {
            self.not_logged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let not_logged = self.not_logged.swap(0, Ordering::Relaxed);
        let code = code.as_str();
        info!(target: "papo::audit", room = self.room, %address, code, reason, not_logged, "rejected");
    }

    /// Other rules are in force.
    pub(crate) fn access_changed(&self, number: u64) {
        info!(target: "papo::audit", room = self.room, number, "access_changed");
    }
}

impl<'a> Who<'a> {
    fn person(&self) -> (Option<&'a str>, Option<&'a str>) {
        let person = self.person;
        (
            person.map(|person| &*person.issuer),
            person.map(|person| &*person.subject),
        )
    }
}
