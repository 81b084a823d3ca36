//! Bounds by sender and by address: what they have used outlives a connection, so that a new connection brings nothing new.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use papo_protocol::{Limits, SenderId, event::Code};
use parking_lot::Mutex;

use crate::{
    address::Address,
    chat::{Rate, RateLimit, Rejection, Used},
};

/// Entries of a [`Rates`] that are kept without looking for those that can go.
const SWEEP: usize = 1_024;
/// Log lines about rejections, per second and at once.
const LOGGED: (u32, u32) = (1, 20);

/// Longest message of such a log line, in characters.
const LOGGED_LENGTH: usize = 200;

/// All bounds of one server.
pub(super) struct Bounds {
    sender_messages: Rates<SenderId>,
    sender_history: Rates<SenderId>,
    address_messages: Rates<Address>,
    address_bytes: Rates<Address>,
    address_connects: Rates<Address>,
    connections: Counts,
    address_connections: u32,
    log: Mutex<Rate>,
    not_logged: AtomicU64,
}

impl Bounds {
    pub(super) fn new(limits: &Limits) -> Self {
        let address = &limits.address;
        Self {
            sender_messages: Rates::new(limits.messages_per_second, limits.message_burst),
            sender_history: Rates::new(limits.history_per_second, limits.history_burst),
            address_messages: Rates::new(address.messages_per_second, address.message_burst),
            address_bytes: Rates::new(address.bytes_per_second, address.byte_burst),
            address_connects: Rates::new(address.connects_per_second, address.connect_burst),
            connections: Counts::default(),
            address_connections: limits.address_connections(),
            log: Rate::new(LOGGED.0, LOGGED.1).into(),
            not_logged: AtomicU64::new(0),
        }
    }

    /// Whether a sender may send a message now.
    pub(super) fn message(&self, sender: &SenderId, address: Address) -> Result<(), Rejection> {
        let now = Instant::now();
        self.sender_messages
            .take(sender, 1, now)
            .map_err(|wait| too_fast("you send too many messages", wait))?;
        self.address_messages
            .take(&address, 1, now)
            .map_err(|wait| too_fast("too many messages come from your network address", wait))
    }

    /// Whether a sender may request history now.
    pub(super) fn history(&self, sender: &SenderId) -> Result<(), Rejection> {
        self.sender_history
            .take(sender, 1, Instant::now())
            .map_err(|wait| too_fast("you request history too often", wait))
    }

    /// Whether an address may send a text of so many bytes now.
    pub(super) fn bytes(&self, bytes: usize, address: Address) -> Result<(), Rejection> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.address_bytes
            .take(&address, bytes, Instant::now())
            .map_err(|wait| too_fast("too much text comes from your network address", wait))
    }

    /// Whether an address may open a connection now.
    pub(super) fn connect(&self, address: Address) -> Result<(), Duration> {
        self.address_connects.take(&address, 1, Instant::now())
    }

    /// Counts a connection of an address until the place is dropped.
    pub(super) fn open(&self, address: Address) -> Place {
        self.connections.add(address)
    }

    /// Whether the address has no more connections than it may have.
    pub(super) fn has_place(&self, place: &Place) -> Result<(), Rejection> {
        let most = self.address_connections;
        if self.connections.of(place.address) <= most {
            return Ok(());
        }
        Err(Rejection::new(
            Code::AddressFull,
            format!(
                "your network address has reached its limit of {most} connections; try again later"
            ),
        ))
    }

    /// Logs a rejection with its address, at a bounded rate.
    pub(super) fn log(&self, code: Code, address: Address, message: &str) {
        if self.log.lock().take(Instant::now()).is_err() {
            self.not_logged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let not_logged = self.not_logged.swap(0, Ordering::Relaxed);
        // It may quote what the client has sent.
        let message: String = message.chars().take(LOGGED_LENGTH).collect();
        tracing::info!(code = code.as_str(), %address, message, not_logged, "rejected");
    }
}

fn too_fast(what: &str, wait: Duration) -> Rejection {
    Rejection::new(
        Code::RateLimited,
        format!("{what}; try again in {} ms", wait.as_millis().max(1)),
    )
}

/// A rate limit for each key. A key that has used nothing costs nothing.
struct Rates<K> {
    limit: RateLimit,
    used: Mutex<Swept<K>>,
}

struct Swept<K> {
    of: HashMap<K, Used>,
    /// When so many are kept, those that can go are looked for.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Rates<K> {
    fn new(per_second: u32, burst: u32) -> Self {
        Self {
            limit: RateLimit::new(per_second, burst),
            used: Mutex::new(Swept {
                of: HashMap::new(),
                sweep_at: SWEEP,
            }),
        }
    }

    fn take(&self, key: &K, count: u32, now: Instant) -> Result<(), Duration> {
        let mut used = self.used.lock();
        if let Some(used) = used.of.get_mut(key) {
            return self.limit.take(used, count, now);
        }
        if used.of.len() >= used.sweep_at {
            used.of.retain(|_, used| !used.is_nothing(now));
            // A sweep is paid for by as many new keys as it has looked at.
            used.sweep_at = SWEEP.max(2 * used.of.len());
        }
        let mut first = Used::default();
        let taken = self.limit.take(&mut first, count, now);
        if taken.is_ok() {
            used.of.insert(key.clone(), first);
        }
        taken
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.used.lock().of.len()
    }
}

/// Open connections by address.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<Address, u32>>>);

impl Counts {
    fn add(&self, address: Address) -> Place {
        *self.0.lock().entry(address).or_default() += 1;
        Place {
            address,
            counts: self.clone(),
        }
    }

    fn of(&self, address: Address) -> u32 {
        self.0.lock().get(&address).copied().unwrap_or(0)
    }
}

/// One connection among those of its address, until it is dropped.
pub(super) struct Place {
    pub(super) address: Address,
    counts: Counts,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use papo_protocol::limits::AddressLimits;

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    fn sender(text: &str) -> SenderId {
        SenderId::from_trusted(text)
    }

    fn bounds() -> Bounds {
        Bounds::new(&Limits {
            messages_per_second: 1,
            message_burst: 2,
            address: AddressLimits {
                messages_per_second: 1,
                message_burst: 5,
                byte_burst: 300_000,
                connections: Some(2),
                ..AddressLimits::default()
            },
            ..Limits::default()
        })
    }

    #[test]
    fn burst_of_a_sender_is_used_up_once() {
        let bounds = bounds();
        let send = || bounds.message(&sender("ana"), address(1));
        assert!(send().is_ok() && send().is_ok());
        let rejection = send().expect_err("the third in a row");
        assert_eq!(rejection.code, Code::RateLimited);
        assert!(rejection.message.contains("you send"), "{rejection:?}");
        assert!(bounds.message(&sender("rui"), address(1)).is_ok());
    }

    #[test]
    fn senders_of_one_address_share_its_burst() {
        let bounds = bounds();
        let sent = (0..10).filter(|n| {
            let sender = sender(&format!("s{n}"));
            bounds.message(&sender, address(1)).is_ok()
        });
        assert_eq!(sent.count(), 5);
        assert!(bounds.message(&sender("x"), address(2)).is_ok());
    }

    #[test]
    fn texts_of_one_address_share_its_bytes() {
        let bounds = bounds();
        assert!(bounds.bytes(200_000, address(1)).is_ok());
        assert!(bounds.bytes(200_000, address(1)).is_err());
        assert!(bounds.bytes(200_000, address(2)).is_ok());
    }

    #[test]
    fn address_has_so_many_places() {
        let bounds = bounds();
        let places = [1, 1, 1, 2].map(|last| bounds.open(address(last)));
        assert!(bounds.has_place(&places[3]).is_ok());
        let rejection = bounds.has_place(&places[0]).expect_err("three of two");
        assert_eq!(rejection.code, Code::AddressFull);
        let [first, second, ..] = places;
        drop(second);
        assert!(bounds.has_place(&first).is_ok());
    }

    #[test]
    fn counts_of_addresses_that_left_are_forgotten() {
        let counts = Counts::default();
        drop((0..100).map(|n| counts.add(address(n))).collect::<Vec<_>>());
        assert!(counts.0.lock().is_empty());
    }

    #[test]
    fn rates_of_keys_that_used_nothing_for_long_are_forgotten() {
        let (rates, start) = (Rates::new(10, 10), Instant::now());
        for n in 0..100_000_u64 {
            let now = start + Duration::from_millis(n);
            rates.take(&n, 1, now).expect("a new key");
        }
        assert!(rates.len() <= SWEEP, "{} keys", rates.len());
    }
}
