//! What one client may ask of a server. Every refusal names the limit it met.

use clap::Args;

/// Bounds on what clients may do. Defaults suit people talking; bots may want more.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Longest message, in Unicode characters
    #[arg(long = "max-message-length", env = "PAPO_MAX_MESSAGE_LENGTH", value_name = "CHARS", default_value_t = Limits::default().message_length, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub message_length: u32,
    /// Longest user name, in Unicode characters
    #[arg(long = "max-name-length", env = "PAPO_MAX_NAME_LENGTH", value_name = "CHARS", default_value_t = Limits::default().name_length, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub name_length: u32,
    /// Messages per second that one connection may send on average
    #[arg(long = "max-messages-per-second", env = "PAPO_MAX_MESSAGES_PER_SECOND", value_name = "N", default_value_t = Limits::default().messages_per_second, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub messages_per_second: u32,
    /// Messages that one connection may send at once before the average counts
    #[arg(long = "message-burst", env = "PAPO_MESSAGE_BURST", value_name = "N", default_value_t = Limits::default().message_burst, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub message_burst: u32,
    /// Largest frame or request a client may send, in bytes
    #[arg(long = "max-frame-size", env = "PAPO_MAX_FRAME_SIZE", value_name = "BYTES", default_value_t = Limits::default().frame_size, value_parser = clap::value_parser!(u32).range(1_024..=16_777_216))]
    pub frame_size: u32,
    /// Connections that one server accepts
    #[arg(long = "max-connections", env = "PAPO_MAX_CONNECTIONS", value_name = "N", default_value_t = Limits::default().connections, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_length: 4_000,
            name_length: 40,
            messages_per_second: 10,
            message_burst: 30,
            frame_size: 65_536,
            connections: 10_000,
        }
    }
}
