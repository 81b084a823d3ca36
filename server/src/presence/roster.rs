//! The roster: who is in the room, as one server knows it.
//!
//! Each server sends reports of its own members to the others. A report may be lost, so reports are repeated, and a server that
//! sends none for a while is forgotten. Pure: time comes in as an argument.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use papo_protocol::UserName;
use serde::{Deserialize, Serialize};

/// How often a server sends its report without changes.
pub(super) const REPEAT: Duration = Duration::from_secs(5);
/// How long the members of a silent server are counted.
pub(super) const EXPIRY: Duration = Duration::from_secs(16);
/// Most names in one event; the count is always exact.
pub(super) const MOST_NAMES: usize = 100;

/// A server's report of its own members (the body of a presence signal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The server.
    pub server: String,
    /// How many connections it has.
    pub count: u64,
    /// Some of their names.
    pub members: Vec<UserName>,
    /// Who joined since the last report.
    #[serde(default)]
    pub joined: Vec<UserName>,
    /// Who left since the last report.
    #[serde(default)]
    pub left: Vec<UserName>,
}

/// The `presence` event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct PresenceEvent {
    /// Connections in the room, over all servers.
    pub count: u64,
    /// Who joined since the last event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<UserName>,
    /// Who left since the last event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<UserName>,
    /// Some of those who are in the room: only in the first event that a client gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<UserName>>,
}

/// Who is in the room, as one server knows it.
#[derive(Debug)]
pub(super) struct Roster {
    server: String,
    own: HashMap<UserName, u64>,
    changed: bool,
    joined: Vec<UserName>,
    left: Vec<UserName>,
    others: HashMap<String, (Report, Instant)>,
}

impl Roster {
    /// An empty room, seen from this server.
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            own: HashMap::new(),
            changed: false,
            joined: Vec::new(),
            left: Vec::new(),
            others: HashMap::new(),
        }
    }

    /// A connection of this server joined.
    pub(super) fn join(&mut self, user: &UserName) {
        let connections = self.own.entry(user.clone()).or_default();
        *connections += 1;
        if *connections == 1 {
            add_name(&mut self.joined, user);
        }
        self.changed = true;
    }

    /// A connection of this server left.
    pub(super) fn leave(&mut self, user: &UserName) {
        if let Some(connections) = self.own.get_mut(user) {
            *connections -= 1;
            if *connections == 0 {
                self.own.remove(user);
                add_name(&mut self.left, user);
            }
        }
        self.changed = true;
    }

    /// What changed on this server since the last call: for the other servers, and for its own members.
    pub(super) fn changes(&mut self) -> Option<(Report, PresenceEvent)> {
        std::mem::take(&mut self.changed).then(|| {
            let report = Report {
                joined: std::mem::take(&mut self.joined),
                left: std::mem::take(&mut self.left),
                ..self.report()
            };
            let presence = PresenceEvent {
                count: self.count(),
                joined: report.joined.clone(),
                left: report.left.clone(),
                members: None,
            };
            (report, presence)
        })
    }

    /// The report without changes.
    pub(super) fn report(&self) -> Report {
        let members = self.own.keys().take(MOST_NAMES).cloned().collect();
        Report {
            server: self.server.clone(),
            count: self.own.values().sum(),
            members,
            joined: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Takes another server's report; returns the event for this server's members if anything changed.
    pub(super) fn receive(&mut self, mut report: Report, now: Instant) -> Option<PresenceEvent> {
        if report.server == self.server {
            return None;
        }
        for names in [&mut report.members, &mut report.joined, &mut report.left] {
            names.truncate(MOST_NAMES);
        }
        let before = self.count();
        let (joined, left) = (report.joined.clone(), report.left.clone());
        self.others.insert(report.server.clone(), (report, now));
        let is_change = before != self.count() || !joined.is_empty() || !left.is_empty();
        is_change.then(|| PresenceEvent {
            count: self.count(),
            joined,
            left,
            members: None,
        })
    }

    /// Forgets servers that have been silent for too long; returns the event for this server's members if anything changed.
    pub(super) fn expire(&mut self, now: Instant) -> Option<PresenceEvent> {
        let before = self.count();
        self.others
            .retain(|_, (_, received)| now.duration_since(*received) < EXPIRY);
        (before != self.count()).then(|| PresenceEvent {
            count: self.count(),
            ..PresenceEvent::default()
        })
    }

    /// The event for a new member: the names too.
    pub(super) fn all(&self) -> PresenceEvent {
        let theirs = self.others.values().flat_map(|(report, _)| &report.members);
        let names: HashSet<&UserName> = self.own.keys().chain(theirs).take(MOST_NAMES).collect();
        PresenceEvent {
            count: self.count(),
            members: Some(names.into_iter().cloned().collect()),
            ..PresenceEvent::default()
        }
    }

    /// Connections in the room, over all servers.
    pub(super) fn count(&self) -> u64 {
        let theirs = self.others.values().map(|(report, _)| report.count);
        // Another server may report any number.
        self.own
            .values()
            .copied()
            .chain(theirs)
            .fold(0, u64::saturating_add)
    }
}

fn add_name(names: &mut Vec<UserName>, user: &UserName) {
    if names.len() < MOST_NAMES {
        names.push(user.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().expect("valid")
    }

    fn roster(server: &str, members: &[&str]) -> Roster {
        let mut roster = Roster::new(server.to_owned());
        for member in members {
            roster.join(&name(member));
        }
        roster
    }

    #[test]
    fn changes_are_returned_once_and_together() {
        let mut roster = roster("a", &["Ana", "Rui"]);
        roster.leave(&name("Ana"));
        let (report, presence) = roster.changes().expect("changed");
        assert_eq!(
            (presence.count, presence.joined.len(), &presence.left),
            (1, 2, &vec![name("Ana")])
        );
        assert_eq!(report.members, [name("Rui")]);
        assert_eq!(roster.changes(), None);
    }

    #[test]
    fn members_of_all_servers_count() {
        let (mut a, mut b) = (roster("a", &["Ana"]), roster("b", &["Bia", "Rui"]));
        let now = Instant::now();
        let (report, _) = b.changes().expect("changed");
        assert_eq!(
            a.receive(report, now).map(|presence| presence.count),
            Some(3)
        );
        assert_eq!(a.all().members.map(|members| members.len()), Some(3));
        assert_eq!(
            a.receive(b.report(), now),
            None,
            "a repeated report changes nothing"
        );
    }

    #[test]
    fn own_report_is_ignored() {
        let mut a = roster("a", &["Ana"]);
        assert_eq!(a.receive(a.report(), Instant::now()), None);
        assert_eq!(a.count(), 1);
    }

    #[test]
    fn reports_with_absurd_numbers_are_bounded() {
        let mut a = roster("a", &["Ana"]);
        let report = |server: &str| Report {
            server: server.to_owned(),
            count: u64::MAX,
            members: vec![name("Bia"); 2 * MOST_NAMES],
            joined: vec![name("Rui"); 2 * MOST_NAMES],
            left: Vec::new(),
        };
        a.receive(report("b"), Instant::now());
        let presence = a.receive(report("c"), Instant::now()).expect("changed");
        assert_eq!(
            (presence.count, presence.joined.len()),
            (u64::MAX, MOST_NAMES)
        );
    }

    #[test]
    fn silent_server_is_forgotten() {
        let (mut a, b) = (roster("a", &["Ana"]), roster("b", &["Bia"]));
        let now = Instant::now();
        a.receive(b.report(), now);
        assert_eq!(a.expire(now + EXPIRY / 2), None);
        assert_eq!(
            a.expire(now + EXPIRY).map(|presence| presence.count),
            Some(1)
        );
    }

    #[test]
    fn two_connections_of_one_person_are_one_name() {
        let mut a = roster("a", &["Ana", "Ana"]);
        assert_eq!(
            (a.count(), a.all().members.map(|members| members.len())),
            (2, Some(1))
        );
        a.changes();
        a.leave(&name("Ana"));
        assert_eq!(a.all().members.map(|members| members.len()), Some(1));
        let presence = a.changes().map(|(_, presence)| presence);
        assert_eq!(
            presence,
            Some(PresenceEvent {
                count: 1,
                ..PresenceEvent::default()
            }),
            "nobody left"
        );
    }
}
