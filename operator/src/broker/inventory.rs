//! What a virtual host holds of Papo, as one bulk read has found it, so that a room at rest costs no request of its own.
//!
//! - An inventory answers one question: does an object exist with exactly these properties? For all but a log it keeps only a fingerprint of
//!   the properties, of 16 bytes, under a random key: a broker that invents objects cannot forge an answer.
//! - It keeps as many objects as 10,000 rooms have ([`OBJECTS`], [`LOGS`]): a broker that invents objects cannot fill the memory.
//! - It is never a reason to write. A room that is not as the inventory says is read again, object by object, before anything is written. One
//!   question is the exception, because a broker with a thousand logs takes 50 ms to answer it: whether a room whose exchange was created just
//!   now has a log ([`Inventory::may_have_log`]).
//! - What the operator writes meanwhile is noted here ([`Inventory::forget`], [`Inventory::put`]), also while a bulk read is under way.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::bounds::{LOGS, OBJECTS};
use crate::desired::LogArguments;

/// How many rooms with leftovers are remembered, so that a broker that invents rooms does not fill the memory. The others are found later.
const LEFTOVERS: usize = 1_000;
/// Reading one room object by object costs a broker as much as this many rows of a bulk read.
const ROWS_PER_ROOM: usize = 400;
/// A bulk read that is not worth its cost, or larger than the bounds, is made once in so many periods.
const SELDOM: u32 = 10;
/// The replicas of logs are read once in so many periods: that costs a broker of several nodes twice as much as all the rest.
const REPLICAS: u32 = 4;

/// An object of a virtual host.
#[derive(Hash)]
pub(crate) enum Key<'a> {
    /// By its name.
    Exchange(&'a str),
    /// By its name.
    Log(&'a str),
    /// Those of a room, by its exchange.
    LogsOf(&'a str),
    /// With the key of messages, from an exchange to a queue.
    Binding(&'a str, &'a str),
    /// By its name.
    Policy(&'a str),
    /// By its name.
    User(&'a str),
    /// Of a user.
    Permissions(&'a str),
}

/// A log, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundLog {
    /// What it keeps by its own arguments.
    pub(crate) arguments: LogArguments,
    /// On how many nodes it is; `None` if that is not known.
    pub(crate) members: Option<u32>,
    /// On how many of them it runs.
    pub(crate) online: Option<u32>,
}

/// The exchange of the room that a log belongs to, by its name.
fn exchange_of_log(name: &str) -> Option<&str> {
    Some(name.rsplit_once(".log.")?.0)
}

/// What a bulk read finds.
#[derive(Default)]
pub(crate) struct Found {
    keys: RandomState,
    fingerprints: HashMap<u64, u64>,
    logs: HashMap<u64, FoundLog>,
    /// The rooms that have a log.
    with_logs: HashSet<u64>,
    /// Exchanges of rooms under whose names of signal queues there is something that no server leaves.
    leftovers: BTreeSet<String>,
    /// Whether the policies of the signal queues are as they should be.
    pub(crate) are_signals_bounded: bool,
    /// When the replicas of the logs were read.
    pub(crate) replicas_read: Option<Instant>,
    /// Nodes of the broker; `None` if that is not known.
    pub(crate) nodes: Option<u32>,
    /// Objects that the broker has sent, ours or not.
    pub(crate) rows: usize,
    /// There is more than may be kept.
    is_over_bound: bool,
}

impl Found {
    /// Adds an object with its properties, unless there are too many.
    pub(crate) fn add(&mut self, key: &Key<'_>, properties: impl Hash) {
        if self.fingerprints.len() >= OBJECTS {
            self.is_over_bound = true;
            return;
        }
        let fingerprint = self.keys.hash_one(properties);
        self.fingerprints.insert(self.id(key), fingerprint);
    }

    /// Adds a log, unless there are too many.
    pub(crate) fn add_log(&mut self, name: &str, log: FoundLog) {
        if self.logs.len() >= LOGS {
            self.is_over_bound = true;
            return;
        }
        let change = self.put_log(name, log);
        self.change(&change);
    }

    fn put_log(&self, name: &str, log: FoundLog) -> Change {
        let room = exchange_of_log(name).map(|exchange| self.id(&Key::LogsOf(exchange)));
        Change::PutLog {
            id: self.id(&Key::Log(name)),
            room,
            log,
        }
    }

    /// Whether there is more than may be kept.
    pub(crate) fn is_over_bound(&self) -> bool {
        self.is_over_bound
    }

    /// Completes a log that was added.
    pub(crate) fn set_replicas(&mut self, name: &str, members: usize, online: usize) {
        let id = self.id(&Key::Log(name));
        if let Some(log) = self.logs.get_mut(&id) {
            log.members = u32::try_from(members).ok();
            log.online = u32::try_from(online).ok();
        }
    }

    /// Adds a room, by its exchange, with leftovers.
    pub(crate) fn add_leftover(&mut self, exchange: &str) {
        if self.leftovers.len() < LEFTOVERS && !self.leftovers.contains(exchange) {
            self.leftovers.insert(exchange.to_owned());
        }
    }

    /// Whether there is such an object with these properties.
    pub(crate) fn has(&self, key: &Key<'_>, properties: impl Hash) -> bool {
        let fingerprint = self.keys.hash_one(properties);
        self.fingerprints.get(&self.id(key)) == Some(&fingerprint)
    }

    /// Whether there is such an object, whatever its properties.
    pub(crate) fn has_any(&self, key: &Key<'_>) -> bool {
        self.fingerprints.contains_key(&self.id(key))
    }

    /// A log by its name.
    pub(crate) fn log(&self, name: &str) -> Option<&FoundLog> {
        self.logs.get(&self.id(&Key::Log(name)))
    }

    /// Keeps what an earlier read has found of the nodes and replicas.
    fn keep_replicas(&mut self, earlier: &Self, is_complete: bool) {
        self.nodes = self.nodes.or(earlier.nodes);
        if !is_complete {
            // The logs are not there: the next complete read has to list their replicas.
            return;
        }
        self.replicas_read = earlier.replicas_read;
        for (id, log) in &mut self.logs {
            if let Some(earlier) = earlier.logs.get(id) {
                log.members = log.members.or(earlier.members);
                log.online = log.online.or(earlier.online);
            }
        }
    }

    /// Whether the room with this exchange has leftovers.
    pub(crate) fn has_leftovers(&self, exchange: &str) -> bool {
        self.leftovers.contains(exchange)
    }

    fn id(&self, key: &Key<'_>) -> u64 {
        self.keys.hash_one(key)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Remove(id) => drop(self.fingerprints.remove(id)),
            Change::Put(id, fingerprint) => drop(self.fingerprints.insert(*id, *fingerprint)),
            Change::PutLog { id, room, log } => {
                self.logs.insert(*id, log.clone());
                self.with_logs.extend(room);
            }
            Change::BoundSignals => self.are_signals_bounded = true,
        }
    }
}

enum Change {
    Remove(u64),
    Put(u64, u64),
    PutLog {
        id: u64,
        room: Option<u64>,
        log: FoundLog,
    },
    BoundSignals,
}

/// The objects of one room that its reconcile has made as they should be.
pub(crate) struct Put<'a> {
    found: &'a mut Found,
    changes: Option<&'a mut Vec<Change>>,
}

impl Put<'_> {
    /// An object has these properties now.
    pub(crate) fn object(&mut self, key: &Key<'_>, properties: impl Hash) {
        let fingerprint = self.found.keys.hash_one(properties);
        self.apply(Change::Put(self.found.id(key), fingerprint));
    }

    /// There is no such object now.
    pub(crate) fn no_object(&mut self, key: &Key<'_>) {
        self.apply(Change::Remove(self.found.id(key)));
    }

    /// A log is like this now.
    pub(crate) fn log(&mut self, name: &str, log: FoundLog) {
        self.apply(self.found.put_log(name, log));
    }

    fn apply(&mut self, change: Change) {
        self.found.change(&change);
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }
}

/// The inventory of one virtual host. All rooms on it share it.
pub(crate) struct Inventory {
    period: Duration,
    state: Mutex<State>,
    /// Held by the room that reads.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    found: Found,
    read: Option<Instant>,
    /// Whether that has found all that there is.
    is_complete: bool,
    /// When a bulk read was last larger than the bounds.
    rejected: Option<Instant>,
    /// What was written while a bulk read is under way.
    changes: Option<Vec<Change>>,
    /// Rooms that have asked since the last bulk read.
    asked: HashSet<u64>,
}

impl Inventory {
    /// Nothing is known yet. `period` is how long an inventory is as good as new.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the virtual host has to be read again, for the room with this exchange among others.
    pub(crate) fn is_due(&self, exchange: &str, now: Instant) -> bool {
        let mut state = self.state();
        let id = state.found.id(&Key::Exchange(exchange));
        state.asked.insert(id);
        let Some(read) = state.read else {
            return true;
        };
        let age = now.saturating_duration_since(read);
        let is_worth_it = state.asked.len() * ROWS_PER_ROOM >= state.found.rows;
        age >= self.period && (is_worth_it || age >= self.period * SELDOM)
    }

    /// Whether a bulk read may fit into the bounds.
    pub(crate) fn may_be_read(&self, now: Instant) -> bool {
        let rejected = self.state().rejected;
        rejected.is_none_or(|at| now.saturating_duration_since(at) >= self.period * SELDOM)
    }

    /// A bulk read is larger than the bounds.
    pub(crate) fn reject(&self, now: Instant) {
        self.state().rejected = Some(now);
    }

    /// Whether the replicas of the logs have to be read again.
    pub(crate) fn are_replicas_due(&self, now: Instant) -> bool {
        let read = self.state().found.replicas_read;
        read.is_none_or(|read| now.saturating_duration_since(read) >= self.period * REPLICAS)
    }

    /// Waits for the turn to read. Nobody waits while what is known is good enough.
    pub(crate) async fn turn(&self, now: Instant) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if let Ok(turn) = self.reading.try_lock() {
            return Some(turn);
        }
        if self.is_good_enough(now) {
            return None;
        }
        Some(self.reading.lock().await)
    }

    fn is_good_enough(&self, now: Instant) -> bool {
        let read = self.state().read;
        read.is_some_and(|read| now.saturating_duration_since(read) < 2 * self.period)
    }

    /// A bulk read begins. What it finds goes into the result.
    pub(crate) fn begin(&self) -> Found {
        let mut state = self.state();
        state.changes = Some(Vec::new());
        Found {
            keys: state.found.keys.clone(),
            ..Found::default()
        }
    }

    /// A bulk read has ended. `is_complete`: it has found all that there is.
    pub(crate) fn end(&self, mut found: Found, is_complete: bool, now: Instant) {
        let mut state = self.state();
        if found.replicas_read.is_none() {
            found.keep_replicas(&state.found, is_complete);
        }
        if is_complete {
            for change in state.changes.iter().flatten() {
                found.change(change);
            }
        }
        *state = State {
            found,
            read: Some(now),
            is_complete,
            rejected: state.rejected.filter(|_| !is_complete),
            changes: None,
            asked: HashSet::new(),
        };
    }

    /// The virtual host has to be read again before anything else.
    pub(crate) fn expire(&self) {
        let mut state = self.state();
        state.read = None;
        state.found.are_signals_bounded = false;
    }

    /// Answers a question about what was found. Nothing was found if it is too long ago.
    pub(crate) fn ask<T>(&self, now: Instant, question: impl FnOnce(&Found) -> T) -> Option<T> {
        // With a period of zero, for tests, each question follows a read.
        let is_old = !self.is_good_enough(now) && !self.period.is_zero();
        (!is_old).then(|| question(&self.state().found))
    }

    /// Whether the room with this exchange may have a log.
    pub(crate) fn may_have_log(&self, exchange: &str, now: Instant) -> bool {
        let has_log = self.ask(now, |found| {
            found.with_logs.contains(&found.id(&Key::LogsOf(exchange)))
        });
        !self.state().is_complete || has_log.unwrap_or(true)
    }

    /// Nothing is known of the room with this exchange: its objects are about to be written, or could not be.
    pub(crate) fn forget(&self, exchange: &str) {
        self.put(|room| room.no_object(&Key::Exchange(exchange)));
    }

    /// Notes what was written.
    pub(crate) fn put(&self, put: impl FnOnce(&mut Put<'_>)) {
        let mut state = self.state();
        let State { found, changes, .. } = &mut *state;
        put(&mut Put {
            found,
            changes: changes.as_mut(),
        });
    }

    /// Whether the room with this exchange has leftovers. The answer is given once.
    pub(crate) fn take_leftovers(&self, exchange: &str) -> bool {
        self.state().found.leftovers.remove(exchange)
    }

    /// Whether the policies of the signal queues are known to be as they should be.
    pub(crate) fn are_signals_bounded(&self) -> bool {
        self.state().found.are_signals_bounded
    }

    /// Notes that the policies of the signal queues are as they should be.
    pub(crate) fn bound_signals(&self) {
        self.put(|put| put.apply(Change::BoundSignals));
    }

    /// Nodes of the broker, if that is known.
    pub(crate) fn nodes(&self) -> Option<u32> {
        self.state().found.nodes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);

    fn read(inventory: &Inventory, add: impl FnOnce(&mut Found), now: Instant) {
        let mut found = inventory.begin();
        add(&mut found);
        inventory.end(found, true, now);
    }

    fn has(inventory: &Inventory, properties: &str, now: Instant) -> Option<bool> {
        inventory.ask(now, |found| found.has(&Key::Exchange("x"), properties))
    }

    #[test]
    fn object_is_known_by_name_and_properties() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        assert_eq!(has(&inventory, "topic", now), None, "nothing was read");
        read(
            &inventory,
            |found| found.add(&Key::Exchange("x"), "topic"),
            now,
        );
        assert_eq!(has(&inventory, "topic", now), Some(true));
        assert_eq!(has(&inventory, "fanout", now), Some(false));
        assert_eq!(has(&inventory, "topic", now + 2 * PERIOD), None, "too old");
    }

    #[test]
    fn log_is_ruled_out_only_by_a_complete_read() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        let log = "papo.team.geral.log.0123";
        let may = |now| inventory.may_have_log("papo.team.geral", now);
        assert!(may(now), "nothing was read");
        read(&inventory, |_| {}, now);
        assert!(!may(now));
        assert!(may(now + 2 * PERIOD), "too old");
        inventory.put(|room| room.log(log, FoundLog::default()));
        assert!(may(now), "created since");
        read(
            &inventory,
            |found| found.add_log(log, FoundLog::default()),
            now,
        );
        assert!(may(now), "retained");
        let found = inventory.begin();
        inventory.end(found, false, now);
        assert!(may(now), "not all was read");
    }

    #[test]
    fn write_during_a_bulk_read_outlives_it() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        let mut found = inventory.begin();
        found.add(&Key::Exchange("x"), "before");
        inventory.put(|room| room.object(&Key::Exchange("x"), "after"));
        inventory.end(found, true, now);
        assert_eq!(has(&inventory, "after", now), Some(true));
        let mut found = inventory.begin();
        found.add(&Key::Exchange("x"), "before");
        inventory.forget("x");
        inventory.end(found, true, now);
        assert_eq!(has(&inventory, "before", now), Some(false));
    }

    #[test]
    fn large_virtual_host_is_read_seldom_for_few_rooms() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        assert!(inventory.is_due("x", now));
        read(&inventory, |found| found.rows = 10 * ROWS_PER_ROOM, now);
        assert!(!inventory.is_due("x", now + PERIOD), "for one room");
        assert!(inventory.is_due("x", now + PERIOD * SELDOM));
        for number in 0..10 {
            inventory.is_due(&number.to_string(), now);
        }
        assert!(inventory.is_due("x", now + PERIOD), "for ten rooms");
        assert!(!inventory.is_due("x", now + PERIOD / 2));
    }

    #[tokio::test]
    async fn rooms_do_not_wait_for_a_read_while_the_last_one_is_good_enough() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        read(&inventory, |_| {}, now);
        let turn = inventory.turn(now + PERIOD).await;
        assert!(turn.is_some());
        assert!(inventory.turn(now + PERIOD).await.is_none());
        let waits = inventory.turn(now + 2 * PERIOD);
        let waits = tokio::time::timeout(Duration::ZERO, waits).await;
        assert!(waits.is_err(), "what is known is too old");
    }

    #[test]
    fn replicas_are_read_again_after_a_failed_read() {
        let (inventory, now) = (Inventory::new(PERIOD), Instant::now());
        let add = |found: &mut Found| {
            found.nodes = Some(3);
            found.add_log("x", FoundLog::default());
            if inventory.are_replicas_due(now) {
                found.replicas_read = Some(now);
                found.set_replicas("x", 1, 1);
            }
        };
        let members = || inventory.ask(now, |found| found.log("x").map(|log| log.members));
        for _ in 0..2 {
            read(&inventory, add, now);
            assert!(!inventory.are_replicas_due(now));
            assert_eq!(members(), Some(Some(Some(1))));
        }
        let failed = inventory.begin();
        inventory.end(failed, false, now);
        assert_eq!(inventory.nodes(), Some(3));
        read(&inventory, add, now);
        assert_eq!(members(), Some(Some(Some(1))));
    }

    #[test]
    fn objects_and_logs_beyond_the_bound_are_not_kept() {
        let mut found = Found::default();
        for number in 0..OBJECTS {
            found.add(&Key::User(&number.to_string()), ());
        }
        for number in 0..LOGS {
            found.add_log(&number.to_string(), FoundLog::default());
        }
        assert!(!found.is_over_bound(), "as many as 10,000 rooms have");
        found.add(&Key::User("one more"), ());
        assert!(found.is_over_bound() && !found.has_any(&Key::User("one more")));
        found.is_over_bound = false;
        found.add_log("one more", FoundLog::default());
        assert!(found.is_over_bound() && found.log("one more").is_none());
    }

    #[test]
    fn broker_that_invents_rooms_does_not_fill_the_memory() {
        let inventory = Inventory::new(PERIOD);
        let add = |found: &mut Found| {
            for number in 0..10_000 {
                found.add_leftover(&format!("papo.team.{number}"));
            }
        };
        read(&inventory, add, Instant::now());
        assert_eq!(inventory.state().found.leftovers.len(), LEFTOVERS);
        assert!(inventory.take_leftovers("papo.team.0"));
        assert!(!inventory.take_leftovers("papo.team.0"));
    }
}
