//! The handshake: from an HTTP request to a WebSocket on the bare TCP connection (RFC 6455, 4.2).

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{
        CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::{Budget, Incoming, Outgoing, Settings, incoming::resume, open};

/// A connection that becomes a WebSocket as soon as the response has been sent.
#[derive(Debug)]
pub struct Upgrade(OnUpgrade);

/// Why a request did not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The request has no key, or asks for another version.
    #[error("the request is not a WebSocket handshake of version 13 (RFC 6455)")]
    Handshake,
    /// The HTTP server offers no upgrade for this request.
    #[error("this connection cannot be upgraded")]
    Unsupported,
    /// The client left before the connection was upgraded.
    #[error("the connection ended before it was upgraded")]
    Ended(#[source] hyper::Error),
    /// The HTTP server's connections are not what this crate writes to.
    #[error("the connection is not TCP")]
    NotTcp,
}

/// Whether a request opens an Engine.IO 4 session over WebSocket: a new one, not the upgrade of a polling session.
pub fn is_session_request<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    let has_session = query.split('&').any(|pair| pair.starts_with("sid="));
    let is_websocket = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    is_websocket && has("EIO=4") && has("transport=websocket") && !has_session
}

/// Accepts the WebSocket handshake of a request: the response to send, and the connection that follows it.
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
) -> Result<(Response<R>, Upgrade), UpgradeError> {
    let key = accept_key(request.headers()).ok_or(UpgradeError::Handshake)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or(UpgradeError::Unsupported)?;
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, key),
    ]);
    Ok((response, Upgrade(upgrade)))
}

/// The server's answer to the handshake's key.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(SEC_WEBSOCKET_VERSION)
        .filter(|version| *version == "13")?;
    derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())
        .parse()
        .ok()
}

impl Upgrade {
    /// Waits for the upgraded connection and opens the session `sid` on it. See [`open`].
    pub async fn open(
        self,
        sid: &str,
        settings: &Arc<Settings>,
        budget: &Arc<Budget>,
    ) -> Result<(Arc<Outgoing>, Incoming), UpgradeError> {
        let (stream, already_read) = tcp(self.0.await.map_err(UpgradeError::Ended)?)?;
        Ok(open(stream, &already_read, sid, settings, budget))
    }

    /// Waits for the upgraded connection, on which the client will continue a session of another transport.
    pub(crate) async fn resume(
        self,
        settings: &Arc<Settings>,
        budget: &Arc<Budget>,
    ) -> Result<(Arc<Outgoing>, Incoming), UpgradeError> {
        let (stream, already_read) = tcp(self.0.await.map_err(UpgradeError::Ended)?)?;
        Ok(resume(stream, &already_read, settings, budget))
    }
}

/// The TCP connection, and the bytes that the HTTP server has read from it beyond the request.
fn tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), UpgradeError> {
    // hyper's own server hands over its connection, and hyper-util's one that is wrapped.
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(_) => Err(UpgradeError::NotTcp),
    }
}

impl UpgradeError {
    /// The response to a request that cannot be upgraded.
    pub fn response<R: From<String>>(&self) -> Response<R> {
        let mut response = Response::new(format!("{self}\n").into());
        *response.status_mut() = match self {
            Self::Handshake => StatusCode::BAD_REQUEST,
            Self::Unsupported | Self::Ended(_) | Self::NotTcp => StatusCode::UPGRADE_REQUIRED,
        };
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request<()> {
        Request::get(format!("/socket.io/?{query}"))
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .expect("valid")
    }

    #[test]
    fn only_new_websocket_sessions_of_version_4_are_session_requests() {
        for (query, expected) in [
            ("EIO=4&transport=websocket", true),
            ("t=x&transport=websocket&EIO=4", true),
            ("EIO=3&transport=websocket", false),
            ("EIO=4&transport=polling", false),
            ("EIO=4&transport=websocket&sid=abc", false),
            ("", false),
        ] {
            assert_eq!(is_session_request(&request(query)), expected, "{query}");
        }
        let mut plain = request("EIO=4&transport=websocket");
        plain.headers_mut().remove(UPGRADE);
        assert!(!is_session_request(&plain));
    }

    #[test]
    fn accept_key_is_that_of_the_standard() {
        let key = accept_key(request("").headers());
        assert_eq!(key.expect("a key"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn handshake_of_another_version_names_the_right_one() {
        let mut old = request("");
        old.headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        let error = upgrade::<_, ()>(&mut old).expect_err("rejected");
        let response: Response<String> = error.response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
    }

    #[test]
    fn request_without_an_upgrade_is_rejected() {
        let error = upgrade::<_, ()>(&mut request("")).expect_err("rejected");
        let response: Response<String> = error.response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    }
}
