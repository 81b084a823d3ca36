//! The other end of an accepted socket.

use std::net::SocketAddr;

use tokio::sync::OwnedSemaphorePermit;

/// The other end of an accepted socket, in the extensions of its requests as `Arc<Peer>`. The socket counts among those of its listener for as
/// long as somebody holds it: who takes over an upgraded connection keeps it.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        Self {
            address,
            _permit: permit,
        }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
