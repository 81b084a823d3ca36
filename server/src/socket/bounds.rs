//! Bounds by sender and by address: what they have used outlives a connection, so that a new connection brings nothing new.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use papo_protocol::{Limits, SenderId, event::Code};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::sleep};

use super::{
    places::{Place, Places},
    rates::Rates,
};
use crate::{
    address::Address,
    chat::{Rate, Rejection},
    metrics::{Bound, Metrics},
};

/// Typing signals of one sender, per second and at once: the page sends no more than one every half second.
const SENDER_TYPING: (u32, u32) = (2, 4);
/// Typing signals of one address. Each costs a packet to every member.
const ADDRESS_TYPING: (u32, u32) = (10, 20);
/// New access tokens of one sender: a client has one some minutes before the former expires.
const SENDER_TOKENS: (u32, u32) = (1, 5);
/// How many times the requests for history of one sender an address may make.
const ADDRESS_HISTORY: u32 = 10;
/// How long an address that opens too many connections waits for its rejection. A client that tries again as soon as it is rejected can then
/// try only as often as it has sockets.
const REJECTION_DELAY: Duration = Duration::from_secs(1);
/// The most rejections that wait. Further ones are sent at once.
const DELAYED_REJECTIONS: u32 = 1_024;
/// The longest time for which nothing is read from a connection of an address that sends too much.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Log lines about rejections, per second and at once.
const LOGGED: (u32, u32) = (1, 20);
/// Longest message of such a log line, in characters.
const LOGGED_LENGTH: usize = 200;

/// All bounds of one server.
pub(super) struct Bounds {
    sender_messages: Rates<SenderId>,
    sender_history: Rates<SenderId>,
    sender_typing: Rates<SenderId>,
    sender_tokens: Rates<SenderId>,
    address_messages: Rates<Address>,
    address_bytes: Rates<Address>,
    address_history: Rates<Address>,
    address_typing: Rates<Address>,
    address_connects: Rates<Address>,
    address_sign_ins: Rates<Address>,
    delayed_rejections: Semaphore,
    places: Places,
    address_connections: u32,
    metrics: Arc<Metrics>,
    log: Mutex<Rate>,
    not_logged: AtomicU64,
}

impl Bounds {
    pub(super) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let address = &limits.address;
        Self {
            sender_messages: Rates::new(limits.messages_per_second, limits.message_burst),
            sender_history: Rates::new(limits.history_per_second, limits.history_burst),
            sender_typing: Rates::new(SENDER_TYPING.0, SENDER_TYPING.1),
            sender_tokens: Rates::new(SENDER_TOKENS.0, SENDER_TOKENS.1),
            address_messages: Rates::new(address.messages_per_second, address.message_burst),
            address_bytes: Rates::new(address.bytes_per_second, address.byte_burst),
            address_connects: Rates::new(address.connects_per_second, address.connect_burst),
            // A client that was rejected may send a CONNECT packet again on the same connection. One that was not is never above this rate.
            address_sign_ins: Rates::new(
                address.connects_per_second.saturating_mul(2),
                address.connect_burst.saturating_mul(2),
            ),
            address_history: Rates::new(
                limits.history_per_second.saturating_mul(ADDRESS_HISTORY),
                limits.history_burst.saturating_mul(ADDRESS_HISTORY),
            ),
            address_typing: Rates::new(ADDRESS_TYPING.0, ADDRESS_TYPING.1),
            delayed_rejections: Semaphore::new(delayed_rejections(limits)),
            places: Places::new(limits),
            address_connections: limits.address_connections(),
            metrics,
            log: Rate::new(LOGGED.0, LOGGED.1).into(),
            not_logged: AtomicU64::new(0),
        }
    }

    /// Whether a sender may send a message now.
    pub(super) fn message(&self, sender: &SenderId, address: Address) -> Result<(), TooFast> {
        self.take(
            (&self.sender_messages, Bound::SenderMessages, sender),
            (&self.address_messages, Bound::AddressMessages, address),
        )
    }

    /// Whether a sender may request history now.
    pub(super) fn history(&self, sender: &SenderId, address: Address) -> Result<(), Rejection> {
        let taken = self.take(
            (&self.sender_history, Bound::SenderHistory, sender),
            (&self.address_history, Bound::AddressHistory, address),
        );
        taken.map_err(|too_fast| too_fast.rejection)
    }

    /// Whether a sender may send a typing signal now.
    pub(super) fn typing(&self, sender: &SenderId, address: Address) -> bool {
        let taken = self.take(
            (&self.sender_typing, Bound::SenderTyping, sender),
            (&self.address_typing, Bound::AddressTyping, address),
        );
        taken.is_ok()
    }

    /// Whether a sender may present a new access token now.
    pub(super) fn token(&self, sender: &SenderId) -> Result<(), Rejection> {
        let taken = self.sender_tokens.take(sender, 1, now());
        self.check(Bound::SenderTokens, taken)
    }

    /// Whether an address may connect with an access token now. To verify one takes time.
    pub(super) fn sign_in(&self, address: Address) -> Result<(), Rejection> {
        let taken = self.address_sign_ins.take(&address, 1, now());
        self.check(Bound::AddressSignIns, taken)
    }

    /// Takes one of the rate of a sender, and of that of its address.
    fn take(
        &self,
        (of_sender, sender_bound, sender): (&Rates<SenderId>, Bound, &SenderId),
        (of_address, address_bound, address): (&Rates<Address>, Bound, Address),
    ) -> Result<(), TooFast> {
        let now = now();
        self.check(sender_bound, of_sender.take(sender, 1, now))?;
        let taken = of_address.take(&address, 1, now);
        self.check_address(address_bound, address, taken)
    }

    /// Whether an address may send a text of so many bytes now.
    pub(super) fn bytes(&self, bytes: usize, address: Address) -> Result<(), TooFast> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = self.address_bytes.take(&address, bytes, now());
        self.check_address(Bound::AddressBytes, address, taken)
    }

    /// Whether an address may open a connection now.
    pub(super) fn connect(&self, address: Address) -> Result<(), Duration> {
        let taken = self.address_connects.take(&address, 1, now());
        taken.inspect_err(|_| self.metrics.exceeded(Bound::AddressConnects))
    }

    /// Waits before the rejection of a connection is sent, unless too many wait. Whoever hangs up no longer waits.
    pub(super) async fn delay_rejection(&self) {
        if let Ok(_permit) = self.delayed_rejections.try_acquire() {
            sleep(REJECTION_DELAY).await;
        }
    }

    /// As [`check`](Self::check), and for how long nothing is read from the connection: whoever has a burst of its own on each of many
    /// connections would otherwise have all of it read, only for it to be rejected. The connections of an address share its rate, so each of
    /// them waits the longer the more there are.
    fn check_address(
        &self,
        bound: Bound,
        address: Address,
        taken: Result<(), Duration>,
    ) -> Result<(), TooFast> {
        let pause = taken.err().map(|wait| {
            let connections = self.places.of(address).max(1);
            wait.saturating_mul(connections).min(LONGEST_PAUSE)
        });
        let checked = self.check(bound, taken);
        checked.map_err(|rejection| TooFast { rejection, pause })
    }

    /// Counts and words the rejection of what exceeds a rate.
    fn check(&self, bound: Bound, taken: Result<(), Duration>) -> Result<(), Rejection> {
        taken.map_err(|wait| {
            self.metrics.exceeded(bound);
            too_fast(bound, wait)
        })
    }

    /// Counts a connection of an address until the place is dropped.
    pub(super) fn open(&self, address: Address) -> Place {
        self.places.add(address)
    }

    /// Bytes that the server keeps for clients that do not read, or do not send the rest of a message.
    pub(super) fn client_memory(&self) -> usize {
        self.places.kept()
    }

    /// Whether the address of a place has no more than so many connections.
    pub(super) fn has_connections(&self, place: &Place, most: usize) -> bool {
        self.places.of(place.address) as usize <= most
    }

    /// Whether the address has no more connections than it may have.
    pub(super) fn has_place(&self, place: &Place) -> Result<(), Rejection> {
        let most = self.address_connections;
        if self.has_connections(place, most as usize) {
            return Ok(());
        }
        self.metrics.exceeded(Bound::AddressConnections);
        Err(Rejection::new(
            Code::AddressFull,
            format!(
                "your network address has reached its limit of {most} connections; try again later"
            ),
        ))
    }

    /// Counts a rejection, and logs it with its address at a bounded rate.
    pub(super) fn reject(&self, code: Code, address: Address, message: &str) {
        self.metrics.rejected(code);
        if self.log.lock().take(now()).is_err() {
            self.not_logged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let not_logged = self.not_logged.swap(0, Ordering::Relaxed);
        // It may quote what the client has sent.
        let message: String = message.chars().take(LOGGED_LENGTH).collect();
        tracing::info!(code = code.as_str(), %address, message, not_logged, "rejected");
    }
}

/// How many rejections may wait: a tenth of the connections, so that they leave most sockets to others.
fn delayed_rejections(limits: &Limits) -> usize {
    (limits.connections / 10).clamp(1, DELAYED_REJECTIONS) as usize
}

/// A message that exceeds a rate.
#[derive(Debug)]
pub(super) struct TooFast {
    /// The answer.
    pub(super) rejection: Rejection,
    /// How long nothing is read from the connection.
    pub(super) pause: Option<Duration>,
}

impl From<Rejection> for TooFast {
    fn from(rejection: Rejection) -> Self {
        let pause = None;
        Self { rejection, pause }
    }
}

fn too_fast(bound: Bound, wait: Duration) -> Rejection {
    let what = match bound {
        Bound::SenderMessages => "you send too many messages",
        Bound::SenderHistory => "you request history too often",
        Bound::AddressHistory => "too many requests for history come from your network address",
        Bound::SenderTyping | Bound::AddressTyping => "too many typing events",
        Bound::SenderTokens => "you send too many access tokens",
        Bound::AddressSignIns => "too many access tokens come from your network address",
        Bound::AddressBytes => "too much text comes from your network address",
        _ => "too many messages come from your network address",
    };
    Rejection::new(
        Code::RateLimited,
        format!("{what}; try again in {} ms", wait.as_millis().max(1)),
    )
}

/// The time of tokio's clock, which stands still in tests that count what is allowed at once.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures::future::join_all;
    use papo_protocol::limits::AddressLimits;
    use tokio::time::timeout;

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    fn sender(text: &str) -> SenderId {
        SenderId::from_trusted(text)
    }

    fn bounds() -> Bounds {
        let limits = Limits {
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
        };
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        Bounds::new(&limits, Arc::new(metrics))
    }

    #[tokio::test(start_paused = true)]
    async fn burst_of_a_sender_is_used_up_once() {
        let bounds = bounds();
        let send = || bounds.message(&sender("ana"), address(1));
        assert!(send().is_ok() && send().is_ok());
        let TooFast { rejection, pause } = send().expect_err("the third in a row");
        assert_eq!(pause, None);
        assert_eq!(rejection.code, Code::RateLimited);
        assert!(rejection.message.contains("you send"), "{rejection:?}");
        assert!(bounds.message(&sender("rui"), address(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn senders_of_one_address_share_its_burst() {
        let bounds = bounds();
        let sent = (0..10).filter(|n| {
            let sender = sender(&format!("s{n}"));
            bounds.message(&sender, address(1)).is_ok()
        });
        assert_eq!(sent.count(), 5);
        assert!(bounds.message(&sender("x"), address(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_an_address_wait_the_longer_the_more_they_are() {
        let limits = Limits {
            address: AddressLimits {
                messages_per_second: 100,
                message_burst: 1,
                ..AddressLimits::default()
            },
            ..Limits::default()
        };
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let bounds = Bounds::new(&limits, Arc::new(metrics));
        let pause = |sender_id: &str| {
            let sent = bounds.message(&sender(sender_id), address(1));
            sent.err().and_then(|too_fast| too_fast.pause)
        };
        assert_eq!(pause("a"), None);
        let alone = pause("b").expect("above the rate");
        let places: Vec<_> = (0..10).map(|_| bounds.open(address(1))).collect();
        assert_eq!(pause("c"), Some(alone * 10));
        drop(places);
        let _places: Vec<_> = (0..200).map(|_| bounds.open(address(1))).collect();
        assert_eq!(pause("d"), Some(LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn texts_of_one_address_share_its_bytes() {
        let bounds = bounds();
        assert!(bounds.bytes(200_000, address(1)).is_ok());
        let too_fast = bounds.bytes(200_000, address(1)).expect_err("too much");
        assert_eq!(too_fast.pause, Some(LONGEST_PAUSE));
        assert!(bounds.bytes(200_000, address(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_rejections_wait_at_once() {
        let bounds = bounds();
        let most = delayed_rejections(&Limits::default());
        let began = tokio::time::Instant::now();
        let left = timeout(REJECTION_DELAY / 2, bounds.delay_rejection()).await;
        assert!(left.is_err(), "a client that hangs up");
        let waits = async || {
            bounds.delay_rejection().await;
            began.elapsed()
        };
        let waited = join_all((0..2 * most).map(|_| waits())).await;
        let delayed = waited.iter().filter(|waited| **waited >= REJECTION_DELAY);
        assert_eq!(delayed.count(), most);
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

    #[tokio::test(start_paused = true)]
    async fn typing_counts_by_sender_and_by_address() {
        let bounds = bounds();
        let signals = |sender: &SenderId, last: u8| {
            let all = 0..100;
            all.filter(|_| bounds.typing(sender, address(last))).count()
        };
        assert_eq!(signals(&sender("ana"), 1), 4);
        assert_eq!(signals(&sender("ana"), 2), 0, "from another address");
        let others = (0..100).map(|n| signals(&sender(&format!("s{n}")), 1));
        assert_eq!(others.sum::<usize>(), 16);
        assert_eq!(signals(&sender("rui"), 3), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_for_history_count_by_address_too() {
        let bounds = bounds();
        let requested = (0..1_000).filter(|n| {
            let sender = sender(&format!("s{n}"));
            bounds.history(&sender, address(1)).is_ok()
        });
        assert_eq!(requested.count(), 100);
        assert!(bounds.history(&sender("x"), address(2)).is_ok());
    }
}
