//! Fuzz target of the signals between servers.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use std::time::Instant;

use super::{
    exchange::Typing,
    roster::{MOST_NAMES, PresenceEvent, Roster},
};
use crate::fuzzing::SEPARATOR;

/// The bodies of signals, each taken for either kind.
pub fn signal(data: &[u8]) {
    let (mut roster, now) = (Roster::new("own".to_owned()), Instant::now());
    for body in data.split(|byte| *byte == SEPARATOR) {
        if let Ok(Typing { member }) = serde_json::from_slice(body) {
            serde_json::to_string(&member).expect("names always encode");
        }
        if let Ok(report) = serde_json::from_slice(body) {
            roster.receive(report, now).iter().for_each(check);
            check(&roster.all());
        }
    }
}

fn check(event: &PresenceEvent) {
    serde_json::to_string(event).expect("names and numbers always encode");
    let members = event.members.as_ref().map_or(0, Vec::len);
    for names in [members, event.joined.len(), event.left.len()] {
        assert!(names <= MOST_NAMES);
    }
}
