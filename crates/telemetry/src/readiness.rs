//! What a program still waits for before it can serve: one [`Latch`] per condition, all of them needed. A [`Note`] says what is limited
//! while the program serves all the same.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All conditions of a program. Clones share them; a program with none is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<Condition>>>,
}

#[derive(Debug)]
struct Condition {
    name: Cow<'static, str>,
    /// Whether the program is not ready while it does not hold.
    is_needed: bool,
    /// Why it does not hold; `None` if it does.
    waiting: Option<String>,
}

/// Something that limits a program that is ready all the same. Clones share it.
#[derive(Clone, Debug)]
pub struct Note(Latch);

/// One condition, held by the part of the program that knows whether it is met. Clones share it.
#[derive(Clone, Debug)]
pub struct Latch {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// Adds a condition; it is not met, for the reason `starting`, until its latch says otherwise.
    pub fn latch(&self, name: impl Into<Cow<'static, str>>) -> Latch {
        self.add(name.into(), true, Some("starting".to_owned()))
    }

    /// Adds a note; it says nothing until it is set.
    pub fn note(&self, name: impl Into<Cow<'static, str>>) -> Note {
        Note(self.add(name.into(), false, None))
    }

    fn add(&self, name: Cow<'static, str>, is_needed: bool, waiting: Option<String>) -> Latch {
        let mut conditions = self.lock();
        conditions.push(Condition {
            name,
            is_needed,
            waiting,
        });
        Latch {
            readiness: self.clone(),
            index: conditions.len() - 1,
        }
    }

    /// The conditions that are not met, each with the reason, in the order they were added. Empty means ready.
    pub fn waiting(&self) -> Vec<(Cow<'static, str>, String)> {
        self.unmet(true)
    }

    /// The notes that are set, each with its text, in the order they were added.
    pub fn notes(&self) -> Vec<(Cow<'static, str>, String)> {
        self.unmet(false)
    }

    fn unmet(&self, is_needed: bool) -> Vec<(Cow<'static, str>, String)> {
        self.lock()
            .iter()
            .filter(|condition| condition.is_needed == is_needed)
            .filter_map(|condition| Some((condition.name.clone(), condition.waiting.clone()?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Condition>> {
        // A panic elsewhere cannot leave a condition half written.
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Note {
    /// Something is limited; `text` is what an operator of the service reads.
    pub fn set(&self, text: impl Into<String>) {
        self.0.set(Some(text.into()));
    }

    /// Nothing is limited any more.
    pub fn clear(&self) {
        self.0.set(None);
    }
}

impl Latch {
    /// The condition is met.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The condition is not met, or no longer; `reason` is what an operator of the service reads.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, waiting: Option<String>) {
        let mut conditions = self.readiness.lock();
        let condition = &mut conditions[self.index];
        if condition.waiting == waiting {
            return;
        }
        let name = &*condition.name;
        match &waiting {
            // Whoever sets a note logs it with the cause at hand.
            _ if !condition.is_needed => {}
            None => tracing::info!(condition = name, "ready"),
            Some(reason) => tracing::info!(condition = name, reason, "not ready"),
        }
        condition.waiting = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_without_conditions_is_ready() {
        assert!(Readiness::default().waiting().is_empty());
    }

    #[test]
    fn every_condition_has_to_be_met() {
        let readiness = Readiness::default();
        let log = readiness.latch("log");
        let drain = readiness.latch("drain");
        drain.ready();
        assert_eq!(readiness.waiting(), [("log".into(), "starting".to_owned())]);
        log.not_ready("12 records behind");
        assert_eq!(
            readiness.waiting(),
            [("log".into(), "12 records behind".to_owned())]
        );
        log.clone().ready();
        assert!(readiness.waiting().is_empty());
    }

    #[test]
    fn note_does_not_keep_a_program_from_being_ready() {
        let readiness = Readiness::default();
        let note = readiness.note("watch of HTTPRoute");
        assert!(readiness.notes().is_empty());
        note.set("missing");
        assert!(readiness.waiting().is_empty());
        assert_eq!(
            readiness.notes(),
            [("watch of HTTPRoute".into(), "missing".to_owned())]
        );
        note.clear();
        assert!(readiness.notes().is_empty());
    }

    #[test]
    fn condition_can_become_unmet_again() {
        let readiness = Readiness::default();
        let latch = readiness.latch("broker");
        latch.ready();
        latch.not_ready("connection lost");
        assert_eq!(
            readiness.clone().waiting(),
            [("broker".into(), "connection lost".to_owned())]
        );
    }
}
