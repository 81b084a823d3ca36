//! The rules in force: what a guest and what somebody who is signed in may do.

use std::{collections::HashSet, sync::Arc};

use papo_protocol::{
    Access, SenderId,
    access::{Grant, Guests, SignInToken},
};
use serde::{Serialize, Serializer};

use super::{issuer::Issuer, person::Person};

/// What a member may do. Whoever may moderate may write, and whoever may write may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct May(u8);

/// Why somebody may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// Guests may not, and this is one.
    SignInNeeded,
    /// The list of those who are denied names this person, this token or this sender.
    Denied,
    /// No rule lets this person read.
    NotAllowed,
    /// What has verified the person's token is no longer accepted. A new token may be.
    Withdrawn,
}

/// The rules of an access file, ready to be asked.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) access: Access,
    pub(super) issuers: Vec<Arc<Issuer>>,
    read: People,
    write: People,
    moderate: People,
    denied_subjects: HashSet<String>,
    denied_token_ids: HashSet<String>,
    denied_senders: HashSet<SenderId>,
}

/// Some of those who are signed in.
#[derive(Debug, Default)]
struct People {
    everybody: bool,
    groups: HashSet<String>,
    subjects: HashSet<String>,
}

impl May {
    /// Nothing.
    pub(crate) const NOTHING: Self = Self(0);
    /// Read.
    pub(crate) const READ: Self = Self(0b001);
    /// Read and write.
    pub(crate) const WRITE: Self = Self(0b011);
    /// Read, write and moderate.
    pub(crate) const MODERATE: Self = Self(0b111);
    /// How many bits it takes.
    pub(crate) const BITS: u32 = 3;

    /// Whether it may do all of this.
    pub(crate) fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As a number of [`BITS`](Self::BITS) bits.
    pub(crate) fn bits(self) -> u64 {
        self.0.into()
    }

    /// What a number says in its lowest bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        match bits & Self::MODERATE.bits() {
            0b111 => Self::MODERATE,
            0b011 => Self::WRITE,
            0b001 => Self::READ,
            _ => Self::NOTHING,
        }
    }
}

impl Serialize for May {
    /// A list of words, as clients get it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words = [
            ("read", Self::READ),
            ("write", Self::WRITE),
            ("moderate", Self::MODERATE),
        ];
        serializer.collect_seq(
            words
                .iter()
                .filter(|(_, may)| self.includes(*may))
                .map(|(word, _)| word),
        )
    }
}

impl Rules {
    /// The rules of a file whose issuers have their keys already.
    pub(super) fn new(access: Access, issuers: Vec<Arc<Issuer>>) -> Self {
        let denied = access.denied.clone();
        Self {
            issuers,
            read: People::new(&access.read.0),
            write: People::new(&access.write.0),
            moderate: People::new(&access.moderate),
            denied_subjects: denied.subjects.into_iter().collect(),
            denied_token_ids: denied.token_ids.into_iter().collect(),
            denied_senders: denied.senders.into_iter().collect(),
            access,
        }
    }

    /// The issuer with this URL.
    pub(super) fn issuer(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| *issuer.url == *url)
    }

    /// Whether ID tokens of an issuer are accepted: not if the page signs people in there and sends access tokens.
    pub(super) fn accepts_id_tokens(&self, issuer: &Issuer) -> bool {
        let sends = self.access.sign_in.as_ref().map(|sign_in| sign_in.token);
        let signs_in = self.access.sign_in_issuer() == Some(&issuer.settings);
        !signs_in || sends != Some(SignInToken::Access)
    }

    /// Whether a rule names a group.
    pub(super) fn names_group(&self, group: &str) -> bool {
        let mut people = [&self.read, &self.write, &self.moderate].into_iter();
        people.any(|people| people.groups.contains(group))
    }

    /// Whether nobody need be known: everybody may read and write, and nobody can sign in.
    pub(crate) fn is_open(&self) -> bool {
        self.issuers.is_empty() && self.access.guests == Guests::Write
    }

    /// What a guest may do; at least read.
    pub(crate) fn guest(&self, sender: &SenderId) -> Result<May, NoEntry> {
        if self.denied_senders.contains(sender) {
            return Err(NoEntry::Denied);
        }
        match self.access.guests {
            Guests::Write => Ok(May::WRITE),
            Guests::Read => Ok(May::READ),
            Guests::None => Err(NoEntry::SignInNeeded),
        }
    }

    /// What somebody who is signed in may do; at least read. Nothing if the issuer is none of the room's any more.
    pub(crate) fn person(&self, sender: &SenderId, person: &Person) -> Result<May, NoEntry> {
        let token_id = person.token_id.as_deref();
        if self.denied_senders.contains(sender)
            || self.denied_subjects.contains(&*person.subject)
            || token_id.is_some_and(|id| self.denied_token_ids.contains(id))
        {
            return Err(NoEntry::Denied);
        }
        let issuer = self.issuer(&person.issuer).ok_or(NoEntry::NotAllowed)?;
        if !issuer.accepts(&person.proof) {
            return Err(NoEntry::Withdrawn);
        }
        if self.moderate.include(person) {
            Ok(May::MODERATE)
        } else if self.write.include(person) {
            Ok(May::WRITE)
        } else if self.read.include(person) {
            Ok(May::READ)
        } else {
            Err(NoEntry::NotAllowed)
        }
    }
}

impl People {
    fn new(grants: &[Grant]) -> Self {
        let mut people = Self::default();
        for grant in grants {
            match grant {
                Grant::Everybody => people.everybody = true,
                Grant::Group(group) => drop(people.groups.insert(group.clone())),
                Grant::Subject(subject) => drop(people.subjects.insert(subject.clone())),
            }
        }
        people
    }

    fn include(&self, person: &Person) -> bool {
        self.everybody
            || self.subjects.contains(&*person.subject)
            || person.groups().any(|group| self.groups.contains(group))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::issuer::Issuer;

    pub(in crate::access) const ISSUER: &str = "https://id.example";

    /// The rules of a file, whose issuers have no keys.
    pub(in crate::access) fn rules(access: serde_json::Value) -> Rules {
        let access: Access = serde_json::from_value(access).expect("valid");
        access.check().expect("usable");
        let issuers = access.issuers.iter().map(Issuer::without_keys).collect();
        Rules::new(access, issuers)
    }

    fn company(more: &serde_json::Value) -> Rules {
        let mut access = json!({ "issuers": [{ "issuer": ISSUER, "audiences": ["papo"] }] });
        let fields = access.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        rules(access)
    }

    fn person(subject: &str, groups: &[&str]) -> Person {
        Person::for_test(ISSUER, subject, Some("t-1"), groups)
    }

    fn sender() -> SenderId {
        SenderId::from_trusted("3f9a")
    }

    #[test]
    fn guests_may_what_the_file_says() {
        for (guests, expected) in [
            ("Write", Ok(May::WRITE)),
            ("Read", Ok(May::READ)),
            ("None", Err(NoEntry::SignInNeeded)),
        ] {
            let rules = company(&json!({ "guests": guests }));
            assert_eq!(rules.guest(&sender()), expected, "{guests}");
        }
        assert_eq!(
            company(&json!({})).guest(&sender()),
            Err(NoEntry::SignInNeeded),
            "if the file does not say it"
        );
    }

    #[test]
    fn roles_follow_subjects_and_groups() {
        let rules = company(&json!({
            "read": ["group:staff"], "write": ["group:authors", "subject:rui"], "moderate": ["group:admins"],
        }));
        for (subject, groups, expected) in [
            ("ana", &["staff"][..], Ok(May::READ)),
            ("ana", &["staff", "authors"], Ok(May::WRITE)),
            ("ana", &["authors"], Ok(May::WRITE)),
            ("rui", &[], Ok(May::WRITE)),
            ("ana", &["admins"], Ok(May::MODERATE)),
            ("ana", &["visitors"], Err(NoEntry::NotAllowed)),
            ("staff", &[], Err(NoEntry::NotAllowed)),
            ("ana", &["rui"], Err(NoEntry::NotAllowed)),
        ] {
            let may = rules.person(&sender(), &person(subject, groups));
            assert_eq!(may, expected, "{subject} {groups:?}");
        }
    }

    #[test]
    fn everybody_signed_in_may_write_if_the_file_does_not_say_it() {
        let rules = company(&json!({}));
        let may = rules.person(&sender(), &person("ana", &[]));
        assert_eq!(may, Ok(May::WRITE));
    }

    #[test]
    fn whoever_is_denied_may_not_enter() {
        for denied in [
            json!({ "subjects": ["ana"] }),
            json!({ "tokenIds": ["t-1"] }),
            json!({ "senders": ["3f9a"] }),
        ] {
            let rules = company(&json!({ "denied": denied, "moderate": ["*"] }));
            let may = rules.person(&sender(), &person("ana", &[]));
            assert_eq!(may, Err(NoEntry::Denied), "{denied}");
        }
        let rules = company(&json!({ "guests": "Write", "denied": { "senders": ["3f9a"] } }));
        assert_eq!(rules.guest(&sender()), Err(NoEntry::Denied));
        let other = SenderId::from_trusted("other");
        assert_eq!(rules.guest(&other), Ok(May::WRITE));
    }

    #[test]
    fn person_of_a_removed_issuer_may_nothing() {
        let rules = company(&json!({ "moderate": ["*"] }));
        let stranger = Person::for_test("https://former.example", "ana", None, &[]);
        let may = rules.person(&sender(), &stranger);
        assert_eq!(may, Err(NoEntry::NotAllowed));
    }

    #[test]
    fn clients_get_a_list_of_words() {
        for (may, expected) in [
            (May::NOTHING, json!([])),
            (May::READ, json!(["read"])),
            (May::WRITE, json!(["read", "write"])),
            (May::MODERATE, json!(["read", "write", "moderate"])),
        ] {
            assert_eq!(json!(may), expected);
            assert_eq!(May::from_bits(0b1000 | may.bits()), may);
        }
    }
}
