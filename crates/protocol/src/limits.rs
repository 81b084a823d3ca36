//! Limits: what one client may ask of a server, with the bounds and the default of each setting.
//!
//! [`Bounds`] is the one place for these numbers. The server's flags, the operator's validation and the fields of the `ChatRoom`
//! definition take them from here.

use std::ops::RangeInclusive;

use clap::{Args, builder::RangedI64ValueParser};

/// The bounds and the default of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest value.
    pub min: u32,
    /// The largest value.
    pub max: u32,
    /// The value if none is given.
    pub default: u32,
}

/// Longest message, in Unicode characters.
pub const MESSAGE_LENGTH: Bounds = Bounds::new(1, 65_536, 4_000);
/// Longest user name, in Unicode characters.
pub const NAME_LENGTH: Bounds = Bounds::new(1, 256, 40);
/// Messages per second that one connection may send on average.
pub const MESSAGES_PER_SECOND: Bounds = Bounds::new(1, 100_000, 10);
/// Messages that one connection may send at once.
pub const MESSAGE_BURST: Bounds = Bounds::new(1, 100_000, 30);
/// Requests for history per second that one sender may make on average.
pub const HISTORY_PER_SECOND: Bounds = Bounds::new(1, 100_000, 2);
/// Requests for history that one sender may make at once.
pub const HISTORY_BURST: Bounds = Bounds::new(1, 100_000, 10);
/// Largest frame or request that a client may send, in bytes.
pub const FRAME_SIZE: Bounds = Bounds::new(1_024, 16_777_216, 65_536);
/// Connections that one server accepts.
pub const CONNECTIONS: Bounds = Bounds::new(1, 1_000_000, 10_000);
/// Messages in a page of history.
pub const HISTORY_PAGE: Bounds = Bounds::new(1, 1_000, 50);
/// How long a connection that reads nothing is kept, in seconds.
pub const SLOW_READER_TIMEOUT: Bounds = Bounds::new(1, 600, 15);
/// How long the closing of connections takes after SIGTERM, in seconds.
pub const DRAIN_PERIOD: Bounds = Bounds::new(0, 3_600, 10);
/// How long a message may wait for the broker's confirm, in seconds.
pub const PUBLISH_TIMEOUT: Bounds = Bounds::new(1, 600, 15);
/// How long the log is read after the last member has left, in seconds.
pub const READER_IDLE_TIMEOUT: Bounds = Bounds::new(1, 86_400, 60);
/// The smallest retention of a log, in bytes: one segment, because retention removes whole segments.
pub const MIN_RETENTION_BYTES: u64 = crate::topology::SEGMENT_BYTES;
/// The largest retention of a log, in bytes: one pebibyte.
pub const MAX_RETENTION_BYTES: u64 = 1 << 50;
/// The retention of a log if none is given, in bytes.
pub const DEFAULT_RETENTION_BYTES: u64 = 100_000_000;

impl Bounds {
    const fn new(min: u32, max: u32, default: u32) -> Self {
        Self { min, max, default }
    }

    /// The values that are accepted.
    pub fn range(self) -> RangeInclusive<u32> {
        self.min..=self.max
    }

    /// Parses a value on the command line.
    pub(crate) fn parser(self) -> RangedI64ValueParser<u32> {
        RangedI64ValueParser::new().range(i64::from(self.min)..=i64::from(self.max))
    }
}

/// Limits on what clients may do. The defaults suit people; bots may need more.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Longest message, in Unicode characters
    #[arg(long = "max-message-length", env = "PAPO_MAX_MESSAGE_LENGTH", value_name = "CHARS", default_value_t = MESSAGE_LENGTH.default, value_parser = MESSAGE_LENGTH.parser())]
    pub message_length: u32,
    /// Longest user name, in Unicode characters
    #[arg(long = "max-name-length", env = "PAPO_MAX_NAME_LENGTH", value_name = "CHARS", default_value_t = NAME_LENGTH.default, value_parser = NAME_LENGTH.parser())]
    pub name_length: u32,
    /// Messages per second that one connection may send on average
    #[arg(long = "max-messages-per-second", env = "PAPO_MAX_MESSAGES_PER_SECOND", value_name = "N", default_value_t = MESSAGES_PER_SECOND.default, value_parser = MESSAGES_PER_SECOND.parser())]
    pub messages_per_second: u32,
    /// Messages that one connection may send at once before the average counts
    #[arg(long = "message-burst", env = "PAPO_MESSAGE_BURST", value_name = "N", default_value_t = MESSAGE_BURST.default, value_parser = MESSAGE_BURST.parser())]
    pub message_burst: u32,
    /// Requests for history per second that one sender may make on average; to resume before the recent messages is one
    #[arg(long, env = "PAPO_HISTORY_PER_SECOND", value_name = "N", default_value_t = HISTORY_PER_SECOND.default, value_parser = HISTORY_PER_SECOND.parser())]
    pub history_per_second: u32,
    /// Requests for history that one sender may make at once before the average counts
    #[arg(long, env = "PAPO_HISTORY_BURST", value_name = "N", default_value_t = HISTORY_BURST.default, value_parser = HISTORY_BURST.parser())]
    pub history_burst: u32,
    /// Largest frame or request that a client may send, in bytes
    #[arg(long = "max-frame-size", env = "PAPO_MAX_FRAME_SIZE", value_name = "BYTES", default_value_t = FRAME_SIZE.default, value_parser = FRAME_SIZE.parser())]
    pub frame_size: u32,
    /// Connections that one server accepts
    #[arg(long = "max-connections", env = "PAPO_MAX_CONNECTIONS", value_name = "N", default_value_t = CONNECTIONS.default, value_parser = CONNECTIONS.parser())]
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_length: MESSAGE_LENGTH.default,
            name_length: NAME_LENGTH.default,
            messages_per_second: MESSAGES_PER_SECOND.default,
            message_burst: MESSAGE_BURST.default,
            history_per_second: HISTORY_PER_SECOND.default,
            history_burst: HISTORY_BURST.default,
            frame_size: FRAME_SIZE.default,
            connections: CONNECTIONS.default,
        }
    }
}
