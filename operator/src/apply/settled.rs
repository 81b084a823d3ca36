//! Rooms whose children were found as they should be. A resync of such a room does not compare them again: their watches report what changes, and a
//! watch that is lost is a change too.

use std::collections::HashSet;

use super::drift::digest;
use crate::{cache::Cache, desired::Log, known::Known, names, validate::Room};

/// The settled rooms.
#[derive(Default)]
pub struct Settled(Known<State>);

/// A digest of all that a room's children depend on, of the versions in which they were found, and of which kinds are watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State(String);

impl State {
    pub(super) fn of(room: &Room, log: Option<&Log>, cache: &Cache) -> Self {
        let versions = cache.versions(room.name.namespace(), &names::child(&room.name));
        Self(digest(&format!("{room:?} {log:?} {versions:?}")))
    }
}

impl Settled {
    pub(super) fn is(&self, room: &Room, state: &State) -> bool {
        self.0.lock().get(&room.uid) == Some(state)
    }

    pub(super) fn set(&self, room: &Room, state: State) {
        self.0.set(&room.uid, state);
    }

    /// Forgets a room that is deleted.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.forget(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.0.retain(uids);
    }
}

#[cfg(test)]
impl Settled {
    pub(crate) fn note(&self, uid: &str) {
        self.0.set(uid, State(String::new()));
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.0.has(uid)
    }
}
