//! How far the removal of deleted rooms' objects has come on one broker, and the list of its virtual host that they share. No effects.
//!
//! - An attempt goes on where the last one of the same room stopped, so that a time-out loses nothing. What is kept here does not outlive the
//!   operator: every step may be repeated.
//! - The broker goes through all its queues to make a list, whatever name it is asked for. So one list serves all rooms whose servers' user was
//!   removed before the list began: nobody can create anything under their names after it.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many rooms are remembered. If there are more, all begin again.
const ROOMS: usize = 10_000;
/// How many rooms are remembered of which nothing is left. An old state of such a room may come late, but not that late.
const FINISHED: usize = 10_000;
/// A list takes the broker at most one part of so many of its time.
const SHARE: u32 = 5;
/// How many steps of one room count as progress, so that a broker that invents objects does not keep a room for ever.
const STEPS: usize = 10_000;
/// How many steps of all rooms are remembered. If there are more, all begin again.
const ALL_STEPS: usize = 200_000;

/// A step of the removal that the broker has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The log that the status names is removed, or is kept.
    Log,
    /// The user belongs to the room.
    UserIsOurs,
    /// The user is removed, or is not the room's.
    User,
    /// The virtual host was listed after that.
    Listed,
    /// One of the objects that the list has is removed: a digest of its kind and name, because a broker may invent any number of objects.
    Leftover(u64),
    /// The exchange is removed.
    Exchange,
    /// It was the last room: one of the policies of all rooms is removed, by their order.
    SharedPolicy(usize),
}

/// The names of Papo's objects in a virtual host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) exchanges: BTreeSet<String>,
    pub(crate) queues: BTreeSet<String>,
    pub(crate) policies: BTreeSet<String>,
}

/// What there is for a room that needs a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// A list that began after the room's user was removed.
    Ready,
    /// One that is not whole, because the virtual host has too much: the room lists its own names.
    OverBound,
    /// Somebody has to list now.
    Due,
    /// The next list begins in so long.
    In(Duration),
}

/// The removals on one broker.
#[derive(Debug)]
pub(crate) struct Removals {
    period: Duration,
    /// Of the digests of names.
    keys: RandomState,
    state: Mutex<State>,
    /// Held by the room that lists.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By their owners.
    rooms: HashMap<String, Progress>,
    /// Steps of all of them that were confirmed.
    steps: usize,
    /// The owners of which nothing is left, the latest last.
    finished: VecDeque<String>,
    listed: Option<Listed>,
    /// Exchanges that were removed while a list is made, which may have them.
    removed_meanwhile: Vec<String>,
    last_progress: Option<Instant>,
}

#[derive(Debug, Default)]
struct Progress {
    steps: BTreeSet<Step>,
    user_removed: Option<Instant>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Listed {
    began: Instant,
    took: Duration,
    /// `None`: too many.
    names: Option<Names>,
}

impl Removals {
    /// None yet. `period` is the shortest time between two lists.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            keys: RandomState::new(),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the step of the room with this owner is done.
    pub(crate) fn has(&self, owner: &str, step: &Step) -> bool {
        let state = self.state();
        let progress = state.rooms.get(owner);
        progress.is_some_and(|progress| progress.steps.contains(step))
    }

    /// Notes that the broker has confirmed a step.
    pub(crate) fn confirm(&self, owner: &str, step: Step) {
        let (mut state, now) = (self.state(), Instant::now());
        let is_full = state.rooms.len() >= ROOMS && !state.rooms.contains_key(owner);
        if is_full || state.steps >= ALL_STEPS {
            state.rooms.clear();
            state.steps = 0;
        }
        let progress = state.rooms.entry(owner.to_owned()).or_default();
        if step == Step::User && progress.user_removed.is_none() {
            progress.user_removed = Some(now);
        }
        if progress.steps.len() >= STEPS || !progress.steps.insert(step) {
            return;
        }
        progress.last = Some(now);
        state.steps += 1;
        state.last_progress = Some(now);
    }

    /// The step that removes this object.
    pub(crate) fn leftover(&self, kind: &str, name: &str) -> Step {
        Step::Leftover(self.keys.hash_one((kind, name)))
    }

    /// When the broker last confirmed a step of this room.
    pub(crate) fn last_progress_of(&self, owner: &str) -> Option<Instant> {
        self.state().rooms.get(owner)?.last
    }

    /// When it last confirmed a step of any room.
    pub(crate) fn last_progress(&self) -> Option<Instant> {
        self.state().last_progress
    }

    /// What there is for a room that needs a list.
    pub(crate) fn listing(&self, owner: &str, now: Instant) -> Listing {
        let state = self.state();
        let progress = state.rooms.get(owner);
        let Some(removed) = progress.and_then(|progress| progress.user_removed) else {
            return Listing::Due;
        };
        let Some(listed) = &state.listed else {
            return Listing::Due;
        };
        if listed.began >= removed {
            return match &listed.names {
                Some(_) => Listing::Ready,
                None => Listing::OverBound,
            };
        }
        let period = self.period.max(listed.took * SHARE);
        match (listed.began + period).checked_duration_since(now) {
            Some(left) if !left.is_zero() => Listing::In(left),
            _ => Listing::Due,
        }
    }

    /// Lists for all rooms, unless another room does. `None`: too many names.
    pub(crate) async fn list<E>(
        &self,
        list: impl Future<Output = Result<Option<Names>, E>>,
    ) -> Result<(), E> {
        let Ok(_turn) = self.turn.try_lock() else {
            return Ok(());
        };
        let began = Instant::now();
        self.state().removed_meanwhile.clear();
        let mut names = list.await?;
        let mut state = self.state();
        let removed = std::mem::take(&mut state.removed_meanwhile);
        if let Some(names) = &mut names {
            for exchange in &removed {
                names.exchanges.remove(exchange);
            }
        }
        state.listed = Some(Listed {
            began,
            took: began.elapsed(),
            names,
        });
        Ok(())
    }

    /// What the list has under the name of an exchange.
    pub(crate) fn names_below(&self, exchange: &str) -> Names {
        let state = self.state();
        let names = state
            .listed
            .as_ref()
            .and_then(|listed| listed.names.as_ref());
        names.map(|names| names.below(exchange)).unwrap_or_default()
    }

    /// Notes that a room's exchange is removed, and returns whether any other may be left.
    pub(crate) fn are_others_left(&self, exchange: &str) -> bool {
        let mut state = self.state();
        if state.removed_meanwhile.len() < ROOMS {
            state.removed_meanwhile.push(exchange.to_owned());
        }
        let names = state.listed.as_mut().and_then(|it| it.names.as_mut());
        names.is_some_and(|names| {
            names.exchanges.remove(exchange);
            !names.exchanges.is_empty()
        })
    }

    /// Whether nothing is left of the room with this owner, which does not come again: it is a `metadata.uid`.
    pub(crate) fn is_finished(&self, owner: &str) -> bool {
        self.state()
            .finished
            .iter()
            .any(|finished| finished == owner)
    }

    /// Forgets the steps of a room of which nothing is left, and the list with the last of them.
    pub(crate) fn finish(&self, owner: &str) {
        let mut state = self.state();
        let removed = state.rooms.remove(owner);
        state.steps -= removed.map_or(0, |progress| progress.steps.len());
        if state.finished.len() >= FINISHED {
            state.finished.pop_front();
        }
        state.finished.push_back(owner.to_owned());
        if state.rooms.is_empty() {
            if let Some(listed) = &mut state.listed {
                listed.names = Some(Names::default());
            }
            state.removed_meanwhile = Vec::new();
            state.rooms.shrink_to_fit();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.exchanges.len() + self.queues.len() + self.policies.len()
    }

    /// Those of one room: all that begin with the name of its exchange and a dot, and the policy of this name.
    fn below(&self, exchange: &str) -> Self {
        let prefix = format!("{exchange}.");
        let below = |all: &BTreeSet<String>| {
            let from = all.range(prefix.clone()..);
            from.take_while(|name| name.starts_with(&prefix))
                .cloned()
                .collect()
        };
        Self {
            exchanges: below(&self.exchanges),
            queues: below(&self.queues),
            policies: self.policies.get(exchange).cloned().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    async fn list(removals: &Removals, exchanges: BTreeSet<String>) {
        let listed = Names {
            exchanges,
            ..Names::default()
        };
        let listed = async { Ok::<_, ()>(Some(listed)) };
        removals.list(listed).await.expect("a list");
    }

    #[tokio::test]
    async fn list_serves_rooms_whose_user_was_removed_before_it_began() {
        let removals = Removals::new(Duration::from_hours(1));
        removals.confirm("a", Step::User);
        assert_eq!(removals.listing("a", Instant::now()), Listing::Due);
        list(&removals, BTreeSet::new()).await;
        removals.confirm("b", Step::User);
        assert_eq!(removals.listing("a", Instant::now()), Listing::Ready);
        let waits = removals.listing("b", Instant::now());
        assert!(matches!(waits, Listing::In(_)), "{waits:?}");
        let later = Instant::now() + Duration::from_hours(1);
        assert_eq!(removals.listing("b", later), Listing::Due);
    }

    #[tokio::test]
    async fn last_room_is_noticed_across_lists() {
        let removals = Removals::new(Duration::ZERO);
        list(&removals, names(["papo.a.a", "papo.a.b"])).await;
        // A list that began before the first exchange was removed and ended after it.
        let stale = async {
            assert!(removals.are_others_left("papo.a.a"));
            Ok::<_, ()>(Some(Names {
                exchanges: names(["papo.a.a", "papo.a.b"]),
                ..Names::default()
            }))
        };
        removals.list(stale).await.expect("a list");
        assert!(!removals.are_others_left("papo.a.b"));
    }

    #[test]
    fn names_of_another_room_are_not_below() {
        let all = Names {
            exchanges: names(["papo.a.b", "papo.a.b.signal.00", "papo.a.bc.signal.00"]),
            queues: names(["papo.a.b-c.log.0a", "papo.a.b.log.0a"]),
            policies: names(["papo.a.b", "papo.a.bc"]),
        };
        let below = all.below("papo.a.b");
        assert_eq!(below.exchanges, names(["papo.a.b.signal.00"]));
        assert_eq!(below.queues, names(["papo.a.b.log.0a"]));
        assert_eq!(below.policies, names(["papo.a.b"]));
    }

    #[test]
    fn repeated_step_is_no_progress() {
        let removals = Removals::new(Duration::ZERO);
        removals.confirm("a", Step::Log);
        let first = removals.last_progress_of("a").expect("progress");
        removals.confirm("a", Step::Log);
        assert_eq!(removals.last_progress_of("a"), Some(first));
        removals.confirm("a", Step::Exchange);
        assert!(removals.last_progress_of("a") >= Some(first));
        removals.finish("a");
        assert!(!removals.has("a", &Step::Log));
    }

    #[test]
    fn so_many_finished_rooms_are_remembered() {
        let removals = Removals::new(Duration::ZERO);
        for room in 0..=FINISHED {
            removals.finish(&room.to_string());
        }
        assert!(!removals.is_finished("0") && removals.is_finished("1"));
        assert_eq!(removals.state().finished.len(), FINISHED);
    }
}
