//! Clears the brokers of deleted rooms that could not be cleared before: in the background, and before a new room of the same name is made.
//!
//! - Entries are worked off by the namespaces of their brokers' Secrets: of one namespace one entry at a time, so that the rooms that exist come
//!   first, and of several namespaces concurrently, so that a slow broker delays nobody else's entries.
//! - A round gives each namespace [`BUDGET`], beyond which only the attempt under way goes on. Namespaces that took long the last time come last.
//! - The claim of an entry whose broker is cleared ends with the next write of the list, within [`SETTLED_WITHIN`]: a new room of its name waits for it.
//! - The delay between attempts grows to [`LONGEST_DELAY`]. It is the same for all rooms of a broker that fails as a whole, as one whose Secret is
//!   gone: a broker that is gone for good costs one request in that time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kube::runtime::events::{Event, EventType};
use tokio::{sync::mpsc, time::timeout_at};

use super::{context::Context, report::note};
use crate::{
    apply::rabbitmq::{self, Removal, Removed},
    backoff,
    config::SecretRef,
    error::BrokerError,
    leftovers::{Claim, Leftover},
    validate::Room,
};

/// The longest delay between two attempts.
const LONGEST_DELAY: Duration = Duration::from_mins(10);
/// A failure counts as if so many had been before: whatever is on the list has failed for a while.
const EARLIER_FAILURES: u32 = 3;
/// How many namespaces are worked off concurrently.
const NAMESPACES: usize = 8;
/// After so long no more of a namespace's entries are begun in a round.
const BUDGET: Duration = Duration::from_secs(10);
/// How many entries are removed from the list at once.
const BATCH: usize = 50;
/// How long an entry waits for others that are removed with it: each write of the list may be 1 MB.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// How often the list is read again while it has entries, and tried to be read while it cannot.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// The shortest time between two rounds.
const SHORTEST_ROUND: Duration = Duration::from_millis(500);

/// Removes what a room has on its broker, as far as one attempt comes. An attempt that was cut after the broker had confirmed a step has not failed.
pub(super) async fn clear(
    secret: &SecretRef,
    removal: &Removal,
    context: &Context,
) -> Result<Removed, BrokerError> {
    let broker = context.clients.broker_to_clear(secret).await?;
    let owner = &removal.owner;
    // On the heap: three lists at the same time make it large.
    let work = Box::pin(rabbitmq::remove(&broker, removal));
    let (removals, patience) = (&broker.removals, &context.patience);
    let before = removals.last_progress_of(owner);
    let cleared = broker.attempt_removal(owner, work).await;
    let progress = removals.last_progress_of(owner);
    patience.progressed(owner, progress);
    let Err(BrokerError::Unreachable { .. }) = &cleared else {
        return cleared;
    };
    // It may be slow, and busy with other rooms.
    patience.progressed(owner, removals.last_progress());
    if progress > before {
        return Ok(Removed::Later(Duration::ZERO));
    }
    cleared
}

/// Clears what earlier rooms of this name have left on the room's broker, or says why the room has to wait.
pub(super) async fn clear_earlier(room: &Room, context: &Context) -> Result<(), BrokerError> {
    let leftovers = &context.leftovers;
    leftovers.load().await;
    let mut earlier = leftovers.of_room(&room.name);
    earlier.retain(|it| it.removal.owner != room.uid && it.secret == room.broker);
    for leftover in earlier {
        let key = leftover.key();
        let Some(claim) = leftovers.claim(key.clone()) else {
            return Err(at_work());
        };
        let current = leftovers.current(&key).await;
        let current = current.map_err(|error| BrokerError::EarlierRoom(error.to_string()))?;
        let Some(leftover) = current else {
            continue;
        };
        match clear(&leftover.secret, &leftover.removal, context).await {
            Ok(Removed::All) => {
                settle(&[(leftover, claim)], context).await;
            }
            Ok(Removed::Later(_)) => {
                return Err(at_work());
            }
            Err(error) if is_about_room(&error) => {
                return Err(BrokerError::EarlierRoom(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn at_work() -> BrokerError {
    BrokerError::EarlierRoom("it is at work on them".to_owned())
}

/// Removes the entries of rooms whose brokers are cleared, and says so. Returns whether they are removed. An entry that cannot be removed is cleared
/// again later, which finds nothing.
async fn settle(cleared: &[(Leftover, Claim)], context: &Context) -> bool {
    let keys: Vec<String> = cleared.iter().map(|(leftover, _)| leftover.key()).collect();
    if let Err(error) = context.leftovers.remove(keys).await {
        tracing::warn!(%error, "the brokers of deleted rooms are cleared, but stay on the list");
        return false;
    }
    let rooms: Vec<String> = cleared
        .iter()
        .map(|(leftover, _)| leftover.removal.room.to_string())
        .collect();
    for (leftover, _) in cleared {
        tracing::info!(
            room = %leftover.removal.room,
            secret = %leftover.secret,
            deleted = %leftover.since,
            "the broker of a room that was deleted earlier is cleared now"
        );
    }
    let text = format!(
        "the brokers of these deleted rooms are cleared now: {}",
        rooms.join(", ")
    );
    let event = Event {
        type_: EventType::Normal,
        reason: "LeftoversCleared".to_owned(),
        note: Some(note(&text)),
        action: "Delete".to_owned(),
        secondary: None,
    };
    context.clients.metrics.cluster_write();
    let list = context.leftovers.reference();
    if let Err(error) = context.recorder.publish(&event, &list).await {
        tracing::debug!(%error, reason = event.reason, "cannot write an event");
    }
    true
}

/// When what is tried again.
pub struct Retries {
    budget: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the key of an entry, or of a broker.
    delays: HashMap<String, Delay>,
    /// How long the namespaces took in the last round.
    took: HashMap<String, Duration>,
}

struct Delay {
    failures: u32,
    until: Instant,
}

/// An entry whose broker is cleared.
type Cleared = (Leftover, Claim);

impl Default for Retries {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl Retries {
    /// With so much time for each namespace in a round.
    pub fn with_budget(budget: Duration) -> Self {
        Self {
            budget,
            state: Mutex::default(),
        }
    }

    /// Tries again for as long as the operator leads. Never ends.
    pub(super) async fn run(self, context: Arc<Context>, namespace: Option<String>) {
        let leftovers = &context.leftovers;
        let mut added = leftovers.subscribe();
        loop {
            leftovers.reload().await;
            let read = Instant::now();
            while read.elapsed() < READ_AGAIN {
                let now = Instant::now();
                let next = self.round(&context, namespace.as_deref(), now).await;
                let is_empty = next.is_none() && leftovers.is_loaded();
                let next = if is_empty {
                    // Nobody but this operator adds entries, except for an earlier leader that has just ended.
                    read + LONGEST_DELAY
                } else {
                    next.unwrap_or(now + READ_AGAIN).min(read + READ_AGAIN)
                };
                let pause = next.saturating_duration_since(Instant::now());
                tokio::select! {
                    () = tokio::time::sleep(pause.max(SHORTEST_ROUND)) => {}
                    _ = added.changed() => {}
                }
            }
        }
    }

    /// Tries everything whose time has come, as far as the time of each namespace allows, and returns when the next time is; `None` if the list has
    /// nothing for this namespace.
    pub async fn round(
        &self,
        context: &Context,
        namespace: Option<&str>,
        now: Instant,
    ) -> Option<Instant> {
        let leftovers = &context.leftovers;
        let turns = self.turns(leftovers.in_namespace(namespace), now);
        let (cleared, settling) = mpsc::unbounded_channel();
        let work = async move {
            let cleared = &cleared;
            let work = |turn| self.work_off(turn, now, cleared, context);
            stream::iter(turns)
                .for_each_concurrent(NAMESPACES, work)
                .await;
        };
        tokio::join!(work, self.settle_all(settling, context));
        self.next(&leftovers.in_namespace(namespace), now)
    }

    /// What is due, by the namespaces of the Secrets: first those that took the least time the last time. Of each, what was tried the longest ago
    /// comes first.
    fn turns(&self, entries: Vec<Leftover>, now: Instant) -> Vec<(String, Vec<Leftover>)> {
        let state = self.state();
        let mut by_namespace: BTreeMap<String, Vec<Leftover>> = BTreeMap::new();
        for entry in entries.into_iter().filter(|it| !state.is_delayed(it, now)) {
            let namespace = entry.secret.namespace.clone();
            by_namespace.entry(namespace).or_default().push(entry);
        }
        for entries in by_namespace.values_mut() {
            entries.sort_by_key(|entry| state.until(entry));
        }
        let mut turns: Vec<_> = by_namespace.into_iter().collect();
        turns.sort_by_key(|(namespace, _)| state.took.get(namespace).copied().unwrap_or_default());
        turns
    }

    /// Works the entries of a namespace off, one at a time.
    async fn work_off(
        &self,
        (namespace, entries): (String, Vec<Leftover>),
        now: Instant,
        cleared: &mpsc::UnboundedSender<Cleared>,
        context: &Context,
    ) {
        let began = Instant::now();
        for (number, entry) in entries.into_iter().enumerate() {
            if number > 0 && began.elapsed() >= self.budget {
                break;
            }
            if !self.state().is_delayed(&entry, now) {
                self.work_on(&entry.key(), cleared, context).await;
            }
        }
        self.state().took.insert(namespace, began.elapsed());
    }

    /// Clears the broker of an entry, if somebody else is not at work on it or has removed it.
    async fn work_on(
        &self,
        key: &str,
        cleared: &mpsc::UnboundedSender<Cleared>,
        context: &Context,
    ) {
        let leftovers = &context.leftovers;
        let Some(claim) = leftovers.claim(key.to_owned()) else {
            return;
        };
        let leftover = match leftovers.current(key).await {
            Ok(Some(leftover)) => leftover,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, key, "the broker of a deleted room is not cleared");
                return self.state().wait(key.to_owned(), READ_AGAIN);
            }
        };
        match clear(&leftover.secret, &leftover.removal, context).await {
            Ok(Removed::All) => {
                // It is received until all have ended.
                let _ = cleared.send((leftover, claim));
            }
            Ok(Removed::Later(wait)) => self.state().wait(key.to_owned(), wait),
            Err(error) => self.state().fail(&leftover, &error),
        }
    }

    /// Removes entries from the list, several with one write.
    async fn settle_all(&self, mut entries: mpsc::UnboundedReceiver<Cleared>, context: &Context) {
        while let Some(first) = entries.recv().await {
            let (mut cleared, until) = (vec![first], Instant::now() + SETTLED_WITHIN);
            while cleared.len() < BATCH
                && let Ok(Some(next)) = timeout_at(until.into(), entries.recv()).await
            {
                cleared.push(next);
            }
            if !settle(&cleared, context).await {
                let mut state = self.state();
                for (leftover, _) in &cleared {
                    state.wait(leftover.key(), READ_AGAIN);
                }
            }
        }
    }

    /// When the first of these has its turn. Forgets all others.
    fn next(&self, left: &[Leftover], now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let keys = left.iter().flat_map(|it| [it.key(), of_broker(&it.secret)]);
        let keys: HashSet<String> = keys.collect();
        state.delays.retain(|key, _| keys.contains(key));
        let namespaces = left.iter().map(|it| it.secret.namespace.as_str());
        let namespaces: HashSet<&str> = namespaces.collect();
        let is_left = |namespace: &str| namespaces.contains(namespace);
        state.took.retain(|namespace, _| is_left(namespace));
        let turns = left.iter().map(|it| state.until(it).unwrap_or(now));
        turns.min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When an entry has its turn; `None` if it was never tried.
    fn until(&self, leftover: &Leftover) -> Option<Instant> {
        let keys = [leftover.key(), of_broker(&leftover.secret)];
        let delays = keys.iter().filter_map(|key| self.delays.get(key));
        delays.map(|delay| delay.until).max()
    }

    fn is_delayed(&self, leftover: &Leftover, now: Instant) -> bool {
        self.until(leftover).is_some_and(|until| until > now)
    }

    fn wait(&mut self, key: String, wait: Duration) {
        let until = Instant::now() + wait;
        self.delays.insert(key, Delay { failures: 0, until });
    }

    fn fail(&mut self, leftover: &Leftover, error: &BrokerError) {
        let key = if is_about_room(error) {
            leftover.key()
        } else {
            of_broker(&leftover.secret)
        };
        let failures = self
            .delays
            .get(&key)
            .map_or(EARLIER_FAILURES, |delay| delay.failures);
        let delay = backoff::delay(failures, LONGEST_DELAY);
        tracing::debug!(room = %leftover.removal.room, %error, ?delay, "the broker of a deleted room still cannot be cleared");
        let delay = Delay {
            failures: failures.saturating_add(1),
            until: Instant::now() + delay,
        };
        self.delays.insert(key, delay);
    }
}

/// Whether a failure says nothing about other rooms of the broker.
fn is_about_room(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::Rejected { .. } | BrokerError::OverBound { .. } | BrokerError::Conflict(_)
    )
}

/// The key of a broker among those of rooms, none of which has a slash.
fn of_broker(secret: &SecretRef) -> String {
    secret.to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn leftover(name: &str, secret: &str) -> Leftover {
        Leftover {
            removal: Removal {
                room: format!("team/{name}").parse().expect("valid"),
                owner: format!("u-{name}"),
                keep_log: false,
                epoch: None,
            },
            secret: secret.parse().expect("valid"),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn quick_namespaces_and_entries_not_tried_lately_come_first() {
        let (retries, now) = (Retries::default(), Instant::now());
        let entries = [("a", "slow/b"), ("b", "quick/b"), ("c", "quick/b")];
        let entries = entries.map(|(name, secret)| leftover(name, secret));
        {
            let mut state = retries.state();
            state.took.insert("slow".to_owned(), BUDGET);
            state.wait(entries[1].key(), Duration::ZERO);
        }
        let later = now + Duration::from_mins(1);
        let turns = retries.turns(entries.to_vec(), later);
        let [a, b, c] = entries;
        let expected = [
            ("quick".to_owned(), vec![c, b]),
            ("slow".to_owned(), vec![a]),
        ];
        assert_eq!(turns, expected);
    }
}
