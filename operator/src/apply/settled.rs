//! Rooms whose children were found as they should be. A resync of such a room does not compare them again: their watches report what changes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::drift::digest;
use crate::{cache::Cache, desired::Log, names, validate::Room};

/// The settled rooms, by `metadata.uid`.
#[derive(Default)]
pub struct Settled(Mutex<HashMap<String, State>>);

/// A digest of all that a room's children depend on, and of the versions in which they were found.
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

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, State>) -> T) -> T {
        // Nothing panics while it is locked.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
