//! The HTTP client of a broker's management API.

use std::time::Duration;

use super::settings::Settings;

/// How long a broker may take to answer a request of the management API.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that trusts the authority of the settings, or the system's.
pub(super) fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
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
