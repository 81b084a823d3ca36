//! Where the servers find their log.

use papo_protocol::{BrokerUrl, Epoch};

/// Where the servers find their log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The broker, or each node of its cluster, without credentials.
    pub nodes: Vec<BrokerUrl>,
    /// Whether the room's Secret holds the broker's certificate authority.
    pub private_ca: bool,
    /// The epoch of the log.
    pub epoch: Epoch,
}
