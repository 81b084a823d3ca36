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
    names: HashMap<UserName, SenderId>,
    pub(super) looks: Looks,
}

impl Other {
    /// A server that is heard of for the first time.
    pub(super) fn new(report: Report, received: Instant) -> Self {
        Self {
            report,
            received,
            names: HashMap::new(),
            looks: Looks::default(),
        }
    }

    /// Takes its next report.
    pub(super) fn receive(&mut self, mut report: Report, now: Instant) {
        let senders = std::mem::take(&mut report.senders);
        for name in &report.left {
            self.remove(name);
        }
        // A report without changes names all members, unless there are too many.
        let is_repeated = report.joined.is_empty() && report.left.is_empty();
        if report.count == 0 || (is_repeated && (1..MOST_MEMBERS).contains(&senders.len())) {
            let named: HashSet<&UserName> = senders.iter().map(|member| &member.user).collect();
            let gone: Vec<UserName> = self
                .names
                .keys()
                .filter(|name| !named.contains(name))
                .cloned()
                .collect();
            for name in &gone {
                self.remove(name);
            }
        }
        for member in senders {
            self.add(member);
        }
        (self.report, self.received) = (report, now);
    }

    fn add(&mut self, member: Member) {
        if self.names.get(&member.user) == Some(&member.sender) || self.names.len() >= MOST_KEPT {
            return;
        }
        self.remove(&member.user);
        self.looks.add(&member);
        self.names.insert(member.user, member.sender);
    }

    fn remove(&mut self, name: &UserName) {
        if let Some((user, sender)) = self.names.remove_entry(name) {
            self.looks.remove(&Member { sender, user });
        }
    }
}
