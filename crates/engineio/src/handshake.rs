//! The handshake: from an HTTP request to a WebSocket on the bare TCP connection (RFC 6455, 4.2).

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
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
    /// The method is not GET.
    #[error("a WebSocket handshake is a GET request (RFC 6455, 4.2.1)")]
    Method,
    /// The request does not ask for an upgrade to a WebSocket.
    #[error(
        "this is for WebSockets only: the request has no `Upgrade: websocket`, or a proxy has removed it"
    )]
    Missing,
    /// The request asks for another version.
    #[error("the request is not of WebSocket version 13 (RFC 6455)")]
    Version,
    /// A part of the handshake is missing or invalid.
    #[error("the request is no WebSocket handshake (RFC 6455, 4.2.1): {0}")]
    Handshake(&'static str),
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

/// Whether a request opens an Engine.IO 4 session over WebSocket: a new one, not the upgrade of a polling session. Whether it is a valid
/// handshake is [`upgrade`]'s to say.
pub fn is_session_request<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    let has_session = query.split('&').any(|pair| pair.starts_with("sid="));
    has("EIO=4") && has("transport=websocket") && !has_session
}

/// Accepts the WebSocket handshake of a request: the response to send, and the connection that follows it.
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
) -> Result<(Response<R>, Upgrade), UpgradeError> {
    let (key, subprotocol) = check_handshake(request)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or(UpgradeError::Unsupported)?;
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.extend([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, key),
    ]);
    headers.extend(subprotocol.map(|chosen| (SEC_WEBSOCKET_PROTOCOL, chosen)));
    Ok((response, Upgrade(upgrade)))
}

/// Checks the request of a WebSocket handshake (RFC 6455, 4.2.1). Returns what the response has for `Sec-WebSocket-Accept` and, if the client
/// offers a subprotocol, for `Sec-WebSocket-Protocol`.
///
/// The subprotocol is the first that the client offers, as with the server of Socket.IO for Node: Engine.IO has none, but browsers close a
/// WebSocket for which they have offered some and none was chosen.
fn check_handshake<B>(
    request: &Request<B>,
) -> Result<(HeaderValue, Option<HeaderValue>), UpgradeError> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(UpgradeError::Method);
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(UpgradeError::Missing);
    }
    if headers.get_all(HOST).iter().count() != 1 {
        return Err(UpgradeError::Handshake("it has not one `Host`"));
    }
    if request.version() < Version::HTTP_11 || !has_token(headers, &CONNECTION, "upgrade") {
        let message = "it has no `Connection: Upgrade`, or a proxy has removed it";
        return Err(UpgradeError::Handshake(message));
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(UpgradeError::Version);
    }
    Ok((accept_key(headers)?, subprotocol(headers)?))
}

/// Whether a header that is a list has a token, in upper or lower case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The server's answer to the handshake's key, which is 16 bytes in Base64.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, UpgradeError> {
    let invalid = UpgradeError::Handshake("`Sec-WebSocket-Key` is not 16 bytes in Base64");
    let Some(key) = only(headers, &SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes) else {
        return Err(invalid);
    };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.strip_suffix(b"==") {
        Some(digits) if digits.len() == 22 && digits.iter().all(is_digit) => {
            derive_accept_key(key).parse().map_err(|_| invalid)
        }
        _ => Err(invalid),
    }
}

/// The first subprotocol that the client offers. They are tokens, no two of them the same (RFC 6455, 4.1).
fn subprotocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, UpgradeError> {
    let invalid = || UpgradeError::Handshake("`Sec-WebSocket-Protocol` is no list of tokens");
    let mut offered = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let value = value.to_str().map_err(|_| invalid())?;
        for protocol in value.split(',').map(str::trim) {
            if !is_token(protocol) || offered.contains(&protocol) {
                return Err(invalid());
            }
            offered.push(protocol);
        }
    }
    let first = offered.first().map(|first| first.parse());
    first.transpose().map_err(|_| invalid())
}

/// Whether a text is a token of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_character =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_character)
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

    /// Waits for the upgraded connection and opens no session on it: the client continues one of another transport, or has none, as
    /// with [`Incoming::websocket_message`].
    pub async fn accept(
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
            Self::Handshake(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Missing | Self::Version | Self::Unsupported | Self::Ended(_) | Self::NotTcp => {
                StatusCode::UPGRADE_REQUIRED
            }
        };
        let is_upgrade_required = response.status() == StatusCode::UPGRADE_REQUIRED;
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if is_upgrade_required {
            // RFC 9110, 15.5.22 and 7.8.
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if matches!(self, Self::Method) {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request<()> {
        Request::get(format!("/socket.io/?{query}"))
            .header(HOST, "chat.example")
            .header(CONNECTION, "keep-alive, Upgrade")
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
    }

    /// The status of the response to a handshake in which a header has these values.
    fn status(name: &HeaderName, values: &[&str]) -> StatusCode {
        let mut request = request("");
        request.headers_mut().remove(name);
        for value in values {
            let value = value.parse().expect("visible");
            request.headers_mut().append(name, value);
        }
        let checked = check_handshake(&request);
        checked.map_or_else(
            |error| error.response::<String>().status(),
            |_| StatusCode::SWITCHING_PROTOCOLS,
        )
    }

    #[test]
    fn handshakes_that_break_the_standard_are_rejected() {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let (accepted, bad, upgrade) = (
            StatusCode::SWITCHING_PROTOCOLS,
            StatusCode::BAD_REQUEST,
            StatusCode::UPGRADE_REQUIRED,
        );
        let cases: &[(HeaderName, &[&str], StatusCode)] = &[
            (UPGRADE, &["websocket"], accepted),
            (UPGRADE, &["h2c, WebSocket"], accepted),
            (UPGRADE, &["h2c"], upgrade),
            (UPGRADE, &[], upgrade),
            (CONNECTION, &["upgrade"], accepted),
            (CONNECTION, &["keep-alive", "UPGRADE"], accepted),
            (CONNECTION, &["keep-alive"], bad),
            (CONNECTION, &[], bad),
            (HOST, &[], bad),
            (HOST, &["a.example", "a.example"], bad),
            (SEC_WEBSOCKET_VERSION, &["8"], upgrade),
            (SEC_WEBSOCKET_VERSION, &[], upgrade),
            (SEC_WEBSOCKET_VERSION, &["13", "13"], upgrade),
            (SEC_WEBSOCKET_KEY, &[], bad),
            (SEC_WEBSOCKET_KEY, &[KEY, KEY], bad),
            (SEC_WEBSOCKET_KEY, &["c2hvcnQ="], bad),
            (SEC_WEBSOCKET_KEY, &["dGhlIHNhbXBsZSBub25jZQ"], bad),
            (SEC_WEBSOCKET_KEY, &["dGhlIHNhbXBsZSBub25jZS4u"], bad),
            (SEC_WEBSOCKET_KEY, &["dGhlIHNhbXBsZSBub25jZ-=="], bad),
            (SEC_WEBSOCKET_PROTOCOL, &["chat, other"], accepted),
            (SEC_WEBSOCKET_PROTOCOL, &["chat, chat"], bad),
            (SEC_WEBSOCKET_PROTOCOL, &["chat", "chat"], bad),
            (SEC_WEBSOCKET_PROTOCOL, &["chat,"], bad),
            (SEC_WEBSOCKET_PROTOCOL, &["a b"], bad),
        ];
        for (name, values, expected) in cases {
            assert_eq!(status(name, values), *expected, "{name}: {values:?}");
        }
    }

    #[test]
    fn first_subprotocol_is_chosen() {
        let mut request = request("");
        assert_eq!(check_handshake(&request).expect("valid").1, None);
        for offered in ["v2.chat, chat", "other"] {
            let offered = HeaderValue::from_static(offered);
            request
                .headers_mut()
                .append(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        let (_, chosen) = check_handshake(&request).expect("valid");
        assert_eq!(chosen.expect("one"), "v2.chat");
    }

    #[test]
    fn other_methods_and_old_http_are_rejected() {
        let mut post = request("");
        *post.method_mut() = Method::POST;
        let error = upgrade::<_, ()>(&mut post).expect_err("rejected");
        let response: Response<String> = error.response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET");
        let mut old = request("");
        *old.version_mut() = Version::HTTP_10;
        let error = upgrade::<_, ()>(&mut old).expect_err("rejected");
        let response: Response<String> = error.response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
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
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[UPGRADE], "websocket");
    }

    #[test]
    fn request_without_an_upgrade_is_rejected() {
        let error = upgrade::<_, ()>(&mut request("")).expect_err("rejected");
        let response: Response<String> = error.response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    }
}
