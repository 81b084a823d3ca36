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
/// Messages per second that one sender may send on average.
pub const MESSAGES_PER_SECOND: Bounds = Bounds::new(1, 100_000, 10);
/// Messages that one sender may send at once.
pub const MESSAGE_BURST: Bounds = Bounds::new(1, 100_000, 30);
/// Requests for history per second that one sender may make on average.
pub const HISTORY_PER_SECOND: Bounds = Bounds::new(1, 100_000, 2);
/// Requests for history that one sender may make at once.
pub const HISTORY_BURST: Bounds = Bounds::new(1, 100_000, 10);
/// Largest frame or request that a client may send, in bytes.
pub const FRAME_SIZE: Bounds = Bounds::new(1_024, 16_777_216, 65_536);
/// Connections that one server accepts.
pub const CONNECTIONS: Bounds = Bounds::new(1, 1_000_000, 10_000);
/// Messages per second that one address may send on average.
pub const ADDRESS_MESSAGES_PER_SECOND: Bounds = Bounds::new(1, 1_000_000, 100);
/// Messages that one address may send at once.
pub const ADDRESS_MESSAGE_BURST: Bounds = Bounds::new(1, 1_000_000, 300);
/// Bytes of message texts per second that one address may send on average.
pub const ADDRESS_BYTES_PER_SECOND: Bounds = Bounds::new(1_024, 100_000_000, 65_536);
/// Bytes of message texts that one address may send at once. At least the longest message: 65,536 characters of 4 bytes.
pub const ADDRESS_BYTE_BURST: Bounds = Bounds::new(262_144, 1_073_741_824, 1_048_576);
/// Connections that one address may have to one server. The default is a tenth of [`CONNECTIONS`].
pub const ADDRESS_CONNECTIONS: Bounds = Bounds::new(1, 1_000_000, 1_000);
/// The least default of [`ADDRESS_CONNECTIONS`], however few connections a server accepts: a home has several devices and tabs.
const ADDRESS_CONNECTIONS_FLOOR: u32 = 20;
/// Memory that a server keeps, for each connection that it may have, of what clients have not read or have not sent the rest of.
const CLIENT_MEMORY: usize = 8 * 1024;
/// The least such memory of an address, however few connections it may have: some large messages and pages of history.
const ADDRESS_CLIENT_MEMORY_FLOOR: usize = 4 << 20;
/// Frames of the largest size that fit into it. A frame that arrives can take twice its size.
const ADDRESS_LARGE_FRAMES: usize = 4;
/// New connections per second that one address may open on average.
pub const ADDRESS_CONNECTS_PER_SECOND: Bounds = Bounds::new(1, 1_000_000, 20);
/// New connections that one address may open at once.
pub const ADDRESS_CONNECT_BURST: Bounds = Bounds::new(1, 1_000_000, 200);
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
/// How long a browser reaches a host only over TLS after it has done so once (`Strict-Transport-Security`), in seconds: at most two years. The
/// header is not sent if it is 0.
pub const HSTS_MAX_AGE: Bounds = Bounds::new(0, 63_072_000, 0);
/// Nodes of the broker that a log is on, if there are as many.
pub const LOG_REPLICAS: Bounds = Bounds::new(1, 9, 3);
/// The smallest retention of a log, in bytes: one segment, because retention removes whole segments.
pub const MIN_RETENTION_BYTES: u64 = crate::topology::SEGMENT_BYTES;
/// The largest retention of a log, in bytes: one pebibyte.
pub const MAX_RETENTION_BYTES: u64 = 1 << 50;
/// The retention of a log if none is given, in bytes.
pub const DEFAULT_RETENTION_BYTES: u64 = 100_000_000;

/// Bytes of the shortest key that the servers of a room may share: as many as a code of HMAC-SHA-256 has.
pub const SESSION_KEY_LENGTH_MIN: usize = 32;
/// Origins that a room may allow besides its own.
pub const ALLOWED_ORIGINS_MAX: usize = 32;
/// Longest origin, in characters: a scheme, a host of 253 and a port.
pub const ORIGIN_LENGTH_MAX: usize = 300;
/// Longest log filter of a room, in characters.
pub const LOG_FILTER_LENGTH_MAX: usize = 1_024;

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
    /// Messages per second that one sender may send on average
    #[arg(long = "max-messages-per-second", env = "PAPO_MAX_MESSAGES_PER_SECOND", value_name = "N", default_value_t = MESSAGES_PER_SECOND.default, value_parser = MESSAGES_PER_SECOND.parser())]
    pub messages_per_second: u32,
    /// Messages that one sender may send at once before the average counts
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
    /// Limits by address
    #[command(flatten)]
    pub address: AddressLimits,
}

/// Limits on what all clients of one address may do together, per server. Many people may share an address (NAT).
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Limits by address")]
pub struct AddressLimits {
    /// Messages per second that one address may send on average
    #[arg(id = "address-messages-per-second", long = "address-messages-per-second", env = "PAPO_ADDRESS_MESSAGES_PER_SECOND", value_name = "N", default_value_t = ADDRESS_MESSAGES_PER_SECOND.default, value_parser = ADDRESS_MESSAGES_PER_SECOND.parser())]
    pub messages_per_second: u32,
    /// Messages that one address may send at once before the average counts
    #[arg(id = "address-message-burst", long = "address-message-burst", env = "PAPO_ADDRESS_MESSAGE_BURST", value_name = "N", default_value_t = ADDRESS_MESSAGE_BURST.default, value_parser = ADDRESS_MESSAGE_BURST.parser())]
    pub message_burst: u32,
    /// Bytes of message texts per second that one address may send on average
    #[arg(id = "address-bytes-per-second", long = "address-bytes-per-second", env = "PAPO_ADDRESS_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = ADDRESS_BYTES_PER_SECOND.default, value_parser = ADDRESS_BYTES_PER_SECOND.parser())]
    pub bytes_per_second: u32,
    /// Bytes of message texts that one address may send at once before the average counts
    #[arg(id = "address-byte-burst", long = "address-byte-burst", env = "PAPO_ADDRESS_BYTE_BURST", value_name = "BYTES", default_value_t = ADDRESS_BYTE_BURST.default, value_parser = ADDRESS_BYTE_BURST.parser())]
    pub byte_burst: u32,
    /// Connections that one address may have; a tenth of --max-connections, but at least 20, if not given
    #[arg(id = "address-connections", long = "address-connections", env = "PAPO_ADDRESS_CONNECTIONS", value_name = "N", value_parser = ADDRESS_CONNECTIONS.parser())]
    pub connections: Option<u32>,
    /// New connections per second that one address may open on average
    #[arg(id = "address-connects-per-second", long = "address-connects-per-second", env = "PAPO_ADDRESS_CONNECTS_PER_SECOND", value_name = "N", default_value_t = ADDRESS_CONNECTS_PER_SECOND.default, value_parser = ADDRESS_CONNECTS_PER_SECOND.parser())]
    pub connects_per_second: u32,
    /// New connections that one address may open at once before the average counts
    #[arg(id = "address-connect-burst", long = "address-connect-burst", env = "PAPO_ADDRESS_CONNECT_BURST", value_name = "N", default_value_t = ADDRESS_CONNECT_BURST.default, value_parser = ADDRESS_CONNECT_BURST.parser())]
    pub connect_burst: u32,
}

impl Limits {
    /// The environment variables that set these limits, as [`crate::Launch::environment`].
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let Self {
            message_length,
            name_length,
            messages_per_second,
            message_burst,
            history_per_second,
            history_burst,
            frame_size,
            connections,
            address,
        } = self;
        let numbers = [
            ("PAPO_MAX_MESSAGE_LENGTH", message_length),
            ("PAPO_MAX_NAME_LENGTH", name_length),
            ("PAPO_MAX_MESSAGES_PER_SECOND", messages_per_second),
            ("PAPO_MESSAGE_BURST", message_burst),
            ("PAPO_HISTORY_PER_SECOND", history_per_second),
            ("PAPO_HISTORY_BURST", history_burst),
            ("PAPO_MAX_FRAME_SIZE", frame_size),
            ("PAPO_MAX_CONNECTIONS", connections),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        numbers.into_iter().chain(address.environment()).collect()
    }

    /// Connections that one address may have.
    pub fn address_connections(&self) -> u32 {
        let tenth = (self.connections / 10).max(ADDRESS_CONNECTIONS_FLOOR);
        self.address.connections.unwrap_or(tenth)
    }

    /// Bytes that a server keeps at once, for all clients, of messages that they have not read, and of frames that have not arrived
    /// completely. A small part for each connection is not counted.
    pub fn client_memory(&self) -> usize {
        let all = CLIENT_MEMORY.saturating_mul(self.connections as usize);
        all.max(self.least_address_client_memory().saturating_mul(4))
    }

    /// Bytes of them that a server keeps for the clients of one address.
    pub fn address_client_memory(&self) -> usize {
        let all = CLIENT_MEMORY.saturating_mul(self.address_connections() as usize);
        let share = all.max(self.least_address_client_memory());
        share.min(self.client_memory())
    }

    fn least_address_client_memory(&self) -> usize {
        let frames = ADDRESS_LARGE_FRAMES.saturating_mul(self.frame_size as usize);
        ADDRESS_CLIENT_MEMORY_FLOOR.max(2 * frames)
    }
}

impl AddressLimits {
    fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self {
            messages_per_second,
            message_burst,
            bytes_per_second,
            byte_burst,
            connections,
            connects_per_second,
            connect_burst,
        } = *self;
        let numbers = [
            (
                "PAPO_ADDRESS_MESSAGES_PER_SECOND",
                Some(messages_per_second),
            ),
            ("PAPO_ADDRESS_MESSAGE_BURST", Some(message_burst)),
            ("PAPO_ADDRESS_BYTES_PER_SECOND", Some(bytes_per_second)),
            ("PAPO_ADDRESS_BYTE_BURST", Some(byte_burst)),
            ("PAPO_ADDRESS_CONNECTIONS", connections),
            (
                "PAPO_ADDRESS_CONNECTS_PER_SECOND",
                Some(connects_per_second),
            ),
            ("PAPO_ADDRESS_CONNECT_BURST", Some(connect_burst)),
        ];
        let given = numbers.into_iter();
        given.filter_map(|(name, number)| Some((name, number?.to_string())))
    }
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            messages_per_second: ADDRESS_MESSAGES_PER_SECOND.default,
            message_burst: ADDRESS_MESSAGE_BURST.default,
            bytes_per_second: ADDRESS_BYTES_PER_SECOND.default,
            byte_burst: ADDRESS_BYTE_BURST.default,
            connections: None,
            connects_per_second: ADDRESS_CONNECTS_PER_SECOND.default,
            connect_burst: ADDRESS_CONNECT_BURST.default,
        }
    }
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
            address: AddressLimits::default(),
        }
    }
}
