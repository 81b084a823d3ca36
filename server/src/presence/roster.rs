//! The roster: who is in the room, as one server knows it.
//!
//! Each server sends reports of its own members to the others. A report may be lost, so reports are repeated, and a server that
//! sends none for a while is forgotten. Pure: time comes in as an argument.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use papo_protocol::{SenderId, UserName};
use serde::Serialize;

use super::{
    Looks,
    other::Other,
    report::{MOST_MEMBERS, Report},
};
use crate::chat::{
    Member,
    name::{MARK_MAX, MARK_STEP, marked, unmarked},
};

/// How often a server sends its report without changes.
pub(super) const REPEAT: Duration = Duration::from_secs(5);
/// How long the members of a silent server are counted.
pub(super) const EXPIRY: Duration = Duration::from_secs(16);
/// Most names in one event; the count is always exact.
pub(super) const MOST_NAMES: usize = 100;
/// Most other servers that are counted. A room has far fewer; whoever has the broker's credentials can invent some.
const MOST_SERVERS: usize = 256;

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

/// A guest's name looks like that of somebody present who is signed in, or no mark makes a name different from others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameTaken;

/// Who is in the room, as one server knows it.
#[derive(Debug)]
pub(super) struct Roster {
    server: String,
    own: HashMap<Arc<Member>, u64>,
    own_looks: Looks,
    changed: bool,
    joined: Vec<Arc<Member>>,
    left: Vec<Arc<Member>>,
    others: HashMap<String, Other>,
}

impl Roster {
    /// An empty room, seen from this server.
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            own: HashMap::new(),
            own_looks: Looks::default(),
            changed: false,
            joined: Vec::new(),
            left: Vec::new(),
            others: HashMap::new(),
        }
    }

    /// A connection of this server joined. Returns the member with the name that it gets: with a mark, if another sender who is
    /// present shows a name that looks the same.
    pub(super) fn join(&mut self, member: Member) -> Result<Arc<Member>, NameTaken> {
        let member = Arc::new(self.distinct(member)?);
        self.add(&member);
        Ok(member)
    }

    /// A member that has joined gets another name. Returns it as [`join`](Self::join) does.
    pub(super) fn rename(
        &mut self,
        former: &Arc<Member>,
        member: Member,
    ) -> Result<Arc<Member>, NameTaken> {
        let member = self.distinct(member)?;
        if member == **former {
            return Ok(former.clone());
        }
        let member = Arc::new(member);
        self.leave(former);
        self.add(&member);
        Ok(member)
    }

    fn add(&mut self, member: &Arc<Member>) {
        let connections = self.own.entry(member.clone()).or_default();
        *connections += 1;
        if *connections == 1 {
            self.own_looks.add(member);
            note(&mut self.joined, member);
        }
        self.changed = true;
    }

    /// A connection of this server left.
    pub(super) fn leave(&mut self, member: &Arc<Member>) {
        if let Some(connections) = self.own.get_mut(member) {
            *connections -= 1;
            if *connections == 0 {
                self.own.remove(member);
                self.own_looks.remove(member);
                note(&mut self.left, member);
            }
        }
        self.changed = true;
    }

    /// The mark grows for as long as it is not different: senders can begin alike. A mark that the member has chosen is no part of its name, so
    /// that nobody takes the marks of others. A guest gets no name that looks like that of somebody who is signed in.
    fn distinct(&self, member: Member) -> Result<Member, NameTaken> {
        let Member {
            sender,
            user,
            verified,
        } = member;
        let user = unmarked(user);
        if !verified && self.is_of_another(true, &user, &sender) {
            return Err(NameTaken);
        }
        let marked = (MARK_STEP..=MARK_MAX)
            .step_by(MARK_STEP)
            .map(|characters| marked(&user, &sender, characters));
        let mut names = std::iter::once(user.clone()).chain(marked);
        let distinct = names.find(|name| !self.is_of_another(verified, name, &sender));
        Ok(Member {
            user: distinct.ok_or(NameTaken)?,
            sender,
            verified,
        })
    }

    /// Whether the name looks like that of another sender: of one who is signed in, or of anybody.
    fn is_of_another(&self, is_signed_in: bool, user: &UserName, sender: &SenderId) -> bool {
        let others = self.others.values().map(|other| &other.looks);
        std::iter::once(&self.own_looks).chain(others).any(|looks| {
            if is_signed_in {
                looks.is_of_another_signed_in(user, sender)
            } else {
                looks.is_of_another(user, sender)
            }
        })
    }

    /// What changed on this server since the last call: for the other servers, and for its own members.
    pub(super) fn changes(&mut self) -> Option<(Report, PresenceEvent)> {
        std::mem::take(&mut self.changed).then(|| {
            let mut joined = std::mem::take(&mut self.joined);
            let mut left = std::mem::take(&mut self.left);
            for members in [&mut joined, &mut left] {
                members.sort_by_key(|member| !member.verified);
            }
            left.truncate(MOST_NAMES);
            let left_verified = left.iter().filter(|member| member.verified);
            let names = joined.iter().take(MOST_NAMES);
            let report = Report {
                joined: names.map(|member| member.user.clone()).collect(),
                left_verified: left_verified.map(|member| member.user.clone()).collect(),
                left: left.iter().map(|member| member.user.clone()).collect(),
                senders: joined.iter().map(|member| Member::clone(member)).collect(),
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
        let members = self.own.keys().take(MOST_NAMES);
        Report {
            server: self.server.clone(),
            count: self.own.values().sum(),
            members: members.map(|member| member.user.clone()).collect(),
            joined: Vec::new(),
            left: Vec::new(),
            left_verified: Vec::new(),
            senders: Vec::new(),
            end: None,
        }
    }

    /// The report that is repeated: it also says which senders have the names. Those who are signed in come first: a server that does not know
    /// them gives their names to guests.
    pub(super) fn repeated_report(&self) -> Report {
        let of = |verified| {
            let members = self.own.keys();
            members.filter(move |member| member.verified == verified)
        };
        let senders = of(true).chain(of(false)).take(MOST_MEMBERS);
        Report {
            senders: senders.map(|member| Member::clone(member)).collect(),
            ..self.report()
        }
    }

    /// Takes another server's report; returns the event for this server's members if anything changed.
    pub(super) fn receive(&mut self, mut report: Report, now: Instant) -> Option<PresenceEvent> {
        let is_known = self.others.contains_key(&report.server);
        if report.server == self.server || !is_known && self.others.len() >= MOST_SERVERS {
            return None;
        }
        for names in [
            &mut report.members,
            &mut report.joined,
            &mut report.left,
            &mut report.left_verified,
        ] {
            names.truncate(MOST_NAMES);
        }
        report.senders.truncate(MOST_MEMBERS);
        let before = self.count();
        let (joined, left) = (report.joined.clone(), report.left.clone());
        let server = report.server.clone();
        let other = self
            .others
            .entry(server)
            .or_insert_with(|| Other::new(report.clone(), now));
        other.receive(report, now);
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
            .retain(|_, other| now.duration_since(other.received) < EXPIRY);
        (before != self.count()).then(|| PresenceEvent {
            count: self.count(),
            ..PresenceEvent::default()
        })
    }

    /// The event for a new member: the names too.
    pub(super) fn all(&self) -> PresenceEvent {
        let theirs = self.others.values().flat_map(|other| &other.report.members);
        let own = self.own.keys().map(|member| &member.user);
        let names: HashSet<&UserName> = own.chain(theirs).take(MOST_NAMES).collect();
        PresenceEvent {
            count: self.count(),
            members: Some(names.into_iter().cloned().collect()),
            ..PresenceEvent::default()
        }
    }

    /// Connections in the room, over all servers.
    pub(super) fn count(&self) -> u64 {
        let theirs = self.others.values().map(|other| other.report.count);
        // Another server may report any number.
        self.own
            .values()
            .copied()
            .chain(theirs)
            .fold(0, u64::saturating_add)
    }
}

/// Keeps who joined or left for the next report. Guests who come in crowds keep nobody who is signed in out of it.
fn note(changed: &mut Vec<Arc<Member>>, member: &Arc<Member>) {
    let most = if member.verified {
        MOST_MEMBERS
    } else {
        MOST_NAMES
    };
    if changed.len() < most {
        changed.push(member.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::other::MOST_KEPT;

    fn name(text: &str) -> UserName {
        text.parse().expect("valid")
    }

    /// A member whose sender is its name.
    fn member(user: &str) -> Member {
        member_of(user, user)
    }

    fn member_of(sender: &str, user: &str) -> Member {
        Member {
            sender: SenderId::from_trusted(sender),
            user: name(user),
            verified: false,
        }
    }

    fn signed_in(sender: &str, user: &str) -> Member {
        Member {
            verified: true,
            ..member_of(sender, user)
        }
    }

    fn leave(roster: &mut Roster, member: Member) {
        roster.leave(&Arc::new(member));
    }

    fn roster(server: &str, members: &[&str]) -> Roster {
        let mut roster = Roster::new(server.to_owned());
        for user in members {
            roster.join(member(user)).expect("free");
        }
        roster
    }

    /// The name that a sender gets.
    fn joined(roster: &mut Roster, sender: &str, user: &str) -> String {
        let member = roster.join(member_of(sender, user)).expect("free");
        member.user.clone().into()
    }

    #[test]
    fn changes_are_returned_once_and_together() {
        let mut roster = roster("a", &["Ana", "Rui"]);
        leave(&mut roster, member("Ana"));
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
            left_verified: Vec::new(),
            senders: vec![member("Bia"); 2 * MOST_MEMBERS],
            end: None,
        };
        a.receive(report("b"), Instant::now());
        let presence = a.receive(report("c"), Instant::now()).expect("changed");
        assert_eq!(
            (presence.count, presence.joined.len()),
            (u64::MAX, MOST_NAMES)
        );
    }

    #[test]
    fn invented_servers_are_bounded() {
        let (mut a, mut b, now) = (roster("a", &["Ana"]), roster("b", &["Bia"]), Instant::now());
        a.receive(b.report(), now);
        for number in 0..2 * MOST_SERVERS {
            let invented = Report {
                server: format!("invented {number}"),
                ..b.report()
            };
            a.receive(invented, now);
        }
        assert_eq!(a.others.len(), MOST_SERVERS);
        let before = a.count();
        b.join(member("Rui")).expect("free");
        a.receive(b.report(), now);
        assert_eq!(a.count(), before + 1, "a server that is known");
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
        leave(&mut a, member("Ana"));
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

    #[test]
    fn name_that_looks_like_another_senders_gets_a_mark() {
        let mut a = Roster::new("a".to_owned());
        for (sender, user, expected) in [
            ("aaaa1111", "Ana", "Ana"),
            ("aaaa1111", "Ana", "Ana"),
            ("3f9a2222", "Ana", "Ana #3f9a"),
            ("3f9a2222", "Ana", "Ana #3f9a"),
            ("bbbb3333", "Аnа", "Аnа #bbbb"),
            ("cccc4444", "ANA", "ANA #cccc"),
            ("dddd5555", "Ana #3f9a", "Ana #dddd"),
            ("dddd7777", "Rui #3f9a", "Rui"),
            ("3f9a6666", "Ana", "Ana #3f9a6666"),
            ("eeee7777", "Bia", "Bia"),
        ] {
            assert_eq!(joined(&mut a, sender, user), expected, "{sender} {user}");
        }
        leave(&mut a, member_of("aaaa1111", "Ana"));
        assert_eq!(
            joined(&mut a, "ffff8888", "Ana"),
            "Ana #ffff",
            "another connection is left"
        );
        leave(&mut a, member_of("aaaa1111", "Ana"));
        assert_eq!(joined(&mut a, "ffff9999", "Ana"), "Ana");
    }

    #[test]
    fn guest_cannot_look_like_somebody_signed_in() {
        let mut a = Roster::new("a".to_owned());
        let mut join = |member| {
            let joined = a.join(member);
            joined.map(|member| String::from(member.user.clone()))
        };
        let as_it_is = Ok("Ana".to_owned());
        assert_eq!(join(member_of("aaaa1111", "Ana")), as_it_is, "a guest");
        assert_eq!(join(signed_in("5555eeee", "Ana")), as_it_is, "no mark");
        assert_eq!(join(signed_in("5555eeee", "Ana")), as_it_is, "a device");
        for name in ["Ana", "Аnа", "ANA"] {
            assert_eq!(join(member_of("bbbb2222", name)), Err(NameTaken), "{name}");
        }
        assert_eq!(join(member_of("aaaa1111", "Ana")), Err(NameTaken));
        let marked = Ok("Ana #6666".to_owned());
        assert_eq!(join(signed_in("6666ffff", "Ana")), marked);
        leave(&mut a, signed_in("5555eeee", "Ana"));
        assert_eq!(a.join(member_of("bbbb2222", "Ana")), Err(NameTaken));
        leave(&mut a, signed_in("5555eeee", "Ana"));
        assert_eq!(joined(&mut a, "bbbb2222", "Ana"), "Ana #bbbb");
    }

    #[test]
    fn guest_cannot_look_like_somebody_signed_in_on_another_server() {
        let (mut a, mut b, now) = (
            Roster::new("a".to_owned()),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        for member in [member_of("aaaa1111", "Ana"), signed_in("5555eeee", "Ana")] {
            a.join(member).expect("free");
        }
        let (report, _) = a.changes().expect("changed");
        b.receive(report, now);
        let guest = || member_of("bbbb2222", "Ana");
        assert_eq!(b.join(guest()), Err(NameTaken));
        leave(&mut a, member_of("aaaa1111", "Ana"));
        let (report, _) = a.changes().expect("changed");
        assert!(report.left_verified.is_empty());
        b.receive(report, now);
        assert_eq!(b.join(guest()), Err(NameTaken), "the guest has left");
        leave(&mut a, signed_in("5555eeee", "Ana"));
        let (report, presence) = a.changes().expect("changed");
        assert_eq!(presence.left, [name("Ana")]);
        b.receive(report, now);
        assert!(b.join(guest()).is_ok());
    }

    #[test]
    fn name_of_a_new_token_takes_the_place_of_the_former() {
        let mut a = Roster::new("a".to_owned());
        let former = a.join(signed_in("5555eeee", "Ana")).expect("free");
        a.join(signed_in("6666ffff", "Bia")).expect("free");
        a.changes();
        let same = a.rename(&former, signed_in("5555eeee", "Ana"));
        assert_eq!((same, a.changes()), (Ok(former.clone()), None));
        let renamed = a.rename(&former, signed_in("5555eeee", "Bia"));
        let renamed = renamed.expect("signed in");
        assert_eq!(renamed.user, name("Bia #5555"));
        let (_, presence) = a.changes().expect("changed");
        assert_eq!(
            (presence.count, presence.joined, presence.left),
            (2, vec![name("Bia #5555")], vec![name("Ana")])
        );
        a.leave(&renamed);
        assert_eq!(joined(&mut a, "bbbb2222", "Ana"), "Ana");
    }

    #[test]
    fn names_of_other_servers_get_a_mark_too() {
        let (mut a, mut b, now) = (
            roster("a", &["Ana"]),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        let (report, _) = a.changes().expect("changed");
        b.receive(report, now);
        assert_eq!(joined(&mut b, "eeee", "Аna"), "Аna #eeee");
        assert_eq!(joined(&mut b, "Ana", "Ana"), "Ana", "the same sender");
        leave(&mut a, member("Ana"));
        let (report, _) = a.changes().expect("changed");
        b.receive(report, now);
        leave(&mut b, member("Ana"));
        assert_eq!(joined(&mut b, "ffff", "Ana"), "Ana");
    }

    /// Names that are all marks of one sender.
    fn marks_of(sender: &str) -> impl Iterator<Item = String> {
        let lengths = (MARK_STEP..=MARK_MAX).step_by(MARK_STEP);
        lengths.map(|length| format!("Ana #{}", &sender[..length]))
    }

    #[test]
    fn guest_cannot_occupy_its_own_marks() {
        const SENDER: &str = "3f9a0c3f9a0c3f9a0c3f9a0c";
        let (mut a, mut b, now) = (
            roster("a", &["Ana"]),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        for (helper, name) in marks_of(SENDER).enumerate() {
            let sender = format!("{helper:x}").repeat(MARK_MAX);
            assert_ne!(joined(&mut a, &sender, &name), name);
        }
        let (report, _) = a.changes().expect("changed");
        b.receive(report, now);
        for roster in [&mut a, &mut b] {
            assert_eq!(joined(roster, SENDER, "Ana"), "Ana #3f9a");
        }
    }

    #[test]
    fn name_without_a_free_mark_is_taken() {
        const SENDER: &str = "3f9a0c3f9a0c3f9a0c3f9a0c";
        let (mut a, mut b, now) = (
            roster("a", &["Ana"]),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        // Whoever has the broker's credentials can invent a report.
        let (mut report, _) = a.changes().expect("changed");
        let invented = marks_of(SENDER).map(|name| member_of("invented", &name));
        report.senders.extend(invented);
        b.receive(report, now);
        assert_eq!(b.join(member_of(SENDER, "Ana")), Err(NameTaken));
        assert_eq!(joined(&mut b, SENDER, "Rui"), "Rui");
    }

    #[test]
    fn crowd_of_guests_hides_nobody_who_is_signed_in() {
        let (mut a, mut b, mut c, now) = (
            Roster::new("a".to_owned()),
            Roster::new("b".to_owned()),
            Roster::new("c".to_owned()),
            Instant::now(),
        );
        for number in 0..2 * MOST_MEMBERS {
            a.join(member(&format!("Guest {number}"))).expect("free");
        }
        a.join(signed_in("5555eeee", "Ana")).expect("free");
        let guest = || member_of("bbbb2222", "Ana");
        let (report, presence) = a.changes().expect("changed");
        assert_eq!(presence.joined.len(), MOST_NAMES);
        b.receive(report, now);
        assert_eq!(b.join(guest()), Err(NameTaken), "who joined");
        c.receive(a.repeated_report(), now);
        assert_eq!(c.join(guest()), Err(NameTaken), "who is there");
        for number in 0..MOST_MEMBERS / 2 {
            leave(&mut a, member(&format!("Guest {number}")));
        }
        leave(&mut a, signed_in("5555eeee", "Ana"));
        let (report, presence) = a.changes().expect("changed");
        assert_eq!(presence.left.len(), MOST_NAMES);
        b.receive(report, now);
        assert!(b.join(guest()).is_ok(), "who left");
        assert_eq!(c.join(guest()), Err(NameTaken), "not told");
        c.receive(a.repeated_report(), now);
        assert!(c.join(guest()).is_ok(), "who is there no more");
    }

    #[test]
    fn guests_that_are_known_leave_a_place_for_who_is_signed_in() {
        let (mut a, mut b, now) = (
            Roster::new("a".to_owned()),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        let guests: Vec<Member> = (0..MOST_KEPT)
            .map(|number| member(&format!("Guest {number}")))
            .collect();
        for senders in guests.chunks(MOST_MEMBERS) {
            let report = Report {
                senders: senders.to_vec(),
                count: 1,
                ..a.report()
            };
            b.receive(report, now);
        }
        a.join(signed_in("5555eeee", "Ana")).expect("free");
        let (report, _) = a.changes().expect("changed");
        b.receive(report, now);
        assert_eq!(b.join(member_of("bbbb2222", "Ana")), Err(NameTaken));
    }

    #[test]
    fn repeated_report_corrects_the_names() {
        let (mut a, mut b, now) = (
            roster("a", &["Ana", "Rui"]),
            Roster::new("b".to_owned()),
            Instant::now(),
        );
        a.changes();
        b.receive(a.repeated_report(), now);
        assert_eq!(joined(&mut b, "eeee", "Rui"), "Rui #eeee");
        leave(&mut a, member("Rui"));
        a.changes();
        b.receive(a.repeated_report(), now);
        assert_eq!(joined(&mut b, "ffff", "Rui"), "Rui");
        assert_eq!(joined(&mut b, "ffff", "Ana"), "Ana #ffff");
        b.expire(now + EXPIRY);
        assert_eq!(joined(&mut b, "1111", "Ana"), "Ana");
    }

    #[test]
    fn report_of_an_older_version_is_read() {
        let report = r#"{"server":"b","count":1,"members":["Bia"]}"#;
        let report: Report = serde_json::from_str(report).expect("readable");
        let mut a = roster("a", &[]);
        assert_eq!(
            a.receive(report, Instant::now()).map(|event| event.count),
            Some(1)
        );
    }
}
