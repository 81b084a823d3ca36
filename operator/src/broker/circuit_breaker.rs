//! The circuit breaker of one broker.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::BrokerError;

/// How long the circuit is open after a request that got no answer, or after a room that took too long.
const OPEN: Duration = Duration::from_secs(5);

/// Fails requests to a broker that has just not answered one.
///
/// Without it rooms would wait for such a broker one after the other, take up all slots of the namespace, and make rooms of its other brokers
/// wait too. While the circuit is open one room at a time tries the broker, and the others get the last error.
pub(super) struct CircuitBreaker {
    open: Mutex<Option<Open>>,
    /// How long an attempt may take.
    timeout: Duration,
}

struct Open {
    until: Instant,
    attempt: String,
    message: String,
}

impl Open {
    fn check(&self, now: Instant) -> Result<(), BrokerError> {
        if now >= self.until {
            return Ok(());
        }
        Err(BrokerError::Unreachable {
            attempt: self.attempt.clone(),
            message: self.message.clone(),
        })
    }
}

impl CircuitBreaker {
    /// A closed circuit. `timeout` is how long an attempt may take.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            open: Mutex::default(),
            timeout,
        }
    }

    /// Fails with the last error while the circuit is open.
    pub(super) fn check(&self, now: Instant) -> Result<(), BrokerError> {
        self.lock().as_ref().map_or(Ok(()), |open| open.check(now))
    }

    /// Allows an attempt, or fails it with the last error.
    pub(super) fn allow(&self, now: Instant) -> Result<(), BrokerError> {
        if let Some(open) = &mut *self.lock() {
            open.check(now)?;
            // Half-open: this attempt decides. The others wait for its result, for as long as it may take.
            open.until = now + self.timeout + OPEN;
        }
        Ok(())
    }

    /// Records the result of an attempt that was allowed.
    pub(super) fn record(&self, error: Option<&BrokerError>, now: Instant) {
        *self.lock() = match error {
            Some(BrokerError::Unreachable { attempt, message }) => Some(Open {
                until: now + OPEN,
                attempt: attempt.clone(),
                message: message.clone(),
            }),
            _ => None,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        // A panic elsewhere cannot leave it half written.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_broker_is_tried_by_one_room_at_a_time() {
        let (circuit, start) = (CircuitBreaker::new(Duration::from_secs(30)), Instant::now());
        let silent = BrokerError::Unreachable {
            attempt: "cannot read the exchange".to_owned(),
            message: "timed out".to_owned(),
        };
        circuit.allow(start).expect("nothing is known yet");
        circuit.record(Some(&silent), start);
        let error = circuit.allow(start).expect_err("just tried").to_string();
        assert_eq!(error, silent.to_string());

        let later = start + OPEN;
        circuit.check(later).expect("it may be tried again");
        circuit.allow(later).expect("one room tries again");
        circuit.check(later).expect_err("the others wait");
        circuit.allow(later).expect_err("and only one");
        circuit.record(None, later);
        circuit.allow(later).expect("the broker answers");
        circuit.allow(later).expect("every room");
    }
}
