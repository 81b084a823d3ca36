//! `Strict-Transport-Security` (RFC 6797): a browser that has reached the server over TLS uses nothing else from then on.
//!
//! The server speaks HTTP: a proxy in front of it ends TLS, and says so in `X-Forwarded-Proto`. Only a trusted proxy is believed. A client that
//! invents the header behind a proxy that keeps it gains nothing: browsers ignore the answer's header over HTTP (section 8.1).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header::STRICT_TRANSPORT_SECURITY},
    middleware::Next,
    response::Response,
};
use papo_listener::Peer;
use papo_protocol::{Launch, TrustedProxies};

/// The header in which a proxy says how its client has connected. It is no standard; RFC 7239 describes it.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What is sent, and who is believed.
pub(super) struct Hsts {
    value: HeaderValue,
    trusted: TrustedProxies,
}

impl Hsts {
    /// The header as the settings have it; `None` if it is not sent.
    pub(super) fn new(launch: &Launch) -> Option<Self> {
        let seconds = launch.hsts_max_age;
        let value = format!("max-age={seconds}");
        (seconds > 0).then(|| Self {
            value: value.parse().expect("digits are ASCII"),
            trusted: launch.trusted_proxies.clone(),
        })
    }
}

/// Adds the header to the answer to a request that came over TLS. It must not be sent over HTTP (section 7.2).
pub(super) async fn with_hsts(
    State(hsts): State<Arc<Hsts>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>();
    let peer = peer.map(|peer| peer.address().ip());
    let is_tls = peer.is_some_and(|peer| came_over_tls(peer, request.headers(), &hsts.trusted));
    let mut response = next.run(request).await;
    if is_tls {
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.value.clone());
    }
    response
}

/// Whether a trusted proxy says that the client used TLS: of several proxies, the first stands first in the header.
fn came_over_tls(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> bool {
    let header = headers.get(FORWARDED_PROTO);
    let text = header.and_then(|value| value.to_str().ok());
    let first = text.and_then(|text| text.split(',').next());
    trusted.contains(peer) && first.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_that_tls_was_used() {
        for (peer, proto, expected) in [
            ("10.0.0.1", Some("https"), true),
            ("10.0.0.1", Some("HTTPS"), true),
            ("10.0.0.1", Some("https, http"), true),
            ("10.0.0.1", Some("http, https"), false),
            ("10.0.0.1", Some("http"), false),
            ("10.0.0.1", Some(""), false),
            ("10.0.0.1", None, false),
            ("192.0.2.1", Some("https"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(proto) = proto {
                headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
            }
            let peer: IpAddr = peer.parse().expect("an address");
            let is_tls = came_over_tls(peer, &headers, &TrustedProxies::private());
            assert_eq!(is_tls, expected, "{peer} {proto:?}");
        }
    }
}
