//! Connect auth: what a client sends of itself when it connects (`auth` of the CONNECT packet).
//!
//! A guest is known by a secret of its own, and chooses a name. Who has an access token is known by that: issuer and subject are the identity, and the
//! name is in the token.

use papo_protocol::{Epoch, Limits, RoomName, SenderId, UserName, event::Code};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{AccessToken, Identity, Rejection, name::name};
use crate::json::{self, AnyJson};

/// Who connects, and from where in the log the client resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectAuth {
    /// Who connects.
    pub credentials: Credentials,
    /// The last message that the client has seen, if it was connected before.
    pub resume: Option<Resume>,
}

/// What tells who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A secret of its own, or none.
    Guest(Member),
    /// An access token, which is still to be verified.
    Token(AccessToken),
}

/// A member of the room as other members see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Public identity. Derived from the client's secret, or from issuer and subject of its access token, so that no client can use another's.
    pub sender: SenderId,
    /// Display name.
    pub user: UserName,
    /// Whether it is signed in. Its sender is then none that a guest can have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
}

/// The last message a client has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The log it was in.
    pub epoch: Epoch,
    /// Its offset there.
    pub offset: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    name: Option<String>,
    token: Option<String>,
    #[serde(rename = "accessToken")]
    access_token: Option<String>,
    epoch: Option<AnyJson>,
    offset: Option<AnyJson>,
}

/// Shortest token, in characters. The sender is public, so anybody can try tokens against it without asking a server.
const MIN_TOKEN: usize = 16;
/// Longest token, in bytes: room for any JWT-like secret, and no more.
const MAX_TOKEN: usize = 512;

impl ConnectAuth {
    /// Reads `auth`: `{ name?, token?, accessToken?, epoch?, offset? }`, or nothing. `bearer` is the access token of the request that opened the
    /// transport: that of `auth` comes before it.
    ///
    /// `offset` is a number or its decimal digits: some clients can send only strings. A client that has not seen a message sends no
    /// `offset`, or null.
    pub fn parse(
        auth: Option<&str>,
        bearer: Option<&AccessToken>,
        room: &RoomName,
        limits: &Limits,
    ) -> Result<Self, Rejection> {
        let auth = match auth {
            None => Auth::default(),
            Some(text) => json::read(text).map_err(|_| bad_auth())?,
        };
        let token = auth.access_token.filter(|token| !token.is_empty());
        let token = token.map(AccessToken::new).or_else(|| bearer.cloned());
        let credentials = match token {
            Some(token) => Credentials::Token(token),
            None => Credentials::Guest(guest(auth.token.as_deref(), auth.name, room, limits)?),
        };
        let resume = resume(auth.epoch, auth.offset)?;
        Ok(Self {
            credentials,
            resume,
        })
    }
}

fn guest(
    token: Option<&str>,
    name: Option<String>,
    room: &RoomName,
    limits: &Limits,
) -> Result<Member, Rejection> {
    let sender = sender(token, room)?;
    let user = name.map_or_else(|| Ok(visitor(&sender)), |text| checked_name(&text, limits))?;
    Ok(Member {
        sender,
        user,
        verified: false,
    })
}

fn bad_auth() -> Rejection {
    Rejection::new(
        Code::BadRequest,
        "auth is { name?, token?, accessToken?, epoch?, offset? }, the first three strings",
    )
}

/// The sender of a guest with this token, or with a new one.
fn sender(token: Option<&str>, room: &RoomName) -> Result<SenderId, Rejection> {
    let random = Uuid::new_v4().to_string();
    let token = token.filter(|token| !token.is_empty()).unwrap_or(&random);
    if token.chars().count() < MIN_TOKEN {
        return Err(Rejection::new(
            Code::InvalidToken,
            format!(
                "a token has at least {MIN_TOKEN} characters, because a short one can be guessed; use a random one, or none"
            ),
        ));
    }
    if token.len() > MAX_TOKEN {
        return Err(Rejection::new(
            Code::InvalidToken,
            format!("a token has at most {MAX_TOKEN} bytes"),
        ));
    }
    Ok(Identity::Guest(token).sender(room))
}

fn visitor(sender: &SenderId) -> UserName {
    format!("visitante-{}", &sender.as_str()[..4])
        .parse()
        .expect("letters, a dash and hexadecimal digits")
}

fn checked_name(text: &str, limits: &Limits) -> Result<UserName, Rejection> {
    name(text, limits.name_length as usize)
        .map_err(|invalid| Rejection::new(Code::InvalidName, invalid.to_string()))
}

/// Where the client resumes; nowhere if it sends only one of the two.
fn resume(epoch: Option<AnyJson>, offset: Option<AnyJson>) -> Result<Option<Resume>, Rejection> {
    let epoch = epoch.map(|AnyJson(epoch)| read_epoch(&epoch)).transpose()?;
    let offset = offset.map(|AnyJson(offset)| {
        json::offset(&offset)
            .ok_or_else(|| bad_position("offset is a number from 0 on, or its decimal digits"))
    });
    let position = epoch.zip(offset.transpose()?);
    Ok(position.map(|(epoch, offset)| Resume { epoch, offset }))
}

fn read_epoch(epoch: &Value) -> Result<Epoch, Rejection> {
    let epoch = epoch.as_str().and_then(|text| text.parse().ok());
    epoch.ok_or_else(|| bad_position("epoch is a text that the server has sent"))
}

fn bad_position(message: &str) -> Rejection {
    Rejection::new(Code::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "a secret of 23 letters.";

    fn parse(auth: &str) -> Result<ConnectAuth, Code> {
        let room = "geral".parse().expect("valid");
        ConnectAuth::parse(Some(auth), None, &room, &Limits::default())
            .map_err(|rejection| rejection.code)
    }

    fn guest_of(auth: ConnectAuth) -> Member {
        match auth.credentials {
            Credentials::Guest(member) => member,
            Credentials::Token(_) => panic!("an access token"),
        }
    }

    fn sender_of(auth: &str) -> SenderId {
        guest_of(parse(auth).expect("accepted")).sender
    }

    #[test]
    fn access_token_comes_before_secret_and_header() {
        let (room, limits) = ("geral".parse().expect("valid"), Limits::default());
        let bearer = AccessToken::new("of.the.header");
        for (auth, expected) in [
            (r#"{"accessToken":"a.b.c"}"#, "a.b.c"),
            (
                r#"{"accessToken":"a.b.c","token":"short","name":""}"#,
                "a.b.c",
            ),
            (r#"{"accessToken":""}"#, "of.the.header"),
            (r#"{"accessToken":null,"token":"short"}"#, "of.the.header"),
        ] {
            let parsed = ConnectAuth::parse(Some(auth), Some(&bearer), &room, &limits);
            let credentials = parsed.expect("accepted").credentials;
            let expected = AccessToken::new(expected);
            assert_eq!(credentials, Credentials::Token(expected), "{auth}");
        }
        assert!(!guest_of(parse(r#"{"accessToken":""}"#).expect("accepted")).verified);
    }

    #[test]
    fn same_token_gives_the_same_sender() {
        assert_eq!(
            sender_of(&format!(r#"{{"token":"{SECRET}"}}"#)),
            sender_of(&format!(r#"{{"token":"{SECRET}","name":"Ana"}}"#))
        );
        assert_ne!(
            sender_of(&format!(r#"{{"token":"{SECRET}"}}"#)),
            sender_of(&format!(r#"{{"token":"{SECRET}2"}}"#))
        );
    }

    #[test]
    fn connections_without_a_token_have_different_senders() {
        assert_ne!(sender_of("{}"), sender_of("{}"));
        assert_ne!(sender_of(r#"{"token":""}"#), sender_of(r#"{"token":""}"#));
    }

    #[test]
    fn guessable_and_endless_tokens_are_rejected() {
        for (token, expected) in [
            ("a".repeat(MIN_TOKEN - 1), Err(Code::InvalidToken)),
            ("ã".repeat(MIN_TOKEN - 1), Err(Code::InvalidToken)),
            ("a".repeat(MIN_TOKEN), Ok(())),
            ("a".repeat(MAX_TOKEN), Ok(())),
            ("a".repeat(MAX_TOKEN + 1), Err(Code::InvalidToken)),
        ] {
            let parsed = parse(&format!(r#"{{"token":"{token}"}}"#)).map(|_| ());
            assert_eq!(parsed, expected, "{token}");
        }
    }

    #[test]
    fn sender_does_not_contain_the_token() {
        let sender = sender_of(&format!(r#"{{"token":"{SECRET}"}}"#));
        assert!(!sender.as_str().contains(SECRET));
        assert_eq!(sender.as_str().len(), 24);
    }

    #[test]
    fn auth_is_optional() {
        let room = "geral".parse().expect("valid");
        let auth = ConnectAuth::parse(None, None, &room, &Limits::default()).expect("accepted");
        assert_eq!(auth.resume, None);
        let user = guest_of(auth).user;
        assert!(user.as_str().starts_with("visitante-"));
    }

    #[test]
    fn invalid_names_are_rejected() {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(41));
        for auth in [
            r#"{"name":""}"#,
            r#"{"name":"  "}"#,
            r#"{"name":"a\u202eb"}"#,
            long.as_str(),
        ] {
            assert_eq!(parse(auth), Err(Code::InvalidName), "{auth}");
        }
    }

    #[test]
    fn auth_of_another_shape_is_rejected() {
        for auth in [
            "7",
            "\"x\"",
            "[1]",
            "{",
            r#"{"name":7}"#,
            r#"{"token":{}}"#,
            r#"{"accessToken":[]}"#,
        ] {
            assert_eq!(parse(auth), Err(Code::BadRequest), "{auth}");
        }
    }

    #[test]
    fn fields_of_others_are_ignored() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        for other in ["1e999", r#""\ud83d""#, "{}", &nested] {
            let auth = format!(r#"{{"name":"Ana","other":{other}}}"#);
            let user = guest_of(parse(&auth).expect("accepted")).user;
            assert_eq!(user.as_str(), "Ana", "{auth}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_in_a_name_is_replaced() {
        let auth = parse(r#"{"name":"Ana \ud83d"}"#).expect("accepted");
        assert_eq!(guest_of(auth).user.as_str(), "Ana \u{fffd}");
    }

    fn offset_of(auth: &str) -> Result<Option<u64>, Code> {
        let resume = parse(auth)?.resume;
        Ok(resume.map(|resume| resume.offset))
    }

    #[test]
    fn offset_is_a_number_or_its_decimal_digits() {
        for (auth, expected) in [
            (r#"{"epoch":"e1","offset":7}"#, 7),
            (r#"{"epoch":"e1","offset":"7"}"#, 7),
            (r#"{"epoch":"e1","offset":18446744073709551615}"#, u64::MAX),
            (
                r#"{"epoch":"e1","offset":"18446744073709551615"}"#,
                u64::MAX,
            ),
        ] {
            assert_eq!(offset_of(auth), Ok(Some(expected)), "{auth}");
        }
    }

    #[test]
    fn position_without_both_parts_is_none() {
        for auth in [
            r#"{"offset":1}"#,
            r#"{"epoch":"e1"}"#,
            r#"{"epoch":null,"offset":1}"#,
            r#"{"epoch":"e1","offset":null}"#,
        ] {
            assert_eq!(offset_of(auth), Ok(None), "{auth}");
        }
    }

    #[test]
    fn positions_that_cannot_be_read_are_rejected() {
        for auth in [
            r#"{"epoch":"e1","offset":-1}"#,
            r#"{"epoch":"e1","offset":"-1"}"#,
            r#"{"epoch":"e1","offset":""}"#,
            r#"{"epoch":"e1","offset":"seven"}"#,
            r#"{"epoch":"e1","offset":1e300}"#,
            r#"{"epoch":"e1","offset":1.5}"#,
            r#"{"epoch":"e1","offset":[1]}"#,
            r#"{"epoch":"no such!","offset":1}"#,
            r#"{"epoch":7,"offset":1}"#,
            r#"{"epoch":7}"#,
            r#"{"offset":"seven"}"#,
        ] {
            assert_eq!(offset_of(auth), Err(Code::BadRequest), "{auth}");
        }
    }

    proptest! {
        #[test]
        fn any_auth_is_parsed_without_a_panic(auth in ".{0,60}") {
            let _ = parse(&auth);
        }

        /// As wide as JSON's integers may be written, and around the bounds of an offset.
        #[test]
        fn offsets_are_64_bit_integers(number in prop_oneof![any::<i128>(), -3_i128..3, i128::from(u64::MAX) - 3..i128::from(u64::MAX) + 3]) {
            let auth = format!(r#"{{"epoch":"e1","offset":{number}}}"#);
            let expected = u64::try_from(number).map_err(|_| Code::BadRequest);
            prop_assert_eq!(offset_of(&auth), expected.map(Some));
            let as_text = format!(r#"{{"epoch":"e1","offset":"{number}"}}"#);
            prop_assert_eq!(offset_of(&as_text), expected.map(Some));
        }
    }
}
