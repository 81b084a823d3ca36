//! What the page needs to know to sign people in: `access.json`, and the origin of the issuer in its content policy.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::get,
};

use super::CONTENT_POLICY;
use crate::{access::AccessControl, broker::Broker, socket::SocketServer};

/// Where in [`CONTENT_POLICY`] the issuer is.
const PLACE: &str = "ISSUER";

/// `access.json`, beside the page.
pub(super) fn route<B: Broker>(sockets: &Arc<SocketServer<B>>) -> Router {
    Router::new()
        .route("/access.json", get(access::<B>))
        .with_state(sockets.clone())
}

async fn access<B: Broker>(State(sockets): State<Arc<SocketServer<B>>>) -> Response {
    let headers = [(CACHE_CONTROL, "no-store")];
    (headers, Json(sockets.access().of_page())).into_response()
}

/// The page's content policy. It lets the page ask its own server and, if people can sign in, exactly the issuer's origin.
pub(super) fn content_policy(access: &AccessControl) -> HeaderValue {
    policy(access.sign_in_origin().as_deref())
}

fn policy(origin: Option<&str>) -> HeaderValue {
    let issuer = origin.filter(|origin| is_source(origin));
    let issuer = issuer
        .map(|origin| format!(" {origin}"))
        .unwrap_or_default();
    let policy = CONTENT_POLICY.replacen(PLACE, &issuer, 1);
    HeaderValue::try_from(policy).expect("printable ASCII")
}

/// Whether an origin can be a source of a policy: a host may have characters that would begin another directive.
fn is_source(origin: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/[]".contains(&byte);
    origin.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_exactly_the_origin_of_the_issuer() {
        let connect = |origin: Option<&str>| {
            let policy = policy(origin);
            let policy = policy.to_str().expect("ASCII").to_owned();
            let mut directives = policy.split("; ").map(str::to_owned);
            let connect = directives.find(|directive| directive.starts_with("connect-src"));
            (connect.expect("a directive"), policy.matches(';').count())
        };
        let (own, directives) = connect(None);
        assert_eq!(own, "connect-src 'self'");
        for origin in [
            "https://id.example",
            "http://localhost:9000",
            "http://[::1]:9000",
        ] {
            let expected = (format!("connect-src 'self' {origin}"), directives);
            assert_eq!(connect(Some(origin)), expected);
        }
        for origin in ["https://id.example;script-src", "https://a,b", "null'"] {
            assert_eq!(connect(Some(origin)), (own.clone(), directives), "{origin}");
        }
    }
}
