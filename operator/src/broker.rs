//! A broker as its Secret describes it, in the keys of RabbitMQ's Cluster Operator.
//!
//! | key | meaning | if missing |
//! | --- | --- | --- |
//! | `username`, `password` | an administrator | an error |
//! | `host` | where it is | an error |
//! | `port` | AMQP | 5672, or 5671 with TLS |
//! | `managementPort` | management HTTP API | 15672, or 15671 with TLS |
//! | `vhost` | virtual host of the rooms | `/` |
//! | `tls` | `true` or `false`, for both ports | `true` if `port` is 5671 or there is a `ca.crt` |
//! | `ca.crt` | its certificate authority (PEM) | the system's |
//!
//! Other keys are ignored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use papo_protocol::BrokerUrl;
use rabbitmq_http_client::api::{Client, ClientBuilder};

use crate::{config::SecretRef, error::BrokerError, metrics::Metrics};

/// How long a broker may take to answer a request of the management API.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after a broker has not answered the next room tries.
const PAUSE: Duration = Duration::from_secs(5);
/// How long it may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a broker is and who administers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    username: String,
    password: String,
    host: String,
    amqp_port: u16,
    management_port: u16,
    vhost: String,
    tls: bool,
    ca: Option<String>,
}

/// A broker to work on.
pub struct Broker {
    settings: Settings,
    gate: Gate,
    pub(crate) api: Client<String, String, String>,
    pub(crate) metrics: Metrics,
}

impl Settings {
    /// Reads a Secret.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        let text = |key: &str| -> Result<Option<String>, String> {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let text = bytes
                .map(|bytes| String::from_utf8(bytes.0.clone()))
                .transpose();
            let text = text.map_err(|_| format!("`{key}` is not UTF-8"))?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let needed = |key: &str| text(key)?.ok_or_else(|| format!("`{key}` is missing"));
        let port = |key: &str| -> Result<Option<u16>, String> {
            let parse = |text: String| {
                text.trim()
                    .parse()
                    .map_err(|_| format!("`{key}` is not a port"))
            };
            text(key)?.map(parse).transpose()
        };
        let (amqp_port, ca) = (port("port")?, text("ca.crt")?);
        let tls = match text("tls")?.as_deref().map(str::trim) {
            Some("true") => true,
            Some("false") => false,
            Some(_) => return Err("`tls` is neither `true` nor `false`".to_owned()),
            None => amqp_port == Some(5671) || ca.is_some(),
        };
        let host = needed("host")?.trim().to_owned();
        if !is_host(&host) {
            return Err("`host` is not a host name".to_owned());
        }
        let vhost = text("vhost")?.unwrap_or_else(|| "/".to_owned());
        if [".", ".."].contains(&vhost.as_str()) {
            return Err("`vhost` cannot be named in a URL".to_owned());
        }
        Ok(Self {
            username: needed("username")?,
            password: needed("password")?,
            host,
            amqp_port: amqp_port.unwrap_or(if tls { 5671 } else { 5672 }),
            management_port: port("managementPort")?.unwrap_or(if tls { 15671 } else { 15672 }),
            vhost,
            ca: ca.filter(|_| tls),
            tls,
        })
    }

    /// Where servers connect, without credentials.
    pub fn url(&self) -> Option<BrokerUrl> {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let vhost = percent_encoded(&self.vhost);
        format!("{scheme}://{}:{}/{vhost}", self.host, self.amqp_port)
            .parse()
            .ok()
    }

    /// The broker's own certificate authority.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}/api", self.host, self.management_port)
    }
}

/// A name or an address without a port, which URLs keep as it is.
fn is_host(text: &str) -> bool {
    let url = format!("http://{text}/").parse::<reqwest::Url>();
    url.is_ok_and(|url| url.host_str() == Some(&text.to_ascii_lowercase()) && url.path() == "/")
}

/// RFC 3986: everything but what is unreserved.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}"); // a String takes everything
        }
        encoded
    })
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
            gate: Gate::default(),
            api,
            metrics,
        })
    }

    /// Where it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Works on the broker, unless it has just not answered another room.
    pub(crate) async fn attempt<T>(
        &self,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.gate.enter(Instant::now())?;
        let result = work.await;
        self.gate.leave(result.as_ref().err(), Instant::now());
        result
    }

    /// The virtual host of the rooms.
    pub(crate) fn vhost(&self) -> &str {
        &self.settings.vhost
    }
}

/// Keeps rooms from waiting, one after the other, for a broker that does not answer: they would take up all the passes that may be under way
/// at once, and rooms of other brokers would wait with them. While it is closed one room at a time tries, and the others are told what the
/// last one met.
#[derive(Default)]
struct Gate(Mutex<Option<Closed>>);

struct Closed {
    until: Instant,
    attempt: String,
    message: String,
}

impl Gate {
    fn enter(&self, now: Instant) -> Result<(), BrokerError> {
        let mut closed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *closed {
            Some(Closed {
                until,
                attempt,
                message,
            }) if now < *until => Err(BrokerError::Unreachable {
                attempt: attempt.clone(),
                message: message.clone(),
            }),
            Some(Closed { until, .. }) => {
                // Others wait for what this one meets, for as long as it may take to meet it.
                *until = now + REQUEST_TIMEOUT + PAUSE;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn leave(&self, error: Option<&BrokerError>, now: Instant) {
        let news = match error {
            Some(BrokerError::Unreachable { attempt, message }) => Some(Closed {
                until: now + PAUSE,
                attempt: attempt.clone(),
                message: message.clone(),
            }),
            _ => None,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = news;
    }
}

fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    match &settings.ca {
        Some(ca) => builder
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?)
            .build(),
        None if settings.tls => builder.build(),
        // An image without certificate authorities cannot build a client that would trust them; none is needed here.
        None => builder.tls_certs_only([]).build(),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    const CLUSTER_OPERATORS: [(&str, &str); 6] = [
        ("username", "u"),
        ("password", "p"),
        ("host", "mq.team.svc"),
        ("port", "5672"),
        ("provider", "rabbitmq"),
        ("type", "rabbitmq"),
    ];

    #[test]
    fn a_broker_that_does_not_answer_is_tried_by_one_room_at_a_time() {
        let (gate, start) = (Gate::default(), Instant::now());
        let silent = BrokerError::Unreachable {
            attempt: "cannot read the exchange".to_owned(),
            message: "timed out".to_owned(),
        };
        gate.enter(start).expect("nothing is known yet");
        gate.leave(Some(&silent), start);
        let told = gate.enter(start).expect_err("just tried").to_string();
        assert_eq!(told, silent.to_string());

        let later = start + PAUSE;
        gate.enter(later).expect("one tries again");
        gate.enter(later).expect_err("and only one");
        gate.leave(None, later);
        gate.enter(later).expect("it answers");
        gate.enter(later).expect("to everybody");
    }

    #[test]
    fn the_cluster_operators_secret_is_enough() {
        let settings = Settings::parse(&secret(&CLUSTER_OPERATORS)).expect("valid");
        assert_eq!(settings.endpoint(), "http://mq.team.svc:15672/api");
        assert_eq!(
            settings.url().expect("valid").as_str(),
            "amqp://mq.team.svc:5672/%2F"
        );
    }

    #[test]
    fn a_certificate_authority_means_tls() {
        let with_ca = [
            &CLUSTER_OPERATORS[..3],
            &[("ca.crt", "PEM"), ("vhost", "a b")],
        ]
        .concat();
        let settings = Settings::parse(&secret(&with_ca)).expect("valid");
        assert_eq!(settings.endpoint(), "https://mq.team.svc:15671/api");
        assert_eq!(
            settings.url().expect("valid").as_str(),
            "amqps://mq.team.svc:5671/a%20b"
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (pairs, problem) in [
            (&CLUSTER_OPERATORS[..2], "`host` is missing"),
            (
                &[
                    ("username", "u"),
                    ("password", "p"),
                    ("host", "h"),
                    ("port", "x"),
                ],
                "`port` is not a port",
            ),
            (
                &[
                    ("username", "u"),
                    ("password", "p"),
                    ("host", "h"),
                    ("tls", "yes"),
                ],
                "`tls` is neither `true` nor `false`",
            ),
            (
                &[("username", "u"), ("password", "p"), ("host", "h/x")],
                "`host` is not a host name",
            ),
        ] {
            assert_eq!(
                Settings::parse(&secret(pairs)).err().as_deref(),
                Some(problem)
            );
        }
    }

    #[test]
    fn what_a_url_would_read_as_something_else_is_refused() {
        for host in [
            "mq:5672", "mq/x", "a@mq", "m q", "m\tq", "mq?", "127.1", "%6d",
        ] {
            let pairs = [("username", "u"), ("password", "p"), ("host", host)];
            let problem = Settings::parse(&secret(&pairs)).err();
            assert_eq!(
                problem.as_deref(),
                Some("`host` is not a host name"),
                "{host:?}"
            );
        }
        for host in ["mq", "Mq.team.svc", "10.0.0.1", "[::1]", "a_b-c"] {
            let pairs = [("username", "u"), ("password", "p"), ("host", host)];
            assert!(Settings::parse(&secret(&pairs)).is_ok(), "{host:?}");
        }
        let dots = [&CLUSTER_OPERATORS[..3], &[("vhost", "..")]].concat();
        assert!(Settings::parse(&secret(&dots)).is_err());
    }
}
