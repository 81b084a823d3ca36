//! What a server tells each client when it connects, and holds it to.

use std::time::Duration;

/// Heartbeat and limit of every connection. The default is Engine.IO's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the server sends a ping.
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping.
    pub ping_timeout: Duration,
    /// Longest message that a client may send, in bytes, with Engine.IO's packet type.
    pub max_payload: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
        }
    }
}
