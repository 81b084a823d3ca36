//! Where the servers find their log.

use papo_protocol::{BrokerUrl, Epoch};

/// Where the servers find their log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The broker, without credentials.
    pub broker: BrokerUrl,
    /// Whether the room's Secret holds the broker's certificate authority.
    pub private_ca: bool,
    /// Which life of the log.
    pub epoch: Epoch,
}
