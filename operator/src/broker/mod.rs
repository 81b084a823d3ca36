//! The brokers in use: where each is, its circuit breaker, and its management API.

mod circuit_breaker;
mod client;
mod settings;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use k8s_openapi::api::core::v1::Secret;
use rabbitmq_http_client::api::{Client, ClientBuilder};

use crate::{config::SecretRef, error::BrokerError, metrics::Metrics};

use circuit_breaker::CircuitBreaker;
use client::http_client;
pub use settings::Settings;

/// A broker to work on.
pub struct Broker {
    settings: Settings,
    circuit: CircuitBreaker,
    pub(crate) api: Client<String, String, String>,
    pub(crate) metrics: Metrics,
}

impl Broker {
    fn new(settings: Settings, metrics: Metrics) -> Result<Self, String> {
        let http = http_client(&settings).map_err(|error| error.to_string())?;
        let api = ClientBuilder::new()
            .with_endpoint(settings.endpoint())
            .with_basic_auth_credentials(settings.username.clone(), settings.password.clone())
            .with_client(http)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            settings,
            circuit: CircuitBreaker::default(),
            api,
            metrics,
        })
    }

    /// Where it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does some work on the broker, unless the broker has just not answered another room.
    pub(crate) async fn attempt<T>(
        &self,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.circuit.allow(Instant::now())?;
        let result = work.await;
        self.circuit.record(result.as_ref().err(), Instant::now());
        result
    }

    /// The virtual host of the rooms.
    pub(crate) fn vhost(&self) -> &str {
        self.settings.vhost()
    }
}

/// The brokers in use, each with its connections, for as long as their Secrets say the same.
#[derive(Default)]
pub struct Brokers {
    known: Mutex<HashMap<SecretRef, Arc<Broker>>>,
}

impl Brokers {
    /// The broker that a Secret describes.
    pub fn get(
        &self,
        name: &SecretRef,
        secret: &Secret,
        metrics: &Metrics,
    ) -> Result<Arc<Broker>, BrokerError> {
        let bad = |problem| BrokerError::BadSecret {
            secret: name.clone(),
            problem,
        };
        let settings = Settings::parse(secret).map_err(bad)?;
        // Nothing panics while it is held.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = known.get(name)
            && broker.settings == settings
        {
            return Ok(broker.clone());
        }
        let broker = Arc::new(Broker::new(settings, metrics.clone()).map_err(bad)?);
        known.insert(name.clone(), broker.clone());
        Ok(broker)
    }

    /// Forgets a broker whose Secret is gone.
    pub fn forget(&self, name: &SecretRef) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}
