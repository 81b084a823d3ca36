//! What the crowd counts.

use std::{
    collections::HashMap,
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::member::Role;

/// Counts of all members.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The highest number that was acknowledged.
    pub(crate) said: AtomicU64,
    connections: AtomicU64,
    members: Mutex<HashMap<usize, Standing>>,
    counts: Mutex<Counts>,
    reported: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    role: Role,
    connected: bool,
    last: u64,
}

#[derive(Debug, Default)]
struct Counts {
    closed: u64,
    holes: u64,
    repeated: u64,
    /// Milliseconds from sending to showing, of those who never stall.
    latencies: Vec<u32>,
}

/// What happened since the last report, and where everybody stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    said: u64,
    connected: usize,
    connections: u64,
    closed: u64,
    holes: u64,
    repeated: u64,
    delivered: usize,
    /// How many of those who read, and of those who may stall, have been shown all that had been said by the last report.
    readers_up_to_date: usize,
    stallers_up_to_date: usize,
    p50: u32,
    p99: u32,
    most: u32,
}

impl Tally {
    pub(crate) fn connected(&self, member: usize, role: Role) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut members = self.members.lock();
        let standing = members.entry(member).or_insert(Standing {
            role,
            connected: true,
            last: 0,
        });
        standing.connected = true;
    }

    pub(crate) fn closed(&self, member: usize) {
        if let Some(standing) = self.members.lock().get_mut(&member) {
            standing.connected = false;
        }
        self.counts.lock().closed += 1;
    }

    /// A member was shown a number; the first one it is ever shown may be any.
    pub(crate) fn shown(&self, member: usize, number: u64, latency: Option<u32>) {
        let mut members = self.members.lock();
        let Some(standing) = members.get_mut(&member) else {
            return;
        };
        let (before, role) = (standing.last, standing.role);
        standing.last = before.max(number);
        drop(members);
        let mut counts = self.counts.lock();
        if before != 0 {
            counts.holes += number.saturating_sub(before + 1);
            counts.repeated += u64::from(number <= before);
        }
        if role == Role::Reads {
            counts.latencies.extend(latency);
        }
    }

    pub(crate) fn report(&self) -> Report {
        let counts = mem::take(&mut *self.counts.lock());
        let said = self.said.load(Ordering::SeqCst);
        let before = self.reported.swap(said, Ordering::SeqCst);
        let members = self.members.lock();
        let up_to_date = |role| {
            let current = |one: &&Standing| one.role == role && one.last >= before;
            members.values().filter(current).count()
        };
        let mut latencies = counts.latencies;
        latencies.sort_unstable();
        let at = |share: usize| {
            let place = (latencies.len() * share / 1000).min(latencies.len().saturating_sub(1));
            latencies.get(place).copied().unwrap_or_default()
        };
        Report {
            said,
            connected: members.values().filter(|one| one.connected).count(),
            connections: self.connections.load(Ordering::Relaxed),
            closed: counts.closed,
            holes: counts.holes,
            repeated: counts.repeated,
            delivered: latencies.len(),
            readers_up_to_date: up_to_date(Role::Reads),
            stallers_up_to_date: up_to_date(Role::Stalls),
            p50: at(500),
            p99: at(990),
            most: at(1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_repetitions_are_counted() {
        let tally = Tally::default();
        tally.connected(1, Role::Reads);
        for (number, latency) in [(5, 30), (6, 10), (9, 20), (9, 40)] {
            tally.shown(1, number, Some(latency));
        }
        tally.said.store(9, Ordering::SeqCst);
        let report = tally.report();
        assert_eq!((report.holes, report.repeated), (2, 1));
        assert_eq!((report.p50, report.most, report.delivered), (30, 40, 4));
        assert_eq!((report.readers_up_to_date, report.connected), (1, 1));
        tally.shown(1, 8, None);
        tally.said.store(10, Ordering::SeqCst);
        let report = tally.report();
        assert_eq!(
            (report.holes, report.repeated, report.readers_up_to_date),
            (0, 1, 1)
        );
        assert_eq!(
            tally.report().readers_up_to_date,
            0,
            "10 had been said and was not shown"
        );
    }
}
