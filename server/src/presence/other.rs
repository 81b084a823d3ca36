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

/// Most guests that are kept of one server, and most of those who are signed in. A server that has more than [`MOST_MEMBERS`] repeats only some
/// of them, but reports each that joins.
pub(super) const MOST_KEPT: usize = 20_000;

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
        // A report without changes names all members, unless there are too many. Those who are signed in come first: a guest follows all of them.
        let is_repeated = report.joined.is_empty() && report.left.is_empty();
        let has_all =
            report.count == 0 || (is_repeated && (1..MOST_MEMBERS).contains(&senders.len()));
        let ends_with_a_guest = senders.last().is_some_and(|member| !member.verified);
        let has_all_signed_in = has_all || (is_repeated && ends_with_a_guest);
        for (verified, has_all) in [(false, has_all), (true, has_all_signed_in)] {
            if has_all {
                let of_kind = senders.iter().filter(|member| member.verified == verified);
                self.retain(&of_kind.map(|member| &member.user).collect(), verified);
            }
        }
        for member in senders {
            self.add(member);
        }
        (self.report, self.received) = (report, now);
    }

    fn add(&mut self, member: Member) {
        let names = self.names(member.verified);
        if names.get(&member.user) == Some(&member.sender) || names.len() >= MOST_KEPT {
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

    /// Removes all of a kind but these.
    fn retain(&mut self, named: &HashSet<&UserName>, verified: bool) {
        let known = self.names(verified).keys();
        let gone: Vec<UserName> = known
            .filter(|name| !named.contains(name))
            .cloned()
            .collect();
        for name in &gone {
            self.remove(name, verified);
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
