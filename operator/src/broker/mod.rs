//! The brokers in use: where each is, its circuit breaker, its management API, and the bounds on all work there.

mod bounds;
mod circuit_breaker;
mod hosts;
mod inventory;
mod management;
mod removals;
mod settings;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use tokio::time::timeout;

use crate::{config::SecretRef, error::BrokerError, metrics::Metrics};

pub use bounds::Bound;
use bounds::Slots;
pub(crate) use bounds::{BROKER_IDLE, BROKERS, NAMES, PAGE, PAGES};
use circuit_breaker::CircuitBreaker;
pub use hosts::HostPattern;
use inventory::Inventory;
pub(crate) use inventory::{Found, FoundLog, Key};
pub(crate) use management::{Failure, Management};
use removals::Removals;
pub(crate) use removals::{Listing, Names, Step};
pub use settings::Settings;

/// A broker to work on.
pub struct Broker {
    settings: Settings,
    circuit: CircuitBreaker,
    slots: Arc<Slots>,
    timeout: Duration,
    /// Work on it has failed since its Secret was read: the Secret may have changed.
    is_suspect: AtomicBool,
    pub(crate) management: Management,
    pub(crate) metrics: Metrics,
    pub(crate) inventory: Inventory,
    pub(crate) removals: Removals,
}

impl Broker {
    /// Where it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does the work of one room on the broker, in a slot and within the time-out, unless the broker has just not answered another room.
    pub(crate) async fn attempt<T>(
        &self,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.attempt_unless(|| false, work).await
    }

    /// The same for the removal of a room's objects, of which `owner` is the `metadata.uid`. One that the time-out cuts opens the circuit only if
    /// the broker has confirmed nothing meanwhile: a slow broker is not one that does not answer, and the next attempt goes on from there.
    pub(crate) async fn attempt_removal<T>(
        &self,
        owner: &str,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let before = self.removals.last_progress_of(owner);
        let has_progressed = || self.removals.last_progress_of(owner) > before;
        self.attempt_unless(has_progressed, work).await
    }

    async fn attempt_unless<T>(
        &self,
        is_alive: impl Fn() -> bool,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.circuit.check(Instant::now())?;
        let Some(_slot) = self.slots.acquire().await else {
            self.metrics.broker_bound("slots");
            return Err(BrokerError::Busy);
        };
        self.circuit.allow(Instant::now())?;
        let result = timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()));
        if let Err(BrokerError::OverBound { bound, .. }) = &result {
            self.metrics.broker_bound(bound.label());
        }
        let error = result.as_ref().err().filter(|_| !is_alive());
        self.circuit.record(error, Instant::now());
        if result.is_ok() {
            self.slots.note_success(Instant::now());
        } else {
            self.is_suspect.store(true, Ordering::Relaxed);
        }
        result
    }

    fn timed_out(&self) -> BrokerError {
        self.metrics.broker_bound("time");
        BrokerError::Unreachable {
            attempt: "cannot finish the room".to_owned(),
            message: format!(
                "its requests took longer than {} s together (--broker-timeout)",
                self.timeout.as_secs()
            ),
        }
    }

    /// The virtual host of the rooms.
    pub(crate) fn vhost(&self) -> &str {
        self.settings.vhost()
    }
}

/// Which brokers rooms may use, and how much of the operator.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Rooms that the operator reconciles concurrently. Those on brokers whose Secrets are in one namespace get a quarter, and those on the
    /// operator's own broker the other three quarters: whoever has a slow broker leaves a part to everybody else.
    pub concurrency: usize,
    /// How long the work of one room on a broker may take.
    pub timeout: Duration,
    /// How often a virtual host is read as a whole. What somebody changes there is noticed after this and the resync period: together less than
    /// a minute by default.
    pub inventory_period: Duration,
    /// How long the Secret of a broker is not read again. All rooms of the broker share what was read.
    pub secret_period: Duration,
    /// The shortest time between two lists of a virtual host from which deleted rooms are removed.
    pub listing_period: Duration,
    /// Hosts that rooms may name in their Secrets; any if empty.
    pub allowed_hosts: Vec<HostPattern>,
    /// The operator's own Secret, whose host is always allowed.
    pub default_secret: Option<SecretRef>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            concurrency: 16,
            timeout: Duration::from_secs(30),
            inventory_period: Duration::from_secs(15),
            secret_period: Duration::from_secs(5),
            listing_period: Duration::from_secs(2),
            allowed_hosts: Vec::new(),
            default_secret: None,
        }
    }
}

/// The brokers in use, each with its connections, for as long as their Secrets say the same.
///
/// A tenant may name any number of Secrets. So a broker that no room asks for is dropped after [`BROKER_IDLE`], with its connections and all that was
/// read of it, and no more than [`BROKERS`] are in use whose Secrets are in one namespace.
#[derive(Default)]
pub struct Brokers {
    policy: Policy,
    known: Mutex<HashMap<SecretRef, Known>>,
    /// By namespace of the Secret: a tenant who names one host in many Secrets gets no more of the operator.
    slots: Mutex<HashMap<String, Arc<Slots>>>,
}

/// A broker, when its Secret was read, and when a room last asked for it.
struct Known {
    broker: Arc<Broker>,
    read: Instant,
    used: Instant,
}

impl Brokers {
    /// No brokers yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// The broker of a Secret that was read a short time ago, unless work on it has failed since.
    pub fn recent(&self, name: &SecretRef) -> Option<Arc<Broker>> {
        let mut known = lock(&self.known);
        let Known { broker, read, used } = known.get_mut(name)?;
        *used = Instant::now();
        let is_recent = read.elapsed() < self.policy.secret_period;
        let is_suspect = broker.is_suspect.load(Ordering::Relaxed);
        (is_recent && !is_suspect).then(|| broker.clone())
    }

    /// Whether rooms on the brokers of this Secret's namespace have their turn, one after the other.
    pub(crate) fn are_moving(&self, name: &SecretRef) -> bool {
        let slots = lock(&self.slots);
        let slots = slots.get(&name.namespace);
        slots.is_some_and(|slots| slots.are_moving(Instant::now()))
    }

    /// The broker that a Secret describes.
    pub fn get(
        &self,
        name: &SecretRef,
        secret: &Secret,
        metrics: &Metrics,
    ) -> Result<Arc<Broker>, BrokerError> {
        self.get_at(Instant::now(), name, secret, metrics)
    }

    fn get_at(
        &self,
        now: Instant,
        name: &SecretRef,
        secret: &Secret,
        metrics: &Metrics,
    ) -> Result<Arc<Broker>, BrokerError> {
        let bad = |problem| BrokerError::BadSecret {
            secret: name.clone(),
            problem,
        };
        let settings = Settings::parse(secret).map_err(bad)?;
        if let Some(host) = self.forbidden_host(name, &settings) {
            return Err(BrokerError::NotAllowed {
                secret: name.clone(),
                host: host.to_owned(),
            });
        }
        self.drop_idle(now);
        let mut known = lock(&self.known);
        if let Some(known) = known.get_mut(name)
            && known.broker.settings == settings
        {
            (known.read, known.used) = (now, now);
            known.broker.is_suspect.store(false, Ordering::Relaxed);
            return Ok(known.broker.clone());
        }
        if !self.has_place(name, &known) {
            metrics.broker_bound("brokers");
            return Err(BrokerError::TooManyBrokers(name.clone()));
        }
        let management = Management::new(&settings, self.policy.timeout).map_err(|_| {
            bad(
                "no HTTP client can be made of it; check that `ca.crt` is a certificate in PEM"
                    .to_owned(),
            )
        })?;
        let broker = Arc::new(Broker {
            settings,
            circuit: CircuitBreaker::new(self.policy.timeout),
            slots: self.slots(&name.namespace),
            timeout: self.policy.timeout,
            is_suspect: AtomicBool::default(),
            management,
            metrics: metrics.clone(),
            inventory: Inventory::new(self.policy.inventory_period),
            removals: Removals::new(self.policy.listing_period),
        });
        let now_known = Known {
            broker: broker.clone(),
            read: now,
            used: now,
        };
        known.insert(name.clone(), now_known);
        Ok(broker)
    }

    /// Forgets a broker whose Secret is gone and was last read before so long.
    pub fn forget_after(&self, name: &SecretRef, age: Duration) {
        lock(&self.known).retain(|known, it| known != name || it.read.elapsed() < age);
    }

    /// The broker that a Secret described when it was last read, until it is forgotten.
    pub fn last_known(&self, name: &SecretRef) -> Option<Arc<Broker>> {
        let known = lock(&self.known);
        known.get(name).map(|known| known.broker.clone())
    }

    /// Drops the brokers that no room uses.
    fn drop_idle(&self, now: Instant) {
        lock(&self.known)
            .retain(|_, known| now.saturating_duration_since(known.used) < BROKER_IDLE);
        // Nobody else has the slots of a namespace without brokers.
        lock(&self.slots).retain(|_, slots| Arc::strong_count(slots) > 1);
    }

    /// Whether another broker may be in use: always the operator's own, whose Secret tenants do not choose.
    fn has_place(&self, name: &SecretRef, known: &HashMap<SecretRef, Known>) -> bool {
        let is_another = |other: &&SecretRef| other.namespace == name.namespace && *other != name;
        self.policy.default_secret.as_ref() == Some(name)
            || known.keys().filter(is_another).count() < BROKERS
    }

    /// A host of the broker that rooms may not name.
    fn forbidden_host<'a>(&self, name: &SecretRef, settings: &'a Settings) -> Option<&'a str> {
        let Policy {
            allowed_hosts,
            default_secret,
            ..
        } = &self.policy;
        if allowed_hosts.is_empty() || default_secret.as_ref() == Some(name) {
            return None;
        }
        let is_allowed = |host: &str| allowed_hosts.iter().any(|pattern| pattern.matches(host));
        settings.hosts().find(|host| !is_allowed(host))
    }

    fn slots(&self, namespace: &str) -> Arc<Slots> {
        let default_secret = self.policy.default_secret.as_ref();
        let is_own = default_secret.is_some_and(|own| own.namespace == namespace);
        let quarter = (self.policy.concurrency / 4).max(1);
        let others = self.policy.concurrency.saturating_sub(quarter).max(1);
        let new = || {
            Arc::new(if is_own {
                Slots::new(others, 0)
            } else {
                Slots::new(quarter, quarter)
            })
        };
        let mut slots = lock(&self.slots);
        slots
            .entry(namespace.to_owned())
            .or_insert_with(new)
            .clone()
    }
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret() -> Secret {
        let pairs = [("username", "u"), ("password", "p"), ("host", "mq")];
        let encode = |(key, value): (&str, &str)| {
            let value = ByteString(value.as_bytes().to_vec());
            (key.to_owned(), value)
        };
        Secret {
            data: Some(pairs.map(encode).into()),
            ..Secret::default()
        }
    }

    fn named(namespace: &str, number: usize) -> SecretRef {
        let name = format!("{namespace}/mq-{number}");
        name.parse().expect("valid")
    }

    #[test]
    fn namespace_has_so_many_brokers_until_some_are_idle() {
        let brokers = Brokers::new(Policy {
            default_secret: Some(named("team", 100)),
            ..Policy::default()
        });
        let start = Instant::now();
        let get = |name: &SecretRef, now| {
            let broker = brokers.get_at(now, name, &secret(), &Metrics::default());
            broker.map(drop).map_err(|error| error.to_string())
        };
        for number in 0..BROKERS {
            assert_eq!(get(&named("team", number), start), Ok(()));
        }
        let error = get(&named("team", BROKERS), start).expect_err("too many");
        assert!(error.contains("Secret team/mq-8: "), "{error}");
        assert_eq!(get(&named("team", 0), start), Ok(()), "it is in use");
        assert_eq!(get(&named("other", 0), start), Ok(()), "of others");
        assert_eq!(get(&named("team", 100), start), Ok(()), "the operator's");

        let later = start + BROKER_IDLE / 2;
        assert_eq!(get(&named("team", 0), later), Ok(()));
        let idle = start + BROKER_IDLE;
        assert_eq!(get(&named("team", BROKERS), idle), Ok(()));
        let names: Vec<SecretRef> = lock(&brokers.known).keys().cloned().collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(lock(&brokers.slots).len(), 1, "of namespaces with brokers");
    }
}
