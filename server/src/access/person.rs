//! A person: who an access token says that its bearer is.
//!
//! Issuer and subject are the identity. The token is not part of it: a refreshed token is the same person.

use std::{collections::BTreeSet, sync::Arc};

use papo_protocol::{
    RoomName, SenderId, UserName,
    access::{Claims, NAME_MAX},
};
use serde_json::{Map, Value};

use super::{
    rules::Rules,
    token::{Proof, TokenError},
};
use crate::chat::{Identity, name::name};

/// Separates groups where they are kept. No group has it in its name.
const SEPARATOR: char = '\0';
/// The claim that has a name if that of the file has none.
const PREFERRED_NAME: &str = "preferred_username";
/// How long a token is accepted on one connection at most, in milliseconds: a day.
const LIFETIME_MAX: u64 = 86_400_000;
/// Most bytes that are kept of groups that no rule names: a later rule may.
const OTHER_GROUPS_MAX: usize = 4 * 1024;

/// Who is signed in. It is kept for as long as the connection, so it is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// Claim `iss`.
    pub(crate) issuer: Arc<str>,
    /// Claim `sub`.
    pub(crate) subject: Box<str>,
    /// Claim `jti`.
    pub(super) token_id: Option<Box<str>>,
    /// When the token expires, or has been used for [`LIFETIME_MAX`], in milliseconds since the Unix epoch.
    pub(crate) expires: u64,
    pub(super) proof: Proof,
    groups: Box<str>,
}

impl Person {
    /// Reads the claims of a token that has been verified now, in milliseconds since the Unix epoch.
    pub(super) fn read(
        issuer: &Arc<str>,
        names: &Claims,
        (claims, proof): (&Map<String, Value>, Proof),
        rules: &Rules,
        now: u64,
    ) -> Result<Self, TokenError> {
        let subject = claims.get("sub").and_then(Value::as_str);
        let has_length = |text: &&str| (1..=NAME_MAX).contains(&text.chars().count());
        let subject = subject
            .filter(has_length)
            .ok_or(TokenError::Claims("sub"))?;
        let token_id = claims.get("jti").and_then(Value::as_str);
        Ok(Self {
            issuer: issuer.clone(),
            subject: subject.into(),
            token_id: token_id.filter(has_length).map(Into::into),
            expires: expiry(claims)
                .ok_or(TokenError::Claims("exp"))?
                .min(now + LIFETIME_MAX),
            groups: groups(claim(claims, &names.groups), rules).into(),
            proof,
        })
    }

    /// The groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups
            .split(SEPARATOR)
            .filter(|group| !group.is_empty())
    }

    /// The public identity in a room.
    pub(super) fn sender(&self, room: &RoomName) -> SenderId {
        let (issuer, subject) = (&*self.issuer, &*self.subject);
        Identity::Person { issuer, subject }.sender(room)
    }

    #[cfg(test)]
    pub(super) fn for_test(
        issuer: &str,
        subject: &str,
        token_id: Option<&str>,
        groups: &[&str],
    ) -> Self {
        Self {
            issuer: issuer.into(),
            subject: subject.into(),
            token_id: token_id.map(Into::into),
            expires: 0,
            proof: Proof::for_test(),
            groups: groups.join("\0").into(),
        }
    }
}

/// The display name that a token gives its bearer: that of the claim, or else of `preferred_username`. A name that the room cannot show is none.
pub(super) fn display_name(
    names: &Claims,
    claims: &Map<String, Value>,
    sender: &SenderId,
    most: usize,
) -> UserName {
    let given = [&names.name, PREFERRED_NAME].into_iter();
    let mut usable = given.filter_map(|claimed| name(claim(claims, claimed)?.as_str()?, most).ok());
    let substitute = || {
        format!("membro-{}", &sender.as_str()[..4])
            .parse()
            .expect("letters, a dash and hexadecimal digits")
    };
    usable.next().unwrap_or_else(substitute)
}

/// A claim by its name, or by a JSON Pointer (RFC 6901).
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
    match path.split_once('/') {
        None => claims.get(&unescape(path)),
        Some((first, rest)) => claims.get(&unescape(first))?.pointer(&format!("/{rest}")),
    }
}

/// A list of texts, or one text: those that rules name, and others as far as they fit.
fn groups(claim: Option<&Value>, rules: &Rules) -> String {
    let texts: Vec<&str> = match claim {
        Some(Value::String(group)) => vec![group],
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let usable = texts.into_iter().filter(|group| !group.contains(SEPARATOR));
    let (named, mut others): (BTreeSet<&str>, BTreeSet<&str>) =
        usable.partition(|group| rules.names_group(group));
    let mut left = OTHER_GROUPS_MAX;
    others.retain(|group| {
        let fits = group.len() < left;
        left -= if fits { group.len() + 1 } else { 0 };
        fits
    });
    let kept: Vec<&str> = named.into_iter().chain(others).collect();
    kept.join("\0")
}

/// `exp` in milliseconds: a number of seconds that need not be whole (RFC 7519, section 2).
fn expiry(claims: &Map<String, Value>) -> Option<u64> {
    let expiry = claims.get("exp")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a conversion of a float stays within the bounds of the integer"
    )]
    let rounded = || expiry.as_f64().map(|seconds| seconds.round() as u64);
    let seconds = expiry.as_u64().or_else(rounded)?;
    Some(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::rules::tests::{ISSUER, rules};

    const NOW: u64 = 1_000;

    fn claims(claims: &Value) -> Map<String, Value> {
        claims.as_object().expect("an object").clone()
    }

    fn person(value: &Value) -> Result<Person, TokenError> {
        let names = Claims {
            groups: "/realm_access/roles".to_owned(),
            ..Claims::default()
        };
        let verified = (&claims(value), Proof::for_test());
        let issuer = json!({ "issuer": ISSUER, "audiences": ["papo"] });
        let rules = rules(json!({ "issuers": [issuer], "moderate": ["group:named"] }));
        Person::read(&ISSUER.into(), &names, verified, &rules, NOW)
    }

    #[test]
    fn sender_is_of_issuer_subject_and_room() {
        let room = |name: &str| name.parse::<RoomName>().expect("valid");
        let of = |issuer: &str, subject: &str, of_room: &str| {
            Person::for_test(issuer, subject, None, &[]).sender(&room(of_room))
        };
        let ana = of("https://id.example", "ana", "geral");
        assert_eq!(
            ana.as_str(),
            "dfe8a34de39e080374b4b4c6",
            "a stable identity"
        );
        for other in [
            of("https://id.example", "rui", "geral"),
            of("https://other.example", "ana", "geral"),
            of("https://id.example", "ana", "other"),
        ] {
            assert_ne!(ana, other);
        }
    }

    #[test]
    fn groups_are_a_list_or_one_text() {
        for (roles, expected) in [
            (json!(["a", "b"]), vec!["a", "b"]),
            (json!("a"), vec!["a"]),
            (json!(["a", 7, "x\0a", ""]), vec!["a"]),
            (json!(7), vec![]),
            (json!(null), vec![]),
        ] {
            let claims = json!({ "sub": "ana", "exp": 1, "realm_access": { "roles": roles } });
            let person = person(&claims).expect("a person");
            assert_eq!(person.groups().collect::<Vec<_>>(), expected, "{roles}");
        }
    }

    #[test]
    fn groups_that_rules_name_are_kept_and_others_are_bounded() {
        let mut roles: Vec<String> = (0..400)
            .map(|n| format!("{n:03}{}", "x".repeat(28)))
            .collect();
        roles.extend(vec!["named".to_owned(); 1_000]);
        let claims = json!({ "sub": "ana", "exp": 1, "realm_access": { "roles": roles } });
        let person = person(&claims).expect("a person");
        let kept: Vec<&str> = person.groups().collect();
        assert_eq!((kept.len(), kept[0]), (1 + 128, "named"));
    }

    #[test]
    fn claims_are_found_by_name_or_pointer() {
        let all = claims(&json!({ "a/b": 1, "a": { "b": [2] }, "https://x/y": 3, "t~": 4 }));
        for (name, expected) in [
            ("a/b", Some(json!(1))),
            ("/a/b/0", Some(json!(2))),
            ("/a~1b", Some(json!(1))),
            ("https://x/y", Some(json!(3))),
            ("/t~0", Some(json!(4))),
            ("/a/c", None),
            ("b", None),
        ] {
            assert_eq!(claim(&all, name), expected.as_ref(), "{name}");
        }
    }

    #[test]
    fn subject_has_a_length() {
        let read = |subject: Value| person(&json!({ "sub": subject, "exp": 1 })).map(|_| ());
        assert_eq!(read(json!("a".repeat(NAME_MAX))), Ok(()));
        for bad in [
            json!(""),
            json!("a".repeat(NAME_MAX + 1)),
            json!(7),
            json!(null),
        ] {
            assert_eq!(read(bad), Err(TokenError::Claims("sub")));
        }
    }

    #[test]
    fn expiry_is_a_number_within_bounds() {
        let read = |expiry: Value| {
            person(&json!({ "sub": "a", "exp": expiry })).map(|person| person.expires)
        };
        assert_eq!(read(json!(7)), Ok(7_000));
        assert_eq!(read(json!(7.4)), Ok(7_000));
        for late in [json!(1e300), json!(u64::MAX), json!(253_402_300_799_u64)] {
            assert_eq!(read(late), Ok(NOW + 86_400_000), "a day");
        }
        for bad in [json!("7"), json!(null), json!([7])] {
            assert_eq!(read(bad), Err(TokenError::Claims("exp")));
        }
    }

    #[test]
    fn name_is_the_first_that_can_be_shown() {
        let sender = SenderId::from_trusted("3f9a0000");
        for (value, expected) in [
            (json!({ "name": "Ana", "preferred_username": "ana" }), "Ana"),
            (json!({ "name": " ", "preferred_username": "ana" }), "ana"),
            (
                json!({ "name": "a\u{202e}b", "preferred_username": "ana" }),
                "ana",
            ),
            (
                json!({ "name": "a".repeat(41), "preferred_username": "ana" }),
                "ana",
            ),
            (json!({ "name": 7 }), "membro-3f9a"),
            (json!({ "preferred_username": "" }), "membro-3f9a"),
            (json!({}), "membro-3f9a"),
        ] {
            let shown = display_name(&Claims::default(), &claims(&value), &sender, 40);
            assert_eq!(shown.as_str(), expected, "{value}");
        }
    }
}
