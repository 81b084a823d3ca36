//! Fuzz target of what servers tell each other.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use std::time::Instant;

use super::{
    attendance::Typing,
    presence::{MOST_NAMES, Presence, Roster},
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
            roster.hear(report, now).iter().for_each(check);
            check(&roster.all());
        }
    }
}

fn check(presence: &Presence) {
    serde_json::to_string(presence).expect("names and numbers always encode");
    let members = presence.members.as_ref().map_or(0, Vec::len);
    for names in [members, presence.joined.len(), presence.left.len()] {
        assert!(names <= MOST_NAMES);
    }
}
