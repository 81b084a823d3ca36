//! What a program still waits for before it can serve: one [`Latch`] per condition, all of them needed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All conditions of a program. Clones share them; a program with none is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<Condition>>>,
}

#[derive(Debug)]
struct Condition {
    name: &'static str,
    /// Why it does not hold; `None` if it does.
    waiting: Option<String>,
}

/// One condition, held by the part of the program that knows whether it is met. Clones share it.
#[derive(Clone, Debug)]
pub struct Latch {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// Adds a condition; it is not met, for the reason `starting`, until its latch says otherwise.
    pub fn latch(&self, name: &'static str) -> Latch {
        let mut conditions = self.lock();
        conditions.push(Condition {
            name,
            waiting: Some("starting".to_owned()),
        });
        Latch {
            readiness: self.clone(),
            index: conditions.len() - 1,
        }
    }

    /// The conditions that are not met, each with the reason, in the order they were added. Empty means ready.
    pub fn waiting(&self) -> Vec<(&'static str, String)> {
        self.lock()
            .iter()
            .filter_map(|condition| Some((condition.name, condition.waiting.clone()?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Condition>> {
        // A panic elsewhere cannot leave a condition half written.
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        match &waiting {
            None => tracing::info!(condition = condition.name, "ready"),
            Some(reason) => tracing::info!(condition = condition.name, reason, "not ready"),
        }
        condition.waiting = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_conditions_is_ready() {
        assert!(Readiness::default().waiting().is_empty());
    }

    #[test]
    fn every_condition_has_to_be_met() {
        let readiness = Readiness::default();
        let log = readiness.latch("log");
        let drain = readiness.latch("drain");
        drain.ready();
        assert_eq!(readiness.waiting(), [("log", "starting".to_owned())]);
        log.not_ready("12 records behind");
        assert_eq!(
            readiness.waiting(),
            [("log", "12 records behind".to_owned())]
        );
        log.clone().ready();
        assert!(readiness.waiting().is_empty());
    }

    #[test]
    fn a_condition_can_be_lost_again() {
        let readiness = Readiness::default();
        let latch = readiness.latch("broker");
        latch.ready();
        latch.not_ready("connection lost");
        assert_eq!(
            readiness.clone().waiting(),
            [("broker", "connection lost".to_owned())]
        );
    }
}
