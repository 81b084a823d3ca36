//! What this process knows of each room, beyond what the API server keeps.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Something of each room, by the room's `metadata.uid`.
#[derive(Debug)]
pub struct Known<T>(Mutex<HashMap<String, T>>);

impl<T> Known<T> {
    pub(crate) fn set(&self, uid: &str, value: T) {
        self.lock().insert(uid.to_owned(), value);
    }

    /// Forgets a room.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.lock().retain(|uid, _| uids.contains(uid));
    }

    /// Whether something is known of a room.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.lock().contains_key(uid)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<String, T>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Known<T> {
    pub(crate) fn get(&self, uid: &str) -> Option<T> {
        self.lock().get(uid).cloned()
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
