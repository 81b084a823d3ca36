//! A position in a room's log.

use std::{fmt, str::FromStr};

use crate::Epoch;

/// A position in a log. As text it is `EPOCH:OFFSET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub epoch: Epoch,
    /// The offset in it.
    pub offset: u64,
}

/// Why a text is not a [`Position`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a position is an epoch, a colon and an offset")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        Ok(Self {
            epoch: epoch.parse().map_err(|_| InvalidPosition)?,
            offset: offset.parse().map_err(|_| InvalidPosition)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for offset in [0, 7, u64::MAX] {
            let epoch = "0a1b".parse().expect("valid");
            let position = Position { epoch, offset };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn other_texts_are_no_positions() {
        for text in [
            "", ":", "7", "0a1b", "0a1b:", ":7", "0a1b:-1", "0a1b:7:8", "A:7",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }
}
