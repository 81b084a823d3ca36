//! The circuit breaker of one broker.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::client::REQUEST_TIMEOUT;
use crate::error::BrokerError;

/// How long the circuit is open after a request that got no answer.
const OPEN: Duration = Duration::from_secs(5);

/// Fails requests to a broker that has just not answered one.
///
/// Without it rooms would wait for such a broker one after the other, take up all reconciles that may run concurrently, and make rooms of other
/// brokers wait too. While the circuit is open one room at a time tries the broker, and the others get the last error.
#[derive(Default)]
pub(super) struct CircuitBreaker(Mutex<Option<Open>>);

struct Open {
    until: Instant,
    attempt: String,
    message: String,
}

impl CircuitBreaker {
    /// Allows a request, or fails it with the last error.
    pub(super) fn allow(&self, now: Instant) -> Result<(), BrokerError> {
        match &mut *self.lock() {
            Some(Open {
                until,
                attempt,
                message,
            }) if now < *until => Err(BrokerError::Unreachable {
                attempt: attempt.clone(),
                message: message.clone(),
            }),
            Some(Open { until, .. }) => {
                // Half-open: this request decides. The others wait for its result, for as long as it may take.
                *until = now + REQUEST_TIMEOUT + OPEN;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records the result of a request that was allowed.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_broker_is_tried_by_one_room_at_a_time() {
        let (circuit, start) = (CircuitBreaker::default(), Instant::now());
        let silent = BrokerError::Unreachable {
            attempt: "cannot read the exchange".to_owned(),
            message: "timed out".to_owned(),
        };
        circuit.allow(start).expect("nothing is known yet");
        circuit.record(Some(&silent), start);
        let error = circuit.allow(start).expect_err("just tried").to_string();
        assert_eq!(error, silent.to_string());

        let later = start + OPEN;
        circuit.allow(later).expect("one room tries again");
        circuit.allow(later).expect_err("and only one");
        circuit.record(None, later);
        circuit.allow(later).expect("the broker answers");
        circuit.allow(later).expect("every room");
    }
}
