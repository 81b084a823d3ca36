//! The other end of an accepted socket, and how many sockets it has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedSemaphorePermit;

/// The other end of an accepted socket, in the extensions of its requests as `Arc<Peer>`. The socket counts among those of its listener for as
/// long as somebody holds it: who takes over an upgraded connection keeps it.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, permit: OwnedSemaphorePermit, place: Place) -> Self {
        Self {
            address,
            _permit: permit,
            _place: place,
        }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Open sockets by [`network`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One socket among those of its peer, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    network: IpAddr,
    peers: Peers,
}

impl Peers {
    /// Counts a socket, unless its peer has as many as it may have.
    pub(crate) fn add(&self, address: SocketAddr, most: usize) -> Option<Place> {
        let network = network(address.ip());
        let mut counts = self.lock();
        let count = counts.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            network,
            peers: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// The network that counts as one peer: an IPv4 address (also one that is mapped to IPv6), or the /64 network of an IPv6 address, because a single
/// host usually has such a network.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_has_so_many_sockets() {
        let peers = Peers::default();
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let places = [
            peers.add(address("192.0.2.1:1"), 2),
            peers.add(address("192.0.2.1:2"), 2),
            peers.add(address("192.0.2.1:3"), 2),
            peers.add(address("192.0.2.2:1"), 2),
            peers.add(address("[2001:db8::1]:1"), 1),
            peers.add(address("[2001:db8::2]:1"), 1),
        ];
        let are_counted = places.each_ref().map(Option::is_some);
        assert_eq!(are_counted, [true, true, false, true, true, false]);
        drop(places);
        assert!(peers.lock().is_empty(), "peers that left are forgotten");
    }
}
