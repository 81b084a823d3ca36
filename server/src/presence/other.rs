//! Another server of the room, as its reports say.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use papo_protocol::{SenderId, UserName};

use super::{
    Looks,
    report::{MOST_MEMBERS, Report},
};
use crate::chat::Member;

/// Most members that are kept of one server. A server that has more than [`MOST_MEMBERS`] repeats only some of them, but reports each
/// that joins.
const MOST_KEPT: usize = 20_000;

/// The last report of a server, and its members.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) report: Report,
    pub(super) received: Instant,
    /// As far as they are known: a signal may be lost.
    guests: Names,
    signed_in: Names,
    pub(super) looks: Looks,
}

type Names = HashMap<UserName, SenderId>;

impl Other {
    /// A server that is heard of for the first time.
    pub(super) fn new(report: Report, received: Instant) -> Self {
        Self {
            report,
            received,
            guests: Names::new(),
            signed_in: Names::new(),
            looks: Looks::default(),
        }
    }

    /// Takes its next report.
    pub(super) fn receive(&mut self, mut report: Report, now: Instant) {
        let senders = std::mem::take(&mut report.senders);
        let mut left_verified = std::mem::take(&mut report.left_verified);
        for name in &report.left {
            let place = left_verified.iter().position(|left| left == name);
            place.map(|place| left_verified.swap_remove(place));
            self.remove(name, place.is_some());
        }
        // A report without changes names all members, unless there are too many.
        let is_repeated = report.joined.is_empty() && report.left.is_empty();
        if report.count == 0 || (is_repeated && (1..MOST_MEMBERS).contains(&senders.len())) {
            let named = senders
                .iter()
                .map(|member| (&member.user, member.verified))
                .collect();
            self.retain(&named);
        }
        for member in senders {
            self.add(member);
        }
        (self.report, self.received) = (report, now);
    }

    fn add(&mut self, member: Member) {
        let is_full = self.guests.len() + self.signed_in.len() >= MOST_KEPT;
        let known = self.names(member.verified).get(&member.user);
        if known == Some(&member.sender) || is_full {
            return;
        }
        self.remove(&member.user, member.verified);
        self.looks.add(&member);
        self.names(member.verified)
            .insert(member.user, member.sender);
    }

    fn remove(&mut self, name: &UserName, verified: bool) {
        if let Some((user, sender)) = self.names(verified).remove_entry(name) {
            self.looks.remove(&Member {
                sender,
                user,
                verified,
            });
        }
    }

    /// Removes all but these.
    fn retain(&mut self, named: &HashSet<(&UserName, bool)>) {
        for verified in [false, true] {
            let known = self.names(verified).keys();
            let gone: Vec<UserName> = known
                .filter(|name| !named.contains(&(*name, verified)))
                .cloned()
                .collect();
            for name in &gone {
                self.remove(name, verified);
            }
        }
    }

    fn names(&mut self, verified: bool) -> &mut Names {
        if verified {
            &mut self.signed_in
        } else {
            &mut self.guests
        }
    }
}
