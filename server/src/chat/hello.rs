//! A hello: what a client says of itself when it connects (`auth` of the CONNECT packet).

use papo_protocol::{Epoch, Limits, RoomName, SenderId, UserName, event::Code};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Refusal;

/// Who connects, and from where in the log they want to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who it is.
    pub member: Member,
    /// What they saw last, if they were here before.
    pub resume: Option<Resume>,
}

/// A member of the room as the others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Public identity. Derived from the client's secret token, so nobody can take another's.
    pub sender: SenderId,
    /// Display name.
    pub user: UserName,
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
    epoch: Option<Value>,
    offset: Option<Value>,
}

/// Longest token, in bytes: room for any JWT-like secret, and no more.
const MAX_TOKEN: usize = 512;

impl Hello {
    /// Reads `auth`: `{ name?, token?, epoch?, offset? }`, or nothing.
    ///
    /// A resume position that cannot be one is not an error: the client gets the newest page, as if it were new.
    pub fn parse(auth: Option<&str>, room: &RoomName, limits: &Limits) -> Result<Self, Refusal> {
        let auth = match auth {
            None => Auth::default(),
            Some(json) => serde_json::from_str(json).map_err(|_| bad_auth())?,
        };
        let sender = sender(auth.token.as_deref(), room)?;
        let user = auth
            .name
            .map_or_else(|| Ok(visitor(&sender)), |name| checked_name(&name, limits))?;
        let resume = resume(auth.epoch.as_ref(), auth.offset.as_ref());
        Ok(Self {
            member: Member { sender, user },
            resume,
        })
    }
}

fn bad_auth() -> Refusal {
    Refusal::new(
        Code::BadRequest,
        "auth is { name?, token?, epoch?, offset? }, name and token strings",
    )
}

/// A one-way function of the token, so that showing it to everybody gives nothing away; of the room too, so that the
/// same person cannot be followed from room to room.
fn sender(token: Option<&str>, room: &RoomName) -> Result<SenderId, Refusal> {
    let drawn = Uuid::new_v4().to_string();
    let token = token.filter(|token| !token.is_empty()).unwrap_or(&drawn);
    if token.len() > MAX_TOKEN {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("a token has at most {MAX_TOKEN} bytes"),
        ));
    }
    let digest = Sha256::new()
        .chain_update(room.to_string())
        .chain_update([0])
        .chain_update(token)
        .finalize();
    let id = digest[..12]
        .iter()
        .fold(String::with_capacity(24), |id, byte| {
            id + &format!("{byte:02x}")
        });
    Ok(SenderId::from_trusted(id))
}

fn visitor(sender: &SenderId) -> UserName {
    format!("visitante-{}", &sender.as_str()[..4])
        .parse()
        .expect("letters, a dash and hexadecimal digits")
}

fn checked_name(name: &str, limits: &Limits) -> Result<UserName, Refusal> {
    let most = limits.name_length as usize;
    if name.trim().chars().count() > most {
        return Err(Refusal::new(
            Code::InvalidName,
            format!("a name has at most {most} characters"),
        ));
    }
    name.parse()
        .map_err(|invalid| Refusal::new(Code::InvalidName, format!("{invalid}")))
}

fn resume(epoch: Option<&Value>, offset: Option<&Value>) -> Option<Resume> {
    Some(Resume {
        epoch: epoch?.as_str()?.parse().ok()?,
        offset: offset?.as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(auth: &str) -> Result<Hello, Code> {
        let room = "geral".parse().expect("valid");
        Hello::parse(Some(auth), &room, &Limits::default()).map_err(|refusal| refusal.code)
    }

    fn sender_of(auth: &str) -> SenderId {
        hello(auth).expect("accepted").member.sender
    }

    #[test]
    fn the_same_token_is_the_same_sender_on_every_server() {
        assert_eq!(
            sender_of(r#"{"token":"s3cr3t"}"#),
            sender_of(r#"{"token":"s3cr3t","name":"Ana"}"#)
        );
        assert_ne!(
            sender_of(r#"{"token":"s3cr3t"}"#),
            sender_of(r#"{"token":"other"}"#)
        );
    }

    #[test]
    fn without_a_token_each_connection_is_somebody_else() {
        assert_ne!(sender_of("{}"), sender_of("{}"));
        assert_ne!(sender_of(r#"{"token":""}"#), sender_of(r#"{"token":""}"#));
    }

    #[test]
    fn a_token_cannot_be_read_from_the_sender_it_gives() {
        let sender = sender_of(r#"{"token":"s3cr3t"}"#);
        assert!(!sender.as_str().contains("s3cr3t"));
        assert_eq!(sender.as_str().len(), 24);
    }

    #[test]
    fn nobody_needs_to_say_anything() {
        let room = "geral".parse().expect("valid");
        let hello = Hello::parse(None, &room, &Limits::default()).expect("accepted");
        assert!(hello.member.user.as_str().starts_with("visitante-"));
        assert_eq!(hello.resume, None);
    }

    #[test]
    fn a_bad_name_is_refused() {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(41));
        for auth in [
            r#"{"name":""}"#,
            r#"{"name":"  "}"#,
            r#"{"name":"a\u202eb"}"#,
            long.as_str(),
        ] {
            assert_eq!(hello(auth), Err(Code::InvalidName), "{auth}");
        }
    }

    #[test]
    fn auth_of_another_shape_is_refused() {
        let long = format!(r#"{{"token":"{}"}}"#, "t".repeat(MAX_TOKEN + 1));
        for auth in [
            "7",
            "\"x\"",
            "[1]",
            "{",
            r#"{"name":7}"#,
            r#"{"token":{}}"#,
            long.as_str(),
        ] {
            assert_eq!(hello(auth), Err(Code::BadRequest), "{auth}");
        }
    }

    #[test]
    fn a_resume_position_that_cannot_be_one_means_a_fresh_start() {
        for auth in [
            r#"{"epoch":"e1","offset":-1}"#,
            r#"{"epoch":"e1","offset":"7"}"#,
            r#"{"epoch":"e1","offset":1e300}"#,
            r#"{"epoch":"e1","offset":1.5}"#,
            r#"{"epoch":"no such!","offset":1}"#,
            r#"{"epoch":7,"offset":1}"#,
            r#"{"offset":1}"#,
            r#"{"epoch":"e1"}"#,
        ] {
            assert_eq!(hello(auth).map(|hello| hello.resume), Ok(None), "{auth}");
        }
        let resume = hello(r#"{"epoch":"e1","offset":18446744073709551615}"#)
            .expect("accepted")
            .resume;
        assert_eq!(resume.map(|resume| resume.offset), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn no_auth_makes_it_panic(auth in ".{0,60}") {
            let _ = hello(&auth);
        }

        /// As wide as JSON's integers may be written, and around the bounds of an offset.
        #[test]
        fn only_what_fits_an_offset_is_one(number in prop_oneof![any::<i128>(), -3_i128..3, i128::from(u64::MAX) - 3..i128::from(u64::MAX) + 3]) {
            let auth = format!(r#"{{"epoch":"e1","offset":{number}}}"#);
            let resume = hello(&auth).expect("accepted").resume;
            prop_assert_eq!(resume.map(|resume| resume.offset), u64::try_from(number).ok());
        }
    }
}
