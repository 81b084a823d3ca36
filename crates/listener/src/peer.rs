//! The other end of an accepted socket, and how many sockets it has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedSemaphorePermit;

/// The other end of an accepted socket, in the extensions of its requests as `Arc<Peer>`. The socket counts among those of its listener for as
/// long as somebody holds it: who takes over an upgraded connection keeps it.
pub struct Peer {
    address: SocketAddr,
    /// Among the sockets of all peers.
    _permit: OwnedSemaphorePermit,
    peers: Peers,
}

impl Peer {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Open sockets by [`network`].
#[derive(Clone)]
pub(crate) struct Peers(Arc<Counts>);

struct Counts {
    of: Mutex<HashMap<IpAddr, usize>>,
    /// Called with 1 for each socket that is added, and with -1 for each that is gone.
    on_count: Arc<dyn Fn(i64) + Send + Sync>,
}

impl Peers {
    pub(crate) fn new(on_count: Arc<dyn Fn(i64) + Send + Sync>) -> Self {
        Self(Arc::new(Counts {
            of: Mutex::default(),
            on_count,
        }))
    }

    /// Counts a socket, unless its peer has as many as it may have.
    pub(crate) fn add(
        &self,
        address: SocketAddr,
        most: usize,
        permit: OwnedSemaphorePermit,
    ) -> Option<Peer> {
        let network = network(address.ip());
        let mut counts = self.lock();
        let count = counts.get(&network).map_or(0, |count| *count);
        if count >= most {
            return None;
        }
        counts.insert(network, count + 1);
        drop(counts);
        (self.0.on_count)(1);
        Some(Peer {
            address,
            _permit: permit,
            peers: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics while it is held.
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let network = network(self.address.ip());
        let mut counts = self.peers.lock();
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
        drop(counts);
        (self.peers.0.on_count)(-1);
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
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn peer_has_so_many_sockets() {
        let peers = Peers::new(Arc::new(|_| {}));
        let permits = Arc::new(Semaphore::new(10));
        let add = |address: &str, most| {
            let permit = permits.clone().try_acquire_owned().expect("a permit");
            peers.add(address.parse().expect("an address"), most, permit)
        };
        let places = [
            add("192.0.2.1:1", 2),
            add("192.0.2.1:2", 2),
            add("192.0.2.1:3", 2),
            add("192.0.2.2:1", 2),
            add("192.0.2.3:1", 0),
            add("[2001:db8::1]:1", 1),
            add("[2001:db8::2]:1", 1),
        ];
        let are_counted = places.each_ref().map(Option::is_some);
        assert_eq!(are_counted, [true, true, false, true, false, true, false]);
        drop(places);
        assert!(peers.lock().is_empty(), "peers that left are forgotten");
        assert_eq!(permits.available_permits(), 10);
    }
}
