//! The transport of a broker's management API: each request is bounded in time, each answer in size, and errors are in our own words.
//!
//! A room's Secret may name any host, and what answers there is not to be trusted. `rabbitmq_http_client` reads an answer to its end before
//! anybody can look at its size (`reqwest::Response::json`), it puts the peer's own words into its errors, and reqwest has no hook between the
//! two. So the requests are made here, and of that crate only the request types and the password hashes are used.
//!
//! Nothing of an answer that is not a success is shown but its status code: otherwise the status of a room would read out any HTTP service that
//! the operator can reach.

use std::{
    error::Error as StdError,
    io::{self, ErrorKind},
    marker::PhantomData,
    time::Duration,
};

use percent_encoding::utf8_percent_encode;
use reqwest::{Method, Response, StatusCode, Url, header::CONTENT_TYPE};
use serde::{
    Serialize,
    de::{DeserializeOwned, DeserializeSeed},
};

use super::{
    bounds::{ANSWER_MAX, Bound},
    settings::{RESERVED, Settings},
};

/// How long a broker may take to answer a request of the management API.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an error's body is read, in bytes: it is thrown away, and read only so that the connection can be used again.
const ERROR_BODY_MAX: usize = 64 << 10;

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No answer, or one that was cut short.
    #[error("{0}")]
    NoAnswer(&'static str),
    /// An answer that is not a success.
    #[error("the management API answered {}: {}", .0.as_u16(), meaning(.0.as_u16()))]
    Status(StatusCode),
    /// A success with a body that RabbitMQ would not send.
    #[error(
        "the answer is not one of RabbitMQ's management API; check `host` and `managementPort` of the Secret"
    )]
    NotUnderstood,
    /// An answer that is too large.
    #[error("{}", Bound::AnswerSize)]
    TooLarge,
}

/// What a status code of the management API means for whoever wrote the Secret.
fn meaning(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "RabbitMQ does not redirect; check `host`, `managementPort` and `tls` of the Secret"
        }
        400 => {
            "the broker rejects the request; an object of this name may exist with other properties, or a limit of the broker is reached"
        }
        401 => "the Secret's user or password is wrong",
        403 => {
            "the Secret's user lacks a right; it needs the tag `administrator` and all permissions on the virtual host"
        }
        404 => {
            "the virtual host does not exist, or this is no management API; check `vhost`, `host` and `managementPort` of the Secret"
        }
        429 => "the broker asks for fewer requests",
        500..=599 => "the broker cannot work at present; its log says why",
        _ => {
            "the operator does not expect this from RabbitMQ; check `host` and `managementPort` of the Secret"
        }
    }
}

/// The management API of one broker.
pub(crate) struct Management {
    http: reqwest::Client,
    endpoint: String,
    username: String,
    password: String,
    delete_timeout: Duration,
}

impl Management {
    /// `delete_timeout` is how long the broker may take to delete an object. What it has begun to delete is not to be given up early: RabbitMQ may
    /// then have to begin again.
    pub(super) fn new(
        settings: &Settings,
        delete_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            http: http_client(settings)?,
            endpoint: settings.endpoint(),
            username: settings.username.clone(),
            password: settings.password.clone(),
            delete_timeout: delete_timeout.max(REQUEST_TIMEOUT),
        })
    }

    /// Reads an object or a list. `query` is added to the URL.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        self.get_with(path, query, PhantomData::<T>).await
    }

    /// The same of an answer that is not kept as a whole: `seed` takes what it needs.
    pub(crate) async fn get_with<T>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        seed: impl for<'de> DeserializeSeed<'de, Value = T>,
    ) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, query, None).await?;
        let mut deserializer = serde_json::Deserializer::from_slice(&answer);
        let value = seed.deserialize(&mut deserializer);
        let value = value.and_then(|value| deserializer.end().map(|()| value));
        value.map_err(|_| Failure::NotUnderstood)
    }

    /// Creates or replaces an object.
    pub(crate) async fn put(&self, path: &[&str], object: &impl Serialize) -> Result<(), Failure> {
        self.write(Method::PUT, path, object).await
    }

    /// Adds an object to a list.
    pub(crate) async fn post(&self, path: &[&str], object: &impl Serialize) -> Result<(), Failure> {
        self.write(Method::POST, path, object).await
    }

    /// Deletes an object, if it exists.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        match self.send(Method::DELETE, path, &[], None).await {
            Ok(_) | Err(Failure::Status(StatusCode::NOT_FOUND)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn write(
        &self,
        method: Method,
        path: &[&str],
        object: &impl Serialize,
    ) -> Result<(), Failure> {
        let body = serde_json::to_vec(object).map_err(|_| Failure::NotUnderstood)?;
        self.send(method, path, &[], Some(body)).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Failure> {
        let is_delete = method == Method::DELETE;
        let mut request = self
            .http
            .request(method, self.url(path, query)?)
            .basic_auth(&self.username, Some(&self.password));
        if is_delete {
            request = request.timeout(self.delete_timeout);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        if status.is_success() {
            return read(response, ANSWER_MAX).await;
        }
        // Thrown away, whatever comes of it.
        let _ = read(response, ERROR_BODY_MAX).await;
        Err(Failure::Status(status))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
        let steps: Vec<String> = path
            .iter()
            .map(|step| utf8_percent_encode(step, RESERVED).to_string())
            .collect();
        let url = format!("{}/{}", self.endpoint, steps.join("/")).parse::<Url>();
        let mut url =
            url.map_err(|_| Failure::NoAnswer("the Secret's `host` is not a host name"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

/// The body of an answer, unless it is larger than `max` bytes: then no more than that is read.
async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, Failure> {
    if response
        .content_length()
        .is_some_and(|length| length > max as u64)
    {
        return Err(Failure::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
        if body.len() + chunk.len() > max {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there is no answer. The texts of the client may hold words of the peer, such as the names in its certificate.
fn no_answer(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::NoAnswer("the broker did not answer in time");
    }
    let (mut kind, mut cause) = (None, Some(error as &(dyn StdError + 'static)));
    while let Some(error) = cause {
        kind = error
            .downcast_ref::<io::Error>()
            .map(io::Error::kind)
            .or(kind);
        cause = error.source();
    }
    Failure::NoAnswer(match kind {
        Some(ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            "there is no route to the broker"
        }
        // rustls reports all that is wrong with a handshake in this way.
        Some(ErrorKind::InvalidData) if error.is_connect() => {
            "the TLS handshake failed; check `tls`, `ca.crt` and `host` of the Secret"
        }
        _ if error.is_connect() => {
            "cannot connect; check `host`, `managementPort` and `tls` of the Secret"
        }
        _ => "the connection was closed before the end of the answer",
    })
}

/// A client that trusts the authority of the settings, or the system's.
fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    match settings.ca() {
        Some(ca) => builder
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?)
            .build(),
        None if settings.is_tls() => builder.build(),
        // An image without certificate authorities cannot build a client that would trust them; none is needed here.
        None => builder.tls_certs_only([]).build(),
    }
}
