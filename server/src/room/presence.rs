//! Presence: who is here, over all servers. Each server tells the others of its own members; what it says is a signal
//! and may be lost, so it is said again at times, and a server that falls silent is forgotten.
//!
//! Pure: time comes in as an argument.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use papo_protocol::UserName;
use serde::{Deserialize, Serialize};

/// How often a server says who its members are even when nothing changes.
pub(super) const REPEAT: Duration = Duration::from_secs(5);
/// How long a silent server's members are believed to be here.
pub(super) const EXPIRY: Duration = Duration::from_secs(16);
/// Most names in one event; the count is always exact.
pub(super) const MOST_NAMES: usize = 100;

/// What a server says of its own members (the body of a presence signal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The server.
    pub server: String,
    /// How many connections it has.
    pub count: u64,
    /// Some of their names.
    pub members: Vec<UserName>,
    /// Who came since the last report.
    #[serde(default)]
    pub joined: Vec<UserName>,
    /// Who left since the last report.
    #[serde(default)]
    pub left: Vec<UserName>,
}

/// The `presence` event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Presence {
    /// Connections in the room, over all servers.
    pub count: u64,
    /// Who came since the last event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<UserName>,
    /// Who left since the last event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<UserName>,
    /// Some of those who are here: only in the first event that a client gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<UserName>>,
}

/// Who is here, as one server knows it.
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

    /// A connection of this server came.
    pub(super) fn join(&mut self, user: &UserName) {
        let connections = self.own.entry(user.clone()).or_default();
        *connections += 1;
        if *connections == 1 {
            note(&mut self.joined, user);
        }
        self.changed = true;
    }

    /// A connection of this server left.
    pub(super) fn leave(&mut self, user: &UserName) {
        if let Some(connections) = self.own.get_mut(user) {
            *connections -= 1;
            if *connections == 0 {
                self.own.remove(user);
                note(&mut self.left, user);
            }
        }
        self.changed = true;
    }

    /// What to tell the others, and this server's own members, since the last time; `None` when nothing changed.
    pub(super) fn changes(&mut self) -> Option<(Report, Presence)> {
        std::mem::take(&mut self.changed).then(|| {
            let report = Report {
                joined: std::mem::take(&mut self.joined),
                left: std::mem::take(&mut self.left),
                ..self.report()
            };
            let presence = Presence {
                count: self.count(),
                joined: report.joined.clone(),
                left: report.left.clone(),
                members: None,
            };
            (report, presence)
        })
    }

    /// What to say again at times, without changes.
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

    /// Hears another server's report; what this server's members should be told of it, if anything.
    pub(super) fn hear(&mut self, mut report: Report, now: Instant) -> Option<Presence> {
        if report.server == self.server {
            return None;
        }
        for names in [&mut report.members, &mut report.joined, &mut report.left] {
            names.truncate(MOST_NAMES);
        }
        let before = self.count();
        let (joined, left) = (report.joined.clone(), report.left.clone());
        self.others.insert(report.server.clone(), (report, now));
        let news = before != self.count() || !joined.is_empty() || !left.is_empty();
        news.then(|| Presence {
            count: self.count(),
            joined,
            left,
            members: None,
        })
    }

    /// Forgets servers that have been silent for too long; what members should be told of it, if anything.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Presence> {
        let before = self.count();
        self.others
            .retain(|_, (_, heard)| now.duration_since(*heard) < EXPIRY);
        (before != self.count()).then(|| Presence {
            count: self.count(),
            ..Presence::default()
        })
    }

    /// The event for one who has just come: everything at once.
    pub(super) fn all(&self) -> Presence {
        let theirs = self.others.values().flat_map(|(report, _)| &report.members);
        let names: HashSet<&UserName> = self.own.keys().chain(theirs).take(MOST_NAMES).collect();
        Presence {
            count: self.count(),
            members: Some(names.into_iter().cloned().collect()),
            ..Presence::default()
        }
    }

    /// Connections in the room, over all servers.
    pub(super) fn count(&self) -> u64 {
        let theirs = self.others.values().map(|(report, _)| report.count);
        // What others say may be anything.
        self.own
            .values()
            .copied()
            .chain(theirs)
            .fold(0, u64::saturating_add)
    }
}

fn note(names: &mut Vec<UserName>, user: &UserName) {
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
    fn changes_are_told_once_and_together() {
        let mut roster = roster("a", &["Ana", "Rui"]);
        roster.leave(&name("Ana"));
        let (report, presence) = roster.changes().expect("something changed");
        assert_eq!(
            (presence.count, presence.joined.len(), &presence.left),
            (1, 2, &vec![name("Ana")])
        );
        assert_eq!(report.members, [name("Rui")]);
        assert_eq!(roster.changes(), None);
    }

    #[test]
    fn two_servers_count_together() {
        let (mut a, mut b) = (roster("a", &["Ana"]), roster("b", &["Bia", "Rui"]));
        let now = Instant::now();
        let (report, _) = b.changes().expect("something changed");
        assert_eq!(a.hear(report, now).map(|presence| presence.count), Some(3));
        assert_eq!(a.all().members.map(|members| members.len()), Some(3));
        assert_eq!(
            a.hear(b.report(), now),
            None,
            "a repeated report is no news"
        );
    }

    #[test]
    fn ones_own_report_is_not_counted_twice() {
        let mut a = roster("a", &["Ana"]);
        assert_eq!(a.hear(a.report(), Instant::now()), None);
        assert_eq!(a.count(), 1);
    }

    #[test]
    fn a_server_that_lies_breaks_nothing() {
        let mut a = roster("a", &["Ana"]);
        let report = |server: &str| Report {
            server: server.to_owned(),
            count: u64::MAX,
            members: vec![name("Bia"); 2 * MOST_NAMES],
            joined: vec![name("Rui"); 2 * MOST_NAMES],
            left: Vec::new(),
        };
        a.hear(report("b"), Instant::now());
        let presence = a.hear(report("c"), Instant::now()).expect("news");
        assert_eq!(
            (presence.count, presence.joined.len()),
            (u64::MAX, MOST_NAMES)
        );
    }

    #[test]
    fn a_silent_server_is_forgotten() {
        let (mut a, b) = (roster("a", &["Ana"]), roster("b", &["Bia"]));
        let now = Instant::now();
        a.hear(b.report(), now);
        assert_eq!(a.expire(now + EXPIRY / 2), None);
        assert_eq!(
            a.expire(now + EXPIRY).map(|presence| presence.count),
            Some(1)
        );
    }

    #[test]
    fn two_tabs_of_one_person_are_two_connections_and_one_name() {
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
            Some(Presence {
                count: 1,
                ..Presence::default()
            }),
            "nobody left"
        );
    }
}
