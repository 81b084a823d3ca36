//! What the work on brokers may cost, so that a tenant's broker cannot take the operator from other tenants.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The largest answer that is read from a management API, in bytes.
pub(crate) const ANSWER_MAX: usize = 4 << 20;
/// Queues on one page of a list.
pub(crate) const PAGE: usize = 500;
/// The most pages that are read of one list: 10,000 queues.
pub(crate) const PAGES: usize = 20;
/// Rooms of one broker that fit into the bounds on what is kept of it.
const ROOMS: usize = PAGES * PAGE;
/// The most objects other than logs that an inventory keeps: exchange, binding, policy, user and permissions of [`ROOMS`] rooms. They take 1.1 MiB.
pub(crate) const OBJECTS: usize = 5 * ROOMS;
/// The most logs that an inventory keeps: those of [`ROOMS`] rooms. They take 1.5 MiB.
pub(crate) const LOGS: usize = ROOMS;
/// The most names that the list for removals keeps: exchange, log and policy of [`ROOMS`] rooms. They take at most 6 MiB, of which 4 MiB are the
/// answer's.
pub(crate) const NAMES: usize = 3 * ROOMS;
/// The most brokers whose Secrets are in one namespace that are in use at the same time. Each has at most 3 MiB in its inventory, and the same again
/// while it is read.
pub(crate) const BROKERS: usize = 8;
/// How long a broker is in use after a room has asked for it. A deleted room may have to wait for its servers, and then need what its Secret said.
pub(crate) const BROKER_IDLE: Duration = Duration::from_mins(10);
/// How long a room waits for a slot, at most.
const SLOT_WAIT: Duration = Duration::from_secs(1);
/// How long after a success the rooms of a namespace's brokers still count as being worked on one after the other.
const MOVING: Duration = Duration::from_secs(5);

/// A bound on what is read from a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`PAGES`] of a list.
    Pages,
    /// [`PAGE`].
    PageSize,
    /// [`OBJECTS`], [`LOGS`] or [`NAMES`].
    Objects,
    /// [`ANSWER_MAX`].
    AnswerSize,
}

impl Bound {
    /// The label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::PageSize => "page_size",
            Self::Objects => "objects",
            Self::AnswerSize => "answer_size",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages => write!(
                f,
                "the list has more than {PAGES} pages ({} queues), which is the most that the operator reads",
                PAGES * PAGE
            ),
            Self::PageSize => write!(
                f,
                "a page of the list has more than the {PAGE} objects that the operator asks for"
            ),
            Self::Objects => write!(
                f,
                "the virtual host has more objects of Papo than {ROOMS} rooms, which is the most that the operator keeps of one"
            ),
            Self::AnswerSize => write!(
                f,
                "the answer is larger than {} MiB, which is the most that the operator reads",
                ANSWER_MAX >> 20
            ),
        }
    }
}

/// The rooms of one namespace's brokers that may be worked on concurrently. A few more may wait for a short time; all others fail at once, so that
/// rooms of a slow broker do not occupy the operator.
pub(super) struct Slots {
    working: Semaphore,
    /// Those that work and those that wait.
    places: Semaphore,
    /// When the work of a room last succeeded.
    succeeded: Mutex<Option<Instant>>,
}

/// A slot, or a place to wait for one; given back when it is dropped.
pub(super) struct Slot<'a> {
    _slot: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Slots {
    pub(super) fn new(count: usize, waiting: usize) -> Self {
        Self {
            working: Semaphore::new(count),
            places: Semaphore::new(count + waiting),
            succeeded: Mutex::default(),
        }
    }

    /// The work of a room has succeeded.
    pub(super) fn note_success(&self, now: Instant) {
        *self.succeeded() = Some(now);
    }

    /// Whether the work of a room has succeeded a short time ago: then those that wait will have their turn.
    pub(super) fn are_moving(&self, now: Instant) -> bool {
        let last = *self.succeeded();
        last.is_some_and(|last| now.saturating_duration_since(last) < MOVING)
    }

    fn succeeded(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing panics while it is held.
        self.succeeded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot; `None` if none is free in time.
    pub(super) async fn acquire(&self) -> Option<Slot<'_>> {
        let place = self.places.try_acquire().ok()?;
        let slot = timeout(SLOT_WAIT, self.working.acquire())
            .await
            .ok()?
            .ok()?;
        Some(Slot {
            _slot: slot,
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_move_for_a_short_time_after_a_success() {
        let (slots, now) = (Slots::new(1, 0), Instant::now());
        assert!(!slots.are_moving(now));
        slots.note_success(now);
        assert!(slots.are_moving(now));
        assert!(!slots.are_moving(now + MOVING));
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_bounded_and_so_is_the_wait() {
        let slots = Slots::new(1, 1);
        let held = slots.acquire().await.expect("a free slot");
        let (waiting, third) = tokio::join!(slots.acquire(), slots.acquire());
        assert!(waiting.is_none(), "the slot was not given back in time");
        assert!(third.is_none(), "no place to wait");
        drop(held);
        assert!(slots.acquire().await.is_some());
    }
}
