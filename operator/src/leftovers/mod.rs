//! The list of deleted rooms whose brokers could not be cleared: a `ConfigMap` in the operator's namespace, which outlives rooms and operators.
//!
//! - An entry is stored before its room's finalizer is removed, and removed only after its broker is cleared.
//! - Every write carries the `resourceVersion` that was read and is repeated after a conflict, so that an entry which a person removes stays
//!   removed. Changes that wait for a write share the next one.
//! - The list is bounded, because a `ConfigMap` may have 1 MiB, and a tenant cannot fill it: of the rooms whose brokers' Secrets are in one
//!   namespace it takes a quarter. A room beyond the bound keeps its finalizer.
//! - Whoever clears a broker because of an entry looks the entry up once more, in a list that was read a moment ago ([`Leftovers::current`]).
//! - Only one task at a time clears the broker of a room: a [`Claim`]. Another one that is late would remove what a new room of this name has.

mod bounds;
mod entry;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::{Api, Client, Resource, ResourceExt, api::PostParams};
use papo_protocol::RoomName;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    answer::{self, Answer},
    config::SecretRef,
    metrics::Metrics,
    names,
};

use bounds::Counts;
pub(crate) use entry::Leftover;

/// How often a write is repeated after conflicts.
const ATTEMPTS: usize = 5;
/// After this time the list is read again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// How long the API server may take to answer with the list.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How old the list may be from which an entry is worked off. A person who wants to keep a log removes its entry.
const CURRENT: Duration = Duration::from_secs(1);

/// The list. Clones share it.
#[derive(Clone)]
pub struct Leftovers(Arc<Inner>);

struct Inner {
    api: Api<ConfigMap>,
    namespace: String,
    name: String,
    /// The namespace of the Secret of the operator's own broker.
    own: Option<String>,
    metrics: Metrics,
    known: Mutex<Known>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever reads or writes the `ConfigMap`.
    turn: tokio::sync::Mutex<()>,
    claims: Mutex<HashSet<String>>,
    /// Changes when an entry is added.
    added: watch::Sender<()>,
}

/// The list as it was last read or written.
#[derive(Default)]
struct Known {
    config_map: Option<ConfigMap>,
    /// `None`: not readable as an entry. It stays.
    entries: BTreeMap<String, Option<Leftover>>,
    is_loaded: bool,
    /// When it was last read or written.
    at: Option<Instant>,
    failed: Option<Instant>,
}

#[derive(Clone)]
enum Change {
    Add(Leftover),
    Remove(String),
}

/// A change that waits for a write, and who waits for it.
struct Waiting {
    change: Change,
    written: oneshot::Sender<Result<(), StoreError>>,
}

/// Why the list does not have a change.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A bound is reached.
    #[error(
        "the list of what deleted rooms have left on brokers is full ({0}); clear the brokers of its entries, or remove entries that nobody needs"
    )]
    Full(String),
    /// The API server.
    #[error("cannot write the list of what deleted rooms have left on brokers: {0}")]
    Api(String),
    /// The same, when the list is read.
    #[error("cannot read the list of what deleted rooms have left on brokers: {0}")]
    Read(String),
}

/// The right to clear the broker of one deleted room, until it is dropped.
pub(crate) struct Claim {
    leftovers: Leftovers,
    key: String,
}

impl Leftovers {
    /// The list in a `ConfigMap`, which is not read yet. `own` is the Secret of the operator's own broker.
    pub fn new(
        client: Client,
        namespace: &str,
        name: String,
        own: Option<&SecretRef>,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name,
            own: own.map(|own| own.namespace.clone()),
            metrics,
            known: Mutex::default(),
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            claims: Mutex::default(),
            added: watch::Sender::default(),
        }))
    }

    /// Reads the list if it is not known yet. One that cannot be read is taken for empty: it keeps no room from being reconciled.
    pub(crate) async fn load(&self) {
        let is_done = |known: &Known| {
            known.is_loaded || known.failed.is_some_and(|at| at.elapsed() < READ_AGAIN)
        };
        if is_done(&self.known()) {
            return;
        }
        let _turn = self.0.turn.lock().await;
        if !is_done(&self.known()) {
            self.read_and_log().await;
        }
    }

    /// Reads the list again, as a person may have removed entries.
    pub async fn reload(&self) {
        let _turn = self.0.turn.lock().await;
        self.read_and_log().await;
    }

    /// An entry as it is at present; `None` if somebody has removed it. To be asked by who has its [`Claim`], before a broker is cleared.
    pub(crate) async fn current(&self, key: &str) -> Result<Option<Leftover>, StoreError> {
        let is_current = |known: &Known| known.at.is_some_and(|at| at.elapsed() < CURRENT);
        if !is_current(&self.known()) {
            let _turn = self.0.turn.lock().await;
            // The last one who had the turn may have read it.
            if !is_current(&self.known()) {
                self.read().await.map_err(StoreError::Read)?;
            }
        }
        Ok(self.known().entries.get(key).cloned().flatten())
    }

    /// Whether it was ever read.
    pub(crate) fn is_loaded(&self) -> bool {
        self.known().is_loaded
    }

    /// The entries of a room's earlier namesakes, and its own.
    pub(crate) fn of_room(&self, room: &RoomName) -> Vec<Leftover> {
        self.select(|leftover| leftover.removal.room == *room)
    }

    /// The entries of rooms in a namespace; all if `None`.
    pub(crate) fn in_namespace(&self, namespace: Option<&str>) -> Vec<Leftover> {
        self.select(|leftover| {
            namespace.is_none_or(|namespace| leftover.removal.room.namespace() == namespace)
        })
    }

    fn select(&self, selects: impl Fn(&Leftover) -> bool) -> Vec<Leftover> {
        let known = self.known();
        let entries = known.entries.values().flatten();
        entries
            .filter(|leftover| selects(leftover))
            .cloned()
            .collect()
    }

    /// The right to clear the broker of the room with this key, unless somebody has it.
    pub(crate) fn claim(&self, key: String) -> Option<Claim> {
        self.claims().insert(key.clone()).then(|| Claim {
            leftovers: self.clone(),
            key,
        })
    }

    /// Stores an entry.
    pub(crate) async fn add(&self, leftover: Leftover) -> Result<(), StoreError> {
        let added = self.change(vec![Change::Add(leftover)]).await;
        if let Err(StoreError::Full(_)) = added {
            self.0.metrics.broker_bound("leftovers");
        }
        added?;
        self.0.metrics.leftovers_recorded();
        self.0.added.send_replace(());
        Ok(())
    }

    /// Removes the entries with these keys.
    pub(crate) async fn remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let known: Vec<Change> = {
            let entries = &self.known().entries;
            let known = keys.into_iter().filter(|key| entries.contains_key(key));
            known.map(Change::Remove).collect()
        };
        if known.is_empty() {
            return Ok(());
        }
        let count = known.len();
        self.change(known).await?;
        self.0.metrics.leftovers_cleared(count);
        Ok(())
    }

    /// Changes when an entry is added.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.added.subscribe()
    }

    /// The `ConfigMap`, for events.
    pub(crate) fn reference(&self) -> ObjectReference {
        let known = self.known();
        let uid = known.config_map.as_ref().and_then(ResourceExt::uid);
        ObjectReference {
            uid,
            namespace: Some(self.0.namespace.clone()),
            name: Some(self.0.name.clone()),
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            ..ObjectReference::default()
        }
    }

    /// NAMESPACE/NAME of the `ConfigMap`.
    pub(crate) fn location(&self) -> String {
        format!("{}/{}", self.0.namespace, self.0.name)
    }

    async fn change(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut written = Vec::new();
        for change in changes {
            let (sender, receiver) = oneshot::channel();
            let waiting = Waiting {
                change,
                written: sender,
            };
            lock(&self.0.waiting).push(waiting);
            written.push(receiver);
        }
        let _turn = self.0.turn.lock().await;
        // The last one who had the turn may have written them.
        let waiting = std::mem::take(&mut *lock(&self.0.waiting));
        if !waiting.is_empty() {
            self.write(waiting).await;
        }
        for mut receiver in written {
            let cut = || StoreError::Api("the write was cut short".to_owned());
            receiver.try_recv().map_err(|_| cut())??;
        }
        Ok(())
    }

    /// Writes changes, and tells who waits for them.
    async fn write(&self, waiting: Vec<Waiting>) {
        let changes: Vec<Change> = waiting.iter().map(|it| it.change.clone()).collect();
        let results = match self.write_all(&changes).await {
            Ok(results) => results,
            Err(error) => vec![Err(StoreError::Api(error)); changes.len()],
        };
        for (waiting, result) in waiting.into_iter().zip(results) {
            // Whoever is gone does not need to know.
            let _ = waiting.written.send(result);
        }
    }

    async fn write_all(&self, changes: &[Change]) -> Result<Vec<Result<(), StoreError>>, String> {
        if !self.known().is_loaded {
            self.read().await?;
        }
        let mut was_full = false;
        for _ in 0..ATTEMPTS {
            let before = self.known().config_map.clone();
            let mut data = before
                .as_ref()
                .and_then(|it| it.data.clone())
                .unwrap_or_default();
            let old = data.clone();
            let results = self.change_data(&mut data, changes);
            let is_full = results.iter().any(Result::is_err);
            if is_full && !was_full {
                // A person may have removed entries since.
                was_full = true;
                self.read().await?;
                continue;
            }
            if data == old {
                return Ok(results);
            }
            self.0.metrics.cluster_write();
            match self.store(before, data).await {
                Ok(written) => {
                    self.install(Some(written));
                    return Ok(results);
                }
                Err(error) if matches!(Answer::of(&error), Answer::Conflict | Answer::NotFound) => {
                    self.read().await?;
                }
                Err(error) => return Err(answer::message(&error)),
            }
        }
        Err(format!("{ATTEMPTS} writes in a row were in conflict"))
    }

    fn change_data(
        &self,
        data: &mut BTreeMap<String, String>,
        changes: &[Change],
    ) -> Vec<Result<(), StoreError>> {
        let mut counts = Counts::of(data, self.0.own.as_deref());
        let change = |change: &Change| match change {
            Change::Remove(key) => {
                data.remove(key);
                Ok(())
            }
            Change::Add(leftover) => {
                let (key, value) = (leftover.key(), leftover.to_json());
                if data.contains_key(&key) {
                    return Ok(());
                }
                let added = counts.add(&leftover.secret.namespace, key.len() + value.len());
                added.map_err(|full| {
                    StoreError::Full(format!("ConfigMap {}: {full}", self.location()))
                })?;
                data.insert(key, value);
                Ok(())
            }
        };
        changes.iter().map(change).collect()
    }

    async fn store(
        &self,
        before: Option<ConfigMap>,
        data: BTreeMap<String, String>,
    ) -> kube::Result<ConfigMap> {
        let (api, params) = (&self.0.api, PostParams::default());
        if let Some(mut config_map) = before {
            config_map.data = Some(data);
            return api.replace(&self.0.name, &params, &config_map).await;
        }
        let mut config_map = ConfigMap {
            data: Some(data),
            ..ConfigMap::default()
        };
        let metadata = config_map.meta_mut();
        metadata.name = Some(self.0.name.clone());
        let labels = [
            (names::MANAGED_BY_LABEL, names::MANAGER),
            ("app.kubernetes.io/part-of", "papo"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        metadata.labels = Some(labels.into());
        metadata.annotations = Some(
            [(
                "papo.chat/description".to_owned(),
                "What deleted rooms have left on brokers that could not be cleared. The operator tries again and removes each entry that is done. Remove an entry if nobody needs that any more".to_owned(),
            )]
            .into(),
        );
        api.create(&params, &config_map).await
    }

    async fn read_and_log(&self) {
        if let Err(error) = self.read().await {
            tracing::warn!(
                config_map = self.location(),
                error,
                "cannot read the list of what deleted rooms have left on brokers; trying again"
            );
        }
    }

    async fn read(&self) -> Result<(), String> {
        // No room waits for long for a list that cannot be read.
        let read = timeout(READ_TIMEOUT, self.0.api.get(&self.0.name)).await;
        let found = match read.map(answer::optional_object) {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.failed(answer::message(&error))),
            Err(_) => return Err(self.failed("the API server did not answer".to_owned())),
        };
        self.install(found);
        Ok(())
    }

    fn failed(&self, error: String) -> String {
        self.known().failed = Some(Instant::now());
        error
    }

    fn install(&self, config_map: Option<ConfigMap>) {
        let data = config_map
            .iter()
            .filter_map(|it| it.data.as_ref())
            .flatten();
        let entries = data.map(|(key, json)| {
            let entry = json.parse::<Leftover>().ok();
            // An entry under a key of somebody else's making could not be removed.
            (key.clone(), entry.filter(|entry| entry.key() == *key))
        });
        let entries: BTreeMap<String, Option<Leftover>> = entries.collect();
        let namespaces = entries.values().map(|entry| {
            let entry = entry.as_ref();
            entry.map_or("", |entry| entry.secret.namespace.as_str())
        });
        self.0.metrics.leftovers(namespaces);
        let mut known = self.known();
        let unreadable = entries.iter().filter(|(_, entry)| entry.is_none());
        for (key, _) in unreadable.filter(|(key, _)| !known.entries.contains_key(*key)) {
            tracing::warn!(
                config_map = self.location(),
                key,
                "this entry is not one that the operator has written; it is left as it is"
            );
        }
        *known = Known {
            config_map,
            entries,
            is_loaded: true,
            at: Some(Instant::now()),
            failed: None,
        };
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.0.known)
    }

    fn claims(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.0.claims)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.leftovers.claims().remove(&self.key);
    }
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn broker_of_one_room_is_cleared_by_one_task_at_a_time() {
        let nobody = tower::service_fn(|_: axum::http::Request<Body>| async {
            Err::<axum::http::Response<Body>, _>(kube::Error::LinesCodecMaxLineLengthExceeded)
        });
        let client = Client::new(nobody, "papo");
        let list = Leftovers::new(client, "papo", "l".to_owned(), None, Metrics::default());
        let claim = list.claim("a".to_owned()).expect("nobody has it");
        assert!(list.claim("a".to_owned()).is_none());
        assert!(list.claim("b".to_owned()).is_some());
        drop(claim);
        assert!(list.claim("a".to_owned()).is_some());
    }
}
