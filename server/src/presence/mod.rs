//! Presence: who is in the room, over all servers, and who is typing.
//!
//! - The [`Roster`] is pure: time comes in as an argument.
//! - A member whose name looks like that of another sender who is present gets a visible mark behind it ([`Looks`]).
//! - [`Presence`] owns the roster and this server's members behind one lock.
//! - The [`exchange`] task tells other servers and this server's members of changes, many at a time. All of it is signals and
//!   may be lost, so it is repeated.

mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod looks;
mod other;
mod report;
mod roster;

use std::{collections::HashMap, sync::Arc};

use papo_engineio::{Frame, socketio};
use papo_protocol::event;
use parking_lot::Mutex;
use serde::Serialize;
use uuid::Uuid;

use crate::{chat::Member, fanout::MemberId};
use looks::Looks;
use roster::Roster;

pub(crate) use exchange::{Exchange, send_typing};
pub(crate) use roster::NameTaken;

/// Who is in the room. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Presence(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    roster: Roster,
    /// The members of this server.
    members: HashMap<MemberId, Arc<Member>>,
}

impl Presence {
    /// An empty room, seen from a server with a new id.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            roster: Roster::new(Uuid::new_v4().to_string()),
            members: HashMap::new(),
        })))
    }

    /// Counts a member of this server. Returns it as others see it: with a mark behind its name if another sender shows a name
    /// that looks the same.
    pub(crate) fn join(&self, id: MemberId, member: Member) -> Result<Arc<Member>, NameTaken> {
        let mut state = self.0.lock();
        let member = state.roster.join(member)?;
        state.members.insert(id, member.clone());
        Ok(member)
    }

    /// A member of this server gets another name; `None` if it has left. Returns it as [`join`](Self::join) does.
    pub(crate) fn rename(&self, id: MemberId, member: Member) -> Option<Arc<Member>> {
        let State { roster, members } = &mut *self.0.lock();
        let known = members.get_mut(&id)?;
        *known = roster.rename(known, member).ok()?;
        Some(known.clone())
    }

    /// No longer counts a member. Leaving twice is leaving once.
    pub(crate) fn leave(&self, id: MemberId) {
        let mut state = self.0.lock();
        if let Some(member) = state.members.remove(&id) {
            state.roster.leave(&member);
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
