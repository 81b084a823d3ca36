//! Places: the open connections of each address, and the memory that the server keeps for them.

use std::{collections::HashMap, sync::Arc};

use papo_engineio::Budget;
use papo_protocol::Limits;
use parking_lot::Mutex;

use crate::address::Address;

/// The places of one server. Clones share them.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    of: Mutex<HashMap<Address, Open>>,
    /// The memory that is kept for the clients of all addresses, and how much of it one address may have.
    budget: Arc<Budget>,
    share: usize,
}

/// What one address has.
struct Open {
    connections: u32,
    budget: Arc<Budget>,
}

/// One connection among those of its address, until it is dropped.
pub(super) struct Place {
    pub(super) address: Address,
    /// The memory that may be kept for the clients of its address.
    pub(super) budget: Arc<Budget>,
    places: Places,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            of: Mutex::default(),
            budget: Arc::new(Budget::new(limits.client_memory())),
            share: limits.address_client_memory(),
        }))
    }

    /// Counts a connection of an address until the place is dropped.
    pub(super) fn add(&self, address: Address) -> Place {
        let Shared { of, budget, share } = &*self.0;
        let mut of = of.lock();
        let open = of.entry(address).or_insert_with(|| Open {
            connections: 0,
            budget: Arc::new(Budget::part_of(budget, *share)),
        });
        open.connections += 1;
        Place {
            address,
            budget: open.budget.clone(),
            places: self.clone(),
        }
    }

    /// Connections that an address has.
    pub(super) fn of(&self, address: Address) -> u32 {
        let of = self.0.of.lock();
        of.get(&address).map_or(0, |open| open.connections)
    }

    /// Bytes that are kept for the clients of all addresses.
    pub(super) fn kept(&self) -> usize {
        self.0.budget.kept()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.places.0.of.lock();
        if let Some(open) = of.get_mut(&self.address) {
            open.connections -= 1;
            if open.connections == 0 {
                of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use papo_engineio::Kept;

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let places = Places::new(&Limits::default());
        drop((0..100).map(|n| places.add(address(n))).collect::<Vec<_>>());
        assert!(places.0.of.lock().is_empty());
    }

    #[test]
    fn connections_of_one_address_share_its_memory() {
        let limits = Limits::default();
        let places = Places::new(&limits);
        let [first, second, other] = [1, 1, 2].map(|last| places.add(address(last)));
        let share = limits.address_client_memory();
        let kept = Kept::some(&first.budget, share).expect("left");
        assert!(Kept::some(&second.budget, 1).is_none());
        assert!(Kept::some(&other.budget, 1).is_some());
        assert_eq!(places.kept(), share);
        drop(kept);
        assert_eq!(places.kept(), 0);
    }
}
