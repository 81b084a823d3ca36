//! The account of one run: which deliveries and acknowledgements are there, which are missing, and how late each was.
//!
//! Latency counts from when a message was *due*, not from when it was sent: a server (or generator) that falls behind does
//! not get to hide its waiting (no coordinated omission).

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// What is expected of a run, in whole messages.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// How many messages are sent.
    pub messages: u64,
    /// How many sockets each one is to reach.
    pub sockets: u64,
}

/// Deliveries and acknowledgements of one run.
pub struct Tally {
    expected: Expected,
    deliveries: Account,
    acks: Account,
}

/// One kind of answer to each message: so many, with their latencies.
struct Account {
    /// Of each message.
    wanted: u64,
    got: Vec<u64>,
    in_time: u64,
    latency: Histogram<u64>,
}

impl Account {
    fn new(messages: u64, wanted: u64) -> Result<Self> {
        // Microseconds up to ten minutes, to three digits.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self {
            wanted,
            got: vec![0; usize::try_from(messages)?],
            in_time: 0,
            latency,
        })
    }

    fn count(&mut self, sequence: u64, latency: u64) {
        let Some(got) = usize::try_from(sequence)
            .ok()
            .and_then(|at| self.got.get_mut(at))
        else {
            return;
        };
        *got += 1;
        self.in_time += u64::from(*got <= self.wanted);
        self.latency.saturating_record(latency);
    }

    fn missing(&self) -> u64 {
        self.wanted * self.got.len() as u64 - self.in_time
    }

    fn surplus(&self) -> u64 {
        self.latency.len() - self.in_time
    }

    fn report(&self) -> Value {
        let milliseconds = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "got": self.latency.len(), "missing": self.missing(), "surplus": self.surplus(),
            "p50_ms": milliseconds(0.5), "p99_ms": milliseconds(0.99), "p999_ms": milliseconds(0.999), "max_ms": milliseconds(1.0),
        })
    }
}

impl Tally {
    /// An empty account.
    pub fn new(expected: Expected) -> Result<Self> {
        let Expected { messages, sockets } = expected;
        Ok(Self {
            expected,
            deliveries: Account::new(messages, sockets)?,
            acks: Account::new(messages, 1)?,
        })
    }

    /// A message has reached one more socket, at `now`; both times in microseconds.
    pub fn delivered(&mut self, sequence: u64, due: u64, now: u64) {
        self.deliveries.count(sequence, now.saturating_sub(due));
    }

    /// Its sender has the acknowledgement.
    pub fn acknowledged(&mut self, sequence: u64, due: u64, now: u64) {
        self.acks.count(sequence, now.saturating_sub(due));
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.deliveries.missing() == 0 && self.acks.missing() == 0
    }

    /// How many deliveries and acknowledgements there have been: grows as long as anything comes.
    pub fn progress(&self) -> u64 {
        self.deliveries.latency.len() + self.acks.latency.len()
    }

    /// How many deliveries there have been.
    pub fn deliveries(&self) -> u64 {
        self.deliveries.latency.len()
    }

    /// The account as JSON.
    pub fn report(&self) -> Value {
        json!({ "messages": self.expected.messages, "delivery": self.deliveries.report(), "ack": self.acks.report() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(Expected {
            messages: 2,
            sockets: 3,
        })
        .expect("is there")
    }

    #[test]
    fn a_run_is_complete_with_every_delivery_and_acknowledgement() {
        let mut tally = tally();
        for sequence in 0..2 {
            for _ in 0..3 {
                assert!(!tally.is_complete());
                tally.delivered(sequence, 0, 1);
            }
            assert!(!tally.is_complete());
            tally.acknowledged(sequence, 0, 1);
        }
        assert!(tally.is_complete());
    }

    #[test]
    fn a_repeated_delivery_does_not_hide_a_missing_one() {
        let mut tally = tally();
        for _ in 0..4 {
            tally.delivered(0, 0, 1);
        }
        tally.delivered(1, 0, 1);
        tally.delivered(1, 0, 1);
        let report = tally.report();
        assert_eq!(
            (
                &report["delivery"]["missing"],
                &report["delivery"]["surplus"]
            ),
            (&json!(1), &json!(1))
        );
        assert_eq!(report["ack"]["missing"], 2);
    }

    #[test]
    fn latency_counts_from_the_time_a_message_was_due() {
        let mut tally = tally();
        tally.delivered(0, 1_000, 1_250);
        tally.delivered(0, 1_000, 51_000);
        let report = tally.report();
        assert_eq!(report["delivery"]["p50_ms"], 0.25);
        assert!(
            (report["delivery"]["max_ms"].as_f64().expect("is there") - 50.0).abs() < 0.1,
            "{report}"
        );
    }

    #[test]
    fn messages_never_sent_are_not_counted() {
        let mut tally = tally();
        tally.delivered(2, 0, 1);
        assert_eq!(tally.progress(), 0);
    }
}
