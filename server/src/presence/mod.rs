//! Presence: who is in the room, over all servers, and who is typing.
//!
//! - The [`Roster`] is pure: time comes in as an argument.
//! - [`Presence`] owns the roster and this server's members behind one lock.
//! - The [`exchange`] task tells other servers and this server's members of changes, many at a time. All of it is signals and
//!   may be lost, so it is repeated.

mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod roster;

use std::{collections::HashMap, sync::Arc};

use papo_engineio::{Frame, socketio};
use papo_protocol::{UserName, event};
use parking_lot::Mutex;
use serde::Serialize;
use uuid::Uuid;

use crate::fanout::MemberId;
use roster::Roster;

pub(crate) use exchange::{Exchange, send_typing};

/// Who is in the room. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Presence(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    roster: Roster,
    /// The members of this server.
    members: HashMap<MemberId, UserName>,
}

impl Presence {
    /// An empty room, seen from a server with a new id.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            roster: Roster::new(Uuid::new_v4().to_string()),
            members: HashMap::new(),
        })))
    }

    /// Counts a member of this server.
    pub(crate) fn join(&self, id: MemberId, user: &UserName) {
        let mut state = self.0.lock();
        state.roster.join(user);
        state.members.insert(id, user.clone());
    }

    /// No longer counts a member. Leaving twice is leaving once.
    pub(crate) fn leave(&self, id: MemberId) {
        let mut state = self.0.lock();
        if let Some(user) = state.members.remove(&id) {
            state.roster.leave(&user);
        }
    }

    /// Members on all servers.
    pub(crate) fn count(&self) -> u64 {
        self.with_roster(|roster| roster.count())
    }

    /// The first `presence` event of a new member.
    pub(crate) fn first_event(&self) -> Frame {
        event_frame(event::PRESENCE, &self.with_roster(|roster| roster.all()))
    }

    fn with_roster<T>(&self, act: impl FnOnce(&mut Roster) -> T) -> T {
        act(&mut self.0.lock().roster)
    }
}

fn event_frame(event: &str, body: &impl Serialize) -> Frame {
    socketio::event(&(event, body))
}
