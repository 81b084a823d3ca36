//! Fetches the keys of an issuer over HTTP.
//!
//! What an issuer answers is not trusted: its length and time are bounded, it redirects nowhere, and its discovery document can name only a place as
//! safe as its own.

use std::time::Duration;

use papo_protocol::access::{IssuerUrl, is_on_this_machine};
use reqwest::{Certificate, Client, StatusCode, redirect::Policy};
use serde::Deserialize;
use url::Url;

use super::{
    file::Source,
    keys::{self, KeySet, KeysError},
};
use crate::causes::with_causes;

/// Longest answer, in bytes.
const BODY_MAX: usize = 1 << 20;
/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The certificate authority of the issuer.
    #[error("caFile cannot be used: {0}")]
    Authority(String),
    /// The secret of the issuer.
    #[error("keyFile cannot be used: {0}")]
    Secret(String),
    /// No connection, or no answer.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        cause: String,
    },
    /// Not 200.
    #[error("{url} answers with {status}; redirects are not followed")]
    Status {
        /// Where.
        url: Url,
        /// The status.
        status: StatusCode,
    },
    /// More than [`BODY_MAX`].
    #[error("{0} answers with more than {BODY_MAX} bytes")]
    TooLarge(Url),
    /// Something else is there.
    #[error("{0} is not a document of OpenID Connect Discovery")]
    NoDocument(Url),
    /// The document is of another issuer (OpenID Connect Discovery 1.0, section 4.3).
    #[error("{url} is of another issuer than the room names: {issuer}")]
    AnotherIssuer {
        /// Where.
        url: Url,
        /// What the document says.
        issuer: String,
    },
    /// `jwks_uri` is not a URL that may be fetched.
    #[error("{0} names no https:// URL of its keys")]
    UnsafeUrl(Url),
    /// The key set.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What a server needs of a discovery document.
#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// The key of an issuer that shares a secret with the room. It was read with the access file.
pub(super) fn of_secret(secret: &Result<Vec<u8>, String>) -> Result<KeySet, FetchError> {
    let secret = secret.as_ref();
    let secret = secret.map_err(|cause| FetchError::Secret(cause.clone()))?;
    Ok(KeySet {
        keys: vec![keys::of_secret(secret)?],
        problem: None,
    })
}

/// The keys of an issuer now.
pub(super) async fn fetch(source: &Source) -> Result<KeySet, FetchError> {
    let client = client(source)?;
    let url = match &source.jwks_uri {
        Some(url) => url.url().clone(),
        None => discover(&client, &source.issuer).await?,
    };
    Ok(keys::of_set(&get(&client, &url).await?)?)
}

async fn discover(client: &Client, issuer: &IssuerUrl) -> Result<Url, FetchError> {
    let url = discovery_url(issuer);
    let body = get(client, &url).await?;
    keys_url(issuer, &url, &body)
}

/// OpenID Connect Discovery 1.0, section 4.1: a slash at the end of the issuer is removed.
fn discovery_url(issuer: &IssuerUrl) -> Url {
    let mut url = issuer.url().clone();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&(path + "/.well-known/openid-configuration"));
    url
}

/// The place of the keys that a discovery document names.
fn keys_url(issuer: &IssuerUrl, url: &Url, document: &[u8]) -> Result<Url, FetchError> {
    let document: Document =
        serde_json::from_slice(document).map_err(|_| FetchError::NoDocument(url.clone()))?;
    if document.issuer != issuer.as_str() {
        return Err(FetchError::AnotherIssuer {
            url: url.clone(),
            issuer: document.issuer.chars().take(200).collect(),
        });
    }
    let keys = Url::parse(&document.jwks_uri).ok();
    keys.filter(|keys| is_as_safe(keys, issuer.url()))
        .ok_or_else(|| FetchError::UnsafeUrl(url.clone()))
}

/// Over TLS; or on this machine, if the issuer is there too.
fn is_as_safe(url: &Url, issuer: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_on_this_machine(url) && issuer.scheme() == "http",
        _ => false,
    }
}

/// A client for one fetch: it keeps no connection, and reads the system's certificate authorities again.
fn client(source: &Source) -> Result<Client, FetchError> {
    let builder = Client::builder()
        .user_agent(concat!("papo-server/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .timeout(TIME_MAX)
        .pool_max_idle_per_host(0);
    let builder = match &source.authority {
        Some(pem) => builder.tls_certs_only(authority(pem)?),
        None => builder,
    };
    let built = builder.build();
    built.map_err(|error| FetchError::Authority(with_causes(&error)))
}

fn authority(pem: &Result<Vec<u8>, String>) -> Result<Vec<Certificate>, FetchError> {
    let pem = pem
        .as_ref()
        .map_err(|cause| FetchError::Authority(cause.clone()))?;
    let certificates = Certificate::from_pem_bundle(pem);
    let certificates = certificates.map_err(|error| FetchError::Authority(with_causes(&error)))?;
    if certificates.is_empty() {
        let cause = "it has no certificate".to_owned();
        return Err(FetchError::Authority(cause));
    }
    Ok(certificates)
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    let unreachable = |error: reqwest::Error| FetchError::Unreachable {
        url: url.clone(),
        cause: with_causes(&error.without_url()),
    };
    let mut response = client.get(url.clone()).send().await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.clone(),
            status: response.status(),
        });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(FetchError::TooLarge(url.clone()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn issuer(url: &str) -> IssuerUrl {
        url.parse().expect("valid")
    }

    #[test]
    fn discovery_is_below_the_issuer() {
        for (url, expected) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                "https://id.example/realms/staff",
                "https://id.example/realms/staff/.well-known/openid-configuration",
            ),
            (
                "https://id.example/realms/staff/",
                "https://id.example/realms/staff/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(discovery_url(&issuer(url)).as_str(), expected);
        }
    }

    #[test]
    fn document_names_its_issuer_and_a_safe_place() {
        let url = discovery_url(&issuer("https://id.example"));
        let read = |of: &str, named: &str, keys: &str| {
            let document = json!({ "issuer": named, "jwks_uri": keys }).to_string();
            keys_url(&issuer(of), &url, document.as_bytes()).map(|url| url.to_string())
        };
        let own = "https://id.example";
        for keys in ["https://id.example/keys", "https://keys.example/k?p=policy"] {
            assert_eq!(read(own, own, keys).expect("safe"), keys);
        }
        let local = "http://localhost:1/a";
        assert!(read(local, local, "http://127.0.0.1:2/keys").is_ok());
        for (of, named, keys) in [
            (own, "https://id.example/", "https://id.example/keys"),
            (own, "https://other.example", "https://id.example/keys"),
            (own, own, "http://id.example/keys"),
            (own, own, "http://127.0.0.1/keys"),
            (local, local, "http://192.0.2.1/keys"),
            (own, own, "file:///etc/passwd"),
            (own, own, "/keys"),
        ] {
            assert!(read(of, named, keys).is_err(), "{of} {named} {keys}");
        }
        assert!(keys_url(&issuer(own), &url, b"<html>").is_err());
    }
}
