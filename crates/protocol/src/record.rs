//! A record of the log: one message, as stored.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Position;

/// One message as the log holds it. The offset is not part of it: the log assigns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the sender, so that a retry can be recognised; unique per sender.
    pub id: MessageId,
    /// Who sent it.
    pub sender: SenderId,
    /// The sender's display name.
    pub user: UserName,
    /// Whether the sender was signed in: an issuer of access tokens vouches for who it is.
    pub verified: bool,
    /// The text.
    pub text: String,
    /// When the server received it, in milliseconds since the Unix epoch: one of [`Record::TIMES`].
    pub at: i64,
    /// The end of the log as the server saw it when it received the message: the duplicate window before it had no record of this
    /// message. `None` if the server had not read that part of the log.
    pub since: Option<Position>,
}

impl Record {
    /// The times that a record may have: to the end of the year 9999. A time in microseconds or nanoseconds is none of them, and ECMAScript's
    /// `Date` throws an error for some of those.
    pub const TIMES: RangeInclusive<i64> = 0..=253_402_300_799_999;
}

/// A message's id: 1 to [`MessageId::MAX`] printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

/// Why a text is not a [`MessageId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a message id is 1 to {} printable ASCII characters", MessageId::MAX)]
pub struct InvalidMessageId;

impl MessageId {
    /// The longest id, in characters.
    pub const MAX: usize = 64;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        if is_token(text, Self::MAX) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidMessageId)
        }
    }
}

/// Whether a text is 1 to `most` printable ASCII characters.
fn is_token(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A sender's public identity: derived by the server from a secret the client keeps, so nobody can take another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SenderId(String);

/// Why a text is not a [`SenderId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sender is 1 to {} printable ASCII characters", SenderId::MAX)]
pub struct InvalidSenderId;

impl SenderId {
    /// The longest identity, in characters. The server's own have 24.
    pub const MAX: usize = 64;

    /// Wraps an identity that the server has derived.
    pub fn from_trusted(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SenderId {
    type Err = InvalidSenderId;

    fn from_str(text: &str) -> Result<Self, InvalidSenderId> {
        if is_token(text, Self::MAX) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSenderId)
        }
    }
}

/// A display name as a record holds it: trimmed, not empty, free of control and direction-changing characters.
///
/// Which names a client may choose is a rule of the server, and stricter: a record keeps its name when that rule changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// Why a text is not a [`UserName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidUserName {
    /// Nothing left after trimming.
    #[error("a name needs at least one visible character")]
    Empty,
    /// A character that could hide or forge other text.
    #[error("a name cannot contain {0:?}")]
    Character(char),
    /// More than [`UserName::MAX`] characters.
    #[error("a name has at most {} characters", UserName::MAX)]
    Length,
}

impl UserName {
    /// The longest name, in characters: more than a server can let clients choose, with the mark of a name that looks like another's.
    pub const MAX: usize = 320;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = InvalidUserName;

    fn from_str(text: &str) -> Result<Self, InvalidUserName> {
        let name = text.trim();
        if let Some(bad) = name.chars().find(|&c| forges_text(c)) {
            return Err(InvalidUserName::Character(bad));
        }
        if name.is_empty() {
            Err(InvalidUserName::Empty)
        } else if name.chars().nth(Self::MAX).is_some() {
            Err(InvalidUserName::Length)
        } else {
            Ok(Self(name.to_owned()))
        }
    }
}

/// Control characters, and the invisible or bidirectional ones of Unicode (UAX #9) that make a name read as another. The joiners
/// U+200C and U+200D are not among them: several scripts need them.
fn forges_text(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{3164}');
    c.is_control() || invisible
}

macro_rules! text_conversions {
    ($($type:ty: $error:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    )*};
}
text_conversions!(MessageId: InvalidMessageId, UserName: InvalidUserName);

macro_rules! text_display {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_display!(MessageId, SenderId, UserName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_otherwise_kept() {
        for (given, kept) in [
            (" Ana ", "Ana"),
            ("José Álvaro", "José Álvaro"),
            ("李雷", "李雷"),
            ("علی\u{200c}رضا", "علی\u{200c}رضا"),
        ] {
            let parsed = given.parse::<UserName>();
            assert_eq!(parsed.map(String::from), Ok(kept.to_owned()));
        }
    }

    #[test]
    fn names_that_could_imitate_others_are_rejected() {
        for bad in ["", "   ", "Ana\u{202e}", "A\u{200b}na", "a\nb", "\u{7}"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_have_a_longest_length() {
        assert!("é".repeat(UserName::MAX).parse::<UserName>().is_ok());
        let longer = "é".repeat(UserName::MAX + 1).parse::<UserName>();
        assert_eq!(longer, Err(InvalidUserName::Length));
    }

    #[test]
    fn senders_are_short_printable_ascii() {
        assert!("3f9a0c".parse::<SenderId>().is_ok());
        for bad in ["", "a b", "é", &"a".repeat(SenderId::MAX + 1)] {
            assert_eq!(bad.parse::<SenderId>(), Err(InvalidSenderId), "{bad:?}");
        }
    }

    #[test]
    fn message_ids_are_short_printable_ascii() {
        assert!("0190-abc".parse::<MessageId>().is_ok());
        for bad in ["", "a b", "é", "a\n", &"a".repeat(MessageId::MAX + 1)] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad:?}");
        }
    }
}
