//! Rooms whose children were found as they should be. A resync of such a room does not compare them again: their watches report what changes, and a
//! watch that is lost is a change too.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::drift::digest;
use crate::{cache::Cache, desired::Log, names, validate::Room};

/// The settled rooms, by `metadata.uid`.
#[derive(Default)]
pub struct Settled(Mutex<HashMap<String, State>>);

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
        self.with(|rooms| rooms.get(&room.uid) == Some(state))
    }

    pub(super) fn set(&self, room: &Room, state: State) {
        self.with(|rooms| rooms.insert(room.uid.clone(), state));
    }

    /// Forgets a room that is deleted.
    pub(crate) fn forget(&self, uid: &str) {
        self.with(|rooms| rooms.remove(uid));
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.with(|rooms| rooms.retain(|uid, _| uids.contains(uid)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, State>) -> T) -> T {
        // Nothing panics while it is locked.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
impl Settled {
    pub(crate) fn note(&self, uid: &str) {
        self.with(|rooms| rooms.insert(uid.to_owned(), State(String::new())));
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.with(|rooms| rooms.contains_key(uid))
    }
}
