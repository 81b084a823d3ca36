//! Which rooms of a virtual host have something under the names of their signal queues that no server leaves. All rooms share it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How many rooms are remembered, so that a broker that invents rooms does not fill the memory. The others are found later.
const ROOMS: usize = 1_000;

/// When a virtual host was last looked through, and the rooms whose leftovers have not been removed since.
#[derive(Debug)]
pub(crate) struct Inspection {
    period: Duration,
    last: Option<Instant>,
    /// By their exchanges.
    rooms: BTreeSet<String>,
}

impl Inspection {
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            last: None,
            rooms: BTreeSet::new(),
        }
    }

    /// Whether the virtual host has to be looked through again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.duration_since(last) >= self.period)
    }

    /// Starts again.
    pub(crate) fn begin(&mut self) {
        self.last = None;
        self.rooms.clear();
    }

    /// Adds the room with this exchange.
    pub(crate) fn add(&mut self, exchange: &str) {
        if self.rooms.len() < ROOMS && !self.rooms.contains(exchange) {
            self.rooms.insert(exchange.to_owned());
        }
    }

    /// The virtual host has been looked through.
    pub(crate) fn end(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether the room with this exchange has leftovers. The answer is given once.
    pub(crate) fn take(&mut self, exchange: &str) -> bool {
        self.rooms.remove(exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_that_invents_rooms_does_not_fill_the_memory() {
        let mut inspection = Inspection::new(Duration::from_secs(15));
        for number in 0..10_000 {
            inspection.add(&format!("papo.team.{number}"));
        }
        assert_eq!(inspection.rooms.len(), ROOMS);
        assert!(inspection.take("papo.team.0") && !inspection.take("papo.team.0"));
    }
}
