//! The epoch: which log of a room an offset belongs to, as a log may be lost and created again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Identifies one log of a room: each new log gets a new epoch, so that an offset has a meaning only with its epoch.
///
/// 1 to 32 characters of `a-z`, `0-9`; it is the last part of the stream's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(String);

/// Why a text is not an [`Epoch`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an epoch is 1 to 32 characters of a-z and 0-9")]
pub struct InvalidEpoch;

impl Epoch {
    /// An epoch of 64 bits, which the caller draws at random.
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// The epoch as it stands in names and events.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let fits = (1..=32).contains(&text.len());
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits && plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEpoch)
        }
    }
}

impl TryFrom<String> for Epoch {
    type Error = InvalidEpoch;

    fn try_from(text: String) -> Result<Self, InvalidEpoch> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_epoch_is_valid() {
        for bits in [0, 1, u64::MAX] {
            let epoch = Epoch::from_bits(bits);
            assert_eq!(epoch.as_str().parse(), Ok(epoch.clone()));
        }
    }

    #[test]
    fn texts_unfit_for_a_stream_name_are_rejected() {
        for text in ["", "A", "a.b", "a b", "é", &"a".repeat(33)] {
            assert_eq!(text.parse::<Epoch>(), Err(InvalidEpoch), "{text:?}");
        }
    }
}
