//! Clears the brokers of deleted rooms that could not be cleared before: in the background, one at a time so that the rooms that exist come first,
//! and before a new room of the same name is made.
//!
//! The delay between attempts grows to [`LONGEST_DELAY`]. It is the same for all rooms of a broker that fails as a whole, as one whose Secret is
//! gone: a broker that is gone for good costs one request in that time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::runtime::events::{Event, EventType};

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
/// How many entries are removed from the list at once.
const BATCH: usize = 50;
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
    let broker = context.clients.broker(secret).await?;
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
        let Some(claim) = leftovers.claim(leftover.key()) else {
            return Err(at_work());
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
#[derive(Default)]
pub struct Retries {
    delays: HashMap<String, Delay>,
}

struct Delay {
    failures: u32,
    until: Instant,
}

impl Retries {
    /// Tries again for as long as the operator leads. Never ends.
    pub(super) async fn run(mut self, context: Arc<Context>, namespace: Option<String>) {
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

    /// Tries everything whose time has come, and returns when the next time is; `None` if the list has nothing for this namespace.
    pub async fn round(
        &mut self,
        context: &Context,
        namespace: Option<&str>,
        now: Instant,
    ) -> Option<Instant> {
        let mut cleared = Vec::new();
        for leftover in context.leftovers.in_namespace(namespace) {
            if self.is_delayed(&leftover, now) {
                continue;
            }
            let Some(claim) = context.leftovers.claim(leftover.key()) else {
                continue;
            };
            let result = clear(&leftover.secret, &leftover.removal, context).await;
            match result {
                Ok(Removed::All) => cleared.push((leftover, claim)),
                Ok(Removed::Later(wait)) => self.wait(leftover.key(), wait),
                Err(error) => self.fail(&leftover, &error),
            }
            if cleared.len() >= BATCH {
                self.settle(std::mem::take(&mut cleared), context).await;
            }
        }
        self.settle(cleared, context).await;
        self.next(&context.leftovers.in_namespace(namespace), now)
    }

    async fn settle(&mut self, cleared: Vec<(Leftover, Claim)>, context: &Context) {
        if !cleared.is_empty() && !settle(&cleared, context).await {
            for (leftover, _) in &cleared {
                self.wait(leftover.key(), READ_AGAIN);
            }
        }
    }

    fn is_delayed(&self, leftover: &Leftover, now: Instant) -> bool {
        let keys = [leftover.key(), of_broker(&leftover.secret)];
        let mut delays = keys.iter().filter_map(|key| self.delays.get(key));
        delays.any(|delay| delay.until > now)
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

    /// When the first of these has its turn. Forgets the delays of all others.
    fn next(&mut self, left: &[Leftover], now: Instant) -> Option<Instant> {
        let keys = left.iter().flat_map(|it| [it.key(), of_broker(&it.secret)]);
        let keys: HashSet<String> = keys.collect();
        self.delays.retain(|key, _| keys.contains(key));
        let until = |key: &str| self.delays.get(key).map_or(now, |delay| delay.until);
        let turns = left
            .iter()
            .map(|it| until(&it.key()).max(until(&of_broker(&it.secret))));
        turns.min()
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
